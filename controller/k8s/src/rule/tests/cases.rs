//! One test a trap.

use gma_core::cluster::Unroutable;
use serde_json::{Value, json};

use super::world::{HOST, World, policy, refuses, routes, rule};
use crate::rule::{Release, release};

pub(super) fn shape(world: &World) -> (String, String) {
    let held = world.write().unwrap_err();
    match held.why {
        Unroutable::RuleShape { what } => (what, held.fix),
        other => panic!("{other:?}"),
    }
}

/// Applies the fix of what is held: then it is written.
fn fixed(mut world: World, expected: &str) -> World {
    let (what, fix) = shape(&world);
    assert!(what.contains(expected), "{what}");
    world.fix(&fix);
    let writes = world.step();
    assert!(!writes.is_empty());
    for object in &world.objects {
        assert_eq!(refuses(&object["spec"]), None, "{object}");
    }
    world
}

pub(super) fn distribute(body: &Value) -> &Value {
    &body["spec"]["trafficPolicy"]["loadBalancer"]["localityLbSetting"]["distribute"]
}

#[test]
fn no_rule_yet_one_is_created_in_the_services_namespace() {
    let mut world = World::default();
    let writes = world.step();
    assert_eq!(writes.len(), 1);
    assert_eq!(
        writes[0].body,
        json!({
            "apiVersion": "networking.istio.io/v1",
            "kind": "DestinationRule",
            "metadata": {
                "namespace": "shop", "name": "gma-cart",
                "labels": {"app.kubernetes.io/managed-by": "gma"},
                "annotations": {"gma.dev/object": "shop/shop"},
            },
            "spec": {
                "host": HOST,
                "trafficPolicy": {
                    "loadBalancer": {"localityLbSetting": {"enabled": true, "distribute": [
                        {"from": "eu", "to": {"eu": 100}},
                        {"from": "lab", "to": {"eu": 1, "lab": 99}},
                        {"from": "*", "to": {"eu": 100}},
                    ]}},
                    "outlierDetection": {
                        "consecutiveGatewayErrors": 3, "consecutive5xxErrors": 0, "interval": "1s",
                        "baseEjectionTime": "30s", "maxEjectionPercent": 100, "minHealthPercent": 1,
                    },
                },
            },
        })
    );
    // The second write goes into the same rule, and keeps what makes it one.
    world.routes = routes(25);
    let again = world.step();
    assert_eq!((again.len(), again[0].creates), (1, false));
    assert_eq!(again[0].body["spec"]["host"], HOST);
    assert_eq!(
        again[0].body["metadata"]["labels"]["app.kubernetes.io/managed-by"],
        "gma"
    );
    assert_eq!(
        distribute(&world.objects[0])[1]["to"],
        json!({"eu": 75, "lab": 25})
    );
}

#[test]
fn a_service_that_nobody_calls_gets_none() {
    let world = World {
        callers: [].into(),
        ..World::default()
    };
    assert_eq!(world.write().unwrap().writes, []);
}

#[test]
fn what_a_user_set_stays_and_comes_back() {
    // The seeds' own rule: 7 × 5xx, 30 s.
    let user = policy(json!({
        "connectionPool": {"http": {"maxRequestsPerConnection": 10}},
        "loadBalancer": {"simple": "LEAST_REQUEST"},
        "outlierDetection": {"consecutive5xxErrors": 7, "interval": "30s", "baseEjectionTime": "30s"},
    }));
    let mut world = World::with([user.clone()]);
    let writes = world.step();
    let outlier = &writes[0].body["spec"]["trafficPolicy"]["outlierDetection"];
    assert_eq!(
        *outlier,
        json!({"consecutiveGatewayErrors": 3, "maxEjectionPercent": 100, "minHealthPercent": 1})
    );
    assert!(writes[0].body["spec"].get("host").is_none());
    let now = &world.objects[0]["spec"]["trafficPolicy"];
    assert_eq!(now["outlierDetection"]["consecutive5xxErrors"], 7);
    assert_eq!(now["loadBalancer"]["simple"], "LEAST_REQUEST");

    let releases = release(&world.mesh(), &HOST.into());
    let [Release::Apply(write)] = &releases[..] else {
        panic!("{releases:?}");
    };
    world.put(write);
    assert_eq!(world.objects[0]["spec"], user["spec"]);
}

#[test]
fn a_rule_that_was_created_is_deleted_unless_a_user_added_to_it() {
    let mut world = World::default();
    world.step();
    let host = HOST.into();
    assert!(
        matches!(&release(&world.mesh(), &host)[..], [Release::Delete { name, .. }] if name == "gma-cart")
    );
    let body = json!({"apiVersion": "networking.istio.io/v1", "kind": "DestinationRule",
        "metadata": {"namespace": "shop", "name": "gma-cart"},
        "spec": {"trafficPolicy": {"connectionPool": {"tcp": {"maxConnections": 9}}}}});
    world.objects[0] = super::world::apply(Some(&world.objects[0]), &body, "someone");
    let releases = release(&world.mesh(), &host);
    let [Release::Apply(write)] = &releases[..] else {
        panic!("{releases:?}");
    };
    world.put(write);
    assert_eq!(
        world.objects[0]["spec"],
        json!({"host": HOST, "trafficPolicy": {"connectionPool": {"tcp": {"maxConnections": 9}}}})
    );
}

