//! `make chaos`: every fault, a table of what came of it, and exit code 1 if anything is not as expected.
#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Context as _;
use clap::Parser;
use gma_tests::chaos::{Fault, Row};

/// Faults on real Envoys under constant load.
#[derive(Debug, Parser)]
#[command(name = "chaos")]
struct Args {
    /// Write the rows as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// One fault only; may be repeated
    #[arg(long, value_name = "NAME", value_parser = fault)]
    only: Vec<Fault>,
}

fn fault(name: &str) -> Result<Fault, String> {
    Fault::ALL
        .into_iter()
        .find(|fault| fault.name() == name)
        .ok_or_else(|| format!("give one of: {}", Fault::ALL.map(Fault::name).join(", ")))
}

fn main() -> anyhow::Result<ExitCode> {
    let args = Args::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let rows = runtime.block_on(async {
        tokio::select! {
            rows = all(&args) => Ok(rows),
            _ = tokio::signal::ctrl_c() => anyhow::bail!("interrupted: everything was stopped"),
        }
    })?;
    println!();
    print_table(&rows);
    if let Some(path) = &args.json {
        let text = serde_json::to_string_pretty(&rows)?;
        std::fs::write(path, text + "\n").with_context(|| format!("cannot write {}", path.display()))?;
    }
    let well = rows.iter().all(Row::is_as_expected);
    Ok(if well {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

async fn all(args: &Args) -> Vec<Row> {
    let mut rows = Vec::new();
    for fault in Fault::ALL {
        if !args.only.is_empty() && !args.only.contains(&fault) {
            continue;
        }
        let began = Instant::now();
        let row = fault.run().await;
        println!("{} ({:.0} s)", row.fault, began.elapsed().as_secs_f64());
        println!("  {}", row.account);
        for note in &row.notes {
            println!("  {note}");
        }
        for complaint in &row.complaints {
            println!("  NOT AS EXPECTED: {complaint}");
        }
        rows.push(row);
    }
    rows
}

fn print_table(rows: &[Row]) {
    println!(
        "{:<28} {:>6} {:>6} {:>8} {:>10} {:>6}  as expected",
        "fault", "sent", "failed", "excused", "recovery", "counts"
    );
    for row in rows {
        println!(
            "{:<28} {:>6} {:>6} {:>8} {:>8.1} s {:>6}  {}",
            row.fault,
            row.sent,
            row.failed,
            row.excused,
            row.recovery_s,
            if row.counts_equal { "equal" } else { "differ" },
            if row.is_as_expected() { "yes" } else { "NO" }
        );
    }
}
