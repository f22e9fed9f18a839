//! Why a conversion ends without a result. All are the user's to mend; none goes away by trying again.

use std::fmt;
use std::io;
use std::path::PathBuf;

use super::node::Finding;

/// Findings that are listed; the rest are counted.
const SHOWN: usize = 30;

/// Why a conversion ends without a result.
#[derive(Debug, thiserror::Error)]
pub enum ConvertError {
    /// A file that cannot be read.
    #[error("{} cannot be read ({error}): check its path and permissions", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A file that is no configuration of an application.
    #[error("{} is larger than {limit} bytes, which no configuration is: check its path", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// What is read at most.
        limit: u64,
    },
    /// A file that is no YAML.
    #[error("{}: not YAML: {text}", path.display())]
    Yaml {
        /// The file.
        path: PathBuf,
        /// Why, with line and column.
        text: String,
    },
    /// What is wrong inside the files, all at once.
    #[error("{0}")]
    Invalid(Invalid),
    /// A result that cannot be written.
    #[error("{} cannot be written ({error}): check that its folder exists and may be written", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A problem that the reader of `gma plan` refuses although each value was accepted here.
    #[error("{}: gives a problem that `gma plan` refuses: {text}", path.display())]
    Problem {
        /// The configuration.
        path: PathBuf,
        /// Why.
        text: String,
    },
    /// An object that the controller refuses although each value was accepted here.
    #[error("{}: gives an EdgePlacement that is refused: {text}", path.display())]
    Object {
        /// The configuration.
        path: PathBuf,
        /// Which fields, and what they must be.
        text: String,
    },
}

/// What is wrong inside the files.
#[derive(Debug)]
pub struct Invalid(pub Vec<Finding>);

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_slice() {
            [only] => only.fmt(f),
            all => {
                write!(f, "{} things to mend:", all.len())?;
                for finding in all.iter().take(SHOWN) {
                    write!(f, "\n  {finding}")?;
                }
                let hidden = all.len().saturating_sub(SHOWN);
                if hidden > 0 {
                    write!(f, "\n  and {hidden} more")?;
                }
                Ok(())
            }
        }
    }
}
