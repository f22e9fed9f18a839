//! `make playground`: the whole loop on this machine, and a report of what it did.
//!
//! The playground owns the world (areas, Envoys, cells, WAN) and the load; the controller is the `gma` command in a
//! process of its own, with the shipped defaults. The playground changes the WAN and watches; it never tells the
//! controller anything.

mod controller;
mod counts;
mod http;
mod plan;
mod report;
mod scenario;
mod timeline;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

/// Offload and unoffload on this machine, with a report.
#[derive(Debug, Parser)]
#[command(name = "gma-playground")]
struct Args {
    /// Changes the work model, the WAN and the arrivals.
    #[arg(long, default_value_t = 1)]
    seed: u64,

    /// User requests a second.
    #[arg(long, default_value_t = 80.0)]
    rate: f64,

    /// Keep everything running at the end, and print the address of the state.
    #[arg(long)]
    stay: bool,

    /// Write the report as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    // Only what the world warns of; the controller has its own log.
    tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::WARN)
        .init();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let result = runtime.map_err(anyhow::Error::from).and_then(|runtime| {
        runtime.block_on(async {
            let (well, standing) = tokio::select! {
                result = scenario::run(&args) => result?,
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
        })
    });
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("playground: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn end_signal() -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = terminate.recv() => Ok(()),
        interrupted = tokio::signal::ctrl_c() => interrupted,
    }
}
