//! Decides what runs at the edges: the cheapest placement that keeps every edge's mean user delay at its target.
//!
//! Starts are what runs, and what the relaxation's choices suggest. The best is improved by adding, dropping and swapping services
//! and connected sets of them, and branch and bound over the relaxation tells how much cheaper anything could be.

mod bits;
mod branch;
mod dual;
mod moves;
mod recursion;
mod relaxed;
mod search;
#[cfg(test)]
mod tests;

use serde::Serialize;

use self::bits::Bits;
use self::branch::{Ended, Tree};
use self::search::{Candidate, SAME, Search};
use crate::model::{
    DensePlacement, EdgeIx, Evaluation, Incremental, Pin, Problem, ServiceIx, Shares, evaluate,
};
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
    /// No placement meets it, even with everything at the edge; this one comes nearest.
    TargetTooLow,
    /// It would be met if the edge had more room.
    Capacity,
    /// It would be met if services pinned to the cloud might move.
    Pins,
    /// No placement was found that meets it, nor a proof that there is none.
    NotFound,
}

/// A proven lower bound.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Bound {
    /// No placement that meets the targets costs less, an hour. Where a target can't be met: none that comes as near.
    pub cost: Money,
    /// The placement costs no more than any other, to 1e-9 of it.
    pub optimal: bool,
}

/// Where a placement came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Origin {
    /// What runs already.
    Staying,
    /// Everything that may run at an edge does.
    Everything,
    /// A choice of the relaxation.
    Relaxation,
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Lost {
    /// It misses a target, or by more.
    Slower,
    /// It costs more.
    Dearer,
    /// It costs the same and moves more.
    MovesMore,
}

// === impl Budget ===

impl Default for Budget {
    fn default() -> Self {
        Self { evaluations: 50_000 }
    }
}

// === impl Bound ===

impl Bound {
    /// Part of the cost that could be saved at most.
    pub fn gap(&self, cost: Money) -> f64 {
        let cost = cost.as_f64();
        if cost > 0.0 {
            (cost - self.cost.as_f64()).max(0.0) / cost
        } else {
            0.0
        }
    }
}

/// Part of the gain that may be given up for a lower cost where a target can't be met anyway.
const GIVEN_UP: f64 = 0.01;

/// Solves.
pub fn solve(problem: &Problem, current: &DensePlacement, budget: Budget) -> Solution {
    let current = pinned(problem, current);
    let mut now = Incremental::new(problem, &current);
    let model_now: Vec<f64> = problem.edges().map(|(edge, _)| now.delay_us(edge)).collect();
    let anchored = |edge: EdgeIx, model: f64| {
        let before = model_now.get(edge.position()).copied().unwrap_or_default();
        let measured = problem.edge(edge).and_then(|edge| edge.measured);
        measured.map_or(model, |measured| measured.as_f64() + model - before)
    };
    let targets = problem
        .edges()
        .filter_map(|(edge, value)| Some((edge, value.target?)));
    let (edges, limits): (Vec<EdgeIx>, Vec<Option<f64>>) = targets
        .map(|(edge, target)| {
            let model = target.as_f64() - anchored(edge, 0.0);
            (edge, Some(model))
        })
        .unzip();
    let mut search = Search::new(problem, &current, edges, limits, budget.evaluations);
    let ended = run(&mut search);
    finish(&mut search, ended, &anchored)
}

fn run(search: &mut Search<'_>) -> Ended {
    let everything: Vec<Bits> = search
        .edges
        .clone()
        .into_iter()
        .map(|edge| everything(search.problem, edge))
        .collect();
    search.offer(&everything, Origin::Everything);
    let ended = Tree::new(search, search.budget / 2).run();
    if !ended.closed {
        search.improve();
    }
    ended
}

fn everything(problem: &Problem, edge: EdgeIx) -> Bits {
    let mut set = Bits::new(problem.services_len());
    let users = problem.edge(edge).map_or(&[][..], |edge| &edge.user_calls);
    let mut open: Vec<ServiceIx> = users
        .iter()
        .filter(|(_, calls)| calls.as_f64() > 0.0)
        .map(|(j, _)| *j)
        .collect();
    while let Some(service) = open.pop() {
        let may = problem
            .service(service)
            .is_some_and(|service| service.pin != Pin::Cloud);
        if may && !set.contains(service.position()) {
            set.set(service.position(), true);
            open.extend(problem.calls_of(service).iter().map(|(callee, _)| *callee));
        }
    }
    set
}

/// What runs, pins respected.
fn pinned(problem: &Problem, current: &DensePlacement) -> DensePlacement {
    let mut placement = current.clone();
    for (service, value) in problem.services() {
        for (edge, _) in problem.edges() {
            match value.pin {
                Pin::Free => {}
                Pin::Cloud => placement.set(edge, service, false),
                Pin::Edge => placement.set(edge, service, true),
            }
        }
    }
    placement
}

fn finish(search: &mut Search<'_>, ended: Ended, anchored: &dyn Fn(EdgeIx, f64) -> f64) -> Solution {
    let best = search.best.clone();
    search.go_to(&best.sets);
    let placement = search.now.placement();
    let problem = search.problem;
    let evaluation = evaluate(problem, &placement, &Shares::resting(problem, &placement));
    let cost = best.cost;
    let optimal = best.meets() && (ended.closed || ended.cost >= cost - SAME * cost);
    let edges = problem
        .edges()
        .map(|(edge, value)| Outlook {
            now: Micros::nearest(0.0),
            predicted: Micros::nearest(anchored(
                edge,
                evaluation
                    .edges
                    .get(edge.position())
                    .map_or(0.0, |edge| edge.delay.as_f64()),
            )),
            reach: if value.target.is_none() {
                Reach::NoTarget
            } else if best.meets() {
                Reach::Met
            } else {
                Reach::TargetTooLow
            },
        })
        .collect();
    Solution {
        placement,
        evaluation,
        edges,
        bound: Bound {
            cost: Money::nearest(if ended.cost.is_finite() {
                ended.cost.min(cost)
            } else {
                cost
            }),
            optimal,
        },
        origin: best.origin,
        runner_up: None,
        evaluations: search.spent,
        exhausted: search.exhausted(),
    }
}
