//! A service's instance at an edge: derived from its Deployment in the cloud, or a Deployment that the user has made.
//!
//! ```text
//! cloud's Deployment, Service, autoscaler, edge --derive--> bodies for server-side apply and what to know of them
//!                                                       \--> Refused, with what to do instead
//! the user's Deployment for this edge --existing--> what is scaled from zero
//! ```
//!
//! Objects go in and out as the JSON that the API server gives: a typed copy would lose the fields of newer servers
//! without a word. Same input, same bodies: applying them again changes nothing.
//!
//! What the edge's Deployment has of the cloud's: the pod template (containers, volumes, ServiceAccount, references to
//! ConfigMaps and Secrets, whose names are valid because the namespace is the same), the roll-out's strategy, and the
//! labels that select pods (Service, NetworkPolicy, AuthorizationPolicy, Sidecar stay in force).
//!
//! | what is left out or changed | why |
//! |---|---|
//! | `spec.replicas` | the cloud's count is not the edge's. It is chosen once, when the object is made; see [`Wish::replicas`] |
//! | `spec.paused` | a Deployment that is created paused makes no pods |
//! | selector | labels of our own: the cloud's is immutable and may not say which area it means |
//! | labels whose value names the cloud, unless the Service selects them | they say the edge: `web-cloud` becomes `web-edge-1` |
//! | labels and annotations of the object, but for a few names | a tracking label of Argo CD or Helm would have our object pruned |
//! | `istio-locality`, `topology.istio.io/locality` | they say the cloud's locality; the edge's is that of its nodes |
//! | fixed pod addresses | they are taken |
//! | `nodeName`, and constraints on location and node pools ([`LOCATION_KEYS`]) | they name nodes of the cloud; others stay, and a pod that they keep out stays Pending |
//! | wishes about other pods, spread over topologies | become preferences: a virtual node stands for a whole cluster, and the other pods may not be there |
//! | metrics of the autoscaler that are not of its own pods | a queue or another object is the whole application's, not the edge's share |
//!
//! What is added: the edge's localities as required node affinity, tolerations of the taints that all nodes of the edge
//! share, a grace period and a drain of the proxy that end early once no connection is active.
//!
//! Nothing in an environment variable is changed: what a `ZONE=cloud` means only the application knows. A
//! PodDisruptionBudget is not derived: where the cloud's selects by the Service's labels it protects the edge's pods too.

mod autoscaler;
mod existing;
mod place;
mod selector;
mod template;
#[cfg(test)]
mod tests;
mod verdict;

use std::time::Duration;

use gma_core::ids::AreaName;
use k8s_openapi::api::core::v1::Taint;
use serde_json::{Map, Value, json};

pub use existing::{Existing, existing};
pub use place::{LOCATION_KEYS, shared_taints};
pub use verdict::{Note, Refused};

use crate::act::OBJECT_ANNOTATION;
use crate::api::GROUP;
use crate::locality::AreaMap;
use crate::rule::MANAGER;
use selector::Selector;

/// Longest name of a Deployment that is derived from: it becomes the value of a label.
const MAX_NAME: usize = 63;

/// Labels of the cloud's Deployment that its copy has too. Any other may belong to a tool that prunes what it finds.
const COPIED_LABELS: [&str; 6] = [
    "app",
    "version",
    "app.kubernetes.io/name",
    "app.kubernetes.io/component",
    "app.kubernetes.io/part-of",
    "app.kubernetes.io/version",
];

/// Fields of a Deployment's spec that are copied as they are.
const COPIED_FIELDS: [&str; 4] = [
    "strategy",
    "minReadySeconds",
    "revisionHistoryLimit",
    "progressDeadlineSeconds",
];

/// An edge, as far as pods must know it.
#[derive(Clone, Copy, Debug)]
pub struct Edge<'a> {
    /// Its name.
    pub name: &'a AreaName,
    /// The cloud's name.
    pub cloud: &'a AreaName,
    /// Localities of all areas.
    pub map: &'a AreaMap,
    /// Taints that all its nodes share; see [`shared_taints`].
    pub taints: &'a [Taint],
}

/// What an instance is derived from.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// What runs the pods in the cloud.
    pub workload: &'a Value,
    /// The Service that is to be served at the edge.
    pub service: &'a Value,
    /// The autoscaler of the workload.
    pub autoscaler: Option<&'a Value>,
    /// What has the derived name now; see [`name_at`].
    pub found: Option<&'a Value>,
}

/// What is wanted of an instance.
#[derive(Clone, Copy, Debug)]
pub struct Wish<'a> {
    /// The object on whose behalf it is made, `namespace/name`.
    pub object: &'a str,
    /// Replicas that it is made with. Later bodies carry the count that the server has, so that an apply changes none:
    /// left out, it would fall to 1 while it is ours. Once an autoscaler has changed it, it is no longer in them.
    pub replicas: u32,
    /// Replicas that run even without load; none: the cloud's autoscaler's minimum, at least 1.
    pub min_replicas: Option<u32>,
    /// How long a pod that ends goes on serving what is open. A change of it starts the pods anew.
    pub drain: Duration,
}

