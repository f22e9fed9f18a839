//! Why a target is not met.

use super::dual::bound;
use super::relaxed::{Fix, Relaxed};
use super::search::above;
use super::{Reach, Solver};
use crate::model::{EdgeIx, ServiceIx};

// === impl Solver ===

impl Solver<'_> {
    /// Whether a model's delay meets an edge's target; if not, what stands in the way: room, then pins, then nothing at all.
    pub(super) fn reach(&mut self, edge: EdgeIx, model_us: f64) -> Reach {
        let at = self.search.edges.iter().position(|known| *known == edge);
        let Some(limit) = at.and_then(|at| *self.limits_us.get(at)?) else {
            return Reach::NoTarget;
        };
        if above(model_us, Some(limit)) <= 0.0 {
            return Reach::Met;
        }
        let pinned = self.fastest(edge, limit, true);
        if pinned.0 <= limit {
            return Reach::Capacity;
        }
        if self.fastest(edge, limit, false).0 <= limit {
            return Reach::Pins;
        }
        if pinned.1 {
            Reach::TargetTooLow
        } else {
            Reach::NotFound
        }
    }

    /// The lowest delay of an edge that the relaxation finds without regard to room, µs, and whether it proves that none
    /// keeps the limit.
    fn fastest(&mut self, edge: EdgeIx, limit_us: f64, with_pins: bool) -> (f64, bool) {
        let problem = self.search.problem;
        let elsewhere = problem.services().map(|(service, _)| {
            let edges = &self.search.edges;
            self.search.now.rate_elsewhere(service, edges)
        });
        let mut relaxed = Relaxed::new(self.search.now.layout(), edge, elsewhere.collect(), true);
        if with_pins {
            relaxed.fixed = super::branch::pinned(problem);
        } else {
            relaxed.fixed.fill(Fix::Free);
        }
        let everything = super::everything(problem, edge);
        relaxed.weigh(&everything);
        let mut sets = vec![everything];
        let found = bound(&mut relaxed, Some(limit_us), (0.0, 0.0), f64::INFINITY);
        sets.extend(found.keeps);
        let mut lowest = f64::INFINITY;
        for set in sets {
            let differs = |service: &ServiceIx| {
                set.contains(service.position()) != self.search.now.contains(edge, *service)
            };
            let services = problem.services().map(|(service, _)| service);
            let flips: Vec<ServiceIx> = services.filter(differs).collect();
            lowest = lowest.min(self.search.now.peek(edge, &flips).delay_us);
        }
        (lowest, found.cost == f64::INFINITY)
    }
}
