//! `gma simulate`: sweeps over random applications, every strategy side by side.

pub mod closed;
mod experiment;
mod methods;
mod output;
mod plot;
mod recorded;
mod statistics;
mod trials;

use std::fmt::Write as _;
use std::io::Write as _;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use anyhow::{Context as _, ensure};
use clap::{Args, ValueEnum as _};

use experiment::{Applications, Setting};
pub use experiment::{Experiment, Graph};
pub use methods::Method;
use output::{Parameters, Results};
use recorded::Recorded;
use trials::Plan;

/// Services at most: some strategies take the cube of their number, at this one minutes a trial.
const MAX_SERVICES: usize = 1_000;
/// Runs (points, trials and strategies multiplied) at most: all are kept, at 500 services about 2 kB each.
const MAX_RUNS: usize = 100_000;

/// Arguments of `gma simulate`.
#[derive(Clone, Debug, Args)]
pub struct SimulateArgs {
    /// What the sweep changes.
    #[arg(long, value_enum)]
    pub experiment: Experiment,

    /// Applications for each point.
    #[arg(long, default_value_t = 10)]
    pub trials: usize,

    /// Draws the applications and what strategies sample.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,

    /// What decides the placements [default: all].
    #[arg(long, value_enum, value_delimiter = ',')]
    pub strategies: Vec<Method>,

    /// Values of the sweep, in ms, Gbit/s or as numbers [default: the simulators'].
    #[arg(long, value_delimiter = ',')]
    pub points: Vec<f64>,

    /// Services of the application, in all experiments but `size`.
    #[arg(long, default_value_t = 120)]
    pub services: usize,

    /// Call graphs.
    #[arg(long, value_enum, default_value_t = Graph::Simulators)]
    pub graph: Graph,

    /// Recorded applications (schema gma-sim-1), one a trial, in place of generated ones.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["trials", "services", "graph"])]
    pub instances: Option<PathBuf>,

    /// Trials at a time, at most the machine's cores [default: these].
    #[arg(long)]
    pub threads: Option<NonZeroUsize>,

    /// Directory of the results.
    #[arg(long, value_name = "DIR", default_value = "simulation")]
    pub out: PathBuf,
}

/// Runs the sweep, writes the files and prints the table.
///
/// # Errors
/// A flag makes no sense, or a file can't be read or written: which, and what to do.
pub fn main(args: &SimulateArgs) -> anyhow::Result<()> {
    let recorded = args.instances.as_deref().map(Recorded::read).transpose()?;
    let plan = plan(args, recorded.as_ref())?;
    output::prepare(&args.out)?;
    let runs = plan.run()?;
    let results = Results {
        parameters: Parameters {
            version: env!("CARGO_PKG_VERSION"),
            experiment: plan.experiment,
            seed: args.seed,
            trials: plan.trials,
            services: (plan.experiment != Experiment::Size && recorded.is_none()).then_some(args.services),
            graph: recorded.is_none().then_some(args.graph),
            instances: args.instances.clone(),
            strategies: plan.methods.clone(),
        },
        points: plan.points(&runs),
        comparisons: recorded
            .map(|recorded| recorded.compare(plan.experiment, &runs))
            .unwrap_or_default(),
        runs,
    };
    let files = results.write(&args.out)?;
    let mut text = results.table()?;
    for file in files {
        writeln!(text, "wrote {}", file.display())?;
    }
    print(&text)
}

/// A reader that has seen enough is no failure.
fn print(text: &str) -> anyhow::Result<()> {
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        result => result.context("the table can't be printed"),
    }
}

fn plan(args: &SimulateArgs, recorded: Option<&Recorded>) -> anyhow::Result<Plan> {
    ensure!(args.trials > 0, "--trials 0 gives no result: give at least 1");
    let mut values = if args.points.is_empty() {
        args.experiment.points()
    } else {
        args.points.clone()
    };
    values.sort_unstable_by(f64::total_cmp);
    values.dedup();
    let points: Vec<(f64, Setting)> = values
        .into_iter()
        .map(|point| Ok((point, args.experiment.setting(point, args.services)?)))
        .collect::<anyhow::Result<_>>()?;
    for (_, setting) in &points {
        ensure!(
            (1..=MAX_SERVICES).contains(&setting.services),
            "{} services: give 1 to {MAX_SERVICES} with --services, or as --points of --experiment size",
            setting.services
        );
    }
    ensure!(
        recorded.is_none() || args.experiment != Experiment::Size,
        "--experiment size draws its applications: leave --instances out"
    );
    let seed = args.seed;
    let (applications, trials) = match recorded {
        Some(recorded) => {
            let specs = recorded.specs()?;
            let trials = specs.len();
            (Applications::Recorded { specs, seed }, trials)
        }
        None => (
            Applications::Generated {
                graph: args.graph,
                seed,
            },
            args.trials,
        ),
    };
    let mut methods = args.strategies.clone();
    if methods.is_empty() {
        methods = Method::value_variants().to_vec();
        methods.retain(|method| args.experiment != Experiment::Depth || method.uses_depth());
    }
    methods.sort_unstable();
    methods.dedup();
    let runs = points.len().saturating_mul(trials).saturating_mul(methods.len());
    ensure!(
        runs <= MAX_RUNS,
        "{} points, {trials} trials and {} strategies are {runs} runs, more than {MAX_RUNS}: give fewer",
        points.len(),
        methods.len()
    );
    let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    Ok(Plan {
        experiment: args.experiment,
        points,
        trials,
        methods,
        applications,
        threads: args.threads.map_or(cores, |threads| threads.get().min(cores)),
    })
}
