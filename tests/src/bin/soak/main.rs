//! `make soak`: what takes longer than a test may. A table, JSON on request, and exit code 1 where a bound is broken.
#![forbid(unsafe_code)]

mod playground;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use anyhow::Context as _;
use clap::{Parser, ValueEnum};
use gma::simulate::closed::{Sweep, sweep};
use gma::simulate::noise::{self, ANSWERED_WITHIN, Row, STATISTICS};
use gma_core::decide::Statistic;
use playground::Run;
use serde::Serialize;

/// Thousands of seeds of the simulated world, hours of noise, and steps; then the loop on real Envoys.
#[derive(Debug, Parser)]
#[command(name = "soak")]
struct Args {
    /// One part only; may be repeated
    #[arg(long, value_enum)]
    only: Vec<Part>,
    /// First seed
    #[arg(long, default_value_t = 1)]
    first: u64,
    /// Seeds of the simulated world
    #[arg(long, default_value_t = 10_000)]
    seeds: u64,
    /// Simulated hours of noise, for each statistic and bound
    #[arg(long, default_value_t = 1_000)]
    hours: u64,
    /// Seeds of a step, for each statistic and bound
    #[arg(long, default_value_t = 1_000)]
    steps: u64,
    /// Noise and steps of one statistic only, mean, p50 or p95; may be repeated
    #[arg(long, value_parser = statistic)]
    statistic: Vec<Statistic>,
    /// Runs of the playground, a seed each
    #[arg(long, default_value_t = 5)]
    runs: u64,
    /// Offloads and unoffloads in the one run at 200 requests/s
    #[arg(long, default_value_t = 20)]
    cycles: u32,
    /// Write the results as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Requests a second at the first edge's gateway, for the cycles.
const CYCLES_RATE: &str = "200";

/// A part of the soak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// The controller on simulated worlds.
    Seeds,
    /// The decision machine on noise.
    Noise,
    /// The decision machine on a step.
    Step,
    /// The playground as it ships, several seeds.
    Runs,
    /// The playground at 200 requests/s, there and back again and again.
    Cycles,
}

#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Results {
    #[serde(skip_serializing_if = "Option::is_none")]
    seeds: Option<Sweep>,
    #[serde(skip_serializing_if = "Option::is_none")]
    noise: Option<Vec<Row>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    step: Option<Vec<Row>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    runs: Vec<Run>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cycles: Option<Run>,
}

