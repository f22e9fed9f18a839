//! What a solution consists of.

use serde::{Deserialize, Serialize};

use crate::model::{DensePlacement, Evaluation};
use crate::strategy::Strategy;
use crate::units::{Micros, Money};

/// Work that a solution may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Placements that are evaluated, and choices of the relaxation, at most.
    pub evaluations: u64,
}

/// A placement and how good it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Solution {
    /// What to run where.
    pub placement: DensePlacement,
    /// What that brings about, by the model alone.
    pub evaluation: Evaluation,
    /// What the users of each edge will see.
    pub edges: Vec<Outlook>,
    /// How much cheaper it could be.
    pub bound: Bound,
    /// Where the placement came from.
    pub origin: Origin,
    /// The best of the others that were seen.
    pub runner_up: Option<RunnerUp>,
    /// What the solution took.
    pub evaluations: u64,
    /// The budget ended the search: with more, the answer may be better.
    pub exhausted: bool,
}

/// An edge's users.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Outlook {
    /// Mean user delay before: as measured where the problem says it, else the model's.
    pub now: Micros,
    /// After: now + model(after) − model(now).
    pub predicted: Micros,
    /// Whether the target is met, and if not, why.
    pub reach: Reach,
}

/// Whether an edge's target is met.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Reach {
    /// It is.
    Met,
    /// The edge has none: what runs there stays.
    NoTarget,
    /// No placement meets it; this one comes as near as is worth its cost.
    TargetTooLow,
    /// It would be met if the edge had more room.
    Capacity,
    /// It would be met if services pinned to the cloud might move.
    Pins,
    /// No placement was found that meets it, nor a proof that there is none.
    NotFound,
}

/// A proven lower bound of the model's cost, over all placements that keep targets, pins and capacity.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Bound {
    /// No placement that meets the targets costs less, an hour. Where a target can't be met: none that comes as near.
    pub cost: Money,
    /// The placement costs no more than any other such, to 1e-9 of it.
    pub optimal: bool,
}

/// Where a placement came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Origin {
    /// What runs already.
    Staying,
    /// Nothing runs at the edges but what is pinned there.
    Nothing,
    /// Everything that may run at an edge and that users reach does.
    Everything,
    /// A choice of the relaxation.
    Relaxation,
    /// A strategy of the reference.
    Strategy(Strategy),
    /// Small changes of another.
    Search,
}

/// The best of the placements that lost.
#[derive(Clone, Debug, PartialEq)]
pub struct RunnerUp {
    /// What it would run where.
    pub placement: DensePlacement,
    /// Where it came from.
    pub origin: Origin,
    /// What it would cost an hour.
    pub cost: Money,
    /// What the users of each edge would see.
    pub predicted: Vec<Micros>,
    /// Why it lost.
    pub lost: Lost,
}

/// Why a placement lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Lost {
    /// It misses a target, or by more, or it has no room.
    Slower,
    /// It costs more.
    Dearer,
    /// It costs the same and moves more, or keeps more.
    MovesMore,
}

// === impl Budget ===

impl Default for Budget {
    /// Below a second up to some 500 services.
    fn default() -> Self {
        Self { evaluations: 400_000 }
    }
}

// === impl Bound ===

impl Bound {
    /// Part of a cost that could be saved at most.
    pub fn gap(&self, cost: Money) -> f64 {
        let cost = cost.as_f64();
        if cost > 0.0 {
            (cost - self.cost.as_f64()).max(0.0) / cost
        } else {
            0.0
        }
    }
}
