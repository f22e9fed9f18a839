//! The world as a platform: what it shows, and what it does when told.

use std::time::Duration;

use super::World;
use super::instance::{Instance, MOST_REPLICAS};
use crate::cluster::{self, Cluster, RoutingPlan, Weights};
use crate::decide::Effect;
use crate::ids::{AreaName, ServiceName};

// === impl World ===

impl World {
    /// What the platform shows.
    pub fn cluster(&self) -> Cluster {
        let mut instances = Vec::new();
        for (service, areas) in self.spec.services.iter().zip(&self.instances) {
            for (area, instance) in areas.iter().enumerate() {
                let Some(instance) = instance else { continue };
                let phase = instance.phase();
                instances.push(cluster::Instance {
                    service: service.name.clone(),
                    area: self.area_name(area),
                    phase,
                    reason: (phase == cluster::Phase::Failed).then(|| "its process ended".to_owned()),
                    replicas: instance.ready() as u32,
                    cpu_seconds: Some(instance.cpu_s),
                    memory_bytes: None,
                    autoscaler_wants: instance.wants,
                });
            }
        }
        Cluster {
            instances,
            routing: self.written.clone(),
            ..Cluster::default()
        }
    }

    /// Performs an effect. Idempotent. What names something that doesn't exist does nothing.
    pub fn perform(&mut self, effect: &Effect) {
        match effect {
            Effect::Ensure {
                service,
                area,
                replicas,
            } => {
                let (Some(service), Some(area)) = (self.service(service), self.area(area)) else {
                    return;
                };
                let there = self.take(service, area);
                let is_owned = there.as_ref().is_some_and(|there| there.wants.is_some());
                let wanted = (*replicas).clamp(1, MOST_REPLICAS);
                let mut instance =
                    there.unwrap_or_else(|| Instance::new(self.now, self.spec.autoscaled.then_some(wanted)));
                let count = if is_owned { 1 } else { wanted as usize };
                let more = count.max(instance.replicas.len());
                self.scale(&mut instance, service, area, more);
                self.put(service, area, Some(instance));
            }
            Effect::Remove { service, area } => {
                let (Some(service), Some(area)) = (self.service(service), self.area(area)) else {
                    return;
                };
                for replica in self
                    .take(service, area)
                    .into_iter()
                    .flat_map(|gone| gone.replicas)
                {
                    self.end(replica.proxy);
                }
            }
            Effect::Scale {
                service,
                area,
                replicas,
            } => self.ask_for(service, area, *replicas),
            Effect::Route { plan } => self.route(plan),
            Effect::Record { .. } => {}
        }
    }

    fn ask_for(&mut self, service: &ServiceName, area: &AreaName, replicas: u32) {
        let (Some(service), Some(area)) = (self.service(service), self.area(area)) else {
            return;
        };
        let Some(mut instance) = self.take(service, area) else {
            return;
        };
        let mut wants = replicas;
        if let Some(autoscaler) = &mut instance.wants {
            *autoscaler = (*autoscaler).max(replicas);
            wants = *autoscaler;
        }
        self.scale(&mut instance, service, area, wants as usize);
        self.put(service, area, Some(instance));
    }

    /// Weights are written at once, and reach the proxies later, in the order in which they were written.
    fn route(&mut self, plan: &RoutingPlan) {
        self.written = plan.clone();
        let mut shares = vec![vec![0; self.spec.edges.len() + 1]; self.spec.services.len()];
        for (service, callers) in &plan.0 {
            for (caller, weights) in callers {
                let own = |weights: &Weights| weights.get(caller).copied().unwrap_or(0);
                if let (Some(service), Some(area @ 1..)) = (self.service(service), self.area(caller))
                    && let Some(share) = shares.get_mut(service).and_then(|areas| areas.get_mut(area))
                {
                    *share = own(weights);
                }
            }
        }
        let (least, most) = self.spec.propagation;
        let seconds = self.draw.between(least.as_secs_f64(), most.as_secs_f64());
        let at = self.now + Duration::from_secs_f64(seconds);
        let at = self.on_their_way.back().map_or(at, |(last, _)| at.max(*last));
        self.on_their_way.push_back((at, shares));
    }

    fn service(&self, name: &ServiceName) -> Option<usize> {
        self.spec.services.iter().position(|spec| spec.name == *name)
    }

    fn area(&self, name: &AreaName) -> Option<usize> {
        let edge = || self.spec.edges.iter().position(|edge| edge.name == *name);
        if *name == self.spec.cloud {
            Some(0)
        } else {
            edge().map(|edge| edge + 1)
        }
    }

    /// Name of an area: 0 is the cloud.
    pub fn area_name(&self, area: usize) -> AreaName {
        let edge = area.checked_sub(1).and_then(|edge| self.spec.edges.get(edge));
        edge.map_or(&self.spec.cloud, |edge| &edge.name).clone()
    }
}
