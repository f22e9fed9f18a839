//! The pods of a world and what they amount to: instances, endpoints, proxies.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use gma_core::cluster::{Instance, Phase};
use gma_core::ids::{AreaName, ServiceName};
use tokio::sync::watch;

use super::pod::{Order, Running};
use crate::envoy::Endpoint;
use crate::protocol::EnvoyAdmin;
use crate::topology::Locality;
use crate::usage;
use crate::wan::Relay;
use gma_core::cluster::{Proxy, ProxyRole};

/// A pod as the world sees it.
#[derive(Debug)]
pub(super) struct PodEntry {
    /// None: a gateway.
    pub(super) service: Option<ServiceName>,
    pub(super) area: AreaName,
    pub(super) locality: Locality,
    /// Envoy's node id.
    pub(super) node: String,
    /// Its configuration and logs.
    pub(super) folder: PathBuf,
    /// Where users of a gateway connect, once it has served.
    pub(super) users: Option<SocketAddr>,
    pub(super) status: Status,
    /// Taken out of the endpoints for good; it drains.
    pub(super) retired: bool,
    pub(super) orders: watch::Sender<Order>,
    /// For callers in each other area.
    pub(super) relays: BTreeMap<AreaName, Relay>,
}

/// Life of a pod.
#[derive(Clone, Debug)]
pub(super) enum Status {
    Starting,
    Ready(Running),
    Failed(String),
}

/// Every pod by its number.
#[derive(Debug, Default)]
pub(super) struct Pods(pub(super) BTreeMap<u32, PodEntry>);

// === impl PodEntry ===

impl PodEntry {
    pub(super) const fn running(&self) -> Option<&Running> {
        match &self.status {
            Status::Ready(running) => Some(running),
            Status::Starting | Status::Failed(_) => None,
        }
    }

    pub(super) const fn failure(&self) -> Option<&String> {
        match &self.status {
            Status::Failed(reason) => Some(reason),
            Status::Starting | Status::Ready(_) => None,
        }
    }

    pub(super) fn is_of(&self, service: &ServiceName, area: &AreaName) -> bool {
        !self.retired && self.service.as_ref() == Some(service) && self.area == *area
    }

    fn proxy(&self, port: u16) -> Proxy {
        let role = match &self.service {
            None => ProxyRole::Gateway,
            Some(service) => ProxyRole::Sidecar {
                ports: BTreeMap::from([(port, service.clone())]),
            },
        };
        Proxy {
            area: self.area.clone(),
            role,
            ready: !self.retired && self.running().is_some(),
        }
    }
}

// === impl Pods ===

impl Pods {
    /// Numbers of an instance's pods.
    pub(super) fn of(&self, service: &ServiceName, area: &AreaName) -> Vec<u32> {
        self.0
            .iter()
            .filter(|(_, pod)| pod.is_of(service, area))
            .map(|(number, _)| *number)
            .collect()
    }

    /// Ready endpoints of a service as callers in `caller` reach them.
    pub(super) fn endpoints(&self, service: &ServiceName, caller: &AreaName) -> Vec<Endpoint> {
        let ready = self
            .0
            .values()
            .filter(|pod| !pod.retired && pod.service.as_ref() == Some(service));
        let mut endpoints: Vec<Endpoint> = ready
            .filter_map(|pod| {
                let running = pod.running()?;
                let address = if pod.area == *caller {
                    running.serving
                } else {
                    pod.relays.get(caller)?.address()
                };
                Some(Endpoint {
                    area: pod.area.clone(),
                    locality: pod.locality.clone(),
                    address,
                })
            })
            .collect();
        endpoints.sort();
        endpoints
    }

    /// Instances, one for each service and area; those that drain are no more.
    pub(super) fn instances(&self) -> Vec<Instance> {
        let mut by_place: BTreeMap<(&AreaName, &ServiceName), Vec<&PodEntry>> = BTreeMap::new();
        for pod in self.0.values().filter(|pod| !pod.retired) {
            if let Some(service) = &pod.service {
                by_place.entry((&pod.area, service)).or_default().push(pod);
            }
        }
        by_place
            .into_iter()
            .map(|((area, service), pods)| instance(area, service, &pods))
            .collect()
    }

    /// Every proxy by node id; `port` is the inbound port of sidecars.
    pub(super) fn proxies(&self, port: u16) -> impl Iterator<Item = (String, Proxy)> {
        self.0
            .values()
            .map(move |pod| (pod.node.clone(), pod.proxy(port)))
    }

