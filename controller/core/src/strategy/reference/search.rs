//! What the strategies share: start, goal, pins, result.

use super::params::{Goal, Outcome, Params};
use super::probe::{Probe, Value};
use super::set::Set;
use crate::model::{DensePlacement, EdgeIx, Pin, Problem};
use crate::units::{Micros, Money};

/// Services and calls that all evaluations of a run look at together, at most: some ten seconds. It ends a run of a million
/// services, whatever its budget, and no run of a thousand.
const MAX_WORK: u64 = 1_000_000_000;

/// A run of a strategy.
pub(super) struct Search<'p> {
    pub(super) probe: Probe<'p>,
    pub(super) params: &'p Params,
    /// The start as it is, evaluated.
    pub(super) before: Value,
    /// What is at the edge now.
    pub(super) set: Set,
    pub(super) now: Value,
    /// Never added.
    pub(super) locked: Set,
    /// Never removed.
    pub(super) pinned: Set,
    pub(super) truncated: bool,
}

// === impl Search ===

impl<'p> Search<'p> {
    pub(super) fn new(
        problem: &'p Problem,
        edge: EdgeIx,
        start: &DensePlacement,
        params: &'p Params,
    ) -> Self {
        let size = problem.services_len() + problem.spec().calls.len();
        let most = MAX_WORK / u64::try_from(size.max(1)).unwrap_or(u64::MAX);
        let mut probe = Probe::new(problem, edge, start, params.evaluations.min(most));
        let start = probe.set().clone();
        let before = probe.now();
        let (pinned, mut locked) = (probe.pinned(Pin::Edge), probe.pinned(Pin::Cloud));
        let mut set = start;
        set.take_away(locked.words());
        set.add(pinned.words());
        params.locked.iter().for_each(|service| locked.insert(*service));
        locked.take_away(pinned.words());
        let mut this = Self {
            before,
            now: before,
            set: Set::new(problem.services_len()),
            truncated: false,
            probe,
            params,
            locked,
            pinned,
        };
        this.go(set);
        this
    }

    /// Changes the edge.
    pub(super) fn go(&mut self, set: Set) {
        self.now = self.probe.go(set.words());
        self.set = set;
    }

    /// By how much the delay is less than at the start, µs.
    pub(super) fn decrease_us(&self, value: Value) -> f64 {
        self.before.delay_us - value.delay_us
    }

    pub(super) fn outcome(self) -> Outcome {
        let met = match self.params.goal {
            Goal::Decrease(target) => self.decrease_us(self.now) >= target,
            Goal::Increase(target) => -self.decrease_us(self.now) <= target,
        };
        Outcome {
            placement: self.probe.placement(),
            delay: Micros::nearest(self.now.delay_us),
            delay_before: Micros::nearest(self.before.delay_us),
            cost: Money::nearest(self.now.cost),
            cost_before: Money::nearest(self.before.cost),
            met,
            evaluations: self.probe.spent,
            exhausted: self.probe.exhausted(),
            truncated: self.truncated,
        }
    }
}
