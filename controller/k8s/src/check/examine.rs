//! From what was listed to findings, for each object of a namespace.

use std::collections::{BTreeMap, BTreeSet};

use gma_core::cluster::Weights;
use gma_core::ids::{AreaName, ServiceName};
use serde::Serialize;
use serde_json::Value;

use super::controller::{self, Controller};
use super::told::Told;
use super::{Finding, Inputs, Node, Pod, check, definition, filter, instances, named, path, sorted, text};
use crate::api::EdgePlacement;
use crate::locality::{AreaMap, Locality};
use crate::rule::{Areas, Held, Mesh, Order, Rule, write};
use crate::settings::{Hosts, Wanted, convert};
use crate::view::selects;

/// What is checked.
#[derive(Clone, Debug)]
pub struct Scope {
    /// The application's namespace; none: that of the configuration.
    pub namespace: Option<String>,
    /// One `EdgePlacement`; none: all of the namespace.
    pub object: Option<String>,
    /// The controller's namespace, usually `gma-system`.
    pub own_namespace: String,
    /// The mesh's root namespace, usually `istio-system`.
    pub root_namespace: String,
    /// The cluster's domain, usually `cluster.local`.
    pub domain: String,
    /// What the controller tells; none: it is asked through the API server.
    pub told: Option<Told>,
}

/// What a check says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// What was looked at.
    pub applications: Vec<Application>,
    /// What was found, the worst first.
    pub findings: Vec<Finding>,
}

/// An application that was looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Application {
    /// Its namespace.
    pub namespace: String,
    /// Its `EdgePlacement`; none: it has none yet.
    pub object: Option<String>,
    /// Pods with a proxy of the mesh, the edges' gateways among them.
    pub proxies: usize,
    /// Of those, proxies to which the filter is given.
    pub with_filter: usize,
    /// Of those, proxies that reported in the last minute; none: no controller that looks after it was asked.
    pub reporting: Option<usize>,
}

/// What was listed, as the API server gives it; none: it could not be listed.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) scope: Scope,
    pub(super) namespace: String,
    pub(super) objects: Vec<Value>,
    /// Namespaces with other objects, where this one has none.
    pub(super) elsewhere: Vec<String>,
    /// The inner none: it is not installed.
    pub(super) definition: Option<Option<Value>>,
    pub(super) nodes: Option<Vec<Value>>,
    /// Of the application's namespace and the gateways'.
    pub(super) pods: Option<Vec<Value>>,
    pub(super) own_pods: Option<Vec<Value>>,
    pub(super) services: Option<Vec<Value>>,
    pub(super) own_services: Option<Vec<Value>>,
    pub(super) workloads: Vec<Value>,
    pub(super) autoscalers: Vec<Value>,
    pub(super) rules: Option<Vec<Value>>,
    pub(super) sidecars: Vec<Value>,
    pub(super) plugins: Option<Vec<Value>>,
    pub(super) offloadings: Vec<Value>,
    pub(super) has_metrics: bool,
    pub(super) told: Told,
    pub(super) denied: BTreeSet<String>,
    /// What was found while it was listed.
    pub(super) findings: Vec<Finding>,
}

/// Everything that is found.
pub(super) fn report(found: &Found) -> Report {
    let mut findings = found.findings.clone();
    if let Some(installed) = &found.definition {
        findings.extend(definition::check(installed.as_ref()));
    }
    findings.extend(controller::check(&Controller {
        namespace: &found.scope.own_namespace,
        pods: found.own_pods.as_deref(),
        services: found.own_services.as_deref(),
        told: &found.told,
    }));
    let mut applications = Vec::new();
    for object in &found.objects {
        let (application, more) = of_object(found, object);
        applications.push(application);
        findings.extend(more);
    }
    if found.objects.is_empty() {
        let (application, more) = preflight(found);
        applications.push(application);
        findings.extend(more);
    }
    Report {
        applications,
        findings: sorted(findings),
    }
}

/// An application without an object.
fn preflight(found: &Found) -> (Application, Vec<Finding>) {
    let nodes = nodes(found);
    let (application, mut findings) = judge(found, None, None, &nodes, Decided::default());
    let localities: BTreeSet<String> = nodes
        .iter()
        .flatten()
        .filter(|node| !node.locality.region.is_empty())
        .map(|node| node.locality.to_string())
        .collect();
    let localities: Vec<String> = localities.into_iter().collect();
    let mut what = "there is no EdgePlacement in it".to_owned();
    if !found.elsewhere.is_empty() {
        what = format!("{what}, but in {}", named(&found.elsewhere));
    }
    let fix = if localities.is_empty() {
        "write one: deploy/examples/edgeplacement.yaml".to_owned()
    } else {
        format!(
            "write one: deploy/examples/edgeplacement.yaml; areas are made of the nodes' localities: {}",
            named(&localities)
        )
    };
    findings.push(Finding::info(format!("Namespace {}", found.namespace), what, fix));
    (application, findings)
}

