//! Writing of a conversion's results.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::args::{ConvertArgs, OutputFormat};
use super::error::ConvertError;
use super::{Conversion, Input, convert, object};

/// Fields that hold a placeholder while nothing was measured; where they hold 0 or nothing, they are marked.
const PLACEHOLDERS: [&str; 4] = ["userRequestsPerSecond", "userCalls", "responseSize", "cpuUse"];
/// The mark.
const TO_FILL: &str = "  # TO FILL, see above";

/// Runs `gma convert`.
///
/// # Errors
/// As [`convert`], or a result that cannot be written.
pub fn run(args: &ConvertArgs) -> Result<(), ConvertError> {
    let mut conversion = convert(&Input {
        config: args.config.clone(),
        metrics: args.metrics.clone(),
        base: args.base.clone(),
    })?;
    if args.format == OutputFormat::EdgePlacement {
        conversion.report = object::report(&conversion.report);
    }
    let text = render(&conversion, args.format)?;
    let report = conversion.report.to_text();
    match &args.report {
        Some(path) => write(path, &report)?,
        None => print(&mut io::stderr().lock(), "standard error", &report)?,
    }
    match &args.output {
        Some(path) => write(path, &text),
        None => print(&mut io::stdout().lock(), "standard output", &text),
    }
}

fn render(conversion: &Conversion, format: OutputFormat) -> Result<String, ConvertError> {
    let problem = &conversion.problem;
    let refused = |text: String| ConvertError::Problem {
        path: PathBuf::from(&conversion.report.source),
        text,
    };
    match format {
        OutputFormat::Yaml => {
            let yaml = problem.to_yaml().map_err(|error| refused(error.to_string()))?;
            let fields: Vec<&str> = PLACEHOLDERS
                .into_iter()
                .filter(|field| {
                    conversion
                        .report
                        .missing
                        .iter()
                        .any(|missing| missing.field.ends_with(field))
                })
                .collect();
            Ok(format!(
                "{}\n{}",
                conversion.report.to_comments(),
                marked(&yaml, &fields)
            ))
        }
        OutputFormat::Json => {
            let json = problem.to_json().map_err(|error| refused(error.to_string()))?;
            Ok(json + "\n")
        }
        OutputFormat::EdgePlacement => {
            let refused = |text: String| ConvertError::Object {
                path: PathBuf::from(&conversion.report.source),
                text,
            };
            object::check(&conversion.object).map_err(refused)?;
            let yaml =
                serde_norway::to_string(&conversion.object).map_err(|error| refused(error.to_string()))?;
            Ok(format!(
                "{}{}\n{yaml}",
                object::to_check(),
                conversion.report.to_comments()
            ))
        }
    }
}

/// Marks the lines of fields that hold a placeholder.
fn marked(yaml: &str, fields: &[&str]) -> String {
    let is_placeholder = |line: &str| {
        let (field, value) = line
            .trim_start_matches([' ', '-'])
            .split_once(": ")
            .unwrap_or_default();
        fields.contains(&field)
            && (value == "[]" || value.trim_matches(['\'', '"']).starts_with('0') && is_zero(value))
    };
    yaml.lines()
        .map(|line| format!("{line}{}\n", if is_placeholder(line) { TO_FILL } else { "" }))
        .collect()
}

/// Whether a quantity is 0, whatever its unit.
fn is_zero(value: &str) -> bool {
    !value.contains(|c: char| c.is_ascii_digit() && c != '0')
}

fn write(path: &Path, text: &str) -> Result<(), ConvertError> {
    fs::write(path, text).map_err(|error| ConvertError::Write {
        path: path.to_path_buf(),
        error,
    })
}

fn print(stream: &mut impl io::Write, name: &str, text: &str) -> Result<(), ConvertError> {
    let written = stream.write_all(text.as_bytes()).and_then(|()| stream.flush());
    match written {
        // Whoever reads has seen enough.
        Err(broken) if broken.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other.map_err(|error| ConvertError::Write {
            path: PathBuf::from(name),
            error,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_placeholders_are_marked() {
        let yaml = "userRequestsPerSecond: 0.0\nuserCalls: []\nservices:\n- name: a\n  responseSize: 0B\n  cpuUse: '0'\n- name: b\n  responseSize: 100B\n  ownTime: 0s\n";
        let text = marked(yaml, &PLACEHOLDERS);
        assert_eq!(text.matches(TO_FILL).count(), 4, "{text}");
        let untouched = marked(yaml, &[]);
        assert_eq!(untouched, yaml);
    }
}
