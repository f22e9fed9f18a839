//! Localities: what is proven, what lies outside, and the forms of a rule.

use gma_core::cluster::Unroutable;
use gma_core::routing::Steering;
use serde_json::json;

use super::cases::{distribute, shape};
use super::world::{World, localities, refuses, routes, zones};
use crate::locality::Locality;

#[test]
fn a_cloud_that_was_not_reported_is_held() {
    // A region label that was lost and put back: nobody reports it.
    let world = World {
        reported: [Locality::parse("lab/x")].into(),
        ..World::default()
    };
    let held = world.write().unwrap_err();
    assert_eq!(
        held.why,
        Unroutable::LocalityUnproven {
            locality: "eu".to_owned()
        }
    );
    assert!(held.fix.contains("labels"), "{}", held.fix);
}

#[test]
fn an_endpoint_outside_the_areas_is_held() {
    for outside in ["us/a", "/edge1", ""] {
        let mut world = World::default();
        world.reported.insert(Locality::parse(outside));
        let why = world.write().unwrap_err().why;
        assert_eq!(
            why,
            Unroutable::EndpointOutsideAreas {
                locality: outside.to_owned()
            }
        );
    }
}

#[test]
fn only_proven_localities_of_the_cloud_are_named_and_callers_are_in_all_of_them() {
    let mut world = World {
        areas: localities(&[("cloud", &["eu/a", "eu/b", "eu/c"]), ("edge-1", &["lab"])]),
        reported: ["eu/a", "eu/b/rack"].map(Locality::parse).into(),
        ..World::default()
    };
    let body = world.step().remove(0).body;
    let entries = distribute(&body).as_array().unwrap();
    let of = |from: &str| entries.iter().find(|entry| entry["from"] == from).unwrap()["to"].clone();
    for from in ["eu/a", "eu/b", "eu/c", "*"] {
        assert_eq!(of(from), json!({"eu/a": 50, "eu/b": 50}), "{from}");
    }
    // One percent for two zones: the region, which istiod splits.
    assert_eq!(of("lab"), json!({"eu/*": 1, "lab": 99}));
}

#[test]
fn the_failover_form_replaces_the_weights_in_one_write() {
    let mut world = World::default();
    world.step();
    world.routes = routes(100);
    let body = world.step().remove(0).body;
    assert_eq!(
        body["spec"]["trafficPolicy"]["loadBalancer"]["localityLbSetting"],
        json!({"enabled": true, "failover": [{"from": "lab", "to": "eu"}]})
    );
    let setting = &world.objects[0]["spec"]["trafficPolicy"]["loadBalancer"]["localityLbSetting"];
    assert!(setting.get("distribute").is_none(), "{setting}");
    world.routes = routes(99);
    world.step();
    assert_eq!(refuses(&world.objects[0]["spec"]), None);
}

#[test]
fn failover_needs_callers_with_a_locality_and_regions_of_their_own() {
    let world = World {
        routes: routes(100),
        unlocated: Some("istio-ingress/gateway-1"),
        ..World::default()
    };
    let held = world.write().unwrap_err();
    assert!(
        matches!(&held.why, Unroutable::LocalityUnproven { locality } if locality.contains("gateway-1")),
        "{held:?}"
    );
    let weights = World {
        unlocated: Some("istio-ingress/gateway-1"),
        ..World::default()
    };
    assert!(weights.write().is_ok());
    let one_region = World {
        areas: localities(&[("cloud", &["eu/a"]), ("edge-1", &["eu/edge"])]),
        reported: [Locality::parse("eu/a")].into(),
        routes: routes(100),
        ..World::default()
    };
    let (what, fix) = shape(&one_region);
    assert!(
        what.contains("failover needs one region an area") && fix.contains("distribute"),
        "{what} {fix}"
    );
}

#[test]
fn zones_without_regions_move_by_readiness() {
    let world = |areas: &[(&str, &[&str])]| World {
        areas: zones(areas),
        reported: [Locality::parse("/cloud")].into(),
        ..World::default()
    };
    let mut one = world(&[("cloud", &["cloud"]), ("edge-1", &["edge1"])]);
    assert_eq!(one.write().unwrap().steering, Steering::Readiness);
    let first = one.step().remove(0).body;
    let policy = &first["spec"]["trafficPolicy"];
    assert_eq!(
        policy["loadBalancer"],
        json!({"localityLbSetting": {"enabled": true, "failoverPriority": ["topology.kubernetes.io/zone"]}})
    );
    assert_eq!(policy["outlierDetection"]["minHealthPercent"], 1);
    // Other routes are the same rule.
    one.routes = routes(0);
    assert_eq!(one.step().remove(0).body, first);

    let (two_edges, _) = shape(&world(&[
        ("cloud", &["cloud"]),
        ("edge-1", &["e1"]),
        ("edge-2", &["e2"]),
    ]));
    assert!(two_edges.contains("there are 2"), "{two_edges}");
    let (two_zones, _) = shape(&world(&[("cloud", &["cloud", "cloud-2"]), ("edge-1", &["e1"])]));
    assert!(two_zones.contains("2 zones"), "{two_zones}");

    // A caller that is nowhere would use the edge like the cloud.
    one.unlocated = Some("istio-ingress/gw");
    let held = one.write().unwrap_err();
    assert!(
        matches!(held.why, Unroutable::LocalityUnproven { .. }) && held.fix.contains("istio-ingress/gw"),
        "{held:?}"
    );
}

#[test]
fn a_plan_outside_the_matrix_is_never_written() {
    let world = World {
        routes: [("cloud".into(), [("edge-1".into(), 100)].into())].into(),
        ..World::default()
    };
    shape(&world);
}