fn main() -> anyhow::Result<ExitCode> {
    let args = Args::parse();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let wanted = |part| args.only.is_empty() || args.only.contains(&part);
    let mut results = Results::default();
    if wanted(Part::Seeds) {
        let told = Progress::new("seeds", args.seeds);
        let sweep = sweep(args.first, args.seeds, threads, &|| told.add(1))?;
        print_seeds(&sweep, &told);
        results.seeds = Some(sweep);
    }
    if wanted(Part::Noise) {
        results.noise = Some(noise(&args, threads));
    }
    if wanted(Part::Step) {
        results.step = Some(steps(&args, threads));
    }
    if wanted(Part::Runs) {
        for seed in 1..=args.runs {
            results.runs.push(Run::of(&["--seed", &seed.to_string()])?);
        }
        playground::print("runs", &results.runs);
    }
    if wanted(Part::Cycles) {
        let run = Run::of(&["--rate", CYCLES_RATE, "--cycles", &args.cycles.to_string()])?;
        playground::print("cycles", std::slice::from_ref(&run));
        results.cycles = Some(run);
    }
    if let Some(path) = &args.json {
        let text = serde_json::to_string_pretty(&results)?;
        std::fs::write(path, text + "\n").with_context(|| format!("cannot write {}", path.display()))?;
    }
    let rows = results.noise.iter().chain(&results.step).flatten();
    let wrong = rows.map(|row| row.wrong).sum::<u64>()
        + results.seeds.map_or(0, |sweep| sweep.failed + sweep.restless);
    let complaints: usize = results
        .runs
        .iter()
        .chain(&results.cycles)
        .map(|run| run.complaints.len())
        .sum();
    Ok(if wrong == 0 && complaints == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

// === impl Args ===

impl Args {
    fn statistics(&self) -> Vec<Statistic> {
        if self.statistic.is_empty() {
            STATISTICS.map(|(statistic, _)| statistic).to_vec()
        } else {
            self.statistic.clone()
        }
    }
}

fn statistic(name: &str) -> Result<Statistic, &'static str> {
    let mut known = STATISTICS.into_iter();
    let found = known.find(|(_, known)| *known == name);
    found.map(|(statistic, _)| statistic).ok_or("mean, p50 or p95")
}

fn noise(args: &Args, threads: usize) -> Vec<Row> {
    let told = Progress::new("hours of noise", args.hours * 2 * args.statistics().len() as u64);
    let rows = noise::noise(&args.statistics(), args.hours, threads, &|hours| told.add(hours));
    told.end();
    println!("{:<8}{:<14}{:>8}{:>9}", "noise", "true value", "hours", "actions");
    for row in &rows {
        println!(
            "{:<8}{:<14}{:>8}{:>9}",
            row.statistic, row.at, row.runs, row.wrong
        );
    }
    rows
}

fn steps(args: &Args, threads: usize) -> Vec<Row> {
    let told = Progress::new("steps", args.steps * 2 * args.statistics().len() as u64);
    let rows = noise::steps(&args.statistics(), args.steps, threads, &|seeds| told.add(seeds));
    told.end();
    println!(
        "{:<8}{:<14}{:>8}{:>13}{:>10}{:>11}",
        "step",
        "to",
        "seeds",
        format!("over {} s", ANSWERED_WITHIN.as_secs()),
        "median s",
        "longest s"
    );
    for row in &rows {
        let seconds = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.1}"));
        println!(
            "{:<8}{:<14}{:>8}{:>13}{:>10}{:>11}",
            row.statistic,
            row.at,
            row.runs,
            row.wrong,
            seconds(row.median_s),
            seconds(row.longest_s)
        );
    }
    rows
}

fn print_seeds(sweep: &Sweep, told: &Progress) {
    told.end();
    for failure in sweep.failures.iter().chain(&sweep.restless_stories) {
        println!("{failure}");
    }
    println!("seeds                {:>14}", sweep.seeds);
    println!("rules broken         {:>14}", sweep.failed);
    println!("late at rest         {:>14}", sweep.late);
    println!("not at rest          {:>14}", sweep.restless);
    println!("user requests        {:>14}", sweep.requests);
    println!("counted by proxies   {:>14}", sweep.counted);
    println!("moves                {:>14}", sweep.moves);
    println!("  kept               {:>14}", sweep.kept);
    println!("  went back          {:>14}", sweep.rolled_back);
    for (kind, count) in sweep.decisions.iter().chain(&sweep.faults) {
        println!("  {kind:<24}{count:>9}");
    }
    println!("most turns           {:>14}", sweep.most_turns);
    println!("at rest after, most  {:>12.0} s", sweep.longest_rest_after_s);
}

/// What was done so far, on standard error each tenth.
struct Progress {
    what: &'static str,
    all: u64,
    done: AtomicU64,
    began: Instant,
}

// === impl Progress ===

impl Progress {
    fn new(what: &'static str, all: u64) -> Self {
        Self {
            what,
            all,
            done: AtomicU64::new(0),
            began: Instant::now(),
        }
    }

    fn add(&self, more: u64) {
        let before = self.done.fetch_add(more, Ordering::Relaxed);
        let tenth = |done: u64| done * 10 / self.all.max(1);
        if tenth(before + more) > tenth(before) {
            let seconds = self.began.elapsed().as_secs();
            eprintln!(
                "{} of {} {} after {seconds} s",
                before + more,
                self.all,
                self.what
            );
        }
    }

    fn end(&self) {
        println!(
            "\n{} {} in {:.0} s",
            self.all,
            self.what,
            self.began.elapsed().as_secs_f64()
        );
    }
}
