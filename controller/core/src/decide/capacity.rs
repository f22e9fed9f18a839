//! What moves ask of the cloud: replicas for the traffic that comes back to it.
//!
//! Edges don't fight over a count: what is asked for is the most that any of them needs. Where an autoscaler owns the
//! count, a request ends with its move. Where nobody does, it stays for as long as the traffic is in the cloud, and the
//! count before the first request comes back with the last one.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Effect;
use super::config::Config;
use super::routes;
use crate::cluster::{Cluster, Instance};
use crate::ids::{AreaName, ServiceName};

/// More replicas of one service are not asked for: a prediction that far off is wrong.
const MOST_REPLICAS: u32 = 1_000;

/// By service.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Requests(BTreeMap<ServiceName, Request>);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Request {
    /// Replicas before anybody asked.
    before: u32,
    /// Replicas that each edge's traffic needs.
    of: BTreeMap<AreaName, u32>,
}

impl Requests {
    /// `edge` needs `replicas` of a service in the cloud. Whether it has them.
    pub(super) fn ask(
        &mut self,
        cluster: &Cluster,
        config: &Config,
        edge: &AreaName,
        service: &ServiceName,
        replicas: u32,
    ) -> bool {
        let Some(instance) = in_cloud(cluster, config, service) else {
            return false;
        };
        let there = instance.replicas;
        let wanted = replicas.min(MOST_REPLICAS);
        if wanted > there || self.0.contains_key(service) {
            let request = self.0.entry(service.clone()).or_insert_with(|| Request {
                before: there,
                of: BTreeMap::new(),
            });
            request.of.insert(edge.clone(), wanted);
        }
        there >= wanted
    }

    /// What is to be done for all requests. `moving` are the edges at which a service moves.
    pub(super) fn effects(
        &mut self,
        cluster: &Cluster,
        config: &Config,
        moving: impl Fn(&ServiceName) -> Option<AreaName>,
    ) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.0.retain(|service, request| {
            let Some(instance) = in_cloud(cluster, config, service) else {
                return false;
            };
            let scaled = instance.autoscaler_wants.is_some();
            let mover = moving(service);
            request.of.retain(|edge, _| {
                let in_the_cloud = routes::life(cluster, service, edge).is_none();
                mover.as_ref() == Some(edge) || (!scaled && in_the_cloud)
            });
            let most = request.of.values().copied().max();
            // An autoscaler takes the count down by itself.
            let wanted = most.map_or(request.before, |most| most.max(request.before));
            let is_short = instance.replicas < wanted;
            let is_over = !scaled && most.is_none() && instance.replicas > wanted;
            if (is_short && most.is_some()) || is_over {
                effects.push(Effect::Scale {
                    service: service.clone(),
                    area: config.cloud.clone(),
                    replicas: wanted,
                });
            }
            most.is_some() || is_over
        });
        effects
    }
}

fn in_cloud<'a>(cluster: &'a Cluster, config: &Config, service: &ServiceName) -> Option<&'a Instance> {
    cluster
        .instances
        .iter()
        .find(|instance| instance.service == *service && instance.area == config.cloud)
}
