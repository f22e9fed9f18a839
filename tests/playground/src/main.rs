//! `make playground`: the whole loop on this machine, and a report of what it did.
//!
//! The playground owns the world (areas, Envoys, cells, WAN) and the users; the controller is the `gma` command in a
//! process of its own, with the shipped defaults. The playground changes the world and watches; it never tells the
//! controller anything.

mod controller;
mod counts;
mod http;
mod judge;
mod moves;
mod plan;
mod report;
mod scenario;
mod stage;
mod timeline;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::Parser;
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::{LevelFilter, filter_fn};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use scenario::Scenario;

/// The whole loop on this machine, with a report. Exits with 1 and says why where something was not as it should be.
#[derive(Debug, Parser)]
#[command(name = "gma-playground")]
struct Args {
    /// What happens.
    #[arg(long, value_enum, default_value_t = Scenario::OffloadUnoffload)]
    scenario: Scenario,

    /// Changes the work model, the WAN and the arrivals.
    #[arg(long, default_value_t = 1)]
    seed: u64,

    /// Requests a second of the users of edge-1; those of edge-2 send a quarter.
    #[arg(long)]
    rate: Option<f64>,

    /// Repeat what happens so many times (offload-unoffload only), and report the median.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    cycles: u32,

    /// Keep everything running at the end, and print the address of the page.
    #[arg(long)]
    stay: bool,

    /// Write the report as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Set once the user has ended it: what the world warns of then is what was asked for.
static ENDING: AtomicBool = AtomicBool::new(false);

fn main() -> ExitCode {
    let args = Args::parse();
    // Only what the world warns of; the controller has its own log.
    let warnings = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_filter(filter_fn(|_| !ENDING.load(Ordering::Relaxed)))
        .with_filter(LevelFilter::WARN);
    tracing_subscriber::registry().with(warnings).init();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let result = runtime
        .map_err(anyhow::Error::from)
        .and_then(|runtime| runtime.block_on(run(&args)));
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("playground: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: &Args) -> anyhow::Result<bool> {
    let (well, standing) = tokio::select! {
        result = scenario::run(args) => result?,
        signal = end_signal() => {
            signal?;
            anyhow::bail!("interrupted: everything was stopped")
        }
    };
    if let Some(standing) = standing {
        end_signal().await?;
        standing.stop().await;
    }
    Ok(well)
}

async fn end_signal() -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let ended = tokio::select! {
        _ = terminate.recv() => Ok(()),
        interrupted = tokio::signal::ctrl_c() => interrupted,
    };
    ENDING.store(true, Ordering::Relaxed);
    ended
}
