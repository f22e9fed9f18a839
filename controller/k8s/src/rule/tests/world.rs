//! A mesh to write in, server-side apply as the API server does it, and istiod's validation, each in a few lines.

use std::collections::{BTreeMap, BTreeSet};

use gma_core::cluster::Weights;
use gma_core::ids::{AreaName, ServiceName};
use gma_core::routing::LocalityPattern;
use serde_json::{Map, Value, json};

use crate::locality::{AreaMap, Locality};
use crate::rule::{Areas, Held, Mesh, Order, Rule, Write, Written, write};

pub(super) const HOST: &str = "cart.shop.svc.cluster.local";

/// Rules, and what is wanted.
#[derive(Debug)]
pub(super) struct World {
    pub(super) objects: Vec<Value>,
    pub(super) areas: AreaMap,
    pub(super) callers: BTreeSet<String>,
    pub(super) unlocated: Option<&'static str>,
    pub(super) reported: BTreeSet<Locality>,
    pub(super) routes: BTreeMap<AreaName, Weights>,
}

pub(super) fn localities(areas: &[(&str, &[&str])]) -> AreaMap {
    let patterns = |texts: &[&str]| {
        texts
            .iter()
            .map(|text| LocalityPattern::try_from(*text).unwrap())
            .collect()
    };
    AreaMap::Localities(
        areas
            .iter()
            .map(|(area, texts)| ((*area).into(), patterns(texts)))
            .collect(),
    )
}

pub(super) fn zones(areas: &[(&str, &[&str])]) -> AreaMap {
    let zones = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    AreaMap::Zones(
        areas
            .iter()
            .map(|(area, names)| ((*area).into(), zones(names)))
            .collect(),
    )
}

pub(super) fn routes(edge: u32) -> BTreeMap<AreaName, Weights> {
    let weights = [("cloud".into(), 100 - edge), ("edge-1".into(), edge)];
    BTreeMap::from([
        ("cloud".into(), [("cloud".into(), 100)].into()),
        (
            "edge-1".into(),
            weights.into_iter().filter(|(_, weight)| *weight > 0).collect(),
        ),
    ])
}

impl Default for World {
    fn default() -> Self {
        Self {
            objects: Vec::new(),
            areas: localities(&[("cloud", &["eu"]), ("edge-1", &["lab"])]),
            callers: ["shop".to_owned(), "istio-ingress".to_owned()].into(),
            unlocated: None,
            reported: ["eu/a", "eu/b"].map(Locality::parse).into(),
            routes: routes(99),
        }
    }
}

impl World {
    pub(super) fn with(objects: impl IntoIterator<Item = Value>) -> Self {
        Self {
            objects: objects.into_iter().collect(),
            ..Self::default()
        }
    }

    pub(super) fn mesh(&self) -> Mesh {
        Mesh {
            root_namespace: "istio-system".to_owned(),
            rules: self
                .objects
                .iter()
                .map(|object| Rule::try_new(object, "cluster.local").unwrap())
                .collect(),
        }
    }

    pub(super) fn write(&self) -> Result<Written, Held> {
        let cloud = AreaName::from("cloud");
        let areas = Areas {
            cloud: &cloud,
            map: &self.areas,
        };
        let host = ServiceName::from(HOST);
        let order = Order {
            host: &host,
            namespace: "shop",
            callers: &self.callers,
            unlocated_caller: self.unlocated,
            reported: &self.reported,
            routes: &self.routes,
            object: "shop/shop",
        };
        write(&self.mesh(), areas, &order)
    }

    /// Writes, and puts what was written in force.
    pub(super) fn step(&mut self) -> Vec<Write> {
        let writes = self.write().unwrap().writes;
        for write in &writes {
            self.put(write);
        }
        writes
    }

    pub(super) fn put(&mut self, write: &Write) {
        let old = self.position(&write.namespace, &write.name);
        assert_eq!(old.is_none(), write.creates, "{}/{}", write.namespace, write.name);
        let object = apply(old.map(|at| &self.objects[at]), &write.body, "gma");
        match old {
            Some(at) => self.objects[at] = object,
            None => self.objects.push(object),
        }
    }

    pub(super) fn position(&self, namespace: &str, name: &str) -> Option<usize> {
        self.objects.iter().position(|object| {
            object["metadata"]["namespace"] == namespace && object["metadata"]["name"] == name
        })
    }

