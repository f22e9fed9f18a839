//! Decides what runs at the edges: the cheapest placement that keeps every edge's mean user delay at its target.
//!
//! All edges that have a target are decided together: they share the cloud, whose replicas follow the sum of what the
//! edges leave to it. An edge without a target keeps what it runs. Pins and room are never broken; where targets can't be
//! met, the placement that comes nearest is the answer, with the reason.
//!
//! 1. Branch and bound over a relaxation that a recursion over the call graph solves exactly (`relaxed` says how, and what
//!    it leaves open). Its choices are placements; the best is kept. On call graphs that are nearly trees it ends with a
//!    proof after some hundred to some ten thousand choices.
//!    Several edges are first decided one after the other, over and over, then together.
//! 2. Where it does not: the strategies of the reference as further starts, then the best of all is improved by adding,
//!    dropping and swapping services and connected sets of them, and all over again from there until nothing changes.
//!
//! The answer depends on names, numbers and budget only: not on the order of services, on time or on chance.
//!
//! ```
//! use gma_core::model::{DensePlacement, EdgeIx, Problem};
//! use gma_core::solver::{Budget, Reach, solve};
//! use gma_core::units::Micros;
//! # let problem = gma_core::example::problem();
//! let mut spec = problem.spec().clone();
//! spec.edges[0].target = Some(Micros::try_new(40_000.0)?);
//! let problem = Problem::try_new(spec)?;
//! let solution = solve(&problem, &DensePlacement::cloud_only(&problem), Budget::default());
//! assert_eq!(solution.edges[0].reach, Reach::Met);
//! assert!(solution.bound.optimal && solution.edges[0].predicted.as_f64() <= 40_000.0);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod bits;
mod branch;
mod dual;
mod flow;
mod moves;
mod one_edge;
mod reach;
mod recursion;
mod relaxed;
mod rent;
mod result;
mod search;
mod sorted;
#[cfg(test)]
mod tests;

pub use one_edge::{Plan, plan};
pub use result::{Bound, Budget, Lost, Origin, Outlook, Reach, RunnerUp, Solution};

use self::bits::Bits;
use self::branch::{Ended, Tree};
use self::search::{Candidate, SAME, Search, near};
use self::sorted::Sorted;
use crate::model::{DensePlacement, EdgeIx, Incremental, Pin, Problem, Shares, evaluate};
use crate::strategy::{self, Goal, Params, Strategy};
use crate::units::{Micros, Money};

/// Part of the budget for branch and bound, each time; the rest is for starts and improvement.
const TREE: u64 = 4;
/// The same for one edge of several.
const ONE_EDGE: u64 = 32;
/// Part of the gain that may be given up for a lower cost where a target can't be met anyway.
const GIVEN_UP: f64 = 0.01;
/// Rounds from one's own result at most; two or three are usual.
const ROUNDS: usize = 20;

/// Solves: see the [module](self). `current` is what runs; what is pinned elsewhere is moved first.
pub fn solve(problem: &Problem, current: &DensePlacement, budget: Budget) -> Solution {
    let Some(sorted) = Sorted::new(problem) else {
        return Solver::new(problem, current, budget).run();
    };
    let mut solution = Solver::new(&sorted.problem, &sorted.there(current), budget).run();
    solution.placement = sorted.back(&solution.placement);
    solution.edges = sorted.edges_back(&solution.edges);
    solution.evaluation = evaluate(
        problem,
        &solution.placement,
        &Shares::resting(problem, &solution.placement),
    );
    if let Some(other) = &mut solution.runner_up {
        other.placement = sorted.back(&other.placement);
        other.predicted = sorted.edges_back(&other.predicted);
    }
    solution
}

struct Solver<'p> {
    search: Search<'p>,
    /// By edge of the problem: the model's delay of what runs, µs.
    model_now: Vec<f64>,
    /// The same with nothing at the edges but what is pinned there.
    void: Vec<f64>,
    /// By edge of the search: the targets as limits of the model's delay, µs.
    limits_us: Vec<Option<f64>>,
}

// === impl Solver ===

