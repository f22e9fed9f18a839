use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use gma_core::ids::AreaName;
use gma_core::routing::LocalityPattern;
use k8s_openapi::api::core::v1::Taint;
use serde::Deserialize;
use serde_json::{Value, json};

use super::*;
use crate::locality::AreaMap;

/// What a file has, and the areas.
struct World {
    objects: Vec<Value>,
    cloud: AreaName,
    edge: AreaName,
    map: AreaMap,
    taints: Vec<Taint>,
    found: Option<Value>,
    min_replicas: Option<u32>,
}

impl World {
    fn of(file: &str) -> Self {
        let text = fs::read_to_string(folder().join(file)).unwrap();
        let patterns = |texts: &[&str]| {
            let parsed = texts.iter().map(|text| LocalityPattern::try_from(*text).unwrap());
            parsed.collect::<Vec<_>>()
        };
        Self {
            objects: documents(&text),
            cloud: "cloud".into(),
            edge: "edge-1".into(),
            map: AreaMap::Localities(BTreeMap::from([
                ("cloud".into(), patterns(&["eu"])),
                ("edge-1".into(), patterns(&["lab/x", "lab/y"])),
            ])),
            taints: Vec::new(),
            found: None,
            min_replicas: None,
        }
    }

    fn object(&self, kinds: &[&str]) -> Option<&Value> {
        self.objects
            .iter()
            .find(|object| kinds.iter().any(|kind| object["kind"] == *kind))
    }

    fn source(&self) -> Source<'_> {
        Source {
            workload: self.object(&["Deployment", "StatefulSet", "DaemonSet"]).unwrap(),
            service: self.object(&["Service"]).unwrap(),
            autoscaler: self.object(&["HorizontalPodAutoscaler"]),
            found: self.found.as_ref(),
        }
    }

    fn edge(&self) -> Edge<'_> {
        Edge {
            name: &self.edge,
            cloud: &self.cloud,
            map: &self.map,
            taints: &self.taints,
        }
    }

    fn derive(&self) -> Result<Derived, Refused> {
        let wish = Wish {
            object: "shop/shop",
            replicas: 2,
            min_replicas: self.min_replicas,
            drain: Duration::from_secs(60),
        };
        derive(&self.source(), self.edge(), &wish)
    }

    fn deployment(&mut self) -> &mut Value {
        self.objects
            .iter_mut()
            .find(|object| object["kind"] == "Deployment")
            .unwrap()
    }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/derive")
}

fn documents(text: &str) -> Vec<Value> {
    serde_norway::Deserializer::from_str(text)
        .map(|document| Value::deserialize(document).unwrap())
        .collect()
}

fn taint(key: &str, value: Option<&str>, effect: &str) -> Taint {
    Taint {
        key: key.to_owned(),
        value: value.map(str::to_owned),
        effect: effect.to_owned(),
        ..Taint::default()
    }
}

// === The files ===

