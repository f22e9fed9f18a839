//! What the examples hold arrives, and the report says what became of each key.

use std::collections::BTreeSet;
use std::fs;

use gma::problem::{Loaded, PinTo};
use serde_norway::Value;

use crate::{Copy, MUBENCH, SMALL, copy, examples, gma, run, service, with_metrics};

#[test]
fn values_of_the_small_example_arrive() {
    let problem = with_metrics(SMALL);
    assert_eq!(problem.metadata.name.as_deref(), Some("shop"));
    assert_eq!(problem.cloud.name, "cloud");
    assert_eq!(problem.cloud.prices.cpu_core_hour.to_string(), "0.03");
    assert_eq!(problem.cloud.prices.memory_gb_hour.to_string(), "0.004");
    let edge = &problem.edges[0];
    assert_eq!(edge.name, "edge-1");
    assert_eq!(edge.prices.cpu_core_hour.to_string(), "0.05");
    assert_eq!(edge.prices.memory_gb_hour.to_string(), "0.008");
    assert_eq!(
        edge.prices.traffic_gb.to_string(),
        "0.09",
        "not the memory's price"
    );
    assert_eq!(
        edge.rtt.to_string(),
        "40ms",
        "once, and in the unit of the key's name"
    );
    assert_eq!(edge.bandwidth.unwrap().to_string(), "200Mbit/s");
    assert_eq!(edge.target_delay.unwrap().to_string(), "91.25ms");
    assert_eq!(edge.measured_delay.unwrap().to_string(), "128ms");
    assert_eq!(edge.user_requests_per_second.as_f64(), 50.0);
    assert_eq!(
        (
            edge.user_calls[0].to.as_str(),
            edge.user_calls[0].per_request.as_f64()
        ),
        ("web", 1.0)
    );

    let calls: Vec<(&str, &str, f64)> = problem
        .calls
        .iter()
        .map(|call| (call.from.as_str(), call.to.as_str(), call.per_request.as_f64()))
        .collect();
    assert_eq!(calls, [("web", "catalog", 1.5), ("web", "orders", 0.1)]);

    let web = service(&problem, "web");
    assert_eq!(web.requests.cpu.unwrap().to_string(), "250m", "both containers");
    assert_eq!(web.requests.memory.unwrap().to_string(), "192Mi");
    assert_eq!(web.autoscaler_threshold.as_f64(), 0.7);
    assert_eq!((web.min_replicas, web.areas["edge-1"].min_replicas), (2, Some(1)));
    assert_eq!(
        web.cpu_per_request.unwrap().to_string(),
        "12ms",
        "0.6 cores / 50 requests a second"
    );
    assert_eq!(web.own_time.to_string(), "6ms");
    assert_eq!(web.pin, PinTo::Free);

    let catalog = service(&problem, "catalog");
    assert_eq!(catalog.requests.cpu.unwrap().to_string(), "500m", "the limit");
    assert_eq!(catalog.autoscaler_threshold.as_f64(), 0.6);
    assert_eq!(
        catalog.areas["edge-1"].autoscaler_threshold.unwrap().as_f64(),
        0.5,
        "autoscaling/v1"
    );

    let orders = service(&problem, "orders");
    assert_eq!(orders.pin, PinTo::Cloud, "locked by its id");
    assert_eq!(orders.requests.cpu, None);
    assert_eq!(
        orders.min_replicas, 2,
        "spec.replicas of a workload without an autoscaler"
    );
}

#[test]
fn values_of_the_mubench_example_arrive_and_its_netinfo_file_wins() {
    let problem = with_metrics(MUBENCH);
    let edge = &problem.edges[0];
    assert_eq!(
        (problem.cloud.name.as_str(), edge.name.as_str()),
        ("cloud", "edge")
    );
    assert_eq!(edge.rtt.to_string(), "60ms");
    assert_eq!(edge.bandwidth.unwrap().to_string(), "800Mbit/s");
    assert_eq!(edge.target_delay.unwrap().to_string(), "200ms");
    assert_eq!(problem.services.len(), 10);
    assert_eq!(problem.calls.len(), 9);
    assert!(problem.calls.iter().all(|call| call.per_request.as_f64() == 0.3));
    for service in &problem.services {
        assert_eq!(service.requests.memory.unwrap().to_string(), "256Mi");
        assert!(service.areas.is_empty(), "{}: both areas are alike", service.name);
    }
}

#[test]
fn each_key_of_the_examples_is_mapped_or_dropped() {
    for example in [SMALL, MUBENCH] {
        let text = fs::read_to_string(examples().join(example).join("GMAConfig.yaml")).unwrap();
        let mut keys = BTreeSet::new();
        leaves(&serde_norway::from_str(&text).unwrap(), "", &mut keys);
        assert!(keys.len() > 40, "{keys:?}");
        let report = Copy::of(example);
        if example == MUBENCH {
            fs::create_dir(report.path(MUBENCH)).unwrap();
            copy(&examples().join(example), &report.path(MUBENCH));
        }
        let report = report.convert().report;
        let mapped = report.mapped.iter().map(|mapped| &mapped.key);
        let said: Vec<&String> = mapped
            .chain(report.dropped.iter().map(|dropped| &dropped.key))
            .collect();
        for key in &keys {
            let count = said.iter().filter(|said| said.as_str() == key).count();
            assert_eq!(count, 1, "{example}: {key} is reported {count} times");
        }
        assert_eq!(said.len(), keys.len(), "{example}: {said:?}");
        assert!(report.dropped.iter().all(|dropped| !dropped.reason.is_empty()));
        assert!(report.unknown.is_empty());
    }
}

