//! One greedy strategy: adds connected sets by the best delay gain for their cost, then drops what is not needed.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::candidates::{candidates, connected};
use crate::model::{DensePlacement, EdgeIx, Pin, Problem, ServiceIx, Shares, evaluate};
use crate::units::{Micros, Money};

/// Evaluations of a plan at most: with 50 services one takes some 10 µs, so a plan stays far below a second. Past it
/// the best placement seen so far is the answer.
pub const MAX_EVALUATIONS: usize = 20_000;

/// Costs nearer than this are one cost.
const SAME_COST: f64 = 1e-9;
/// Part of the gain that may be given up for fewer services where the target can't be met anyway.
const GIVEN_UP: f64 = 0.01;

/// What to run at an edge.
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
    /// Mean user delay of the present placement by the model alone.
    pub model_now: Micros,
    /// Mean user delay after: now + model(after) − model(now), with the standby share.
    pub predicted: Micros,
    /// Cost of the present placement, an hour.
    pub cost_before: Money,
    /// Cost of the new one, an hour.
    pub cost_after: Money,
    /// Whether the target is met.
    pub reach: Reach,
}

/// Whether a target can be met.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub enum Reach {
    /// It is.
    Met,
    /// No set that was tried meets it; the plan is the best of them.
    TargetTooLow {
        /// Mean user delay with everything that may go to the edge there: where the standby share leads.
        all_at_edge: Micros,
    },
    /// Nothing that was tried is better than what runs.
    NoBetterPlacement,
    /// [`MAX_EVALUATIONS`] were used up before the target was met; the plan is the best of them.
    OutOfEvaluations,
}

/// Plans for one edge; the other edges stay as they are. Where the delay is above `target`, services are added until
/// the prediction meets it, and of those added the ones that it does not need are left out again. Where it is below,
/// services are removed as long as the prediction meets it. The result is never dearer than staying where staying
/// meets the target, and never slower where it does not.
///
/// ```
/// use gma_core::model::{DensePlacement, EdgeIx, ServiceIx};
/// use gma_core::strategy::{Reach, plan};
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
    let mut search = Search::new(problem, edge, current, target.as_f64());
    let present = current.at_edge(problem, edge);
    let now = search.trial(&present);
    let pinned: BTreeSet<ServiceIx> = problem
        .services()
        .filter(|(_, service)| service.pin == Pin::Edge)
        .map(|(service, _)| service)
        .collect();
    let (chosen, all_at_edge) = if now.delay_us > search.target_us {
        search.offload(&now)
    } else {
        (search.unoffload(&now, &pinned), None)
    };
    let reach = if chosen.delay_us <= search.target_us {
        Reach::Met
    } else if chosen.set == present {
        Reach::NoBetterPlacement
    } else if search.spent >= MAX_EVALUATIONS {
        Reach::OutOfEvaluations
    } else {
        Reach::TargetTooLow {
            all_at_edge: Micros::nearest(all_at_edge.unwrap_or(chosen.delay_us)),
        }
    };
    Plan {
        placement: current.with_edge(problem, edge, &chosen.set),
        add: chosen.set.difference(&present).copied().collect(),
        remove: present.difference(&chosen.set).copied().collect(),
        now: Micros::nearest(search.anchor_us),
        model_now: Micros::nearest(search.model_now_us),
        predicted: Micros::nearest(chosen.delay_us),
        cost_before: Money::nearest(now.cost),
        cost_after: Money::nearest(chosen.cost),
        reach,
    }
}

/// A set of services at the edge, evaluated.
#[derive(Clone, Debug)]
struct Trial {
    set: BTreeSet<ServiceIx>,
    delay_us: f64,
    cost: f64,
}

struct Search<'a> {
    problem: &'a Problem,
    edge: EdgeIx,
    current: &'a DensePlacement,
    target_us: f64,
    anchor_us: f64,
    model_now_us: f64,
    seen: BTreeMap<BTreeSet<ServiceIx>, (f64, f64)>,
    spent: usize,
}

// === impl Trial ===

impl Trial {
    /// Cheaper, then fewer services, then by number: no tie is left to chance.
    fn by_cost(&self, other: &Self) -> Ordering {
        let cost = if (self.cost - other.cost).abs() <= SAME_COST {
            Ordering::Equal
        } else {
            self.cost.total_cmp(&other.cost)
        };
        cost.then(self.set.len().cmp(&other.set.len()))
            .then_with(|| self.set.cmp(&other.set))
    }

    /// Whether `self` gains more delay for its cost than `other`, both from `from`: what costs nothing comes first, by
    /// its gain.
    fn by_gain(&self, other: &Self, from: &Self) -> Ordering {
        let score = |trial: &Self| {
            let (gain, cost) = (from.delay_us - trial.delay_us, trial.cost - from.cost);
            if cost <= SAME_COST {
                (1, gain)
            } else {
                (0, gain / cost)
            }
        };
        let (one, two) = (score(self), score(other));
        one.0
            .cmp(&two.0)
            .then(one.1.total_cmp(&two.1))
            .then_with(|| other.set.cmp(&self.set))
    }
}

// === impl Search ===