impl<'p> Solver<'p> {
    fn new(problem: &'p Problem, current: &DensePlacement, budget: Budget) -> Self {
        let mut now = Incremental::new(problem, current);
        let model_now = problem.edges().map(|(edge, _)| now.delay_us(edge)).collect();
        now.go_to(&DensePlacement::cloud_only(problem));
        let void = problem.edges().map(|(edge, _)| now.delay_us(edge)).collect();
        now.go_to(&pinned(problem, current));
        let edges = problem.edges().filter(|(_, edge)| edge.target.is_some());
        let edges: Vec<EdgeIx> = edges.map(|(edge, _)| edge).collect();
        let mut this = Self {
            search: Search::new(now, edges, budget.evaluations),
            model_now,
            void,
            limits_us: Vec::new(),
        };
        this.limits_us = this
            .search
            .edges
            .iter()
            .map(|edge| Some(problem.edge(*edge)?.target?.as_f64() - this.anchored(*edge, 0.0)))
            .collect();
        this.search.limit(this.limits_us.clone());
        this
    }

    /// measured now + model − model(now), µs; without a measurement the model's.
    fn anchored(&self, edge: EdgeIx, model_us: f64) -> f64 {
        let now = self.model_now.get(edge.position()).copied().unwrap_or_default();
        let measured = self.search.problem.edge(edge).and_then(|edge| edge.measured);
        measured.map_or(model_us, |measured| measured.as_f64() + model_us - now)
    }

    fn run(mut self) -> Solution {
        let mut ended = self.rounds();
        if self.search.best.meets() || self.search.edges.is_empty() {
            return self.finish(ended);
        }
        for _ in 0..ROUNDS {
            self.search.limit(self.within_reach());
            let reached = self.rounds();
            ended = Ended {
                closed: reached.closed && ended.closed,
                ..reached
            };
            if self.search.exhausted() {
                break;
            }
            // What comes nearest is found by small changes too: from the answer, they may lead nearer.
            let answer = self.search.best.clone();
            self.search.limit(self.limits_us.clone());
            self.rounds();
            let limits = self.within_reach();
            self.search.limit(limits);
            self.search.offer(&answer.sets, answer.origin);
            if self.search.best.sets == answer.sets {
                break;
            }
        }
        self.finish(ended)
    }

    /// Rounds until one changes nothing.
    fn rounds(&mut self) -> Ended {
        let edges = self.search.edges.clone();
        if edges.is_empty() {
            return Ended {
                cost: self.search.best.cost,
                closed: true,
            };
        }
        let everything: Vec<Bits> = edges
            .iter()
            .map(|edge| everything(self.search.problem, *edge))
            .collect();
        self.search.offer(&everything, Origin::Everything);
        let nothing = vec![Bits::new(self.search.problem.services_len()); edges.len()];
        self.search.offer(&nothing, Origin::Nothing);
        let mut ended = Ended {
            cost: f64::NEG_INFINITY,
            closed: false,
        };
        for _ in 0..ROUNDS {
            let before = self.search.best.sets.clone();
            let known = ended.cost;
            self.edge_by_edge();
            let work = self.search.budget / TREE;
            ended = Tree::new(&mut self.search, work).run();
            ended.cost = ended.cost.max(known);
            if ended.closed && self.search.best.meets() {
                break;
            }
            self.strategies(&before);
            self.search.improve();
            if self.search.best.sets == before || self.search.exhausted() {
                break;
            }
        }
        ended
    }

    /// Several edges: each for itself, the others as they are, until that changes nothing. One edge is decided far better
    /// than several at a time, and what the others leave to the cloud is then known exactly.
    fn edge_by_edge(&mut self) {
        let edges = self.search.edges.clone();
        if edges.len() < 2 {
            return;
        }
        for _ in 0..ROUNDS {
            let before = self.search.best.sets.clone();
            for (at, edge) in edges.iter().enumerate() {
                let mut sets = self.search.best.sets.clone();
                self.search.go_to(&sets);
                let left = self.search.budget.saturating_sub(self.search.spent);
                let mut one = Search::new(self.search.now.clone(), vec![*edge], left);
                one.limit(self.search.limits_us.get(at).copied().into_iter().collect());
                Tree::new(&mut one, self.search.budget / ONE_EDGE).run();
                self.search.spent += one.spent;
                if let (Some(set), Some(better)) = (sets.get_mut(at), one.best.sets.first()) {
                    set.clone_from(better);
                }
                self.search.offer(&sets, Origin::Relaxation);
            }
            if self.search.best.sets == before || self.search.exhausted() {
                break;
            }
        }
    }

