//! Which of the reference's defects a run repeats.

use std::fmt;

/// A defect of the reference's programs that changes results and that we do not have, by its number in the list of
/// [`crate::strategy`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Defect {
    /// Candidates are ordered by their members instead of by how often they were drawn.
    S3,
    /// Unoffload ignores the expanding depth.
    S4,
    /// Parts of a candidate that the edge does not reach stay in it; with locked services they are cut relative to the
    /// service of the highest number instead of the gateway.
    S5,
    /// Leaves are removed at a loss.
    S6,
    /// Leaves are removed down to the target, whatever the stop condition says.
    S7,
    /// IA can't unoffload.
    S15,
}

/// Defects to repeat; none by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Defects(u8);

// === impl Defect ===

impl Defect {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::S3, Self::S4, Self::S5, Self::S6, Self::S7, Self::S15];

    /// What it is, in a few words.
    pub const fn what(self) -> &'static str {
        match self {
            Self::S3 => "candidates are not ordered by frequency",
            Self::S4 => "unoffload ignores the expanding depth",
            Self::S5 => {
                "services that the edge does not reach are left in candidates, or cut by the wrong root"
            }
            Self::S6 => "leaves are removed at a loss",
            Self::S7 => "leaves are removed down to the target, not to the stop condition",
            Self::S15 => "IA can't unoffload",
        }
    }

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

impl fmt::Display for Defect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

// === impl Defects ===

impl Defects {
    /// Every defect, as the reference.
    pub fn all() -> Self {
        Defect::ALL.into_iter().fold(Self::default(), Self::with)
    }

    /// These and one more.
    #[must_use]
    pub const fn with(self, defect: Defect) -> Self {
        Self(self.0 | defect.bit())
    }

    /// These without one.
    #[must_use]
    pub const fn without(self, defect: Defect) -> Self {
        Self(self.0 & !defect.bit())
    }

    /// Whether one is repeated.
    pub const fn has(self, defect: Defect) -> bool {
        self.0 & defect.bit() != 0
    }
}
