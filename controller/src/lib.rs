//! The controller: arguments, wiring, HTTP and the control loop around the pure crates.
//!
//! ```text
//! filters --POST /v1/reports--> http --> gma-telemetry --Snapshot--+
//!                                                                  v
//!  platform --Cluster, Directory----------------> control loop --> gma-core::decide
//!      ^                                                           |
//!      +------------------------- effects <------------------------+
//! ```
//!
//! Deciding is in `gma-core`, measuring in `gma-telemetry`; nothing here does either.

#![forbid(unsafe_code)]

pub mod args;
pub mod check;
pub mod control;
pub mod convert;
pub mod http;
pub mod keeper;
pub mod kubernetes;
pub mod memory;
pub mod metrics;
pub mod output;
pub mod plan;
pub mod planner;
pub mod platform;
pub mod problem;
pub mod run;
pub mod shared;
pub mod simulate;
pub mod status;
pub mod uninstall;
pub mod usage;
pub mod verify;
pub mod view;