    /// Applies a fix as the user would, who then owns all of it: replacing the rule of that name.
    pub(super) fn fix(&mut self, yaml: &str) {
        let body: Value = serde_norway::from_str(yaml).unwrap();
        let metadata = &body["metadata"];
        let (namespace, name) = (
            metadata["namespace"].as_str().unwrap(),
            metadata["name"].as_str().unwrap(),
        );
        let fixed = rule(namespace, name, body["spec"].clone());
        match self.position(namespace, name) {
            Some(at) => self.objects[at] = fixed,
            None => self.objects.push(fixed),
        }
    }
}

/// A user's rule, made by `kubectl apply`.
#[expect(clippy::needless_pass_by_value, reason = "what is passed is written in place")]
pub(super) fn rule(namespace: &str, name: &str, spec: Value) -> Value {
    let mut fields = Map::new();
    fields.insert("f:spec".to_owned(), fields_of(&spec));
    json!({
        "apiVersion": "networking.istio.io/v1",
        "kind": "DestinationRule",
        "metadata": {
            "namespace": namespace, "name": name, "creationTimestamp": "2026-01-01T00:00:00Z",
            "managedFields": [{
                "manager": "kubectl-client-side-apply", "operation": "Update",
                "apiVersion": "networking.istio.io/v1", "fieldsType": "FieldsV1", "fieldsV1": fields,
            }],
        },
        "spec": spec,
    })
}

/// The same, for the host of the tests.
#[expect(clippy::needless_pass_by_value, reason = "what is passed is written in place")]
pub(super) fn policy(policy: Value) -> Value {
    rule("shop", "cart", json!({"host": HOST, "trafficPolicy": policy}))
}

fn fields_of(value: &Value) -> Value {
    let fields = value.as_object().into_iter().flatten();
    let mut named: Map<String, Value> = fields
        .map(|(name, inner)| (format!("f:{name}"), fields_of(inner)))
        .collect();
    if !named.is_empty() {
        named.insert(".".to_owned(), json!({}));
    }
    Value::Object(named)
}

// === server-side apply ===

fn leaves(value: &Value, path: &str, found: &mut BTreeMap<String, Value>) {
    match value.as_object() {
        Some(fields) if !fields.is_empty() => {
            for (name, inner) in fields {
                leaves(
                    inner,
                    &format!("{path}/{}", name.replace('~', "~0").replace('/', "~1")),
                    found,
                );
            }
        }
        _ => {
            found.insert(path.to_owned(), value.clone());
        }
    }
}

/// Leaves by JSON pointer, without what names the object.
pub(super) fn leaves_of(object: &Value) -> BTreeMap<String, Value> {
    let mut found = BTreeMap::new();
    leaves(object, "", &mut found);
    found.retain(|path, _| {
        path.starts_with("/spec")
            || path.starts_with("/metadata/labels")
            || path.starts_with("/metadata/annotations")
    });
    found
}

fn owned(entry: &Value) -> BTreeSet<String> {
    fn walk(fields: &Value, path: &str, found: &mut BTreeSet<String>) {
        let named: Vec<_> = fields
            .as_object()
            .into_iter()
            .flatten()
            .filter_map(|(key, inner)| Some((key.strip_prefix("f:")?, inner)))
            .collect();
        if named.is_empty() {
            found.insert(path.to_owned());
        }
        for (name, inner) in named {
            walk(
                inner,
                &format!("{path}/{}", name.replace('~', "~0").replace('/', "~1")),
                found,
            );
        }
    }
    let mut found = BTreeSet::new();
    walk(&entry["fieldsV1"], "", &mut found);
    found.remove("");
    found
}

/// What others own, by JSON pointer.
pub(super) fn owned_by_others(object: &Value) -> BTreeSet<String> {
    let entries = object["metadata"]["managedFields"]
        .as_array()
        .into_iter()
        .flatten();
    entries
        .filter(|entry| entry["manager"] != "gma")
        .flat_map(owned)
        .collect()
}

