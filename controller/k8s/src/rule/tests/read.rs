//! What is written is read back.

use std::collections::{BTreeMap, BTreeSet};

use gma_core::cluster::Weights;
use gma_core::ids::{AreaName, ServiceName};
use gma_core::routing::LocalityPattern;
use serde_json::{Value, json};

use crate::locality::{AreaMap, Locality};
use crate::rule::{Areas, MANAGER, Mesh, Order, Rule, in_force, says, write};

const HOST: &str = "cart.shop.svc.cluster.local";

fn map() -> AreaMap {
    let patterns = |texts: &[&str]| {
        texts
            .iter()
            .map(|text| LocalityPattern::try_from(*text).unwrap())
            .collect()
    };
    AreaMap::Localities(BTreeMap::from([
        ("cloud".into(), patterns(&["eu/a", "eu/b"])),
        ("edge-1".into(), patterns(&["lab"])),
        ("edge-2".into(), patterns(&["van/x"])),
    ]))
}

fn routes(shares: &[(&str, u32)]) -> BTreeMap<AreaName, Weights> {
    let mut routes = BTreeMap::from([("cloud".into(), Weights::from([("cloud".into(), 100)]))]);
    for (edge, share) in shares {
        let weights = [("cloud".into(), 100 - share), ((*edge).into(), *share)];
        routes.insert(
            (*edge).into(),
            weights.into_iter().filter(|(_, weight)| *weight > 0).collect(),
        );
    }
    routes
}

fn body(routes: &BTreeMap<AreaName, Weights>) -> Value {
    let (host, cloud) = (ServiceName::from(HOST), AreaName::from("cloud"));
    let map = map();
    let areas = Areas {
        cloud: &cloud,
        map: &map,
    };
    let written = write(
        &Mesh {
            root_namespace: "istio-system".to_owned(),
            rules: Vec::new(),
        },
        areas,
        &Order {
            host: &host,
            namespace: "shop",
            callers: &["shop".to_owned()].into(),
            unlocated_caller: None,
            reported: &["eu/a", "eu/b"].map(Locality::parse).into(),
            routes,
            object: "shop/shop",
        },
    );
    written.unwrap().writes.remove(0).body
}

/// As the API server gives it back: `manager` owns what it wrote.
fn stored(mut body: Value, manager: &str) -> Rule {
    body["metadata"]["managedFields"] = json!([{
        "manager": manager, "operation": "Apply",
        "fieldsV1": {"f:spec": {"f:host": {}, "f:trafficPolicy": {
            "f:loadBalancer": {"f:localityLbSetting": {"f:enabled": {}, "f:distribute": {}, "f:failover": {}}},
        }}},
    }]);
    Rule::try_new(&body, "cluster.local").unwrap()
}

fn read(
    rules: Vec<Rule>,
    ready: &[&str],
    ordered: Option<&BTreeMap<AreaName, Weights>>,
) -> Option<BTreeMap<AreaName, Weights>> {
    read_in(&map(), rules, ready, ordered)
}

fn read_in(
    map: &AreaMap,
    rules: Vec<Rule>,
    ready: &[&str],
    ordered: Option<&BTreeMap<AreaName, Weights>>,
) -> Option<BTreeMap<AreaName, Weights>> {
    let mesh = Mesh {
        root_namespace: "istio-system".to_owned(),
        rules,
    };
    let cloud = AreaName::from("cloud");
    let ready: Vec<AreaName> = ready.iter().map(|area| (*area).into()).collect();
    let ready: BTreeSet<&AreaName> = ready.iter().collect();
    in_force(&mesh, Areas { cloud: &cloud, map }, &HOST.into(), &ready, ordered)
}

