//! What was compared and what came of it.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use super::rules::Rule;

/// Every comparison, in the order of the files.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Report {
    /// One a run, placement or target.
    pub lines: Vec<Line>,
    /// Files that could not be read.
    pub errors: Vec<String>,
}

/// One comparison.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Line {
    /// File.
    pub file: String,
    /// Its schema.
    pub schema: String,
    /// What in it.
    pub item: String,
    /// What came of it.
    #[serde(flatten)]
    pub verdict: Verdict,
}

/// What came of a comparison.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "verdict", rename_all = "camelCase")]
pub enum Verdict {
    /// Ours is the recorded one.
    Equal,
    /// Ours is the recorded one once these defects of the reference are repeated, and not without any of them.
    DiffersOnPurpose {
        /// The defects.
        defects: Vec<Rule>,
        /// Where, without them.
        #[serde(flatten)]
        difference: Difference,
    },
    /// Ours is another one.
    Differs(Difference),
    /// Nothing was compared.
    Skipped {
        /// Why.
        reason: String,
    },
}

/// Two values that should be one.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// Where.
    pub what: String,
    /// Ours.
    pub ours: String,
    /// The recorded one.
    pub recorded: String,
}

/// How many comparisons of a schema ended how.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Equal.
    pub equal: usize,
    /// Differing on purpose.
    pub on_purpose: usize,
    /// By defect; a comparison may count under several.
    pub defects: BTreeMap<Rule, usize>,
    /// Skipped.
    pub skipped: usize,
    /// Differing.
    pub differs: usize,
}

// === impl Report ===

impl Report {
    /// Counts by schema.
    pub fn counts(&self) -> BTreeMap<&str, Count> {
        let mut counts: BTreeMap<&str, Count> = BTreeMap::new();
        for line in &self.lines {
            let count = counts.entry(&line.schema).or_default();
            match &line.verdict {
                Verdict::Equal => count.equal += 1,
                Verdict::DiffersOnPurpose { defects, .. } => {
                    count.on_purpose += 1;
                    for defect in defects {
                        *count.defects.entry(*defect).or_default() += 1;
                    }
                }
                Verdict::Differs(_) => count.differs += 1,
                Verdict::Skipped { .. } => count.skipped += 1,
            }
        }
        counts
    }

    /// Whether anything differs that should not.
    pub fn differs(&self) -> bool {
        let mut verdicts = self.lines.iter().map(|line| &line.verdict);
        verdicts.any(|verdict| matches!(verdict, Verdict::Differs(_)))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.lines {
            writeln!(f, "{} {}: {}", line.file, line.item, line.verdict)?;
        }
        let mut all = Count::default();
        for (schema, count) in self.counts() {
            writeln!(f, "{schema}: {count}")?;
            all.add(&count);
        }
        writeln!(f, "all: {all}")
    }
}

// === impl Verdict ===

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Equal => f.write_str("equal"),
            Self::DiffersOnPurpose { defects, difference } => {
                let texts: Vec<String> = defects
                    .iter()
                    .map(|defect| format!("{defect} {}", defect.what()))
                    .collect();
                write!(f, "differs on purpose: {}: {difference}", texts.join("; "))
            }
            Self::Differs(difference) => write!(f, "differs: {difference}"),
            Self::Skipped { reason } => write!(f, "skipped: {reason}"),
        }
    }
}

// === impl Difference ===

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, ours, recorded } = self;
        write!(f, "{what}: ours {ours}, recorded {recorded}")
    }
}

// === impl Count ===

impl Count {
    fn add(&mut self, other: &Self) {
        self.equal += other.equal;
        self.on_purpose += other.on_purpose;
        self.skipped += other.skipped;
        self.differs += other.differs;
        for (defect, count) in &other.defects {
            *self.defects.entry(*defect).or_default() += count;
        }
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} equal, {} differ on purpose", self.equal, self.on_purpose)?;
        let defects: Vec<String> = self
            .defects
            .iter()
            .map(|(defect, count)| format!("{defect} {count}"))
            .collect();
        if !defects.is_empty() {
            write!(f, " ({})", defects.join(", "))?;
        }
        write!(f, ", {} skipped, {} differ", self.skipped, self.differs)
    }
}
