//! The task that owns a world's state: it takes requests and what happens to pods, one after the other.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use gma_core::cluster::RoutingPlan;
use gma_core::ids::{AreaName, ServiceName};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::task::JoinSet;

use super::instances::{PodEntry, Pods, Status};
use super::pod::{self, Event, Kind, Order, Pod, write_fault};
use super::setup::Setup;
use super::{Ask, WorldError};
use crate::envoy::{EndpointFiles, Mesh, NodeSpec, assignment};
use crate::process::Spawner;
use crate::protocol::{CellFault, Request};
use crate::topology::Locality;
use crate::wan::{Direction, Hop, Link, LinkSettings, Relay};

/// Namespace of gateways.
const GATEWAY_NAMESPACE: &str = "istio-ingress";

/// A world's state.
#[derive(Debug)]
pub(super) struct Core {
    pub(super) setup: Arc<Setup>,
    pub(super) areas: BTreeMap<AreaName, Vec<Locality>>,
    pub(super) links: BTreeMap<AreaName, Arc<Link>>,
    meshes: BTreeMap<AreaName, Mesh>,
    files: EndpointFiles,
    pub(super) pods: Pods,
    next_pod: u32,
    pub(super) routing: RoutingPlan,
    /// Edges that were killed.
    pub(super) dark: BTreeSet<AreaName>,
    /// Of those, the ones that start again: dark until all of their pods are ready or have failed.
    pub(super) waking: BTreeSet<AreaName>,
    /// Of the cells of an instance, those that start later too. Bounded by services times areas.
    pub(super) faults: BTreeMap<(ServiceName, AreaName), CellFault>,
    /// What reports go over, from every area, before its WAN.
    pub(super) reports: Arc<Link>,
    /// As in the state.
    pub(super) orders: u64,
    spawner: Spawner,
    /// Pods start one after the other.
    turn: Arc<Semaphore>,
    events: mpsc::Sender<(u32, Event)>,
    happened: mpsc::Receiver<(u32, Event)>,
    pod_tasks: JoinSet<()>,
    relay_tasks: JoinSet<()>,
    /// Kept: dropping a relay closes it.
    _controller_relays: Vec<Relay>,
}

// === impl Core ===

impl Core {
    /// Opens the relays to the controller and writes the first endpoints.
    pub(super) async fn new(setup: Arc<Setup>, spawner: Spawner) -> Result<Self, WorldError> {
        let topology = &setup.topology;
        let areas: BTreeMap<AreaName, Vec<Locality>> = topology
            .all_areas()
            .map(|(area, localities)| (area.clone(), localities.to_vec()))
            .collect();
        let links = links(&setup);
        let reports = Arc::new(Link::new(LinkSettings::default()));
        let files = EndpointFiles::new(setup.folder.join("endpoints"));
        let mut relay_tasks = JoinSet::new();
        let mut controller_relays = Vec::new();
        let mut meshes = BTreeMap::new();
        let cloud = &topology.areas.cloud.name;
        for area in areas.keys() {
            let mut controller = topology.controller.address;
            let first = Hop {
                link: Arc::clone(&reports),
                direction: Direction::Up,
            };
            let wan = if area == cloud {
                Vec::new()
            } else {
                path(&links, area, cloud)
            };
            let relay = Relay::open(controller, [vec![first], wan].concat(), &mut relay_tasks).await;
            let relay = relay.map_err(WorldError::Relay)?;
            controller = relay.address();
            controller_relays.push(relay);
            let hosts = setup
                .services
                .keys()
                .map(|host| (host.as_str().to_owned(), files.path(area, host.as_str())));
            let mesh = Mesh {
                hosts: hosts.collect(),
                controller,
                filter: setup.filter.clone(),
            };
            meshes.insert(area.clone(), mesh);
        }
        let services: Vec<ServiceName> = setup.services.keys().cloned().collect();
        // A pod sends at most four events in its life.
        let (events, happened) = mpsc::channel(64);
        let mut core = Self {
            areas,
            links,
            meshes,
            files,
            pods: Pods::default(),
            next_pod: 1,
            routing: RoutingPlan::default(),
            dark: BTreeSet::new(),
            waking: BTreeSet::new(),
            faults: BTreeMap::new(),
            reports,
            orders: 0,
            spawner,
            turn: Arc::new(Semaphore::new(1)),
            events,
            happened,
            pod_tasks: JoinSet::new(),
            relay_tasks,
            _controller_relays: controller_relays,
            setup,
        };
        for service in services {
            core.write_endpoints(&service)
                .map_err(|error| WorldError::folder(&core.setup.folder, error))?;
        }
        Ok(core)
    }

