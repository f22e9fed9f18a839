use std::fs;
use std::path::Path;

use super::*;
use crate::api::EdgePlacement;

fn hosts() -> Hosts {
    Hosts {
        namespace: "shop".to_owned(),
        domain: "cluster.local".to_owned(),
    }
}

fn file(name: &str) -> EdgePlacement {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("testdata/edgeplacement")
        .join(name);
    serde_norway::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

fn faults(name: &str) -> String {
    convert(&file(name).spec, &hosts()).unwrap_err().to_string()
}

#[test]
fn everything_is_converted() {
    let wanted = convert(&file("accepted/everything.yaml").spec, &hosts()).unwrap();
    let config = &wanted.config;
    assert_eq!((config.mode, config.suspend), (Mode::Recommend, false));
    let objective = config.edges[&"edge-1".into()];
    assert_eq!(objective.statistic, Statistic::P90);
    assert_eq!(objective.standby, Some(Standby::Distribute(2)));
    assert_eq!(objective.band.offload_above_us(), 250_000.0);
    assert_eq!(objective.band.unoffload_below_us(), 150_000.0);
    let secs = Duration::from_secs;
    assert_eq!([config.ready_within, config.cool_down], [secs(180), secs(30)]);
    assert_eq!([config.verify_least, config.verify_most], [secs(20), secs(90)]);
    assert_eq!(
        [config.back_off_first, config.back_off_most],
        [secs(60), secs(3600)]
    );
    assert_eq!((config.moves_per_hour, config.most_change), (30, 0.4));
    assert_eq!([config.gateway_coverage, config.service_coverage], [1.0, 0.8]);

    let settings = &wanted.settings;
    assert_eq!(settings.cloud.prices.cpu_core_hour.as_f64(), 0.0208);
    let edge = &settings.edges[0];
    assert_eq!(
        (edge.area.prices.memory_gb_hour.as_f64(), edge.traffic_gb.as_f64()),
        (0.014, 0.02)
    );
    assert_eq!(edge.area.localities, 2);
    assert_eq!(edge.bandwidth.unwrap().as_f64(), 1.5e9);
    assert_eq!(edge.capacity.cpu.unwrap().as_f64(), 7.5);
    assert_eq!(edge.capacity.memory.unwrap().as_f64(), 17.179_869_184);
    assert_eq!(edge.capacity.pods, Some(50));
    let cart = &settings.services[&"cart.shop.svc.cluster.local".into()];
    let frontend = &settings.services[&"frontend.shop.svc.cluster.local".into()];
    assert_eq!((cart.pin, cart.min_replicas), (Pin::Cloud, 1));
    assert_eq!((frontend.pin, frontend.min_replicas), (Pin::Edge, 2));

    let edge = &wanted.edges[&"edge-1".into()];
    assert_eq!(edge.gateway_namespace, "istio-ingress-edge-1");
    assert_eq!(edge.gateway_labels.len(), 2);
    assert_eq!(edge.rtt, Some(Duration::from_millis(20)));
    assert_eq!(edge.prober.as_ref().unwrap().1, secs(90));
    let frontend = &wanted.services[&"frontend.shop.svc.cluster.local".into()];
    assert_eq!(frontend.cloud_deployment.as_deref(), Some("frontend-cloud"));
    assert_eq!(frontend.edge_deployments[&"edge-1".into()], "frontend-edge-1");
}

#[test]
fn what_is_absent_is_as_the_core_ships_it() {
    let wanted = convert(&file("accepted/minimal.yaml").spec, &hosts()).unwrap();
    let mut shipped = Config::new("cloud".into(), ["edge-1".into()]);
    let band = Band::try_new(Duration::from_millis(150), Duration::from_millis(250)).unwrap();
    shipped.edges.get_mut(&"edge-1".into()).unwrap().band = band;
    assert_eq!(wanted.config, shipped);
    assert_eq!(wanted.settings, Settings::new("cloud".into(), ["edge-1".into()]));
}

#[test]
fn a_share_without_a_form_is_of_the_edges_that_distribute() {
    let mut object = file("accepted/minimal.yaml");
    object.spec.policy.cloud_standby_percent = Some(5);
    let standby = |object: &EdgePlacement| {
        convert(&object.spec, &hosts())
            .unwrap()
            .config
            .standby(&"edge-1".into())
    };
    assert_eq!(standby(&object), Standby::Distribute(5));
    object.spec.areas.edges[0].objective.statistic = api::Statistic::P99;
    assert_eq!(standby(&object), Standby::Failover);
}

#[test]
fn the_areas_know_their_localities() {
    let wanted = convert(&file("accepted/zones-without-regions.yaml").spec, &hosts()).unwrap();
    let edge = crate::locality::Locality::parse("/edge1");
    assert_eq!(wanted.areas.area_of(&edge), Some(&"edge-1".into()));
    assert!(matches!(wanted.areas, AreaMap::Zones(_)));
}

#[test]
fn zones_without_regions_are_steered_by_readiness_whatever_the_standby() {
    let mut object = file("accepted/zones-without-regions.yaml");
    for percent in [None, Some(5)] {
        object.spec.policy.cloud_standby_percent = percent;
        let config = convert(&object.spec, &hosts()).unwrap().config;
        assert_eq!(config.steering, Steering::Readiness);
        assert_eq!(config.standby(&"edge-1".into()), Standby::Failover);
        assert_eq!(config.edges[&"edge-1".into()].standby(), Standby::Failover);
    }
    let with_regions = convert(&file("accepted/minimal.yaml").spec, &hosts()).unwrap();
    assert_eq!(with_regions.config.steering, Steering::Weights);
}

/// What the schema accepts the conversion accepts, and the other way round.
#[test]
fn schema_and_conversion_agree() {
    let folder = |name: &str| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("testdata/edgeplacement")
            .join(name);
        let mut names: Vec<String> = fs::read_dir(path)
            .unwrap()
            .map(|entry| format!("{name}/{}", entry.unwrap().file_name().to_string_lossy()))
            .collect();
        names.sort();
        names
    };
    for name in folder("accepted") {
        assert_eq!(convert(&file(&name).spec, &hosts()).map(|_| ()), Ok(()), "{name}");
    }
    // These the server alone can see: names of objects and fields that no reader here needs.
    let only_schema = [
        "refused/currency-in-words.yaml",
        "refused/deployment-name-with-capitals.yaml",
        "refused/edge-name-with-capitals.yaml",
        "refused/name-too-long.yaml",
        "refused/prober-no-url.yaml",
        "refused/service-by-host.yaml",
        "refused/zone-with-slash.yaml",
    ];
    for name in folder("refused") {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("testdata/edgeplacement")
            .join(&name);
        let text = fs::read_to_string(path).unwrap();
        // What does not have the type's form never comes here.
        let json: serde_json::Value = serde_norway::from_str(&text).unwrap();
        let Ok(object) = serde_json::from_value::<EdgePlacement>(json) else {
            continue;
        };
        if !only_schema.contains(&name.as_str()) {
            assert!(convert(&object.spec, &hosts()).is_err(), "{name} is converted");
        }
    }
}

