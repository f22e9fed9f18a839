//! `gma verify` on the recorded cases: nothing differs, and it can.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test"
)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use gma::verify::{Line, Report, Rule, Verdict, verify, verify_text};
use gma_core::strategy::Defect;
use proptest::prelude::*;
use serde_json::{Value, json};

const STRATEGY: &str = "golden/strat_007_layered_15.json";
/// 148 placements, and for each of 40 files its calls and two shifts.
const EVALUATIONS: usize = 148 + 40 * 3;
/// 160 targets: two optima, the solver and seven strategies; and for each of 20 files its ends.
const OPTIMA: usize = 160 * (2 + 1 + 7) + 20;

fn recorded(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("core/testdata")
        .join(name)
}

fn value(name: &str) -> Value {
    serde_json::from_slice(&std::fs::read(recorded(name)).unwrap()).unwrap()
}

fn lines(value: &Value) -> Vec<Line> {
    verify_text(Path::new("changed.json"), value.to_string().into_bytes()).unwrap()
}

fn error(value: &Value) -> String {
    let error = verify_text(Path::new("changed.json"), value.to_string().into_bytes()).unwrap_err();
    error.to_string()
}

fn verdict<'a>(lines: &'a [Line], item: &str) -> &'a Verdict {
    &lines.iter().find(|line| line.item == item).unwrap().verdict
}

fn differs(lines: &[Line], item: &str) -> bool {
    matches!(verdict(lines, item), Verdict::Differs(_))
}

fn command(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_gma"))
        .arg("verify")
        .args(arguments)
        .output()
        .unwrap()
}

#[test]
fn nothing_differs_from_what_was_recorded() {
    let report = verify(&[recorded("")]);
    assert_eq!(report.errors, [""; 0]);
    let wrong: Vec<&Line> = report
        .lines
        .iter()
        .filter(|line| matches!(line.verdict, Verdict::Differs(_)))
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    let counts = report.counts();
    let of = |schema: &str| {
        let count = &counts[schema];
        (count.equal, count.on_purpose, count.skipped)
    };
    assert_eq!(of("gma-eval-1"), (EVALUATIONS - 25, 25, 0));
    assert_eq!(of("gma-strategy-1"), (767, 12, 5));
    assert_eq!(of("gma-connector-1"), (14, 2, 0));
    assert_eq!(of("gma-optimum-1"), (OPTIMA, 0, 0));
    assert_eq!(of("gma-timing-1"), (0, 0, 1));
    assert_eq!(of("gma-sim-1"), (0, 0, 2));
    let defects = &counts["gma-strategy-1"].defects;
    let of = |defect| defects.get(&Rule::Strategy(defect)).copied().unwrap_or_default();
    assert_eq!((of(Defect::S5), of(Defect::S6), of(Defect::S7)), (5, 1, 6));
}

/// What is recorded of a run, each changed a little.
#[test]
fn every_changed_figure_differs() {
    let item = "run 0 SBMP offload";
    let good = value(STRATEGY);
    assert_eq!(verdict(&lines(&good), item), &Verdict::Equal);
    for field in [
        "delay_s",
        "delay_internal_s",
        "delay_network_s",
        "rho_ce",
        "cost",
        "cost_edge",
        "cost_cloud",
        "cost_network",
        "delay_decrease_s",
        "cost_increase",
    ] {
        let mut changed = good.clone();
        let recorded = &mut changed["runs"][0]["result"][field];
        *recorded = json!(recorded.as_f64().unwrap() * (1.0 + 1e-7));
        let verdict = verdict(&lines(&changed), item).to_string();
        assert!(
            verdict.starts_with("differs: ") && verdict.contains(field),
            "{field}: {verdict}"
        );
    }
    for (field, to, text) in [
        ("edge", json!(vec![1; 16]), "services at the edge"),
        ("to_apply", json!([14]), "to_apply"),
        ("to_delete", json!([14]), "to_delete"),
    ] {
        let mut changed = good.clone();
        changed["runs"][0]["result"][field] = to;
        let verdict = verdict(&lines(&changed), item).to_string();
        assert!(
            verdict.starts_with("differs: ") && verdict.contains(text),
            "{verdict}"
        );
    }
}

