//! What decides a placement: our solver or a strategy by its name, and what came out.

use std::time::Duration;

use clap::ValueEnum;
use gma_core::model::{DensePlacement, EdgeIx, Problem, Shares, evaluate};
use gma_core::solver::{Budget, solve};
use gma_core::strategy::{self, Goal, Params, Strategy, Traces};
use serde::Serialize;

use super::experiment::Setting;

/// Sums in another order differ by less than this share: a delay that is above its target by less meets it.
pub(super) const ROUNDING: f64 = 1e-9;

/// Traces that SBMP draws in the simulators.
const TRACES: usize = 2048;

/// What decides a placement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, ValueEnum)]
#[serde(rename_all = "camelCase")]
pub enum Method {
    /// This project's solver.
    Solver,
    /// Sub-graphs of random traces, the cheapest for their gain first: the reference's own.
    Sbmp,
    /// The same with paths from the gateway.
    Copamp,
    /// The most called service first.
    Mfu,
    /// The pair first that calls each other most.
    Ia,
    /// Callers before their callees.
    Kahn,
    /// The service first that exchanges most bytes with the edge.
    Ta,
}

/// A placement that a method chose, from nothing at the edge.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Outcome {
    /// An hour.
    pub(super) cost: f64,
    /// Over everything in the cloud, an hour.
    pub(super) increase: f64,
    pub(super) delay_ms: f64,
    pub(super) met: bool,
    /// Placements evaluated.
    pub(super) evaluations: u64,
    /// No placement that meets the target costs less, an hour.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) bound: Option<f64>,
    /// CPU time of the thread, ms.
    pub(super) cpu_ms: f64,
    /// Services at the edge, by number.
    pub(super) edge_services: Vec<u32>,
}

// === impl Method ===

impl Method {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Solver => "solver",
            Self::Sbmp => "sbmp",
            Self::Copamp => "copamp",
            Self::Mfu => "mfu",
            Self::Ia => "ia",
            Self::Kahn => "kahn",
            Self::Ta => "ta",
        }
    }

    /// The name in plots and in recorded files.
    pub(super) const fn label(self) -> &'static str {
        match self.strategy() {
            None => "GMA solver",
            Some(strategy) => strategy.name(),
        }
    }

    /// Whether the experiment of expanding depth says something about it; the solver is there to compare with.
    pub(super) const fn uses_depth(self) -> bool {
        matches!(self, Self::Solver | Self::Sbmp | Self::Copamp)
    }

    const fn strategy(self) -> Option<Strategy> {
        Some(match self {
            Self::Solver => return None,
            Self::Sbmp => Strategy::Sbmp,
            Self::Copamp => Strategy::Copamp,
            Self::Mfu => Strategy::Mfu,
            Self::Ia => Strategy::Ia,
            Self::Kahn => Strategy::Kahn,
            Self::Ta => Strategy::Ta,
        })
    }

    /// Decides from nothing at the edge, as the simulators do. `seed` draws the traces of those that sample.
    pub(super) fn run(self, problem: &Problem, setting: &Setting, seed: u64) -> Outcome {
        let void = DensePlacement::cloud_only(problem);
        let start = thread_cpu();
        let (placement, evaluations, bound) = match self.strategy() {
            None => {
                let solution = solve(problem, &void, Budget::default());
                let bound = solution.bound.cost.as_f64();
                (solution.placement, solution.evaluations, Some(bound))
            }
            Some(strategy) => {
                let outcome = strategy::run(
                    problem,
                    EdgeIx(0),
                    &void,
                    strategy,
                    &params(problem, setting, seed),
                );
                (outcome.placement, outcome.evaluations, None)
            }
        };
        let spent = thread_cpu().saturating_sub(start);
        outcome(problem, &placement, setting, (evaluations, bound), spent)
    }
}

/// The simulators': the decrease that leads from everything in the cloud to the target, at least 0.
fn params(problem: &Problem, setting: &Setting, seed: u64) -> Params {
    let void = evaluate(
        problem,
        &DensePlacement::cloud_only(problem),
        &Shares::cloud_only(problem),
    );
    let void_us = void.edges.first().map_or(0.0, |edge| edge.delay.as_f64());
    Params {
        expanding_depth: Some(setting.depth),
        traces: Traces::Drawn { count: TRACES, seed },
        ..Params::new(Goal::Decrease((void_us - setting.target.as_f64()).max(0.0)))
    }
}

fn outcome(
    problem: &Problem,
    placement: &DensePlacement,
    setting: &Setting,
    (evaluations, bound): (u64, Option<f64>),
    spent: Duration,
) -> Outcome {
    let of = |placement: &DensePlacement| evaluate(problem, placement, &Shares::resting(problem, placement));
    let (result, void) = (of(placement), of(&DensePlacement::cloud_only(problem)));
    let delay = result.edges.first().map_or(0.0, |edge| edge.delay.as_f64());
    let cost = result.cost.total().as_f64();
    Outcome {
        cost,
        increase: cost - void.cost.total().as_f64(),
        delay_ms: delay / 1e3,
        met: delay <= setting.target.as_f64() * (1.0 + ROUNDING),
        evaluations,
        bound,
        cpu_ms: spent.as_secs_f64() * 1e3,
        edge_services: placement
            .at_edge(problem, EdgeIx(0))
            .iter()
            .map(|service| service.0)
            .collect(),
    }
}

/// CPU time that this thread has used: what others do on the machine hardly shows in it.
fn thread_cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or_default()
}
