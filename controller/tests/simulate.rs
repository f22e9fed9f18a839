//! `gma simulate` as a user runs it, on small sweeps.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test: what is missing is a failure"
)]

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

const RECORDED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/core/testdata/golden/sim/delay.json");
/// Sums in another order differ by less than this share.
const SAME: f64 = 1e-9;

fn gma(out: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_gma"))
        .arg("simulate")
        .args(args)
        .arg("--out")
        .arg(out)
        .output()
        .unwrap()
}

fn simulate(args: &[&str]) -> TempDir {
    let out = TempDir::new().unwrap();
    let output = gma(out.path(), args);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    out
}

fn read(out: &TempDir, file: &str) -> String {
    std::fs::read_to_string(out.path().join(file)).unwrap()
}

fn json(out: &TempDir, file: &str) -> Value {
    serde_json::from_str(&read(out, file)).unwrap()
}

/// Rows of column and value, without the comments.
fn csv(text: &str) -> Vec<Vec<(String, String)>> {
    let mut lines = text.lines().filter(|line| !line.starts_with('#'));
    let names: Vec<&str> = lines.next().unwrap().split(',').collect();
    let rows = lines.map(|line| {
        let fields: Vec<&str> = line.split(',').collect();
        assert_eq!(fields.len(), names.len(), "{line}");
        let pairs = names.iter().zip(fields);
        pairs
            .map(|(name, field)| ((*name).to_owned(), field.to_owned()))
            .collect()
    });
    rows.collect()
}

fn without_times(mut value: Value) -> Value {
    match &mut value {
        Value::Object(fields) => {
            fields.retain(|name, _| !name.ends_with("puMs"));
            fields
                .values_mut()
                .for_each(|field| *field = without_times(field.take()));
        }
        Value::Array(values) => values
            .iter_mut()
            .for_each(|value| *value = without_times(value.take())),
        _ => {}
    }
    value
}

#[test]
fn a_seed_gives_one_result_whatever_the_threads() {
    let sweep = |threads, seed| {
        let size = ["--experiment", "delay", "--services", "12", "--trials", "3"];
        simulate(
            &[
                &size[..],
                &["--points", "60,100,150", "--threads", threads, "--seed", seed],
            ]
            .concat(),
        )
    };
    let (one, three, other) = (sweep("1", "5"), sweep("3", "5"), sweep("3", "6"));
    assert_eq!(read(&one, "delay.csv"), read(&three, "delay.csv"));
    assert_eq!(
        without_times(json(&one, "delay.json")),
        without_times(json(&three, "delay.json"))
    );
    assert_ne!(read(&one, "delay.csv"), read(&other, "delay.csv"));
    let times = csv(&read(&one, "delay-times.csv"));
    assert!(times.iter().all(|row| row[3].1.parse::<f64>().unwrap() > 0.0));
}

#[test]
fn all_files_are_there_and_say_what_they_came_from() {
    let out = simulate(&[
        "--experiment",
        "size",
        "--points",
        "5,15",
        "--trials",
        "2",
        "--seed",
        "9",
    ]);
    let document = json(&out, "size.json");
    assert_eq!(document["schema"], "gma-simulation-1");
    assert_eq!(document["parameters"]["seed"], 9);
    assert_eq!(document["parameters"]["trials"], 2);
    let (points, runs) = (
        document["points"].as_array().unwrap(),
        document["runs"].as_array().unwrap(),
    );
    assert_eq!((points.len(), runs.len()), (2 * 7, 2 * 2 * 7));

    let text = read(&out, "size.csv");
    assert!(
        text.starts_with("# gma simulate {") && text.contains("\"seed\":9"),
        "{text}"
    );
    let rows = csv(&text);
    assert_eq!(rows.len(), points.len());
    for (row, point) in rows.iter().zip(points) {
        let number = |column: usize| row[column].1.parse::<f64>().unwrap();
        assert_eq!((row[0].0.as_str(), row[3].0.as_str()), ("services", "cost"));
        assert_eq!(number(0), point["point"].as_f64().unwrap());
        assert_eq!(Value::from(row[1].1.as_str()), point["strategy"]);
        assert!((number(3) - point["cost"]["mean"].as_f64().unwrap()).abs() < 1e-6);
    }
    for figure in ["cost", "increase", "above-solver", "time"] {
        let text = read(&out, &format!("size-{figure}.svg"));
        let svg = roxmltree::Document::parse(&text).unwrap();
        assert_eq!(svg.root_element().tag_name().name(), "svg");
        let words: String = svg.descendants().filter_map(|node| node.text()).collect();
        for word in [
            "GMA solver",
            "SBMP",
            "COPAMP",
            "MFU",
            "IA",
            "Kahn",
            "TA",
            "Services",
        ] {
            assert!(words.contains(word), "{figure}: no {word}");
        }
    }
}

