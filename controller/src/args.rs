//! Arguments of the command, each with an environment variable and a default.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};
use gma_core::decide::{Band, Config, Mode, Objective, Statistic};
use gma_core::ids::AreaName;
use gma_core::model::Standby;

use crate::check::CheckArgs;
use crate::convert::ConvertArgs;
use crate::plan::Method;
use crate::simulate::SimulateArgs;
use crate::status::{ExplainArgs, StatusArgs};
use crate::uninstall::UninstallArgs;

/// Keeps the delay of edge users inside a band at the lowest cost.
#[derive(Debug, Parser)]
#[command(name = "gma", version)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What the command can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the controller.
    Run(RunArgs),
    /// Show what a running controller does.
    Status(StatusArgs),
    /// Explain a decision of a running controller, or why it does nothing.
    Explain(ExplainArgs),
    /// Find what of a Kubernetes cluster keeps an EdgePlacement from working, with what ends it.
    Check(CheckArgs),
    /// Delete EdgePlacements and see that what was changed for them is given back, with a controller or without.
    Uninstall(UninstallArgs),
    /// Turn a muPlacer configuration and the Kubernetes YAMLs that it lists into a placement problem.
    Convert(ConvertArgs),
    /// Plan a placement for a problem file, offline.
    Plan(PlanArgs),
    /// Compare strategies and the solver on random applications.
    Simulate(SimulateArgs),
    /// Compare the model, the strategies and the solver with recorded cases of the reference.
    Verify(VerifyArgs),
    /// Print the CustomResourceDefinition of EdgePlacement as YAML, for `kubectl apply -f -`.
    Crd,
}

/// Arguments of `gma verify`.
#[derive(Debug, ClapArgs)]
pub struct VerifyArgs {
    /// Recorded cases, or folders of them.
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,

    /// Format of the result.
    #[arg(short, long, value_enum, default_value_t = OutputFormat::Table)]
    pub output: OutputFormat,
}

/// Format of a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OutputFormat {
    /// Text for people.
    Table,
    /// JSON.
    Json,
    /// YAML.
    Yaml,
}

/// Arguments of `gma run`.
#[derive(Debug, ClapArgs)]
pub struct RunArgs {
    /// Run on this machine's processes instead of Kubernetes: a topology file, or none for the embedded one.
    #[arg(long, value_name = "TOPOLOGY")]
    pub local: Option<Option<PathBuf>>,

    /// Steer areas that run already, by their socket, instead of starting them.
    #[arg(long, env = "GMA_WORLD", value_name = "SOCKET")]
    pub world: Option<PathBuf>,

    /// File for what a restarted controller must know [default: controller.json beside the world's socket].
    #[arg(long, env = "GMA_STATE", value_name = "FILE")]
    pub state: Option<PathBuf>,

    /// Address for reports, probes, metrics and the state.
    #[arg(long, env = "GMA_LISTEN", default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,

    #[command(flatten)]
    pub objective: ObjectiveArgs,

    #[command(flatten)]
    pub kubernetes: KubernetesArgs,

    #[command(flatten)]
    pub log: LogArgs,
}

/// Where the controller runs in Kubernetes. The cluster is that of `KUBECONFIG`, or the pod's own.
#[derive(Clone, Debug, ClapArgs)]
#[command(next_help_heading = "Kubernetes (without --local)")]
pub struct KubernetesArgs {
    /// The controller's own namespace: its lease and its memory are there.
    #[arg(
        long,
        env = "POD_NAMESPACE",
        value_name = "NAMESPACE",
        default_value = "gma-system"
    )]
    pub namespace: String,

    /// The controller's own pod, which gets the label that the Service for reports selects.
    #[arg(long, env = "POD_NAME", value_name = "POD")]
    pub pod: Option<String>,

    #[command(flatten)]
    pub mesh: MeshArgs,
}

/// What a cluster calls things.
#[derive(Clone, Debug, ClapArgs)]
pub struct MeshArgs {
    /// Domain of the cluster's services.
    #[arg(
        long,
        env = "GMA_CLUSTER_DOMAIN",
        value_name = "DOMAIN",
        default_value = "cluster.local"
    )]
    pub cluster_domain: String,

    /// The mesh's root namespace.
    #[arg(
        long,
        env = "GMA_ROOT_NAMESPACE",
        value_name = "NAMESPACE",
        default_value = "istio-system"
    )]
    pub root_namespace: String,
}

/// Arguments of `gma plan`.
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Exit codes: 0 the targets are met, 1 bad input, 2 wrong arguments, 3 a target is not met or a capacity exceeded (the \
                        best placement that was found is printed with the reason)."
)]
pub struct PlanArgs {
    /// Problem, a YAML or JSON file (- for standard input).
    #[arg(required_unless_present = "schema")]
    pub file: Option<PathBuf>,

    /// How to place: solver, or a strategy of the µPlacer reference (SBMP, COPAMP, MFU, IA, Kahn, TA).
    #[arg(
        long,
        value_name = "NAME",
        default_value = "solver",
        conflicts_with = "compare"
    )]
    pub strategy: Method,

    /// Show the solver and all strategies side by side.
    #[arg(long)]
    pub compare: bool,

    /// Format of the result.
    #[arg(short, long, value_enum, default_value_t = OutputFormat::Table)]
    pub output: OutputFormat,

    /// Placements to evaluate at most [default: 50000, fewer where the problem is very large].
    #[arg(long, value_name = "EVALUATIONS")]
    pub budget: Option<u64>,

    /// Print the JSON Schema of problem files.
    #[arg(long)]
    pub schema: bool,
}