    /// The strategies from a placement, each on one edge after the other.
    fn strategies(&mut self, from: &[Bits]) {
        let problem = self.search.problem;
        for strategy in Strategy::ALL {
            self.search.go_to(from);
            let mut placement = self.search.now.placement();
            for (at, edge) in self.search.edges.clone().into_iter().enumerate() {
                if self.search.exhausted() {
                    return;
                }
                let now = self.search.now.delay_us(edge);
                let Some(limit) = self.search.limits_us.get(at).copied().flatten() else {
                    continue;
                };
                let params = Params {
                    evaluations: self.search.budget - self.search.spent,
                    ..Params::new(if now > limit {
                        Goal::Decrease(now - limit)
                    } else {
                        Goal::Increase(limit - now)
                    })
                };
                let outcome = strategy::run(problem, edge, &placement, strategy, &params);
                self.search.spent += outcome.evaluations;
                placement = outcome.placement;
            }
            let sets: Vec<Bits> = self
                .search
                .edges
                .iter()
                .map(|edge| {
                    Bits::of(problem.services_len(), |service| {
                        placement.contains(*edge, service)
                    })
                })
                .collect();
            self.search.offer(&sets, Origin::Strategy(strategy));
        }
    }

    /// Limits that can be kept where the targets can't: what the best placement reaches, less what is not worth its cost.
    fn within_reach(&self) -> Vec<Option<f64>> {
        let best = &self.search.best.delays_us;
        let each = self.limits_us.iter().zip(best).zip(&self.search.edges);
        each.map(|((limit, reached), edge)| {
            let void = self.void.get(edge.position()).copied().unwrap_or_default();
            let worth = reached + GIVEN_UP * (void - reached).max(0.0);
            limit.map(|limit| limit.max(worth))
        })
        .collect()
    }

    fn finish(mut self, ended: Ended) -> Solution {
        let problem = self.search.problem;
        let best = self.search.best.clone();
        let placement = self.placement(&best);
        let evaluation = evaluate(problem, &placement, &Shares::resting(problem, &placement));
        let edges = problem
            .edges()
            .map(|(edge, _)| {
                let model = evaluation
                    .edges
                    .get(edge.position())
                    .map_or(0.0, |edge| edge.delay.as_f64());
                let now = self.model_now.get(edge.position()).copied().unwrap_or_default();
                Outlook {
                    now: Micros::nearest(self.anchored(edge, now)),
                    predicted: Micros::nearest(self.anchored(edge, model)),
                    reach: self.reach(edge, model),
                }
            })
            .collect();
        let proven = ended.closed || near(ended.cost, best.cost).is_ge();
        Solution {
            edges,
            bound: Bound {
                cost: Money::nearest(ended.cost.min(best.cost) * (1.0 - SAME)),
                optimal: best.meets() && proven,
            },
            origin: best.origin,
            runner_up: self.runner_up(&best),
            evaluations: self.search.spent,
            exhausted: self.search.exhausted(),
            placement,
            evaluation,
        }
    }

    fn placement(&mut self, candidate: &Candidate) -> DensePlacement {
        self.search.go_to(&candidate.sets);
        self.search.now.placement()
    }

    fn runner_up(&mut self, best: &Candidate) -> Option<RunnerUp> {
        let second = self.search.second.clone()?;
        let placement = self.placement(&second);
        let problem = self.search.problem;
        let predicted: Vec<f64> = problem
            .edges()
            .map(|(edge, _)| self.search.now.delay_us(edge))
            .collect();
        let predicted = problem.edges().zip(predicted);
        Some(RunnerUp {
            predicted: predicted
                .map(|((edge, _), model)| Micros::nearest(self.anchored(edge, model)))
                .collect(),
            placement,
            origin: second.origin,
            cost: Money::nearest(second.cost),
            lost: if near(second.excess_us, best.excess_us).is_gt() {
                Lost::Slower
            } else if near(second.cost, best.cost).is_gt() {
                Lost::Dearer
            } else {
                Lost::MovesMore
            },
        })
    }
}

/// All that may run at an edge and that users reach there.
fn everything(problem: &Problem, edge: EdgeIx) -> Bits {
    Bits::reached(problem, edge, |service| problem.may_run_at_edge(service))
}

/// What runs, with pins respected.
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
