//! What clients ask of a world.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use gma_core::cluster::{Cluster, RoutingPlan};
use gma_core::ids::{AreaName, ServiceName};

use super::core::Core;
use super::pod::Order;
use super::routing;
use crate::envoy::SERVICE_PORT;
use crate::protocol::{Answer, Gateway, Late, LinkState, Request, State};
use crate::topology::Bandwidth;
use crate::wan::Link;
use gma_core::cluster::{Proxy, ProxyRole};

/// Longest added round trip; past it Envoy's own connect timeout of 10 s decides.
const MAX_RTT: Duration = Duration::from_secs(10);

/// Why a request was not done.
#[derive(Debug)]
pub(super) enum Failure {
    /// It is wrong, and will be.
    Wrong(String),
    /// It may work later.
    Unable(String),
}

// === impl Failure ===

impl Failure {
    fn endpoints(service: &ServiceName, error: &std::io::Error) -> Self {
        Self::Unable(format!("endpoints of {service} not written: {error}"))
    }
}

impl From<String> for Failure {
    fn from(why: String) -> Self {
        Self::Wrong(why)
    }
}

/// Replicas of an instance at most: each is two processes of this machine.
const MAX_REPLICAS: u32 = 8;

fn fit(service: &ServiceName, replicas: u32) -> Result<(), Failure> {
    if (1..=MAX_REPLICAS).contains(&replicas) {
        return Ok(());
    }
    Err(format!("{replicas} replicas of {service}: from 1 to {MAX_REPLICAS} fit here").into())
}

// === impl Core ===

impl Core {
    /// Takes a request.
    pub(super) fn answer(&mut self, request: Request) -> Answer {
        let is_order = matches!(
            request,
            Request::Ensure { .. } | Request::Scale { .. } | Request::Remove { .. } | Request::Route(_)
        );
        let taken = match request {
            Request::State => return Answer::State(Box::new(self.state())),
            Request::Shutdown => Ok(()),
            Request::Ensure {
                service,
                area,
                replicas,
            } => self.ensure(&service, &area, replicas),
            Request::Scale {
                service,
                area,
                replicas,
            } => self.scale(&service, &area, replicas),
            Request::Remove { service, area } => self.remove(&service, &area),
            Request::Kill { service, area, part } => self.kill(&service, &area, part),
            Request::KillArea { area } => self.kill_area(area),
            Request::StartArea { area } => self.start_area(&area),
            Request::SetFault { service, area, fault } => self.set_fault(service, area, fault),
            Request::SetReports { delay } => self.set_reports(delay),
            Request::Route(plan) => self.route(plan),
            Request::SetLink {
                edge,
                rtt,
                bandwidth,
                cut,
                late,
            } => self.set_link(&edge, rtt, bandwidth, cut, late),
        };
        self.orders += u64::from(is_order && taken.is_ok());
        match taken {
            Ok(()) => Answer::Done,
            Err(Failure::Wrong(why)) => Answer::Error(why),
            Err(Failure::Unable(why)) => Answer::Unable(why),
        }
    }

    fn ensure(&mut self, service: &ServiceName, area: &AreaName, replicas: u32) -> Result<(), Failure> {
        self.known(service, area)?;
        fit(service, replicas)?;
        if self.dark.contains(area) {
            return Err(Failure::Unable(format!(
                "nothing runs in `{area}`, which was killed; start it first"
            )));
        }
        for number in self.pods.of(service, area) {
            if self
                .pods
                .0
                .get(&number)
                .is_some_and(|pod| pod.failure().is_some())
            {
                self.pods.0.remove(&number);
            }
        }
        self.start_instance(service, area);
        let present = self.pods.of(service, area).len();
        for _ in present..usize::try_from(replicas).unwrap_or(usize::MAX) {
            self.start_replica(service, area);
        }
        Ok(())
    }

    fn remove(&mut self, service: &ServiceName, area: &AreaName) -> Result<(), Failure> {
        self.known(service, area)?;
        if *area == self.setup.topology.areas.cloud.name {
            return Err(format!("{service} stays in `{area}`: the cloud always runs every service").into());
        }
        self.retire(service, self.pods.of(service, area))
    }

    /// More replicas one by one in the locality that has fewest; fewer in the reverse order of their starts.
    fn scale(&mut self, service: &ServiceName, area: &AreaName, replicas: u32) -> Result<(), Failure> {
        self.known(service, area)?;
        fit(service, replicas)?;
        let present = self.pods.of(service, area);
        if present.is_empty() {
            return Err(format!("{service} does not run in `{area}`; ensure it first").into());
        }
        let wanted = usize::try_from(replicas).unwrap_or(usize::MAX);
        for _ in present.len()..wanted {
            self.start_replica(service, area);
        }
        self.retire(service, present.into_iter().skip(wanted).collect())
    }

    fn retire(&mut self, service: &ServiceName, numbers: Vec<u32>) -> Result<(), Failure> {
        for number in numbers {
            let Some(pod) = self.pods.0.get_mut(&number) else {
                continue;
            };
            pod.retired = true;
            if pod.failure().is_some() {
                self.pods.0.remove(&number);
            }
        }
        // First no caller is told of it any more, then it drains.
        self.write_endpoints(service)
            .map_err(|error| Failure::endpoints(service, &error))?;
        let retired = self
            .pods
            .0
            .values()
            .filter(|pod| pod.retired && *pod.orders.borrow() == Order::Run);
        for pod in retired {
            pod.orders.send_replace(Order::Drain);
        }
        Ok(())
    }

