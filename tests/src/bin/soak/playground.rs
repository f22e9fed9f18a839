//! The playground's runs: the loop on real Envoys.

use std::collections::BTreeMap;
use std::process::Command;

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};

/// What one run of the playground reported.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Run {
    pub(crate) seed: u64,
    edges: BTreeMap<String, Edge>,
    moves: Vec<serde_json::Value>,
    reaction_s: Option<Spread>,
    error_of_delay: Option<Spread>,
    error_of_change: Option<Spread>,
    pub(crate) complaints: Vec<String>,
}

#[derive(Debug, Deserialize, Serialize)]
struct Edge {
    rate_per_s: f64,
    sent: u64,
    failed: u64,
    counts: BTreeMap<String, u64>,
}

/// Of several moves.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
struct Spread {
    median: f64,
    most: f64,
}

// === impl Run ===

impl Run {
    /// Runs it with these arguments; its time line passes through to standard error.
    pub(crate) fn of(arguments: &[&str]) -> anyhow::Result<Self> {
        let program = std::env::current_exe()?.with_file_name("gma-playground");
        let folder = tempfile::tempdir()?;
        let json = folder.path().join("report.json");
        let status = Command::new(&program)
            .args(arguments)
            .arg("--json")
            .arg(&json)
            .stdout(std::io::stderr())
            .status()
            .with_context(|| format!("{} does not start: run `make build`", program.display()))?;
        let Ok(text) = std::fs::read(&json) else {
            bail!("{} {arguments:?} wrote no report ({status})", program.display());
        };
        serde_json::from_slice(&text).context("the playground's report cannot be read")
    }

    fn counts_are_equal(&self) -> bool {
        let of_edge = |edge: &Edge| edge.counts.values().all(|count| *count == edge.sent);
        self.edges.values().all(of_edge)
    }
}

/// A line a run, and what was complained of.
pub(crate) fn print(title: &str, runs: &[Run]) {
    println!(
        "\n{title:<8}{:>7}{:>21}{:>19}{:>20}{:>10}{:>9}{:>14}",
        "moves",
        "reaction s, most",
        "of the delay, most",
        "of the change, most",
        "requests",
        "failed",
        "counts"
    );
    let both = |spread: Option<Spread>, scale: f64, unit: &str| {
        spread.map_or("-".to_owned(), |spread| {
            format!(
                "{:.1}{unit}, {:.1}{unit}",
                spread.median * scale,
                spread.most * scale
            )
        })
    };
    for run in runs {
        println!(
            "seed {:<3}{:>7}{:>21}{:>19}{:>20}{:>10}{:>9}{:>14}",
            run.seed,
            run.moves.len(),
            both(run.reaction_s, 1.0, ""),
            both(run.error_of_delay, 100.0, " %"),
            both(run.error_of_change, 100.0, " %"),
            run.edges.values().map(|edge| edge.sent).sum::<u64>(),
            run.edges.values().map(|edge| edge.failed).sum::<u64>(),
            if run.counts_are_equal() { "equal" } else { "DIFFER" }
        );
        for complaint in &run.complaints {
            println!("  NOT WELL: {complaint}");
        }
    }
    let mut reactions: Vec<f64> = runs
        .iter()
        .filter_map(|run| run.reaction_s)
        .map(|spread| spread.most)
        .collect();
    reactions.sort_by(f64::total_cmp);
    if let Some(median) = reactions.get(reactions.len() / 2)
        && reactions.len() > 1
    {
        println!(
            "median of {} runs of the slower reaction: {median:.1} s",
            reactions.len()
        );
    }
}
