//! Where calls go: w[caller area][service][area], real numbers that sum to 1 over the areas.

use super::ix::{AreaIx, EdgeIx, Grid, ServiceIx};
use super::placement::DensePlacement;
use super::problem::Problem;
use super::spec::Standby;
use crate::cluster::RoutingPlan;
use crate::routing;

/// Shares of the calls of each area's callers to each service: real numbers that sum to 1 over the areas.
///
/// A weight W of an area with k localities becomes k ⌈W/k⌉ (istiod, `loadbalancer.go`, rounds each locality's part up), so
/// w = k ⌈W/k⌉ / Σ of that over the areas: a standby of 1 on a cloud of three zones is 3 of 102.
///
/// ```
/// use gma_core::model::{AreaIx, DensePlacement, EdgeIx, Problem, ServiceIx, Shares};
/// # let mut spec = gma_core::example::problem().spec().clone();
/// spec.cloud.localities = 3;
/// let problem = Problem::try_new(spec).unwrap();
/// let mut placement = DensePlacement::cloud_only(&problem);
/// placement.set(EdgeIx(0), ServiceIx(0), true);
/// let share = Shares::resting(&problem, &placement).get(AreaIx::Edge(EdgeIx(0)), ServiceIx(0), AreaIx::Cloud);
/// assert!((share - 3.0 / 102.0).abs() < 1e-15);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Shares {
    /// One grid a caller area.
    by_caller: Vec<Grid<f64>>,
}

// === impl Shares ===

impl Shares {
    /// All calls to the cloud.
    pub fn cloud_only(problem: &Problem) -> Self {
        let mut grid = Grid::new(problem.services_len(), problem.edges_len());
        problem
            .services()
            .for_each(|(service, _)| grid.set(service, AreaIx::Cloud, 1.0));
        Self {
            by_caller: vec![grid; problem.edges_len() + 1],
        }
    }

    /// The routing at rest (the matrix in [`crate::routing`]): callers at an edge use their own instance where there is one and
    /// leave the standby share, after istiod's rounding, to the cloud; all others use the cloud.
    pub fn resting(problem: &Problem, placement: &DensePlacement) -> Self {
        let mut this = Self::cloud_only(problem);
        for (edge, _) in problem.edges() {
            let local = edge_share(problem, edge);
            for (service, _) in problem
                .services()
                .filter(|(service, _)| placement.contains(edge, *service))
            {
                this.put(AreaIx::Edge(edge), service, edge, local);
            }
        }
        this
    }

    /// The shares that a routing plan brings about; callers and services that it does not name use the cloud.
    pub fn from_plan(problem: &Problem, plan: &RoutingPlan) -> Self {
        let mut this = Self::cloud_only(problem);
        for (service, callers) in &plan.0 {
            let Some(service) = problem.service_by_name(service) else {
                continue;
            };
            for (caller, weights) in callers {
                let Some(caller) = problem.area_by_name(caller) else {
                    continue;
                };
                let shares: Vec<(AreaIx, f64)> = weights
                    .iter()
                    .filter_map(|(area, weight)| {
                        let area = problem.area_by_name(area)?;
                        let rounded = routing::area_weight(*weight, problem.area(area)?.localities);
                        Some((area, f64::from(rounded)))
                    })
                    .collect();
                let total: f64 = shares.iter().map(|(_, share)| share).sum();
                let Some(grid) = this.by_caller.get_mut(caller.position()).filter(|_| total > 0.0) else {
                    continue;
                };
                grid.set(service, AreaIx::Cloud, 0.0);
                shares
                    .into_iter()
                    .for_each(|(area, share)| grid.set(service, area, share / total));
            }
        }
        this
    }

    /// Share of the calls from `caller` to `service` that go to `area`.
    pub fn get(&self, caller: AreaIx, service: ServiceIx, area: AreaIx) -> f64 {
        self.by_caller
            .get(caller.position())
            .map_or(0.0, |grid| grid.get(service, area))
    }

    /// Gives `share` (brought into 0 to 1) of the calls from `caller` to `service` to an edge, the rest to the cloud.
    pub fn put(&mut self, caller: AreaIx, service: ServiceIx, edge: EdgeIx, share: f64) {
        let edges = self.by_caller.len().saturating_sub(1);
        if let Some(grid) = self.by_caller.get_mut(caller.position()) {
            let share = share.clamp(0.0, 1.0);
            AreaIx::all(edges).for_each(|area| grid.set(service, area, 0.0));
            grid.set(service, AreaIx::Cloud, 1.0 - share);
            grid.set(service, AreaIx::Edge(edge), share);
        }
    }
}

/// Share of an edge's own instance at rest.
pub(crate) fn edge_share(problem: &Problem, edge: EdgeIx) -> f64 {
    let of_edge = problem.edge(edge).and_then(|edge| edge.standby);
    let Standby::Distribute(percent) = of_edge.unwrap_or(problem.spec().standby) else {
        return 1.0;
    };
    let localities = |area| problem.area(area).map_or(1, |area| area.localities);
    let local = routing::area_weight(100_u32.saturating_sub(percent), localities(AreaIx::Edge(edge)));
    let cloud = routing::area_weight(percent, localities(AreaIx::Cloud));
    f64::from(local) / f64::from(local.saturating_add(cloud)).max(1.0)
}
