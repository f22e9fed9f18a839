//! `gma convert` on the two example configurations, through the built binary, and on broken ones.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod faults;
mod mutated;
mod object;
mod values;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use gma::convert::{Conversion, Input, convert};
use gma::problem::{Loaded, PlacementProblem, Service};

pub(crate) const SMALL: &str = "muplacer-small";
pub(crate) const MUBENCH: &str = "muplacer-mubench";

pub(crate) fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples")
}

pub(crate) fn gma(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gma"));
    command.args(args).current_dir(examples()).output().unwrap()
}

/// Converts an example with the binary: standard output and standard error.
pub(crate) fn run(example: &str, more: &[&str]) -> (String, String) {
    let config = format!("{example}/GMAConfig.yaml");
    let output = gma(&[&["convert", config.as_str()], more].concat());
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    (text(&output.stdout), text(&output.stderr))
}

pub(crate) fn with_metrics(example: &str) -> PlacementProblem {
    let metrics = format!("{example}/metrics.yaml");
    let (problem, _) = run(example, &["--metrics", &metrics]);
    Loaded::parse(example, &problem).unwrap().file
}

pub(crate) fn service<'p>(problem: &'p PlacementProblem, name: &str) -> &'p Service {
    problem
        .services
        .iter()
        .find(|service| service.name == name)
        .unwrap()
}

/// A copy of an example that a test may spoil.
pub(crate) struct Copy {
    folder: tempfile::TempDir,
}

impl Copy {
    pub(crate) fn of(example: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        copy(&examples().join(example), folder.path());
        Self { folder }
    }

    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.folder.path().join(file)
    }

    pub(crate) fn replace(&self, file: &str, from: &str, to: &str) -> &Self {
        let text = fs::read_to_string(self.path(file)).unwrap();
        assert!(text.contains(from), "{file} has no {from}");
        fs::write(self.path(file), text.replacen(from, to, 1)).unwrap();
        self
    }

    pub(crate) fn input(&self) -> Input {
        Input {
            config: self.path("GMAConfig.yaml"),
            metrics: None,
            base: None,
        }
    }

    pub(crate) fn convert(&self) -> Conversion {
        convert(&self.input()).unwrap()
    }

    /// The error for another configuration in this folder.
    pub(crate) fn error_of(&self, config: &str) -> String {
        fs::write(self.path("GMAConfig.yaml"), config).unwrap();
        self.error()
    }

    pub(crate) fn error(&self) -> String {
        convert(&self.input()).expect_err("is accepted").to_string()
    }
}

pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}