#[test]
fn each_shape_is_derived_as_its_file_says() {
    let mut wrong = String::new();
    for case in ["plain", "mubench", "shared-selector", "everything"] {
        let derived = World::of(&format!("{case}.yaml")).derive().unwrap();
        let bodies: Vec<Value> = std::iter::once(derived.deployment)
            .chain(derived.autoscaler)
            .collect();
        let expected = fs::read_to_string(folder().join(format!("expected/{case}.yaml"))).unwrap();
        if documents(&expected) != bodies {
            let shown = bodies.iter().map(|body| serde_norway::to_string(body).unwrap());
            let shown = shown.collect::<Vec<_>>().join("---\n");
            wrong += &format!("=== {case} is derived as\n{shown}");
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn each_refusal_says_what_and_what_to_do() {
    let mut count = 0;
    for entry in fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        let Some(expected) = path.is_file().then(|| fs::read_to_string(&path).unwrap()) else {
            continue;
        };
        let Some(expected) = expected.lines().next().unwrap().strip_prefix("# refused: ") else {
            continue;
        };
        let file = path.file_name().unwrap().to_str().unwrap();
        let refused = World::of(file).derive().unwrap_err().to_string();
        assert!(refused.contains(expected), "{file}: {refused}");
        count += 1;
    }
    assert_eq!(count, 7, "a file was not read");
}

// === What the files do not show ===

#[test]
fn a_derived_pod_is_the_services_and_not_the_clouds() {
    for (case, is_shared) in [
        ("mubench", false),
        ("everything", false),
        ("shared-selector", true),
    ] {
        let world = World::of(&format!("{case}.yaml"));
        let derived = world.derive().unwrap();
        let labels = derived
            .deployment
            .pointer("/spec/template/metadata/labels")
            .unwrap();
        let labels = labels.as_object().unwrap();
        let source = world.source();
        for (key, value) in source.service["spec"]["selector"].as_object().unwrap() {
            assert_eq!(labels.get(key), Some(value), "{case}");
        }
        let cloud = Selector::of(source.workload.pointer("/spec/selector"));
        assert_eq!(cloud.matches(labels), is_shared, "{case}");
        let own = Selector::of(derived.deployment.pointer("/spec/selector"));
        assert!(own.matches(labels), "{case}");
        let cloud_pods = source.workload.pointer("/spec/template/metadata/labels").unwrap();
        assert!(!own.matches(cloud_pods.as_object().unwrap()), "{case}");
        assert_eq!(derived.autoscaler.is_none(), is_shared, "{case}");
    }
}

#[test]
fn deriving_again_gives_the_same_and_survives_what_a_server_adds() {
    let mut world = World::of("everything.yaml");
    let first = world.derive().unwrap();
    let deployment = world.deployment();
    deployment["status"] = json!({"replicas": 4});
    deployment["metadata"]["managedFields"] = json!([{"manager": "helm"}]);
    deployment["metadata"]["resourceVersion"] = "12".into();
    deployment["spec"]["replicas"] = 9.into();
    assert_eq!(world.derive().unwrap(), first);
    // What is found is ours: it is written again.
    let mut found = first.deployment.clone();
    found["metadata"]["managedFields"] = json!([
        {"manager": "gma", "operation": "Apply", "fieldsV1": {"f:spec": {"f:replicas": {}}}},
    ]);
    world.found = Some(found);
    assert_eq!(world.derive().unwrap(), first);
}

#[test]
fn a_name_that_another_has_is_refused() {
    let mut world = World::of("plain.yaml");
    for found in [
        json!({"metadata": {"name": "web-edge-1"}}),
        json!({"metadata": {"name": "web-edge-1", "annotations": {"gma.dev/object": "shop/other"}}}),
        // Of the user, and scaled for the object.
        json!({"metadata": {"name": "web-edge-1", "annotations": {"gma.dev/object": "shop/shop"}}}),
    ] {
        world.found = Some(found);
        let refused = world.derive().unwrap_err();
        assert!(matches!(refused, Refused::NameTaken { .. }), "{refused}");
        assert!(
            refused
                .to_string()
                .contains("web-edge-1 that gma did not make for shop/shop")
        );
    }
}

#[test]
fn names_say_the_edge_in_place_of_the_cloud() {
    let name = |text: &str, cloud: &str| name_at(text, &cloud.into(), &"edge-1".into());
    assert_eq!(name("web", "cloud"), "web-edge-1");
    assert_eq!(name("web-cloud", "cloud"), "web-edge-1");
    assert_eq!(name("s0-consumer", "consumer"), "s0-edge-1");
    assert_eq!(name("nextcloud", "cloud"), "nextcloud-edge-1");
    assert_eq!(name("web-cloud-api", "cloud"), "web-cloud-api-edge-1");
    let mut world = World::of("plain.yaml");
    world.deployment()["metadata"]["name"] = "w".repeat(64).into();
    assert!(matches!(world.derive(), Err(Refused::NameTooLong { .. })));
}

#[test]
fn a_fixed_count_of_the_object_goes_before_the_clouds() {
    let mut world = World::of("mubench.yaml");
    for (wanted, minimum, maximum) in [(None, 1, 10), (Some(3), 3, 10), (Some(12), 12, 12)] {
        world.min_replicas = wanted;
        let spec = world.derive().unwrap().autoscaler.unwrap()["spec"].clone();
        assert_eq!([&spec["minReplicas"], &spec["maxReplicas"]], [minimum, maximum]);
    }
    let autoscaler = world.objects.last_mut().unwrap();
    autoscaler["spec"]["minReplicas"] = 0.into();
    world.min_replicas = None;
    let spec = world.derive().unwrap().autoscaler.unwrap()["spec"].clone();
    assert_eq!(spec["minReplicas"], 1, "an instance that is placed runs");
}

#[test]
fn notes_say_what_the_user_should_know() {
    let notes = |file: &str| {
        let notes = World::of(file).derive().unwrap().notes;
        notes.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(notes("plain.yaml"), Vec::<String>::new());
    let shared = notes("shared-selector.yaml");
    assert!(
        shared[0].contains("--cascade=orphan") && shared[0].contains("gma.dev/area"),
        "{shared:?}"
    );
    let all = notes("everything.yaml");
    assert!(all[0].contains("labels disk, kubernetes.io/arch:"), "{all:?}");
    assert!(all[1].contains("External queue_length"), "{all:?}");
    assert_eq!(all.len(), 2, "{all:?}");
}

#[test]
fn without_a_metric_of_its_own_there_is_no_autoscaler() {
    let mut world = World::of("mubench.yaml");
    let autoscaler = world.objects.last_mut().unwrap();
    autoscaler["spec"]["metrics"] = json!([{"type": "Object", "object": {"metric": {"name": "rps"}}}]);
    let derived = world.derive().unwrap();
    assert_eq!(
        (derived.autoscaler, derived.notes),
        (None, vec![Note::NoMetricLeft])
    );
    // No metric at all means CPU, which is its pods'.
    let autoscaler = world.objects.last_mut().unwrap();
    autoscaler["spec"].as_object_mut().unwrap().remove("metrics");
    assert!(world.derive().unwrap().autoscaler.is_some());
}

#[test]
fn zones_are_asked_for_where_nodes_have_no_region() {
    let mut world = World::of("mubench.yaml");
    world.map = AreaMap::Zones(BTreeMap::from([
        ("cloud".into(), ["cloud".to_owned()].into()),
        ("edge-1".into(), ["edge1".to_owned(), "edge1b".to_owned()].into()),
    ]));
    let derived = world.derive().unwrap().deployment;
    let affinity = derived
        .pointer("/spec/template/spec/affinity/nodeAffinity")
        .unwrap();
    assert_eq!(
        *affinity,
        json!({"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
            {"matchExpressions": [{"key": "topology.kubernetes.io/zone", "operator": "In", "values": ["edge1", "edge1b"]}]},
        ]}})
    );
    world.map = AreaMap::Zones(BTreeMap::new());
    assert!(matches!(world.derive(), Err(Refused::NoLocality { .. })));
}

#[test]
fn taints_of_all_nodes_are_tolerated_and_no_others() {
    let edge = taint("edge", Some("true"), "NoSchedule");
    let bare = taint("remote", None, "NoExecute");
    let away = taint("node.kubernetes.io/unreachable", None, "NoExecute");
    let liqo = taint("virtual-node.liqo.io/not-allowed", Some("true"), "NoExecute");
    let gpu = taint("gpu", Some("true"), "NoSchedule");
    let soft = taint("edge", Some("true"), "PreferNoSchedule");
    let first = [
        edge.clone(),
        bare.clone(),
        away.clone(),
        liqo.clone(),
        soft.clone(),
    ];
    let second = [gpu, liqo, bare.clone(), away, edge.clone(), soft];
    let shared = shared_taints([first.as_slice(), &second]);
    assert_eq!(shared, [edge, bare]);
    assert_eq!(shared_taints([first.as_slice(), &[]]), []);
    assert_eq!(shared_taints([]), []);

    let mut world = World::of("plain.yaml");
    world.taints = shared;
    let derived = world.derive().unwrap().deployment;
    assert_eq!(
        derived.pointer("/spec/template/spec/tolerations").unwrap(),
        &json!([
            {"key": "edge", "operator": "Equal", "value": "true", "effect": "NoSchedule"},
            {"key": "remote", "operator": "Exists", "effect": "NoExecute"},
        ])
    );
}

#[test]
fn the_count_is_chosen_once() {
    let mut world = World::of("mubench.yaml");
    let made = world.derive().unwrap().deployment;
    assert_eq!(made["spec"]["replicas"], 2);
    let with = |replicas: u32, manager: &str, operation: &str| {
        let mut found = made.clone();
        found["spec"]["replicas"] = replicas.into();
        found["metadata"]["managedFields"] = json!([{
            "manager": manager, "operation": operation, "fieldsV1": {"f:spec": {"f:replicas": {}}},
        }]);
        Some(found)
    };
    // Scaled by the subresource, which leaves the owner: what the server has.
    world.found = with(5, "gma", "Apply");
    assert_eq!(world.derive().unwrap().deployment["spec"]["replicas"], 5);
    for (manager, operation) in [("kube-controller-manager", "Update"), ("gma", "Update")] {
        world.found = with(5, manager, operation);
        let spec = &world.derive().unwrap().deployment["spec"];
        assert_eq!(spec.get("replicas"), None, "{manager} {operation}");
    }
}

// === A Deployment that the user has made ===

fn users_deployment(affinity: &Value) -> Value {
    json!({
        "kind": "Deployment",
        "metadata": {"name": "s0-edge1", "namespace": "shop"},
        "spec": {
            "replicas": 0,
            "selector": {"matchLabels": {"app": "s0", "app-t": "s0-edge1"}},
            "template": {
                "metadata": {"labels": {"app": "s0", "app-t": "s0-edge1"}},
                "spec": {"affinity": affinity, "containers": []},
            },
        },
    })
}

fn nodes(terms: &Value) -> Value {
    json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}})
}

