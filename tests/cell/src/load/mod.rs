//! Load on an HTTP/1.1 server.
//!
//! [`start`] is an open loop: requests fall due by a schedule that does not care how the server does, and each is
//! timed from the moment it was due, so a stalled server cannot hide behind a generator that waits for it (no
//! coordinated omission). The time from the actual send is kept beside it. [`closed`] sends the next request when
//! the last one is answered: it saturates a server and says nothing about delay under a rate.

pub mod closed;
mod open;
mod schedule;
mod stats;
mod target;
mod wire;

pub use open::{Config, Handle, Live, LoadError, start};
pub use schedule::Arrivals;
pub use stats::{Latencies, Report, Second, Summary};
pub use target::{Target, TargetError};
