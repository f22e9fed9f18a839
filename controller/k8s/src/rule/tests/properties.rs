//! What holds for all rules there can be.

use std::collections::BTreeSet;

use gma_core::cluster::Unroutable;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::world::{HOST, World, leaves_of, localities, owned_by_others, refuses, routes, rule, zones};
use crate::locality::{AreaMap, Locality};
use crate::rule::{Release, release};

fn some<T: Clone + std::fmt::Debug + 'static>(values: Vec<T>) -> impl Strategy<Value = Option<T>> {
    prop::option::of(prop::sample::select(values))
}

fn traffic_policy() -> impl Strategy<Value = Value> {
    let balancer = some(vec![
        json!({"simple": "LEAST_REQUEST"}),
        json!({"simple": "RANDOM", "localityLbSetting": {"enabled": true}}),
        json!({"localityLbSetting": {"distribute": [{"from": "*", "to": {"eu": 100}}]}}),
        json!({"localityLbSetting": {"failover": [{"from": "eu", "to": "lab"}]}}),
        json!({"consistentHash": {"httpHeaderName": "x-user"}}),
        json!({}),
    ]);
    let outlier = some(vec![
        json!({"consecutive5xxErrors": 7, "interval": "30s"}),
        json!({"maxEjectionPercent": 10, "minHealthPercent": 1}),
        json!({"minHealthPercent": 50}),
        json!({}),
    ]);
    let pool = some(vec![json!({"tcp": {"maxConnections": 3}})]);
    let ports = some(vec![
        json!([{"port": {"number": 80}, "tls": {"mode": "DISABLE"}}]),
        json!([{"port": {"number": 80}}, {"port": {"number": 81}}]),
    ]);
    (balancer, outlier, pool, ports).prop_map(|(balancer, outlier, pool, ports)| {
        let mut policy = json!({});
        for (name, value) in [
            ("loadBalancer", balancer),
            ("outlierDetection", outlier),
            ("connectionPool", pool),
            ("portLevelSettings", ports),
        ] {
            if let Some(value) = value {
                policy[name] = value;
            }
        }
        policy
    })
}

fn object(position: usize) -> impl Strategy<Value = Value> {
    let namespace = prop::sample::select(vec!["shop", "istio-ingress", "istio-system", "elsewhere"]);
    let host = prop::sample::select(vec![
        HOST,
        HOST,
        HOST,
        "cart",
        "*.local",
        "*.shop.svc.cluster.local",
        "other",
    ]);
    let export = some(vec![
        json!(["."]),
        json!(["*"]),
        json!(["shop"]),
        json!(["istio-ingress"]),
    ]);
    let subset = some(vec![
        json!({"connectionPool": {}}),
        json!({"loadBalancer": {"simple": "RANDOM"}}),
    ]);
    let selector = prop::bool::weighted(0.1);
    (
        namespace,
        host,
        export,
        prop::option::of(traffic_policy()),
        subset,
        selector,
        0..3_u32,
    )
        .prop_map(move |(namespace, host, export, policy, subset, selector, day)| {
            let mut spec = json!({"host": host});
            if let Some(export) = export {
                spec["exportTo"] = export;
            }
            if let Some(policy) = policy {
                spec["trafficPolicy"] = policy;
            }
            if let Some(policy) = subset {
                spec["subsets"] = json!([{"name": "v1", "trafficPolicy": policy}]);
            }
            if selector {
                spec["workloadSelector"] = json!({"matchLabels": {"app": "x"}});
            }
            let mut object = rule(namespace, &format!("r{position}"), spec);
            object["metadata"]["creationTimestamp"] = format!("2026-01-0{}T00:00:00Z", day + 1).into();
            object
        })
}

fn areas() -> impl Strategy<Value = AreaMap> {
    prop_oneof![
        4 => Just(localities(&[("cloud", &["eu"]), ("edge-1", &["lab"])])),
        2 => Just(localities(&[("cloud", &["eu/a", "eu/b", "eu/c"]), ("edge-1", &["lab/x", "lab/y"])])),
        1 => Just(localities(&[("cloud", &["eu/a", "us/b"]), ("edge-1", &["eu/edge"])])),
        1 => Just(zones(&[("cloud", &["a"]), ("edge-1", &["x"])])),
    ]
}

