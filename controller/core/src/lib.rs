//! Decisions of GMA: values and `now` in, values out. No clock, no I/O.

#![forbid(unsafe_code)]
#![deny(missing_docs)]

pub mod cluster;
pub mod decide;
#[doc(hidden)]
pub mod example;
pub mod generate;
pub mod ids;
pub mod interval;
pub mod measured;
pub mod model;
pub mod routing;
pub mod sightings;
pub mod snapshot;
pub mod solver;
pub mod strategy;
pub mod units;
pub mod world;