#[test]
fn another_owner_of_the_weights_or_of_the_threshold_is_named() {
    for (spec, field) in [
        (
            json!({"loadBalancer": {"localityLbSetting": {"distribute": [{"from": "*", "to": {"eu": 100}}]}}}),
            "localityLbSetting.distribute",
        ),
        (
            json!({"loadBalancer": {"localityLbSetting": {"failover": [{"from": "eu", "to": "lab"}]}}}),
            "localityLbSetting.failover",
        ),
        (
            json!({"loadBalancer": {"localityLbSetting": {"failoverPriority": ["version"]}}}),
            "localityLbSetting.failoverPriority",
        ),
        (
            json!({"loadBalancer": {"localityLbSetting": {"enabled": false}}}),
            "localityLbSetting.enabled",
        ),
        (
            json!({"outlierDetection": {"minHealthPercent": 0}}),
            "outlierDetection.minHealthPercent",
        ),
    ] {
        let mut world = World::with([policy(spec)]);
        let held = world.write().unwrap_err();
        let Unroutable::RuleOwned { by } = &held.why else {
            panic!("{held:?}");
        };
        assert!(by.contains("kubectl-client-side-apply (Update)"), "{by}");
        assert!(by.contains(field) && by.contains("shop/cart"), "{by}");
        world.fix(&held.fix);
        assert_eq!(world.step().len(), 1, "{field}");
    }
}

#[test]
fn a_value_that_is_already_right_is_no_quarrel() {
    let mut world = World::with([policy(json!({
        "loadBalancer": {"localityLbSetting": {"enabled": true}},
        "outlierDetection": {"minHealthPercent": 1},
    }))]);
    let body = world.step().remove(0).body;
    let policy = &body["spec"]["trafficPolicy"];
    assert!(
        policy["loadBalancer"]["localityLbSetting"]
            .get("enabled")
            .is_none()
    );
    assert!(policy["outlierDetection"].get("minHealthPercent").is_none());
}

#[test]
fn an_object_without_managed_fields_is_not_taken_for_ours() {
    let mut object = policy(json!({"loadBalancer": {"localityLbSetting": {"distribute": []}}}));
    object["metadata"]["managedFields"] = json!([]);
    let held = World::with([object]).write().unwrap_err();
    let Unroutable::RuleOwned { by } = held.why else {
        panic!("{:?}", held.why);
    };
    assert!(by.contains("unknown manager"), "{by}");
}

#[test]
fn a_wildcard_is_held_with_the_specific_rule() {
    let wildcard = rule(
        "shop",
        "all",
        json!({"host": "*.shop.svc.cluster.local", "trafficPolicy": {"tls": {"mode": "ISTIO_MUTUAL"}}}),
    );
    let world = fixed(
        World::with([wildcard]),
        "shop/all is for *.shop.svc.cluster.local",
    );
    let at = world.position("shop", "cart").unwrap();
    assert_eq!(
        world.objects[at]["spec"]["trafficPolicy"]["tls"]["mode"],
        "ISTIO_MUTUAL"
    );
}

#[test]
fn a_rule_in_the_root_namespace_is_held_with_the_specific_rule() {
    let root = rule(
        "istio-system",
        "defaults",
        json!({"host": HOST, "trafficPolicy": {"tls": {"mode": "DISABLE"}}}),
    );
    let world = fixed(
        World::with([root]),
        "istio-system/defaults lies in the root namespace",
    );
    assert!(world.position("shop", "cart").is_some());
    let everywhere = rule(
        "istio-system",
        "defaults",
        json!({"host": "*.local", "trafficPolicy": {}}),
    );
    fixed(World::with([everywhere]), "istio-system/defaults is for *.local");
}

#[test]
fn gateway_and_sidecars_each_get_the_rule_that_wins_for_them() {
    let service = rule("shop", "cart", json!({"host": "cart"}));
    let gateway = rule(
        "istio-ingress",
        "cart",
        json!({"host": HOST, "trafficPolicy": {}}),
    );
    let mut world = World::with([service, gateway]);
    let writes = world.step();
    let names: Vec<_> = writes
        .iter()
        .map(|write| (write.namespace.as_str(), write.creates))
        .collect();
    assert_eq!(names, [("istio-ingress", false), ("shop", false)]);
    assert_eq!(
        writes[0].body["spec"]["trafficPolicy"],
        writes[1].body["spec"]["trafficPolicy"]
    );

    // A client's own rule does not serve the others.
    let gateway = rule("istio-ingress", "cart", json!({"host": HOST}));
    let mut world = World::with([gateway]);
    let names: Vec<_> = world
        .step()
        .iter()
        .map(|write| (write.namespace.clone(), write.creates))
        .collect();
    assert_eq!(
        names,
        [("shop".to_owned(), true), ("istio-ingress".to_owned(), false)]
    );
}

