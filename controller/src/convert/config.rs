//! muPlacer's configuration, read key by key: what is used of it, with the reference's rules for units.

use std::collections::{BTreeMap, BTreeSet};

use serde_norway::Value;

use super::node::{Findings, Node, one_line, scalar_text};
use super::quantity::{BitRate, Time, number, price};

/// Most services: beyond what a solver handles, and low enough that reading ends soon.
const MAX_SERVICES: usize = 10_000;
/// Most files of a service in an area.
const MAX_YAMLS: usize = 100;

/// What is used of a configuration.
#[derive(Debug)]
pub(super) struct Config {
    pub(super) band: Band,
    pub(super) quantile: Quantile,
    pub(super) cloud: Area,
    pub(super) edge: Area,
    /// A GB of traffic from the cloud to the edge.
    pub(super) traffic_gb: f64,
    pub(super) link: Link,
    pub(super) namespace: Option<String>,
    pub(super) query_period: Option<String>,
    pub(super) app: Application,
}

/// The application's services.
#[derive(Debug)]
pub(super) struct Application {
    pub(super) explicit_ids: bool,
    pub(super) services: Vec<ServiceKeys>,
    pub(super) locked: Option<Locked>,
}

/// Bounds of the mean user delay.
#[derive(Debug)]
pub(super) struct Band {
    pub(super) offload_above: Time,
    pub(super) unoffload_below: Time,
}

/// Bounds of a quantile of the user delay; whatever of them is there.
#[derive(Debug, Default)]
pub(super) struct Quantile {
    pub(super) level: Option<f64>,
    pub(super) offload_above: Option<Time>,
    pub(super) unoffload_below: Option<Time>,
}

/// An area.
#[derive(Debug)]
pub(super) struct Area {
    /// Its name in the problem: the `cluster` label where that tells the areas apart.
    pub(super) name: String,
    /// Value of the `cluster` label in queries.
    pub(super) cluster: String,
    pub(super) cpu_core_hour: f64,
    pub(super) memory_gb_hour: f64,
    pub(super) ingress_app: Option<String>,
    pub(super) ingress_namespace: Option<String>,
    pub(super) pod_regex: Option<String>,
}

/// The link between the areas.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) rtt: Time,
    pub(super) cloud_to_edge: BitRate,
    /// `network.edge-cloud-rtt-multiplier`; 1 where absent, 0 or false, as muPlacer reads it.
    pub(super) network_multiplier: f64,
    /// `optimizer.sbmp.edge-cloud-rtt-multiplier`, likewise.
    pub(super) sbmp_multiplier: f64,
    /// File with measured values; none where the key is absent or empty.
    pub(super) netinfo: Option<String>,
}

/// A service's entry.
#[derive(Debug)]
pub(super) struct ServiceKeys {
    pub(super) name: String,
    /// Its explicit id, else its position.
    pub(super) id: u32,
    /// Path of its entry.
    pub(super) at: String,
    pub(super) cloud_yamls: Vec<String>,
    pub(super) edge_yamls: Vec<String>,
}

/// Services that must not leave the cloud.
#[derive(Debug)]
pub(super) struct Locked {
    /// The key under which they were found, below `spec`.
    pub(super) key: &'static str,
    /// Their names.
    pub(super) services: BTreeSet<String>,
}

// === impl Application ===

impl Application {
    /// Whether a service must not leave the cloud.
    pub(super) fn is_locked(&self, service: &str) -> bool {
        self.locked
            .as_ref()
            .is_some_and(|locked| locked.services.contains(service))
    }
}

// === free functions ===

/// Reads the list of services and which of them are locked.
pub(super) fn application(spec: &Node<'_>, findings: &mut Findings) -> Application {
    let app = spec.key("app");
    let explicit_ids = app.key("explicit-service-id").boolean(findings).unwrap_or(false);
    let services = services(&app.key("services"), explicit_ids, findings);
    let locked = locked(&spec.key("optimizer"), &services, findings);
    Application {
        explicit_ids,
        services,
        locked,
    }
}

