//! Names, parameters and results of the strategies.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

use super::Defects;
use crate::model::{DensePlacement, ServiceIx};
use crate::units::{Micros, Money};

/// A strategy of the reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum Strategy {
    /// Sub-graphs of random traces, the cheapest for their gain first.
    #[serde(rename = "SBMP")]
    Sbmp,
    /// The same with paths from the gateway in place of traces.
    #[serde(rename = "COPAMP")]
    Copamp,
    /// The most called service first.
    #[serde(rename = "MFU")]
    Mfu,
    /// The pair of services first that calls each other most.
    #[serde(rename = "IA")]
    Ia,
    /// Callers before their callees.
    Kahn,
    /// The service first that exchanges most bytes with the edge.
    #[serde(rename = "TA")]
    Ta,
}

/// A name that is no strategy's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownStrategy(String);

/// Which way the mean user delay of the edge shall change, and by how much, µs. Negative numbers are valid: the
/// reference's controller asks for them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Goal {
    /// Offload: by at least so much less.
    Decrease(f64),
    /// Unoffload: by at most so much more.
    Increase(f64),
}

/// Where SBMP's traces come from.
#[derive(Clone, Debug, PartialEq)]
pub enum Traces {
    /// Drawn, at most so many, from this seed.
    Drawn {
        /// Traces.
        count: usize,
        /// Seed: the same one gives the same traces.
        seed: u64,
    },
    /// The services of each trace.
    Given(Vec<Vec<ServiceIx>>),
}

/// Parameters of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Params {
    /// What is wanted.
    pub goal: Goal,
    /// SBMP, COPAMP: change of delay at which to stop, in the goal's direction, µs; none: the goal's.
    pub stop_us: Option<f64>,
    /// Hops that a round may go beyond the edge; none: any. COPAMP: services that a path may add.
    pub expanding_depth: Option<usize>,
    /// SBMP: candidates of a round at most.
    pub max_sgs: usize,
    /// SBMP: the traces.
    pub traces: Traces,
    /// COPAMP: paths at most.
    pub max_paths: usize,
    /// Services that are never added, beside those that are pinned to the cloud.
    pub locked: Vec<ServiceIx>,
    /// Placements to evaluate at most; fewer with very many services.
    pub evaluations: u64,
    /// Defects to repeat.
    pub defects: Defects,
}

/// What a strategy found.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// The placement; other edges are as they were.
    pub placement: DensePlacement,
    /// Its mean user delay at the edge, by the model.
    pub delay: Micros,
    /// The start's.
    pub delay_before: Micros,
    /// Its cost, an hour.
    pub cost: Money,
    /// The start's.
    pub cost_before: Money,
    /// Whether the goal is reached (the goal itself, whatever the stop condition).
    pub met: bool,
    /// Placements that were evaluated.
    pub evaluations: u64,
    /// The evaluations were used up; this is as far as it came.
    pub exhausted: bool,
    /// There were more candidates than [`Params::max_sgs`], paths than [`Params::max_paths`], or traces than there is
    /// memory for.
    pub truncated: bool,
}

// === impl Strategy ===

impl Strategy {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Sbmp,
        Self::Copamp,
        Self::Mfu,
        Self::Ia,
        Self::Kahn,
        Self::Ta,
    ];

    /// Its name, as the reference writes it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sbmp => "SBMP",
            Self::Copamp => "COPAMP",
            Self::Mfu => "MFU",
            Self::Ia => "IA",
            Self::Kahn => "Kahn",
            Self::Ta => "TA",
        }
    }
}

impl fmt::Display for Strategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Strategy {
    type Err = UnknownStrategy;

    /// Upper and lower case are one.
    fn from_str(name: &str) -> Result<Self, UnknownStrategy> {
        Self::ALL
            .into_iter()
            .find(|strategy| strategy.name().eq_ignore_ascii_case(name))
            .ok_or_else(|| UnknownStrategy(name.to_owned()))
    }
}

// === impl UnknownStrategy ===

impl fmt::Display for UnknownStrategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is no strategy: give one of", self.0)?;
        Strategy::ALL
            .iter()
            .try_for_each(|strategy| write!(f, " {strategy}"))
    }
}

impl std::error::Error for UnknownStrategy {}

// === impl Params ===

impl Params {
    /// The defaults of the reference's controller: depth 2, 256 candidates of 2048 traces.
    pub fn new(goal: Goal) -> Self {
        Self {
            goal,
            stop_us: None,
            expanding_depth: Some(2),
            max_sgs: 256,
            traces: Traces::Drawn { count: 2048, seed: 0 },
            max_paths: 4096,
            locked: Vec::new(),
            evaluations: 1_000_000,
            defects: Defects::default(),
        }
    }
}
