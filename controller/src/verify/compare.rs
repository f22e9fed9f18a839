//! Comparing numbers and runs.

use std::fmt;

use gma_core::model::{AreaIx, DensePlacement, Evaluation, Problem};
use gma_core::strategy::{Outcome, Params, Strategy, run};
use gma_core::units::CpuCores;

use super::instance::{Application, EDGE, evaluate_at_rest, ix};
use super::report::Difference;
use super::rules::{Repeated, Rule};

/// Recorded numbers are met to this part.
const TOLERANCE: f64 = 1e-9;
/// Edge services that nobody calls among which those with a phantom replica are looked for: 2^12 sums.
const MAX_PHANTOMS: usize = 12;

/// What the reference says of a placement.
#[derive(Clone, Copy, Debug)]
pub(super) struct RecordedState {
    pub(super) delay_s: f64,
    pub(super) delay_internal_s: f64,
    pub(super) delay_network_s: f64,
    pub(super) rho_ce: f64,
    pub(super) cost: f64,
    pub(super) cost_edge: f64,
    pub(super) cost_cloud: f64,
    pub(super) cost_network: f64,
}

/// A run to repeat.
pub(super) struct Request<'a> {
    pub(super) strategy: Strategy,
    /// 0 and 1, by service.
    pub(super) start: &'a [u8],
    /// Use of the instances at the start.
    pub(super) used: &'a [CpuCores],
    pub(super) params: Params,
}

/// Ours.
pub(super) struct Found {
    pub(super) problem: Problem,
    pub(super) start: DensePlacement,
    pub(super) outcome: Outcome,
    pub(super) evaluation: Evaluation,
}

// === impl Request ===

impl Request<'_> {
    /// Runs ours with these defects.
    pub(super) fn run(&self, application: &Application, repeated: &Repeated) -> Result<Found, Difference> {
        let problem = application
            .problem(self.used, repeated)
            .map_err(|error| different("the application", error, "one"))?;
        let start = application.placement(&problem, self.start);
        let mut params = self.params.clone();
        params.defects = repeated.defects();
        let outcome = run(&problem, EDGE, &start, self.strategy, &params);
        let evaluation = evaluate_at_rest(&problem, &outcome.placement);
        Ok(Found {
            problem,
            start,
            outcome,
            evaluation,
        })
    }
}

// === impl Found ===

impl Found {
    /// The edge as recorded vectors have it, the gateway included.
    fn edge(&self, placement: &DensePlacement) -> Vec<u8> {
        let count = self.problem.services_len();
        let there = |service: usize| placement.contains(EDGE, ix(service)) || service + 1 == count;
        (0..count).map(|service| u8::from(there(service))).collect()
    }

    /// Compares the services at the edge, and what was applied and deleted.
    pub(super) fn same_edge(&self, edge: &[u8], apply: &[u32], delete: &[u32]) -> Result<(), Difference> {
        let (before, after) = (self.edge(&self.start), self.edge(&self.outcome.placement));
        if after != edge {
            return Err(different(
                "services at the edge",
                services(&after),
                services(edge),
            ));
        }
        let changed = |to: u8| -> Vec<u32> {
            let pairs = (0_u32..).zip(before.iter().zip(&after));
            pairs
                .filter(|(_, (old, new))| old != new && **new == to)
                .map(|(at, _)| at)
                .collect()
        };
        for (what, ours, recorded) in [("to_apply", changed(1), apply), ("to_delete", changed(0), delete)] {
            let mut sorted = recorded.to_vec();
            sorted.sort_unstable();
            if ours != sorted {
                return Err(different(what, format!("{ours:?}"), format!("{recorded:?}")));
            }
        }
        Ok(())
    }

