//! Decisions of GMA: values and `now` in, values out. No clock, no I/O.

#![forbid(unsafe_code)]

pub mod cluster;
pub mod decide;
pub mod ids;
pub mod snapshot;
