use std::path::PathBuf;

/// Why a work model cannot be used. Only its author can help: nothing here is worth a retry.
#[derive(Debug, thiserror::Error)]
pub enum WorkModelError {
    /// The file cannot be read.
    #[error("cannot read the work model {}: {source}; name an existing file", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The text is no JSON.
    #[error("the work model is not JSON: {0}; check the file near that line")]
    Json(#[from] serde_json::Error),
    /// A value is wrong or missing.
    #[error("work model, {at}: {what}; {remedy}")]
    Invalid {
        /// Service and key, as `s0.external_services[1].seq_len`.
        at: String,
        /// What is wrong.
        what: String,
        /// What to write instead.
        remedy: String,
    },
}