/// Reads the rest of what is below `spec`. Every fault is among the findings; the result is there if all that a problem
/// needs was.
pub(super) fn read(spec: &Node<'_>, app: Application, findings: &mut Findings) -> Option<Config> {
    let slo = spec.key("slo");
    let offload_above = slo.key("offload-delay-threshold").required(findings, Time::read);
    let unoffload_below = slo
        .key("unoffload-delay-threshold")
        .required(findings, Time::read);
    let quantile = Quantile {
        level: optional(&slo.key("delay-quantile"), findings, |value| number(value, 1.0)),
        offload_above: optional(&slo.key("offload-delay-quantile-threshold"), findings, Time::read),
        unoffload_below: optional(
            &slo.key("unoffload-delay-quantile-threshold"),
            findings,
            Time::read,
        ),
    };
    if let (Some(above), Some(below)) = (&offload_above, &unoffload_below)
        && above.micros <= below.micros
    {
        findings.error(
            slo.key("offload-delay-threshold"),
            format!(
                "is {}, not above unoffload-delay-threshold, {}: the band is empty",
                above.text, below.text
            ),
        );
    }
    let (cloud, edge) = areas(spec, findings);
    let traffic_gb = spec
        .keys(&["cloud-area", "cost", "network"])
        .required(findings, price);
    let link = link(spec, findings);
    Some(Config {
        band: Band {
            offload_above: offload_above?,
            unoffload_below: unoffload_below?,
        },
        quantile,
        cloud: cloud?,
        edge: edge?,
        traffic_gb: traffic_gb?,
        link: link?,
        namespace: spec.keys(&["app", "namespace"]).text(findings),
        query_period: spec.keys(&["telemetry", "query-period"]).text(findings),
        app,
    })
}

fn optional<T>(
    node: &Node<'_>,
    findings: &mut Findings,
    read: impl FnOnce(&Value) -> Result<T, String>,
) -> Option<T> {
    node.value().and_then(|value| findings.take(node, read(value)))
}

fn areas(spec: &Node<'_>, findings: &mut Findings) -> (Option<Area>, Option<Area>) {
    let (cloud, edge) = (spec.key("cloud-area"), spec.key("edge-area"));
    let cluster = |area: &Node<'_>, findings: &mut Findings| {
        area.key("cluster")
            .text(findings)
            .unwrap_or_default()
            .trim()
            .to_owned()
    };
    let (cloud_cluster, edge_cluster) = (cluster(&cloud, findings), cluster(&edge, findings));
    // A label that both areas share, or none, tells nothing apart.
    let distinct = cloud_cluster != edge_cluster;
    let name = |cluster: &str, other: &str, default: &str| {
        if distinct && !cluster.is_empty() {
            cluster.to_owned()
        } else if other == default {
            format!("{default}-area")
        } else {
            default.to_owned()
        }
    };
    let cloud_name = name(&cloud_cluster, &edge_cluster, "cloud");
    let edge_name = name(&edge_cluster, &cloud_cluster, "edge");
    (
        area(&cloud, cloud_name, cloud_cluster, findings),
        area(&edge, edge_name, edge_cluster, findings),
    )
}

fn area(node: &Node<'_>, name: String, cluster: String, findings: &mut Findings) -> Option<Area> {
    let cost = node.key("cost");
    let istio = node.key("istio");
    let cpu = cost.key("cpu").required(findings, price);
    let memory = cost.key("memory").required(findings, price);
    let ingress_app = istio.key("istio-ingress-source-app").text(findings);
    let ingress_namespace = istio.key("istio-ingress-namespace").text(findings);
    let pod_regex = node.key("pod-cidr-regex").text(findings);
    Some(Area {
        name,
        cluster,
        cpu_core_hour: cpu?,
        memory_gb_hour: memory?,
        ingress_app,
        ingress_namespace,
        pod_regex,
    })
}

fn link(spec: &Node<'_>, findings: &mut Findings) -> Option<Link> {
    let network = spec.key("network");
    let rtt = network.key("edge-cloud-rtt-ms").required(findings, Time::read);
    let bits = network.key("cloud-edge-bps").required(findings, BitRate::read);
    let network_multiplier = multiplier(&network.key("edge-cloud-rtt-multiplier"), findings);
    let sbmp = spec.keys(&["optimizer", "sbmp", "edge-cloud-rtt-multiplier"]);
    let sbmp_multiplier = multiplier(&sbmp, findings);
    let netinfo = network.key("netinfo-file").text(findings);
    Some(Link {
        rtt: rtt?,
        cloud_to_edge: bits?,
        network_multiplier,
        sbmp_multiplier,
        netinfo: netinfo.filter(|path| !path.trim().is_empty()),
    })
}

/// The factor that muPlacer applies. It is dropped, so what is no number is worth a warning only.
fn multiplier(node: &Node<'_>, findings: &mut Findings) -> f64 {
    let read = match node.value() {
        None | Some(Value::Bool(false)) => Ok(1.0),
        Some(value) => number(value, 1e6),
    };
    match read {
        Ok(0.0) => 1.0,
        Ok(factor) => factor,
        Err(what) => {
            findings.warn(node, what);
            1.0
        }
    }
}

