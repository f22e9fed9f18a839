//! Results on standard output.

use std::io::{ErrorKind, Write as _};

use anyhow::Context as _;
use serde::Serialize;

use crate::args::OutputFormat;

/// A result in the format that was asked for; `table` writes it for people.
///
/// # Errors
/// The result can't be written in that format.
pub fn shown<T: Serialize>(
    result: &T,
    format: OutputFormat,
    table: impl FnOnce(&T) -> String,
) -> anyhow::Result<String> {
    Ok(match format {
        OutputFormat::Table => table(result),
        OutputFormat::Json => serde_json::to_string_pretty(result).context("the result is no JSON")? + "\n",
        OutputFormat::Yaml => serde_norway::to_string(result).context("the result is no YAML")?,
    })
}

/// Prints; a reader that has seen enough (`| head`) is no error.
///
/// # Errors
/// Nothing can be written there.
pub fn print(text: &str) -> anyhow::Result<()> {
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(error).context("the result can't be written")
        }
        _ => Ok(()),
    }
}