fn world() -> impl Strategy<Value = World> {
    let objects = prop_oneof![
        Just(vec![]).boxed(),
        object(0).prop_map(|one| vec![one]).boxed(),
        (object(0), object(1))
            .prop_map(|(one, two)| vec![one, two])
            .boxed(),
        (object(0), object(1), object(2))
            .prop_map(|(one, two, three)| vec![one, two, three])
            .boxed(),
    ];
    let reported =
        prop::collection::btree_set(prop::sample::select(vec!["eu/a", "eu/a", "eu/b", "lab/x"]), 1..4);
    let callers = prop::collection::btree_set(
        prop::sample::select(vec!["shop", "istio-ingress", "istio-system", "other"]),
        0..4,
    );
    (objects, areas(), reported, callers, 0..=100_u32).prop_map(
        |(objects, areas, reported, callers, edge)| World {
            objects,
            areas,
            callers: callers.into_iter().map(str::to_owned).collect(),
            unlocated: None,
            reported: reported.into_iter().map(Locality::parse).collect::<BTreeSet<_>>(),
            routes: routes(edge),
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// A body names no leaf of another, meets no conflict, changes nothing that was there, and is one that istiod takes;
    /// releasing restores every rule as it was.
    #[test]
    fn bodies_are_valid_touch_nobody_and_can_be_taken_back(mut world in world(), later in 0..=99_u32) {
        let before = world.objects.clone();
        let Ok(written) = world.write() else { return Ok(()) };
        prop_assert_eq!(written.writes.is_empty(), world.callers.is_empty());
        for _ in 0..2 {
            for write in &world.write().map_err(|held| TestCaseError::fail(format!("{held:?}")))?.writes {
                let old = world.position(&write.namespace, &write.name);
                let body = leaves_of(&write.body);
                if let Some(at) = old {
                    let foreign = owned_by_others(&world.objects[at]);
                    for path in body.keys() {
                        prop_assert!(!foreign.contains(path), "{} is another's", path);
                    }
                }
                world.put(write);
                let at = world.position(&write.namespace, &write.name).unwrap();
                prop_assert_eq!(refuses(&world.objects[at]["spec"]), None);
            }
            world.routes = routes(later);
        }
        for (old, new) in before.iter().zip(&world.objects) {
            let new = leaves_of(new);
            for (path, value) in leaves_of(old) {
                let is_empty = value.as_object().is_some_and(serde_json::Map::is_empty);
                prop_assert!(is_empty || new.get(&path) == Some(&value), "{} changed", path);
            }
        }
        for release in release(&world.mesh(), &HOST.into()) {
            match release {
                Release::Apply(write) => world.put(&write),
                Release::Delete { namespace, name } => {
                    let at = world.position(&namespace, &name).unwrap();
                    world.objects.remove(at);
                }
            }
        }
        // Of an empty object nothing tells whether it is there.
        let specs = |objects: &[Value]| {
            let leaves = objects.iter().map(leaves_of);
            leaves.map(|mut leaves| { leaves.retain(|_, value| *value != json!({})); leaves }).collect::<Vec<_>>()
        };
        prop_assert_eq!(specs(&before), specs(&world.objects));
    }

    /// What is held says what to do, and a rule that it gives ends it, if need be one after the other.
    #[test]
    fn a_fix_ends_what_is_held(mut world in world()) {
        for _ in 0..12 {
            match world.write() {
                Ok(_) => return Ok(()),
                Err(held) => {
                    prop_assert!(!held.fix.is_empty());
                    let is_about_a_rule = held.fix.contains("kind: DestinationRule");
                    match held.why {
                        Unroutable::RuleOwned { .. } => prop_assert!(is_about_a_rule),
                        Unroutable::RuleShape { .. } if is_about_a_rule => {}
                        // Labels and policies: nothing to apply.
                        _ => return Ok(()),
                    }
                    world.fix(&held.fix);
                }
            }
        }
        prop_assert!(false, "still held: {:?}", world.write());
    }
}
