//! What is wrong with a file.

use std::path::PathBuf;

use gma_core::model::ProblemError;

/// A file that can't be compared with. The text names the file, the field and what to do.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// It can't be read.
    #[error("{}: {source}: give a file of recorded cases, or a folder of them", .path.display())]
    Read {
        /// File or folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is larger than any recorded case.
    #[error("{}: more than {max} bytes: no recorded case is so large; split it", .path.display())]
    TooLarge {
        /// File.
        path: PathBuf,
        /// Most bytes.
        max: u64,
    },
    /// A folder without a file.
    #[error("{}: no file ends in .json here: give a file of recorded cases, or a folder of them", .path.display())]
    Nothing {
        /// Folder.
        path: PathBuf,
    },
    /// Its text is no JSON of the schema.
    #[error("{}: {field}: {reason}: correct the field, or record the case again", .path.display())]
    Json {
        /// File.
        path: PathBuf,
        /// Path of the field.
        field: String,
        /// Why.
        reason: String,
    },
    /// Its schema is none of those known.
    #[error("{}: schema: `{schema}` is not known: give gma-eval-1, gma-strategy-1, gma-connector-1 or gma-optimum-1", .path.display())]
    Schema {
        /// File.
        path: PathBuf,
        /// What it says.
        schema: String,
    },
    /// A field does not fit the others.
    #[error("{}: {field} must be {must}", .path.display())]
    Field {
        /// File.
        path: PathBuf,
        /// Path of the field.
        field: String,
        /// What it must be.
        must: String,
    },
    /// Its application is none.
    #[error("{}: the application is refused: {source}", .path.display())]
    Problem {
        /// File.
        path: PathBuf,
        /// Why.
        source: ProblemError,
    },
}
