//! Nodes and where pods run.

use std::collections::BTreeMap;

use gma_core::ids::AreaName;

use super::{Finding, Inputs, Node, named};
use crate::locality::AreaMap;

pub(super) fn check(inputs: &Inputs<'_>) -> Vec<Finding> {
    let mut findings = areas(inputs);
    findings.extend(nodes(inputs));
    findings.extend(gateways(inputs));
    findings.extend(offloading(inputs));
    findings.extend(pods(inputs));
    if inputs.denied.is_empty() {
        return findings;
    }
    let rights: Vec<String> = inputs.denied.iter().cloned().collect();
    findings.push(Finding::error(
        format!("ServiceAccount {}/gma", inputs.own_namespace),
        format!("may not {}", rights.join(", ")),
        "apply deploy/base again, with an account that may write roles",
    ));
    findings
}

/// Each area has a node that is ready.
fn areas(inputs: &Inputs<'_>) -> Vec<Finding> {
    let mut by_area: BTreeMap<&AreaName, Vec<&Node>> = BTreeMap::new();
    for node in inputs.nodes {
        if let Some(area) = inputs.areas.area_of(&node.locality) {
            by_area.entry(area).or_default().push(node);
        }
    }
    let mut findings = Vec::new();
    for area in inputs.areas.names() {
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
fn gateways(inputs: &Inputs<'_>) -> Vec<Finding> {
    let has_gateway = |edge: &AreaName| {
        inputs
            .pods
            .iter()
            .any(|pod| pod.is_ready && pod.gateway_of.as_ref() == Some(edge))
    };
    let edges = inputs
        .areas
        .names()
        .into_iter()
        .filter(|area| *area != inputs.cloud);
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
fn offloading(inputs: &Inputs<'_>) -> Vec<Finding> {
    let has_virtual = inputs
        .nodes
        .iter()
        .any(|node| node.is_virtual && inputs.areas.area_of(&node.locality).is_some());
    if !has_virtual {
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

fn nodes(inputs: &Inputs<'_>) -> Vec<Finding> {
    let outside = |node: &&Node| inputs.areas.area_of(&node.locality).is_none();
    let without_region = inputs
        .nodes
        .iter()
        .filter(outside)
        .filter(|node| node.locality.region.is_empty() && matches!(inputs.areas, AreaMap::Localities(_)));
    let names: Vec<String> = without_region.map(|node| node.name.clone()).collect();
    let mut findings = Vec::new();
    if !names.is_empty() {
        findings.push(Finding::warning(
            format!("Node {}", named(&names)),
            "no label topology.kubernetes.io/region: calls to pods on it can't be weighted",
            "label it with a region, and then change a pod or EndpointSlice of each service: istiod sees the label only then",
        ));
    }
    if matches!(inputs.areas, AreaMap::Zones(_)) {
        findings.push(Finding::info(
            "spec.areas",
            "areas are zones without regions: calls move in one step, when an instance becomes Ready",
            "label the nodes with topology.kubernetes.io/region too and give localities, to get steps that are watched",
        ));
    }
    findings
}

/// Pods of the application in no area, and those that wait for a node.
fn pods(inputs: &Inputs<'_>) -> Vec<Finding> {
    let mut outside: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut waiting = Vec::new();
    for pod in inputs.pods {
        let Some(name) = &pod.node else {
            waiting.push(pod.path());
            continue;
        };
        let node = inputs.nodes.iter().find(|node| node.name == *name);
        // A node that was not listed came or went meanwhile.
        if node.is_some_and(|node| inputs.areas.area_of(&node.locality).is_none()) {
            outside.entry(name.clone()).or_default().push(pod.path());
        }
    }
    let mut findings: Vec<Finding> = outside
        .into_iter()
        .map(|(node, pods)| {
            Finding::error(
                format!("Node {node}"),
                format!("it lies in no area, and has the pods {}", named(&pods)),
                "add its locality to spec.areas, or label it as the nodes of an area are: until then the services are held",
            )
        })
        .collect();
    if !waiting.is_empty() {
        findings.push(Finding::warning(
            format!("Pod {}", named(&waiting)),
            "waits for a node",
            "`kubectl describe pod` says which of its wishes no node fulfils; with Liqo, whether its namespace is offloaded",
        ));
    }
    findings
}