/// Server-side apply without force: a conflict fails the test.
pub(super) fn apply(old: Option<&Value>, body: &Value, manager: &str) -> Value {
    let empty = json!({"metadata": {"managedFields": []}});
    let old = old.unwrap_or(&empty);
    let entries: Vec<Value> = old["metadata"]["managedFields"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let wanted = leaves_of(body);
    let mut now = leaves_of(old);
    let others: BTreeSet<String> = entries
        .iter()
        .filter(|entry| entry["manager"] != manager)
        .flat_map(owned)
        .collect();
    let before: BTreeSet<String> = entries
        .iter()
        .filter(|entry| entry["manager"] == manager)
        .flat_map(owned)
        .collect();
    for path in before
        .iter()
        .filter(|path| !wanted.contains_key(*path) && !others.contains(*path))
    {
        now.remove(path);
    }
    for (path, value) in &wanted {
        let is_conflict = others.contains(path) && now.get(path) != Some(value);
        assert!(!is_conflict, "conflict at {path}: {value}");
        now.insert(path.clone(), value.clone());
    }
    let mut object = json!({"apiVersion": body["apiVersion"], "kind": body["kind"], "metadata": {
        "namespace": body["metadata"]["namespace"], "name": body["metadata"]["name"],
        "creationTimestamp": old["metadata"].get("creationTimestamp").cloned().unwrap_or("2026-06-01T00:00:00Z".into()),
    }});
    for (path, value) in &now {
        set(&mut object, path, value.clone());
    }
    assert!(
        object["spec"]["host"].is_string(),
        "the API server refuses a rule without host"
    );
    let mut ours = json!({});
    for path in wanted.keys() {
        let path: String = path.split('/').skip(1).map(|part| format!("/f:{part}")).collect();
        set(&mut ours, &path, json!({}));
    }
    let mut entries: Vec<Value> = entries
        .into_iter()
        .filter(|entry| entry["manager"] != manager)
        .collect();
    if !wanted.is_empty() {
        entries.push(json!({"manager": manager, "operation": "Apply", "fieldsV1": ours}));
    }
    object["metadata"]["managedFields"] = entries.into();
    object
}

fn set(object: &mut Value, path: &str, value: Value) {
    let mut at = object;
    for part in path.split('/').skip(1) {
        let part = part.replace("~1", "/").replace("~0", "~");
        if !at.is_object() {
            *at = json!({});
        }
        at = at.as_object_mut().unwrap().entry(part).or_insert(Value::Null);
    }
    *at = value;
}

// === istiod's validation ===

/// What istiod's webhook says of a rule's locality setting (facts: `agent/validation.go`).
pub(super) fn refuses(spec: &Value) -> Option<String> {
    let setting = &spec["trafficPolicy"]["loadBalancer"]["localityLbSetting"];
    let list = |name: &str| setting[name].as_array().cloned().unwrap_or_default();
    let (distribute, failover, priority) = (list("distribute"), list("failover"), list("failoverPriority"));
    let forms = [&distribute, &failover, &priority]
        .iter()
        .filter(|form| !form.is_empty())
        .count();
    if forms > 1 {
        return Some("two forms".to_owned());
    }
    if forms == 1 && spec["trafficPolicy"]["outlierDetection"].is_null() {
        return Some("no outlierDetection beside it".to_owned());
    }
    let mut froms: Vec<String> = Vec::new();
    for (position, entry) in distribute.iter().enumerate() {
        let from = entry["from"].as_str()?;
        if from == "*" && position + 1 != distribute.len() {
            return Some("`*` is not last".to_owned());
        }
        if from.split('/').any(str::is_empty)
            || (from != "*" && froms.iter().any(|other| overlap(other, from)))
        {
            return Some(format!("from {from}"));
        }
        if from != "*" {
            froms.push(from.to_owned());
        }
        let to = entry["to"].as_object()?;
        let weights: Vec<u64> = to.values().filter_map(Value::as_u64).collect();
        if weights.len() != to.len() || weights.iter().any(|weight| !(1..=100).contains(weight)) {
            return Some(format!("weights {weights:?}"));
        }
        if weights.iter().sum::<u64>() != 100 {
            return Some(format!("sum of {weights:?}"));
        }
        for (at, one) in to.keys().enumerate() {
            let others = to.keys().skip(at + 1);
            if one.split('/').any(str::is_empty) || others.into_iter().any(|two| overlap(one, two)) {
                return Some(format!("to {one}"));
            }
        }
    }
    let bad = |entry: &Value| {
        let [from, to] = ["from", "to"].map(|name| entry[name].as_str().unwrap_or_default());
        from == to
            || [from, to]
                .iter()
                .any(|region| region.is_empty() || region.contains(['/', '*']))
    };
    failover
        .iter()
        .any(bad)
        .then(|| "failover between no two regions".to_owned())
}

fn overlap(one: &str, two: &str) -> bool {
    one.split('/')
        .zip(two.split('/'))
        .all(|(one, two)| one == two || one == "*" || two == "*")
}
