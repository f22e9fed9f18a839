//! `gma convert -o edgeplacement`.

use gma_core::decide::Mode;
use gma_core::model::Pin;
use gma_k8s::api::EdgePlacement;
use gma_k8s::settings::{Hosts, convert};

use crate::{Copy, MUBENCH, SMALL, gma, run};

#[test]
fn the_object_is_accepted_and_holds_what_is_configured() {
    let (text, report) = run(SMALL, &["-o", "edgeplacement"]);
    let object: EdgePlacement = serde_norway::from_str(&text).unwrap();
    assert_eq!(object.metadata.name.as_deref(), Some("shop"));
    assert_eq!(object.metadata.namespace.as_deref(), Some("shop"));
    let hosts = Hosts {
        namespace: "shop".to_owned(),
        domain: "cluster.local".to_owned(),
    };
    let wanted = convert(&object.spec, &hosts).unwrap();
    assert_eq!(wanted.config.mode, Mode::Observe);
    let band = wanted.config.edges[&"edge-1".into()].band;
    assert_eq!(
        [band.unoffload_below_us(), band.offload_above_us()],
        [62_500.0, 120_000.0]
    );
    let edge = &wanted.settings.edges[0];
    assert_eq!(edge.bandwidth.unwrap().as_f64(), 2e8);
    assert_eq!(
        [edge.area.prices.cpu_core_hour.as_f64(), edge.traffic_gb.as_f64()],
        [0.05, 0.09]
    );
    let locked = &wanted.services[&"orders.shop.svc.cluster.local".into()];
    assert_eq!((locked.pin, wanted.services.len()), (Some(Pin::Cloud), 1));
    assert_eq!(
        wanted.edges[&"edge-1".into()].gateway_namespace,
        "istio-ingress-edge1"
    );
    // What no configuration has is marked, and the report is about this object.
    assert_eq!(text.matches("# TO CHECK ").count(), 3, "{text}");
    assert!(
        report.contains("-> spec.areas.edges[0].objective.offloadAbove"),
        "{report}"
    );
    assert!(!report.contains("targetDelay"), "{report}");
}

#[test]
fn the_other_example_is_accepted_too() {
    let (text, _) = run(MUBENCH, &["-o", "edgeplacement"]);
    assert!(text.contains("kind: EdgePlacement"), "{text}");
}

#[test]
fn an_object_that_would_be_refused_is_named_with_its_field() {
    let copy = Copy::of(SMALL);
    copy.replace(
        "GMAConfig.yaml",
        "offload-delay-threshold: 120ms",
        "offload-delay-threshold: 120s",
    );
    let config = copy.path("GMAConfig.yaml");
    let output = gma(&["convert", config.to_str().unwrap(), "-o", "edgeplacement"]);
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success());
    assert!(
        error.contains("spec.areas.edges[edge-1].objective.offloadAbove is above 60s"),
        "{error}"
    );
}
