//! `gma simulate`: sweeps over random applications, every strategy side by side; and the load ramp, which runs the whole
//! controller on a simulated world.

pub mod closed;
mod experiment;
mod methods;
pub mod noise;
mod output;
mod plot;
mod ramp;
mod recorded;
mod statistics;
mod trials;

use std::fmt::Write as _;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use anyhow::ensure;
use clap::{Args, ValueEnum};

use crate::args::OutputFormat;
use crate::output::{print, shown};
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
    /// What the sweep changes; or the load ramp under the decision machine.
    #[arg(long, value_enum)]
    pub experiment: Choice,

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

    /// Format of what is printed.
    #[arg(short, long, value_enum, default_value_t = OutputFormat::Table)]
    pub output: OutputFormat,
}

/// What is simulated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Choice {
    /// Services of the application: 10 to 200.
    Size,
    /// Target delay: 60 to 180 ms.
    Delay,
    /// Round trip between edge and cloud: 40 to 200 ms.
    Rtt,
    /// Bandwidth from cloud to edge: 0.2 to 1.8 Gbit/s.
    Bandwidth,
    /// Expanding depth of SBMP and COPAMP: 1 to 5, and 1000.
    Depth,
    /// Load of 40, 500 and 40 requests a second in ramps, under the decision machine.
    Ramp,
}

// === impl Choice ===

impl Choice {
    /// The sweep; none for what is none.
    const fn sweep(self) -> Option<Experiment> {
        Some(match self {
            Self::Size => Experiment::Size,
            Self::Delay => Experiment::Delay,
            Self::Rtt => Experiment::Rtt,
            Self::Bandwidth => Experiment::Bandwidth,
            Self::Depth => Experiment::Depth,
            Self::Ramp => return None,
        })
    }
}

/// Runs the sweep, writes the files and prints the table.
///
/// # Errors
/// A flag makes no sense, or a file can't be read or written: which, and what to do.
pub fn main(args: &SimulateArgs) -> anyhow::Result<()> {
    let Some(experiment) = args.experiment.sweep() else {
        ensure!(
            args.points.is_empty() && args.strategies.is_empty() && args.instances.is_none(),
            "--experiment ramp runs the controller's own planner on one application: leave --points, --strategies and \
             --instances out"
        );
        return ramp::main(args);
    };
    let recorded = args.instances.as_deref().map(Recorded::read).transpose()?;
    let plan = plan(args, experiment, recorded.as_ref())?;
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
    let mut table = results.table()?;
    for file in files {
        writeln!(table, "wrote {}", file.display())?;
    }
    print(&shown(&results.document(), args.output, |_| table)?)
}

fn plan(args: &SimulateArgs, experiment: Experiment, recorded: Option<&Recorded>) -> anyhow::Result<Plan> {
    ensure!(args.trials > 0, "--trials 0 gives no result: give at least 1");
    let mut values = if args.points.is_empty() {
        experiment.points()
    } else {
        args.points.clone()
    };
    values.sort_unstable_by(f64::total_cmp);
    values.dedup();
    let points: Vec<(f64, Setting)> = values
        .into_iter()
        .map(|point| Ok((point, experiment.setting(point, args.services)?)))
        .collect::<anyhow::Result<_>>()?;
    for (_, setting) in &points {
        ensure!(
            (1..=MAX_SERVICES).contains(&setting.services),
            "{} services: give 1 to {MAX_SERVICES} with --services, or as --points of --experiment size",
            setting.services
        );
    }
    ensure!(
        recorded.is_none() || experiment != Experiment::Size,
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
        methods.retain(|method| experiment != Experiment::Depth || method.uses_depth());
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
        experiment,
        points,
        trials,
        methods,
        applications,
        threads: args.threads.map_or(cores, |threads| threads.get().min(cores)),
    })
}
