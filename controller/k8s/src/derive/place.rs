//! On which nodes the pods of an edge may run.

use gma_core::ids::AreaName;
use k8s_openapi::api::core::v1::Taint;
use serde_json::{Map, Value, json};

use crate::locality::{AreaMap, REGION, SUBZONE, ZONE};

use super::{Edge, Note, Refused};

/// Labels that say where a node is or which pool it belongs to: constraints on them name nodes of the cloud.
pub const LOCATION_KEYS: [&str; 12] = [
    REGION,
    ZONE,
    SUBZONE,
    "kubernetes.io/hostname",
    "failure-domain.beta.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "node.kubernetes.io/instance-type",
    "liqo.io/type",
    "liqo.io/remote-cluster-id",
    "cloud.google.com/gke-nodepool",
    "eks.amazonaws.com/nodegroup",
    "kubernetes.azure.com/agentpool",
];

/// Taints with these beginnings say how a node is, or are tolerated by who set them.
const CONDITIONS: [&str; 3] = [
    "node.kubernetes.io/",
    "node.cloudprovider.kubernetes.io/",
    "virtual-node.liqo.io/",
];

/// The wishes of a pod about nodes and other pods; what is one of [`LOCATION_KEYS`] goes, what is about other pods is
/// preferred only.
pub(super) fn place(spec: &mut Map<String, Value>, edge: Edge<'_>) -> Result<Vec<Note>, Refused> {
    let area = requirements(edge.map, edge.name);
    if area.is_empty() {
        return Err(Refused::NoLocality {
            edge: edge.name.clone(),
        });
    }
    spec.remove("nodeName");
    let mut kept = Vec::new();
    if let Some(wanted) = spec.get_mut("nodeSelector").and_then(Value::as_object_mut) {
        wanted.retain(|key, _| !LOCATION_KEYS.contains(&key.as_str()));
        kept.extend(wanted.keys().cloned());
        if wanted.is_empty() {
            spec.remove("nodeSelector");
        }
    }
    let affinity = spec.entry("affinity").or_insert_with(|| json!({}));
    if !affinity.is_object() {
        *affinity = json!({});
    }
    if let Some(affinity) = affinity.as_object_mut() {
        let nodes = node_affinity(affinity.get("nodeAffinity"), &area, &mut kept);
        affinity.insert("nodeAffinity".to_owned(), nodes);
        for key in ["podAffinity", "podAntiAffinity"] {
            if let Some(wishes) = affinity.get_mut(key).and_then(Value::as_object_mut) {
                prefer(wishes);
            }
        }
    }
    if let Some(spread) = spec
        .get_mut("topologySpreadConstraints")
        .and_then(Value::as_array_mut)
    {
        for constraint in spread.iter_mut().filter_map(Value::as_object_mut) {
            constraint.insert("whenUnsatisfiable".to_owned(), "ScheduleAnyway".into());
            // Only legal with DoNotSchedule.
            constraint.remove("minDomains");
        }
    }
    tolerate(spec, edge.taints);
    kept.sort();
    kept.dedup();
    Ok(if kept.is_empty() {
        Vec::new()
    } else {
        vec![Note::NodeLabelsKept(kept)]
    })
}

/// For each locality of an area, what its nodes have: key and values.
pub(super) fn requirements(map: &AreaMap, area: &AreaName) -> Vec<Vec<(&'static str, Vec<String>)>> {
    match map {
        AreaMap::Zones(zones) => {
            let zones = zones.get(area).filter(|zones| !zones.is_empty());
            zones
                .map(|zones| vec![vec![(ZONE, zones.iter().cloned().collect())]])
                .unwrap_or_default()
        }
        AreaMap::Localities(patterns) => {
            let patterns = patterns.get(area).into_iter().flatten();
            let of = |pattern: &str| {
                let parts = [REGION, ZONE, SUBZONE].into_iter().zip(pattern.split('/'));
                parts
                    .filter(|(_, part)| *part != "*")
                    .map(|(key, part)| (key, vec![part.to_owned()]))
                    .collect::<Vec<_>>()
            };
            patterns
                .map(|pattern| of(pattern.as_str()))
                .filter(|parts| !parts.is_empty())
                .collect()
        }
    }
}

