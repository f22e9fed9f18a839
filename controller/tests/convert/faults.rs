//! What is wrong is told with its place and the remedy, all of it at once.

use std::fs;

use gma::convert::{Input, convert};
use gma::problem::PinTo;

use crate::{Copy, SMALL, gma, run, service};

#[test]
fn a_misspelt_key_is_named_with_the_one_that_is_meant() {
    let copy = Copy::of(SMALL);
    copy.replace("GMAConfig.yaml", "pod-cidr-regex", "pod-cidr-regexp");
    let report = copy.convert().report;
    assert_eq!(report.unknown[0].key, "cloud-area.pod-cidr-regexp");
    assert_eq!(report.unknown[0].nearest, "cloud-area.pod-cidr-regex");
    copy.replace(
        "GMAConfig.yaml",
        "  offload-delay-threshold",
        "  ofload-delay-threshold",
    );
    let error = copy.error();
    assert!(
        error.contains("GMAConfig.yaml: spec.slo.offload-delay-threshold: is missing"),
        "{error}"
    );
    assert!(
        error.contains(
            "slo.ofload-delay-threshold: is no key of muPlacer; the nearest is slo.offload-delay-threshold"
        ),
        "{error}"
    );
}

const CONFIG: &str = "GMAConfig.yaml";

/// File, what is replaced in it, by what, and what the error says then.
const FAULTS: &[(&str, &str, &str, &str)] = &[
    (
        CONFIG,
        "cpu: 0.03",
        "cpu: cheap",
        "spec.cloud-area.cost.cpu: is `cheap`; a number",
    ),
    (
        CONFIG,
        "memory: 0.008",
        "memory: -1",
        "spec.edge-area.cost.memory: is `-1`",
    ),
    (
        CONFIG,
        "200Mbps",
        "200MB",
        "spec.network.cloud-edge-bps: is `200MB`, which is no bit rate: write e.g.",
    ),
    (
        CONFIG,
        "200Mbps",
        "0",
        "spec.network.cloud-edge-bps: is `0`; a bit rate above 0",
    ),
    (
        CONFIG,
        "120ms",
        "120 parsecs",
        "spec.slo.offload-delay-threshold: is `120 parsecs`, which is no time: write e.g. 80ms",
    ),
    (
        CONFIG,
        "120ms",
        "60ms",
        "spec.slo.offload-delay-threshold: is 60ms, not above",
    ),
    (
        CONFIG,
        "id: 1",
        "id: 0",
        "spec.app.services[1].id: is 0, as the id of `web`",
    ),
    (
        CONFIG,
        "name: catalog",
        "name: web",
        "spec.app.services[1].name: is `web`, as services[0]",
    ),
    (
        CONFIG,
        "- 2\n",
        "- 7\n",
        "spec.optimizer.sbmp.locked[0]: is 7, which is no service's id or name",
    ),
    (
        CONFIG,
        "cloud/web.yaml",
        "cloud/wob.yaml",
        "spec.app.services[0].instances.cloud-yamls[0]: there is no file `cloud/wob.yaml`",
    ),
    (
        CONFIG,
        "cloud/web.yaml",
        "cloud",
        "spec.app.services[0].instances.cloud-yamls[0]: `cloud` is a folder",
    ),
    (
        CONFIG,
        "[cloud/web.yaml, cloud/web-hpa.yaml]",
        "[cloud/web-hpa.yaml]",
        "cloud-yamls: has no Deployment",
    ),
    (
        CONFIG,
        "[cloud/web.yaml, cloud/web-hpa.yaml]",
        "[]",
        "cloud-yamls: lists no file: the cloud runs every service",
    ),
    (
        CONFIG,
        "[cloud/web.yaml, ",
        "[cloud/web.yaml, cloud/catalog.yaml, ",
        "`catalog-cloud` is a second one for service `web`",
    ),
    (
        CONFIG,
        "  slo:",
        "  slo: none\n  other:",
        "spec.slo: is a text; a mapping belongs here",
    ),
    (CONFIG, "spec:", "specs:", "spec: is missing"),
    (
        "cloud/web.yaml",
        "cpu: 200m",
        "cpu: 200q",
        "cloud/web.yaml: spec.template.spec.containers[0].resources.requests.cpu: is `200q`",
    ),
    (
        "edge-1/catalog.yaml",
        "minReplicas: 1",
        "minReplicas: 9",
        "edge-1/catalog.yaml (document 2): spec.minReplicas: is 9, above maxReplicas, 3",
    ),
    (
        "cloud/web-hpa.yaml",
        "averageUtilization: 70",
        "averageUtilization: 0",
        "averageUtilization: is 0",
    ),
    (
        "cloud/web.yaml",
        "kind: Deployment",
        "kind: [",
        "cloud/web.yaml: not YAML",
    ),
];

