use std::collections::BTreeMap;

use gma_core::cluster::{Phase, ProxyRole, RoutingPlan, Unroutable};
use gma_core::sightings::{Sighting, Sightings};
use serde_json::{Value, json};

use super::{Seen, View, view};
use crate::api::EdgePlacementSpec;
use crate::index::{Autoscaler, Deployment, InUse, Index, Node, Owner, Pod, Port, Service, Target};
use crate::locality::Locality;
use crate::rule::{Mesh, Rule};
use crate::settings::{Hosts, convert};

const WEB: &str = "web.shop.svc.cluster.local";

fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

fn key(namespace: &str, name: &str) -> (String, String) {
    (namespace.to_owned(), name.to_owned())
}

fn mk_pod(app: &str, node: Option<&str>, deployment: &str, is_ready: bool) -> Pod {
    Pod {
        node: node.map(str::to_owned),
        labels: labels(&[("app", app)]),
        has_proxy: true,
        is_ready,
        owner: Some(Owner::Deployment(deployment.to_owned())),
        ..Pod::default()
    }
}

/// A node in the cloud and one at the edge, `web` in the cloud, and the edge's gateway.
fn mk_index() -> Index {
    let mut index = Index::default();
    for (name, locality) in [("c1", "eu/a"), ("e1", "lab/x"), ("stray", "moon/1")] {
        let node = Node {
            locality: Locality::parse(locality),
            is_usable: true,
            ..Node::default()
        };
        index.nodes.apply(key("", name), node);
    }
    let service = Service {
        selector: labels(&[("app", "web")]),
        ports: vec![Port {
            port: 80,
            target: Target::Number(8080),
        }],
    };
    index.services.apply(key("shop", "web"), service);
    index
        .pods
        .apply(key("shop", "web-1"), mk_pod("web", Some("c1"), "web-cloud", true));
    let gateway = Pod {
        labels: labels(&[("istio", "gw")]),
        ..mk_pod("", Some("e1"), "gw", true)
    };
    index.pods.apply(key("ingress", "gw-1"), gateway);
    index
}

fn look(index: &Index, sightings: &Sightings) -> View {
    with_seen(index, sightings, view)
}