fn requires(key: &str, values: &[&str]) -> Value {
    json!({"key": format!("topology.kubernetes.io/{key}"), "operator": "In", "values": values})
}

#[test]
fn an_existing_deployment_at_rest_is_recognised() {
    let world = World::of("mubench.yaml");
    let at_edge =
        nodes(&json!([{"matchExpressions": [requires("region", &["lab"]), requires("zone", &["x"])]}]));
    let deployment = users_deployment(&at_edge);
    let autoscaler = json!({"metadata": {"name": "s0-edge1"}});
    let found = existing(&deployment, Some(&autoscaler), &world.source(), world.edge()).unwrap();
    assert_eq!(
        found,
        Existing {
            namespace: "shop".to_owned(),
            name: "s0-edge1".to_owned(),
            replicas: 0,
            autoscaler: Some("s0-edge1".to_owned()),
            notes: Vec::new(),
        }
    );
    let mut other = deployment.clone();
    other["kind"] = "StatefulSet".into();
    let refused = existing(&other, None, &world.source(), world.edge()).unwrap_err();
    assert!(matches!(refused, Refused::Kind { .. }), "{refused}");
    let mut other = deployment;
    other["spec"]["template"]["metadata"]["labels"]["app"] = "s1".into();
    let refused = existing(&other, None, &world.source(), world.edge()).unwrap_err();
    assert!(matches!(refused, Refused::NotSelected { .. }), "{refused}");
}