impl<'a> Search<'a> {
    fn new(problem: &'a Problem, edge: EdgeIx, current: &'a DensePlacement, target_us: f64) -> Self {
        let mut this = Self {
            problem,
            edge,
            current,
            target_us,
            anchor_us: 0.0,
            model_now_us: 0.0,
            seen: BTreeMap::new(),
            spent: 0,
        };
        this.model_now_us = this.model(&current.at_edge(problem, edge)).0;
        let measured = problem.edge(edge).and_then(|edge| edge.measured);
        this.anchor_us = measured.map_or(this.model_now_us, Micros::as_f64);
        this
    }

    /// The model's delay and cost.
    fn model(&mut self, set: &BTreeSet<ServiceIx>) -> (f64, f64) {
        if let Some(known) = self.seen.get(set) {
            return *known;
        }
        self.spent += 1;
        let placement = self.current.with_edge(self.problem, self.edge, set);
        let result = evaluate(
            self.problem,
            &placement,
            &Shares::resting(self.problem, &placement),
        );
        let delay = result
            .edges
            .get(self.edge.position())
            .map_or(0.0, |edge| edge.delay.as_f64());
        let value = (delay, result.cost.total().as_f64());
        self.seen.insert(set.clone(), value);
        value
    }

    fn trial(&mut self, set: &BTreeSet<ServiceIx>) -> Trial {
        let (model_us, cost) = self.model(set);
        let delay_us = (self.anchor_us + model_us - self.model_now_us).max(0.0);
        Trial {
            set: set.clone(),
            delay_us,
            cost,
        }
    }

    fn meets(&self, trial: &Trial) -> bool {
        trial.delay_us <= self.target_us
    }

    /// The choice, and the delay with everything at the edge.
    fn offload(&mut self, now: &Trial) -> (Trial, Option<f64>) {
        let free = self.problem.services().map(|(service, _)| service);
        let free: BTreeSet<ServiceIx> = free
            .filter(|service| self.problem.may_run_at_edge(*service))
            .collect();
        let all = now
            .set
            .union(&connected(self.problem, self.edge, &free))
            .copied()
            .collect();
        let all = self.trial(&all);
        let grown = self.grow(now.clone(), &free);
        let mut best: Option<Trial> = None;
        for start in [&grown, &all] {
            if self.meets(start) {
                let pruned = self.prune(start.clone(), &now.set, self.target_us);
                if best.as_ref().is_none_or(|best| pruned.by_cost(best).is_lt()) {
                    best = Some(pruned);
                }
            }
        }
        if let Some(best) = best {
            return (best, None);
        }
        let fastest = if grown.delay_us <= all.delay_us {
            grown
        } else {
            all.clone()
        };
        if fastest.delay_us >= now.delay_us {
            return (now.clone(), Some(all.delay_us));
        }
        let limit = fastest.delay_us + GIVEN_UP * (now.delay_us - fastest.delay_us);
        (self.prune(fastest, &now.set, limit), Some(all.delay_us))
    }

    /// Removes from what runs, or keeps only what the target needs: the cheaper of both.
    fn unoffload(&mut self, now: &Trial, pinned: &BTreeSet<ServiceIx>) -> Trial {
        let down = self.prune(now.clone(), pinned, self.target_us);
        let start = self.trial(pinned);
        let up = self.grow(start, &now.set);
        let up = self.prune(up, pinned, self.target_us);
        if self.meets(&up) && up.by_cost(&down).is_lt() {
            up
        } else {
            down
        }
    }

    /// Adds candidates until the target is met or nothing gains.
    fn grow(&mut self, mut from: Trial, allowed: &BTreeSet<ServiceIx>) -> Trial {
        while !self.meets(&from) && self.spent < MAX_EVALUATIONS {
            let mut best: Option<Trial> = None;
            for added in candidates(self.problem, self.edge, &from.set, allowed) {
                if self.spent >= MAX_EVALUATIONS {
                    break;
                }
                let trial = self.trial(&from.set.union(&added).copied().collect());
                if trial.delay_us >= from.delay_us {
                    continue;
                }
                let better = best
                    .as_ref()
                    .is_none_or(|best| match (self.meets(&trial), self.meets(best)) {
                        (true, true) => trial.by_cost(best).is_lt(),
                        (false, false) => trial.by_gain(best, &from).is_gt(),
                        (meets, _) => meets,
                    });
                if better {
                    best = Some(trial);
                }
            }
            match best {
                Some(best) => from = best,
                None => break,
            }
        }
        from
    }

    /// Removes, one after the other, the service (with those that only it calls) whose removal saves most and leaves
    /// the delay at most `limit_us`. Nothing of `kept` goes, and no removal raises the cost.
    fn prune(&mut self, mut from: Trial, kept: &BTreeSet<ServiceIx>, limit_us: f64) -> Trial {
        loop {
            let mut best: Option<Trial> = None;
            for service in from.set.difference(kept) {
                if self.spent >= MAX_EVALUATIONS {
                    return from;
                }
                let mut set = from.set.clone();
                set.remove(service);
                let linked = connected(self.problem, self.edge, &set);
                set.retain(|service| linked.contains(service) || kept.contains(service));
                let trial = self.trial(&set);
                let saves = trial.cost <= from.cost + SAME_COST;
                if saves
                    && trial.delay_us <= limit_us
                    && best.as_ref().is_none_or(|best| trial.by_cost(best).is_lt())
                {
                    best = Some(trial);
                }
            }
            match best {
                Some(best) => from = best,
                None => return from,
            }
        }
    }
}