    /// Every Envoy that runs.
    pub(super) fn envoys(&self) -> Vec<EnvoyAdmin> {
        let running = self.0.values().filter_map(|pod| Some((pod, pod.running()?)));
        running
            .map(|(pod, running)| EnvoyAdmin {
                node: pod.node.clone(),
                admin: running.admin,
                pid: running.envoy.map(|pid| pid.as_raw_nonzero().get()),
                cell_pid: running.cell.map(|pid| pid.as_raw_nonzero().get()),
            })
            .collect()
    }
}

/// Ready with one replica that is; failed with none that is or may become so. CPU and memory are the cells', not
/// their Envoys', as what is placed is the application.
fn instance(area: &AreaName, service: &ServiceName, pods: &[&PodEntry]) -> Instance {
    let running: Vec<&Running> = pods.iter().filter_map(|pod| pod.running()).collect();
    let reason = pods.iter().find_map(|pod| pod.failure()).cloned();
    let is_starting = pods.iter().any(|pod| matches!(pod.status, Status::Starting));
    let phase = match (running.is_empty(), is_starting) {
        (false, _) => Phase::Ready,
        (true, true) => Phase::Starting,
        (true, false) => Phase::Failed,
    };
    let used: Option<Vec<usage::Usage>> = running.iter().map(|running| usage::of(running.cell?)).collect();
    let used = used.filter(|used| !used.is_empty());
    Instance {
        service: service.clone(),
        area: area.clone(),
        phase,
        reason,
        replicas: u32::try_from(running.len()).unwrap_or(u32::MAX),
        cpu_seconds: used
            .as_ref()
            .map(|used| used.iter().map(|usage| usage.cpu_seconds).sum()),
        memory_bytes: used
            .as_ref()
            .map(|used| used.iter().map(|usage| usage.memory_bytes).sum()),
        autoscaler_wants: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(service: &str, area: &str, status: Status) -> PodEntry {
        PodEntry {
            service: Some(service.into()),
            area: area.into(),
            locality: area.parse().unwrap(),
            node: format!("{service}-{area}"),
            folder: PathBuf::new(),
            users: None,
            status,
            retired: false,
            orders: watch::channel(Order::Run).0,
            relays: BTreeMap::new(),
        }
    }

    fn ready(port: u16) -> Status {
        let address = |port| SocketAddr::from(([127, 1, 2, 3], port));
        Status::Ready(Running {
            admin: address(1),
            serving: address(port),
            envoy: None,
            cell: None,
        })
    }

    fn pods(entries: Vec<PodEntry>) -> Pods {
        Pods(
            entries
                .into_iter()
                .enumerate()
                .map(|(i, pod)| (u32::try_from(i).unwrap(), pod))
                .collect(),
        )
    }

    #[test]
    fn only_ready_replicas_that_do_not_drain_are_endpoints() {
        let mut draining = pod("s1", "cloud", ready(3));
        draining.retired = true;
        let pods = pods(vec![
            pod("s1", "cloud", ready(2)),
            draining,
            pod("s1", "cloud", Status::Starting),
            pod("s1", "cloud", Status::Failed("gone".to_owned())),
            pod("s2", "cloud", ready(4)),
        ]);
        let endpoints = pods.endpoints(&"s1".into(), &"cloud".into());
        assert_eq!(
            endpoints.iter().map(|e| e.address.port()).collect::<Vec<_>>(),
            [2]
        );
        assert_eq!(
            pods.endpoints(&"s1".into(), &"edge-1".into()),
            [],
            "no relay, no way"
        );
        assert_eq!(pods.proxies(8080).count(), 5, "one that drains still reports");
    }

    #[test]
    fn an_instance_is_as_well_as_its_best_replica() {
        let failed = || Status::Failed("boom".to_owned());
        let cases = [
            (vec![ready(1), failed()], Phase::Ready, 1),
            (vec![Status::Starting, failed()], Phase::Starting, 0),
            (vec![failed(), failed()], Phase::Failed, 0),
        ];
        for (statuses, phase, replicas) in cases {
            let pods = pods(
                statuses
                    .into_iter()
                    .map(|status| pod("s1", "cloud", status))
                    .collect(),
            );
            let instances = pods.instances();
            assert_eq!(
                (instances.len(), instances[0].phase, instances[0].replicas),
                (1, phase, replicas)
            );
            assert_eq!(instances[0].reason.as_deref(), Some("boom"));
        }
    }
}
