//! Candidates: evaluated, compared, collected.

use std::cmp::Ordering;

use super::Origin;
use super::bits::Bits;
use crate::model::{EdgeIx, Incremental, Peek, Pin, Problem, ServiceIx};

/// Costs and delays nearer than this part of them are one: rounding may order them either way.
pub(super) const SAME: f64 = 1e-9;

/// Excess of what does not fit, µs: above that of any delay.
const NO_ROOM: f64 = 1e15;

/// A placement at the edges that are being decided, evaluated.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    /// By edge of the search.
    pub(super) sets: Vec<Bits>,
    pub(super) delays_us: Vec<f64>,
    /// Delay above the limit, µs; [`NO_ROOM`] and more where the edge lacks the room. By edge of the search.
    over_us: Vec<f64>,
    pub(super) cost: f64,
    /// The same of all edges together.
    pub(super) excess_us: f64,
    /// Instances that it adds or removes.
    pub(super) moves: usize,
    pub(super) origin: Origin,
}

/// What is wanted and what is known.
pub(super) struct Search<'p> {
    pub(super) problem: &'p Problem,
    pub(super) now: Incremental<'p>,
    /// The edges that are being decided, and the highest delay of each by the model; none: any.
    pub(super) edges: Vec<EdgeIx>,
    pub(super) limits_us: Vec<Option<f64>>,
    /// What runs there.
    pub(super) present: Vec<Bits>,
    pub(super) best: Candidate,
    pub(super) second: Option<Candidate>,
    pub(super) spent: u64,
    pub(super) budget: u64,
}

// === impl Candidate ===

impl Candidate {
    pub(super) fn meets(&self) -> bool {
        self.excess_us <= 0.0
    }

    /// Nearer to the limits, then cheaper, then fewer changes, then fewer instances, then by number: no tie is left to
    /// chance.
    pub(super) fn compare(&self, other: &Self) -> Ordering {
        near(self.excess_us, other.excess_us)
            .then_with(|| near(self.cost, other.cost))
            .then_with(|| self.moves.cmp(&other.moves))
            .then_with(|| self.size().cmp(&other.size()))
            .then_with(|| self.sets.cmp(&other.sets))
    }

    fn size(&self) -> usize {
        self.sets.iter().map(Bits::len).sum()
    }
}

/// [`f64::total_cmp`] with [`SAME`].
pub(super) fn near(one: f64, other: f64) -> Ordering {
    if one == other || (one - other).abs() <= SAME * one.abs().max(other.abs()) {
        Ordering::Equal
    } else {
        one.total_cmp(&other)
    }
}

// === impl Search ===

#[expect(
    clippy::indexing_slicing,
    reason = "the vectors have an entry for each edge of the search, and `at` is one of them"
)]
impl<'p> Search<'p> {
    /// From what stands in `now`.
    pub(super) fn new(now: Incremental<'p>, edges: Vec<EdgeIx>, budget: u64) -> Self {
        let problem = now.problem();
        let present: Vec<Bits> = edges
            .iter()
            .map(|edge| Bits::of(problem.services_len(), |service| now.contains(*edge, service)))
            .collect();
        let nothing = Candidate {
            sets: present.clone(),
            delays_us: Vec::new(),
            over_us: Vec::new(),
            cost: 0.0,
            excess_us: f64::INFINITY,
            moves: 0,
            origin: Origin::Staying,
        };
        let mut this = Self {
            problem,
            now,
            limits_us: vec![None; edges.len()],
            edges,
            present,
            best: nothing,
            second: None,
            spent: 0,
            budget,
        };
        this.best = this.stand(Origin::Staying);
        this
    }

    /// Takes other limits; what is known is judged anew by them.
    pub(super) fn limit(&mut self, limits_us: Vec<Option<f64>>) {
        self.limits_us = limits_us;
        let known = [Some(self.best.clone()), self.second.take()];
        self.go_to(&self.present.clone());
        self.best = self.stand(Origin::Staying);
        for known in known.into_iter().flatten() {
            self.offer(&known.sets, known.origin);
        }
    }

