//! The pod template of an edge's Deployment.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::{Edge, Note, Refused, Wish, Workload, place, renamed};

/// Labels and annotations that fix where a pod is or which address it has.
const OF_ONE_PLACE: [&str; 5] = [
    "istio-locality",
    "topology.istio.io/locality",
    "cni.projectcalico.org/ipAddrs",
    "cni.projectcalico.org/ipAddrsNoIpam",
    // Made by the Deployment's controller.
    "pod-template-hash",
];

/// Istio's annotation for a proxy's configuration.
const PROXY_CONFIG: &str = "proxy.istio.io/config";

/// Kubernetes' default of a pod's grace period, seconds.
const DEFAULT_GRACE: u64 = 30;

/// From the end of the proxy's drain to the end of the grace period, seconds: what it needs to end by itself.
const AFTER_DRAIN: u64 = 5;

/// A template and its labels.
pub(super) struct Template {
    pub(super) body: Value,
    pub(super) labels: Map<String, Value>,
    pub(super) notes: Vec<Note>,
}

/// What no edge can have.
pub(super) fn obstacle(name: &str, template: &Value) -> Result<(), Refused> {
    if let Some(spec) = template.get("spec").and_then(Value::as_object) {
        refuse_claims(spec, name)?;
    }
    let annotations = template.pointer("/metadata/annotations");
    let found = annotations.and_then(|annotations| annotations.get(PROXY_CONFIG));
    proxy_config(found, 0, name).map(|_| ())
}

/// The cloud's template for an edge.
pub(super) fn derive(
    cloud: &Workload<'_>,
    selected: &Map<String, Value>,
    own: &Map<String, Value>,
    edge: Edge<'_>,
    wish: &Wish<'_>,
) -> Result<Template, Refused> {
    let mut spec = cloud
        .template
        .get("spec")
        .and_then(Value::as_object)
        .cloned()
        .ok_or_else(|| super::missing(cloud.name, "spec.template.spec"))?;
    refuse_claims(&spec, cloud.name)?;
    let notes = place::place(&mut spec, edge)?;
    let found = cloud.template.pointer("/metadata/annotations");
    let mut annotations = found.and_then(Value::as_object).cloned().unwrap_or_default();
    annotations.retain(|key, _| !OF_ONE_PLACE.contains(&key.as_str()));
    let (config, drain) = proxy_config(annotations.get(PROXY_CONFIG), seconds(wish.drain), cloud.name)?;
    annotations.insert(PROXY_CONFIG.to_owned(), config.into());
    let grace = spec.get("terminationGracePeriodSeconds").and_then(Value::as_u64);
    let grace = grace
        .unwrap_or(DEFAULT_GRACE)
        .max(drain.saturating_add(AFTER_DRAIN));
    spec.insert("terminationGracePeriodSeconds".to_owned(), grace.into());
    let labels = labels(cloud.labels, selected, own, edge);
    Ok(Template {
        body: json!({"metadata": {"labels": labels, "annotations": annotations}, "spec": spec}),
        labels,
        notes,
    })
}

fn refuse_claims(spec: &Map<String, Value>, name: &str) -> Result<(), Refused> {
    let volumes = spec.get("volumes").and_then(Value::as_array);
    let claims: Vec<String> = volumes
        .into_iter()
        .flatten()
        .filter(|volume| {
            volume
                .get("persistentVolumeClaim")
                .is_some_and(|claim| !claim.is_null())
        })
        .map(|volume| {
            volume
                .get("name")
                .and_then(Value::as_str)
                .unwrap_or("?")
                .to_owned()
        })
        .collect();
    if claims.is_empty() {
        return Ok(());
    }
    Err(Refused::VolumeClaim {
        name: name.to_owned(),
        claims,
    })
}

/// The cloud's labels, and ours. Those that the Service selects stay as they are; of the others, a value that names the
/// cloud names the edge instead.
fn labels(
    cloud: &Map<String, Value>,
    selected: &Map<String, Value>,
    own: &Map<String, Value>,
    edge: Edge<'_>,
) -> Map<String, Value> {
    let mut labels = Map::new();
    for (key, value) in cloud {
        if selected.contains_key(key) {
            labels.insert(key.clone(), value.clone());
        } else if !OF_ONE_PLACE.contains(&key.as_str()) {
            let local = value
                .as_str()
                .and_then(|value| renamed(value, edge.cloud, edge.name));
            labels.insert(key.clone(), local.map_or_else(|| value.clone(), Value::from));
        }
    }
    labels.extend(own.clone());
    labels
}

/// The proxy goes on for as long as the pod may, and ends once no connection is active. Its configuration, and how long
/// it goes on, seconds.
fn proxy_config(found: Option<&Value>, wanted: u64, name: &str) -> Result<(String, u64), Refused> {
    let malformed = |why: String| Refused::Malformed {
        what: format!("the annotation {PROXY_CONFIG} of the pods of {name}"),
        why,
    };
    let text = found.and_then(Value::as_str).unwrap_or("{}");
    let parsed: Value = serde_norway::from_str(text).map_err(|error| malformed(error.to_string()))?;
    let mut config = match parsed {
        Value::Object(fields) => fields,
        Value::Null => Map::new(),
        other => return Err(malformed(format!("{other} is not a mapping"))),
    };
    let has = config.get("terminationDrainDuration").and_then(Value::as_str);
    let has = has.and_then(|text| text.strip_suffix('s')?.parse::<u64>().ok());
    let drain = has.unwrap_or_default().max(wanted);
    config.insert("terminationDrainDuration".to_owned(), format!("{drain}s").into());
    let variables = config.entry("proxyMetadata").or_insert_with(|| json!({}));
    let Some(variables) = variables.as_object_mut() else {
        return Err(malformed("proxyMetadata is not a mapping".to_owned()));
    };
    variables.insert("EXIT_ON_ZERO_ACTIVE_CONNECTIONS".to_owned(), "true".into());
    // JSON is YAML, and its keys are sorted: the same text each time.
    Ok((Value::from(config).to_string(), drain))
}

fn seconds(drain: Duration) -> u64 {
    drain.as_secs() + u64::from(drain.subsec_nanos() > 0)
}
