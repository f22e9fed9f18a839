//! The index as the controller's core sees it: what runs where, which proxy is what, and what can't be routed.
//!
//! An area is where a pod's own label or its node's labels put it, as istiod does it; never what a proxy says of itself. A pod that has no
//! node yet belongs to the edge that its Deployment is for.

mod instances;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use gma_core::cluster::{Cluster, Phase, Proxy, ProxyRole, RoutingPlan, Unroutable, Weights};
use gma_core::ids::{AreaName, ServiceName};
use gma_core::sightings::{Sighting, Sightings};

use crate::index::{Index, Pod, Service, Target};
use crate::locality::{AreaMap, Locality};
use crate::rule::{Areas, Held, Mesh, Order, in_force, write};
use crate::settings::{Hosts, Wanted, service_name};
use instances::add_instances;

/// What a view is made of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen<'a> {
    /// What is watched.
    pub(crate) index: &'a Index,
    /// The rules of the index.
    pub(crate) mesh: &'a Mesh,
    /// What the object wants.
    pub(crate) wanted: &'a Wanted,
    /// Names of its hosts.
    pub(crate) hosts: &'a Hosts,
    /// The object, `namespace/name`.
    pub(crate) object: &'a str,
    /// What reports prove.
    pub(crate) sightings: &'a Sightings,
    /// The last order of weights.
    pub(crate) ordered: &'a RoutingPlan,
}

/// What the core is told.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// What runs where, and the routing in force.
    pub cluster: Cluster,
    /// CPU cores that instances use, where that is known.
    pub(crate) cores: BTreeMap<(ServiceName, AreaName), f64>,
    /// By `POD.NAMESPACE`.
    pub proxies: BTreeMap<String, Proxy>,
    /// Area of a locality pattern.
    pub localities: BTreeMap<String, AreaName>,
    /// The object's services.
    pub services: BTreeSet<ServiceName>,
    /// Services that are held, with what would end it.
    pub held: BTreeMap<ServiceName, Held>,
}

// === impl Seen ===

impl<'a> Seen<'a> {
    /// Where a pod is, and in which area.
    pub(crate) fn place(&self, pod: &Pod) -> Option<(Locality, Option<&'a AreaName>)> {
        let node = pod.node.as_deref()?;
        let of_node = || self.index.nodes.get("", node).map(|node| node.locality.clone());
        let locality = pod.locality.clone().or_else(of_node)?;
        let area = self.wanted.areas.area_of(&locality);
        Some((locality, area))
    }

    /// The edge whose gateway a pod is.
    fn gateway_of(&self, namespace: &str, pod: &Pod, area: &AreaName) -> bool {
        self.wanted.edges.get(area).is_some_and(|edge| {
            edge.gateway_namespace == namespace && selects(&edge.gateway_labels, &pod.labels)
        })
    }

    fn is_a_gateway(&self, namespace: &str, pod: &Pod) -> bool {
        self.wanted
            .edges
            .keys()
            .any(|edge| self.gateway_of(namespace, pod, edge))
    }

    /// Areas and patterns, for the rule writer.
    pub(crate) fn areas(&self) -> Areas<'a> {
        Areas {
            cloud: &self.wanted.config.cloud,
            map: &self.wanted.areas,
        }
    }

    /// The object's pods, but for gateways and those that end.
    pub(crate) fn pods(&self) -> Vec<&'a Pod> {
        let pods = self.index.pods.of(&self.hosts.namespace);
        pods.map(|(_, pod)| pod)
            .filter(|pod| !pod.is_ending && !self.is_a_gateway(&self.hosts.namespace, pod))
            .collect()
    }

    pub(crate) fn service_of(&self, host: &ServiceName) -> Option<&'a Service> {
        self.index.services.get(&self.hosts.namespace, service_name(host))
    }

    /// The bodies for a service, as things stand.
    ///
    /// # Errors
    /// Why it is held.
    pub(crate) fn order(
        &self,
        host: &ServiceName,
        routes: &BTreeMap<AreaName, Weights>,
    ) -> Result<crate::rule::Written, Held> {
        let nobody = Sighting::default();
        let sighting = self.sightings.get(host).unwrap_or(&nobody);
        let mut callers = sighting.callers.clone();
        // A restarted controller may not have heard the callers yet: those that have a rule of ours called before.
        callers.extend(self.mesh.ours(host).map(|rule| rule.namespace.clone()));
        let reported = sighting
            .localities
            .iter()
            .map(|text| Locality::parse(text))
            .collect();
        write(
            self.mesh,
            self.areas(),
            &Order {
                host,
                namespace: &self.hosts.namespace,
                callers: &callers,
                unlocated_caller: None,
                reported: &reported,
                routes,
                object: self.object,
            },
        )
    }
}