    /// Starts the cloud and the gateways, tells `settled` once they serve or one of them failed, and serves until a
    /// client shuts the world down.
    pub(super) async fn run(
        mut self,
        mut asked: mpsc::Receiver<Ask>,
        settled: oneshot::Sender<Result<(), String>>,
    ) {
        self.start_all();
        let mut settled = Some(settled);
        loop {
            if let Some(outcome) = self.outcome()
                && let Some(settled) = settled.take()
            {
                // Whoever started the world may have given up; then this task is dropped, too.
                let _gone = settled.send(outcome);
            }
            tokio::select! {
                Some((request, answer)) = asked.recv() => {
                    let is_end = request == Request::Shutdown;
                    let _gone = answer.send(self.answer(request));
                    if is_end {
                        break;
                    }
                }
                Some((number, event)) = self.happened.recv() => self.happen(number, event).await,
                Some(ended) = self.pod_tasks.join_next() => {
                    if let Err(error) = ended {
                        tracing::error!(%error, "a pod's task failed");
                    }
                }
                else => break,
            }
        }
        for pod in self.pods.0.values() {
            pod.orders.send_replace(Order::Stop);
        }
        drop(self.happened);
        while self.pod_tasks.join_next().await.is_some() {}
    }

    fn start_all(&mut self) {
        let setup = Arc::clone(&self.setup);
        let cloud = setup.topology.areas.cloud.name.clone();
        for service in setup.services.keys() {
            self.start_instance(service, &cloud);
        }
        if setup.ingress.is_some() {
            for edge in &setup.topology.areas.edges {
                self.start_pod(None, &edge.name, edge.localities.first(), None);
            }
        }
    }

    /// How the start went; none while it goes on. Asked for once only, before anyone else adds pods.
    fn outcome(&self) -> Option<Result<(), String>> {
        let pods = || self.pods.0.values();
        if let Some(reason) = pods().find_map(PodEntry::failure) {
            return Some(Err(reason.clone()));
        }
        pods().all(|pod| pod.running().is_some()).then_some(Ok(()))
    }

    /// One pod in each of the area's localities that has none.
    pub(super) fn start_instance(&mut self, service: &ServiceName, area: &AreaName) {
        let present: Vec<Locality> = self
            .pods
            .0
            .values()
            .filter(|pod| pod.is_of(service, area))
            .map(|pod| pod.locality.clone())
            .collect();
        let localities = self.areas.get(area).cloned().unwrap_or_default();
        for locality in localities.iter().filter(|locality| !present.contains(locality)) {
            self.start_pod(Some(service), area, Some(locality), None);
        }
    }

    /// One pod more, in the locality that has fewest.
    pub(super) fn start_replica(&mut self, service: &ServiceName, area: &AreaName) {
        let pods = || self.pods.0.values().filter(|pod| pod.is_of(service, area));
        let count = |locality: &&Locality| pods().filter(|pod| pod.locality == **locality).count();
        let localities = self.areas.get(area).into_iter().flatten();
        if let Some(locality) = localities.min_by_key(count).cloned() {
            self.start_pod(Some(service), area, Some(&locality), None);
        }
    }

