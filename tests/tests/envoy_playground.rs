//! The playground's scenario: the whole loop on real Envoys, by the command that a user runs.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// `gma-playground` finds the controller and the cell beside itself, so it is the one that `make build` made.
fn playground() -> PathBuf {
    let folder = std::env::var_os("GMA_BIN").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/release"),
        PathBuf::from,
    );
    let binary = folder.join("gma-playground");
    assert!(
        binary.exists(),
        "{} is missing: run `make build`",
        binary.display()
    );
    binary
}

#[test]
fn envoy_the_loop_offloads_unoffloads_and_loses_nothing() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let folder = tempfile::tempdir().unwrap();
    let json = folder.path().join("report.json");
    let mut command = Command::new(playground());
    for (name, path) in [
        ("GMA_ENVOY", ".tools/envoy/envoy/_bin/envoy"),
        ("GMA_FILTER", "target/gma-filter.wasm"),
    ] {
        if std::env::var_os(name).is_none() {
            command.env(name, root.join(path));
        }
    }
    let output = command.arg("--json").arg(&json).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{said}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );

    let report: Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    for (edge, least) in [("edge-1", 5_000), ("edge-2", 1_000)] {
        let edge = &report["edges"][edge];
        assert_eq!(edge["failed"], 0, "{said}");
        let counts = &edge["counts"];
        assert!(counts["filter"].as_u64().unwrap() > least, "{said}");
        assert_eq!(counts["filter"], counts["load_generator"], "{said}");
        assert_eq!(counts["filter"], counts["envoy"], "{said}");
    }

    let moves = report["moves"].as_array().unwrap();
    let directions: Vec<_> = moves
        .iter()
        .map(|made| made["direction"].as_str().unwrap())
        .collect();
    assert_eq!(directions, ["offload", "unoffload"], "{said}");
    let band = &report["band_ms"];
    for made in moves {
        let number = |key: &str| made[key].as_f64().unwrap_or_else(|| panic!("no {key}: {said}"));
        let after = number("delay_after_ms");
        assert!(
            band[0].as_f64().unwrap() < after && after < band[1].as_f64().unwrap(),
            "{said}"
        );
        let error = (number("predicted_change_ms") - number("measured_change_ms")).abs();
        // The unoffload changes the delay by some 20 ms only, which four seconds of data do not pin down so well.
        if made["direction"] == "offload" {
            assert!(error <= 0.25 * number("measured_change_ms").abs(), "{said}");
        }
    }
    let before = moves[0]["delay_before_ms"].as_f64().unwrap();
    assert!(before >= 1.3 * band[1].as_f64().unwrap(), "{said}");
}
