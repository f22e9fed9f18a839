//! Improvement by small changes: add, drop, swap, and connected sets of services.

use super::Origin;
use super::bits::Bits;
use super::search::{Candidate, Search};
use crate::model::ServiceIx;

/// Swaps that are looked at in a round: the best additions with the best removals.
const SWAPS: usize = 24;

/// A change of an edge and what it leads to.
struct Change {
    at: usize,
    services: Vec<ServiceIx>,
    to: Candidate,
}

// === impl Search ===

#[expect(
    clippy::indexing_slicing,
    reason = "`at` is an edge of the search; sets have an entry for each service"
)]
impl Search<'_> {
    /// Goes on from `best` by its best change until none is better.
    pub(super) fn improve(&mut self) {
        let best = self.best.sets.clone();
        self.go_to(&best);
        let mut here = self.best.clone();
        while !self.exhausted() {
            let mut best: Option<Change> = None;
            for at in 0..self.edges.len() {
                let (adds, drops) = (self.additions(at), self.removals(at));
                let mut adds = self.ranked(at, adds, &here);
                let mut drops = self.ranked(at, drops, &here);
                adds.truncate(SWAPS);
                drops.truncate(SWAPS);
                let swaps = adds.iter().flat_map(|add| {
                    let both = |drop: &Change| -> Vec<ServiceIx> {
                        let only = |of: &Change, other: &Change| {
                            let apart = of.services.iter().filter(|j| !other.services.contains(j));
                            apart.copied().collect::<Vec<_>>()
                        };
                        [only(add, drop), only(drop, add)].concat()
                    };
                    drops.iter().map(both).collect::<Vec<_>>()
                });
                let mut swaps: Vec<Vec<ServiceIx>> = swaps.collect();
                swaps.retain(|swap| !swap.is_empty());
                let swaps = self.ranked(at, swaps, &here);
                for change in adds.into_iter().chain(drops).chain(swaps) {
                    if best
                        .as_ref()
                        .is_none_or(|best| change.to.compare(&best.to).is_lt())
                    {
                        best = Some(change);
                    }
                }
            }
            let Some(best) = best.filter(|best| best.to.compare(&here).is_lt()) else {
                break;
            };
            self.now.flip_all(self.edges[best.at], &best.services);
            here = self.stand(Origin::Search);
            self.keep(here.clone());
        }
    }

    /// Only drops, as long as one is better.
    pub(super) fn prune(&mut self, mut here: Candidate) -> Candidate {
        while !self.exhausted() {
            let mut best: Option<Change> = None;
            for at in 0..self.edges.len() {
                let drops = self.removals(at);
                let first = self.ranked(at, drops, &here).into_iter().next();
                if let Some(first) = first
                    && best
                        .as_ref()
                        .is_none_or(|best| first.to.compare(&best.to).is_lt())
                {
                    best = Some(first);
                }
            }
            let Some(best) = best.filter(|best| best.to.compare(&here).is_lt()) else {
                break;
            };
            self.now.flip_all(self.edges[best.at], &best.services);
            here = self.stand(here.origin);
        }
        here
    }

    /// Changes with what they lead to, best first.
    fn ranked(&mut self, at: usize, changes: Vec<Vec<ServiceIx>>, here: &Candidate) -> Vec<Change> {
        let edge = self.edges[at];
        let mut ranked = Vec::with_capacity(changes.len());
        for services in changes {
            if self.exhausted() {
                break;
            }
            self.spent += 1;
            let peek = self.now.peek(edge, &services);
            let mut to = self.changed(here, at, peek);
            for service in &services {
                let was = self.present[at].contains(service.position());
                let is = self.now.contains(edge, *service);
                to.moves = if was == is {
                    to.moves + 1
                } else {
                    to.moves.saturating_sub(1)
                };
            }
            ranked.push(Change { at, services, to });
        }
        ranked.sort_by(|one, other| {
            one.to
                .compare(&other.to)
                .then_with(|| one.services.cmp(&other.services))
        });
        ranked
    }

    /// Each service that calls reach but that is not there: alone, with its callees, and with all below it.
    fn additions(&self, at: usize) -> Vec<Vec<ServiceIx>> {
        let edge = self.edges[at];
        let mut sets = Vec::new();
        for (service, _) in self.problem.services() {
            let addable = |j: ServiceIx| self.may_move(j) && !self.now.contains(edge, j);
            if !addable(service) || self.now.arriving(edge, service) <= 0.0 {
                continue;
            }
            for depth in [0, 1, usize::MAX] {
                let set = self.below(service, depth, addable);
                if sets.last() != Some(&set) {
                    sets.push(set);
                }
            }
        }
        sets
    }

    fn below(&self, from: ServiceIx, depth: usize, may: impl Fn(ServiceIx) -> bool) -> Vec<ServiceIx> {
        let mut seen = Bits::new(self.problem.services_len());
        seen.set(from.position(), true);
        let mut ring = vec![from];
        for _ in 0..depth {
            let mut next = Vec::new();
            for (callee, _) in ring.iter().flat_map(|service| self.problem.calls_of(*service)) {
                if may(*callee) && !seen.contains(callee.position()) {
                    seen.set(callee.position(), true);
                    next.push(*callee);
                }
            }
            if next.is_empty() {
                break;
            }
            ring = next;
        }
        seen.iter().map(ServiceIx::at).collect()
    }

    /// Each service that is there: alone, and with what users then no longer reach.
    fn removals(&self, at: usize) -> Vec<Vec<ServiceIx>> {
        let edge = self.edges[at];
        let mut sets = Vec::new();
        for (service, _) in self.problem.services() {
            if !self.now.contains(edge, service) || !self.may_move(service) {
                continue;
            }
            sets.push(vec![service]);
            let rest = |j: ServiceIx| j != service && self.now.contains(edge, j);
            let reached = Bits::reached(self.problem, edge, rest);
            let alone = |j: &ServiceIx| {
                self.now.contains(edge, *j) && self.may_move(*j) && !reached.contains(j.position())
            };
            let set: Vec<ServiceIx> = self.problem.services().map(|(j, _)| j).filter(alone).collect();
            if set.len() > 1 {
                sets.push(set);
            }
        }
        sets
    }
}