    pub(super) fn exhausted(&self) -> bool {
        self.spent >= self.budget
    }

    /// What stands in `now`.
    pub(super) fn stand(&mut self, origin: Origin) -> Candidate {
        self.spent += 1;
        let delays_us: Vec<f64> = self.edges.iter().map(|edge| self.now.delay_us(*edge)).collect();
        let over_us: Vec<f64> = (0..self.edges.len())
            .map(|at| self.excess(at, delays_us[at], self.now.overload(self.edges[at])))
            .collect();
        let sets = self.sets();
        let moves = sets
            .iter()
            .zip(&self.present)
            .map(|(one, other)| one.differing(other).len())
            .sum();
        Candidate {
            sets,
            delays_us,
            cost: self.now.cost(),
            excess_us: over_us.iter().sum(),
            over_us,
            moves,
            origin,
        }
    }

    fn sets(&self) -> Vec<Bits> {
        let count = self.problem.services_len();
        let set = |edge: &EdgeIx| Bits::of(count, |service| self.now.contains(*edge, service));
        self.edges.iter().map(set).collect()
    }

    /// Makes `now` so, what is pinned apart.
    pub(super) fn go(&mut self, at: usize, set: &Bits) {
        let edge = self.edges[at];
        let differs = |(service, _): &(ServiceIx, _)| {
            self.may_move(*service) && set.contains(service.position()) != self.now.contains(edge, *service)
        };
        let flips: Vec<ServiceIx> = self
            .problem
            .services()
            .filter(differs)
            .map(|(service, _)| service)
            .collect();
        self.now.flip_all(edge, &flips);
    }

    pub(super) fn go_to(&mut self, sets: &[Bits]) {
        for (at, set) in sets.iter().enumerate() {
            self.go(at, set);
        }
    }

    /// Evaluates a placement and keeps it where it is better than what is known.
    pub(super) fn offer(&mut self, sets: &[Bits], origin: Origin) {
        self.go_to(sets);
        let candidate = self.stand(origin);
        self.keep(candidate);
    }

    pub(super) fn keep(&mut self, candidate: Candidate) {
        let loser = if candidate.compare(&self.best).is_lt() {
            std::mem::replace(&mut self.best, candidate)
        } else {
            candidate
        };
        let better = self
            .second
            .as_ref()
            .is_none_or(|second| loser.compare(second).is_lt());
        if loser.sets != self.best.sets && better {
            self.second = Some(loser);
        }
    }

    pub(super) fn may_move(&self, service: ServiceIx) -> bool {
        self.problem
            .service(service)
            .is_some_and(|service| service.pin == Pin::Free)
    }

    /// A candidate that differs from another at one edge.
    pub(super) fn changed(&self, from: &Candidate, at: usize, peek: Peek) -> Candidate {
        let others = from.over_us.iter().enumerate().filter(|(edge, _)| *edge != at);
        Candidate {
            sets: Vec::new(),
            delays_us: Vec::new(),
            over_us: Vec::new(),
            cost: peek.cost,
            excess_us: others.map(|(_, over)| over).sum::<f64>()
                + self.excess(at, peek.delay_us, peek.overload),
            moves: from.moves,
            origin: Origin::Search,
        }
    }

    fn excess(&self, at: usize, delay_us: f64, overload: f64) -> f64 {
        above(delay_us, self.limits_us[at]) + no_room(overload)
    }
}

fn no_room(overload: f64) -> f64 {
    if overload > 0.0 {
        NO_ROOM * (1.0 + overload)
    } else {
        0.0
    }
}

/// Delay above a limit, µs.
pub(super) fn above(delay_us: f64, limit_us: Option<f64>) -> f64 {
    limit_us.map_or(0.0, |limit| {
        let over = delay_us - limit;
        if over <= SAME * limit.max(1.0) { 0.0 } else { over }
    })
}
