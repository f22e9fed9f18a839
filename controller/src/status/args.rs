//! Arguments of `gma status` and `gma explain`.

use clap::Args;

use crate::args::OutputFormat;

/// Where the controller listens.
#[derive(Clone, Debug, Args)]
pub struct AddressArgs {
    /// Address of the controller's HTTP server.
    #[arg(
        long,
        env = "GMA_ADDRESS",
        value_name = "URL",
        default_value = "http://127.0.0.1:8080"
    )]
    pub address: String,

    /// Which EdgePlacement, where the controller looks after several [default: the oldest].
    #[arg(long, value_name = "NAMESPACE/NAME")]
    pub object: Option<String>,
}

/// Arguments of `gma status`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    #[command(flatten)]
    pub address: AddressArgs,

    /// Show it anew each second, until Ctrl-C. Piped, or as JSON: one line for each look.
    #[arg(short, long)]
    pub watch: bool,

    /// Format of the result.
    #[arg(short, long, value_enum, default_value_t = OutputFormat::Table)]
    pub output: OutputFormat,
}

/// Arguments of `gma explain`.
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// One edge [default: all].
    pub edge: Option<String>,

    /// A decision by its number [default: the last of each edge].
    #[arg(long, value_name = "ID")]
    pub decision: Option<u64>,

    #[command(flatten)]
    pub address: AddressArgs,

    /// Format of the result.
    #[arg(short, long, value_enum, default_value_t = OutputFormat::Table)]
    pub output: OutputFormat,
}
