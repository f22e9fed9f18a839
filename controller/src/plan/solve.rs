//! One way to place services, run: the solver or a strategy.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, Instant};

use gma_core::model::{DensePlacement, EdgeIx, Evaluation, Problem, Shares, evaluate};
use gma_core::solver::{self, Budget, Origin, Reach, RunnerUp};
use gma_core::strategy::{self, Goal, Params, Strategy};
use gma_core::units::{Micros, Money};

/// How services are placed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// The solver.
    Solver,
    /// A strategy of the µPlacer reference, one edge after the other.
    Strategy(Strategy),
}

/// What a method found.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) method: Method,
    pub(super) placement: DensePlacement,
    pub(super) evaluation: Evaluation,
    /// By edge.
    pub(super) predicted: Vec<Micros>,
    /// By edge.
    pub(super) reach: Vec<Reach>,
    pub(super) proof: Option<Proof>,
    pub(super) evaluations: u64,
    pub(super) exhausted: bool,
    pub(super) time: Duration,
}

/// What only the solver knows.
#[derive(Clone, Debug)]
pub(super) struct Proof {
    pub(super) bound: Money,
    pub(super) optimal: bool,
    pub(super) origin: Origin,
    pub(super) runner_up: Option<RunnerUp>,
}

/// Delays nearer than this are one, µs: far below what any clock tells.
const SAME_US: f64 = 1e-3;

/// Work that a method may do where the user names no budget, in units of [`evaluation_work`]: some 30 s of one core.
const WORK: u64 = 1_000_000_000;
/// Evaluations that are always allowed: enough to see whether everything at the edges helps.
const LEAST_EVALUATIONS: u64 = 100;

// === impl Method ===

impl Method {
    /// The solver, then the strategies.
    pub fn all() -> impl Iterator<Item = Self> {
        std::iter::once(Self::Solver).chain(Strategy::ALL.map(Self::Strategy))
    }
}

impl Method {
    /// The solver's own budget; less where the problem is so large that it would take minutes.
    pub(super) fn default_budget(self, problem: &Problem) -> Budget {
        let most = WORK / evaluation_work(self, problem).max(1);
        Budget {
            evaluations: Budget::default().evaluations.min(most.max(LEAST_EVALUATIONS)),
        }
    }
}

/// Steps of an evaluation. A full one looks at each service and call for each caller's and callee's area; the solver's
/// follow changes only, at least five times faster, unless services wait for less than all of their calls.
fn evaluation_work(method: Method, problem: &Problem) -> u64 {
    let spec = problem.spec();
    let nodes = spec.services.len() + spec.calls.len();
    let serial = spec
        .services
        .iter()
        .all(|service| service.overlap.as_f64() >= 1.0);
    let steps = match method {
        Method::Solver if serial => nodes.saturating_mul(spec.edges.len()) / 5,
        Method::Solver | Method::Strategy(_) => nodes.saturating_mul((spec.edges.len() + 1).pow(2)),
    };
    u64::try_from(steps).unwrap_or(u64::MAX)
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Solver => f.pad("solver"),
            Self::Strategy(strategy) => strategy.fmt(f),
        }
    }
}

impl FromStr for Method {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        if name.eq_ignore_ascii_case("solver") {
            return Ok(Self::Solver);
        }
        name.parse()
            .map(Self::Strategy)
            .map_err(|error: strategy::UnknownStrategy| format!("{error}, or solver"))
    }
}

// === impl Answer ===

impl Answer {
    /// Whether every edge that has a target meets it; none where no edge has one.
    pub(super) fn met(&self) -> Option<bool> {
        let mut targets = self
            .reach
            .iter()
            .filter(|reach| **reach != Reach::NoTarget)
            .peekable();
        targets.peek()?;
        Some(targets.all(|reach| *reach == Reach::Met))
    }
}

/// Runs a method.
pub(super) fn run(method: Method, problem: &Problem, current: &DensePlacement, budget: Budget) -> Answer {
    let started = Instant::now();
    let mut answer = match method {
        Method::Solver => by_solver(problem, current, budget),
        Method::Strategy(strategy) => by_strategy(strategy, problem, current, budget),
    };
    answer.time = started.elapsed();
    answer
}

fn by_solver(problem: &Problem, current: &DensePlacement, budget: Budget) -> Answer {
    let solution = solver::solve(problem, current, budget);
    Answer {
        method: Method::Solver,
        placement: solution.placement,
        evaluation: solution.evaluation,
        predicted: solution.edges.iter().map(|edge| edge.predicted).collect(),
        reach: solution.edges.iter().map(|edge| edge.reach).collect(),
        proof: Some(Proof {
            bound: solution.bound.cost,
            optimal: solution.bound.optimal,
            origin: solution.origin,
            runner_up: solution.runner_up,
        }),
        evaluations: solution.evaluations,
        exhausted: solution.exhausted,
        time: Duration::ZERO,
    }
}

/// A strategy knows one edge; the delay of an edge depends on its own placement only, so that the edges come one after
/// the other, each with what the budget still has.
fn by_strategy(strategy: Strategy, problem: &Problem, current: &DensePlacement, budget: Budget) -> Answer {
    let before = resting(problem, current);
    let mut placement = current.clone();
    let (mut evaluations, mut exhausted) = (0, false);
    for (edge, value) in problem.edges() {
        let Some(target) = value.target else { continue };
        let now = value.measured.unwrap_or_else(|| delay(&before, edge)).as_f64();
        let goal = if now > target.as_f64() {
            Goal::Decrease(now - target.as_f64())
        } else {
            Goal::Increase(target.as_f64() - now)
        };
        let params = Params {
            evaluations: budget.evaluations.saturating_sub(evaluations),
            ..Params::new(goal)
        };
        let outcome = strategy::run(problem, edge, &placement, strategy, &params);
        placement = outcome.placement;
        evaluations += outcome.evaluations;
        exhausted |= outcome.exhausted;
    }
    let evaluation = resting(problem, &placement);
    let predicted: Vec<Micros> = problem
        .edges()
        .map(|(edge, _)| anchored(problem, edge, &before, &evaluation))
        .collect();
    let reach = problem
        .edges()
        .zip(&predicted)
        .map(|((_, edge), predicted)| match edge.target {
            None => Reach::NoTarget,
            Some(target) if predicted.as_f64() <= target.as_f64() + SAME_US => Reach::Met,
            Some(_) => Reach::NotFound,
        });
    Answer {
        method: Method::Strategy(strategy),
        reach: reach.collect(),
        placement,
        evaluation,
        predicted,
        proof: None,
        evaluations,
        exhausted,
        time: Duration::ZERO,
    }
}

/// Evaluates a placement with the routing at rest.
pub(super) fn resting(problem: &Problem, placement: &DensePlacement) -> Evaluation {
    evaluate(problem, placement, &Shares::resting(problem, placement))
}

/// Mean user delay of an edge by the model.
pub(super) fn delay(evaluation: &Evaluation, edge: EdgeIx) -> Micros {
    evaluation
        .edges
        .get(edge.position())
        .map_or(Micros::ZERO, |edge| edge.delay)
}

/// measured now + model(after) − model(now); without a measurement the model's.
fn anchored(problem: &Problem, edge: EdgeIx, before: &Evaluation, after: &Evaluation) -> Micros {
    let model = delay(after, edge);
    let measured = problem.edge(edge).and_then(|edge| edge.measured);
    measured.map_or(model, |measured| {
        Micros::nearest(measured.as_f64() + model.as_f64() - delay(before, edge).as_f64())
    })
}
