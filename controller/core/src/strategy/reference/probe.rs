//! What a set of services at one edge does to delay and cost.

use super::set::{Set, differing};
use crate::model::{DensePlacement, EdgeIx, Incremental, Peek, Pin, Problem, ServiceIx, Shares, evaluate};

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
    placement: Incremental<'p>,
    at: Set,
    change: Vec<ServiceIx>,
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
            placement: Incremental::new(problem, start),
            change: Vec::new(),
            spent: 0,
            budget,
        }
    }

    pub(super) fn exhausted(&self) -> bool {
        self.spent >= self.budget
    }

    /// The set at the edge.
    pub(super) fn set(&self) -> &Set {
        &self.at
    }

    /// What it brings about.
    pub(super) fn now(&mut self) -> Value {
        let Peek { delay_us, cost, .. } = self.placement.look(self.edge);
        Value { delay_us, cost }
    }

    /// What another set would bring about.
    pub(super) fn value(&mut self, set: &[u64]) -> Value {
        self.spent += 1;
        self.change.clear();
        self.change.extend(differing(self.at.words(), set));
        let Peek { delay_us, cost, .. } = self.placement.peek(self.edge, &self.change);
        Value { delay_us, cost }
    }

    /// Puts a set at the edge.
    pub(super) fn go(&mut self, set: &[u64]) -> Value {
        self.change.clear();
        self.change.extend(differing(self.at.words(), set));
        self.placement.flip_all(self.edge, &self.change);
        self.at.become_of(set);
        self.now()
    }

    pub(super) fn placement(&self) -> DensePlacement {
        self.placement.placement()
    }

    /// Calls that each service receives for one user request of this edge, wherever it runs.
    pub(super) fn calls(&self) -> Vec<f64> {
        let placement = self.placement.placement();
        let result = evaluate(
            self.problem,
            &placement,
            &Shares::resting(self.problem, &placement),
        );
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
