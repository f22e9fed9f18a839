//! The command line.

use std::{fmt, net::SocketAddr, path::PathBuf, str::FromStr, time::Duration};

use clap::{Parser, Subcommand};

/// A workload that reads muBench work models, and a load generator.
#[derive(Debug, Parser)]
#[command(name = "gma-cell", version)]
pub(crate) struct Args {
    /// End at once when the process that started this one ends
    #[arg(long, global = true)]
    pub(crate) die_with_parent: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve one service of a work model
    Serve(ServeArgs),
    /// Send requests and report delays, errors and quantiles
    Load(LoadArgs),
    /// Print a work model
    Generate(GenerateArgs),
}

#[derive(Debug, clap::Args)]
pub(crate) struct ServeArgs {
    /// muBench's workmodel.json
    #[arg(long, value_name = "FILE", env = "GMA_CELL_WORKMODEL")]
    pub(crate) workmodel: PathBuf,
    /// The service of the model that this cell is
    #[arg(long, value_name = "NAME", env = "APP")]
    pub(crate) service: String,
    /// Where to listen; port 0 takes a free one and prints it
    #[arg(
        long,
        value_name = "ADDR",
        default_value = "0.0.0.0:8080",
        env = "GMA_CELL_LISTEN"
    )]
    pub(crate) listen: SocketAddr,
    /// Where calls go, with the callee's host in the Host header; without it, to that host itself
    #[arg(long, value_name = "ADDR", env = "GMA_CELL_EGRESS")]
    pub(crate) egress: Option<SocketAddr>,
    /// Completes a callee's host that has no dot
    #[arg(long, value_name = "SUFFIX", default_value = "", env = "GMA_CELL_HOST_SUFFIX")]
    pub(crate) host_suffix: String,
    /// Label of the metrics and x-cell-zone of the answers
    #[arg(long, value_name = "NAME", default_value = "", env = "ZONE")]
    pub(crate) zone: String,
    /// Label of the metrics [default: the service]
    #[arg(long, value_name = "NAME", env = "K8S_APP")]
    pub(crate) app: Option<String>,
    /// Of everything that is drawn
    #[arg(long, value_name = "N", default_value_t = 0, env = "GMA_CELL_SEED")]
    pub(crate) seed: u64,
    /// A file that says how to misbehave, looked at while it runs: {"fail": "all" | {"bid": "NAME"}, "busy": SHARE}
    #[arg(long, value_name = "FILE", env = "GMA_CELL_FAULTS")]
    pub(crate) faults: Option<PathBuf>,
    /// How long requests may go on after SIGTERM; it ends earlier once none is left
    #[arg(long, value_name = "TIME", default_value = "60s", env = "GMA_CELL_GRACE")]
    pub(crate) grace: Time,
}

#[derive(Debug, clap::Args)]
pub(crate) struct LoadArgs {
    /// http://HOST:PORT/PATH
    #[arg(long)]
    pub(crate) url: String,
    /// Host header, where it is not the URL's host
    #[arg(long, value_name = "NAME")]
    pub(crate) host: Option<String>,
    /// A header of each request, NAME: VALUE; may be repeated
    #[arg(long, value_name = "HEADER")]
    pub(crate) header: Vec<String>,
    /// Requests a second, however the server does
    #[arg(long, value_name = "N", conflicts_with = "closed")]
    pub(crate) rate: Option<f64>,
    /// Exponential gaps instead of constant ones
    #[arg(long, conflicts_with = "closed")]
    pub(crate) poisson: bool,
    /// As fast as the server answers
    #[arg(long)]
    pub(crate) closed: bool,
    /// With --closed: answer each line on the standard input with "COMPLETED FAILED"; its end is the end
    #[arg(long, requires = "closed")]
    pub(crate) count_on_stdin: bool,
    /// How long; without it, until Ctrl-C
    #[arg(long, value_name = "TIME")]
    pub(crate) duration: Option<Time>,
    /// Requests that may be in flight at a time
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub(crate) connections: usize,
    /// When a request is given up
    #[arg(long, value_name = "TIME", default_value = "60s", conflicts_with = "closed")]
    pub(crate) timeout: Time,
    /// Of the gaps
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) seed: u64,
    /// Write the whole report there
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// No line a second
    #[arg(long)]
    pub(crate) quiet: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct GenerateArgs {
    /// The same seed gives the same model
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) seed: u64,
    /// How many, s0 included
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub(crate) services: usize,
    /// Part of the hosts, s0.NAMESPACE.svc.cluster.local
    #[arg(long, value_name = "NAME", default_value = "shop")]
    pub(crate) namespace: String,
    /// Mean delay of a request without network and work
    #[arg(long, value_name = "MS", default_value_t = 45.0)]
    pub(crate) delay_ms: f64,
}

/// A duration as `500ms`, `30s` or `2m`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Time(pub(crate) Duration);

// === impl Time ===

impl FromStr for Time {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let unit = text.get(digits.len()..).unwrap_or_default();
        let seconds = match unit {
            "ms" => 0.001,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3_600.0,
            _ => return Err("write a number and its unit: 500ms, 30s, 2m, 1h".to_owned()),
        };
        let number: f64 = digits.parse().map_err(|_| format!("\"{digits}\" is no number"))?;
        Duration::try_from_secs_f64(number * seconds)
            .map(Self)
            .map_err(|error| error.to_string())
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn times_need_a_unit() {
        let parse = |text: &str| text.parse::<Time>().map(|time| time.0.as_millis());
        assert_eq!(parse("500ms"), Ok(500));
        assert_eq!(parse("1.5s"), Ok(1_500));
        assert_eq!(parse("2m"), Ok(120_000));
        for wrong in ["30", "", "s", "-1s", "1d", "1e30h"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
