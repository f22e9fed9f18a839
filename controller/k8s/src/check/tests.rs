use std::collections::{BTreeMap, BTreeSet};

use gma_core::cluster::Unroutable;
use gma_core::ids::{AreaName, ServiceName};
use gma_core::routing::LocalityPattern;
use serde_json::{Value, json};

use super::*;
use crate::locality::{AreaMap, Locality};

/// A cluster in which nothing is found; tests plant a fault each.
struct World {
    cloud: AreaName,
    areas: AreaMap,
    nodes: Vec<Node>,
    offloaded: BTreeMap<String, String>,
    pods: Vec<Pod>,
    services: Vec<Value>,
    plugins: Option<Vec<Value>>,
    sidecars: Vec<Value>,
    is_preflight: bool,
    autoscalers: Vec<Value>,
    has_metrics: bool,
    held: BTreeMap<ServiceName, Held>,
    refused: BTreeMap<(ServiceName, AreaName), Refused>,
    notes: BTreeMap<(ServiceName, AreaName), Vec<Note>>,
    heard: Option<BTreeSet<String>>,
    denied: BTreeSet<String>,
}

fn node(name: &str, locality: &str) -> Node {
    Node {
        name: name.to_owned(),
        locality: Locality::parse(locality),
        is_ready: true,
        is_virtual: false,
    }
}

fn pod(namespace: &str, name: &str, node: &str) -> Pod {
    Pod {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        labels: BTreeMap::from([("app".to_owned(), name.to_owned())]),
        node: Some(node.to_owned()),
        is_ready: true,
        has_proxy: true,
        proxy_version: Some((1, 26)),
        gateway_of: None,
    }
}

fn plugin(namespace: &str) -> Value {
    json!({
        "metadata": {"namespace": namespace, "name": "gma-filter"},
        "spec": {
            "url": "oci://registry.example/gma-filter:0.1.0",
            "failStrategy": "FAIL_OPEN",
            "match": [{"mode": "CLIENT_AND_SERVER"}],
            "pluginConfig": {"controller": {"cluster": "outbound|80||gma-reports.gma-system.svc.cluster.local"}},
        },
    })
}

impl World {
    fn sound() -> Self {
        let patterns = |text: &str| vec![LocalityPattern::try_from(text).unwrap()];
        let mut gateway = pod("ingress", "gateway", "edge-1");
        gateway.gateway_of = Some("edge-1".into());
        let pods = vec![
            pod("shop", "web", "cloud-1"),
            pod("shop", "db", "cloud-1"),
            gateway,
        ];
        Self {
            cloud: "cloud".into(),
            areas: AreaMap::Localities(BTreeMap::from([
                ("cloud".into(), patterns("eu")),
                ("edge-1".into(), patterns("lab")),
            ])),
            nodes: vec![node("cloud-1", "eu/a"), node("edge-1", "lab/x")],
            heard: Some(pods.iter().map(Pod::path).collect()),
            pods,
            offloaded: BTreeMap::new(),
            services: vec![
                json!({"metadata": {"name": "web"}, "spec": {"ports": [{"name": "http", "port": 80}]}}),
            ],
            plugins: Some(vec![plugin("shop"), plugin("ingress")]),
            sidecars: vec![json!({"metadata": {"namespace": "shop", "name": "web"},
                "spec": {"egress": [{"hosts": ["./*"]}, {"hosts": ["gma-system/*"]}]}})],
            is_preflight: false,
            autoscalers: vec![json!({"metadata": {"name": "web"}, "status": {"conditions": [
                {"type": "ScalingActive", "status": "True", "reason": "ValidMetricFound"}]}})],
            has_metrics: true,
            held: BTreeMap::new(),
            refused: BTreeMap::new(),
            notes: BTreeMap::new(),
            denied: BTreeSet::new(),
        }
    }

    fn offload(&mut self, namespace: &str, strategy: &str) {
        self.offloaded.insert(namespace.to_owned(), strategy.to_owned());
    }

    fn check(&self) -> Vec<Finding> {
        check(&Inputs {
            namespace: "shop",
            root_namespace: "istio-system",
            areas: Some(Areas {
                cloud: &self.cloud,
                map: &self.areas,
            })
            .filter(|_| !self.is_preflight),
            nodes: Some(&self.nodes),
            pods: Some(&self.pods),
            sidecars: &self.sidecars,
            offloaded: &self.offloaded,
            own_namespace: "gma-system",
            services: &self.services,
            plugins: self.plugins.as_deref(),
            autoscalers: &self.autoscalers,
            has_metrics: self.has_metrics,
            held: &self.held,
            refused: &self.refused,
            notes: &self.notes,
            heard: self.heard.as_ref(),
            denied: &self.denied,
        })
    }
}

type Plant = fn(&mut World);

