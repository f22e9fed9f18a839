//! Arguments of `gma convert`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// Arguments of `gma convert`.
#[derive(Clone, Debug, Args)]
pub struct ConvertArgs {
    /// muPlacer's configuration, usually GMAConfig.yaml.
    #[arg(value_name = "FILE")]
    pub config: PathBuf,

    /// What was measured (rates, calls, sizes, CPU use, delay), as YAML or JSON; without it the problem has zeros there.
    #[arg(long, value_name = "FILE")]
    pub metrics: Option<PathBuf>,

    /// Folder that relative paths in the configuration start from; default: its own, or the nearest above with the file.
    #[arg(long, value_name = "FOLDER")]
    pub base: Option<PathBuf>,

    /// Format of the result.
    #[arg(short = 'o', value_name = "FORMAT", value_enum, default_value_t = OutputFormat::Yaml)]
    pub format: OutputFormat,

    /// Where the result goes; default: standard output.
    #[arg(long, value_name = "OUT", value_parser = parse_output)]
    pub output: Option<PathBuf>,

    /// Where the report goes; default: standard error.
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
}

/// Format of a converted configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OutputFormat {
    /// A problem for `gma plan`, with the report as comments at its head.
    Yaml,
    /// A problem for `gma plan`.
    Json,
    /// An object for `kubectl apply`, with what to check and the report as comments at its head.
    #[value(name = "edgeplacement")]
    EdgePlacement,
}

/// `gma plan --output` is a format; whoever is used to that must not get a file of that name.
fn parse_output(text: &str) -> Result<PathBuf, String> {
    match OutputFormat::from_str(text, true) {
        Ok(_) => Err(format!("is a file here; for the format write -o {text}")),
        Err(_) => Ok(PathBuf::from(text)),
    }
}