    /// `users`: where a gateway listens, if it had an address before.
    pub(super) fn start_pod(
        &mut self,
        service: Option<&ServiceName>,
        area: &AreaName,
        locality: Option<&Locality>,
        users: Option<SocketAddr>,
    ) {
        let (Some(locality), Some(mesh)) = (locality, self.meshes.get(area)) else {
            return;
        };
        let number = self.next_pod;
        self.next_pod += 1;
        let node = self.node(service, area, locality, number);
        let setup = &self.setup;
        let kind = match service {
            Some(service) => Kind::Cell {
                binary: setup.cell.clone(),
                workmodel: setup.workmodel.clone(),
                service: setup
                    .services
                    .get(service)
                    .map(|service| service.name.clone())
                    .unwrap_or_default(),
            },
            None => Kind::Gateway {
                ingress: setup
                    .ingress
                    .as_ref()
                    .map(ToString::to_string)
                    .unwrap_or_default(),
            },
        };
        let folder = setup.folder.join("pods").join(&node.name);
        let fault = service.and_then(|service| self.faults.get(&(service.clone(), area.clone())));
        if let Some(Err(error)) = fault.map(|fault| write_fault(&folder, fault)) {
            tracing::error!(%error, pod = %node.name, "starts without its fault");
        }
        let node_id = node.id(if service.is_some() { "sidecar" } else { "router" });
        let pod = Pod {
            number,
            kind,
            folder: folder.clone(),
            node,
            mesh: mesh.of(&self.callees(service)),
            envoy: setup.envoy.clone(),
            concurrency: setup.topology.concurrency,
            turn: Arc::clone(&self.turn),
            failure_notice: setup.topology.failure_notice,
            users,
        };
        let (orders, ordered) = watch::channel(Order::Run);
        tracing::info!(pod = %pod.node.name, %area, "starting");
        self.pod_tasks
            .spawn(pod::run(pod, self.spawner.clone(), ordered, self.events.clone()));
        let entry = PodEntry {
            service: service.cloned(),
            area: area.clone(),
            locality: locality.clone(),
            node: node_id,
            folder,
            users,
            status: Status::Starting,
            retired: false,
            orders,
            relays: BTreeMap::new(),
        };
        self.pods.0.insert(number, entry);
    }

    /// What a pod calls: a service what the work model says, a gateway the ingress.
    fn callees(&self, service: Option<&ServiceName>) -> BTreeSet<ServiceName> {
        match service {
            Some(service) => self
                .setup
                .services
                .get(service)
                .map(|service| service.calls.clone())
                .unwrap_or_default(),
            None => self.setup.ingress.iter().cloned().collect(),
        }
    }

    fn node(
        &self,
        service: Option<&ServiceName>,
        area: &AreaName,
        locality: &Locality,
        number: u32,
    ) -> NodeSpec {
        let short = service
            .and_then(|service| self.setup.services.get(service))
            .map(|service| &service.name);
        let workload = short.map_or_else(|| format!("istio-ingressgateway-{area}"), Clone::clone);
        let name = if short.is_some() {
            format!("{workload}-{area}-{number}")
        } else {
            format!("{workload}-{number}")
        };
        let label = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let labels = match short {
            Some(service) => [label("app", service), label("version", "v1")],
            None => [label("app", &workload), label("istio", "ingressgateway")],
        };
        let namespace = if short.is_some() {
            &self.setup.topology.namespace
        } else {
            GATEWAY_NAMESPACE
        };
        NodeSpec {
            ip: self.setup.ip(number),
            name,
            namespace: namespace.to_owned(),
            workload,
            labels: labels.into(),
            locality: locality.clone(),
        }
    }

