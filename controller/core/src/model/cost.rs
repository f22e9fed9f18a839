//! CPU in use, replicas and what they cost: one function a term.

use serde::Serialize;

use super::ix::{AreaIx, Grid, ServiceIx};
use super::placement::DensePlacement;
use super::problem::Problem;
use super::spec::{Edge, Site};
use crate::units::Money;

/// Part of a replica that rounding errors may add without a further replica: 3.0000000000000004 is 3.
const ROUNDING: f64 = 1e-9;

/// Cost of a placement for an hour, by term.
///
/// | what | formula |
/// |---|---|
/// | CPU in use, cores | U_ia = c_i R_ia, c_i CPU time of a request, R_ia = Σ_e λ_e N_ia requests a second |
/// | replicas | max(⌈U_ia / (θ q)⌉, minimum) where placed; θ the autoscaler's threshold, q a replica's CPU request |
/// | replicas, an hour | Σ replicas · (CPU price · q + memory price · memory request) |
/// | traffic, an hour | GB price · min(T, B) · 3600 s / 8 bit / 10⁹, T bit/s offered, B bandwidth |
///
/// Use follows requests as in the utilisation law (Denning and Buzen, The Operational Analysis of Queueing Network Models,
/// 1978); replicas are where the Kubernetes autoscaler rests (desired = ⌈current · use / target⌉); prices as in µPlacer.
///
/// Three services of 1 core each at 100 requests/s, 0.02 a core in the cloud; one answer of 10 kB a request crosses.
///
/// ```
/// use gma_core::model::{AreaIx, DensePlacement, ServiceIx, Shares, evaluate};
/// # let problem = gma_core::example::problem();
/// let placement = DensePlacement::cloud_only(&problem);
/// let result = evaluate(&problem, &placement, &Shares::cloud_only(&problem));
/// assert_eq!(result.replicas.get(ServiceIx(0), AreaIx::Cloud), 2); // ⌈1 / (0.6 · 1)⌉
/// let traffic = 0.02 * 8e6 * 3600.0 / 8.0 / 1e9; // 3.6 GB
/// assert!((result.cost.edges[0].network.as_f64() - traffic).abs() < 1e-12);
/// assert!((result.cost.total().as_f64() - (3.0 * 2.0 * 0.02 + traffic)).abs() < 1e-12);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Cost {
    /// Replicas in the cloud.
    pub cloud: Money,
    /// By edge, in the problem's order.
    pub edges: Vec<EdgeCost>,
}

/// An edge's part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct EdgeCost {
    /// Replicas there.
    pub replicas: Money,
    /// Traffic from the cloud.
    pub network: Money,
}

// === impl Cost ===

impl Cost {
    /// All terms, an hour.
    pub fn total(&self) -> Money {
        let edges: f64 = self
            .edges
            .iter()
            .map(|edge| edge.replicas.as_f64() + edge.network.as_f64())
            .sum();
        Money::nearest(self.cloud.as_f64() + edges)
    }
}

/// U(i,a) = c_i·R(i,a). Use follows requests: what leaves one area arrives in another.
pub(super) fn cpu_cores(problem: &Problem, rates: &Grid<f64>) -> Grid<f64> {
    let mut use_ = Grid::new(problem.services_len(), problem.edges_len());
    for (service, value) in problem.services() {
        for area in problem.areas() {
            use_.set(
                service,
                area,
                value.cpu_per_request.as_f64() * rates.get(service, area),
            );
        }
    }
    use_
}

/// Replicas of every instance; 0 where a service is not placed and nothing is routed.
pub(super) fn replicas(problem: &Problem, placement: &DensePlacement, cpu_cores: &Grid<f64>) -> Grid<u32> {
    let mut replicas = Grid::new(problem.services_len(), problem.edges_len());
    for (service, _) in problem.services() {
        for area in problem.areas().filter(|area| placement.runs(service, *area)) {
            if let Some(site) = problem.site(service, area) {
                replicas.set(service, area, of_site(site, cpu_cores.get(service, area)));
            }
        }
    }
    replicas
}

/// max(⌈U / (threshold · request)⌉, minimum): what an autoscaler on CPU settles at. Without a CPU request there is
/// nothing to compare the use with: the minimum.
pub(crate) fn of_site(site: &Site, cpu_cores: f64) -> u32 {
    let one = site.threshold.as_f64() * site.cpu_request.as_f64();
    if one <= 0.0 {
        return site.min_replicas;
    }
    whole((cpu_cores / one - ROUNDING).ceil()).max(site.min_replicas)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "`as` saturates, and no application has 2^32 replicas"
)]
fn whole(value: f64) -> u32 {
    value as u32
}

/// Traffic that a link carries, bit/s: no more than its bandwidth.
pub(super) fn used_bps(traffic_bps: f64, edge: &Edge) -> f64 {
    edge.bandwidth
        .map_or(traffic_bps, |bandwidth| traffic_bps.min(bandwidth.as_f64()))
}

pub(super) fn cost(problem: &Problem, replicas: &Grid<u32>, used_bps: &[f64]) -> Cost {
    let edges = problem
        .edges()
        .zip(used_bps)
        .map(|((edge, value), used)| EdgeCost {
            replicas: replicas_cost(problem, replicas, AreaIx::Edge(edge)),
            network: network_cost(*used, value),
        });
    Cost {
        cloud: replicas_cost(problem, replicas, AreaIx::Cloud),
        edges: edges.collect(),
    }
}

/// Σ_i replicas(i,a)·(CPU price·CPU request + memory price·memory request).
fn replicas_cost(problem: &Problem, replicas: &Grid<u32>, area: AreaIx) -> Money {
    let sum: f64 = problem
        .services()
        .map(|(service, _)| f64::from(replicas.get(service, area)) * replica_price(problem, service, area))
        .sum();
    Money::nearest(sum)
}

/// Price of one replica of a service in an area for an hour.
pub(crate) fn replica_price(problem: &Problem, service: ServiceIx, area: AreaIx) -> f64 {
    let (Some(site), Some(area)) = (problem.site(service, area), problem.area(area)) else {
        return 0.0;
    };
    area.prices.cpu_core_hour.as_f64() * site.cpu_request.as_f64()
        + area.prices.memory_gb_hour.as_f64() * site.memory_request.as_f64()
}

/// Price of a GB · bit/s used · 3600 s / 8 bit / 1e9.
fn network_cost(used_bps: f64, edge: &Edge) -> Money {
    Money::nearest(bps_price(edge) * used_bps)
}

/// Price of a bit/s for an hour.
pub(crate) fn bps_price(edge: &Edge) -> f64 {
    edge.traffic_gb.as_f64() * 3600.0 / 8.0 / 1e9
}
