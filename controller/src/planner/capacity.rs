//! What the planner counts with, and the replicas that services need at an edge.

use std::collections::{BTreeMap, BTreeSet};

use gma_core::cluster::{Cluster, RoutingPlan};
use gma_core::decide::Replicas;
use gma_core::ids::{AreaName, ServiceName};
use gma_core::measured::Settings;
use gma_core::model::{AreaIx, DensePlacement, Problem, Shares, evaluate};
use gma_core::snapshot::Snapshot;

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

    /// Replicas that the cloud is short of, at the measured rates, if an edge dies and its users come to the cloud. Empty
    /// where that can't be said, too.
    pub fn short_if_lost(
        &self,
        edge: &AreaName,
        snapshot: &Snapshot,
        cluster: &Cluster,
    ) -> BTreeMap<ServiceName, u32> {
        let settled = settled(cluster);
        let alone = std::slice::from_ref(edge);
        let problem = Problem::from_measurements(snapshot, &settled, &self.settings, alone).ok();
        let Some((problem, ix)) = problem.and_then(|problem| {
            let ix = problem.edge_by_name(edge)?;
            Some((problem, ix))
        }) else {
            return BTreeMap::new();
        };
        let current = DensePlacement::from_cluster(&problem, &settled);
        let without = current.with_edge(&problem, ix, &BTreeSet::new());
        let needed = evaluate(&problem, &without, &Shares::resting(&problem, &without)).replicas;
        let placed = problem
            .services()
            .filter(|(service, _)| current.contains(ix, *service));
        let short = placed.filter_map(|(service, value)| {
            let own = cluster.instances.iter().filter(|one| one.service == value.name);
            let in_cloud = own.filter(|one| !self.is_edge(&one.area));
            let ready: u32 = in_cloud.map(|one| one.replicas).sum();
            let short = needed.get(service, AreaIx::Cloud).saturating_sub(ready);
            (short > 0).then(|| (value.name.clone(), short))
        });
        short.collect()
    }

    fn is_edge(&self, area: &AreaName) -> bool {
        self.settings.edges.iter().any(|edge| edge.area.name == *area)
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