/// Faults, each with its severity and words of its finding.
const FAULTS: [(Plant, Severity, &str); 31] = [
    (
        |world| drop(world.nodes.pop()),
        Severity::Error,
        "area edge-1: no node lies in it",
    ),
    (
        |world| world.nodes[1].is_ready = false,
        Severity::Error,
        "area edge-1: none of its nodes is ready: edge-1",
    ),
    (
        |world| world.pods[2].is_ready = false,
        Severity::Error,
        "area edge-1: no pod of its gateway is ready",
    ),
    (
        |world| {
            world.nodes[1].is_virtual = true;
            world.offload("shop", "LocalAndRemote");
        },
        Severity::Error,
        "Namespace gma-system: its Services are not known in the edge's cluster",
    ),
    (
        |world| {
            world.nodes[1].is_virtual = true;
            world.offload("shop", "Local");
            world.offload("gma-system", "Local");
        },
        Severity::Error,
        "Namespace shop: no pod of it may run on Liqo's virtual nodes",
    ),
    (
        |world| world.nodes.push(node("old", "/x")),
        Severity::Warning,
        "Node old: no label topology.kubernetes.io/region",
    ),
    (
        |world| {
            world.nodes.push(node("us-1", "us/a"));
            world.pods[0].node = Some("us-1".to_owned());
        },
        Severity::Error,
        "Node us-1: it lies in no area, and has the pods shop/web",
    ),
    (
        |world| world.pods[0].node = None,
        Severity::Warning,
        "Pod shop/web: waits for a node",
    ),
    (
        |world| world.pods[0].has_proxy = false,
        Severity::Warning,
        "Pod shop/web: has no proxy",
    ),
    (
        |world| world.plugins = Some(Vec::new()),
        Severity::Error,
        "no proxy of the mesh has the filter",
    ),
    (
        |world| world.pods[1].proxy_version = Some((1, 24)),
        Severity::Warning,
        "Pod shop/db: 1 of 3 proxies are older than Istio 1.26",
    ),
    (
        |world| world.sidecars[0]["spec"]["egress"][1]["hosts"] = json!(["istio-system/*"]),
        Severity::Error,
        "Sidecar shop/web: its egress leaves out gma-system",
    ),
    (
        |world| drop(world.plugins.as_mut().unwrap().pop()),
        Severity::Error,
        "Pod ingress/gateway: 1 of 3 proxies do not get the filter",
    ),
    (
        |world| {
            let mut second = plugin("istio-system");
            second["spec"]["selector"] = json!({"matchLabels": {"app": "gateway"}});
            world.plugins.as_mut().unwrap().push(second);
        },
        Severity::Error,
        "WasmPlugin ingress/gma-filter, istio-system/gma-filter: all match the proxy of ingress/gateway: each request is counted 2 times",
    ),
    (
        |world| world.plugins.as_mut().unwrap()[0]["spec"]["failStrategy"] = Value::Null,
        Severity::Error,
        "WasmPlugin shop/gma-filter: failStrategy is not FAIL_OPEN",
    ),
    (
        |world| {
            world.plugins.as_mut().unwrap()[0]["spec"]["url"] = "file:///x.wasm".into();
            world.heard = None;
        },
        Severity::Warning,
        "a proxy without it answers 500 to every request",
    ),
    (
        // All proxies that should have it report.
        |world| world.plugins.as_mut().unwrap()[0]["spec"]["url"] = "file:///x.wasm".into(),
        Severity::Info,
        "a proxy without it answers 500 to every request",
    ),
    (
        |world| world.plugins.as_mut().unwrap()[0]["spec"]["match"] = json!([{"mode": "SERVER"}]),
        Severity::Error,
        "match leaves out a side",
    ),
    (
        |world| world.plugins.as_mut().unwrap()[0]["spec"]["match"][0]["ports"] = json!([{"number": 80}]),
        Severity::Warning,
        "match names ports",
    ),
    (
        |world| {
            world.heard.as_mut().unwrap().remove("ingress/gateway");
        },
        Severity::Error,
        "area edge-1: 1 of 1 proxies with the filter do not report",
    ),
    (
        |world| {
            world.heard.as_mut().unwrap().remove("shop/web");
        },
        Severity::Warning,
        "Pod shop/web: 1 of 2 proxies with the filter do not report",
    ),
    (
        |world| world.services[0]["spec"]["ports"][0]["name"] = "web".into(),
        Severity::Warning,
        "Service web: port 80 does not say its protocol",
    ),
    (
        |world| {
            world.held.insert(
                "web.shop.svc.cluster.local".into(),
                Held {
                    why: Unroutable::RuleShape {
                        what: "the winner is a wildcard".to_owned(),
                    },
                    fix: "spec: {}".to_owned(),
                },
            );
        },
        Severity::Error,
        "service web.shop.svc.cluster.local: its rule is held: the winner is a wildcard; spec: {}",
    ),
    (
        |world| {
            let refused = Refused::Kind {
                kind: "StatefulSet".to_owned(),
                name: "db".to_owned(),
            };
            world.refused.insert(("db".into(), "edge-1".into()), refused);
        },
        Severity::Warning,
        "service db at edge-1: StatefulSet db is not a Deployment",
    ),
    (
        |world| {
            let note = Note::SharedSelector {
                deployment: "web".to_owned(),
                fix: "change it".to_owned(),
            };
            world.notes.insert(("web".into(), "edge-1".into()), vec![note]);
        },
        Severity::Warning,
        "its autoscaler counts their load, and the edge has none; change it",
    ),
    (
        |world| {
            let instance = ("web".into(), "edge-1".into());
            world.notes.insert(instance, vec![Note::NoMetricLeft]);
        },
        Severity::Info,
        "the edge has no autoscaler",
    ),
    (
        |world| world.has_metrics = false,
        Severity::Warning,
        "metrics.k8s.io does not answer",
    ),
    (
        |world| {
            world.autoscalers[0]["status"]["conditions"][0] =
                json!({"type": "ScalingActive", "status": "False", "reason": "AmbiguousSelector"});
        },
        Severity::Error,
        "HorizontalPodAutoscaler web: another autoscaler selects the same pods",
    ),
    (
        |world| {
            world.autoscalers[0]["status"]["conditions"][0] = json!({"type": "ScalingActive", "status": "False",
                "reason": "FailedGetResourceMetric", "message": "no metrics known"});
        },
        Severity::Warning,
        "it does not scale: FailedGetResourceMetric, no metrics known",
    ),
    (
        |world| {
            world.denied.insert("patch deployments.apps in shop".to_owned());
        },
        Severity::Error,
        "may not patch deployments.apps in shop",
    ),
    (
        |world| {
            world.areas = AreaMap::Zones(BTreeMap::from([
                ("cloud".into(), ["a".to_owned()].into()),
                ("edge-1".into(), ["x".to_owned()].into()),
            ]));
        },
        Severity::Warning,
        "calls move by readiness, in one step",
    ),
];

