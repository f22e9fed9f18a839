use std::collections::BTreeMap;

use gma_core::cluster::RoutingPlan;
use gma_core::sightings::Sightings;

use super::*;
use crate::api::EdgePlacementSpec;
use crate::index::{Deployment, Index, Service};
use crate::rule::Mesh;
use crate::settings::{Hosts, convert};

fn labels(app: &str) -> BTreeMap<String, String> {
    [("app".to_owned(), app.to_owned())].into()
}

fn key(name: &str) -> (String, String) {
    ("shop".to_owned(), name.to_owned())
}

/// `web` with a Deployment in the cloud.
fn mk_index() -> Index {
    let mut index = Index::default();
    let service = Service {
        selector: labels("web"),
        ports: Vec::new(),
    };
    index.services.apply(key("web"), service);
    let deployment = Deployment {
        replicas: 2,
        cpu_cores: Some(0.25),
        pod_labels: labels("web"),
        ..Deployment::default()
    };
    index.deployments.apply(key("web"), deployment);
    index
}

/// Settings of `web`, and why it stays in the cloud.
fn completed(index: &Index, services: &serde_json::Value) -> (ServiceSettings, Option<String>) {
    let spec: EdgePlacementSpec = serde_json::from_value(serde_json::json!({
        "areas": {
            "cloud": {"localities": ["eu"]},
            "edges": [{"name": "edge-1", "localities": ["lab"],
                "gateway": {"namespace": "ingress", "matchLabels": {"istio": "gw"}},
                "objective": {"offloadAbove": "80ms", "unoffloadBelow": "10ms"}}],
        },
        "services": services,
    }))
    .unwrap();
    let hosts = Hosts {
        namespace: "shop".to_owned(),
        domain: "cluster.local".to_owned(),
    };
    let wanted = convert(&spec, &hosts).unwrap();
    let seen = Seen {
        index,
        mesh: &Mesh {
            root_namespace: "istio-system".to_owned(),
            rules: Vec::new(),
        },
        wanted: &wanted,
        hosts: &hosts,
        object: "shop/shop",
        sightings: &Sightings::new(),
        ordered: &RoutingPlan::default(),
    };
    let host = hosts.of("web");
    let service = index.services.get("shop", "web").unwrap();
    let own = wanted.settings.services.get(&host).copied();
    complete(&seen, &host, service, &seen.pods(), own.unwrap_or_default())
}

fn none() -> serde_json::Value {
    serde_json::json!([])
}

#[test]
fn what_can_be_derived_is_free_and_counts_with_its_requests() {
    let (settings, why) = completed(&mk_index(), &none());
    assert_eq!((settings.pin, why), (Pin::Free, None));
    assert_eq!(settings.cpu_request, CpuCores::nearest(0.25));
}

#[test]
fn what_can_t_be_derived_stays_in_the_cloud_with_the_reason() {
    type Change = fn(&mut Index);
    let changes: [(Change, &str); 7] = [
        (|index| index.deployments.delete(&key("web")), "no Deployment"),
        (
            |index| {
                let deployment = Deployment {
                    obstacle: Some("pods of web hold the volume claims data".to_owned()),
                    pod_labels: labels("web"),
                    ..Deployment::default()
                };
                index.deployments.apply(key("web"), deployment);
            },
            "volume claims data",
        ),
        (
            |index| {
                let pod = Pod {
                    labels: labels("web"),
                    owner: Some(Owner::Other("StatefulSet".to_owned())),
                    ..Pod::default()
                };
                index.pods.apply(key("web-0"), pod);
            },
            "StatefulSet",
        ),
        (
            |index| {
                let pod = Pod {
                    labels: labels("web"),
                    has_volume_claim: true,
                    ..Pod::default()
                };
                index.pods.apply(key("web-0"), pod);
            },
            "volume claim",
        ),
        (
            |index| {
                let service = index.services.get("shop", "web").unwrap().clone();
                index.services.apply(key("web-too"), service);
            },
            "the Service web-too",
        ),
        (
            |index| index.deployments.apply(key("web-edge-1"), Deployment::default()),
            "web-edge-1 that gma did not make",
        ),
        (
            |index| {
                let deployment = index.deployments.get("shop", "web").unwrap().clone();
                index.deployments.apply(key("web-b"), deployment);
            },
            "several Deployments",
        ),
    ];
    for (change, part) in changes {
        let mut index = mk_index();
        change(&mut index);
        let (settings, why) = completed(&index, &none());
        assert_eq!(settings.pin, Pin::Cloud, "{part}");
        assert!(
            why.as_ref().is_some_and(|why| why.contains(part)),
            "{part}: {why:?}"
        );
    }
}

#[test]
fn what_the_spec_says_counts() {
    let mut index = mk_index();
    index.deployments.delete(&key("web"));
    let pinned = serde_json::json!([{"name": "web", "pin": "edge"}]);
    assert_eq!(completed(&index, &pinned).0.pin, Pin::Edge);
    let named =
        serde_json::json!([{"name": "web", "edge": {"deployments": [{"edge": "edge-1", "name": "own"}]}}]);
    let (settings, why) = completed(&index, &named);
    assert_eq!((settings.pin, why), (Pin::Free, None));
}