    async fn happen(&mut self, number: u32, event: Event) {
        let relays = match &event {
            Event::Ready(running) => self.open_relays(number, running.serving).await,
            Event::Down | Event::Failed(_) | Event::Stopped => Ok(BTreeMap::new()),
        };
        let Some(pod) = self.pods.0.get_mut(&number) else {
            return;
        };
        let service = pod.service.clone();
        let node = pod.node.clone();
        match (event, relays) {
            (Event::Ready(running), Ok(relays)) => {
                tracing::info!(%node, "ready");
                pod.relays = relays;
                pod.users = Some(running.serving).filter(|_| pod.service.is_none());
                pod.status = Status::Ready(running);
            }
            (Event::Ready(_), Err(error)) => {
                pod.status = Status::Failed(WorldError::Relay(error).to_string());
                pod.orders.send_replace(Order::Stop);
            }
            // Where nothing listens any more, the relay must refuse, too.
            (Event::Down, _) => pod.relays.values().for_each(Relay::close),
            (Event::Failed(reason), _) => {
                tracing::error!(%node, %reason, "failed");
                pod.relays.clear();
                pod.status = Status::Failed(reason);
                if pod.retired {
                    self.pods.0.remove(&number);
                }
            }
            (Event::Stopped, _) => {
                tracing::info!(%node, "stopped");
                if pod.retired || pod.failure().is_none() {
                    self.pods.0.remove(&number);
                }
            }
        }
        self.wake();
        if let Some(service) = service
            && let Err(error) = self.write_endpoints(&service)
        {
            tracing::error!(%error, %service, "endpoints not written");
        }
    }

    async fn open_relays(
        &mut self,
        number: u32,
        target: SocketAddr,
    ) -> std::io::Result<BTreeMap<AreaName, Relay>> {
        let mut relays = BTreeMap::new();
        // Users of a gateway are in its own area.
        let Some(area) = self
            .pods
            .0
            .get(&number)
            .filter(|pod| pod.service.is_some())
            .map(|pod| pod.area.clone())
        else {
            return Ok(relays);
        };
        for caller in self.areas.keys().filter(|caller| **caller != area) {
            let path = path(&self.links, caller, &area);
            relays.insert(
                caller.clone(),
                Relay::open(target, path, &mut self.relay_tasks).await?,
            );
        }
        Ok(relays)
    }

    /// Writes what changed of a service's endpoints, for each caller area.
    pub(super) fn write_endpoints(&mut self, service: &ServiceName) -> std::io::Result<()> {
        let cloud = &self.setup.topology.areas.cloud.name;
        for caller in self.areas.keys() {
            let endpoints = self.pods.endpoints(service, caller);
            let rule = self.routing.0.get(service);
            let assignment = assignment(service.as_str(), caller, rule, cloud, &endpoints);
            self.files.write(caller, service.as_str(), &assignment)?;
        }
        Ok(())
    }
}

/// The link of each edge; one that the topology does not name adds nothing.
fn links(setup: &Setup) -> BTreeMap<AreaName, Arc<Link>> {
    let topology = &setup.topology;
    let settings = |edge: &AreaName| {
        let spec = topology.links.iter().find(|link| link.edge == *edge);
        spec.map(|link| LinkSettings {
            rtt: link.rtt,
            bandwidth: link.bandwidth,
            ..LinkSettings::default()
        })
        .unwrap_or_default()
    };
    let edges = topology.areas.edges.iter().map(|edge| &edge.name);
    edges
        .map(|edge| (edge.clone(), Arc::new(Link::new(settings(edge)))))
        .collect()
}

/// Links from callers in one area to another; the cloud has none of its own.
fn path(links: &BTreeMap<AreaName, Arc<Link>>, caller: &AreaName, callee: &AreaName) -> Vec<Hop> {
    let hop = |area: &AreaName, direction| {
        links.get(area).map(|link| Hop {
            link: Arc::clone(link),
            direction,
        })
    };
    hop(caller, Direction::Up)
        .into_iter()
        .chain(hop(callee, Direction::Down))
        .collect()
}
