//! Weights that the action sequence writes. Callers in the cloud, and callers at an edge of a service that is not
//! placed there, use the cloud; callers at an edge use their own edge's instance with the rest on the cloud.

use std::collections::BTreeMap;

use super::config::Config;
use super::phase::{EdgeState, Phase as Doing};
use crate::cluster::{Cluster, Instance, Phase, RoutingPlan, Weights};
use crate::ids::{AreaName, ServiceName};

/// The plan in force, with the default (all to the cloud) written out for every service of the cloud and every
/// managed caller area.
pub(super) fn whole(cluster: &Cluster, config: &Config) -> RoutingPlan {
    let mut plan = cluster.routing.clone();
    let in_cloud = cluster
        .instances
        .iter()
        .filter(|instance| instance.area == config.cloud);
    for Instance { service, .. } in in_cloud {
        plan.0.entry(service.clone()).or_default();
    }
    for callers in plan.0.values_mut() {
        for caller in config.edges.keys().chain([&config.cloud]) {
            callers
                .entry(caller.clone())
                .or_insert_with(|| Weights::from([(config.cloud.clone(), 100)]));
        }
    }
    plan
}

/// Sets the share of `edge` for its own callers of `service`.
pub(super) fn set(
    plan: &mut RoutingPlan,
    service: &ServiceName,
    edge: &AreaName,
    cloud: &AreaName,
    share: u32,
) {
    let share = share.min(100);
    let weights = [(edge, share), (cloud, 100 - share)]
        .into_iter()
        .filter(|(_, weight)| *weight > 0)
        .map(|(area, weight)| (area.clone(), weight))
        .collect();
    plan.0
        .entry(service.clone())
        .or_default()
        .insert(edge.clone(), weights);
}

/// Gives every edge the share that readiness gives it: all where its instance is Ready, else none.
pub(super) fn set_by_readiness(plan: &mut RoutingPlan, cluster: &Cluster, config: &Config) {
    let services: Vec<ServiceName> = plan.0.keys().cloned().collect();
    for service in services {
        for edge in config.edges.keys() {
            let share = if is_ready(cluster, &service, edge) { 100 } else { 0 };
            set(plan, &service, edge, &config.cloud, share);
        }
    }
}

/// Share of `edge` for its own callers of `service`; 0 where no rule says otherwise.
pub(super) fn share(plan: &RoutingPlan, service: &ServiceName, edge: &AreaName) -> u32 {
    plan.0
        .get(service)
        .and_then(|callers| callers.get(edge))
        .and_then(|weights| weights.get(edge))
        .copied()
        .unwrap_or(0)
}

/// Life of the instance of `service` in `area`, if there is one.
pub(super) fn life(cluster: &Cluster, service: &ServiceName, area: &AreaName) -> Option<Phase> {
    cluster
        .instances
        .iter()
        .find(|instance| instance.service == *service && instance.area == *area)
        .map(|instance| instance.phase)
}

/// Whether the instance of `service` in `area` serves.
pub(super) fn is_ready(cluster: &Cluster, service: &ServiceName, area: &AreaName) -> bool {
    life(cluster, service, area) == Some(Phase::Ready)
}

/// Whether a rule of `service` is in force.
pub(super) fn has_rule(cluster: &Cluster, service: &ServiceName) -> bool {
    let rule = cluster.routing.0.get(service);
    rule.is_some_and(|rule| !rule.is_empty())
}

/// Services of plans under way, and where.
pub(super) fn busy(edges: &BTreeMap<AreaName, EdgeState>) -> BTreeMap<ServiceName, AreaName> {
    let moving = edges.iter().flat_map(|(edge, machine)| {
        let services = machine
            .phase
            .plan()
            .map(|plan| plan.add.iter().chain(&plan.remove).chain(plan.trigger.service()));
        services
            .into_iter()
            .flatten()
            .map(|service| (service.clone(), edge.clone()))
    });
    moving.collect()
}

/// Services whose weights or instances change, and where: of all plans but those that are verified.
pub(super) fn moving(edges: &BTreeMap<AreaName, EdgeState>) -> BTreeMap<ServiceName, AreaName> {
    let mut moving = busy(edges);
    moving.retain(|_, edge| {
        let phase = edges.get(edge).map(|machine| &machine.phase);
        !matches!(phase, Some(Doing::Verifying { .. }))
    });
    moving
}
