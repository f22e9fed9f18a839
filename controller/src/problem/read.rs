//! From a file's text to the document, with limits: a text that is too long or too large is refused before it costs time.

use std::io::Read as _;
use std::path::Path as FilePath;

use super::error::{Fault, MAX_FAULTS, Path, ProblemFileError, Segment};
use super::file::PlacementProblem;
use super::locate::locate;
use super::{Loaded, build};

/// Bytes of a file at most. 10,000 services and 100,000 calls take some 7 MB. The YAML parser holds every event of a text:
/// some 20 bytes for each byte of a problem, 200 for each of the worst text (measured), so this bounds its memory too.
pub const MAX_FILE_BYTES: u64 = 8 * 1024 * 1024;

/// Brackets that may be open at once. A problem has 6; the YAML parser takes a minute for a megabyte of them.
const MAX_OPEN: usize = 200;
/// Bytes that are parsed once more to find the lines of faults, at most: about a second.
const LOCATED_BYTES: usize = 8 * 1024 * 1024;

/// Name of standard input on the command line.
const STDIN: &str = "-";

// === impl PlacementProblem ===

impl PlacementProblem {
    /// Parses a document; `name` is what errors call it. A text that starts with `{` is JSON, any other YAML. How the
    /// parts fit together is not checked here, but by [`Loaded::parse`].
    ///
    /// # Errors
    /// The first field that is missing, unknown or wrong, with its path, line and column.
    pub fn parse(name: &str, text: &str) -> Result<Self, ProblemFileError> {
        if u64::try_from(text.len()).unwrap_or(u64::MAX) > MAX_FILE_BYTES {
            return Err(too_long(name));
        }
        if let Some(line) = opens_too_many(text) {
            return Err(ProblemFileError::Faults {
                name: name.to_owned(),
                faults: vec![Fault {
                    path: Path::default(),
                    place: Some((line, 1)),
                    text: format!(
                        "more than {MAX_OPEN} brackets are open here: close them, a problem needs 6"
                    ),
                }],
                more: 0,
            });
        }
        let fault = if is_json(text) {
            let mut json = serde_json::Deserializer::from_str(text);
            let read = serde_path_to_error::deserialize(&mut json).map_err(|error| fault_of(text, &error));
            match read.and_then(|file| {
                json.end()
                    .map_err(|error| fault_at(Path::default(), &error))
                    .map(|()| file)
            }) {
                Ok(file) => return Ok(file),
                Err(fault) => fault,
            }
        } else {
            match serde_path_to_error::deserialize(serde_norway::Deserializer::from_str(text)) {
                Ok(file) => return Ok(file),
                Err(error) => fault_of(text, &error),
            }
        };
        Err(ProblemFileError::Faults {
            name: name.to_owned(),
            faults: vec![fault],
            more: 0,
        })
    }

    /// The document as YAML; [`Self::parse`] gives back an equal one.
    ///
    /// # Errors
    /// None with what this type can hold; the writer's signature has one.
    pub fn to_yaml(&self) -> Result<String, serde_norway::Error> {
        serde_norway::to_string(self)
    }

    /// The document as JSON; [`Self::parse`] gives back an equal one.
    ///
    /// # Errors
    /// None with what this type can hold; the writer's signature has one.
    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string_pretty(self)
    }
}

// === impl Loaded ===

impl Loaded {
    /// Reads and checks a file; `-` is standard input.
    ///
    /// # Errors
    /// Each fault names its path, its line and the remedy.
    pub fn read(path: &FilePath) -> Result<Self, ProblemFileError> {
        let is_stdin = path.as_os_str() == STDIN;
        let name = if is_stdin {
            "standard input".to_owned()
        } else {
            path.display().to_string()
        };
        let mut bytes = Vec::new();
        let limited = MAX_FILE_BYTES + 1;
        let read = if is_stdin {
            std::io::stdin().lock().take(limited).read_to_end(&mut bytes)
        } else {
            std::fs::File::open(path).and_then(|file| file.take(limited).read_to_end(&mut bytes))
        };
        let unreadable = |error| ProblemFileError::Unreadable {
            name: name.clone(),
            error,
        };
        read.map_err(unreadable)?;
        if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > MAX_FILE_BYTES {
            return Err(too_long(&name));
        }
        let text = String::from_utf8(bytes).map_err(|error| {
            unreadable(std::io::Error::new(
                std::io::ErrorKind::InvalidData,
                error.utf8_error(),
            ))
        })?;
        Self::parse(&name, &text)
    }