    pub(super) fn edge(&self, area: &AreaName) -> Result<&Arc<Link>, String> {
        let edges: BTreeSet<AreaName> = self.links.keys().cloned().collect();
        let link = self.links.get(area);
        link.ok_or_else(|| format!("`{area}` is no edge; the edges are {}", routing::list(&edges)))
    }

    fn route(&mut self, plan: RoutingPlan) -> Result<(), Failure> {
        let services: Vec<ServiceName> = plan.0.keys().cloned().collect();
        let setup = &self.setup;
        let cloud = &setup.topology.areas.cloud.name;
        routing::merge(&mut self.routing, plan, &self.areas, cloud, |service| {
            setup.services.contains_key(service)
        })?;
        for service in services {
            self.write_endpoints(&service)
                .map_err(|error| Failure::endpoints(&service, &error))?;
        }
        Ok(())
    }

    fn set_link(
        &mut self,
        edge: &AreaName,
        rtt: Option<Duration>,
        bandwidth: Option<Option<Bandwidth>>,
        cut: Option<bool>,
        late: Option<Option<Late>>,
    ) -> Result<(), Failure> {
        let link = self.edge(edge)?;
        if let Some(late) = late.flatten()
            && (late.every == 0 || late.by > MAX_RTT)
        {
            let Late { every, by } = late;
            return Err(format!(
                "one chunk in {every} late by {by:?}; give one in 1 or more, and at most {MAX_RTT:?}"
            )
            .into());
        }
        if let Some(rtt) = rtt.filter(|rtt| *rtt > MAX_RTT) {
            return Err(
                format!("round trip time {rtt:?} is longer than {MAX_RTT:?}; cut the link instead").into(),
            );
        }
        let mut settings = link.settings();
        settings.rtt = rtt.unwrap_or(settings.rtt);
        settings.bandwidth = bandwidth.unwrap_or(settings.bandwidth);
        settings.cut = cut.unwrap_or(settings.cut);
        settings.late = late.unwrap_or(settings.late);
        tracing::info!(%edge, ?settings, "link");
        link.set(settings);
        Ok(())
    }

    pub(super) fn known(&self, service: &ServiceName, area: &AreaName) -> Result<(), Failure> {
        if !self.setup.services.contains_key(service) {
            let known: Vec<&str> = self.setup.services.keys().map(ServiceName::as_str).collect();
            return Err(format!(
                "`{service}` is no service of the application; they are {}",
                known.join(", ")
            )
            .into());
        }
        if !self.areas.contains_key(area) {
            let areas: BTreeSet<AreaName> = self.areas.keys().cloned().collect();
            return Err(format!("`{area}` is no area; the areas are {}", routing::list(&areas)).into());
        }
        Ok(())
    }

    fn state(&self) -> State {
        let topology = &self.setup.topology;
        let foreign = topology.proxies.iter().map(|proxy| {
            let ports = proxy
                .ports
                .iter()
                .map(|(port, host)| (*port, ServiceName::from(host.as_str())));
            let role = if proxy.gateway {
                ProxyRole::Gateway
            } else {
                ProxyRole::Sidecar {
                    ports: ports.collect(),
                }
            };
            (
                proxy.node.clone(),
                Proxy {
                    area: proxy.area.clone(),
                    role,
                    ready: true,
                },
            )
        });
        let foreign_services = topology.proxies.iter().flat_map(|proxy| proxy.ports.values());
        let localities = self.areas.iter().flat_map(|(area, localities)| {
            localities
                .iter()
                .map(|locality| (locality.to_string(), area.clone()))
        });
        let links = self.links.iter().map(|(edge, link)| {
            let settings = link.settings();
            let state = LinkState {
                rtt: settings.rtt,
                bandwidth: settings.bandwidth,
                cut: settings.cut,
                late: settings.late,
            };
            (edge.clone(), state)
        });
        State {
            cluster: Cluster {
                instances: self.pods.instances(),
                routing: self.routing.clone(),
                unavailable: self.unavailable(),
                ..Cluster::default()
            },
            proxies: self.pods.proxies(SERVICE_PORT).chain(foreign).collect(),
            localities: localities.collect(),
            services: self
                .setup
                .services
                .keys()
                .cloned()
                .chain(foreign_services.map(|host| ServiceName::from(host.as_str())))
                .collect(),
            gateways: self.gateways(),
            envoys: self.pods.envoys(),
            links: links.collect(),
            orders: self.orders,
        }
    }

    /// Edges that were killed, from when the first of their pods is known to have failed.
    fn unavailable(&self) -> BTreeMap<AreaName, String> {
        let has_failed = |area: &AreaName| {
            let mut pods = self.pods.0.values().filter(|pod| pod.area == *area);
            pods.any(|pod| pod.failure().is_some())
        };
        let dark = self
            .dark
            .iter()
            .filter(|area| self.waking.contains(*area) || has_failed(area));
        dark.map(|area| (area.clone(), "nothing runs there".to_owned()))
            .collect()
    }

    fn gateways(&self) -> BTreeMap<AreaName, Gateway> {
        let gateways = self.pods.0.values().filter(|pod| pod.service.is_none());
        gateways
            .map(|pod| {
                let address = pod.running().map(|running| running.serving);
                (
                    pod.area.clone(),
                    Gateway {
                        address,
                        reason: pod.failure().cloned(),
                    },
                )
            })
            .collect()
    }
}
