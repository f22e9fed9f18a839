//! Bodies for server-side apply, leaf by leaf.

use gma_core::cluster::Unroutable;
use gma_core::ids::ServiceName;
use serde_json::{Map, Value, json};

use super::object::Rule;
use super::owners::Path;
use super::shape::{cleaned, yaml};
use super::{API_VERSION, Held, MANAGER, Mesh, Order, Write, created_name};
use crate::api::GROUP;

/// What undoes the writes of a host.
#[derive(Clone, Debug, PartialEq)]
pub enum Release {
    /// Apply this body: exactly our fields go.
    Apply(Write),
    /// Delete the rule: it is ours alone.
    Delete {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
}

/// Blocks of a policy whose leaves are written.
const BLOCKS: [&[&str]; 2] = [&["loadBalancer", "localityLbSetting"], &["outlierDetection"]];

/// A rule that is not there yet.
pub(super) fn create(order: &Order<'_>, policy: &Value) -> Write {
    let name = created_name(order.host);
    let mut body = empty(order.namespace, &name);
    put(&mut body, &["spec", "host"], order.host.as_str().into());
    put(&mut body, &["spec", "trafficPolicy"], policy.clone());
    mark(&mut body, order.object);
    Write {
        namespace: order.namespace.to_owned(),
        name,
        creates: true,
        body,
    }
}

/// Our leaves of a rule that is there: those that nobody else owns.
pub(super) fn apply(rule: &Rule, order: &Order<'_>, policy: &Value) -> Result<Write, Held> {
    owned_by_others(rule)?;
    let mut body = empty(&rule.namespace, &rule.name);
    for (path, value) in leaves(policy) {
        let path: Vec<&str> = ["spec", "trafficPolicy"].into_iter().chain(path).collect();
        if rule.owners.other(&owned(&path)).is_none() {
            put(&mut body, &path, value.clone());
        }
    }
    if keeps_host(rule) {
        put(&mut body, &["spec", "host"], rule.host.as_str().into());
    }
    if is_created(rule) {
        mark(&mut body, order.object);
    }
    Ok(Write {
        namespace: rule.namespace.clone(),
        name: rule.name.clone(),
        creates: false,
        body,
    })
}

/// What takes our fields out of every rule for a host, and deletes those that are ours alone.
pub fn release(mesh: &Mesh, host: &ServiceName) -> Vec<Release> {
    let ours = mesh
        .rules
        .iter()
        .filter(|rule| rule.host == host.as_str() && rule.owners.have_ours());
    ours.map(|rule| {
        let anything = owned(&["spec"]);
        let metadata = owned(&["metadata"]);
        let is_shared = rule.owners.other(&anything).is_some() || rule.owners.other(&metadata).is_some();
        if is_created(rule) && !is_shared {
            return Release::Delete {
                namespace: rule.namespace.clone(),
                name: rule.name.clone(),
            };
        }
        let mut body = empty(&rule.namespace, &rule.name);
        if keeps_host(rule) {
            put(&mut body, &["spec", "host"], rule.host.as_str().into());
        }
        Release::Apply(Write {
            namespace: rule.namespace.clone(),
            name: rule.name.clone(),
            creates: false,
            body,
        })
    })
    .collect()
}

/// Whether we made the rule.
fn is_created(rule: &Rule) -> bool {
    rule.owners.is_ours(&owned(&["spec", "host"]))
}

/// Whether the rule would lose its host, and be refused, if we did not name it.
fn keeps_host(rule: &Rule) -> bool {
    is_created(rule) && rule.owners.other(&owned(&["spec", "host"])).is_none()
}

/// The locality setting and the panic threshold are ours or nobody's; a value that is what we would write is no quarrel,
/// nor is an empty object.
fn owned_by_others(rule: &Rule) -> Result<(), Held> {
    let fields = [
        (
            owned(&["spec", "trafficPolicy", "loadBalancer", "localityLbSetting"]),
            "enabled",
            json!(true),
        ),
        (
            owned(&["spec", "trafficPolicy", "outlierDetection", "minHealthPercent"]),
            "minHealthPercent",
            json!(1),
        ),
    ];
    let mut found = Vec::new();
    for (field, name, wanted) in fields {
        for (path, who) in rule.owners.others_in(&field) {
            let value = path.iter().skip(1).try_fold(&rule.spec, |at, part| at.get(part));
            let is_wanted = path.last().is_some_and(|last| last == name) && value == Some(&wanted);
            if !is_wanted && value.is_some_and(|value| *value != json!({})) {
                found.push(format!("{who}: {}", path.join(".")));
            }
        }
    }
    if found.is_empty() {
        return Ok(());
    }
    Err(Held {
        why: Unroutable::RuleOwned {
            by: format!("{} in {}", found.join(", "), rule.path()),
        },
        fix: yaml(&cleaned(rule, &rule.host), &rule.namespace, &rule.name),
    })
}

fn leaves(policy: &Value) -> Vec<(Vec<&str>, &Value)> {
    let mut leaves = Vec::new();
    for block in BLOCKS {
        let fields = policy
            .pointer(&format!("/{}", block.join("/")))
            .and_then(Value::as_object);
        for (name, value) in fields.into_iter().flatten() {
            leaves.push((block.iter().copied().chain([name.as_str()]).collect(), value));
        }
    }
    leaves
}

fn owned(path: &[&str]) -> Path {
    path.iter().map(|part| (*part).to_owned()).collect()
}

fn empty(namespace: &str, name: &str) -> Value {
    json!({
        "apiVersion": API_VERSION,
        "kind": "DestinationRule",
        "metadata": {"namespace": namespace, "name": name},
    })
}

fn mark(body: &mut Value, object: &str) {
    put(
        body,
        &["metadata", "labels"],
        json!({"app.kubernetes.io/managed-by": MANAGER}),
    );
    put(
        body,
        &["metadata", "annotations"],
        json!({format!("{GROUP}/object"): object}),
    );
}

/// Sets a field; objects on the way are made.
fn put(body: &mut Value, path: &[&str], value: Value) {
    let mut at = body;
    for part in path {
        if !at.is_object() {
            *at = Value::Object(Map::new());
        }
        let Some(fields) = at.as_object_mut() else { return };
        at = fields.entry(*part).or_insert(Value::Null);
    }
    *at = value;
}