fn of_object(found: &Found, object: &Value) -> (Application, Vec<Finding>) {
    let mut findings = controller::account(object, &found.told);
    let installed = found.definition.as_ref().and_then(Option::as_ref);
    findings.extend(definition::dropped(object, installed));
    let hosts = Hosts {
        namespace: found.namespace.clone(),
        domain: found.scope.domain.clone(),
    };
    let read = serde_json::from_value::<EdgePlacement>(object.clone()).map_err(|error| error.to_string());
    let wanted = read.and_then(|read| convert(&read.spec, &hosts).map_err(|faults| faults.to_string()));
    let nodes = nodes(found);
    let decided = match &wanted {
        Ok(wanted) => decide(found, object, wanted, &hosts, &nodes),
        Err(faults) => {
            findings.push(Finding::error(
                format!("EdgePlacement {}", path(object)),
                format!("its spec can't be used: {faults}"),
                "correct the fields that are named, and apply it again",
            ));
            Decided::default()
        }
    };
    let (application, more) = judge(found, Some(object), wanted.as_ref().ok(), &nodes, decided);
    findings.extend(more);
    (application, findings)
}

/// What the rule writer and the deriving of instances say.
#[derive(Debug, Default)]
struct Decided {
    held: BTreeMap<ServiceName, Held>,
    instances: instances::Judged,
    findings: Vec<Finding>,
}

fn judge(
    found: &Found,
    object: Option<&Value>,
    wanted: Option<&Wanted>,
    nodes: &Option<Vec<Node>>,
    decided: Decided,
) -> (Application, Vec<Finding>) {
    let pods = pods(found, wanted, nodes.as_deref());
    let offloaded: BTreeMap<String, String> = found.offloadings.iter().filter_map(offloading).collect();
    // A controller that does nothing for the object hears nobody of it.
    let is_looked_after = object.is_some_and(|object| !controller::is_left_alone(object));
    let heard = match &found.told {
        Told::State { leads: true, heard } if is_looked_after => Some(heard),
        Told::State { .. } | Told::Nothing(_) => None,
    };
    let inputs = Inputs {
        namespace: &found.namespace,
        root_namespace: &found.scope.root_namespace,
        areas: wanted.map(areas),
        nodes: nodes.as_deref(),
        offloaded: &offloaded,
        own_namespace: &found.scope.own_namespace,
        pods: pods.as_deref(),
        services: found.services.as_deref().unwrap_or_default(),
        plugins: found.plugins.as_deref(),
        sidecars: &found.sidecars,
        autoscalers: &found.autoscalers,
        has_metrics: found.has_metrics,
        held: &decided.held,
        refused: &decided.instances.refused,
        notes: &decided.instances.notes,
        heard,
        denied: &found.denied,
    };
    let (proxies, with_filter) = filter::counts(&inputs);
    let reporting = heard.map(|heard| {
        let pods = pods.iter().flatten();
        pods.filter(|pod| pod.has_proxy && heard.contains(&pod.path()))
            .count()
    });
    let application = Application {
        namespace: found.namespace.clone(),
        object: object.and_then(|object| Some(text(object, "/metadata/name")?.to_owned())),
        proxies,
        with_filter,
        reporting,
    };
    let mut findings = check(&inputs);
    findings.extend(decided.findings);
    findings.extend(decided.instances.findings);
    (application, findings)
}

fn areas(wanted: &Wanted) -> Areas<'_> {
    Areas {
        cloud: &wanted.config.cloud,
        map: &wanted.areas,
    }
}

fn nodes(found: &Found) -> Option<Vec<Node>> {
    let nodes = found.nodes.as_ref()?.iter();
    let read = nodes.filter_map(|node| serde_json::from_value(node.clone()).ok());
    Some(read.map(|node| Node::of(&node)).collect())
}

/// Pods of the application and of its gateways that have not ended.
fn pods(found: &Found, wanted: Option<&Wanted>, nodes: Option<&[Node]>) -> Option<Vec<Pod>> {
    let nowhere = AreaMap::Localities(BTreeMap::new());
    let (map, edges) = wanted.map_or((&nowhere, None), |wanted| (&wanted.areas, Some(&wanted.edges)));
    let nobody = BTreeMap::new();
    let has_ended = |pod: &&Value| {
        pod.pointer("/metadata/deletionTimestamp").is_some()
            || matches!(text(pod, "/status/phase"), Some("Succeeded" | "Failed"))
    };
    let live = found.pods.as_ref()?.iter().filter(|pod| !has_ended(pod));
    let read = live.filter_map(|pod| serde_json::from_value(pod.clone()).ok());
    let pods = read.map(|pod| Pod::of(&pod, nodes.unwrap_or_default(), map, edges.unwrap_or(&nobody)));
    // Of the gateways' namespaces only the gateways are ours.
    Some(
        pods.filter(|pod| pod.namespace == found.namespace || pod.gateway_of.is_some())
            .collect(),
    )
}

