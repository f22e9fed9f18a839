//! What the filter costs in Envoy: CPU per request, side by side with no filter, with an empty filter and with the
//! same measurement on the stock SDK.
//!
//! ```text
//! gma-cell, closed loop ─► listener A ─► outbound|80||cart… ─► listener B ─► inbound|8080|| ─► listener C: "ok"
//!      (core 1)             filter                             filter        one Envoy, one worker (core 0)
//! ```
//!
//! The worker is saturated: it never sleeps, so no wake-up and no idle state is in the figure. CPU is what the
//! scheduler says (`schedstat`, all threads), divided by the requests that were completed meanwhile. Each sample is a new
//! process, because the layout of memory alone moves the figure by some percent. A round has one sample of each variant:
//! their Envoys live side by side and the load goes from one to the next in slices of 0.15 s, in an order that rotates and
//! turns round, because a machine's speed moves by 20 % within seconds where others use it. Figures are compared within
//! a round only. At ten copies a chain the filter's own cost stands out of the noise.
#![forbid(unsafe_code)]

mod config;
mod cores;
mod load;
mod result;
mod sample;
mod sink;
mod wrk;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;

use config::Variant;
use cores::Cores;
use result::{Outcome, Rounds};
use sample::{Programs, Timing};
use sink::Sink;

/// Copies of the filter in each chain where its own cost is measured.
const COPIES: usize = 10;
/// Load of the machine, other than this, above which the figures are doubtful.
const BUSY: f64 = 0.5;