fn services(list: &Node<'_>, explicit_ids: bool, findings: &mut Findings) -> Vec<ServiceKeys> {
    let items = list.items();
    if items.is_empty() {
        findings.error(list, "has no entry: list the application's services");
    }
    if items.len() > MAX_SERVICES {
        findings.error(
            list,
            format!("has {} entries; at most {MAX_SERVICES} are read", items.len()),
        );
        return Vec::new();
    }
    let mut names = BTreeMap::new();
    let mut ids = BTreeMap::new();
    let mut services = Vec::with_capacity(items.len());
    for (position, item) in items.iter().enumerate() {
        let name_node = item.key("name");
        let Some(name) = name_node.required(findings, name_text) else {
            continue;
        };
        if let Some(first) = names.insert(name.clone(), position) {
            findings.error(
                &name_node,
                format!("is `{name}`, as services[{first}] is: rename or remove one"),
            );
            continue;
        }
        let id_node = item.key("id");
        let id = if explicit_ids {
            id_node.count(findings)
        } else {
            None
        };
        if explicit_ids && id_node.value().is_none() {
            findings.error(
                &id_node,
                "is missing although explicit-service-id is true: add it, or set that to false",
            );
        }
        let id = id.unwrap_or_else(|| u32::try_from(position).unwrap_or(u32::MAX));
        if explicit_ids && let Some(first) = ids.insert(id, name.clone()) {
            findings.error(
                &id_node,
                format!("is {id}, as the id of `{first}` is: give each service its own"),
            );
        }
        let instances = item.key("instances");
        services.push(ServiceKeys {
            at: item.to_string(),
            id,
            name,
            cloud_yamls: yamls(&instances.key("cloud-yamls"), findings),
            edge_yamls: yamls(&instances.key("edge-yamls"), findings),
        });
    }
    services
}

/// A service's name: it must stay one word in tables and queries.
fn name_text(value: &Value) -> Result<String, String> {
    let name = scalar_text(value).unwrap_or_default();
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || name.len() > 253 || !name.chars().all(plain) {
        return Err(format!(
            "is `{}`; the value of the pods' `app` label belongs here: up to 253 letters, digits, `-`, `_` and `.`",
            one_line(&name)
        ));
    }
    Ok(name)
}

fn yamls(node: &Node<'_>, findings: &mut Findings) -> Vec<String> {
    let items = node.list(findings);
    if items.len() > MAX_YAMLS {
        findings.error(
            node,
            format!("has {} entries; at most {MAX_YAMLS} are read", items.len()),
        );
        return Vec::new();
    }
    let mut paths = Vec::new();
    for item in items {
        let path = item.text(findings).unwrap_or_default();
        if !path.is_empty() {
            paths.push(path);
        } else if item.value().is_none_or(|value| scalar_text(value).is_some()) {
            findings.error(&item, "is empty; the path of a YAML file belongs here");
        }
    }
    paths
}

/// `locked` from where the examples have it, else from where muPlacer looks for it.
fn locked(optimizer: &Node<'_>, services: &[ServiceKeys], findings: &mut Findings) -> Option<Locked> {
    let places = [
        ("optimizer.sbmp.locked", optimizer.keys(&["sbmp", "locked"])),
        ("optimizer.locked", optimizer.key("locked")),
    ];
    let mut found: Option<Locked> = None;
    for (key, node) in places {
        if node.value().is_none() {
            continue;
        }
        let items = node.list(findings);
        if items.len() > services.len() + 1 {
            findings.error(
                &node,
                format!(
                    "has {} entries for {} services: list each service to keep in the cloud once",
                    items.len(),
                    services.len()
                ),
            );
            continue;
        }
        let flags = flags(&items, services.len());
        let mut names = BTreeSet::new();
        for (position, item) in items.iter().enumerate() {
            let service = match &flags {
                Some(flags) if flags.get(position) == Some(&true) => {
                    services.iter().find(|s| s.id as usize == position)
                }
                Some(_) => continue,
                None => named(item, services, findings),
            };
            names.extend(service.map(|service| service.name.clone()));
        }
        match &mut found {
            Some(first) => first.services.extend(names),
            None => found = Some(Locked { key, services: names }),
        }
    }
    found
}

/// The entries as 0/1 for each service and the user, the form that muPlacer's code wants; none where they are no such
/// vector. As a list of ids such a list would name services 0 and 1 again and again.
fn flags(items: &[Node<'_>], services: usize) -> Option<Vec<bool>> {
    if services == 0 || items.len() != services + 1 {
        return None;
    }
    items
        .iter()
        .map(|item| match item.scalar()?.as_str() {
            "0" => Some(false),
            "1" => Some(true),
            _ => None,
        })
        .collect()
}

fn named<'s>(
    item: &Node<'_>,
    services: &'s [ServiceKeys],
    findings: &mut Findings,
) -> Option<&'s ServiceKeys> {
    let text = item.text(findings)?;
    let by_name = services.iter().find(|service| service.name == text);
    let by_id = || {
        let id: u32 = text.parse().ok()?;
        services.iter().find(|service| service.id == id)
    };
    let service = by_name.or_else(by_id);
    if service.is_none() {
        findings.error(
            item,
            format!(
                "is {}, which is no service's id or name: list those of services to keep in the cloud",
                one_line(&text)
            ),
        );
    }
    service
}
