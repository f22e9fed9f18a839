//! One `EdgePlacement` in the hands of the leader.

use gma_core::cluster::{Cluster, RoutingPlan};
use gma_core::decide::{Config, Effect, State};
use gma_core::ids::{ServiceName, Timestamp};
use gma_core::model::Pin;
use gma_core::sightings::Sightings;
use gma_core::units::{CpuCores, Gigabytes};

use crate::act::Hand;
use crate::error::ActError;
use crate::index::Owner;
use crate::kube_api::{Id, Kube};
use crate::memory::Memory;
use crate::settings::Wanted;
use crate::status::{Told, status};
use crate::teller::Teller;
use crate::view::{View, selects, view};

/// An object that is looked after.
#[derive(Debug)]
pub struct Object {
    pub(crate) hand: Hand,
    pub(crate) wanted: Wanted,
    pub(crate) sightings: Sightings,
    /// The last order of weights.
    pub(crate) ordered: RoutingPlan,
    memory: Memory,
    teller: Teller,
    /// Of the last look.
    held: Vec<(ServiceName, String, String)>,
}

impl Object {
    /// Takes an object over.
    pub fn new(kube: &Kube, id: &Id, wanted: Wanted) -> Self {
        let mut object = Self {
            hand: Hand::new(kube, id),
            memory: Memory::new(kube.client.clone(), &kube.settings.namespace, &id.key, &id.uid),
            teller: Teller::new(kube, id),
            wanted,
            sightings: Sightings::new(),
            ordered: RoutingPlan::default(),
            held: Vec::new(),
        };
        object.complete();
        object
    }

    /// What it wants, with what the cluster adds: services that can't be placed are pinned to the cloud.
    pub const fn wanted(&self) -> &Wanted {
        &self.wanted
    }

    /// `namespace/name`.
    pub fn path(&self) -> String {
        self.hand.path()
    }

    /// Adds what the cluster knows and the spec does not say: what a replica of the cloud's Deployment requests, and pins to the
    /// cloud of what can't be placed: pods of a StatefulSet or DaemonSet, pods with a volume claim, and services that have no
    /// Deployment for an edge.
    fn complete(&mut self) {
        let default = self.wanted.settings.default_service;
        let services = self.seen(|seen| {
            let mut services = Vec::new();
            for (name, service) in seen.index.services.of(&seen.hosts.namespace) {
                let host = seen.hosts.of(name);
                let mut settings = seen
                    .wanted
                    .settings
                    .services
                    .get(&host)
                    .copied()
                    .unwrap_or(default);
                let deployment = seen.cloud_deployment(&host).ok();
                let deployment =
                    deployment.and_then(|name| seen.index.deployments.get(&seen.hosts.namespace, &name));
                if let Some(cores) = deployment
                    .and_then(|deployment| deployment.cpu_cores)
                    .filter(|cores| *cores > 0.0)
                {
                    settings.cpu_request = CpuCores::nearest(cores);
                }
                if let Some(bytes) = deployment
                    .and_then(|deployment| deployment.memory_bytes)
                    .filter(|bytes| *bytes > 0.0)
                {
                    settings.memory_request = Gigabytes::nearest(bytes / 1e9);
                }
                let listed = seen.wanted.services.get(&host);
                let mut pods = seen.index.pods.of(&seen.hosts.namespace).map(|(_, pod)| pod);
                let is_stateful = pods.any(|pod| {
                    let is_other = matches!(pod.owner, Some(Owner::Other(_)));
                    selects(&service.selector, &pod.labels) && (pod.has_volume_claim || is_other)
                });
                let has_no_place = listed.is_none_or(|listed| listed.edge_deployments.is_empty());
                if listed.is_none_or(|listed| listed.pin.is_none()) && (is_stateful || has_no_place) {
                    settings.pin = Pin::Cloud;
                }
                services.push((host, settings));
            }
            services
        });
        self.wanted.settings.services.extend(services);
    }

    /// What is there now.
    ///
    /// # Errors
    /// What is not known yet, and why.
    pub fn observe(&mut self, sightings: Sightings) -> Result<View, String> {
        let missing = self.hand.kube.missing();
        if !missing.is_empty() {
            return Err(missing.join("; "));
        }
        self.sightings = sightings;
        let view = self.seen(view);
        let held: Vec<_> = view
            .held
            .iter()
            .map(|(host, held)| (host.clone(), crate::act::why(&held.why), held.fix.clone()))
            .collect();
        for (host, why, _) in held.iter().filter(|held| !self.held.contains(held)) {
            self.teller.warn("RoutingHeld", &format!("{host}: {why}"));
        }
        self.held = held;
        Ok(view)
    }

    /// Performs an effect. Idempotent; returns once the API server has taken it.
    ///
    /// # Errors
    /// See [`ActError`].
    pub async fn perform(&mut self, effect: &Effect) -> Result<(), ActError> {
        self.hand.kube.check_leading()?;
        match effect {
            Effect::Route { plan } => self.route(plan).await,
            Effect::Ensure {
                service,
                area,
                replicas,
            } => self.ensure(service, area, *replicas).await,
            Effect::Remove { service, area } => self.remove(service, area).await,
            Effect::Scale {
                service, replicas, ..
            } => self.scale(service, *replicas).await,
            Effect::Record { .. } => Ok(()),
        }
    }

    /// What an earlier leader kept.
    ///
    /// # Errors
    /// See [`ActError`].
    pub async fn load(&mut self) -> Result<Option<Vec<u8>>, ActError> {
        self.memory.load().await
    }

    /// Keeps a memory instead of the former.
    ///
    /// # Errors
    /// See [`ActError`]; then the former is still there.
    pub async fn save(&mut self, memory: Vec<u8>) -> Result<(), ActError> {
        self.hand.kube.check_leading()?;
        self.memory.save(memory).await
    }

    /// Keeps what can't be read beside the memory; gives the place.
    ///
    /// # Errors
    /// See [`ActError`].
    pub async fn set_aside(&mut self, memory: Vec<u8>) -> Result<String, ActError> {
        self.hand.kube.check_leading()?;
        self.memory.set_aside(memory).await
    }

    /// Says what is done and why in the object's status and events; returns at once. `now` counts from 1970.
    pub fn tell(
        &mut self,
        now: Timestamp,
        config: &Config,
        state: &State,
        cluster: &Cluster,
        unsaved: Option<&str>,
    ) {
        let status = status(&Told {
            now,
            generation: self.hand.id.generation,
            config,
            state,
            cluster,
            held: &self.held,
            unsaved,
        });
        self.teller.tell(status, state);
    }
}
