//! The repository's manifests, rendered as users render them.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, ensure};
use serde::Deserialize;
use serde_json::Value;

/// Objects of a kustomization, a folder under the repository's root. `programs`: the rig's.
pub(super) fn render(programs: &Path, folder: &str) -> anyhow::Result<Vec<Value>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(folder);
    let output = Command::new(programs.join("kustomize"))
        .arg("build")
        .arg(&path)
        .output()
        .context("cannot run kustomize: run `make rig`, which needs Go")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success() && said.is_empty(), "{folder}: {said}");
    serde_norway::Deserializer::from_slice(&output.stdout)
        .map(|document| Ok(Value::deserialize(document)?))
        .collect()
}