#[test]
fn what_is_wrong_is_named_with_file_path_and_remedy() {
    for (file, from, to, expected) in FAULTS {
        let copy = Copy::of(SMALL);
        let error = copy.replace(file, from, to).error();
        assert!(
            error.contains(expected),
            "{from} -> {to}:\n{expected}\nin {error}"
        );
    }
    let missing = gma(&["convert", "no-such.yaml"]);
    assert_eq!(missing.status.code(), Some(1));
    let error = String::from_utf8_lossy(&missing.stderr).into_owned();
    assert!(error.contains("no-such.yaml cannot be read"), "{error}");
}

#[test]
fn all_faults_are_told_at_once() {
    let copy = Copy::of(SMALL);
    copy.replace("GMAConfig.yaml", "cpu: 0.03", "cpu: cheap")
        .replace("GMAConfig.yaml", "120ms", "soon")
        .replace("cloud/web.yaml", "cpu: 200m", "cpu: lots");
    let error = copy.error();
    assert!(error.starts_with("3 things to mend:"), "{error}");
}

#[test]
fn a_workload_without_an_autoscaler_is_taken_with_a_warning() {
    let (_, report) = run(SMALL, &[]);
    assert!(
        report.contains("cloud/orders.yaml (document 1): has no HorizontalPodAutoscaler"),
        "{report}"
    );
    let copy = Copy::of(SMALL);
    copy.replace(
        "GMAConfig.yaml",
        "edge-yamls: [edge-1/web.yaml, edge-1/web-hpa.yaml]",
        "edge-yamls: []",
    );
    let conversion = copy.convert();
    assert_eq!(service(&conversion.problem, "web").pin, PinTo::Cloud);
}

#[test]
fn a_stateful_set_stays_in_the_cloud_unless_somebody_says_otherwise() {
    let copy = Copy::of(SMALL);
    copy.replace("GMAConfig.yaml", "      - 2\n", "        []\n");
    let conversion = copy.convert();
    assert_eq!(service(&conversion.problem, "orders").pin, PinTo::Cloud);
    let warning = conversion
        .report
        .warnings
        .iter()
        .find(|finding| finding.what.contains("StatefulSet"));
    assert!(warning.unwrap().what.contains("pin: free"));
}

#[test]
fn a_list_as_kubectl_writes_it_is_read() {
    let copy = Copy::of(SMALL);
    let before = copy.convert().problem;
    let objects = ["cloud/web.yaml", "cloud/web-hpa.yaml"].map(|file| {
        let text = fs::read_to_string(copy.path(file)).unwrap();
        serde_norway::from_str::<serde_norway::Value>(&text).unwrap()
    });
    let list = serde_json::json!({"apiVersion": "v1", "kind": "List", "items": objects});
    fs::write(copy.path("cloud/web.yaml"), list.to_string()).unwrap();
    copy.replace(
        "GMAConfig.yaml",
        "[cloud/web.yaml, cloud/web-hpa.yaml]",
        "[cloud/web.yaml]",
    );
    assert_eq!(copy.convert().problem, before);
}

