//! What clients ask of a world.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use gma_core::cluster::{Cluster, RoutingPlan};
use gma_core::ids::{AreaName, ServiceName};

use super::core::Core;
use super::pod::{Order, write_fault};
use super::routing;
use crate::envoy::SERVICE_PORT;
use crate::protocol::{Answer, CellFault, Gateway, Late, LinkState, Part, Request, State};
use crate::topology::Bandwidth;
use crate::wan::{Link, LinkSettings};
use gma_core::cluster::{Proxy, ProxyRole};

/// Longest added round trip; past it Envoy's own connect timeout of 10 s decides.
const MAX_RTT: Duration = Duration::from_secs(10);
/// Longest delay of reports: a filter tries again after half a minute, so that more is as good as a cut.
const MAX_REPORT_DELAY: Duration = Duration::from_secs(60);
/// Busier, and a cell would not read that it should stop being so.
const MOST_BUSY: f64 = 0.99;

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
        taken.map_or_else(Answer::Error, |()| Answer::Done)
    }

    fn ensure(&mut self, service: &ServiceName, area: &AreaName) -> Result<(), String> {
        self.known(service, area)?;
        if self.dark.contains(area) {
            return Err(format!(
                "nothing runs in `{area}`, which was killed; start it first"
            ));
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
        Ok(())
    }

    fn remove(&mut self, service: &ServiceName, area: &AreaName) -> Result<(), String> {
        self.known(service, area)?;
        if *area == self.setup.topology.areas.cloud.name {
            return Err(format!(
                "{service} stays in `{area}`: the cloud always runs every service"
            ));
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
            .map_err(|error| format!("endpoints of {service} not written: {error}"))?;
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

    fn kill(&mut self, service: &ServiceName, area: &AreaName, part: Part) -> Result<(), String> {
        self.known(service, area)?;
        let pods = self.pods.of(service, area);
        let running: Vec<_> = pods
            .iter()
            .filter_map(|number| self.pods.0.get(number))
            .filter(|pod| pod.running().is_some())
            .collect();
        if running.is_empty() {
            return Err(format!("{service} does not run in `{area}`; ensure it first"));
        }
        for pod in running {
            pod.orders.send_replace(Order::Kill(part));
        }
        Ok(())
    }

    fn kill_area(&mut self, area: AreaName) -> Result<(), String> {
        self.edge(&area)?;
        for pod in self.pods.0.values().filter(|pod| pod.area == area) {
            pod.orders.send_replace(Order::Kill(Part::Pod));
        }
        tracing::info!(%area, "killed");
        self.dark.insert(area);
        Ok(())
    }

    /// Pods come back under new names, as new processes on the same machine would.
    fn start_area(&mut self, area: &AreaName) -> Result<(), String> {
        self.edge(area)?;
        if !self.dark.contains(area) {
            return Ok(());
        }
        let of_area = || self.pods.0.iter().filter(|(_, pod)| pod.area == *area);
        if of_area().any(|(_, pod)| pod.failure().is_none()) {
            return Err(format!(
                "processes of `{area}` still end; start it once its gateway has failed"
            ));
        }
        let ended: Vec<u32> = of_area().map(|(number, _)| *number).collect();
        self.dark.remove(area);
        for number in ended {
            if let Some(pod) = self.pods.0.remove(&number) {
                self.start_pod(pod.service.as_ref(), area, Some(&pod.locality), pod.users);
            }
        }
        Ok(())
    }

    fn set_fault(&mut self, service: ServiceName, area: AreaName, fault: CellFault) -> Result<(), String> {
        self.known(&service, &area)?;
        if !(0.0..=MOST_BUSY).contains(&fault.busy) {
            return Err(format!("busy is {}; give 0 to {MOST_BUSY}", fault.busy));
        }
        let folders = self.pods.0.values().filter(|pod| pod.is_of(&service, &area));
        for folder in folders.map(|pod| &pod.folder) {
            write_fault(folder, &fault)
                .map_err(|error| format!("{} not written: {error}", folder.display()))?;
        }
        tracing::info!(%service, %area, ?fault, "fault");
        self.faults.insert((service, area), fault);
        Ok(())
    }

    fn set_reports(&self, delay: Duration) -> Result<(), String> {
        if delay > MAX_REPORT_DELAY {
            return Err(format!(
                "a delay of {delay:?} is longer than {MAX_REPORT_DELAY:?}; cut the link instead"
            ));
        }
        self.reports.set(LinkSettings {
            delay_up: delay,
            ..LinkSettings::default()
        });
        Ok(())
    }

    fn edge(&self, area: &AreaName) -> Result<&Arc<Link>, String> {
        let edges: BTreeSet<AreaName> = self.links.keys().cloned().collect();
        let link = self.links.get(area);
        link.ok_or_else(|| format!("`{area}` is no edge; the edges are {}", routing::list(&edges)))
    }

    fn route(&mut self, plan: RoutingPlan) -> Result<(), String> {
        let services: Vec<ServiceName> = plan.0.keys().cloned().collect();
        let areas: BTreeSet<AreaName> = self.areas.keys().cloned().collect();
        let setup = &self.setup;
        routing::merge(&mut self.routing, plan, &areas, |service| {
            setup.services.contains_key(service)
        })?;
        for service in services {
            self.write_endpoints(&service)
                .map_err(|error| format!("endpoints of {service} not written: {error}"))?;
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
    ) -> Result<(), String> {
        let link = self.edge(edge)?;
        if let Some(late) = late.flatten()
            && (late.every == 0 || late.by > MAX_RTT)
        {
            return Err(format!(
                "one chunk in {} late by {:?}; give one in 1 or more, and at most {MAX_RTT:?}",
                late.every, late.by
            ));
        }
        if let Some(rtt) = rtt.filter(|rtt| *rtt > MAX_RTT) {
            return Err(format!(
                "round trip time {rtt:?} is longer than {MAX_RTT:?}; cut the link instead"
            ));
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

    fn known(&self, service: &ServiceName, area: &AreaName) -> Result<(), String> {
        if !self.setup.services.contains_key(service) {
            let known: Vec<&str> = self.setup.services.keys().map(ServiceName::as_str).collect();
            return Err(format!(
                "`{service}` is no service of the application; they are {}",
                known.join(", ")
            ));
        }
        if !self.areas.contains_key(area) {
            let areas: BTreeSet<AreaName> = self.areas.keys().cloned().collect();
            return Err(format!(
                "`{area}` is no area; the areas are {}",
                routing::list(&areas)
            ));
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
        let dark = self.dark.iter().filter(|area| has_failed(area));
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
