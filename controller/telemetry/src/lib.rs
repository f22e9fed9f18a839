//! Reports in, snapshots out: what the proxies counted, kept as windows of histograms.
//!
//! ```text
//! body ── gma_report::decode ──> Report ── (vm, seq) seen before? ──> duplicate
//!                                   │
//!        Directory: node id -> area, role            VM totals ──> accounting()
//!                                   │
//!                                   ├── key of the call graph ──> ring of slots ──> snapshot()
//!                                   └── the same key ──> cumulative buckets ──> exported()
//! ```
//!
//! Pure: `now` is passed in, nothing reads a clock or does I/O. The rules that hold throughout:
//! a window is counted exactly once, or answered so that the filter keeps it; it is placed by its
//! own age, never by its arrival; and whatever remote input can grow is bounded and counted.
//! Start with [`Telemetry::ingest`].

#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod accounting;
mod answer;
mod counters;
mod coverage;
mod directory;
mod export;
mod index;
mod longest;
mod network;
mod ring;
mod sightings;
mod slot;
mod snapshot;
mod telemetry;
mod users;
mod vms;

pub use accounting::{Accounting, KeyAccount, NodeAccount};
pub use answer::{Busy, Event, Ingested, Mismatch, Refusal, node_of};
pub use counters::Counters;
pub use directory::{Directory, Proxy, ProxyRole};
pub use export::{BOUNDS_MS, Exported, USER};
/// The wire format, for whoever plays a proxy.
pub use gma_report as report;
/// What an HTTP server needs to know of the report.
pub use gma_report::{CONTENT_TYPE, PATH, limits::MAX_REPORT_BYTES};
pub use telemetry::{Config, Telemetry};