#[test]
fn faults_name_their_field_and_what_to_do() {
    for (name, expected) in [
        (
            "refused/band-upside-down.yaml",
            "spec.areas.edges[edge-1].objective the band is empty: set unoffloadBelow above 0 and below offloadAbove",
        ),
        (
            "refused/duration-without-unit.yaml",
            "spec.areas.edges[edge-1].objective.offloadAbove is \"250\": give a duration above 0 with its unit",
        ),
        (
            "refused/locality-with-empty-part.yaml",
            "spec.areas.edges[edge-1].localities has \"/edge-1\" is no locality",
        ),
        (
            "refused/edges-overlap.yaml",
            "spec.areas overlap: edge-1 of edge-1 and edge-1/x of edge-2; make the areas disjoint",
        ),
        (
            "refused/deployment-at-no-edge.yaml",
            "spec.services[cart].edge.deployments[edge-9].edge is no name of areas.edges",
        ),
        (
            "refused/quantity-wrong.yaml",
            "spec.areas.edges[edge-1].capacity.memory is 16GiB: give a quantity",
        ),
        (
            "refused/price-negative.yaml",
            "spec.areas.edges[edge-1].prices.cpuCoreHour is",
        ),
        (
            "refused/standby-percent-50.yaml",
            "spec.policy.cloudStandbyPercent is 50: give a whole number from 1 to 49",
        ),
    ] {
        let faults = faults(name);
        assert!(faults.contains(expected), "{name}: {faults}");
    }
}

#[test]
fn all_faults_are_found_at_once() {
    let mut object = file("accepted/everything.yaml");
    object.spec.areas.edges[0].objective.offload_above = "soon".into();
    object.spec.policy.ramp.as_mut().unwrap().cool_down = Some("-1s".into());
    object.spec.areas.cloud.localities = Some(vec!["a//b".into()]);
    let Faults(faults) = convert(&object.spec, &hosts()).unwrap_err();
    assert_eq!(faults.len(), 3, "{faults:?}");
}

#[test]
fn failover_needs_regions_of_their_own() {
    let mut object = file("accepted/three-cloud-zones-and-two-edges.yaml");
    object.spec.areas.edges[1].localities = Some(vec!["eu/edge".into()]);
    assert!(convert(&object.spec, &hosts()).is_ok());
    object.spec.policy.standby = Some(api::StandbyForm::Failover);
    let text = convert(&object.spec, &hosts()).unwrap_err().to_string();
    assert!(text.contains("share the region eu with"), "{text}");
}
