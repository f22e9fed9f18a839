//! `gma plan`: a problem file in, a placement out. Nothing is changed anywhere.

mod fill;
mod report;
mod solve;
mod table;

use std::io::IsTerminal as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use gma_core::solver::Budget;
use indicatif::ProgressBar;

use crate::args::{OutputFormat, PlanArgs};
use crate::output::{print, shown};
use crate::problem::{Loaded, schema};

pub use report::{
    BoundReport, CompareReport, CostReport, CostTerms, DelayReport, Difference, EdgeCostTerms, EdgePlan,
    MethodReport, PlanReport, ProblemSummary, RunnerUpReport, UseReport,
};
pub use solve::Method;

/// Exit code where an edge's target is not met or a capacity is exceeded: the best reachable placement is printed. 1 is
/// bad input, 2 a wrong argument.
pub const TARGET_NOT_MET: u8 = 3;

/// Runs the command.
///
/// # Errors
/// Bad input: each fault with its path, line and remedy.
pub fn run(args: &PlanArgs) -> anyhow::Result<ExitCode> {
    if args.schema {
        print(&(serde_json::to_string_pretty(&schema())? + "\n"))?;
        return Ok(ExitCode::SUCCESS);
    }
    let file = args
        .file
        .as_deref()
        .context("give a problem file, or - for standard input")?;
    let loaded = Loaded::read(file)?;
    let summary = ProblemSummary::new(&loaded, &name_of(file));
    let budget = |method: Method| {
        let given = args.budget.map(|evaluations| Budget { evaluations });
        given.unwrap_or_else(|| method.default_budget(&loaded.problem))
    };
    let progress = progress();
    let met = if args.compare {
        compare(&loaded, summary, &budget, args.output, &progress)?
    } else {
        progress.set_message(format!("{}: {}", summary.name, args.strategy));
        let answer = solve::run(
            args.strategy,
            &loaded.problem,
            &loaded.current,
            budget(args.strategy),
        );
        progress.finish_and_clear();
        let report = PlanReport::new(&loaded, summary, &answer);
        print(&shown(&report, args.output, table::plan)?)?;
        report.target_met != Some(false) && report.breaks.is_empty()
    };
    Ok(if met {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(TARGET_NOT_MET)
    })
}

/// Runs all methods; says whether the solver, the first of them, meets the targets within the capacities.
fn compare(
    loaded: &Loaded,
    problem: ProblemSummary,
    budget: &dyn Fn(Method) -> Budget,
    output: OutputFormat,
    progress: &ProgressBar,
) -> anyhow::Result<bool> {
    let mut methods = Vec::new();
    for method in Method::all() {
        progress.set_message(format!("{}: {method}", problem.name));
        let answer = solve::run(method, &loaded.problem, &loaded.current, budget(method));
        methods.push(MethodReport::new(loaded, &answer));
    }
    progress.finish_and_clear();
    let met = methods
        .first()
        .is_some_and(|solver| solver.target_met != Some(false) && solver.breaks.is_empty());
    let report = CompareReport {
        api_version: crate::problem::ApiVersion::default(),
        kind: "PlacementComparison",
        problem,
        methods,
    };
    let edges: Vec<String> = loaded.file.edges.iter().map(|edge| edge.name.clone()).collect();
    print(&shown(&report, output, |report| table::compare(report, &edges))?)?;
    Ok(met)
}

/// The file's name without folder and extension.
fn name_of(file: &Path) -> String {
    file.file_stem()
        .map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}

/// A sign of life for whoever waits at a terminal; nothing where the output is piped.
fn progress() -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let progress = ProgressBar::new_spinner();
    progress.enable_steady_tick(Duration::from_millis(100));
    progress
}