/// Bodies for server-side apply by the raw API, field manager [`MANAGER`], never forced.
#[derive(Clone, Debug, PartialEq)]
pub struct Derived {
    /// Namespace of both.
    pub namespace: String,
    /// Name of both.
    pub name: String,
    /// The Deployment.
    pub deployment: Value,
    /// Its autoscaler.
    pub autoscaler: Option<Value>,
    /// What the user should know.
    pub notes: Vec<Note>,
}

// === free functions ===

/// The instance of a service at an edge.
///
/// # Errors
/// [`Refused`] where there can be none; each says what to do.
pub fn derive(source: &Source<'_>, edge: Edge<'_>, wish: &Wish<'_>) -> Result<Derived, Refused> {
    let cloud = Workload::try_new(source.workload)?;
    if text(source.workload, &label_pointer(&area_label())).is_some() {
        return Err(Refused::NotOfTheCloud {
            name: cloud.name.to_owned(),
        });
    }
    if cloud.name.len() > MAX_NAME {
        return Err(Refused::NameTooLong {
            name: cloud.name.to_owned(),
        });
    }
    let name = name_at(cloud.name, edge.cloud, edge.name);
    check_free(source.found, &name, edge.name, wish.object)?;
    let selected = service_selector(source.service, &cloud)?;
    let own = own_labels(cloud.name, edge.name);
    let template = template::derive(&cloud, &selected, &own, edge, wish)?;

    let mut notes = template.notes;
    let cloud_selector = Selector::of(source.workload.pointer("/spec/selector"));
    let autoscaler = match source.autoscaler {
        Some(_) if cloud_selector.matches(&template.labels) => {
            notes.push(Note::SharedSelector {
                deployment: cloud.name.to_owned(),
                fix: selector_fix(cloud.name),
            });
            None
        }
        Some(autoscaler) => autoscaler::derive(autoscaler, &name, wish, &mut notes),
        None => None,
    };
    let mut spec = Map::new();
    for field in COPIED_FIELDS {
        if let Some(value) = source.workload.pointer(&format!("/spec/{field}")) {
            spec.insert(field.to_owned(), value.clone());
        }
    }
    if let Some(count) = count(source.found, wish) {
        spec.insert("replicas".to_owned(), count);
    }
    spec.insert("selector".to_owned(), json!({"matchLabels": own}));
    spec.insert("template".to_owned(), template.body);
    let mut labels = copied_labels(source.workload);
    labels.extend(own.clone());
    let deployment = json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata(cloud.namespace, &name, labels, wish.object),
        "spec": spec,
    });
    let autoscaler = autoscaler.map(|spec| {
        json!({
            "apiVersion": "autoscaling/v2",
            "kind": "HorizontalPodAutoscaler",
            "metadata": metadata(cloud.namespace, &name, own, wish.object),
            "spec": spec,
        })
    });
    Ok(Derived {
        namespace: cloud.namespace.to_owned(),
        name,
        deployment: without_nulls(deployment),
        autoscaler: autoscaler.map(without_nulls),
        notes,
    })
}

/// Why the pods of a Deployment can't be copied, whatever the edge; `template` is its pod template.
pub fn obstacle(name: &str, template: &Value) -> Option<Refused> {
    if name.len() > MAX_NAME {
        return Some(Refused::NameTooLong {
            name: name.to_owned(),
        });
    }
    template::obstacle(name, template).err()
}

/// Name of an instance at an edge: `web-cloud` becomes `web-edge-1`, and so does `web`.
pub fn name_at(deployment: &str, cloud: &AreaName, edge: &AreaName) -> String {
    renamed(deployment, cloud, edge).unwrap_or_else(|| format!("{deployment}-{edge}"))
}

/// Label of what is made at an edge; its value is the edge's name.
pub fn area_label() -> String {
    format!("{GROUP}/area")
}

/// Label of what is made at an edge; its value is the name of the cloud's Deployment.
pub fn origin_label() -> String {
    format!("{GROUP}/cloud-deployment")
}

/// A workload whose pods can be copied.
struct Workload<'a> {
    namespace: &'a str,
    name: &'a str,
    template: &'a Value,
    labels: &'a Map<String, Value>,
}