#[test]
fn weights_are_read_back_as_they_were_written() {
    for shares in [
        [("edge-1", 0), ("edge-2", 0)],
        [("edge-1", 1), ("edge-2", 99)],
        [("edge-1", 50), ("edge-2", 25)],
    ] {
        let routes = routes(&shares);
        let rule = stored(body(&routes), MANAGER);
        assert_eq!(read(vec![rule], &[], None), Some(routes), "{shares:?}");
    }
}

#[test]
fn with_failover_an_edge_has_what_it_has_a_ready_instance_for() {
    let rule = stored(body(&routes(&[("edge-1", 100), ("edge-2", 0)])), MANAGER);
    let found = read(vec![rule], &["cloud", "edge-1"], None);
    assert_eq!(found, Some(routes(&[("edge-1", 100), ("edge-2", 0)])));
}

#[test]
fn between_zones_an_edge_has_what_it_has_a_ready_instance_for() {
    let zone = |name: &str| [name.to_owned()].into();
    let zones = AreaMap::Zones(BTreeMap::from([
        ("cloud".into(), zone("a")),
        ("edge-1".into(), zone("x")),
    ]));
    let rule = |setting: Value| {
        let policy = json!({"loadBalancer": {"localityLbSetting": setting}});
        let body = json!({
            "apiVersion": "networking.istio.io/v1", "kind": "DestinationRule",
            "metadata": {"name": "gma-cart", "namespace": "shop"},
            "spec": {"host": HOST, "trafficPolicy": policy},
        });
        vec![stored(body, MANAGER)]
    };
    let ours = || rule(json!({"enabled": true, "failoverPriority": ["topology.kubernetes.io/zone"]}));
    for (ready, share) in [(&["cloud"][..], 0), (&["cloud", "edge-1"], 100)] {
        let found = read_in(&zones, ours(), ready, None);
        assert_eq!(found, Some(routes(&[("edge-1", share)])), "{ready:?}");
    }
    // Once areas have regions it is read all the same, until weights replace it.
    let found = read(ours(), &["cloud", "edge-1"], None);
    assert_eq!(found, Some(routes(&[("edge-1", 100), ("edge-2", 0)])));
    // The other way round no weight is in force, and what does not go by the zone alone is not ours.
    for other in [
        json!({"distribute": [{"from": "*", "to": {"eu": 100}}]}),
        json!({"failover": [{"from": "lab", "to": "eu"}]}),
        json!({"failoverPriority": ["topology.kubernetes.io/region", "topology.kubernetes.io/zone"]}),
    ] {
        assert_eq!(
            read_in(&zones, rule(other.clone()), &["edge-1"], None),
            None,
            "{other}"
        );
    }
}

#[test]
fn a_rule_of_somebody_else_is_no_routing_of_ours() {
    let rule = stored(body(&routes(&[("edge-1", 50), ("edge-2", 0)])), "kubectl");
    assert_eq!(read(vec![rule], &[], None), None);
    assert_eq!(read(Vec::new(), &[], None), None);
}

#[test]
fn of_two_rules_the_one_that_was_not_written_yet_counts() {
    let (new, old) = (
        routes(&[("edge-1", 50), ("edge-2", 0)]),
        routes(&[("edge-1", 25), ("edge-2", 0)]),
    );
    let rules = vec![stored(body(&new), MANAGER), stored(body(&old), MANAGER)];
    assert_eq!(read(rules.clone(), &[], Some(&new)), Some(old));
    assert_eq!(read(rules, &[], None), Some(new));
}

#[test]
fn a_rule_says_a_body_where_every_leaf_is_there() {
    let wanted = body(&routes(&[("edge-1", 50), ("edge-2", 0)]));
    let mut found = wanted.clone();
    found["spec"]["trafficPolicy"]["connectionPool"] = json!({"tcp": {"maxConnections": 3}});
    assert!(says(&stored(found.clone(), MANAGER), &wanted));
    found["spec"]["trafficPolicy"]["outlierDetection"]["interval"] = json!("5s");
    assert!(!says(&stored(found, MANAGER), &wanted));
}
