//! Why a world does not start.

use std::io;
use std::path::{Path, PathBuf};

use crate::process::ProcessError;
use crate::topology::TopologyError;

/// A world that does not start. The user can act on each; none goes away by itself.
#[derive(Debug, thiserror::Error)]
pub enum WorldError {
    /// The topology cannot be used.
    #[error(transparent)]
    Topology(#[from] TopologyError),
    /// A file or folder cannot be used.
    #[error("cannot use {path}: {error}; give a run folder that can be written")]
    Folder {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Linux takes 107 bytes.
    #[error("the socket's path {path} is too long; give a run folder with a shorter path")]
    SocketPath {
        /// Which.
        path: PathBuf,
    },
    /// The socket cannot be bound.
    #[error("cannot listen at {path}: {problem}")]
    Socket {
        /// Which.
        path: PathBuf,
        /// Why, and what to do.
        problem: String,
    },
    /// A program or module is missing.
    #[error("{what} at {path} {problem}; {remedy}")]
    Missing {
        /// What.
        what: &'static str,
        /// Where it was looked for.
        path: PathBuf,
        /// What is wrong there.
        problem: String,
        /// What to do.
        remedy: &'static str,
    },
    /// The work model cannot be used.
    #[error("the work model {path} {problem}")]
    Workmodel {
        /// Which file.
        path: PathBuf,
        /// What is wrong, and what to do.
        problem: String,
    },
    /// Processes cannot be started.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// A relay of the WAN cannot listen.
    #[error("cannot open a relay on 127.0.0.1: {0}; raise the limit of open files (ulimit -n)")]
    Relay(#[source] io::Error),
    /// A process did not come up.
    #[error("the world did not start: {reason}\nconfiguration and logs are kept in {folder}")]
    Start {
        /// Which, why, and the end of its log.
        reason: String,
        /// Where to look.
        folder: PathBuf,
    },
}

// === impl WorldError ===

impl WorldError {
    pub(super) fn folder(path: &Path, error: io::Error) -> Self {
        Self::Folder {
            path: path.to_owned(),
            error,
        }
    }

    pub(super) fn missing(what: &'static str, path: &Path, problem: &str, remedy: &'static str) -> Self {
        Self::Missing {
            what,
            path: path.to_owned(),
            problem: problem.to_owned(),
            remedy,
        }
    }
}
