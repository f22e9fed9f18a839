//! A value in a YAML file that knows where it stands, so that each message can name the file and the path of the key.

use std::fmt;

use serde_norway::Value;

/// A value, or its absence, at a path of keys in a file.
#[derive(Clone, Debug)]
pub(super) struct Node<'a> {
    file: &'a str,
    path: String,
    value: Option<&'a Value>,
}

/// Something that is wrong, or worth knowing, about a place in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// File and path of the key.
    pub at: String,
    /// What is there, and what to do.
    pub what: String,
}

/// What was found while reading: all of it, so that a user mends a configuration in one go.
#[derive(Clone, Debug, Default)]
pub(super) struct Findings {
    /// These end the conversion.
    pub(super) errors: Vec<Finding>,
    /// These are in the report.
    pub(super) warnings: Vec<Finding>,
}

// === impl Finding ===

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.at, self.what)
    }
}

// === impl Findings ===

impl Findings {
    /// Adds an error.
    pub(super) fn error(&mut self, at: impl fmt::Display, what: impl Into<String>) {
        self.errors.push(Finding {
            at: at.to_string().chars().map(printable).collect(),
            what: what.into().chars().map(printable).collect(),
        });
    }

    /// Adds a warning.
    pub(super) fn warn(&mut self, at: impl fmt::Display, what: impl Into<String>) {
        self.warnings.push(Finding {
            at: at.to_string().chars().map(printable).collect(),
            what: what.into().chars().map(printable).collect(),
        });
    }

    /// The value of a result, or nothing and an error at `at`.
    pub(super) fn take<T>(&mut self, at: impl fmt::Display, result: Result<T, String>) -> Option<T> {
        result.map_err(|what| self.error(at, what)).ok()
    }
}

// === impl Node ===

impl fmt::Display for Node<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.file)?;
        if self.path.is_empty() {
            Ok(())
        } else {
            write!(f, ": {}", self.path)
        }
    }
}

impl<'a> Node<'a> {
    /// A whole document, found at `path` (empty, or the number of the document).
    pub(super) fn document(file: &'a str, path: String, value: &'a Value) -> Self {
        let value = (!value.is_null()).then_some(value);
        Self { file, path, value }
    }

    /// The value; none where the key is absent or null.
    pub(super) fn value(&self) -> Option<&'a Value> {
        self.value
    }

    /// What stands at a key of this mapping; an absent node where there is none.
    pub(super) fn key(&self, name: &str) -> Self {
        let found = self.value.and_then(|value| value.get(name));
        Self {
            file: self.file,
            path: join(&self.path, name),
            value: found.filter(|value| !value.is_null()),
        }
    }

    /// What stands at several keys, each inside the one before.
    pub(super) fn keys(&self, names: &[&str]) -> Self {
        names.iter().fold(self.clone(), |node, name| node.key(name))
    }

    /// The entries of a list; none where the node is no list.
    pub(super) fn items(&self) -> Vec<Self> {
        let items = self.value.and_then(Value::as_sequence);
        let entries = items.into_iter().flatten().enumerate();
        entries
            .map(|(i, item)| Self {
                file: self.file,
                path: format!("{}[{i}]", self.path),
                value: Some(item).filter(|value| !value.is_null()),
            })
            .collect()
    }

    /// The entries of a list; an error where there is something else.
    pub(super) fn list(&self, findings: &mut Findings) -> Vec<Self> {
        if let Some(value) = self.value
            && value.as_sequence().is_none()
        {
            findings.error(self, format!("is {}; a list belongs here", kind_of(value)));
        }
        self.items()
    }

    /// A string, number or boolean as it would be written; nothing where the node is absent or a collection.
    pub(super) fn scalar(&self) -> Option<String> {
        self.value.and_then(scalar_text)
    }

    /// A text; an error where there is a collection. Absent is nothing.
    pub(super) fn text(&self, findings: &mut Findings) -> Option<String> {
        let value = self.value?;
        let text = scalar_text(value);
        if text.is_none() {
            findings.error(self, format!("is {}; a text belongs here", kind_of(value)));
        }
        text
    }

    /// A whole number of at least 0. Absent is nothing.
    pub(super) fn count(&self, findings: &mut Findings) -> Option<u32> {
        let value = self.value?;
        let count = value.as_u64().and_then(|count| u32::try_from(count).ok());
        if count.is_none() {
            let is = scalar_text(value).map_or_else(|| kind_of(value).to_owned(), |text| one_line(&text));
            findings.error(self, format!("is {is}; a whole number from 0 belongs here"));
        }
        count
    }

    /// A boolean, in any spelling of YAML 1.1, which the reference's reader accepts. Absent is nothing.
    pub(super) fn boolean(&self, findings: &mut Findings) -> Option<bool> {
        let text = self.text(findings)?;
        match text.to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" | "1" => Some(true),
            "false" | "no" | "off" | "0" => Some(false),
            _ => {
                findings.error(
                    self,
                    format!("is `{}`; true or false belongs here", one_line(&text)),
                );
                None
            }
        }
    }

    /// Reads what must be there.
    pub(super) fn required<T>(
        &self,
        findings: &mut Findings,
        read: impl FnOnce(&Value) -> Result<T, String>,
    ) -> Option<T> {
        let Some(value) = self.value else {
            findings.error(
                self,
                "is missing: add it (muPlacer ends on a missing key as well)",
            );
            return None;
        };
        findings.take(self, read(value))
    }
}

// === free functions ===

/// Longest text from a file that is repeated to the user.
const LONGEST: usize = 200;

/// A text from a file on one line and of bounded length: it must neither end a YAML comment nor steer a terminal.
pub(super) fn one_line(text: &str) -> String {
    let mut line: String = text.chars().take(LONGEST).map(printable).collect();
    if text.chars().nth(LONGEST).is_some() {
        line.push('…');
    }
    line
}

/// The character, or a blank for one that is a line break or not allowed in YAML.
pub(super) fn printable(c: char) -> char {
    let special = matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}');
    if c.is_control() || special { ' ' } else { c }
}

/// A scalar as it would be written; nothing for a collection or null.
pub(super) fn scalar_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(boolean) => Some(boolean.to_string()),
        Value::Null | Value::Sequence(_) | Value::Mapping(_) | Value::Tagged(_) => None,
    }
}

/// What a value is, for a sentence.
pub(super) fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "empty",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Sequence(_) => "a list",
        Value::Mapping(_) => "a mapping",
        Value::Tagged(_) => "a value with a YAML tag",
    }
}

/// The path of a key inside a mapping at `path`.
pub(super) fn join(path: &str, key: &str) -> String {
    if path.is_empty() {
        key.to_owned()
    } else {
        format!("{path}.{key}")
    }
}
