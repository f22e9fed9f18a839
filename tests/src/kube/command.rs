//! Commands of `gma` for people, as processes inside a rig's network.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context;
use serde_json::Value;
use tokio::process::Command;

use crate::envoy;

/// Longest time that a command may take.
const LIMIT: Duration = Duration::from_secs(90);

/// How a command ended.
#[derive(Debug)]
pub struct Ended {
    /// Its exit code; none: a signal ended it.
    pub code: Option<i32>,
    /// What it wrote to its standard output.
    pub stdout: String,
    /// What it wrote to its standard error.
    pub stderr: String,
}

impl Ended {
    /// Its standard output as JSON.
    ///
    /// # Errors
    /// It is none; the error shows everything.
    pub fn json(&self) -> anyhow::Result<Value> {
        serde_json::from_str(&self.stdout).with_context(|| format!("{self:?}"))
    }
}

/// Runs `gma ARGUMENTS` as whoever a kubeconfig is for.
///
/// # Errors
/// It can't be started, or still runs after a minute and a half.
pub async fn gma(kubeconfig: &Path, arguments: &[&str]) -> anyhow::Result<Ended> {
    let child = Command::new(envoy::Controller::binary())
        .args(arguments)
        .env("KUBECONFIG", kubeconfig)
        .env_remove("GMA_ADDRESS")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context("gma can't be started")?;
    let output = tokio::time::timeout(LIMIT, child.wait_with_output())
        .await
        .with_context(|| format!("gma {arguments:?} still runs after {LIMIT:?}"))??;
    Ok(Ended {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}
