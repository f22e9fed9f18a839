//! Whether every proxy has the filter, once, and is heard.

use std::collections::{BTreeMap, BTreeSet};

use gma_core::ids::AreaName;
use serde_json::Value;

use super::{Finding, Inputs, Pod, named, text};

/// Where the documents say how it is loaded.
const MANIFESTS: &str = "apply istio-manifests";

pub(super) fn check(inputs: &Inputs<'_>) -> Vec<Finding> {
    let Some(plugins) = inputs.plugins else {
        return vec![Finding::error(
            "cluster",
            "Istio's definition of WasmPlugin is not there",
            "install Istio 1.26 or later",
        )];
    };
    let plugins: Vec<&Value> = plugins.iter().filter(|plugin| is_ours(plugin)).collect();
    let mut findings = injection(inputs);
    for plugin in &plugins {
        findings.extend(judge(plugin));
    }
    findings.extend(loaded(inputs, &plugins));
    findings.extend(heard(inputs, &plugins));
    findings
}

/// One that tells a module where our controller is.
fn is_ours(plugin: &Value) -> bool {
    text(plugin, "/spec/pluginConfig/controller/cluster").is_some()
}

fn injection(inputs: &Inputs<'_>) -> Vec<Finding> {
    let bare = inputs.pods.iter().filter(|pod| !pod.has_proxy).map(Pod::path);
    let names: Vec<String> = bare.collect();
    if names.is_empty() {
        return Vec::new();
    }
    vec![Finding::warning(
        format!("Pod {}", named(&names)),
        "has no proxy: its calls are not measured, and calls by it are not steered",
        format!(
            "`kubectl label namespace {} istio-injection=enabled`, and start the pods again",
            inputs.namespace
        ),
    )]
}

fn judge(plugin: &Value) -> Vec<Finding> {
    let object = format!("WasmPlugin {}", path(plugin));
    let mut findings = Vec::new();
    if text(plugin, "/spec/failStrategy") != Some("FAIL_OPEN") {
        findings.push(Finding::error(
            &object,
            "failStrategy is not FAIL_OPEN: where the module can't be fetched or fails, every request fails",
            "set spec.failStrategy to FAIL_OPEN",
        ));
    }
    if text(plugin, "/spec/url").is_some_and(|url| url.starts_with("file://")) {
        findings.push(Finding::warning(
            &object,
            "the module is a file: a proxy without it answers 500 to every request, FAIL_OPEN or not",
            "make sure that each proxy has it before it starts, or use an oci:// address",
        ));
    }
    let entries = plugin.pointer("/spec/match").and_then(Value::as_array);
    let entries = || entries.into_iter().flatten();
    let modes: BTreeSet<&str> = entries()
        .map(|entry| text(entry, "/mode").unwrap_or("UNDEFINED"))
        .collect();
    let is_whole = modes.is_empty()
        || modes.contains("CLIENT_AND_SERVER")
        || modes.contains("UNDEFINED")
        || (modes.contains("CLIENT") && modes.contains("SERVER"));
    if !is_whole {
        findings.push(Finding::error(
            &object,
            "match leaves out a side: gateways and callers count as clients, what is called as servers",
            "set spec.match to [{mode: CLIENT_AND_SERVER}]",
        ));
    }
    if entries().any(|entry| entry.get("ports").is_some()) {
        findings.push(Finding::warning(
            &object,
            "match names ports: requests to others are not measured",
            "leave spec.match[].ports out",
        ));
    }
    findings
}

/// Proxies that no plugin matches, and those that several do.
fn loaded(inputs: &Inputs<'_>, plugins: &[&Value]) -> Vec<Finding> {
    let proxies: Vec<&Pod> = inputs.pods.iter().filter(|pod| pod.has_proxy).collect();
    let mut missing = Vec::new();
    let mut several: BTreeMap<Vec<String>, Vec<String>> = BTreeMap::new();
    for pod in &proxies {
        let matching: Vec<String> = matching(inputs, plugins, pod).map(path).collect();
        match matching.len() {
            0 => missing.push(pod.path()),
            1 => {}
            _ => several.entry(matching).or_default().push(pod.path()),
        }
    }
    let mut findings = Vec::new();
    if !missing.is_empty() {
        findings.push(Finding::error(
            format!("Pod {}", named(&missing)),
            format!(
                "{} of {} proxies do not get the filter: no WasmPlugin of it matches",
                missing.len(),
                proxies.len()
            ),
            format!(
                "{MANIFESTS} in their namespaces, or once in {}",
                inputs.root_namespace
            ),
        ));
    }
    findings.extend(several.into_iter().map(|(plugins, pods)| {
        Finding::error(
            format!("WasmPlugin {}", plugins.join(", ")),
            format!(
                "all match the proxy of {}: each request is counted {} times",
                named(&pods),
                plugins.len()
            ),
            "keep one of them for a proxy: that of its namespace, or that of the root namespace",
        )
    }));
    findings
}

/// The plugins that istiod gives to a pod's proxy.
fn matching<'a>(inputs: &Inputs<'_>, plugins: &[&'a Value], pod: &Pod) -> impl Iterator<Item = &'a Value> {
    plugins.iter().copied().filter(move |plugin| {
        let namespace = text(plugin, "/metadata/namespace").unwrap_or_default();
        let labels = plugin
            .pointer("/spec/selector/matchLabels")
            .and_then(Value::as_object);
        let is_near = namespace == pod.namespace || namespace == inputs.root_namespace;
        is_near
            && labels.into_iter().flatten().all(|(key, value)| {
                pod.labels
                    .get(key)
                    .is_some_and(|has| Some(has.as_str()) == value.as_str())
            })
    })
}

/// Ready proxies with the filter whose reports do not come.
fn heard(inputs: &Inputs<'_>, plugins: &[&Value]) -> Vec<Finding> {
    let Some(heard) = inputs.heard else {
        return Vec::new();
    };
    let expected: Vec<&Pod> = inputs
        .pods
        .iter()
        .filter(|pod| pod.has_proxy && pod.is_ready && matching(inputs, plugins, pod).next().is_some())
        .collect();
    let mut by_area: BTreeMap<Option<&AreaName>, (Vec<String>, usize)> = BTreeMap::new();
    for pod in &expected {
        let node = inputs
            .nodes
            .iter()
            .find(|node| Some(&node.name) == pod.node.as_ref());
        let area = node.and_then(|node| inputs.areas.area_of(&node.locality));
        let (silent, all) = by_area.entry(area).or_default();
        *all += 1;
        if !heard.contains(&pod.path()) {
            silent.push(pod.path());
        }
    }
    let silent = by_area.into_iter().filter(|(_, (silent, _))| !silent.is_empty());
    silent
        .map(|(area, (silent, all))| {
            let area = area.map_or("no area", AreaName::as_str);
            let what = format!("{} of {all} proxies with the filter do not report", silent.len());
            if silent.len() == all {
                return Finding::error(
                    format!("area {area}"),
                    what,
                    format!(
                        "see whether they reach the Service gma-reports of {0}, and whether a Sidecar keeps them from {0}",
                        inputs.own_namespace
                    ),
                );
            }
            Finding::warning(
                format!("Pod {}", named(&silent)),
                what,
                format!(
                    "look for gma in the proxies' logs; Istio 1.26 is needed, and no Sidecar may keep them from {}",
                    inputs.own_namespace
                ),
            )
        })
        .collect()
}

fn path(object: &Value) -> String {
    let part = |pointer| text(object, pointer).unwrap_or_default();
    format!("{}/{}", part("/metadata/namespace"), part("/metadata/name"))
}
