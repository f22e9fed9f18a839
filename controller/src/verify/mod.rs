//! `gma verify`: ours against recorded cases of the µPlacer reference.
//!
//! A difference is on purpose only where it goes away once defects of the reference, each a rule that any input can be
//! run under ([`Rule`]), are repeated. No case is known by its name, and numbers are met to 1e-9 of the recorded ones.

mod compare;
mod connector;
mod error;
mod eval;
mod input;
mod instance;
mod optimum;
mod report;
mod rules;
mod strategy;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

pub use error::VerifyError;
pub use report::{Count, Difference, Line, Report, Verdict};
pub use rules::Rule;

use crate::args::VerifyArgs;
use crate::output;
use input::Text;

/// Files that are for reading only, and why.
const FOR_READING: [(&str, &str); 3] = [
    (
        "gma-controller-1",
        "for reading only: what the reference's controller did in scripted worlds",
    ),
    ("gma-timing-1", "for reading only: how long the reference takes"),
    ("gma-sim-1", "for reading only: the reference's sweeps"),
];

/// Exit code where a file could not be read.
const BAD_INPUT: u8 = 2;

/// Runs the command: 0 where nothing differs, 1 where something does, 2 where a file could not be read.
///
/// # Errors
/// The report can't be written.
pub fn main(args: &VerifyArgs) -> anyhow::Result<ExitCode> {
    let report = verify(&args.files);
    let text = output::shown(&report, args.output, Report::to_string)?;
    output::print(&text)?;
    for error in &report.errors {
        eprintln!("gma verify: {error}");
    }
    Ok(match (report.errors.is_empty(), report.differs()) {
        (false, _) => ExitCode::from(BAD_INPUT),
        (true, true) => ExitCode::FAILURE,
        (true, false) => ExitCode::SUCCESS,
    })
}

/// Compares with every file; a folder stands for the files in it that end in .json.
pub fn verify(files: &[PathBuf]) -> Report {
    let mut report = Report::default();
    for argument in files {
        let paths = match input::files(argument) {
            Ok(paths) => paths,
            Err(error) => {
                report.errors.push(error.to_string());
                continue;
            }
        };
        for path in paths {
            match Text::read(&path).and_then(|text| of_text(&text)) {
                Ok(lines) => report.lines.extend(lines),
                Err(error) => report.errors.push(error.to_string()),
            }
        }
    }
    report
}

fn of_text(text: &Text<'_>) -> Result<Vec<Line>, VerifyError> {
    let schema = text.schema()?;
    let items = match schema.as_str() {
        "gma-eval-1" => eval::verify(text)?,
        "gma-strategy-1" => strategy::verify(text)?,
        "gma-connector-1" => connector::verify(text)?,
        "gma-optimum-1" => optimum::verify(text)?,
        other => {
            let Some((_, reason)) = FOR_READING.iter().find(|(schema, _)| *schema == other) else {
                return Err(VerifyError::Schema {
                    path: text.path.to_owned(),
                    schema,
                });
            };
            let reason = (*reason).to_owned();
            vec![("file".to_owned(), Verdict::Skipped { reason })]
        }
    };
    let file = text.path.file_name().map_or_else(
        || text.path.display().to_string(),
        |name| name.to_string_lossy().into_owned(),
    );
    let line = |(item, verdict)| Line {
        file: file.clone(),
        schema: schema.clone(),
        item,
        verdict,
    };
    Ok(items.into_iter().map(line).collect())
}

/// Compares with a file's text.
///
/// # Errors
/// What is wrong with it.
pub fn verify_text(path: &Path, bytes: Vec<u8>) -> Result<Vec<Line>, VerifyError> {
    of_text(&Text::of(path, bytes))
}
