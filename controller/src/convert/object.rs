//! From what was read to an `EdgePlacement`.
//!
//! The object holds what is configured; load, calls, sizes and the round trip are measured, and resources and autoscalers
//! are read in the cluster, so most of what a problem needs has no field here.

use std::collections::BTreeMap;

use gma_core::model::Pin as CorePin;
use gma_k8s::api::{
    Areas, BandwidthText, CloudArea, CloudPrices, DurationText, EdgeArea, EdgePlacement, EdgePlacementSpec,
    EdgePrices, Gateway, LabelText, LabelValue, Link, Mode, Objective, Pin, Policy, PriceText, ServiceSpec,
    Statistic, Telemetry, ZoneText,
};
use gma_k8s::settings::{Hosts, convert};

use super::build::Parts;
use super::config::Area;
use super::report::{Dropped, Mapped, Report};
use crate::problem::PlacementProblem;

/// Names of the areas' zones are not in muPlacer's configuration, which tells pods apart by their addresses.
const TO_CHECK: [&str; 3] = [
    "spec.areas: zones must be the values of the node label topology.kubernetes.io/zone; where nodes have a region label too, \
     give localities instead, then calls move in small steps",
    "spec.areas.edges[0].gateway: the namespace and labels of the pods of the edge's ingress gateway",
    "spec.policy.mode: Observe measures, Recommend says what Enforce would do",
];

/// Where each key went that is in the object. The others are dropped.
const FIELDS: [(&str, &str); 14] = [
    (
        "slo.offload-delay-threshold",
        "spec.areas.edges[0].objective.offloadAbove",
    ),
    (
        "slo.unoffload-delay-threshold",
        "spec.areas.edges[0].objective.unoffloadBelow",
    ),
    ("cloud-area.cluster", "spec.areas.cloud.name, zones"),
    ("edge-area.cluster", "spec.areas.edges[0].name, zones"),
    ("cloud-area.cost.cpu", "spec.areas.cloud.prices.cpuCoreHour"),
    ("cloud-area.cost.memory", "spec.areas.cloud.prices.memoryGBHour"),
    ("cloud-area.cost.network", "spec.areas.edges[0].prices.trafficGB"),
    ("edge-area.cost.cpu", "spec.areas.edges[0].prices.cpuCoreHour"),
    ("edge-area.cost.memory", "spec.areas.edges[0].prices.memoryGBHour"),
    (
        "edge-area.istio.istio-ingress-source-app",
        "spec.areas.edges[0].gateway.matchLabels",
    ),
    (
        "edge-area.istio.istio-ingress-namespace",
        "spec.areas.edges[0].gateway.namespace",
    ),
    ("network.cloud-edge-bps", "spec.areas.edges[0].link.bandwidth"),
    ("optimizer.locked", "spec.services[].pin"),
    ("optimizer.sbmp.locked", "spec.services[].pin"),
];

/// Builds the object. Whether it is accepted, [`check`] says.
pub(super) fn object(parts: &Parts<'_>, problem: &PlacementProblem) -> EdgePlacement {
    let config = parts.config;
    let spec = EdgePlacementSpec {
        suspend: false,
        areas: Areas {
            cloud: CloudArea {
                name: label(&config.cloud.name, "cloud"),
                localities: None,
                zones: Some(zones(&config.cloud)),
                prices: Some(CloudPrices {
                    cpu_core_hour: price(config.cloud.cpu_core_hour),
                    memory_gb_hour: price(config.cloud.memory_gb_hour),
                }),
            },
            edges: vec![edge(parts)],
        },
        services: pinned(problem),
        policy: Policy {
            mode: Mode::Observe,
            ..Policy::default()
        },
        telemetry: Telemetry::default(),
        currency: None,
    };
    let name = parts.name.as_deref().unwrap_or("application");
    let mut object = EdgePlacement::new(label(name, "application").as_str(), spec);
    object.metadata.namespace = config.namespace.as_deref().map(|name| label(name, "default").0);
    object
}

/// What the schema and the controller would refuse.
pub(super) fn check(object: &EdgePlacement) -> Result<(), String> {
    let hosts = Hosts {
        namespace: object.metadata.namespace.clone().unwrap_or_default(),
        domain: "cluster.local".to_owned(),
    };
    convert(&object.spec, &hosts)
        .map(|_| ())
        .map_err(|faults| faults.to_string())
}

/// The report on the object instead of on the problem.
pub(super) fn report(report: &Report) -> Report {
    const NOT_NEEDED: &str = "the controller measures it, or reads it in the cluster";
    let field = |key: &str| {
        FIELDS
            .iter()
            .find(|(known, _)| *known == key)
            .map(|(_, field)| *field)
    };
    let mut mapped = Vec::new();
    let mut dropped = Vec::new();
    for entry in &report.mapped {
        match field(&entry.key) {
            Some(field) => mapped.push(Mapped {
                key: entry.key.clone(),
                from: entry.from.clone(),
                field,
                to: "the same".to_owned(),
            }),
            None if entry.field == "metadata.name" => mapped.push(entry.clone()),
            None => dropped.push(Dropped {
                key: entry.key.clone(),
                value: entry.from.clone(),
                reason: NOT_NEEDED.to_owned(),
            }),
        }
    }
    for entry in &report.dropped {
        match field(&entry.key).or((entry.key == "app.namespace").then_some("metadata.namespace")) {
            Some(field) => mapped.push(Mapped {
                key: entry.key.clone(),
                from: entry.value.clone(),
                field,
                to: "the same".to_owned(),
            }),
            None => dropped.push(entry.clone()),
        }
    }
    Report {
        missing: Vec::new(),
        explained: Vec::new(),
        instances: Vec::new(),
        mapped,
        dropped,
        ..report.clone()
    }
}

