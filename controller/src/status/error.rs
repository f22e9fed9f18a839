//! What can go wrong between the command and a controller.

use std::time::Duration;

use thiserror::Error;

/// Why there is no answer to show. The operator can act on each; [`StatusError::is_transient`] says which may pass.
#[derive(Debug, Error)]
pub enum StatusError {
    /// The address is none.
    #[error(
        "--address `{address}` is no address of a controller ({why}): give one like http://127.0.0.1:8080"
    )]
    Address {
        /// As given.
        address: String,
        /// What is wrong with it.
        why: String,
    },
    /// The object's name is none.
    #[error("--object `{object}` is no name of an EdgePlacement: give it as NAMESPACE/NAME")]
    Object {
        /// As given.
        object: String,
    },
    /// Nobody is there.
    #[error(
        "nothing answers at {url}: start the controller with `gma run`, or say with --address where it listens"
    )]
    Unreachable {
        /// What was asked.
        url: String,
        /// What the system said.
        #[source]
        source: hyper_util::client::legacy::Error,
    },
    /// Somebody is there, and slow.
    #[error("{url} did not answer within {within:?}: is the controller's machine overloaded?")]
    TimedOut {
        /// What was asked.
        url: String,
        /// How long was waited.
        within: Duration,
    },
    /// Somebody else is there.
    #[error(
        "{url} is no gma controller: it answered {what}; say with --address where the controller listens"
    )]
    Stranger {
        /// What was asked.
        url: String,
        /// Its answer, in brief.
        what: String,
    },
    /// The answer broke off or is too large.
    #[error("the answer of {url} can't be read: {why}")]
    Broken {
        /// What was asked.
        url: String,
        /// What was wrong.
        why: String,
    },
    /// A controller of another version, perhaps.
    #[error("the state of {url} can't be understood ({source}): use the gma of the controller's version")]
    Unknown {
        /// What was asked.
        url: String,
        /// Where the JSON differs.
        #[source]
        source: serde_path_to_error::Error<serde_json::Error>,
    },
    /// The controller does not look after it.
    #[error(
        "the controller looks after no such object: what was asked is {url}; /api/v1/objects lists those that it does"
    )]
    NoObject {
        /// What was asked.
        url: String,
    },
    /// It has just begun, or its platform does not answer.
    #[error("the controller has not seen its platform yet: wait a moment, then look at its log")]
    NothingSeen,
    /// No such edge.
    #[error("the controller has no edge `{edge}`: it has {known}")]
    NoEdge {
        /// As given.
        edge: String,
        /// Those that it has.
        known: String,
    },
    /// No such decision.
    #[error("decision {id} is not remembered: the last ones are {known}")]
    NoDecision {
        /// As given.
        id: u64,
        /// Those that it has.
        known: String,
    },
}

impl StatusError {
    /// Whether another try may succeed.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::TimedOut { .. } | Self::Broken { .. } | Self::NothingSeen => {
                true
            }
            Self::Address { .. }
            | Self::Object { .. }
            | Self::NoObject { .. }
            | Self::Stranger { .. }
            | Self::Unknown { .. }
            | Self::NoEdge { .. }
            | Self::NoDecision { .. } => false,
        }
    }
}
