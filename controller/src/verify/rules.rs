//! Rules by which a difference is on purpose: the reference's defects, each of which can be repeated on any input.

use std::fmt;

use gma_core::strategy::{Defect, Defects};
use serde::{Serialize, Serializer};

use super::report::{Difference, Verdict};

/// A defect of the reference that ours does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// Thresholds are always 0.6 in the strategies.
    S1,
    /// A service that nobody calls has neither use nor replicas.
    S8,
    /// Without traffic a call takes no time on the network.
    S11,
    /// A rounding residue in place of no calls at all costs a replica.
    S19,
    /// A strategy's.
    Strategy(Defect),
}

/// The defects that are repeated in a comparison.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Repeated(Vec<Rule>);

// === impl Rule ===

impl Rule {
    /// Those of the model.
    pub(super) const MODEL: [Self; 3] = [Self::S8, Self::S11, Self::S19];

    /// All, for runs of a strategy.
    pub(super) fn all() -> impl Iterator<Item = Self> {
        let model = [Self::S1].into_iter().chain(Self::MODEL);
        model.chain(Defect::ALL.map(Self::Strategy))
    }

    /// What it is, in a few words.
    pub const fn what(self) -> &'static str {
        match self {
            Self::S1 => "thresholds are always 0.6",
            Self::S8 => "a service that nobody calls loses its replicas",
            Self::S11 => "without traffic calls take no time on the network",
            Self::S19 => "rounding residues cost replicas",
            Self::Strategy(defect) => defect.what(),
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Strategy(defect) => defect.fmt(f),
            rule => write!(f, "{rule:?}"),
        }
    }
}

impl Serialize for Rule {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

// === impl Repeated ===

impl Repeated {
    pub(super) fn of(rules: impl IntoIterator<Item = Rule>) -> Self {
        Self(rules.into_iter().collect())
    }

    pub(super) fn has(&self, rule: Rule) -> bool {
        self.0.contains(&rule)
    }

    /// Those of the strategies.
    pub(super) fn defects(&self) -> Defects {
        let all = Defect::ALL.into_iter();
        all.filter(|defect| self.has(Rule::Strategy(*defect)))
            .fold(Defects::default(), Defects::with)
    }

    fn without(&self, rule: Rule) -> Self {
        Self(self.0.iter().copied().filter(|kept| *kept != rule).collect())
    }
}

/// Compares with no defect repeated, and where that differs with all of `rules`. Where that is equal, the difference is
/// on purpose, and due to those that can't be left out.
pub(super) fn attribute(
    rules: impl IntoIterator<Item = Rule>,
    mut compare: impl FnMut(&Repeated) -> Result<(), Difference>,
) -> Verdict {
    let Err(difference) = compare(&Repeated::default()) else {
        return Verdict::Equal;
    };
    let mut needed = Repeated::of(rules);
    if compare(&needed).is_err() {
        return Verdict::Differs(difference);
    }
    for rule in needed.0.clone() {
        let fewer = needed.without(rule);
        if compare(&fewer).is_ok() {
            needed = fewer;
        }
    }
    Verdict::DiffersOnPurpose {
        defects: needed.0,
        difference,
    }
}