#[test]
fn a_netinfo_file_that_is_not_there_leaves_the_configured_link() {
    let copy = Copy::of(SMALL);
    copy.replace("GMAConfig.yaml", "netinfo-file: \"\"", "netinfo-file: gone.yaml");
    let conversion = copy.convert();
    assert_eq!(conversion.problem.edges[0].rtt.to_string(), "40ms");
    let warnings = &conversion.report.warnings;
    assert!(
        warnings
            .iter()
            .any(|finding| finding.at.ends_with("spec.network.netinfo-file")),
        "{warnings:?}"
    );
    fs::write(
        copy.path("gone.yaml"),
        "kind: NetInfo\nspec: {edge-cloud-rtt: 25ms}\n",
    )
    .unwrap();
    assert_eq!(copy.convert().problem.edges[0].rtt.to_string(), "25ms");
}

#[test]
fn calls_without_an_end_are_refused_by_the_problem_reader() {
    let copy = Copy::of(SMALL);
    copy.replace(
        "metrics.yaml",
        "    cpuUse: 900m\n",
        "    cpuUse: 900m\n    callsPerSecond: {web: 75}\n",
    );
    let input = Input {
        metrics: Some(copy.path("metrics.yaml")),
        ..copy.input()
    };
    let error = convert(&input).unwrap_err().to_string();
    assert!(error.contains("have no end"), "{error}");
}

#[test]
fn locked_is_read_in_each_of_its_forms() {
    for (form, pinned) in [
        ("[0, 1]", ["web", "catalog"].as_slice()),
        ("[catalog]", &["catalog"]),
        ("[0, 1, 0, 0]", &["catalog"]),
        ("[1, 0, 1, 1]", &["web", "orders"]),
        ("[]", &[]),
    ] {
        let copy = Copy::of(SMALL);
        copy.replace("GMAConfig.yaml", "      - 2\n", &format!("        {form}\n"));
        copy.replace("cloud/orders.yaml", "StatefulSet", "Deployment");
        let problem = copy.convert().problem;
        let is: Vec<&str> = problem
            .services
            .iter()
            .filter(|service| service.pin == PinTo::Cloud)
            .map(|service| service.name.as_str())
            .collect();
        assert_eq!(is, pinned, "{form}");
    }
}

#[test]
fn metrics_are_checked_against_the_configuration() {
    for (from, to, expected) in [
        (
            "catalog: 75",
            "catalogue: 75",
            "services.web.callsPerSecond: names `catalogue`, which is no service of the configuration: did you mean `catalog`?",
        ),
        (
            "  web:\n    requestsPerSecond: 50",
            "  web:\n    requestsPerSecond: 0",
            "services.web.requestsPerSecond: is missing or 0, but there are calls",
        ),
        ("128ms", "128", "users.measuredDelay"),
        ("60kB", "many", "services.web.responseSize"),
        ("cpuUse: 600m", "cpuUsage: 600m", "cpuUsage"),
        (
            "requestsPerSecond: 50",
            "requestsPerSecond: -5",
            "users.requestsPerSecond",
        ),
    ] {
        let copy = Copy::of(SMALL);
        copy.replace("metrics.yaml", from, to);
        let input = Input {
            metrics: Some(copy.path("metrics.yaml")),
            ..copy.input()
        };
        let error = convert(&input).expect_err(to).to_string();
        assert!(
            error.contains(expected) && error.contains("metrics.yaml"),
            "{expected}\nin {error}"
        );
    }
}

#[test]
fn files_that_would_take_long_are_refused_at_once() {
    let copy = Copy::of(SMALL);
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x]\n");
    for level in 1..12 {
        let of = format!("*a{}, ", level - 1).repeat(9);
        bomb.push_str(&format!("a{level}: &a{level} [{of}]\n"));
    }
    let error = copy.error_of(&bomb);
    assert!(error.contains("not YAML"), "{error}");
    let error = copy.error_of(&"[".repeat(100_000));
    assert!(error.contains("brackets are open at once"), "{error}");
    let error = copy.error_of(&"---\na: 1\n".repeat(100_000));
    assert!(error.contains("documents: split the file"), "{error}");
}
