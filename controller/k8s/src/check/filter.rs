//! Whether every proxy has the filter, once, and is heard.

use std::collections::{BTreeMap, BTreeSet};

use gma_core::ids::AreaName;
use serde_json::Value;

use super::{Finding, Inputs, Pod, named, path, text};

/// Where the documents say how it is loaded.
const MANIFESTS: &str = "apply istio-manifests";

/// The first release whose proxies are supported.
const OLDEST: (u32, u32) = (1, 26);

pub(super) fn check(inputs: &Inputs<'_>) -> Vec<Finding> {
    let pods = inputs.pods.unwrap_or_default();
    let mut findings = injection(inputs, pods);
    findings.extend(versions(pods));
    findings.extend(kept_away(inputs));
    let Some(plugins) = inputs.plugins else {
        return findings;
    };
    let plugins: Vec<&Value> = plugins.iter().filter(|plugin| is_ours(plugin)).collect();
    if plugins.is_empty() {
        findings.push(Finding::error(
            "WasmPlugin",
            "no proxy of the mesh has the filter: nothing is measured",
            format!(
                "{MANIFESTS} in the namespaces of the application and the gateways, or once in {}",
                inputs.root_namespace
            ),
        ));
        return findings;
    }
    for plugin in plugins.iter().filter(|plugin| is_near(inputs, pods, plugin)) {
        findings.extend(judge(inputs, plugin));
    }
    findings.extend(loaded(inputs, pods, &plugins));
    findings.extend(heard(inputs, pods, &plugins));
    findings
}

/// How many proxies there are, and how many of them a plugin of ours matches.
pub(super) fn counts(inputs: &Inputs<'_>) -> (usize, usize) {
    let plugins = inputs.plugins.unwrap_or_default();
    let plugins: Vec<&Value> = plugins.iter().filter(|plugin| is_ours(plugin)).collect();
    let proxies = inputs.pods.unwrap_or_default().iter().filter(|pod| pod.has_proxy);
    let matched = proxies
        .clone()
        .filter(|pod| matching(inputs, &plugins, pod).next().is_some());
    (proxies.clone().count(), matched.count())
}

/// Whether it may be about these pods: other applications of the mesh have their own check.
fn is_near(inputs: &Inputs<'_>, pods: &[Pod], plugin: &Value) -> bool {
    let namespace = text(plugin, "/metadata/namespace").unwrap_or_default();
    namespace == inputs.root_namespace
        || namespace == inputs.namespace
        || pods.iter().any(|pod| pod.namespace == namespace)
}

/// One that tells a module where our controller is.
fn is_ours(plugin: &Value) -> bool {
    text(plugin, "/spec/pluginConfig/controller/cluster").is_some()
}

fn injection(inputs: &Inputs<'_>, pods: &[Pod]) -> Vec<Finding> {
    let bare = pods.iter().filter(|pod| !pod.has_proxy).map(Pod::path);
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

/// Proxies of an Istio that is too old.
fn versions(pods: &[Pod]) -> Option<Finding> {
    let is_old = |pod: &&Pod| pod.proxy_version.is_some_and(|version| version < OLDEST);
    let names: Vec<String> = pods.iter().filter(is_old).map(Pod::path).collect();
    if names.is_empty() {
        return None;
    }
    let all = pods.iter().filter(|pod| pod.has_proxy).count();
    Some(Finding::warning(
        format!("Pod {}", named(&names)),
        format!(
            "{} of {all} proxies are older than Istio {}.{}, with which the filter was tried first",
            names.len(),
            OLDEST.0,
            OLDEST.1
        ),
        "upgrade Istio, and start the pods again so that they get its proxy",
    ))
}

/// `Sidecar`s that leave the controller out of what a proxy knows.
fn kept_away(inputs: &Inputs<'_>) -> Vec<Finding> {
    let has_controller = |host: &str| {
        let (namespace, _) = host.split_once('/').unwrap_or((host, ""));
        namespace == "*" || namespace == inputs.own_namespace
    };
    let keeps_away = |sidecar: &&Value| {
        let egress = sidecar.pointer("/spec/egress").and_then(Value::as_array);
        egress.is_some_and(|egress| {
            let hosts = egress
                .iter()
                .filter_map(|listener| listener.get("hosts")?.as_array());
            let mut hosts = hosts.flatten().filter_map(Value::as_str);
            !egress.is_empty() && !hosts.any(has_controller)
        })
    };
    let found = inputs.sidecars.iter().filter(keeps_away);
    found
        .map(|sidecar| {
            Finding::error(
                format!("Sidecar {}", path(sidecar)),
                format!(
                    "its egress leaves out {}: its proxies can't report",
                    inputs.own_namespace
                ),
                format!("add {}/* to spec.egress[].hosts", inputs.own_namespace),
            )
        })
        .collect()
}

/// Proxies that a plugin matches and that did not report lately; none: nobody knows.
fn silent(inputs: &Inputs<'_>, plugin: &Value) -> Option<bool> {
    let heard = inputs.heard?;
    let mut pods = inputs
        .pods?
        .iter()
        .filter(|pod| pod.has_proxy && pod.is_ready && matching(inputs, &[plugin], pod).next().is_some());
    Some(pods.any(|pod| !heard.contains(&pod.path())))
}

fn judge(inputs: &Inputs<'_>, plugin: &Value) -> Vec<Finding> {
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
        let what = "the module is a file: a proxy without it answers 500 to every request, FAIL_OPEN or not";
        let fix = "make sure that each proxy has it before it starts, or use an oci:// address";
        // Who reports has it; a proxy that is still to come may not.
        findings.push(if silent(inputs, plugin) == Some(false) {
            Finding::info(&object, what, fix)
        } else {
            Finding::warning(&object, what, fix)
        });
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
fn loaded(inputs: &Inputs<'_>, pods: &[Pod], plugins: &[&Value]) -> Vec<Finding> {
    let proxies: Vec<&Pod> = pods.iter().filter(|pod| pod.has_proxy).collect();
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
fn heard(inputs: &Inputs<'_>, pods: &[Pod], plugins: &[&Value]) -> Vec<Finding> {
    let (Some(heard), Some(areas), Some(nodes)) = (inputs.heard, inputs.areas, inputs.nodes) else {
        return Vec::new();
    };
    let expected: Vec<&Pod> = pods
        .iter()
        .filter(|pod| pod.has_proxy && pod.is_ready && matching(inputs, plugins, pod).next().is_some())
        .collect();
    let mut by_area: BTreeMap<Option<&AreaName>, (Vec<String>, usize)> = BTreeMap::new();
    for pod in &expected {
        let node = nodes.iter().find(|node| Some(&node.name) == pod.node.as_ref());
        let area = node.and_then(|node| areas.map.area_of(&node.locality));
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