    /// Parses and checks a text; `name` is what errors call it.
    ///
    /// # Errors
    /// Each fault names its path, its line and the remedy.
    pub fn parse(name: &str, text: &str) -> Result<Self, ProblemFileError> {
        let file = PlacementProblem::parse(name, text)?;
        match build::build(&file) {
            Ok((problem, current)) => Ok(Self {
                file,
                problem,
                current,
            }),
            Err(mut faults) => {
                let more = faults.len().saturating_sub(MAX_FAULTS);
                faults.truncate(MAX_FAULTS);
                let located = (LOCATED_BYTES / text.len().max(1)).max(1);
                for fault in faults.iter_mut().take(located) {
                    fault.place = locate(text, is_json(text), &fault.path);
                }
                Err(ProblemFileError::Faults {
                    name: name.to_owned(),
                    faults,
                    more,
                })
            }
        }
    }
}

/// The line at which brackets are nested too deep. Those in strings and comments count too: none has so many.
fn opens_too_many(text: &str) -> Option<usize> {
    let (mut open, mut line) = (0_usize, 1);
    for byte in text.bytes() {
        match byte {
            b'[' | b'{' => open += 1,
            b']' | b'}' => open = open.saturating_sub(1),
            b'\n' => line += 1,
            _ => {}
        }
        if open > MAX_OPEN {
            return Some(line);
        }
    }
    None
}

fn is_json(text: &str) -> bool {
    text.trim_start().starts_with('{')
}

fn too_long(name: &str) -> ProblemFileError {
    ProblemFileError::TooLong {
        name: name.to_owned(),
        limit: MAX_FILE_BYTES,
    }
}

/// An error of a parser: where it is, and its text without the place.
pub(super) trait ParserError: std::fmt::Display {
    /// Line and column, from 1.
    fn place(&self) -> Option<(usize, usize)>;
}

impl ParserError for serde_json::Error {
    fn place(&self) -> Option<(usize, usize)> {
        (self.line() > 0).then(|| (self.line(), self.column()))
    }
}

impl ParserError for serde_norway::Error {
    fn place(&self) -> Option<(usize, usize)> {
        self.location().map(|place| (place.line(), place.column()))
    }
}

fn fault_of<E: ParserError>(text: &str, error: &serde_path_to_error::Error<E>) -> Fault {
    // A path of which a part is not known would name the wrong field.
    let known = error
        .path()
        .iter()
        .all(|segment| !matches!(segment, serde_path_to_error::Segment::Unknown));
    let path = if known {
        Path::from(error.path())
    } else {
        Path::default()
    };
    let mut fault = fault_at(path, error.inner());
    // A value that is well-formed but out of range is reported at the object around it.
    fault.place = locate(text, is_json(text), &fault.path).or(fault.place);
    fault
}

fn fault_at<E: ParserError>(path: Path, error: &E) -> Fault {
    let mut text = error.to_string();
    if let Some(end) = text.rfind(" at line ") {
        text.truncate(end);
    }
    // The YAML parser says the path, or a part of it, too.
    let said = (1..=path.0.len()).rev().find_map(|depth| {
        let around = Path(path.0.get(..depth)?.to_vec());
        text.strip_prefix(&format!("{around}: ")).map(str::to_owned)
    });
    Fault {
        place: error.place(),
        path,
        text: said.unwrap_or(text),
    }
}

/// Whether a path leads into a list.
pub(super) const fn is_index(segment: &Segment) -> bool {
    matches!(segment, Segment::Index(_))
}