#[test]
fn the_solver_is_never_dearer_than_a_strategy_that_meets_the_target() {
    for graph in ["simulators", "dense"] {
        let size = ["--experiment", "rtt", "--services", "25", "--trials", "4"];
        let out = simulate(&[&size[..], &["--points", "50,80,160", "--graph", graph]].concat());
        let document = json(&out, "rtt.json");
        let runs = document["runs"].as_array().unwrap();
        let cost = |run: &Value| run["cost"].as_f64().unwrap();
        let mut compared = 0;
        for solved in runs.iter().filter(|run| run["strategy"] == "solver") {
            assert!(
                cost(solved) >= solved["bound"].as_f64().unwrap() * (1.0 - SAME),
                "{solved}"
            );
            let same = |run: &&Value| run["point"] == solved["point"] && run["trial"] == solved["trial"];
            for run in runs.iter().filter(same).filter(|run| run["met"] == true) {
                let no_dearer = cost(solved) <= cost(run) * (1.0 + SAME);
                assert!(solved["met"] == true && no_dearer, "{solved}\n{run}");
                compared += 1;
            }
        }
        assert!(compared >= 12 * 4, "{graph}: only {compared} runs met the target");
    }
}

/// The strategies without random traces choose what the reference chose; SBMP's traces are others.
#[test]
fn recorded_sweeps_come_out_as_recorded() {
    let out = simulate(&[
        "--experiment",
        "delay",
        "--instances",
        RECORDED,
        "--points",
        "60,100,180",
    ]);
    let rows = csv(&read(&out, "delay-recorded.csv"));
    assert_eq!(rows.len(), 3 * 6);
    for row in rows {
        let value = |name: &str| row.iter().find(|(column, _)| column == name).unwrap().1.as_str();
        let number = |name: &str| value(name).parse::<f64>().unwrap();
        assert_eq!(number("runs"), 3.0);
        if value("strategy") == "sbmp" {
            assert!(number("difference_percent").abs() < 2.0, "{row:?}");
        } else {
            let found = (number("same_placement"), number("difference_percent"));
            assert_eq!(found, (3.0, 0.0), "{row:?}");
        }
    }
}

#[test]
fn flags_that_make_no_sense_are_refused_before_anything_runs() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "{}").unwrap();
    let wrong_file = file.to_str().unwrap();
    let refused = |out: &Path, args: &[&str], says: &[&str]| {
        let output = gma(out, args);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "{args:?}");
        for part in says {
            assert!(text.contains(part), "{args:?}: {text}");
        }
    };
    let out = folder.path().join("out");
    let delay = |args: &[&'static str]| [&["--experiment", "delay"], args].concat();
    refused(&out, &[], &["--experiment"]);
    refused(&out, &["--experiment", "weather"], &["weather", "bandwidth"]);
    refused(&out, &delay(&["--trials", "0"]), &["--trials 0"]);
    refused(
        &out,
        &delay(&["--trials", "10000000"]),
        &["910000000 runs", "fewer"],
    );
    refused(&out, &delay(&["--services", "0"]), &["0 services", "--services"]);
    refused(
        &out,
        &delay(&["--services", "1000000"]),
        &["1000000 services", "1 to 1000"],
    );
    refused(&out, &delay(&["--strategies", "sbmp,best"]), &["best", "copamp"]);
    refused(&out, &delay(&["--points=100,-1"]), &["-1"]);
    refused(&out, &delay(&["--points", "NaN"]), &["NaN"]);
    refused(
        &out,
        &["--experiment", "size", "--points", "2.5"],
        &["2.5", "whole"],
    );
    refused(&out, &delay(&["--threads", "0"]), &["--threads"]);
    refused(&out, &delay(&["--instances", "nowhere.json"]), &["nowhere.json"]);
    refused(
        &out,
        &["--experiment", "delay", "--instances", wrong_file],
        &["gma-sim-1"],
    );
    refused(
        &out,
        &["--experiment", "size", "--instances", RECORDED],
        &["--instances"],
    );
    assert!(!out.exists(), "something ran");
    refused(
        &file.join("out"),
        &delay(&["--trials", "1"]),
        &["--out", "directory"],
    );
}
