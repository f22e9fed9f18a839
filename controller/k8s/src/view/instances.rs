//! Instances: which pods are a service's in which area, and which Deployments they are of.

use std::collections::{BTreeMap, BTreeSet};

use gma_core::cluster::{Instance, Phase};
use gma_core::ids::{AreaName, ServiceName};

use super::{Seen, View, selects};
use crate::derive::area_label;
use crate::index::{Deployment, InUse, Owner, Pod, Service};
use crate::locality::Locality;

/// The pods of a service in an area.
#[derive(Debug, Default)]
pub(crate) struct Group<'a> {
    ready: u32,
    failure: Option<&'a str>,
    /// Why one that has not failed is not Ready.
    waits: Option<String>,
    deployments: BTreeSet<&'a str>,
    /// Pods of which it is known what they use, and what.
    known: u32,
    in_use: InUse,
}

// === impl Group ===

impl Group<'_> {
    /// What all of its pods use: those that are too young to be measured count as the others.
    fn in_use(&self) -> Option<InUse> {
        let times = f64::from(self.ready.max(self.known)) / f64::from(self.known);
        (self.known > 0).then_some(InUse {
            cpu_cores: self.in_use.cpu_cores * times,
            memory_bytes: self.in_use.memory_bytes * times,
        })
    }
}

// === impl Seen ===

impl<'a> Seen<'a> {
    /// A service's pods by area, and the locality of one that is Ready and in none.
    ///
    /// The pods of an edge's Deployment are that edge's, and none of them is Ready elsewhere.
    pub(crate) fn groups(
        &self,
        host: &ServiceName,
        service: &Service,
        pods: &[&'a Pod],
    ) -> (BTreeMap<AreaName, Group<'a>>, Option<Locality>) {
        let mut groups: BTreeMap<AreaName, Group<'a>> = BTreeMap::new();
        let mut stray = None;
        let in_use = self.index.in_use.get(&self.hosts.namespace);
        for pod in pods.iter().filter(|pod| selects(&service.selector, &pod.labels)) {
            let deployment = match &pod.owner {
                Some(Owner::Deployment(name)) => Some(name.as_str()),
                Some(Owner::Other(_)) | None => None,
            };
            let edge = deployment.and_then(|name| self.edge_of(host, name));
            let place = self.place(pod);
            let (area, is_astray) = match (&place, edge) {
                (Some((_, Some(area))), Some(edge)) => (edge, *area != edge),
                (Some((_, Some(area))), None) => (*area, false),
                (Some((locality, None)), edge) => {
                    if pod.is_ready {
                        stray = Some(locality.clone());
                    }
                    match edge {
                        Some(edge) => (edge, true),
                        None => continue,
                    }
                }
                (None, Some(edge)) => (edge, false),
                (None, None) => continue,
            };
            let group = groups.entry(area.clone()).or_default();
            group.ready += u32::from(pod.is_ready && !is_astray);
            if let Some(used) = in_use.and_then(|pods| pods.get(&pod.name)) {
                group.known += 1;
                group.in_use.cpu_cores += used.cpu_cores;
                group.in_use.memory_bytes += used.memory_bytes;
            }
            group.failure = group.failure.or(pod.failure.as_deref());
            if let (None, Some((locality, _)), true) = (&group.waits, &place, is_astray) {
                group.waits = Some(format!("a pod of it runs at {locality}, which is not in {area}"));
            }
            group.waits = group.waits.take().or_else(|| pod.unschedulable.clone());
            group.deployments.extend(deployment);
        }
        (groups, stray)
    }

    /// The edge that a Deployment of a service is for: the spec names it for that edge, or it was made for it.
    pub(crate) fn edge_of(&self, host: &ServiceName, deployment: &str) -> Option<&'a AreaName> {
        let listed = self.wanted.services.get(host);
        let named = listed.into_iter().flat_map(|service| &service.edge_deployments);
        let named = named
            .filter(|(_, name)| *name == deployment)
            .map(|(edge, _)| edge)
            .next();
        named.or_else(|| {
            let found = self.index.deployments.get(&self.hosts.namespace, deployment)?;
            self.made_for(found)
        })
    }

