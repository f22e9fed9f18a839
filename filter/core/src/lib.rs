//! What the filter measures and when it tells the controller, without the host: everything here runs and is
//! tested natively.
//!
//! ```text
//! on_log ----> Vm::observe --> measure --> outcome, keys (bounded) --> accumulator
//! on_tick ---> Vm::tick -----> window (frozen bytes) --> sending --> body of a call
//! answer ----> Vm::answered -> ack: next window, pace, resync
//! ```
//!
//! Invariants: every request under a good configuration is in exactly one series or one unmeasured count, and
//! stays counted until the controller has answered for it. At most one report is in flight, and each send of
//! it repeats the same window, byte for byte. Memory is bounded whatever the requests. Nothing panics, nothing
//! reads a clock: `now` is an argument.
//!
//! Start reading at [`Vm`].

#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod accumulator;
mod cluster;
mod config;
mod intern;
mod keys;
mod measure;
mod node;
mod notice;
mod outcome;
mod sending;
mod time;
mod unmeasured;
mod vm;
mod window;

pub use cluster::ClusterName;
pub use config::{Config, ConfigError, Controller, config_hash};
pub use gma_report::{CONTENT_TYPE, limits::MAX_ACK_BYTES};
pub use measure::{HostError, MAX_READS, Properties, Property};
pub use node::{Node, NodeError, RawNode};
pub use notice::{Cause, Notice};
pub use sending::Call;
pub use time::Timestamp;
pub use vm::{Answer, Session, TICK, Vm};
