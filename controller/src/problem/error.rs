//! What is wrong with a file, each fault with its path and, where the text gives one, its line.

use std::fmt;

/// Faults that are listed; more are counted.
pub(super) const MAX_FAULTS: usize = 20;

/// A problem file that can't be used. The user can act on each fault: the text names the field and the remedy.
#[derive(Debug, thiserror::Error)]
pub enum ProblemFileError {
    /// The file is not there, or can't be read.
    #[error("{name}: cannot read it: {error}; give the path of a YAML or JSON file, or - for standard input")]
    Unreadable {
        /// Which file.
        name: String,
        /// Why.
        error: std::io::Error,
    },
    /// The text is longer than a problem may be.
    #[error(
        "{name}: longer than {limit} bytes, the most that is read: leave out services that are never called"
    )]
    TooLong {
        /// Which file.
        name: String,
        /// Most bytes.
        limit: u64,
    },
    /// The fields are wrong or contradict each other.
    #[error("{}", listed(name, faults, *more))]
    Faults {
        /// Which file.
        name: String,
        /// The first ones, in the file's order of sections.
        faults: Vec<Fault>,
        /// How many there are beyond those.
        more: usize,
    },
}

/// One fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The field; empty: the whole document.
    pub path: Path,
    /// Line and column, from 1, where they are known.
    pub place: Option<(usize, usize)>,
    /// What is wrong and what to do.
    pub text: String,
}

/// Path of a field, e.g. `edges[0].rtt`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Path(pub Vec<Segment>);

/// A step of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Segment {
    /// Into an object.
    Key(String),
    /// Into a list.
    Index(usize),
}

// === impl Path ===

impl Path {
    /// A field of the document.
    pub fn root(key: &str) -> Self {
        Self::default().key(key)
    }

    /// A field of it.
    #[must_use]
    pub fn key(&self, key: &str) -> Self {
        self.and(Segment::Key(key.to_owned()))
    }

    /// An entry of it.
    #[must_use]
    pub fn index(&self, index: usize) -> Self {
        self.and(Segment::Index(index))
    }

    fn and(&self, segment: Segment) -> Self {
        let mut segments = self.0.clone();
        segments.push(segment);
        Self(segments)
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, segment) in self.0.iter().enumerate() {
            match segment {
                Segment::Key(key) if position == 0 => f.write_str(key)?,
                Segment::Key(key) => write!(f, ".{key}")?,
                Segment::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

impl From<&serde_path_to_error::Path> for Path {
    fn from(path: &serde_path_to_error::Path) -> Self {
        use serde_path_to_error::Segment as From;
        let segments = path.iter().filter_map(|segment| match segment {
            From::Seq { index } => Some(Segment::Index(*index)),
            From::Map { key } => Some(Segment::Key(key.clone())),
            From::Enum { variant } => Some(Segment::Key(variant.clone())),
            From::Unknown => None,
        });
        Self(segments.collect())
    }
}

// === impl Fault ===

impl Fault {
    /// A fault of a field, its place not yet known.
    pub(super) fn new(path: Path, text: impl Into<String>) -> Self {
        Self {
            path,
            place: None,
            text: text.into(),
        }
    }
}

fn listed(name: &str, faults: &[Fault], more: usize) -> String {
    let mut lines: Vec<String> = faults
        .iter()
        .map(|fault| {
            let place = fault
                .place
                .map_or_else(String::new, |(line, column)| format!(":{line}:{column}"));
            if fault.path.0.is_empty() {
                format!("{name}{place}: {}", fault.text)
            } else {
                format!("{name}{place}: {}: {}", fault.path, fault.text)
            }
        })
        .collect();
    if more > 0 {
        lines.push(format!("{name}: and {more} more"));
    }
    lines.join("\n")
}