    /// The edge that a Deployment was made for on this object's behalf.
    pub(crate) fn made_for(&self, deployment: &Deployment) -> Option<&'a AreaName> {
        if deployment.object.as_deref() != Some(self.object) {
            return None;
        }
        let area = deployment.labels.get(&area_label())?;
        self.wanted.edges.keys().find(|edge| edge.as_str() == area)
    }

    /// What was made for a service at an edge on this object's behalf: names of Deployments.
    pub(crate) fn made(&self, host: &ServiceName, edge: &AreaName) -> Vec<&'a str> {
        let Some(service) = self.service_of(host) else {
            return Vec::new();
        };
        let deployments = self.index.deployments.of(&self.hosts.namespace);
        deployments
            .filter(|(_, one)| {
                self.made_for(one) == Some(edge) && selects(&service.selector, &one.pod_labels)
            })
            .map(|(name, _)| name)
            .collect()
    }

    /// Replicas that an autoscaler of these Deployments wants.
    fn autoscaler_wants(&self, deployments: &BTreeSet<&str>) -> Option<u32> {
        let autoscalers = self.index.autoscalers.of(&self.hosts.namespace);
        autoscalers
            .filter(|(_, autoscaler)| {
                deployments.contains(autoscaler.deployment.as_str()) && autoscaler.desired > 0
            })
            .map(|(_, autoscaler)| autoscaler.desired)
            .max()
    }

    /// The cloud's Deployment of a service: the one that the spec names, else that of its pods there, else the only one whose
    /// pods the Service would select.
    ///
    /// # Errors
    /// There is none, or more than one.
    pub(crate) fn cloud_deployment(&self, host: &ServiceName) -> Result<String, String> {
        let service = self
            .service_of(host)
            .ok_or_else(|| format!("{host} has no Service with a selector"))?;
        self.cloud_deployment_of(host, service, &self.pods())
    }

    /// As [`Self::cloud_deployment`], where service and pods are known.
    pub(crate) fn cloud_deployment_of(
        &self,
        host: &ServiceName,
        service: &Service,
        pods: &[&'a Pod],
    ) -> Result<String, String> {
        let listed = self.wanted.services.get(host);
        if let Some(name) = listed.and_then(|service| service.cloud_deployment.clone()) {
            return Ok(name);
        }
        let (mut groups, _) = self.groups(host, service, pods);
        let group = groups.remove(&self.wanted.config.cloud).unwrap_or_default();
        let mut found = group.deployments;
        if found.is_empty() {
            let deployments = self.index.deployments.of(&self.hosts.namespace);
            let of_cloud = deployments.filter(|(name, one)| {
                !one.pod_labels.is_empty()
                    && selects(&service.selector, &one.pod_labels)
                    && !one.labels.contains_key(&area_label())
                    && self.edge_of(host, name).is_none()
            });
            found.extend(of_cloud.map(|(name, _)| name));
        }
        match found.iter().collect::<Vec<_>>().as_slice() {
            [one] => Ok((**one).to_owned()),
            [] => Err(format!(
                "{host} has no Deployment with pods in the cloud: name it in spec.services[].cloud.deployment"
            )),
            _ => Err(format!(
                "{host} has several Deployments with pods in the cloud ({}): name one in spec.services[].cloud.deployment",
                found.into_iter().collect::<Vec<_>>().join(", ")
            )),
        }
    }
}

/// A service's instances, those included that are ordered and have no pod yet.
pub(super) fn add_instances(
    seen: &Seen<'_>,
    host: &ServiceName,
    groups: &BTreeMap<AreaName, Group<'_>>,
    view: &mut View,
) {
    let cluster = &mut view.cluster;
    for (area, group) in groups {
        let (phase, reason) = match (group.ready, group.failure) {
            (1.., _) => (Phase::Ready, None),
            (0, Some(why)) => (Phase::Failed, Some(why.to_owned())),
            (0, None) => (Phase::Starting, group.waits.clone()),
        };
        let in_use = group.in_use();
        if let Some(in_use) = in_use {
            view.cores.insert((host.clone(), area.clone()), in_use.cpu_cores);
        }
        cluster.instances.push(Instance {
            service: host.clone(),
            area: area.clone(),
            phase,
            reason,
            replicas: group.ready,
            cpu_seconds: None,
            memory_bytes: in_use.map(|in_use| in_use.memory_bytes as u64),
            autoscaler_wants: seen.autoscaler_wants(&group.deployments),
        });
    }
    for edge in seen
        .wanted
        .edges
        .keys()
        .filter(|edge| !groups.contains_key(*edge))
    {
        let listed = seen.wanted.services.get(host);
        let named = listed.and_then(|service| service.edge_deployments.get(edge));
        let made = seen.made(host, edge);
        let names = named.map(String::as_str).into_iter().chain(made);
        let mut ordered = names
            .filter_map(|name| seen.index.deployments.get(&seen.hosts.namespace, name))
            .filter(|deployment| deployment.replicas > 0);
        let Some(deployment) = ordered.next() else {
            continue;
        };
        cluster.instances.push(Instance {
            service: host.clone(),
            area: edge.clone(),
            phase: if deployment.failure.is_some() {
                Phase::Failed
            } else {
                Phase::Starting
            },
            reason: deployment.failure.clone(),
            replicas: 0,
            cpu_seconds: None,
            memory_bytes: None,
            autoscaler_wants: None,
        });
    }
}
