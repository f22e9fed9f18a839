//! Why a report is refused.

use crate::histogram::HistogramError;
use crate::{OLDEST_VERSION, VERSION, v1};

/// What an ack must echo.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Echo {
    /// Identity of the VM.
    pub vm: u64,
    /// Number of the window.
    pub seq: u64,
}

/// A report that is refused. Sending it again is of no use: it always will be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{problem}")]
pub struct DecodeError {
    /// The report that the ack must name; none where even that could not be read.
    pub echo: Option<Echo>,
    /// What is wrong with it.
    #[source]
    pub problem: Problem,
}

impl DecodeError {
    /// The reason for the ack.
    pub fn reason(&self) -> v1::Reason {
        self.problem.reason()
    }
}

/// What is wrong with a report. The filter's author can act on it, the sender cannot.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// Not a message of the format.
    #[error("{what} is not a protobuf message of the format; is something else posting here?")]
    Malformed {
        /// Envelope or window.
        what: &'static str,
    },
    /// A version that this controller does not read.
    #[error(
        "report version {found} is not read here (only {OLDEST_VERSION} to {VERSION}); upgrade the older side"
    )]
    Version {
        /// The report's version.
        found: u32,
    },
    /// More bytes, entries or text than the format allows.
    #[error("{field} has {found}, at most {limit} are allowed")]
    TooLarge {
        /// Which field.
        field: &'static str,
        /// Its length.
        found: usize,
        /// The limit.
        limit: usize,
    },
    /// A number that no request can have produced.
    #[error("{field} is {found}, outside {least} to {most}")]
    OutOfRange {
        /// Which field.
        field: &'static str,
        /// Its value.
        found: u64,
        /// Smallest value that is possible.
        least: u64,
        /// Largest value that is possible.
        most: u64,
    },
    /// A field that must be there, or must not be there beside the others.
    #[error("{field} {what}")]
    Field {
        /// Which field.
        field: &'static str,
        /// What is wrong with it.
        what: &'static str,
    },
    /// A histogram that is not one of ours.
    #[error("series {series}: {source}")]
    Histogram {
        /// Index of the series in the window.
        series: usize,
        /// What is wrong with it.
        source: HistogramError,
    },
}

impl Problem {
    /// The reason for the ack.
    pub fn reason(&self) -> v1::Reason {
        match self {
            Self::Version { .. } => v1::Reason::RefusedVersion,
            Self::TooLarge { .. } => v1::Reason::RefusedTooLarge,
            Self::Malformed { .. }
            | Self::OutOfRange { .. }
            | Self::Field { .. }
            | Self::Histogram { .. } => v1::Reason::RefusedMalformed,
        }
    }
}