/// Inputs changed so that the recorded result is no longer theirs.
#[test]
fn a_changed_input_differs() {
    let mut changed = value(STRATEGY);
    changed["rtt_s"] = json!(0.081);
    for line in lines(&changed) {
        assert!(matches!(line.verdict, Verdict::Differs(_)), "{line:?}");
    }

    let mut changed = value("golden/connector_01_ba10_10.json");
    changed["sbmp_rtt_multiplier"] = json!(0);
    let parameters = verdict(&lines(&changed), "parameters").to_string();
    assert!(parameters.starts_with("differs: rtt_s"), "{parameters}");

    let mut changed = value("golden/eval_005_mubench_10.json");
    let replicas = &mut changed["placements"][1]["replicas_edge"][0];
    *replicas = json!(replicas.as_u64().unwrap() + 1);
    assert!(differs(&lines(&changed), "placement 1"));

    let mut changed = value("optimum/opt_03_ba10_8.json");
    let cost = &mut changed["targets"][0]["optimum"]["any_subset"]["cost"];
    *cost = json!(cost.as_f64().unwrap() * 0.999);
    let lines = lines(&changed);
    for item in [
        "target 0 (fraction) optimum of any_subset",
        "target 0 (fraction) solver",
    ] {
        assert!(differs(&lines, item), "{item}");
    }
}

/// A difference on purpose goes away when its defect is repeated; the same difference elsewhere stays one.
#[test]
fn a_difference_is_on_purpose_by_its_rule_only() {
    let good = value("golden/strat_020_ba10_10.json");
    let on_purpose = "run 23 SBMP unoffload";
    let Verdict::DiffersOnPurpose { defects, .. } = verdict(&lines(&good), on_purpose).clone() else {
        panic!("no difference");
    };
    assert_eq!(defects, [Rule::Strategy(Defect::S6)]);
    let mut changed = good.clone();
    changed["runs"][23]["result"]["cost"] = json!(1.0);
    assert!(differs(&lines(&changed), on_purpose));
    // The placement that a loss led to, as the result of a run that made none.
    let mut changed = good.clone();
    changed["runs"][0]["result"] = good["runs"][23]["result"].clone();
    assert!(differs(&lines(&changed), "run 0 SBMP offload"));
}

