//! A plan for one edge; the others stay as they are.

use std::collections::BTreeSet;

use super::{Budget, Reach, solve};
use crate::model::{DensePlacement, EdgeIx, Problem, ServiceIx, Shares, evaluate};
use crate::units::{Micros, Money};

/// What to change at an edge.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The placement, all edges.
    pub placement: DensePlacement,
    /// Services that get an instance at the edge.
    pub add: BTreeSet<ServiceIx>,
    /// Services that lose theirs.
    pub remove: BTreeSet<ServiceIx>,
    /// Mean user delay before: as measured where the problem says it, else the model's.
    pub now: Micros,
    /// Mean user delay after: now + model(after) − model(now), with the standby share.
    pub predicted: Micros,
    /// Cost of the present placement, an hour.
    pub cost_before: Money,
    /// Cost of the new one, an hour.
    pub cost_after: Money,
    /// Whether the target is met.
    pub reach: Reach,
}

/// [`solve`] with a target for one edge and none for the others.
///
/// ```
/// use gma_core::model::{DensePlacement, EdgeIx, ServiceIx};
/// use gma_core::solver::{Reach, plan};
/// use gma_core::units::Micros;
/// # let problem = gma_core::example::problem();
/// // The user calls `front` (80 ms away), which calls `cart` and `users`. `front` alone at the edge would make two
/// // calls over the WAN instead of one.
/// let now = DensePlacement::cloud_only(&problem);
/// let plan = plan(&problem, EdgeIx(0), &now, Micros::try_new(40_000.0).unwrap());
/// assert_eq!(plan.reach, Reach::Met);
/// assert_eq!(plan.add, [0, 1, 2].map(ServiceIx).into());
/// assert!(plan.predicted.as_f64() < 40_000.0, "{}", plan.predicted);
/// ```
pub fn plan(problem: &Problem, edge: EdgeIx, current: &DensePlacement, target: Micros) -> Plan {
    let only = problem.with_target(edge, target);
    let solution = solve(&only, current, Budget::default());
    let (present, after) = (
        current.at_edge(problem, edge),
        solution.placement.at_edge(problem, edge),
    );
    let outlook = solution.edges.get(edge.position());
    let before = evaluate(problem, current, &Shares::resting(problem, current));
    Plan {
        add: after.difference(&present).copied().collect(),
        remove: present.difference(&after).copied().collect(),
        now: outlook.map_or(Micros::ZERO, |edge| edge.now),
        predicted: outlook.map_or(Micros::ZERO, |edge| edge.predicted),
        cost_before: before.cost.total(),
        cost_after: solution.evaluation.cost.total(),
        reach: outlook.map_or(Reach::NoTarget, |edge| edge.reach),
        placement: solution.placement,
    }
}