/// CPU of Envoy per request: no filter, stock SDK, ours.
#[derive(Debug, Parser)]
#[command(name = "bench-filter")]
struct Args {
    /// Another module to put beside them; may be repeated
    #[arg(long, value_name = "WASM")]
    filter: Vec<PathBuf>,
    /// Rounds; each has one sample of each variant
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Length of a sample, s; rounded up to slices of 0.15 s
    #[arg(long, value_name = "S", default_value_t = 2.0)]
    seconds: f64,
    /// Load before a sample, s
    #[arg(long, value_name = "S", default_value_t = 0.7)]
    warm_up: f64,
    /// Write the result there
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Envoy's binary
    #[arg(
        long,
        value_name = "FILE",
        env = "GMA_ENVOY",
        default_value = ".tools/envoy/envoy/_bin/envoy"
    )]
    envoy: PathBuf,
    /// Our module
    #[arg(
        long,
        value_name = "WASM",
        env = "GMA_FILTER",
        default_value = "target/gma-filter.wasm"
    )]
    ours: PathBuf,
    /// Folder of the stock-SDK modules, empty.wasm and stock.wasm
    #[arg(
        long,
        value_name = "DIR",
        default_value = "target/wasm32-wasip1/wasm/examples"
    )]
    stock: PathBuf,
    /// Folder of gma-cell
    #[arg(long, value_name = "DIR", env = "GMA_BIN", default_value = "target/release")]
    bin: PathBuf,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let timing = Timing {
        warm_up: seconds("--warm-up", args.warm_up)?,
        sample: seconds("--seconds", args.seconds)?,
    };
    let programs = Programs {
        envoy: existing(&args.envoy, "run `make tools`, or set GMA_ENVOY")?,
        cell: existing(&args.bin.join("gma-cell"), "run `make build`, or set GMA_BIN")?,
    };
    let variants = variants(&args)?;
    let cores = Cores::find()?;
    let sink = Sink::start(&cores)?;

    warn_if_busy();
    wrk::check(&programs, &cores, sink.addr(), timing)?;
    let rounds = measure(&args, &variants, &|round| {
        let order = |turn: u32| order(round.wrapping_add(turn), variants.len());
        sample::take_round(&programs, &cores, sink.addr(), &variants, timing, &order)
    })?;
    let outcome = Outcome::of(&variants, &rounds);
    println!("\n{outcome}");
    println!(
        "{} reports reached the sink; {} were none.",
        sink.acked(),
        sink.refused()
    );
    ensure!(
        sink.acked() > 0,
        "our filter sent no report: it did not measure, and its figures mean nothing"
    );
    if let Some(path) = &args.json {
        let value = outcome.to_json(&rounds, &args.seconds, &programs.envoy);
        let text = serde_json::to_string_pretty(&value)? + "\n";
        std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

fn seconds(name: &str, value: f64) -> Result<Duration> {
    ensure!(
        (0.1..=600.0).contains(&value),
        "{name} is {value}; give 0.1 to 600"
    );
    Ok(Duration::from_secs_f64(value))
}

fn existing(path: &Path, remedy: &str) -> Result<PathBuf> {
    // Envoy gets it as its own argument; relative to what is nobody's guess.
    path.canonicalize()
        .with_context(|| format!("{} is missing: {remedy}", path.display()))
}

/// `none` and each module with one copy and with ten.
fn variants(args: &Args) -> Result<Vec<Variant>> {
    let stock = "run `cargo build -p gma-filter --examples --target wasm32-wasip1 --profile wasm`";
    let mut modules = vec![
        (
            result::EMPTY.to_owned(),
            existing(&args.stock.join("empty.wasm"), stock)?,
        ),
        (
            result::STOCK.to_owned(),
            existing(&args.stock.join("stock.wasm"), stock)?,
        ),
        (
            result::OURS.to_owned(),
            existing(&args.ours, "run `make filter`, or set GMA_FILTER")?,
        ),
    ];
    for path in &args.filter {
        let path = existing(path, "give --filter an existing module")?;
        let stem = path
            .file_stem()
            .map(|stem| stem.to_string_lossy().into_owned())
            .unwrap_or_default();
        if modules.iter().any(|(name, _)| *name == stem) || stem == result::NONE {
            bail!("two modules are named {stem}: rename one, the table would be ambiguous");
        }
        modules.push((stem, path));
    }
    let none = Variant {
        name: result::NONE.to_owned(),
        module: None,
        copies: 0,
    };
    let of = |copies| {
        modules.iter().map(move |(name, path)| Variant {
            name: name.clone(),
            module: Some(path.clone()),
            copies,
        })
    };
    Ok(std::iter::once(none).chain(of(1)).chain(of(COPIES)).collect())
}

fn measure(
    args: &Args,
    variants: &[Variant],
    take: &dyn Fn(u32) -> Result<Vec<sample::Sample>>,
) -> Result<Rounds> {
    let mut rounds = Rounds::default();
    for round in 0..args.rounds {
        let samples = take(round)?;
        for (variant, sample) in variants.iter().zip(&samples) {
            eprintln!(
                "round {:>2} of {}  {:<24} {:>7.1} us/request  {:>6.0} requests/s",
                round + 1,
                args.rounds,
                variant.to_string(),
                sample.cpu_us,
                sample.per_second
            );
        }
        rounds.add(samples);
    }
    Ok(rounds)
}

/// The order within a turn: rotated by one each turn, every second one backwards.
fn order(turn: u32, variants: usize) -> Vec<usize> {
    let start = turn as usize % variants;
    let mut order: Vec<usize> = (0..variants).map(|ix| (start + ix) % variants).collect();
    if turn % 2 == 1 {
        order.reverse();
    }
    order
}

fn warn_if_busy() {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    if let Some(load) = text
        .split(' ')
        .next()
        .and_then(|load| load.parse::<f64>().ok())
        .filter(|load| *load > BUSY)
    {
        eprintln!("this machine is busy (load {load}): the figures will be noisy; better run this alone");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_turn_has_every_variant_and_another_start() {
        assert_eq!(order(0, 4), [0, 1, 2, 3]);
        assert_eq!(order(1, 4), [0, 3, 2, 1]);
        assert_eq!(order(2, 4), [2, 3, 0, 1]);
        for turn in 0..20 {
            let mut order = order(turn, 7);
            order.sort_unstable();
            assert_eq!(order, [0, 1, 2, 3, 4, 5, 6]);
        }
    }
}