#[test]
fn the_command_says_so_by_its_exit_code() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("strat.json");
    let good = recorded("golden/strat_000_ba10_5.json");
    let output = command(&[good.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("run 0 SBMP offload: equal\n"), "{text}");
    let counts = "31 equal, 0 differ on purpose, 0 skipped, 0 differ";
    let summary = format!("gma-strategy-1: {counts}\nall: {counts}\n");
    assert!(text.ends_with(&summary), "{text}");

    let mut changed = value("golden/strat_000_ba10_5.json");
    changed["runs"][0]["result"]["cost"] = json!(1.0);
    std::fs::write(&path, changed.to_string()).unwrap();
    let output = command(&["-o", "json", folder.path().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["lines"][0]["verdict"], "differs");
    assert_eq!(report["lines"][0]["recorded"], "1e0");

    std::fs::write(&path, "{").unwrap();
    let output = command(&[path.to_str().unwrap(), good.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8(output.stderr).unwrap().contains("strat.json"));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("31 equal"), "the other file is compared: {text}");

    std::fs::remove_file(&path).unwrap();
    for nothing in [path.to_str().unwrap(), folder.path().to_str().unwrap()] {
        assert_eq!(command(&[nothing]).status.code(), Some(2), "{nothing}");
    }
}

/// What is wrong, and the path that the error must name.
#[test]
fn bad_input_is_refused_by_its_path() {
    let good = value("golden/strat_000_ba10_5.json");
    let short = json!([1.0, 2.0]);
    for (path, to, named) in [
        ("/schema", json!("gma-strategy-2"), "schema"),
        ("/schema", json!(7), "schema"),
        ("/n_services", json!(1), "n_services"),
        ("/n_services", json!(-1), "n_services"),
        ("/lambda_rps", json!(-50.0), "lambda_rps"),
        ("/rtt_s", Value::Null, "rtt_s"),
        ("/bandwidth_bps", json!(0.5), "bandwidth"),
        ("/prices/cpu_edge", json!(-1), "prices.cpu_edge"),
        ("/prices", json!({}), "prices"),
        ("/response_bytes", short.clone(), "response_bytes"),
        ("/response_bytes/2", json!("many"), "response_bytes[2]"),
        ("/internal_delay_s", short.clone(), "internal_delay_s"),
        ("/cpu_usage_cores", short.clone(), "cpu_usage_cores"),
        ("/cpu_request_cores", short.clone(), "cpu_request_cores"),
        ("/mem_request_gb", short.clone(), "mem_request_gb"),
        ("/fm_edges/1", json!([0, 6, 0.5]), "fm_edges[1]"),
        ("/fm_edges/1", json!([9, 1, 0.5]), "fm_edges[1]"),
        ("/fm_edges/1", json!([0, 5, 0.5]), "fm_edges[1]"),
        ("/fm_edges/1", json!([0, 1, -0.5]), "fm_edges[1]"),
        ("/fm_edges/1", good["fm_edges"][0].clone(), "calls"),
        ("/fm_edges/1", json!([1, 0, 1e6]), "calls"),
        ("/traces/3", json!("10"), "traces[3]"),
        ("/traces/3", json!("1000x1"), "traces[3]"),
        ("/runs/2/strategy", json!("greedy"), "runs[2].strategy"),
        ("/runs/2/action", json!("load"), "runs[2].action"),
        ("/runs/2/start_edge", short.clone(), "runs[2].start_edge"),
        (
            "/runs/2/start_edge",
            json!([0, 0, 0, 0, 0, 2]),
            "runs[2].start_edge[5]",
        ),
        (
            "/runs/2/start_edge",
            json!([0, 0, 0, 0, 0, 0]),
            "runs[2].start_edge[5]",
        ),
        (
            "/runs/2/start_cpu_usage_cores",
            json!([1.0]),
            "runs[2].start_cpu_usage_cores",
        ),
        (
            "/runs/2/start_cpu_usage_cores/3",
            json!(-1.0),
            "runs[2].start_cpu_usage_cores[3]",
        ),
        (
            "/runs/2/params",
            json!({}),
            "runs[2].params.delay_decrease_target_s",
        ),
        (
            "/runs/2/params",
            json!({"delay_decrease_target_s": 0.1, "locked": [1]}),
            "runs[2].params.locked",
        ),
        ("/runs/2/result/edge", json!([1]), "runs[2].result.edge"),
        ("/runs/2/result/cost", Value::Null, "runs[2].result.cost"),
    ] {
        let mut changed = good.clone();
        *changed.pointer_mut(path).unwrap() = to;
        let error = error(&changed);
        assert!(error.contains(named), "{error:?} does not name {named}");
        assert!(error.starts_with("changed.json: "), "{error}");
    }
    let mut changed = good.clone();
    changed["hpa_cpu_threshold"] = short;
    assert!(error(&changed).contains("hpa_cpu_threshold"));
    let mut changed = good;
    changed.as_object_mut().unwrap().remove("bandwidth_bps");
    assert!(error(&changed).contains("bandwidth_bps"), "absent is not null");
}

#[test]
fn figures_that_are_no_numbers_are_refused() {
    let text = value(STRATEGY).to_string();
    for number in ["NaN", "1e999", "Infinity", "-0.1"] {
        let changed = text.replacen("\"rtt_s\":0.08", &format!("\"rtt_s\":{number}"), 1);
        assert_ne!(changed, text);
        let error = verify_text(Path::new("changed.json"), changed.into_bytes()).unwrap_err();
        assert!(error.to_string().contains("line 1 column"), "{error}");
    }
}

/// Replaces a value somewhere inside.
fn mutate(value: &mut Value, way: &mut impl Iterator<Item = usize>, to: &Value) {
    let step = way.next().unwrap_or_default();
    match value {
        Value::Array(items) if !items.is_empty() && step % 8 != 7 => {
            let at = step % items.len();
            mutate(&mut items[at], way, to);
        }
        Value::Object(fields) if !fields.is_empty() && step % 16 != 15 => {
            let at = step % fields.len();
            mutate(fields.values_mut().nth(at).unwrap(), way, to);
        }
        value => *value = to.clone(),
    }
}

fn values() -> impl Strategy<Value = Value> {
    let number = prop_oneof![
        Just(-1.0),
        Just(0.0),
        Just(1e-300),
        Just(0.5),
        Just(2.0),
        Just(1e12),
        Just(1e24),
        Just(1e300)
    ];
    prop_oneof![
        Just(Value::Null),
        Just(json!([])),
        Just(json!({})),
        Just(json!("SBMP")),
        Just(json!([1, 0, 1])),
        number.prop_map(|number| json!(number)),
        (0..1_000_000_u64).prop_map(|number| json!(number)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_mutated_file_is_compared_or_refused(
        file in 0..4_usize,
        ways in prop::collection::vec((prop::collection::vec(any::<usize>(), 6), values()), 1..4),
    ) {
        let mut value = value([
            "golden/eval_000_ba10_5.json",
            "golden/strat_001_chain_5.json",
            "golden/connector_00_mubench_10.json",
            "optimum/opt_01_chain_5.json",
        ][file]);
        for (way, to) in &ways {
            mutate(&mut value, &mut way.iter().copied(), to);
        }
        match verify_text(Path::new("mutated.json"), value.to_string().into_bytes()) {
            Ok(lines) => {
                let report = Report { lines, errors: Vec::new() };
                prop_assert!(!report.to_string().contains("NaN"));
            }
            Err(error) => prop_assert!(error.to_string().starts_with("mutated.json: ")),
        }
    }

    #[test]
    fn mutated_bytes_are_compared_or_refused(
        at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<bool>(),
    ) {
        let mut bytes = std::fs::read(recorded("golden/strat_001_chain_5.json")).unwrap();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if cut {
            bytes.truncate(at);
        }
        if let Err(error) = verify_text(Path::new("mutated.json"), bytes) {
            prop_assert!(error.to_string().starts_with("mutated.json: "));
        }
    }
}
