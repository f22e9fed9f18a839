//! Replicas at the edge for the traffic that a move brings.
//!
//! An autoscaler looks each 15 s and adds what it missed; a ramp is over before that. So a new instance is made with the
//! count that its whole traffic will need, and no step is made that the replicas which are Ready can't carry.

use std::collections::{BTreeMap, BTreeSet};

use super::Effect;
use super::progress::Turn;
use crate::cluster::{Instance, Phase, RoutingPlan};
use crate::ids::ServiceName;

/// More replicas of one instance are not asked for: a prediction that far off is wrong.
const MOST: u32 = 1_000;

/// Makes sure of the instance of a service, with the replicas that it needs under `routing`.
pub(super) fn ensure(services: &BTreeSet<ServiceName>, routing: &RoutingPlan, turn: &mut Turn<'_>) {
    if services.is_empty() {
        return;
    }
    let needs = turn
        .planner
        .replicas(turn.edge, routing, turn.snapshot, turn.cluster);
    for service in services {
        let wanted = needs.get(service).map_or(1, |need| need.wanted);
        push(service, wanted, turn);
    }
}

/// Which of `services` lack the replicas for `routing`. Where nobody owns their count, they are asked for.
///
/// Where an autoscaler does, those that are on their way are waited for; and as long as the ones there are too few even
/// without any reserve, it is the autoscaler's turn.
pub(super) fn short(
    services: &BTreeSet<ServiceName>,
    routing: &RoutingPlan,
    turn: &mut Turn<'_>,
) -> BTreeSet<ServiceName> {
    let needs = turn
        .planner
        .replicas(turn.edge, routing, turn.snapshot, turn.cluster);
    let ready: BTreeMap<ServiceName, (u32, Option<u32>)> = turn
        .cluster
        .instances
        .iter()
        .filter(|instance| instance.area == *turn.edge && instance.phase == Phase::Ready)
        .map(
            |Instance {
                 service,
                 replicas,
                 autoscaler_wants,
                 ..
             }| { (service.clone(), (*replicas, *autoscaler_wants)) },
        )
        .collect();
    let mut short = BTreeSet::new();
    for service in services {
        let (Some(need), Some((there, wants))) = (needs.get(service), ready.get(service)) else {
            continue;
        };
        let is_short = match wants {
            None => *there < need.wanted.min(MOST),
            Some(wants) => *there < need.least || *there < need.wanted.min(*wants),
        };
        if is_short {
            if wants.is_none() {
                push(service, need.wanted, turn);
            }
            short.insert(service.clone());
        }
    }
    short
}

fn push(service: &ServiceName, replicas: u32, turn: &mut Turn<'_>) {
    turn.effects.push(Effect::Ensure {
        service: service.clone(),
        area: turn.edge.clone(),
        replicas: replicas.clamp(1, MOST),
    });
}
