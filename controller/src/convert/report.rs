//! What became of a configuration, for the user to read: every key, every trap, everything that is still missing.

use std::fmt::Write as _;

use super::keys::Unknown;
use super::node::{Finding, printable};

/// Longest line of prose. Keys, values and queries are not broken.
const WIDTH: usize = 110;

/// What became of a configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The configuration's file.
    pub source: String,
    /// What the problem is, in a line.
    pub summary: String,
    /// What neither the configuration nor the metrics hold.
    pub missing: Vec<Missing>,
    /// Traps of muPlacer that this configuration meets.
    pub explained: Vec<Explained>,
    /// Keys that are in the problem.
    pub mapped: Vec<Mapped>,
    /// Keys that are not.
    pub dropped: Vec<Dropped>,
    /// Keys that muPlacer does not know.
    pub unknown: Vec<Unknown>,
    /// Unknown keys beyond those.
    pub more_unknown: usize,
    /// What the Kubernetes YAMLs gave, a line for each service and area.
    pub instances: Vec<String>,
    /// What is unusual.
    pub warnings: Vec<Finding>,
}

/// A quantity that is measured, not configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// Its field in the problem.
    pub field: String,
    /// What it is, which services lack it, and what stands there for now.
    pub what: String,
    /// Its field in a metrics file.
    pub metric: String,
    /// PromQL that yields it.
    pub query: String,
}

/// A trap of muPlacer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explained {
    /// Its name.
    pub title: &'static str,
    /// What muPlacer does with this configuration, and what is done here.
    pub text: String,
}

/// A key that is in the problem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapped {
    /// The key.
    pub key: String,
    /// Its value.
    pub from: String,
    /// The field.
    pub field: &'static str,
    /// Its value.
    pub to: String,
}

/// A key that is not in the problem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dropped {
    /// The key.
    pub key: String,
    /// Its value.
    pub value: String,
    /// Why.
    pub reason: String,
}

// === impl Report ===

impl Report {
    /// The report as text.
    pub fn to_text(&self) -> String {
        let mut text = format!("{}: {}\n", self.source, self.summary);
        let mut section = |title: &str, lines: Vec<String>| {
            if !lines.is_empty() {
                let _ = write!(text, "\n{title}\n{}", lines.concat());
            }
        };
        section(
            "NOT IN THE CONFIGURATION (measured: fill it in, or give --metrics FILE)",
            self.missing.iter().map(missing).collect(),
        );
        section(
            "EXPLAINED (where muPlacer does other than its configuration says)",
            self.explained
                .iter()
                .map(|trap| wrapped(&format!("{}: {}", trap.title, trap.text)))
                .collect(),
        );
        section(
            "MAPPED (key = value -> field = value)",
            self.mapped
                .iter()
                .map(|m| format!("  {} = {} -> {} = {}\n", m.key, m.from, m.field, m.to))
                .collect(),
        );
        section(
            "DROPPED (key = value: why)",
            self.dropped
                .iter()
                .map(|d| wrapped(&format!("{} = {}: {}", d.key, d.value, d.reason)))
                .collect(),
        );
        section("UNKNOWN KEYS (ignored, as muPlacer does)", self.unknown_lines());
        section(
            "READ FROM THE YAMLS",
            self.instances.iter().map(|line| format!("  {line}\n")).collect(),
        );
        section(
            "WARNINGS",
            self.warnings
                .iter()
                .map(|finding| wrapped(&finding.to_string()))
                .collect(),
        );
        text
    }

    /// The report as YAML comments.
    pub fn to_comments(&self) -> String {
        let comment = |line: &str| match line {
            "" => "#\n".to_owned(),
            line => format!("# {line}\n"),
        };
        self.to_text().lines().map(comment).collect()
    }

    fn unknown_lines(&self) -> Vec<String> {
        let mut lines: Vec<String> = self
            .unknown
            .iter()
            .map(|unknown| {
                format!(
                    "  {}: the nearest known key is {}\n",
                    unknown.key, unknown.nearest
                )
            })
            .collect();
        if self.more_unknown > 0 {
            lines.push(format!("  and {} more\n", self.more_unknown));
        }
        lines
    }
}

fn missing(missing: &Missing) -> String {
    format!(
        "{}    metrics file: {}\n    PromQL: {}\n",
        wrapped(&format!("{}: {}", missing.field, missing.what)),
        missing.metric,
        missing.query
    )
}

/// A paragraph with lines of at most [`WIDTH`], indented by two, its later lines by four.
fn wrapped(paragraph: &str) -> String {
    let mut text = String::from("  ");
    let mut column = 2;
    for (number, word) in paragraph.split_whitespace().enumerate() {
        let length = word.chars().count();
        if number > 0 && column + 1 + length > WIDTH {
            text.push_str("\n    ");
            column = 4;
        } else if number > 0 {
            text.push(' ');
            column += 1;
        }
        text.extend(word.chars().map(printable));
        column += length;
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::super::node::one_line;
    use super::*;

    #[test]
    fn nothing_that_a_file_holds_ends_a_comment() {
        let report = Report {
            source: "c.yaml".into(),
            summary: one_line("one\u{85}service"),
            dropped: vec![Dropped {
                key: "a".into(),
                value: one_line("x\ncloud: {}\u{2028}---\u{85}y\u{feff}\u{1b}"),
                reason: "because\nof this".into(),
            }],
            ..Report::default()
        };
        let comments = report.to_comments();
        let value: serde_norway::Value = serde_norway::from_str(&format!("{comments}a: 1\n")).unwrap();
        assert_eq!(value["a"], 1);
        assert_eq!(value.as_mapping().unwrap().len(), 1, "{comments}");
    }

    #[test]
    fn prose_is_wrapped_and_empty_sections_are_left_out() {
        let report = Report {
            explained: vec![Explained {
                title: "long",
                text: "word ".repeat(60),
            }],
            ..Report::default()
        };
        let text = report.to_text();
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
        assert!(!text.contains("MAPPED"), "{text}");
    }
}
