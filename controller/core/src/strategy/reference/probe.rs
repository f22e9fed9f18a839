//! What a set of services at one edge does to delay and cost.

use super::set::{Set, differing};
use crate::model::{DensePlacement, EdgeIx, Pin, Problem, ServiceIx, Shares, evaluate};

/// Parts of a delay or cost that rounding may make out of nothing.
const ROUNDING: f64 = 1e-12;

/// Delay and cost of a placement.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Value {
    /// Mean user delay of the edge, µs.
    pub(super) delay_us: f64,
    /// Of everything, an hour.
    pub(super) cost: f64,
}

/// One edge of a problem; the others stay as they are.
pub(super) struct Probe<'p> {
    pub(super) problem: &'p Problem,
    pub(super) edge: EdgeIx,
    placement: DensePlacement,
    at: Set,
    pub(super) spent: u64,
    budget: u64,
}

// === impl Value ===

impl Value {
    /// What this gains over `from`, s; negative where it is slower.
    pub(super) fn gain_s(self, from: Self) -> f64 {
        difference(from.delay_us, self.delay_us) / 1e6
    }

    /// What this costs more than `from`, an hour.
    pub(super) fn more_than(self, from: Self) -> f64 {
        difference(self.cost, from.cost)
    }
}

/// `one - two`, and 0 where that is rounding only: the reference's criteria take the sign of it.
fn difference(one: f64, two: f64) -> f64 {
    let difference = one - two;
    if difference.abs() <= ROUNDING * one.abs().max(two.abs()) {
        0.0
    } else {
        difference
    }
}

// === impl Probe ===

impl<'p> Probe<'p> {
    pub(super) fn new(problem: &'p Problem, edge: EdgeIx, start: &DensePlacement, budget: u64) -> Self {
        let services = problem.services().map(|(service, _)| service);
        let there = services.filter(|service| start.contains(edge, *service));
        Self {
            problem,
            edge,
            at: Set::of(problem.services_len(), there),
            placement: start.clone(),
            spent: 0,
            budget,
        }
    }

    pub(super) fn exhausted(&self) -> bool {
        self.spent >= self.budget
    }

    /// The set that was asked for last.
    pub(super) fn present(&self) -> &Set {
        &self.at
    }

    pub(super) fn value(&mut self, set: &[u64]) -> Value {
        self.spent += 1;
        for service in differing(self.at.words(), set) {
            let there = self.at.contains(service);
            self.placement.set(self.edge, service, !there);
        }
        self.at.become_of(set);
        let result = evaluate(
            self.problem,
            &self.placement,
            &Shares::resting(self.problem, &self.placement),
        );
        let edge = result.edges.get(self.edge.position());
        Value {
            delay_us: edge.map_or(0.0, |edge| edge.delay.as_f64()),
            cost: result.cost.total().as_f64(),
        }
    }

    /// The placement with this set at the edge.
    pub(super) fn placement_of(&self, set: &Set) -> DensePlacement {
        let mut placement = self.placement.clone();
        for service in differing(self.at.words(), set.words()) {
            placement.set(self.edge, service, set.contains(service));
        }
        placement
    }

    /// Calls that each service receives for one user request of this edge, wherever it runs.
    pub(super) fn calls(&self) -> Vec<f64> {
        let shares = Shares::resting(self.problem, &self.placement);
        let result = evaluate(self.problem, &self.placement, &shares);
        let of = |service: ServiceIx| {
            let edge = result.edges.get(self.edge.position())?;
            Some(
                self.problem
                    .areas()
                    .map(|area| edge.calls.get(service, area))
                    .sum(),
            )
        };
        let services = self.problem.services();
        services
            .map(|(service, _)| of(service).unwrap_or_default())
            .collect()
    }

    pub(super) fn pinned(&self, pin: Pin) -> Set {
        let services = self.problem.services().filter(|(_, value)| value.pin == pin);
        Set::of(self.problem.services_len(), services.map(|(service, _)| service))
    }

    /// Calls of the gateway.
    pub(super) fn entries(&self) -> impl Iterator<Item = (ServiceIx, f64)> + use<'p> {
        let calls = self
            .problem
            .edge(self.edge)
            .map_or(&[][..], |edge| &edge.user_calls);
        calls
            .iter()
            .map(|(service, calls)| (*service, calls.as_f64()))
            .filter(|(_, calls)| *calls > 0.0)
    }
}