/// What the core is told now.
pub(crate) fn view(seen: &Seen<'_>) -> View {
    let mut view = View {
        localities: localities(seen),
        ..View::default()
    };
    let pods = seen.pods();
    for (name, service) in seen.index.services.of(&seen.hosts.namespace) {
        let host = seen.hosts.of(name);
        let (groups, stray) = seen.groups(&host, service, &pods);
        let is_listed = seen.wanted.services.contains_key(&host);
        if groups.is_empty() && stray.is_none() && !is_listed {
            continue;
        }
        add_instances(seen, &host, &groups, &mut view);
        add_routing(seen, &host, stray, &mut view);
        view.services.insert(host);
    }
    add_proxies(seen, &mut view);
    for edge in seen.wanted.edges.keys() {
        let is_of = |locality: &Locality| seen.wanted.areas.area_of(locality) == Some(edge);
        let mut nodes = seen.index.nodes.all().filter(|(_, node)| is_of(&node.locality));
        if !nodes.any(|(_, node)| node.is_usable) {
            let why = format!("no node of {edge} is Ready and schedulable");
            view.cluster.unavailable.insert(edge.clone(), why);
        }
    }
    view
}

fn add_routing(seen: &Seen<'_>, host: &ServiceName, stray: Option<Locality>, view: &mut View) {
    let ready: BTreeSet<&AreaName> = view
        .cluster
        .instances
        .iter()
        .filter(|instance| instance.service == *host && instance.phase == Phase::Ready)
        .map(|instance| &instance.area)
        .collect();
    let ordered = seen.ordered.0.get(host);
    let routes = in_force(seen.mesh, seen.areas(), host, &ready, ordered);
    let held = match (stray, &routes) {
        (Some(locality), _) => Some(Held {
            why: Unroutable::EndpointOutsideAreas {
                locality: locality.to_string(),
            },
            fix: format!(
                "add {locality} to the localities of an area, or label the node of that pod as the area's are"
            ),
        }),
        (None, Some(routes)) => seen.order(host, routes).err().filter(|held| {
            // What was proven when the rule was written is not called into question by a restart.
            !matches!(held.why, Unroutable::LocalityUnproven { .. })
        }),
        (None, None) if seen.sightings.contains_key(host) => seen.order(host, &to_cloud(seen.wanted)).err(),
        (None, None) => None,
    };
    if let Some(held) = held {
        view.cluster.unroutable.insert(host.clone(), held.why.clone());
        view.held.insert(host.clone(), held);
    }
    if let Some(routes) = routes {
        view.cluster.routing.0.insert(host.clone(), routes);
    }
}

/// Everything to the cloud.
fn to_cloud(wanted: &Wanted) -> BTreeMap<AreaName, Weights> {
    let cloud = &wanted.config.cloud;
    let areas = wanted.areas.names().into_iter();
    areas
        .map(|area| (area.clone(), Weights::from([(cloud.clone(), 100)])))
        .collect()
}

/// Proxies of the whole mesh, for any of them may call; only the object's own pods serve what is measured.
fn add_proxies(seen: &Seen<'_>, view: &mut View) {
    for ((namespace, name), pod) in seen.index.pods.all() {
        let Some((_, Some(area))) = seen.place(pod).filter(|_| pod.has_proxy && !pod.is_ending) else {
            continue;
        };
        let role = if seen.gateway_of(namespace, pod, area) {
            ProxyRole::Gateway
        } else {
            let is_own = *namespace == seen.hosts.namespace;
            let ports = if is_own { ports(seen, pod) } else { BTreeMap::new() };
            ProxyRole::Sidecar { ports }
        };
        let proxy = Proxy {
            area: area.clone(),
            role,
            ready: pod.is_ready,
        };
        view.proxies.insert(format!("{name}.{namespace}"), proxy);
    }
}

/// Services whose selector matches the pod, by the port of the pod that they lead to.
fn ports(seen: &Seen<'_>, pod: &Pod) -> BTreeMap<u16, ServiceName> {
    let mut ports = BTreeMap::new();
    let services = seen.index.services.of(&seen.hosts.namespace);
    for (name, service) in services.filter(|(_, service)| selects(&service.selector, &pod.labels)) {
        for port in &service.ports {
            let target = match &port.target {
                Target::Number(number) => Some(*number),
                Target::Name(name) => pod
                    .ports
                    .iter()
                    .find(|port| port.name == *name)
                    .map(|port| port.port),
            };
            if let Some(target) = target {
                ports.entry(target).or_insert_with(|| seen.hosts.of(name));
            }
        }
    }
    ports
}

fn localities(seen: &Seen<'_>) -> BTreeMap<String, AreaName> {
    match &seen.wanted.areas {
        AreaMap::Localities(areas) => {
            let all = areas
                .iter()
                .flat_map(|(area, patterns)| patterns.iter().map(move |pattern| (area, pattern)));
            all.map(|(area, pattern)| (pattern.as_str().to_owned(), area.clone()))
                .collect()
        }
        AreaMap::Zones(areas) => {
            let all = areas
                .iter()
                .flat_map(|(area, zones)| zones.iter().map(move |zone| (area, zone)));
            let mut localities: BTreeMap<String, AreaName> = all
                .map(|(area, zone)| (format!("/{zone}"), area.clone()))
                .collect();
            // A node that has a region all the same is reported with it.
            for (_, node) in seen.index.nodes.all() {
                if let Some(area) = seen.wanted.areas.area_of(&node.locality) {
                    localities.insert(node.locality.to_string(), area.clone());
                }
            }
            localities
        }
    }
}

/// Whether labels match a selector.
pub(crate) fn selects(selector: &BTreeMap<String, String>, labels: &BTreeMap<String, String>) -> bool {
    selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}