/// Each of the area's localities with each of the terms that were there.
fn node_affinity(
    found: Option<&Value>,
    area: &[Vec<(&'static str, Vec<String>)>],
    kept: &mut Vec<String>,
) -> Value {
    let terms = found.and_then(|found| {
        found
            .pointer("/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms")?
            .as_array()
    });
    let mut rests: Vec<Vec<Value>> = Vec::new();
    for term in terms.into_iter().flatten() {
        let rest = without_location(term);
        // One term that asks for nothing else is enough: they are alternatives.
        if rest.is_empty() {
            rests = vec![rest];
            break;
        }
        if !rests.contains(&rest) {
            rests.push(rest);
        }
    }
    if rests.is_empty() {
        rests.push(Vec::new());
    }
    kept.extend(rests.iter().flatten().filter_map(key_of).map(str::to_owned));
    let mut required = Vec::new();
    for rest in &rests {
        for locality in area {
            let own = locality
                .iter()
                .map(|(key, values)| json!({"key": key, "operator": "In", "values": values}));
            required.push(json!({"matchExpressions": own.chain(rest.iter().cloned()).collect::<Vec<_>>()}));
        }
    }
    let preferred = found
        .and_then(|found| found.get("preferredDuringSchedulingIgnoredDuringExecution"))
        .and_then(Value::as_array);
    let mut affinity = json!({
        "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": required},
    });
    let preferred: Vec<Value> = preferred
        .into_iter()
        .flatten()
        .filter(|one| {
            let before = expressions(one.get("preference")).count();
            one.pointer("/preference/matchFields").is_none()
                && one
                    .get("preference")
                    .map(without_location)
                    .unwrap_or_default()
                    .len()
                    == before
        })
        .cloned()
        .collect();
    if let (false, Some(fields)) = (preferred.is_empty(), affinity.as_object_mut()) {
        let key = "preferredDuringSchedulingIgnoredDuringExecution";
        fields.insert(key.to_owned(), preferred.into());
    }
    affinity
}

/// The expressions of a term that are not about location; fields name a node, so they go.
fn without_location(term: &Value) -> Vec<Value> {
    expressions(Some(term))
        .filter(|one| !key_of(one).is_some_and(|key| LOCATION_KEYS.contains(&key)))
        .cloned()
        .collect()
}

fn expressions(term: Option<&Value>) -> impl Iterator<Item = &Value> {
    let found = term
        .and_then(|term| term.get("matchExpressions"))
        .and_then(Value::as_array);
    found.into_iter().flatten()
}

fn key_of(expression: &Value) -> Option<&str> {
    expression.get("key").and_then(Value::as_str)
}

/// What is required of other pods becomes preferred, with the largest weight.
fn prefer(wishes: &mut Map<String, Value>) {
    let Some(Value::Array(required)) = wishes.remove("requiredDuringSchedulingIgnoredDuringExecution") else {
        return;
    };
    let preferred = wishes
        .entry("preferredDuringSchedulingIgnoredDuringExecution")
        .or_insert_with(|| json!([]));
    if let Some(preferred) = preferred.as_array_mut() {
        preferred.extend(
            required
                .into_iter()
                .map(|term| json!({"weight": 100, "podAffinityTerm": term})),
        );
    }
}

fn tolerate(spec: &mut Map<String, Value>, taints: &[Taint]) {
    if taints.is_empty() {
        return;
    }
    let tolerations = spec.entry("tolerations").or_insert_with(|| json!([]));
    let Some(tolerations) = tolerations.as_array_mut() else {
        return;
    };
    for taint in taints {
        let mut one = json!({"key": taint.key, "operator": "Exists", "effect": taint.effect});
        if let (Some(value), Some(fields)) = (&taint.value, one.as_object_mut()) {
            fields.insert("operator".to_owned(), "Equal".into());
            fields.insert("value".to_owned(), value.as_str().into());
        }
        if !tolerations.contains(&one) {
            tolerations.push(one);
        }
    }
}

/// The taints that every node of an area has: whoever does not tolerate them can't run there at all. A taint of some
/// nodes keeps others off for a reason, and one of a condition passes.
pub fn shared_taints<'a>(nodes: impl IntoIterator<Item = &'a [Taint]>) -> Vec<Taint> {
    let lasting = |taint: &&Taint| {
        taint.effect != "PreferNoSchedule" && !CONDITIONS.iter().any(|begin| taint.key.starts_with(begin))
    };
    let mut nodes = nodes.into_iter();
    let first = nodes.next().unwrap_or_default();
    let same = |a: &Taint, b: &Taint| (&a.key, &a.value, &a.effect) == (&b.key, &b.value, &b.effect);
    let mut shared: Vec<Taint> = first
        .iter()
        .filter(lasting)
        .map(|taint| Taint {
            time_added: None,
            ..taint.clone()
        })
        .collect();
    for node in nodes {
        shared.retain(|taint| node.iter().any(|other| same(taint, other)));
    }
    shared.sort_by(|a, b| (&a.key, &a.effect).cmp(&(&b.key, &b.effect)));
    shared
}