#[test]
fn an_existing_deployment_must_be_kept_to_the_edge() {
    let world = World::of("mubench.yaml");
    let (region, zone) = (requires("region", &["lab"]), requires("zone", &["x"]));
    let term = |expressions: &[&Value]| json!({"matchExpressions": expressions});
    for (affinity, is_confined) in [
        (json!({}), false),
        (nodes(&json!([term(&[&region, &zone])])), true),
        (nodes(&json!([term(&[&region])])), false),
        (nodes(&json!([term(&[&zone])])), false),
        (
            nodes(&json!([
                term(&[&region, &zone]),
                term(&[&region, &requires("zone", &["y"])])
            ])),
            true,
        ),
        // Alternatives: one of them is elsewhere.
        (
            nodes(&json!([
                term(&[&region, &zone]),
                term(&[&region, &requires("zone", &["z"])])
            ])),
            false,
        ),
        (
            nodes(&json!([term(&[&region, &requires("zone", &["x", "z"])])])),
            false,
        ),
    ] {
        let deployment = users_deployment(&affinity);
        let found = existing(&deployment, None, &world.source(), world.edge()).unwrap();
        assert_eq!(
            found.notes.is_empty(),
            is_confined,
            "{affinity}: {:?}",
            found.notes
        );
    }
    let mut deployment = users_deployment(&json!({}));
    deployment["spec"]["template"]["spec"]["nodeSelector"] =
        json!({"topology.kubernetes.io/region": "lab", "topology.kubernetes.io/zone": "y"});
    let found = existing(&deployment, None, &world.source(), world.edge()).unwrap();
    assert_eq!(found.notes, []);
}

#[test]
fn autoscalers_that_stop_each_other_are_told_of() {
    let world = World::of("shared-selector.yaml");
    let mut deployment = users_deployment(&json!({}));
    deployment["spec"]["template"]["metadata"]["labels"]["app"] = "cart".into();
    let autoscaler = json!({"metadata": {"name": "cart-edge1"}});
    let of = |autoscaler| {
        existing(&deployment, autoscaler, &world.source(), world.edge())
            .unwrap()
            .notes
    };
    assert!(
        of(Some(&autoscaler))
            .iter()
            .any(|note| matches!(note, Note::AutoscalersStopped { .. }))
    );
    assert!(
        !of(None)
            .iter()
            .any(|note| matches!(note, Note::AutoscalersStopped { .. }))
    );
}
