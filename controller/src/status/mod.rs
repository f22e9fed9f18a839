//! `gma status` and `gma explain`: the controller's own account, from its HTTP API.
//!
//! Both read `/api/v1/state` once (`--watch`: each second) and know nothing else; what a sentence says, the controller
//! wrote.

mod args;
mod client;
mod error;
mod explain;
mod paint;
mod read;
mod report;
mod table;
mod watch;

use std::process::ExitCode;

use anyhow::Context as _;

use crate::output::{print, shown};

pub use args::{AddressArgs, ExplainArgs, StatusArgs};
pub use client::Client;
pub use error::StatusError;
pub use explain::{Explanation, Held, Step};
pub use read::StateView;
pub use report::{
    BandReport, CoverageReport, DelayReport, EdgeReport, PlacedReport, PlanReport, StatusReport,
};

pub(crate) use paint::{Paint, Tone};

/// Runs `gma status`.
///
/// # Errors
/// Nothing answers, it is no controller, or it has seen nothing yet: each with the remedy.
pub fn status(args: &StatusArgs) -> anyhow::Result<ExitCode> {
    let client = Client::new(&args.address.address, args.address.object.as_deref())?;
    runtime()?.block_on(async {
        if args.watch {
            return watch::run(&client, args.output).await;
        }
        let report = StatusReport::of(&client.state().await?)?;
        let paint = Paint::of_stdout();
        print(&shown(&report, args.output, |report| table::all(report, paint))?)
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Runs `gma explain`.
///
/// # Errors
/// As [`status`], and an edge or a decision that the controller does not know.
pub fn explain(args: &ExplainArgs) -> anyhow::Result<ExitCode> {
    let client = Client::new(&args.address.address, args.address.object.as_deref())?;
    let state = runtime()?.block_on(client.state())?;
    let explanations = explain::explain(&state, args.edge.as_deref(), args.decision)?;
    let paint = Paint::of_stdout();
    print(&shown(&explanations, args.output, |all| {
        explain::text(all, paint)
    })?)?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("no async runtime could be started")
}