impl<'a> Workload<'a> {
    fn try_new(object: &'a Value) -> Result<Self, Refused> {
        let name = text(object, "/metadata/name").ok_or_else(|| missing("a workload", "metadata.name"))?;
        let kind = text(object, "/kind").ok_or_else(|| missing(name, "kind"))?;
        if kind != "Deployment" {
            return Err(Refused::Kind {
                kind: kind.to_owned(),
                name: name.to_owned(),
            });
        }
        let labels = object
            .pointer("/spec/template/metadata/labels")
            .and_then(Value::as_object);
        Ok(Self {
            namespace: text(object, "/metadata/namespace")
                .ok_or_else(|| missing(name, "metadata.namespace"))?,
            name,
            template: object
                .pointer("/spec/template")
                .ok_or_else(|| missing(name, "spec.template"))?,
            labels: labels.ok_or_else(|| missing(name, "spec.template.metadata.labels"))?,
        })
    }
}

fn missing(object: &str, field: &str) -> Refused {
    Refused::Malformed {
        what: format!("{field} of {object}"),
        why: "it is missing".to_owned(),
    }
}

/// The Service's selector, which must select the pods as they are in the cloud.
fn service_selector(service: &Value, cloud: &Workload<'_>) -> Result<Map<String, Value>, Refused> {
    let selector = service.pointer("/spec/selector").and_then(Value::as_object);
    let selected = selector.filter(|selector| {
        !selector.is_empty()
            && selector
                .iter()
                .all(|(key, value)| cloud.labels.get(key) == Some(value))
    });
    selected.cloned().ok_or_else(|| Refused::NotSelected {
        service: text(service, "/metadata/name").unwrap_or_default().to_owned(),
        name: cloud.name.to_owned(),
    })
}

fn check_free(found: Option<&Value>, name: &str, edge: &AreaName, object: &str) -> Result<(), Refused> {
    let Some(found) = found else { return Ok(()) };
    let annotation = found.pointer(&format!("/metadata/annotations/{}", escaped(OBJECT_ANNOTATION)));
    let is_for_edge = text(found, &label_pointer(&area_label())) == Some(edge.as_str());
    if is_for_edge && annotation.and_then(Value::as_str) == Some(object) {
        return Ok(());
    }
    Err(Refused::NameTaken {
        name: name.to_owned(),
        object: object.to_owned(),
    })
}

/// How a Deployment stops to select the pods at edges; a selector can't be changed.
fn selector_fix(deployment: &str) -> String {
    format!(
        "delete it with `kubectl delete deployment {deployment} --cascade=orphan` and create it again with the \
         matchExpression {{key: {}, operator: DoesNotExist}} in its selector: its pods go on",
        area_label()
    )
}

/// The count of replicas for a body; none: it belongs to somebody else.
fn count(found: Option<&Value>, wish: &Wish<'_>) -> Option<Value> {
    let Some(found) = found else {
        return Some(wish.replicas.into());
    };
    let entries = found.pointer("/metadata/managedFields").and_then(Value::as_array);
    let is_ours = entries.into_iter().flatten().any(|entry| {
        text(entry, "/manager") == Some(MANAGER)
            && text(entry, "/operation") == Some("Apply")
            && entry.pointer("/fieldsV1/f:spec/f:replicas").is_some()
    });
    found.pointer("/spec/replicas").filter(|_| is_ours).cloned()
}

fn own_labels(deployment: &str, edge: &AreaName) -> Map<String, Value> {
    Map::from_iter([
        (origin_label(), deployment.into()),
        (area_label(), edge.as_str().into()),
    ])
}

fn copied_labels(workload: &Value) -> Map<String, Value> {
    let labels = workload.pointer("/metadata/labels").and_then(Value::as_object);
    labels
        .into_iter()
        .flatten()
        .filter(|(key, _)| COPIED_LABELS.contains(&key.as_str()))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

fn metadata(namespace: &str, name: &str, mut labels: Map<String, Value>, object: &str) -> Value {
    labels.insert("app.kubernetes.io/managed-by".to_owned(), MANAGER.into());
    json!({
        "namespace": namespace,
        "name": name,
        "labels": labels,
        "annotations": {OBJECT_ANNOTATION: object},
    })
}

/// A value that names the cloud, with the edge's name in its place.
fn renamed(value: &str, cloud: &AreaName, edge: &AreaName) -> Option<String> {
    if value == cloud.as_str() {
        return Some(edge.as_str().to_owned());
    }
    let stem = value.strip_suffix(cloud.as_str())?.strip_suffix('-')?;
    (!stem.is_empty()).then(|| format!("{stem}-{edge}"))
}

/// Absent and null are one to the API server, but not to who compares bodies.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(fields) => fields
            .into_iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(key, value)| (key, without_nulls(value)))
            .collect(),
        Value::Array(values) => values.into_iter().map(without_nulls).collect(),
        other => other,
    }
}

fn text<'a>(object: &'a Value, pointer: &str) -> Option<&'a str> {
    object.pointer(pointer).and_then(Value::as_str)
}

fn label_pointer(label: &str) -> String {
    format!("/metadata/labels/{}", escaped(label))
}

/// A key as part of a JSON pointer.
fn escaped(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}
