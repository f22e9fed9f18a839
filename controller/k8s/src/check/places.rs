//! Nodes and where pods run.

use std::collections::BTreeMap;

use gma_core::ids::AreaName;

use super::{Finding, Inputs, Node, Pod, named};
use crate::locality::AreaMap;
use crate::rule::Areas;

pub(super) fn check(inputs: &Inputs<'_>) -> Vec<Finding> {
    let mut findings: Vec<Finding> = denied(inputs).into_iter().collect();
    let Some(nodes) = inputs.nodes else {
        return findings;
    };
    if let Some(areas) = inputs.areas {
        findings.extend(of_areas(areas, nodes));
    }
    findings.extend(localities(inputs, nodes));
    findings.extend(offloading(inputs, nodes));
    if let Some(pods) = inputs.pods {
        findings.extend(waiting(pods));
        if let Some(areas) = inputs.areas {
            findings.extend(outside(areas, nodes, pods));
            findings.extend(gateways(areas, pods));
        }
    }
    findings
}

fn denied(inputs: &Inputs<'_>) -> Option<Finding> {
    if inputs.denied.is_empty() {
        return None;
    }
    let rights: Vec<String> = inputs.denied.iter().cloned().collect();
    Some(Finding::error(
        format!("ServiceAccount {}/gma", inputs.own_namespace),
        format!("may not {}", rights.join(", ")),
        "apply deploy/base/rbac.yaml again, with an account that may write roles",
    ))
}

/// Each area has a node that is ready.
fn of_areas(areas: Areas<'_>, nodes: &[Node]) -> Vec<Finding> {
    let mut by_area: BTreeMap<&AreaName, Vec<&Node>> = BTreeMap::new();
    for node in nodes {
        if let Some(area) = areas.map.area_of(&node.locality) {
            by_area.entry(area).or_default().push(node);
        }
    }
    let mut findings = Vec::new();
    for area in areas.map.names() {
        let object = format!("area {area}");
        match by_area.get(area) {
            None => findings.push(Finding::error(
                object,
                "no node lies in it",
                "label its nodes with topology.kubernetes.io/region and zone (with Liqo: the labels of the remote \
                 cluster), or correct spec.areas",
            )),
            Some(nodes) if !nodes.iter().any(|node| node.is_ready) => {
                let is_virtual = nodes.iter().any(|node| node.is_virtual);
                let names: Vec<String> = nodes.iter().map(|node| node.name.clone()).collect();
                let fix = if is_virtual {
                    "look at the peering: `liqoctl info`"
                } else {
                    "look at the nodes: `kubectl describe node`"
                };
                findings.push(Finding::error(
                    object,
                    format!("none of its nodes is ready: {}", named(&names)),
                    fix,
                ));
            }
            Some(_) => {}
        }
    }
    findings
}

/// Each edge has a gateway that is ready: users' delay is measured there.
fn gateways(areas: Areas<'_>, pods: &[Pod]) -> Vec<Finding> {
    let has_gateway = |edge: &AreaName| {
        pods.iter()
            .any(|pod| pod.is_ready && pod.gateway_of.as_ref() == Some(edge))
    };
    let edges = areas.map.names().into_iter().filter(|area| *area != areas.cloud);
    edges
        .filter(|edge| !has_gateway(edge))
        .map(|edge| {
            Finding::error(
                format!("area {edge}"),
                "no pod of its gateway is ready: the users' delay is not measured",
                "compare spec.areas.edges[].gateway with the gateway's namespace, labels and node",
            )
        })
        .collect()
}

/// Where an edge is another cluster behind a virtual node: pods of the application may go there, and proxies there see the
/// controller's Service.
fn offloading(inputs: &Inputs<'_>, nodes: &[Node]) -> Vec<Finding> {
    let is_ours = |node: &Node| {
        inputs
            .areas
            .is_none_or(|areas| areas.map.area_of(&node.locality).is_some())
    };
    if !nodes.iter().any(|node| node.is_virtual && is_ours(node)) {
        return Vec::new();
    }
    let mut findings = Vec::new();
    let strategy = inputs.offloaded.get(inputs.namespace).map(String::as_str);
    if !matches!(strategy, Some("LocalAndRemote" | "Remote")) {
        findings.push(Finding::error(
            format!("Namespace {}", inputs.namespace),
            "no pod of it may run on Liqo's virtual nodes",
            offload(inputs.namespace, "LocalAndRemote"),
        ));
    }
    if !inputs.offloaded.contains_key(inputs.own_namespace) {
        findings.push(Finding::error(
            format!("Namespace {}", inputs.own_namespace),
            "its Services are not known in the edge's cluster: proxies there can't report",
            offload(inputs.own_namespace, "Local"),
        ));
    }
    findings
}

fn offload(namespace: &str, strategy: &str) -> String {
    format!(
        "`liqoctl offload namespace {namespace} --namespace-mapping-strategy EnforceSameName --pod-offloading-strategy {strategy}`"
    )
}

/// Nodes without a region, and areas that are given without one.
fn localities(inputs: &Inputs<'_>, nodes: &[Node]) -> Vec<Finding> {
    let has_no_region = |node: &&Node| node.locality.region.is_empty();
    let names: Vec<String> = match inputs.areas.map(|areas| areas.map) {
        Some(AreaMap::Zones(_)) => {
            return vec![Finding::warning(
                "spec.areas",
                "areas are zones without regions: calls move by readiness, in one step, and at one edge alone; standby and \
                 cloudStandbyPercent have no effect",
                "label the nodes with topology.kubernetes.io/region too, and give localities instead of zones: then calls move \
                 in steps",
            )];
        }
        Some(map) => {
            let outside = |node: &&Node| map.area_of(&node.locality).is_none();
            let nodes = nodes.iter().filter(outside).filter(has_no_region);
            nodes.map(|node| node.name.clone()).collect()
        }
        None => nodes
            .iter()
            .filter(has_no_region)
            .map(|node| node.name.clone())
            .collect(),
    };
    if names.is_empty() {
        return Vec::new();
    }
    vec![Finding::warning(
        format!("Node {}", named(&names)),
        "no label topology.kubernetes.io/region: calls to pods on it can't be weighted",
        "label it with a region, and then change a pod or EndpointSlice of each service: istiod sees the label only then",
    )]
}

/// Pods of the application in no area.
fn outside(areas: Areas<'_>, nodes: &[Node], pods: &[Pod]) -> Vec<Finding> {
    let mut outside: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for pod in pods {
        let Some(name) = pod.node.as_deref() else { continue };
        let node = nodes.iter().find(|node| node.name == name);
        // A node that was not listed came or went meanwhile.
        if node.is_some_and(|node| areas.map.area_of(&node.locality).is_none()) {
            outside.entry(name).or_default().push(pod.path());
        }
    }
    outside
        .into_iter()
        .map(|(node, pods)| {
            Finding::error(
                format!("Node {node}"),
                format!("it lies in no area, and has the pods {}", named(&pods)),
                "add its locality to spec.areas, or label it as the nodes of an area are: until then the services are held",
            )
        })
        .collect()
}

fn waiting(pods: &[Pod]) -> Option<Finding> {
    let waiting: Vec<String> = pods
        .iter()
        .filter(|pod| pod.node.is_none())
        .map(Pod::path)
        .collect();
    if waiting.is_empty() {
        return None;
    }
    Some(Finding::warning(
        format!("Pod {}", named(&waiting)),
        "waits for a node",
        "`kubectl describe pod` says which of its wishes no node fulfils; with Liqo, whether its namespace is offloaded",
    ))
}