#[test]
fn a_clients_wildcard_is_fixed_in_the_clients_namespace() {
    let gateway = rule(
        "istio-ingress",
        "all",
        json!({"host": "*.local", "trafficPolicy": {}}),
    );
    let world = fixed(World::with([gateway]), "callers in istio-ingress");
    assert!(world.position("istio-ingress", "cart").is_some());
}

#[test]
fn a_rule_that_callers_do_not_see_is_held() {
    let private = rule("shop", "cart", json!({"host": "cart", "exportTo": ["."]}));
    fixed(
        World::with([private]),
        "shop/cart is not exported to istio-ingress",
    );
    let mut alone = World::with([rule("shop", "cart", json!({"host": "cart", "exportTo": ["."]}))]);
    alone.callers = ["shop".to_owned()].into();
    assert_eq!(alone.step()[0].name, "cart");
}

#[test]
fn of_two_rules_for_a_host_the_older_policy_is_in_force() {
    let aged = |name: &str, time: &str, spec: Value| {
        let mut object = rule("shop", name, spec);
        object["metadata"]["creationTimestamp"] = time.into();
        object
    };
    let (old, new) = ("2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z");
    let with_policy = json!({"host": HOST, "trafficPolicy": {"loadBalancer": {"simple": "RANDOM"}}});
    let subsets = json!({"host": "cart", "subsets": [{"name": "v1", "labels": {"version": "v1"}}]});

    let mut world = World::with([
        aged("b", new, with_policy.clone()),
        aged("a", old, with_policy.clone()),
    ]);
    assert_eq!(world.step()[0].name, "a");
    // The older has only subsets: the newer's policy applies.
    let mut world = World::with([aged("a", old, subsets.clone()), aged("b", new, with_policy)]);
    assert_eq!(world.step()[0].name, "b");
    let mut world = World::with([
        aged("a", old, subsets.clone()),
        aged("b", new, json!({"host": HOST})),
    ]);
    assert_eq!(world.step()[0].name, "a");
    // A subset of either counts: istiod puts them together.
    let mut own = subsets;
    own["subsets"][0]["trafficPolicy"] = json!({"loadBalancer": {"simple": "RANDOM"}});
    let world = World::with([
        aged("a", old, own),
        aged(
            "b",
            new,
            json!({"host": HOST, "trafficPolicy": {"tls": {"mode": "DISABLE"}}}),
        ),
    ]);
    fixed(world, "shop/a has the subset v1");
}

#[test]
fn subsets_and_ports_with_a_policy_of_their_own_are_held() {
    let subset = |policy: Value| {
        rule(
            "shop",
            "cart",
            json!({"host": HOST, "subsets": [{"name": "v1", "trafficPolicy": policy}]}),
        )
    };
    for (block, value) in [
        ("loadBalancer", json!({"simple": "ROUND_ROBIN"})),
        ("outlierDetection", json!({"consecutive5xxErrors": 5})),
        ("portLevelSettings", json!([{"port": {"number": 80}}])),
    ] {
        fixed(
            World::with([subset(json!({block: value}))]),
            &format!("the subset v1 with its own {block}"),
        );
    }
    // This one inherits the weights.
    let mut inherits = World::with([subset(json!({"connectionPool": {"tcp": {"maxConnections": 5}}}))]);
    assert_eq!(inherits.step().len(), 1);

    let port = policy(json!({"portLevelSettings": [
        {"port": {"number": 8000}, "connectionPool": {"tcp": {"maxConnections": 5}}},
    ]}));
    let world = fixed(World::with([port]), "portLevelSettings for port 8000");
    let pool = &world.objects[0]["spec"]["trafficPolicy"]["connectionPool"];
    assert_eq!(pool["tcp"]["maxConnections"], 5);
    fixed(
        World::with([policy(json!({"loadBalancer": {"zoneAwareLbSetting": {}}}))]),
        "zoneAwareLbSetting",
    );
}

#[test]
fn a_rule_for_some_workloads_is_held() {
    let some = rule(
        "shop",
        "cart",
        json!({"host": HOST, "workloadSelector": {"matchLabels": {"app": "front"}}}),
    );
    fixed(World::with([some]), "has a workloadSelector");
}

#[test]
fn the_name_of_the_rule_to_be_created_may_be_taken() {
    let taken = rule("shop", "gma-cart", json!({"host": "other"}));
    let (what, _) = shape(&World::with([taken]));
    assert!(what.contains("shop/gma-cart has the name"), "{what}");
}