#[test]
fn a_sound_cluster_has_no_findings() {
    assert_eq!(World::sound().check(), []);
    assert_eq!(exit_code(&[]), 0);
}

#[test]
fn each_fault_is_one_finding_with_its_severity_and_a_fix() {
    let mut wrong = Vec::new();
    for (plant, severity, words) in FAULTS {
        let mut world = World::sound();
        plant(&mut world);
        let findings = world.check();
        let is_right = match findings.as_slice() {
            [one] => one.severity == severity && one.to_string().contains(words) && !one.fix.is_empty(),
            _ => false,
        };
        if !is_right {
            wrong.push((words, findings));
            continue;
        }
        let code = match severity {
            Severity::Info => 0,
            Severity::Warning => 3,
            Severity::Error => 4,
        };
        assert_eq!(exit_code(&findings), code, "{words}");
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_worst_comes_first_and_many_objects_are_one_finding() {
    let mut world = World::sound();
    world.services[0]["spec"]["ports"][0]["name"] = "web".into();
    world.denied.insert("list nodes".to_owned());
    for index in 0..1_000 {
        let mut pod = pod("shop", &format!("bare-{index:04}"), "cloud-1");
        pod.has_proxy = false;
        world.pods.push(pod);
    }
    let findings = world.check();
    let severities: Vec<_> = findings.iter().map(|finding| finding.severity).collect();
    assert_eq!(
        severities,
        [Severity::Error, Severity::Warning, Severity::Warning]
    );
    let bare = &findings[1];
    assert_eq!(
        bare.object,
        "Pod shop/bare-0000, shop/bare-0001, shop/bare-0002 and 997 more"
    );
}

#[test]
fn an_autoscaler_at_rest_and_a_port_that_is_no_http_are_no_findings() {
    let mut world = World::sound();
    world.autoscalers[0]["status"]["conditions"][0] =
        json!({"type": "ScalingActive", "status": "False", "reason": "ScalingDisabled"});
    world.services[0]["spec"]["ports"] = json!([
        {"name": "grpc-web", "port": 1}, {"name": "http-api", "port": 2}, {"name": "redis", "port": 3},
        {"name": "x", "appProtocol": "kubernetes.io/h2c", "port": 4}, {"name": "dns", "protocol": "UDP", "port": 5},
    ]);
    assert_eq!(world.check(), []);
}

#[test]
fn without_a_controller_nobody_is_called_silent() {
    let mut world = World::sound();
    world.heard = None;
    assert_eq!(world.check(), []);
}

#[test]
fn without_an_object_nothing_is_said_of_areas() {
    let mut world = World::sound();
    world.is_preflight = true;
    world.nodes.push(node("us-1", "us/a"));
    world.pods[0].node = Some("us-1".to_owned());
    assert_eq!(world.check(), []);
    // What does not depend on areas is found.
    world.nodes.push(node("old", "/x"));
    world.pods[1].has_proxy = false;
    let objects: Vec<String> = world.check().into_iter().map(|finding| finding.object).collect();
    assert_eq!(objects, ["Node old", "Pod shop/db"]);
}

#[test]
fn without_metrics_and_autoscalers_there_is_only_a_note() {
    let mut world = World::sound();
    world.has_metrics = false;
    world.autoscalers.clear();
    let findings = world.check();
    assert_eq!((findings.len(), exit_code(&findings)), (1, 0), "{findings:?}");
}
