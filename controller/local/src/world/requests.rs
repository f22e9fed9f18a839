//! What clients ask of a world.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use gma_core::cluster::{Cluster, RoutingPlan};
use gma_core::ids::{AreaName, ServiceName};

use super::core::Core;
use super::pod::Order;
use super::routing;
use crate::envoy::SERVICE_PORT;
use crate::protocol::{Answer, Gateway, LinkState, Request, State};
use crate::topology::Bandwidth;
use gma_core::cluster::{Proxy, ProxyRole};

/// Longest added round trip; past it Envoy's own connect timeout of 10 s decides.
const MAX_RTT: Duration = Duration::from_secs(10);

/// Why a request was not done.
#[derive(Debug)]
enum Failure {
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

// === impl Core ===

impl Core {
    /// Takes a request.
    pub(super) fn answer(&mut self, request: Request) -> Answer {
        let is_order = matches!(
            request,
            Request::Ensure { .. } | Request::Remove { .. } | Request::Route(_)
        );
        let taken = match request {
            Request::State => return Answer::State(Box::new(self.state())),
            Request::Shutdown => Ok(()),
            Request::Ensure { service, area } => self.ensure(&service, &area),
            Request::Remove { service, area } => self.remove(&service, &area),
            Request::Kill { service, area } => self.kill(&service, &area),
            Request::Route(plan) => self.route(plan),
            Request::SetLink {
                edge,
                rtt,
                bandwidth,
                cut,
            } => self.set_link(&edge, rtt, bandwidth, cut),
        };
        self.orders += u64::from(is_order && taken.is_ok());
        match taken {
            Ok(()) => Answer::Done,
            Err(Failure::Wrong(why)) => Answer::Error(why),
            Err(Failure::Unable(why)) => Answer::Unable(why),
        }
    }

    fn ensure(&mut self, service: &ServiceName, area: &AreaName) -> Result<(), Failure> {
        self.known(service, area)?;
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
        Ok(())
    }

    fn remove(&mut self, service: &ServiceName, area: &AreaName) -> Result<(), Failure> {
        self.known(service, area)?;
        if *area == self.setup.topology.areas.cloud.name {
            return Err(format!("{service} stays in `{area}`: the cloud always runs every service").into());
        }
        for number in self.pods.of(service, area) {
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

    fn kill(&mut self, service: &ServiceName, area: &AreaName) -> Result<(), Failure> {
        self.known(service, area)?;
        let pods = self.pods.of(service, area);
        let running: Vec<_> = pods
            .iter()
            .filter_map(|number| self.pods.0.get(number))
            .filter(|pod| pod.running().is_some())
            .collect();
        if running.is_empty() {
            return Err(format!("{service} does not run in `{area}`; ensure it first").into());
        }
        for pod in running {
            pod.orders.send_replace(Order::Kill);
        }
        Ok(())
    }

    fn route(&mut self, plan: RoutingPlan) -> Result<(), Failure> {
        let services: Vec<ServiceName> = plan.0.keys().cloned().collect();
        let areas: BTreeSet<AreaName> = self.areas.keys().cloned().collect();
        let setup = &self.setup;
        routing::merge(&mut self.routing, plan, &areas, |service| {
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
    ) -> Result<(), Failure> {
        let edges: BTreeSet<AreaName> = self.links.keys().cloned().collect();
        let link = self
            .links
            .get(edge)
            .ok_or_else(|| format!("`{edge}` is no edge; the edges are {}", routing::list(&edges)))?;
        if let Some(rtt) = rtt.filter(|rtt| *rtt > MAX_RTT) {
            return Err(
                format!("round trip time {rtt:?} is longer than {MAX_RTT:?}; cut the link instead").into(),
            );
        }
        let mut settings = link.settings();
        settings.rtt = rtt.unwrap_or(settings.rtt);
        settings.bandwidth = bandwidth.unwrap_or(settings.bandwidth);
        settings.cut = cut.unwrap_or(settings.cut);
        tracing::info!(%edge, ?settings, "link");
        link.set(settings);
        Ok(())
    }

    fn known(&self, service: &ServiceName, area: &AreaName) -> Result<(), Failure> {
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
            };
            (edge.clone(), state)
        });
        State {
            cluster: Cluster {
                instances: self.pods.instances(),
                routing: self.routing.clone(),
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
