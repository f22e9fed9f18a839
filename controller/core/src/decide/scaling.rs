//! What autoscalers want, and since when.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::visits::Instance;
use crate::cluster::Cluster;
use crate::ids::{AreaName, ServiceName, Timestamp};

/// By area and service. Bounded by the instances of the last look: what is gone is forgotten.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Autoscalers(BTreeMap<AreaName, BTreeMap<ServiceName, Desired>>);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Desired {
    replicas: u32,
    /// When it changed last; none as long as it is the first that was seen.
    changed: Option<Timestamp>,
}

impl Autoscalers {
    /// Takes in a look at the platform.
    pub(super) fn observe(&mut self, cluster: &Cluster, now: Timestamp) {
        let mut before = std::mem::take(&mut self.0);
        for instance in &cluster.instances {
            let Some(replicas) = instance.autoscaler_wants else {
                continue;
            };
            let known = before
                .get_mut(&instance.area)
                .and_then(|services| services.remove(&instance.service));
            let changed = known.and_then(|known| {
                if known.replicas == replicas {
                    known.changed
                } else {
                    Some(now)
                }
            });
            let services = self.0.entry(instance.area.clone()).or_default();
            services.insert(instance.service.clone(), Desired { replicas, changed });
        }
    }

    /// Those that changed within `quiet`, and what they want.
    pub(super) fn at_work(&self, quiet: Duration, now: Timestamp) -> impl Iterator<Item = (Instance, u32)> {
        let all = self.0.iter().flat_map(|(area, services)| {
            services
                .iter()
                .map(move |(service, desired)| ((service.clone(), area.clone()), *desired))
        });
        all.filter(move |(_, desired)| desired.changed.is_some_and(|changed| now.since(changed) < quiet))
            .map(|(instance, desired)| (instance, desired.replicas))
    }
}
