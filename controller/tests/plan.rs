//! `gma plan` as a user runs it: the built binary on the shipped examples and on bad input.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "tests, and what helps them"
)]

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

const NAMES: [&str; 7] = ["solver", "SBMP", "COPAMP", "MFU", "IA", "Kahn", "TA"];

fn example(name: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("examples")
        .join(name);
    path.display().to_string()
}

fn gma(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_gma"))
        .arg("plan")
        .args(args)
        .output()
        .unwrap()
}

fn gma_reading(input: &[u8], args: &[&str]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_gma"))
        .args(["plan", "-"])
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It may refuse a long input before its end.
    let _ = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap()
}

fn names(value: &Value) -> Vec<&str> {
    value
        .as_array()
        .unwrap()
        .iter()
        .map(|name| name.as_str().unwrap())
        .collect()
}

fn close(one: &Value, two: f64) -> bool {
    (one.as_f64().unwrap() - two).abs() < 1e-9 * two.abs().max(1.0)
}

#[test]
fn the_web_shop_is_brought_to_its_target() {
    let output = gma(&[&example("web-shop.yaml"), "-o", "json"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let plan = json(&output);
    assert_eq!(plan["kind"], "PlacementPlan");
    assert_eq!(plan["targetMet"], true);
    assert_eq!(plan["problem"]["services"], 10);

    let edge = &plan["edges"][0];
    assert_eq!(edge["reach"], "met");
    let [now, predicted, target] =
        ["nowMs", "predictedMs", "targetMs"].map(|field| edge["delay"][field].as_f64().unwrap());
    assert!(now > target && predicted <= target, "{now} {predicted} {target}");
    // Nothing ran there, so what is added is what runs; the pinned service is not among it.
    assert_eq!(edge["placement"], edge["add"]);
    assert_eq!(names(&edge["remove"]), Vec::<&str>::new());
    assert!(names(&edge["add"]).contains(&"front") && !names(&edge["add"]).contains(&"payment"));

    let cost = &plan["cost"]["planned"];
    let terms = ["replicas", "traffic"].map(|term| cost["edges"][0][term].as_f64().unwrap());
    assert!(close(
        &cost["totalPerHour"],
        cost["cloudReplicas"].as_f64().unwrap() + terms[0] + terms[1]
    ));
    assert_eq!(plan["bound"]["provenOptimal"], true);
    // Optimal is to 1e-9 of the cost.
    assert!(plan["bound"]["gap"].as_f64().unwrap() < 2e-9);
    assert!(plan["bound"]["costPerHour"].as_f64() <= cost["totalPerHour"].as_f64());
}

#[test]
fn three_edges_keep_to_capacity_pins_and_measurements() {
    let output = gma(&[&example("three-edges.yaml"), "-o", "json"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stdout));
    let plan = json(&output);
    for edge in plan["edges"].as_array().unwrap() {
        let placed = names(&edge["placement"]);
        assert!(
            placed.contains(&"auth") && !placed.contains(&"bookings"),
            "{placed:?}"
        );
        for (used, limit) in [
            ("cpuCores", "cpuCoresLimit"),
            ("memoryGB", "memoryGBLimit"),
            ("pods", "podsLimit"),
        ] {
            let used = edge["use"][used].as_f64().unwrap();
            assert!(
                edge["use"][limit].as_f64().is_none_or(|limit| used <= limit),
                "{edge}"
            );
        }
    }
    // Anchored to the measurement: predicted = measured + model(after) − model(now).
    let delay = &plan["edges"][0]["delay"];
    let number = |field: &str| delay[field].as_f64().unwrap();
    assert_eq!(number("nowMs"), 66.0);
    assert!(close(
        &delay["predictedMs"],
        66.0 + number("modelPredictedMs") - number("modelNowMs")
    ));
    // Without a target nothing moves.
    assert_eq!(plan["edges"][2]["reach"], "noTarget");
    assert_eq!(names(&plan["edges"][2]["placement"]), ["web", "auth"]);
}

#[test]
fn a_target_out_of_reach_is_answered_with_the_nearest_and_the_reason() {
    let output = gma(&[&example("retries.yaml")]);
    assert_eq!(output.status.code(), Some(3));
    let out = text(&output.stdout)
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ");
    assert!(out.contains("edge-1: no placement meets the target"), "{out}");
    assert!(out.contains("this one comes to 41.6 ms"), "{out}");
    let plan = json(&gma(&[&example("retries.yaml"), "-o", "json"]));
    assert_eq!(plan["targetMet"], false);
    assert_eq!(plan["edges"][0]["reach"], "targetTooLow");
    assert_eq!(
        names(&plan["edges"][0]["placement"]),
        ["front", "orders", "payment", "ledger"]
    );
}

#[test]
fn no_strategy_is_cheaper_than_the_solver() {
    for (name, code) in [("web-shop.yaml", 0), ("three-edges.yaml", 0), ("retries.yaml", 3)] {
        let output = gma(&[&example(name), "--compare", "-o", "json"]);
        assert_eq!(output.status.code(), Some(code), "{name}");
        let report = json(&output);
        let methods = report["methods"].as_array().unwrap();
        let found: Vec<&str> = methods
            .iter()
            .map(|method| method["strategy"].as_str().unwrap())
            .collect();
        assert_eq!(found, NAMES);
        let valid = |method: &&Value| {
            method["targetMet"] == methods[0]["targetMet"] && names(&method["breaks"]).is_empty()
        };
        assert!(names(&methods[0]["breaks"]).is_empty(), "{name}");
        if methods[0]["targetMet"] == true {
            let solver = methods[0]["costPerHour"].as_f64().unwrap();
            for method in methods.iter().filter(valid) {
                assert!(
                    method["costPerHour"].as_f64().unwrap() >= solver - 1e-9,
                    "{name}: {method}"
                );
            }
        }
    }
}

#[test]
fn each_strategy_can_be_chosen_and_agrees_with_the_comparison() {
    let compared = json(&gma(&[&example("web-shop.yaml"), "--compare", "-o", "json"]));
    for (position, name) in NAMES.into_iter().enumerate() {
        let plan = json(&gma(&[
            &example("web-shop.yaml"),
            "--strategy",
            &name.to_lowercase(),
            "-o",
            "json",
        ]));
        assert_eq!(plan["strategy"], name);
        let line = &compared["methods"][position];
        assert_eq!(
            plan["cost"]["planned"]["totalPerHour"], line["costPerHour"],
            "{name}"
        );
        assert_eq!(
            plan["edges"][0]["delay"]["predictedMs"], line["predictedDelayMs"][0],
            "{name}"
        );
    }
}

#[test]
fn a_strategy_that_exceeds_the_capacity_is_no_solution() {
    let output = gma(&[&example("three-edges.yaml"), "--strategy", "SBMP", "-o", "json"]);
    assert_eq!(output.status.code(), Some(3));
    let plan = json(&output);
    assert_eq!(plan["targetMet"], true);
    assert_eq!(names(&plan["breaks"]), ["CPU of edge-south"]);
}

/// Rows of tables, without the columns that differ between machines and versions of the search.
fn rows(out: &str) -> Vec<String> {
    let rows = out.lines().filter(|line| line.starts_with(' '));
    let stable = rows.map(|row| {
        let words: Vec<&str> = row.split_whitespace().collect();
        let kept = if matches!(words.last(), Some(&("ms" | "s"))) {
            words.len() - 3
        } else {
            words.len()
        };
        words[..kept].join(" ")
    });
    stable.filter(|row| !row.is_empty()).collect()
}

#[test]
fn the_readme_shows_what_is_printed() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    let readme = std::fs::read_to_string(root.join("controller/examples/README.md")).unwrap();
    let mut checked = 0;
    for block in readme.split("```console\n$ gma ").skip(1) {
        let (command, shown) = block.split_once('\n').unwrap();
        let shown = shown.split("```").next().unwrap();
        let args = command.split(';').next().unwrap().split(' ');
        let output = Command::new(env!("CARGO_BIN_EXE_gma"))
            .args(args)
            .current_dir(&root)
            .output()
            .unwrap();
        let printed = text(&output.stdout);
        let table = |out: &str| rows(out.split("\nProven").next().unwrap());
        assert_eq!(table(printed), table(shown), "{command}");
        checked += 1;
    }
    assert_eq!(checked, 5);
}

#[test]
fn tables_fit_into_100_columns_without_colour() {
    for name in ["web-shop.yaml", "three-edges.yaml", "retries.yaml"] {
        for args in [&[][..], &["--compare"]] {
            let output = gma(&[&[example(name).as_str()], args].concat());
            let out = text(&output.stdout);
            assert!(!out.contains('\u{1b}'), "{out}");
            for line in out.lines() {
                assert!(line.chars().count() <= 100, "{line}");
            }
            assert_eq!(output.stderr, b"");
        }
    }
}

#[test]
fn the_answer_is_the_same_each_time_in_each_format_and_from_standard_input() {
    let file = example("three-edges.yaml");
    let without_time = |mut plan: Value| {
        plan.as_object_mut().unwrap().remove("seconds");
        plan
    };
    let first = without_time(json(&gma(&[&file, "-o", "json"])));
    assert_eq!(without_time(json(&gma(&[&file, "-o", "json"]))), first);
    let yaml = gma(&[&file, "-o", "yaml"]);
    assert_eq!(
        without_time(serde_norway::from_slice(&yaml.stdout).unwrap()),
        first
    );
    let piped = gma_reading(&std::fs::read(&file).unwrap(), &["-o", "json"]);
    assert_eq!(without_time(json(&piped)), first);
}

#[test]
fn bad_input_ends_with_1_and_says_where() {
    let shop = std::fs::read_to_string(example("web-shop.yaml")).unwrap();
    let cases = [
        (
            shop.replace("rtt: 60ms", "rtt: 60"),
            "standard input:14:8: edges[0].rtt: `60` has no unit",
        ),
        (
            shop.replace("to: pricing", "to: prizing"),
            "calls[5].to: `prizing` is no service",
        ),
        (
            shop.replace("name: search", "name: catalog"),
            "services[2].name: a service named `catalog` exists",
        ),
        (
            shop.replace("ond: 90", "ond: -1"),
            "edges[0].userRequestsPerSecond: -1 is no rate",
        ),
        (String::new(), "standard input"),
        ("[1, 2".to_owned(), "standard input"),
    ];
    for (input, expected) in cases {
        let output = gma_reading(input.as_bytes(), &[]);
        let err = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{err}");
        assert!(err.starts_with("gma: ") && err.contains(expected), "{err}");
        assert_eq!(output.stdout, b"");
    }
    let output = gma_reading(b"\xff\xfe", &[]);
    assert_eq!(output.status.code(), Some(1));
    let output = gma(&["no/such.yaml"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output.stderr).contains("no/such.yaml: cannot read it"),
        "{output:?}"
    );
}

#[test]
fn a_million_services_are_refused_at_once() {
    let shop = std::fs::read_to_string(example("web-shop.yaml")).unwrap();
    let many: String = (0..1_000_000)
        .map(|i| format!("- {{name: s{i}, responseSize: 1B, ownTime: 1ms}}\n"))
        .collect();
    let output = gma_reading(
        shop.replace("\ncalls:\n", &format!("\n{many}calls:\n"))
            .as_bytes(),
        &[],
    );
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output.stderr).contains("longer than 8388608 bytes"),
        "{}",
        text(&output.stderr)
    );
}

#[test]
fn wrong_arguments_end_with_2_and_name_the_choices() {
    let output = gma(&[&example("web-shop.yaml"), "--strategy", "luck"]);
    assert_eq!(output.status.code(), Some(2));
    let err = text(&output.stderr);
    assert!(NAMES.iter().all(|name| err.contains(name)), "{err}");
    assert_eq!(gma(&[]).status.code(), Some(2));
}

#[test]
fn a_budget_ends_the_search_and_the_answer_says_so() {
    let plan = json(&gma(&[&example("web-shop.yaml"), "--budget", "2", "-o", "json"]));
    assert_eq!(plan["budgetExhausted"], true);
    assert_eq!(plan["bound"]["provenOptimal"], false);
}

#[test]
fn the_schema_is_printed() {
    let schema = json(&gma(&["--schema"]));
    assert_eq!(schema["title"], "PlacementProblem");
}
