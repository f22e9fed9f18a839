//! What a person should read in the proxy's log. Few and only on change: a log line a report would be
//! thousands of lines an hour.

use std::fmt;

use gma_report::AckError;
use gma_report::v1::Reason;

/// A change worth a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// The controller cannot be told; counts are kept.
    Unreachable(Cause),
    /// It answers again.
    Reachable {
        /// Sends that the report took.
        sends: u32,
    },
    /// It refused a report, and will refuse it always: the counts of that report are lost and counted as such.
    Refused {
        /// Why.
        reason: Reason,
        /// Requests in the report.
        requests: u64,
    },
}

/// Why a report did not arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The host refused the call: this proxy has no such cluster.
    NoCluster,
    /// The host refused the call with this status of the ABI.
    Host(u32),
    /// No connection, a reset or a timeout.
    NoAnswer,
    /// An answer that is no ack of this report.
    NoAck(AckError),
    /// It asks to come again.
    Busy,
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(cause) => write!(
                f,
                "the controller has no report of this proxy, counts are kept: {cause}"
            ),
            Self::Reachable { sends } => write!(
                f,
                "the controller answers again, after {sends} sends; no count is lost"
            ),
            Self::Refused { reason, requests } => {
                write!(
                    f,
                    "the controller refused a report of {requests} requests: {}",
                    reason.as_str_name()
                )
            }
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoCluster => f.write_str(
                "this proxy does not know the cluster in `controller.cluster`: check its name, that the Service \
                 exists, and that no Sidecar resource hides it",
            ),
            Self::Host(status) => write!(f, "the host refused the call with status {status}"),
            Self::NoAnswer => f.write_str("no answer (connection, reset or timeout)"),
            Self::NoAck(error) => write!(f, "{error}: is `controller.cluster` really the controller's?"),
            Self::Busy => f.write_str("it is busy or not the leader"),
        }
    }
}