    /// Compares every recorded figure of the result.
    pub(super) fn same_state(&self, recorded: &RecordedState, repeated: &Repeated) -> Result<(), Difference> {
        let Some(edge) = self.evaluation.edges.first() else {
            return Ok(());
        };
        let cost = &self.evaluation.cost;
        let total = cost.total().as_f64();
        close("delay_s", edge.delay.as_f64() / 1e6, recorded.delay_s)?;
        close(
            "delay_internal_s",
            edge.internal.as_f64() / 1e6,
            recorded.delay_internal_s,
        )?;
        let (delay, network) = (recorded.delay_s, edge.network.as_f64() / 1e6);
        close_of("delay_network_s", network, recorded.delay_network_s, delay)?;
        close_of("rho_ce", edge.utilisation.as_f64(), recorded.rho_ce, 1.0)?;
        let [at_edge, network] = cost
            .edges
            .first()
            .map_or([0.0; 2], |cost| [cost.replicas.as_f64(), cost.network.as_f64()]);
        let phantoms = if repeated.has(Rule::S19) {
            self.phantoms(recorded.cost_edge - at_edge, total)
        } else {
            0.0
        };
        close_of("cost_edge", at_edge + phantoms, recorded.cost_edge, recorded.cost)?;
        close("cost_cloud", cost.cloud.as_f64(), recorded.cost_cloud)?;
        close_of("cost_network", network, recorded.cost_network, recorded.cost)?;
        close("cost", total + phantoms, recorded.cost)
    }

    /// Compares the whole cost alone.
    pub(super) fn same_cost(&self, recorded: f64, repeated: &Repeated) -> Result<(), Difference> {
        let total = self.outcome.cost.as_f64();
        let phantoms = if repeated.has(Rule::S19) {
            self.phantoms(recorded - total, total)
        } else {
            0.0
        };
        close("cost", total + phantoms, recorded)
    }

    /// What phantom replicas cost together: of edge services without any call, those whose replicas make up the
    /// difference.
    fn phantoms(&self, difference: f64, total: f64) -> f64 {
        let Some(edge) = self.evaluation.edges.first() else {
            return 0.0;
        };
        let here = AreaIx::Edge(EDGE);
        let uncalled = self.problem.services().filter(|(service, _)| {
            self.outcome.placement.contains(EDGE, *service) && edge.calls.get(*service, here) == 0.0
        });
        let prices = uncalled.filter_map(|(service, _)| price(&self.problem, service, here));
        let prices: Vec<f64> = prices.take(MAX_PHANTOMS).collect();
        let sums = (1_u32..1 << prices.len()).map(|chosen| {
            let of = prices.iter().enumerate().filter(|(at, _)| chosen >> at & 1 == 1);
            of.map(|(_, price)| price).sum::<f64>()
        });
        sums.filter(|sum| (sum - difference).abs() <= TOLERANCE * total)
            .reduce(f64::min)
            .unwrap_or(0.0)
    }
}

/// Price of a replica, an hour.
pub(super) fn price(problem: &Problem, service: gma_core::model::ServiceIx, area: AreaIx) -> Option<f64> {
    let (site, prices) = (problem.site(service, area)?, problem.area(area)?.prices);
    let cpu = prices.cpu_core_hour.as_f64() * site.cpu_request.as_f64();
    Some(cpu + prices.memory_gb_hour.as_f64() * site.memory_request.as_f64())
}

pub(super) fn different(what: &str, ours: impl fmt::Display, recorded: impl fmt::Display) -> Difference {
    Difference {
        what: what.to_owned(),
        ours: ours.to_string(),
        recorded: recorded.to_string(),
    }
}

/// Compares two numbers relative to the recorded one.
pub(super) fn close(what: &str, ours: f64, recorded: f64) -> Result<(), Difference> {
    close_of(what, ours, recorded, 0.0)
}

/// The same; where ours is exactly 0, relative to the whole of which it is a part: the reference's elimination leaves
/// residues there.
pub(super) fn close_of(what: &str, ours: f64, recorded: f64, whole: f64) -> Result<(), Difference> {
    let of = if ours == 0.0 {
        whole.abs().max(recorded.abs())
    } else {
        recorded.abs()
    };
    within(what, ours, recorded, of)
}

/// Compares two differences of numbers of this size.
pub(super) fn within(what: &str, ours: f64, recorded: f64, size: f64) -> Result<(), Difference> {
    if (ours - recorded).abs() <= TOLERANCE * size.abs() {
        return Ok(());
    }
    Err(different(what, format!("{ours:e}"), format!("{recorded:e}")))
}

/// Numbers of the services of a recorded vector, without the gateway.
fn services(edge: &[u8]) -> String {
    let bits = edge.iter().take(edge.len().saturating_sub(1)).enumerate();
    let there: Vec<String> = bits
        .filter(|(_, bit)| **bit == 1)
        .map(|(at, _)| at.to_string())
        .collect();
    if there.is_empty() {
        "none".to_owned()
    } else {
        there.join(" ")
    }
}