/// Namespace and strategy of a `NamespaceOffloading`.
fn offloading(object: &Value) -> Option<(String, String)> {
    let namespace = text(object, "/metadata/namespace")?.to_owned();
    let strategy = text(object, "/spec/podOffloadingStrategy").unwrap_or("LocalAndRemote");
    Some((namespace, strategy.to_owned()))
}

fn decide(
    found: &Found,
    object: &Value,
    wanted: &Wanted,
    hosts: &Hosts,
    nodes: &Option<Vec<Node>>,
) -> Decided {
    let mut decided = Decided {
        instances: instances::judge(found, object, wanted, hosts),
        ..Decided::default()
    };
    let (Some(nodes), Some(services)) = (nodes, &found.services) else {
        return decided;
    };
    let Some(pods) = pods(found, Some(wanted), Some(nodes)) else {
        return decided;
    };
    let parsed = found.rules.iter().flatten();
    let mesh = Mesh {
        root_namespace: found.scope.root_namespace.clone(),
        rules: parsed
            .filter_map(|rule| Rule::try_new(rule, &hosts.domain).ok())
            .collect(),
    };
    for service in services {
        let selector = instances::selector(service);
        let of_service = |pod: &&Pod| {
            pod.namespace == found.namespace && pod.gateway_of.is_none() && selects(&selector, &pod.labels)
        };
        let ready: Vec<&Pod> = pods
            .iter()
            .filter(of_service)
            .filter(|pod| pod.is_ready)
            .collect();
        if selector.is_empty() || ready.is_empty() {
            continue;
        }
        let host = hosts.of(text(service, "/metadata/name").unwrap_or_default());
        let places = ready.iter().filter_map(|pod| place(pod, nodes));
        // Those in no area are a finding of their node.
        let reported: BTreeSet<Locality> = places
            .filter(|locality| wanted.areas.area_of(locality).is_some())
            .collect();
        let cloud = &wanted.config.cloud;
        if !reported
            .iter()
            .any(|one| wanted.areas.area_of(one) == Some(cloud))
        {
            decided.findings.push(Finding::error(
                format!("service {host}"),
                format!("no pod of it is Ready in {cloud}, where the whole application always runs"),
                "start one there: calls are never steered away from an edge before",
            ));
            continue;
        }
        if found.rules.is_some()
            && matches!(wanted.areas, AreaMap::Localities(_))
            && let Err(held) = order(&mesh, wanted, &host, &found.namespace, &reported, &path(object))
        {
            decided.held.insert(host, held);
        }
    }
    decided.findings.extend(told_held(found, object, &decided.held));
    decided
}

/// What is held by the controller's own account, and was not found here: it knows who calls, and from where.
fn told_held(found: &Found, object: &Value, held: &BTreeMap<ServiceName, Held>) -> Vec<Finding> {
    if !matches!(found.told, Told::State { leads: true, .. }) {
        return Vec::new();
    }
    let told = object.pointer("/status/held").and_then(Value::as_array);
    let told = told.into_iter().flatten().filter_map(|one| {
        let service = text(one, "/service")?;
        let what = format!("its rule is held: {}", text(one, "/why")?);
        let fix = text(one, "/fix").unwrap_or("`gma explain` says more");
        (!held.contains_key(&ServiceName::from(service)))
            .then(|| Finding::error(format!("service {service}"), what, fix))
    });
    told.collect()
}

/// What the rule writer says of a service: everything to the cloud, which is what it begins with.
fn order(
    mesh: &Mesh,
    wanted: &Wanted,
    host: &ServiceName,
    namespace: &str,
    reported: &BTreeSet<Locality>,
    object: &str,
) -> Result<(), Held> {
    let cloud = &wanted.config.cloud;
    let names = wanted.areas.names().into_iter();
    let routes: BTreeMap<AreaName, Weights> = names
        .map(|area| (area.clone(), Weights::from([(cloud.clone(), 100)])))
        .collect();
    let mut callers = BTreeSet::from([namespace.to_owned()]);
    callers.extend(wanted.edges.values().map(|edge| edge.gateway_namespace.clone()));
    let order = Order {
        host,
        namespace,
        callers: &callers,
        unlocated_caller: None,
        reported,
        routes: &routes,
        object,
    };
    write(mesh, areas(wanted), &order).map(drop)
}

/// Where a pod is, as istiod sees it.
fn place(pod: &Pod, nodes: &[Node]) -> Option<Locality> {
    // Istio writes it with dots, for a label has no slash.
    if let Some(own) = pod.labels.get("istio-locality") {
        return Some(Locality::parse(&own.replace('.', "/")));
    }
    let node = nodes.iter().find(|node| Some(&node.name) == pod.node.as_ref())?;
    Some(node.locality.clone())
}