/// The band and what may be done to stay in it.
#[derive(Clone, Debug, ClapArgs)]
#[command(next_help_heading = "Objective (with --local; in Kubernetes an EdgePlacement says it)")]
pub struct ObjectiveArgs {
    /// Statistic of the user delay that is held in the band.
    #[arg(long, env = "GMA_STATISTIC", value_enum, default_value_t = StatisticArg::Mean)]
    pub statistic: StatisticArg,

    /// Upper bound of the band, e.g. 120ms.
    #[arg(long, env = "GMA_OFFLOAD_ABOVE", default_value = "120ms", value_parser = parse_duration)]
    pub offload_above: Duration,

    /// Lower bound of the band, e.g. 60ms.
    #[arg(long, env = "GMA_UNOFFLOAD_BELOW", default_value = "60ms", value_parser = parse_duration)]
    pub unoffload_below: Duration,

    /// What callers at an edge leave on the cloud; without it as the statistic needs: failover for p95 and p99.
    #[arg(long, env = "GMA_STANDBY", value_enum)]
    pub standby: Option<StandbyArg>,

    /// What the controller may do.
    #[arg(long, env = "GMA_MODE", value_enum, default_value_t = ModeArg::Enforce)]
    pub mode: ModeArg,
}

/// A statistic of the user delay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum StatisticArg {
    /// Arithmetic mean.
    Mean,
    /// Median.
    P50,
    /// 90th percentile.
    P90,
    /// 95th percentile.
    P95,
    /// 99th percentile.
    P99,
}

/// A form of the standby.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum StandbyArg {
    /// 1 % of the calls.
    Distribute,
    /// Nothing, until the edge has no healthy endpoint.
    Failover,
}

impl StandbyArg {
    const fn to_standby(self) -> Standby {
        match self {
            Self::Distribute => Standby::Distribute(1),
            Self::Failover => Standby::Failover,
        }
    }
}

/// How far the controller may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ModeArg {
    /// Measure.
    Observe,
    /// Decide and say, but do not act.
    Recommend,
    /// Act.
    Enforce,
}

/// Logging.
#[derive(Clone, Debug, ClapArgs)]
#[command(next_help_heading = "Logging")]
pub struct LogArgs {
    /// Format of the log.
    #[arg(long, env = "GMA_LOG_FORMAT", value_enum, default_value_t = LogFormat::Plain)]
    pub log_format: LogFormat,

    /// What is logged, e.g. `info` or `gma=debug,info`.
    #[arg(long, env = "GMA_LOG", default_value = "info")]
    pub log_filter: String,
}

/// Format of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Text.
    Plain,
    /// One JSON object a line.
    Json,
}

impl ObjectiveArgs {
    /// The decision machine's configuration for these areas: the given objective over the design's defaults.
    ///
    /// # Errors
    /// Where the band is empty.
    pub fn to_config(
        &self,
        cloud: AreaName,
        edges: impl IntoIterator<Item = AreaName>,
    ) -> anyhow::Result<Config> {
        let band = Band::try_new(self.unoffload_below, self.offload_above).with_context(|| {
            format!(
                "--unoffload-below {:?} must be below --offload-above {:?}: lower the first or raise the second",
                self.unoffload_below, self.offload_above
            )
        })?;
        let statistic = match self.statistic {
            StatisticArg::Mean => Statistic::Mean,
            StatisticArg::P50 => Statistic::P50,
            StatisticArg::P90 => Statistic::P90,
            StatisticArg::P95 => Statistic::P95,
            StatisticArg::P99 => Statistic::P99,
        };
        let mut config = Config::new(cloud, edges);
        for objective in config.edges.values_mut() {
            *objective = Objective {
                band,
                statistic,
                standby: self.standby.map(StandbyArg::to_standby),
            };
        }
        config.mode = match self.mode {
            ModeArg::Observe => Mode::Observe,
            ModeArg::Recommend => Mode::Recommend,
            ModeArg::Enforce => Mode::Enforce,
        };
        Ok(config)
    }
}

/// Parses `250us`, `120ms`, `1.5s`, `2m`.
///
/// # Errors
/// Says what a duration looks like.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let split = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let scale = match unit {
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(format!("`{text}` needs a unit: us, ms, s, m or h, e.g. 120ms")),
    };
    let number: f64 = number
        .parse()
        .map_err(|_| format!("`{number}` in `{text}` is no number, e.g. 120ms or 1.5s"))?;
    Duration::try_from_secs_f64(number * scale).map_err(|error| format!("`{text}`: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run_args(args: &[&str]) -> RunArgs {
        let Command::Run(run) = Args::parse_from([&["gma", "run", "--local"], args].concat()).command else {
            panic!("no `run`");
        };
        run
    }

    #[test]
    fn durations_are_read_with_their_unit() {
        assert_eq!(parse_duration("120ms"), Ok(Duration::from_millis(120)));
        assert_eq!(parse_duration("1.5s"), Ok(Duration::from_millis(1500)));
        for wrong in ["120", "ms", "-1s", "1 fortnight", ""] {
            assert!(parse_duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_empty_band_is_refused_with_both_bounds() {
        let run = run_args(&["--offload-above", "50ms", "--unoffload-below", "60ms"]);
        let error = run
            .objective
            .to_config("cloud".into(), [])
            .unwrap_err()
            .to_string();
        assert!(error.contains("50ms") && error.contains("60ms"), "{error}");
    }

    #[test]
    fn the_defaults_are_those_of_the_decision_machine_and_they_act() {
        let edges = || [AreaName::from("edge-1")];
        let config = run_args(&[])
            .objective
            .to_config("cloud".into(), edges())
            .unwrap();
        let shipped = Config {
            mode: Mode::Enforce,
            ..Config::new("cloud".into(), edges())
        };
        assert_eq!(config, shipped);
    }
}
