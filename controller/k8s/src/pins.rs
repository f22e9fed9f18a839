//! What the cluster adds to a spec: what a replica requests, and which services have to stay in the cloud.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

use gma_core::ids::ServiceName;
use gma_core::measured::ServiceSettings;
use gma_core::model::Pin;
use gma_core::units::{CpuCores, Gigabytes};
use tokio::time::Instant;

use crate::derive::{Refused, name_at};
use crate::index::{Owner, Pod, Service};
use crate::object::Object;
use crate::view::{Seen, selects};

/// Pods change all the time; what is read of them here seldom does.
const AT_MOST_EVERY: Duration = Duration::from_secs(1);

/// What was added, and to what.
#[derive(Debug, Default)]
pub(crate) struct Completed {
    /// Versions of what it was read from.
    versions: Option<[u64; 3]>,
    at: Option<Instant>,
    /// Services that can't be placed at an edge, and why.
    pub(crate) pinned: BTreeMap<ServiceName, String>,
}

impl Object {
    /// Adds what the cluster knows and the spec does not say: what a replica of the cloud's Deployment requests, and pins to
    /// the cloud of what can't be placed.
    pub(crate) fn complete(&mut self) {
        let is_early = self.completed.at.is_some_and(|at| at.elapsed() < AT_MOST_EVERY);
        let versions = self.seen(|seen| {
            let index = seen.index;
            [
                index.services.version(),
                index.deployments.version(),
                index.pods.version(),
            ]
        });
        if is_early || self.completed.versions == Some(versions) {
            return;
        }
        let mut settings = self.base.clone();
        let mut pinned = BTreeMap::new();
        let services = self.seen(|seen| {
            let pods = seen.pods();
            let services = seen.index.services.of(&seen.hosts.namespace);
            let complete = |(name, service): (&str, &Service)| {
                let host = seen.hosts.of(name);
                let own = settings.services.get(&host).copied();
                let own = own.unwrap_or(settings.default_service);
                let (own, why) = complete(seen, &host, service, &pods, own);
                (host, own, why)
            };
            services.map(complete).collect::<Vec<_>>()
        });
        for (host, own, why) in services {
            pinned.extend(why.map(|why| (host.clone(), why)));
            settings.services.insert(host, own);
        }
        self.wanted.settings = settings;
        self.completed = Completed {
            versions: Some(versions),
            at: Some(Instant::now()),
            pinned,
        };
    }
}

fn complete(
    seen: &Seen<'_>,
    host: &ServiceName,
    service: &Service,
    pods: &[&Pod],
    mut settings: ServiceSettings,
) -> (ServiceSettings, Option<String>) {
    let cloud = seen.cloud_deployment_of(host, service, pods);
    let deployments = &seen.index.deployments;
    let deployment = cloud
        .as_ref()
        .ok()
        .and_then(|name| deployments.get(&seen.hosts.namespace, name));
    // What runs has what injection and defaults of the namespace added to the template.
    let mut own = pods.iter().filter(|pod| selects(&service.selector, &pod.labels));
    let running = own
        .find(|pod| matches!((&pod.owner, &cloud), (Some(Owner::Deployment(one)), Ok(name)) if one == name));
    let (cores, bytes) = running
        .map(|pod| (pod.cpu_cores, pod.memory_bytes))
        .or_else(|| deployment.map(|deployment| (deployment.cpu_cores, deployment.memory_bytes)))
        .unwrap_or_default();
    if let Some(cores) = cores.filter(|cores| *cores > 0.0) {
        settings.cpu_request = CpuCores::nearest(cores);
    }
    if let Some(bytes) = bytes.filter(|bytes| *bytes > 0.0) {
        settings.memory_request = Gigabytes::nearest(bytes / 1e9);
    }
    let listed = seen.wanted.services.get(host);
    if listed.is_some_and(|listed| listed.pin.is_some()) {
        return (settings, None);
    }
    let has_place = listed.is_some_and(|listed| !listed.edge_deployments.is_empty());
    let why = stateful(host, service, pods).or_else(|| {
        let derived = || underivable(seen, host, service, cloud);
        if has_place { None } else { derived() }
    });
    if why.is_some() {
        settings.pin = Pin::Cloud;
    }
    (settings, why)
}

/// Pods that are not all alike.
fn stateful(host: &ServiceName, service: &Service, pods: &[&Pod]) -> Option<String> {
    let mut own = pods.iter().filter(|pod| selects(&service.selector, &pod.labels));
    own.find_map(|pod| match &pod.owner {
        Some(Owner::Other(kind)) => Some(
            Refused::Kind {
                kind: kind.clone(),
                name: format!("behind {host}"),
            }
            .to_string(),
        ),
        _ if pod.has_volume_claim => Some(
            "its pods hold a volume claim: their data is in the cloud; pin it to the cloud (spec.services[].pin)"
                .to_owned(),
        ),
        _ => None,
    })
}

/// Why nothing can be derived from its instance in the cloud.
fn underivable(
    seen: &Seen<'_>,
    host: &ServiceName,
    service: &Service,
    cloud: Result<String, String>,
) -> Option<String> {
    let name = match cloud {
        Ok(name) => name,
        Err(why) => return Some(why),
    };
    let namespace = &seen.hosts.namespace;
    let Some(deployment) = seen.index.deployments.get(namespace, &name) else {
        return Some(format!(
            "its pods in the cloud are of {name}, and there is no Deployment of that name; name the right one in spec.services[].cloud.deployment"
        ));
    };
    if let Some(obstacle) = &deployment.obstacle {
        return Some(obstacle.clone());
    }
    if !selects(&service.selector, &deployment.pod_labels) {
        let service = crate::settings::service_name(host).to_owned();
        return Some(Refused::NotSelected { service, name }.to_string());
    }
    let mut others = seen.index.services.of(namespace);
    let other = others
        .find(|(other, one)| seen.hosts.of(other) != *host && selects(&one.selector, &deployment.pod_labels));
    if let Some((other, _)) = other {
        return Some(format!(
            "the Service {other} has the pods of {name} too, and one can't be placed without the other; give them pods of their own"
        ));
    }
    seen.wanted.edges.keys().find_map(|edge| {
        let at_edge = name_at(&name, &seen.wanted.config.cloud, edge);
        let found = seen.index.deployments.get(namespace, &at_edge)?;
        let is_free = seen.made_for(found) == Some(edge);
        (!is_free).then(|| {
            let object = seen.object.to_owned();
            let name = at_edge.clone();
            Refused::NameTaken { name, object }.to_string()
        })
    })
}