fn with_seen<T>(index: &Index, sightings: &Sightings, look: impl FnOnce(&Seen<'_>) -> T) -> T {
    let areas = json!({
        "cloud": {"localities": ["eu"]},
        "edges": [{"name": "edge-1", "localities": ["lab"]}],
    });
    with_areas(areas, index, Vec::new(), sightings, look)
}

fn with_areas<T>(
    mut areas: Value,
    index: &Index,
    rules: Vec<Rule>,
    sightings: &Sightings,
    look: impl FnOnce(&Seen<'_>) -> T,
) -> T {
    for edge in areas["edges"].as_array_mut().unwrap() {
        edge["gateway"] = json!({"namespace": "ingress", "matchLabels": {"istio": "gw"}});
        edge["objective"] = json!({"offloadAbove": "80ms", "unoffloadBelow": "10ms"});
    }
    let spec: EdgePlacementSpec = serde_json::from_value(json!({
        "areas": areas,
        "services": [{"name": "web", "edge": {"deployments": [{"edge": "edge-1", "name": "web-edge"}]}}],
    }))
    .unwrap();
    let hosts = Hosts {
        namespace: "shop".to_owned(),
        domain: "cluster.local".to_owned(),
    };
    let wanted = convert(&spec, &hosts).unwrap();
    look(&Seen {
        index,
        mesh: &Mesh {
            root_namespace: "istio-system".to_owned(),
            rules,
        },
        wanted: &wanted,
        hosts: &hosts,
        object: "shop/shop",
        sightings,
        ordered: &RoutingPlan::default(),
    })
}

fn phases(view: &View) -> Vec<(&str, Phase, u32)> {
    let instances = view.cluster.instances.iter();
    instances
        .map(|one| (one.area.as_str(), one.phase, one.replicas))
        .collect()
}

#[test]
fn an_instance_uses_what_its_pods_do_and_young_ones_count_as_the_others() {
    let mut index = mk_index();
    let named = |name: &str| Pod {
        name: name.to_owned(),
        ..mk_pod("web", Some("c1"), "web", true)
    };
    for name in ["web-1", "web-2"] {
        index.pods.apply(key("shop", name), named(name));
    }
    assert!(look(&index, &Sightings::new()).cores.is_empty());
    let used = InUse {
        cpu_cores: 0.5,
        memory_bytes: 1e6,
    };
    index.in_use = [("shop".to_owned(), [("web-1".to_owned(), used)].into())].into();
    let view = look(&index, &Sightings::new());
    assert_eq!(view.cores, [((WEB.into(), "cloud".into()), 1.0)].into());
    assert_eq!(view.cluster.instances[0].memory_bytes, Some(2_000_000));
}

#[test]
fn pods_are_placed_by_their_nodes_and_serve_by_selector_and_target_port() {
    let view = look(&mk_index(), &Sightings::new());
    assert_eq!(phases(&view), [("cloud", Phase::Ready, 1)]);
    assert_eq!(view.services, [WEB.into()].into());
    let proxies: Vec<_> = view
        .proxies
        .iter()
        .map(|(name, proxy)| (name.as_str(), proxy.area.as_str(), &proxy.role))
        .collect();
    let serves = ProxyRole::Sidecar {
        ports: [(8080, WEB.into())].into(),
    };
    assert_eq!(
        proxies,
        [
            ("gw-1.ingress", "edge-1", &ProxyRole::Gateway),
            ("web-1.shop", "cloud", &serves)
        ]
    );
    assert!(view.held.is_empty(), "nobody called it yet: {:?}", view.held);
}

#[test]
fn an_instance_begins_before_it_has_a_node_and_fails_with_its_pods_reason() {
    let mut index = mk_index();
    let deployment = |replicas| Deployment {
        replicas,
        ..Deployment::default()
    };
    index.deployments.apply(key("shop", "web-edge"), deployment(0));
    assert_eq!(phases(&look(&index, &Sightings::new())).len(), 1);
    index.deployments.apply(key("shop", "web-edge"), deployment(1));
    let starting = [("cloud", Phase::Ready, 1), ("edge-1", Phase::Starting, 0)];
    assert_eq!(phases(&look(&index, &Sightings::new())), starting);
    index
        .pods
        .apply(key("shop", "web-edge-1"), mk_pod("web", None, "web-edge", false));
    assert_eq!(phases(&look(&index, &Sightings::new())), starting);
    let broken = Pod {
        failure: Some("container app: ErrImagePull".to_owned()),
        ..mk_pod("web", Some("e1"), "web-edge", false)
    };
    index.pods.apply(key("shop", "web-edge-1"), broken);
    let view = look(&index, &Sightings::new());
    assert_eq!(phases(&view)[1], ("edge-1", Phase::Failed, 0));
    assert_eq!(
        view.cluster.instances[1].reason.as_deref(),
        Some("container app: ErrImagePull")
    );
    // One that ends is gone.
    let ending = Pod {
        is_ending: true,
        ..mk_pod("web", Some("e1"), "web-edge", true)
    };
    index.pods.apply(key("shop", "web-edge-1"), ending);
    index.deployments.apply(key("shop", "web-edge"), deployment(0));
    assert_eq!(phases(&look(&index, &Sightings::new())).len(), 1);
}

#[test]
fn an_autoscaler_is_that_of_the_instances_deployment() {
    let mut index = mk_index();
    let autoscaler = |deployment: &str| Autoscaler {
        deployment: deployment.to_owned(),
        desired: 3,
        ..Autoscaler::default()
    };
    index
        .autoscalers
        .apply(key("shop", "other"), autoscaler("web-edge"));
    assert_eq!(
        look(&index, &Sightings::new()).cluster.instances[0].autoscaler_wants,
        None
    );
    index
        .autoscalers
        .apply(key("shop", "web"), autoscaler("web-cloud"));
    assert_eq!(
        look(&index, &Sightings::new()).cluster.instances[0].autoscaler_wants,
        Some(3)
    );
}

#[test]
fn a_called_service_is_held_until_its_cloud_is_proven_and_where_an_endpoint_is_in_no_area() {
    let mut index = mk_index();
    let seen = |localities: &[&str]| {
        let sighting = Sighting {
            callers: ["ingress".to_owned()].into(),
            localities: localities.iter().map(|one| (*one).to_owned()).collect(),
        };
        Sightings::from([(WEB.into(), sighting)])
    };
    let why = |index: &Index, sightings: &Sightings| {
        look(index, sightings)
            .cluster
            .unroutable
            .get(&WEB.into())
            .cloned()
    };
    assert!(matches!(
        why(&index, &seen(&[])),
        Some(Unroutable::LocalityUnproven { .. })
    ));
    assert_eq!(why(&index, &seen(&["eu/a/"])), None);
    index.pods.apply(
        key("shop", "web-2"),
        mk_pod("web", Some("stray"), "web-cloud", true),
    );
    let locality = "moon/1".to_owned();
    assert_eq!(
        why(&index, &seen(&["eu/a/"])),
        Some(Unroutable::EndpointOutsideAreas { locality })
    );
}

#[test]
fn an_edge_without_a_usable_node_is_unavailable() {
    let mut index = mk_index();
    assert!(look(&index, &Sightings::new()).cluster.unavailable.is_empty());
    let node = Node {
        locality: Locality::parse("lab/x"),
        is_usable: false,
        ..Node::default()
    };
    index.nodes.apply(key("", "e1"), node);
    let view = look(&index, &Sightings::new());
    assert_eq!(
        view.cluster.unavailable.len(),
        1,
        "{:?}",
        view.cluster.unavailable
    );
}

/// What was made for the edge from `web-cloud`, for an object.
fn mk_made(object: &str) -> Deployment {
    Deployment {
        replicas: 1,
        object: Some(object.to_owned()),
        labels: labels(&[
            ("gma.dev/area", "edge-1"),
            ("gma.dev/cloud-deployment", "web-cloud"),
        ]),
        pod_labels: labels(&[("app", "web"), ("gma.dev/area", "edge-1")]),
        ..Deployment::default()
    }
}

#[test]
fn what_was_made_is_an_instance_of_its_edge_and_that_of_another_object_is_not() {
    let mut index = mk_index();
    let name = key("shop", "web-edge-1");
    index.deployments.apply(name.clone(), mk_made("shop/other"));
    assert_eq!(phases(&look(&index, &Sightings::new())).len(), 1);
    index.deployments.apply(name, mk_made("shop/shop"));
    let starting = [("cloud", Phase::Ready, 1), ("edge-1", Phase::Starting, 0)];
    assert_eq!(phases(&look(&index, &Sightings::new())), starting);
    // No node takes it: it is the edge's all the same, with what the scheduler says.
    let pending = Pod {
        unschedulable: Some("Unschedulable: 0/2 nodes are available".to_owned()),
        ..mk_pod("web", None, "web-edge-1", false)
    };
    index.pods.apply(key("shop", "web-edge-1-a"), pending);
    let view = look(&index, &Sightings::new());
    assert_eq!(phases(&view), starting);
    let reason = view.cluster.instances[1].reason.as_deref();
    assert_eq!(reason, Some("Unschedulable: 0/2 nodes are available"));
    index.pods.apply(
        key("shop", "web-edge-1-a"),
        mk_pod("web", Some("e1"), "web-edge-1", true),
    );
    let ready = [("cloud", Phase::Ready, 1), ("edge-1", Phase::Ready, 1)];
    assert_eq!(phases(&look(&index, &Sightings::new())), ready);
}

#[test]
fn an_edges_pod_is_not_ready_outside_of_its_edge() {
    let mut index = mk_index();
    index
        .deployments
        .apply(key("shop", "web-edge-1"), mk_made("shop/shop"));
    index.pods.apply(
        key("shop", "web-edge-1-a"),
        mk_pod("web", Some("c1"), "web-edge-1", true),
    );
    let view = look(&index, &Sightings::new());
    assert_eq!(
        phases(&view),
        [("cloud", Phase::Ready, 1), ("edge-1", Phase::Starting, 0)]
    );
    let reason = view.cluster.instances[1].reason.as_deref();
    assert_eq!(reason, Some("a pod of it runs at eu/a, which is not in edge-1"));
    // And it does not make the cloud's Deployment ambiguous.
    let cloud = with_seen(&index, &Sightings::new(), |seen| {
        seen.cloud_deployment(&WEB.into())
    });
    assert_eq!(cloud, Ok("web-cloud".to_owned()));
}

#[test]
fn a_cloud_deployment_without_pods_is_found_by_its_template() {
    let mut index = mk_index();
    index.pods.delete(&key("shop", "web-1"));
    let cloud = |index: &Index| {
        with_seen(index, &Sightings::new(), |seen| {
            seen.cloud_deployment(&WEB.into())
        })
    };
    assert!(cloud(&index).unwrap_err().contains("no Deployment"));
    let of = |app| Deployment {
        pod_labels: labels(&[("app", app)]),
        ..Deployment::default()
    };
    index.deployments.apply(key("shop", "other"), of("cart"));
    index.deployments.apply(key("shop", "web-cloud"), of("web"));
    index.deployments.apply(key("shop", "web-edge"), of("web"));
    index
        .deployments
        .apply(key("shop", "web-edge-1"), mk_made("shop/shop"));
    assert_eq!(cloud(&index), Ok("web-cloud".to_owned()));
    index.deployments.apply(key("shop", "web-canary"), of("web"));
    assert!(cloud(&index).unwrap_err().contains("web-canary, web-cloud"));
}

/// The index with the nodes' zones alone.
fn mk_zones() -> Index {
    let mut index = mk_index();
    for (name, locality) in [("c1", "/a"), ("e1", "/x")] {
        let node = Node {
            locality: Locality::parse(locality),
            is_usable: true,
            ..Node::default()
        };
        index.nodes.apply(key("", name), node);
    }
    index
}

#[test]
fn between_zones_the_ready_instance_is_the_routing_and_one_edge_is_all() {
    let mut index = mk_zones();
    let called = Sighting {
        localities: ["/a/".to_owned()].into(),
        callers: ["shop".to_owned()].into(),
    };
    let sightings = Sightings::from([(WEB.into(), called)]);
    let edge = |name: &str, zone: &str| json!({"name": name, "zones": [zone]});
    let one = json!({"cloud": {"zones": ["a"]}, "edges": [edge("edge-1", "x")]});
    let two = json!({"cloud": {"zones": ["a"]}, "edges": [edge("edge-1", "x"), edge("edge-2", "y")]});

    // Without a rule it may have one, which is the same for any share.
    let to_cloud = BTreeMap::from([("edge-1".into(), BTreeMap::from([("cloud".into(), 100)]))]);
    let body = with_areas(one.clone(), &index, Vec::new(), &sightings, |seen| {
        assert!(view(seen).held.is_empty());
        let mut writes = seen.order(&WEB.into(), &to_cloud).unwrap().writes;
        writes.remove(0).body
    });
    let mut rule = body;
    rule["metadata"]["managedFields"] = json!([{"manager": "gma", "operation": "Apply", "fieldsV1": {"f:spec": {
        "f:trafficPolicy": {"f:loadBalancer": {"f:localityLbSetting": {"f:failoverPriority": {}}}},
    }}}]);
    let rules = vec![Rule::try_new(&rule, "cluster.local").unwrap()];
    let share = |index: &Index| {
        with_areas(one.clone(), index, rules.clone(), &sightings, |seen| {
            let view = view(seen);
            assert!(view.held.is_empty(), "{:?}", view.held);
            view.cluster.routing.0[&WEB.into()][&"edge-1".into()].clone()
        })
    };
    assert_eq!(share(&index), [("cloud".into(), 100)].into());
    let deployment = Deployment {
        replicas: 1,
        ..Deployment::default()
    };
    index.deployments.apply(key("shop", "web-edge"), deployment);
    let mut pod = mk_pod("web", Some("e1"), "web-edge", false);
    index.pods.apply(key("shop", "web-edge-1"), pod.clone());
    assert_eq!(share(&index), [("cloud".into(), 100)].into());
    pod.is_ready = true;
    index.pods.apply(key("shop", "web-edge-1"), pod);
    assert_eq!(share(&index), [("edge-1".into(), 100)].into());

    let held = with_areas(two, &index, rules.clone(), &sightings, |seen| view(seen).held);
    assert!(
        matches!(&held[&WEB.into()].why, Unroutable::RuleShape { what } if what.contains("there are 2")),
        "{held:?}"
    );
}

#[test]
fn a_zone_is_known_by_itself_and_with_the_region_that_a_node_has_all_the_same() {
    let mut index = mk_zones();
    let node = Node {
        locality: Locality::parse("lab/x"),
        is_usable: true,
        ..Node::default()
    };
    index.nodes.apply(key("", "e1"), node);
    let areas = json!({"cloud": {"zones": ["a"]}, "edges": [{"name": "edge-1", "zones": ["x"]}]});
    let found = with_areas(areas, &index, Vec::new(), &Sightings::new(), view).localities;
    let expected = [("/a", "cloud"), ("/x", "edge-1"), ("lab/x", "edge-1")];
    assert_eq!(
        found,
        expected
            .map(|(locality, area)| (locality.to_owned(), area.into()))
            .into()
    );
}
