//! The wire format between the filter in Envoy and the controller: the only thing that they share.
//!
//! A filter builds a [`v1::Window`], freezes its bytes, and wraps them at each send with
//! [`encode_envelope`]. A controller reads the body with [`decode`], which accepts nothing that the
//! filter could not have built, and answers with an [`Ack`]. Both sides take every limit from
//! [`limits`]. What happens past a limit is in this crate's README.
//!
//! No threads, no clock, no I/O: the crate is also built for `wasm32-wasip1`.

#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod ack;
mod decode;
mod envelope;
mod error;
pub mod histogram;
pub mod limits;
mod report;
mod scan;

pub use ack::{Ack, AckError, Verdict, decode_ack, encode_ack};
pub use decode::decode;
pub use envelope::{EnvelopeHead, encode_envelope};
pub use error::{DecodeError, Echo, Problem};
pub use report::{Direction, Head, Identity, Key, Locality, Outcome, Report, Series, Total, Totals, Window};

/// The messages as generated from `proto/report.proto`: raw, not validated.
#[allow(missing_docs, clippy::all, unused_qualifications)]
pub mod v1 {
    include!(concat!(env!("OUT_DIR"), "/gma.report.v1.rs"));
}

/// Version of the format that this crate writes.
pub const VERSION: u32 = 1;

/// Oldest version that this crate reads: the one before its own, where there is one.
pub const OLDEST_VERSION: u32 = if VERSION > 1 { VERSION - 1 } else { 1 };

/// Where reports are posted.
pub const PATH: &str = "/v1/reports";

/// Content type of reports and acks.
pub const CONTENT_TYPE: &str = "application/x-protobuf";