/// What a person must look at, as YAML comments.
pub(super) fn to_check() -> String {
    TO_CHECK
        .iter()
        .map(|line| format!("# TO CHECK {line}\n"))
        .collect()
}

fn edge(parts: &Parts<'_>) -> EdgeArea {
    let config = parts.config;
    let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty() && text != "none");
    let namespace = given(&config.edge.ingress_namespace).unwrap_or_else(|| "istio-ingress".to_owned());
    let app = given(&config.edge.ingress_app).unwrap_or_else(|| "istio-ingressgateway".to_owned());
    EdgeArea {
        name: label(&config.edge.name, "edge"),
        localities: None,
        zones: Some(zones(&config.edge)),
        gateway: Gateway {
            namespace: label(&namespace, "istio-ingress"),
            match_labels: BTreeMap::from([("app".to_owned(), LabelValue(app))]),
        },
        objective: Objective {
            statistic: Statistic::Mean,
            offload_above: duration(config.band.offload_above.micros),
            unoffload_below: duration(config.band.unoffload_below.micros),
        },
        capacity: None,
        prices: Some(EdgePrices {
            cpu_core_hour: price(config.edge.cpu_core_hour),
            memory_gb_hour: price(config.edge.memory_gb_hour),
            traffic_gb: Some(price(config.traffic_gb)),
        }),
        link: (parts.link.bits >= 1.0).then(|| Link {
            bandwidth: Some(bandwidth(parts.link.bits)),
            ..Link::default()
        }),
        kubeconfig_secret_ref: None,
    }
}

/// Services that must not leave the cloud; all others are discovered.
fn pinned(problem: &PlacementProblem) -> Vec<ServiceSpec> {
    let in_cloud = problem
        .services
        .iter()
        .filter(|service| CorePin::from(service.pin) == CorePin::Cloud);
    in_cloud
        .map(|service| ServiceSpec {
            name: LabelText(service.name.clone()),
            pin: Some(Pin::Cloud),
            min_replicas: None,
            cloud: None,
            edge: None,
        })
        .collect()
}

fn zones(area: &Area) -> Vec<ZoneText> {
    vec![ZoneText(label(&area.name, "zone").0)]
}

/// A text as a DNS label.
fn label(text: &str, default: &str) -> LabelText {
    let allowed = |c: char| {
        if c.is_ascii_alphanumeric() {
            c.to_ascii_lowercase()
        } else {
            '-'
        }
    };
    let all: String = text.chars().map(allowed).take(63).collect();
    let trimmed = all.trim_matches('-');
    LabelText(if trimmed.is_empty() { default } else { trimmed }.to_owned())
}

/// In whole microseconds, in the largest unit that stays exact.
fn duration(micros: f64) -> DurationText {
    let micros = micros.round().max(0.0);
    let units = [(1e6, "s"), (1e3, "ms")];
    let unit = units.into_iter().find(|(size, _)| micros % size == 0.0);
    let (size, name) = unit.unwrap_or((1.0, "us"));
    DurationText(format!("{}{name}", micros / size))
}

fn bandwidth(bits: f64) -> BandwidthText {
    let units = [(1e9, "Gbit/s"), (1e6, "Mbit/s"), (1e3, "kbit/s")];
    let unit = units.into_iter().find(|(size, _)| bits % size == 0.0);
    let (size, name) = unit.unwrap_or((1.0, "bit/s"));
    BandwidthText(format!("{}{name}", (bits / size).round()))
}

/// A decimal number without exponent.
fn price(price: f64) -> PriceText {
    let text = format!("{price:.9}");
    PriceText(text.trim_end_matches('0').trim_end_matches('.').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_the_schema_wants_them() {
        let durations = [
            (62_500.0, "62500us"),
            (250_000.0, "250ms"),
            (2e6, "2s"),
            (0.4, "0s"),
        ];
        for (micros, text) in durations {
            assert_eq!(duration(micros).as_str(), text);
        }
        for (bits, text) in [
            (2e8, "200Mbit/s"),
            (1.5e9, "1500Mbit/s"),
            (1e9, "1Gbit/s"),
            (12_345.6, "12346bit/s"),
        ] {
            assert_eq!(bandwidth(bits).as_str(), text);
        }
        for (amount, text) in [(0.0208, "0.0208"), (0.0, "0"), (3.0, "3"), (1e-7, "0.0000001")] {
            assert_eq!(price(amount).as_str(), text);
        }
    }

    #[test]
    fn names_become_labels() {
        for (name, expected) in [
            ("edge-1", "edge-1"),
            ("Edge_1.A", "edge-1-a"),
            ("--", "x"),
            ("ä", "x"),
        ] {
            assert_eq!(label(name, "x").as_str(), expected);
        }
    }
}