/// Paths of all values below `spec`, as the report names them.
fn leaves(value: &Value, path: &str, keys: &mut BTreeSet<String>) {
    match value {
        Value::Mapping(mapping) => {
            for (key, value) in mapping {
                let key = key.as_str().unwrap();
                let path = match path {
                    "" | "spec" => key.to_owned(),
                    path => format!("{path}.{key}"),
                };
                leaves(value, &path, keys);
            }
        }
        Value::Sequence(items) if path == "app.services" => {
            items.iter().for_each(|item| leaves(item, "app.services[]", keys));
        }
        _ => {
            keys.insert(path.to_owned());
        }
    }
}

#[test]
fn the_traps_are_explained_with_the_numbers_of_the_file() {
    let (yaml, report) = run(SMALL, &[]);
    let (_, mubench) = run(MUBENCH, &[]);
    let flat = |text: &str| text.replace("\n#     ", " ").replace("\n    ", " ");
    let expected = [
        (
            "RTT multiplied twice",
            "40 s x 3 x 1 = 120 s. Here the measured round trip of 40 ms counts once",
        ),
        (
            "memory price used for the network",
            "Here the network's own price, 0.09 a GB, is used",
        ),
        ("`locked` is not read as written", "orders gets `pin: cloud`"),
        (
            "times without a unit are seconds",
            "network.edge-cloud-rtt-ms = 40 is 40 s to muPlacer",
        ),
        (
            "times without a unit are seconds",
            "slo.unoffload-delay-threshold = 62.5ms has a fraction",
        ),
        ("missing CPU requests", "orders: no container requests CPU"),
        (
            "thresholds never reach the strategy",
            "web, catalog (edge): the autoscaler's threshold is not 60 %",
        ),
        ("quantile thresholds", "300ms bounds the 0.95 quantile"),
        ("explicit ids", "the users the index 2, which is that of `orders`"),
    ];
    for (title, text) in expected {
        for place in [flat(&report), flat(&yaml)] {
            assert!(place.contains(&format!("{title}: ")), "{title} in {place}");
            assert!(place.contains(text), "{text} in {place}");
        }
    }
    let mubench = flat(&mubench);
    for text in [
        "60 ms x 2 x 2 = 240 ms",
        "1000s for the 0.9 quantile is meant to switch it off",
        "These ids are safe",
    ] {
        assert!(mubench.contains(text), "{text} in {mubench}");
    }
    assert!(!mubench.contains("missing CPU requests"), "{mubench}");
}

#[test]
fn without_metrics_placeholders_are_named_with_their_queries_and_accepted() {
    for example in [SMALL, MUBENCH] {
        let (yaml, report) = run(example, &[]);
        let loaded = Loaded::parse(example, &yaml).unwrap();
        assert_eq!(loaded.file.edges[0].user_requests_per_second.as_f64(), 0.0);
        for field in [
            "edges[0].userRequestsPerSecond",
            "edges[0].userCalls",
            "edges[0].measuredDelay",
            "calls",
            "services[].responseSize",
            "services[].cpuUse",
        ] {
            assert!(report.contains(&format!("\n  {field}: ")), "{field} in {report}");
        }
        for query in [
            "rate(istio_requests_total{",
            "istio_request_duration_milliseconds_sum",
            "istio_response_bytes_sum",
            "container_cpu_usage_seconds_total",
        ] {
            assert!(report.contains(query), "{query} in {report}");
        }
        assert!(yaml.contains("userRequestsPerSecond: 0.0  # TO FILL"), "{yaml}");
        assert!(yaml.contains("userCalls: []  # TO FILL"), "{yaml}");
    }
    let (_, report) = run(MUBENCH, &["--metrics", "muplacer-mubench/metrics.yaml"]);
    assert!(!report.contains("PromQL"), "{report}");
}

#[test]
fn results_go_where_they_are_sent_in_the_format_that_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (out, report) = (path("problem.json"), path("report.txt"));
    let (stdout, stderr) = run(SMALL, &["-o", "json", "--output", &out, "--report", &report]);
    assert_eq!((stdout.as_str(), stderr.as_str()), ("", ""));
    let json = fs::read_to_string(&out).unwrap();
    let from_json = Loaded::parse("json", &json).unwrap().file;
    let (yaml, on_stderr) = run(SMALL, &[]);
    assert_eq!(from_json, Loaded::parse("yaml", &yaml).unwrap().file);
    assert_eq!(fs::read_to_string(&report).unwrap(), on_stderr);

    let refused = gma(&["convert", "muplacer-small/GMAConfig.yaml", "--output", "json"]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("-o json"));
}

#[test]
fn a_converted_problem_can_be_planned() {
    let folder = tempfile::tempdir().unwrap();
    for (example, metrics) in [(SMALL, true), (SMALL, false), (MUBENCH, true), (MUBENCH, false)] {
        let problem = folder.path().join("problem.yaml").display().to_string();
        let measured = format!("{example}/metrics.yaml");
        let measured: &[&str] = if metrics { &["--metrics", &measured] } else { &[] };
        run(example, &[&["--output", &problem], measured].concat());
        let planned = gma(&["plan", &problem, "-o", "json"]);
        assert!(
            planned.status.success(),
            "{}",
            String::from_utf8_lossy(&planned.stderr)
        );
    }
}
