//! What the planner counts with, and the replicas that services need at an edge.

use std::collections::BTreeMap;

use gma_core::cluster::{Cluster, RoutingPlan};
use gma_core::decide::Replicas;
use gma_core::ids::{AreaName, ServiceName};
use gma_core::measured::Settings;
use gma_core::model::{AreaIx, DensePlacement, Problem, Shares, evaluate};

use super::MeasuredPlanner;

/// Use over request above which a replica's requests wait longer than they are served: the mean wait of M/M/1 is
/// 9 times the service time at 0.9.
const MOST_USE: f64 = 0.9;

/// At the measured rates, of every service that callers at `edge` find there under `routing`.
pub(super) fn replicas(
    problem: &Problem,
    edge: &AreaName,
    routing: &RoutingPlan,
) -> BTreeMap<ServiceName, Replicas> {
    let Some(ix) = problem.edge_by_name(edge) else {
        return BTreeMap::new();
    };
    let shares = Shares::from_plan(problem, routing);
    let placed = |name: &ServiceName| {
        let callers = routing.0.get(name).and_then(|callers| callers.get(edge));
        callers.is_some_and(|weights| weights.contains_key(edge))
    };
    let mut placement = DensePlacement::cloud_only(problem);
    for (service, value) in problem.services() {
        placement.set(ix, service, placed(&value.name));
    }
    let result = evaluate(problem, &placement, &shares);
    let area = AreaIx::Edge(ix);
    let services = problem.services().filter(|(_, value)| placed(&value.name));
    let needs = services.map(|(service, value)| {
        let request = value
            .sites
            .get(area.position())
            .map_or(0.0, |site| site.cpu_request.as_f64());
        let wanted = result.replicas.get(service, area);
        let least = if request > 0.0 {
            (result.cpu_cores.get(service, area) / (MOST_USE * request)).ceil() as u32
        } else {
            1
        };
        let least = least.clamp(1, wanted.max(1));
        (value.name.clone(), Replicas { wanted, least })
    });
    needs.collect()
}

impl MeasuredPlanner {
    /// Counts with other prices, capacities and pins; what was learned stays.
    pub fn set_settings(&mut self, settings: Settings) {
        let learned = std::mem::take(&mut self.settings.learned);
        self.settings = Settings { learned, ..settings };
    }
}

/// The cluster as it will be once autoscalers have done what they want: use is predicted from what they settle at.
pub(super) fn settled(cluster: &Cluster) -> Cluster {
    let mut cluster = cluster.clone();
    for instance in &mut cluster.instances {
        instance.replicas = instance.autoscaler_wants.unwrap_or(instance.replicas);
    }
    cluster
}
