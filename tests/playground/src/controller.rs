//! The `gma` command as a child, and what its state says.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use gma_core::decide::{Config, Decision, Outcome};
use gma_core::ids::Timestamp;
use serde::Deserialize;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::process::{Child, Command};

use crate::http;

/// Time to listen and to see the platform once.
const START_LIMIT: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(100);

/// A controller that runs; dropping it kills it.
pub(crate) struct Controller {
    child: Child,
    pub(crate) address: SocketAddr,
    log: PathBuf,
}

/// What the playground reads of `/api/v1/state`.
pub(crate) struct View {
    /// When it was read, on both clocks.
    pub(crate) read: Instant,
    pub(crate) at: Timestamp,
    pub(crate) sentence: String,
    pub(crate) phase: String,
    pub(crate) measured_ms: Option<f64>,
    /// Oldest first; with the one under way last.
    pub(crate) decisions: Vec<Decision>,
    pub(crate) state: Value,
}

#[derive(Deserialize)]
struct Account {
    sentence: String,
    phase: String,
    reading: Option<Reading>,
    plan: Option<Decision>,
    decisions: Vec<Told>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Reading {
    value_us: f64,
}

#[derive(Deserialize)]
struct Told {
    decision: Decision,
}

/// A port that was free a moment ago.
pub(crate) async fn free_address() -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .await
        .context("no free port")?;
    Ok(listener.local_addr()?)
}

impl Controller {
    /// Starts the command that was built beside the playground.
    pub(crate) async fn start(
        folder: &Path,
        topology: &Path,
        world: &Path,
        address: SocketAddr,
    ) -> anyhow::Result<Self> {
        let binary = std::env::current_exe()?.with_file_name("gma");
        ensure!(
            binary.exists(),
            "{} is missing: run `make build`",
            binary.display()
        );
        let log = folder.join("controller.log");
        // A playground that is killed takes the controller with it.
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--"])
            .arg(&binary)
            .args(["run", "--listen", &address.to_string(), "--local"])
            .arg(topology)
            .arg("--world")
            .arg(world)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log)?)
            .kill_on_drop(true)
            .spawn()
            .context("setpriv does not start: install util-linux")?;
        let mut controller = Self { child, address, log };
        let began = Instant::now();
        while http::get(address, "/ready").await.is_err() {
            controller.check()?;
            if began.elapsed() > START_LIMIT {
                bail!(
                    "the controller is not ready after {START_LIMIT:?}:\n{}",
                    controller.last_lines()
                );
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(controller)
    }

    /// Fails where the process has ended.
    pub(crate) fn check(&mut self) -> anyhow::Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("the controller ended ({status}):\n{}", self.last_lines()),
        }
    }

    fn last_lines(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines
            .iter()
            .skip(lines.len().saturating_sub(20))
            .copied()
            .collect::<Vec<_>>()
            .join("\n")
    }

    /// What it says of `edge` now.
    pub(crate) async fn view(&mut self, edge: &str) -> anyhow::Result<View> {
        self.check()?;
        let body = http::get(self.address, "/api/v1/state").await?;
        let read = Instant::now();
        let state: Value = serde_json::from_slice(&body).context("the controller's state is no JSON")?;
        let field = |pointer: &str| {
            state
                .pointer(pointer)
                .cloned()
                .with_context(|| format!("the controller's state has no {pointer}"))
        };
        let at = serde_json::from_value(field("/now")?)?;
        let account: Account = serde_json::from_value(field(&format!("/round/edges/{edge}"))?)
            .context("the account of the edge cannot be read")?;
        let mut decisions: Vec<Decision> = account.decisions.into_iter().map(|told| told.decision).collect();
        decisions.retain(|decision| !matches!(decision.outcome, Outcome::Running));
        decisions.extend(account.plan);
        Ok(View {
            read,
            at,
            sentence: account.sentence,
            phase: account.phase,
            measured_ms: account.reading.map(|reading| reading.value_us / 1_000.0),
            decisions,
            state,
        })
    }

    /// Asks it to end, and waits.
    pub(crate) async fn stop(mut self) {
        if let Some(id) = self.child.id() {
            let _ = Command::new("kill")
                .args(["-TERM", &id.to_string()])
                .status()
                .await;
            let _ = tokio::time::timeout(Duration::from_secs(8), self.child.wait()).await;
        }
    }
}

impl View {
    /// A time of the controller's clock on this process's clock.
    pub(crate) fn instant(&self, time: Timestamp) -> Instant {
        let ago = self.at.since(time);
        self.read.checked_sub(ago).unwrap_or(self.read)
    }
}

/// The parameters that the controller runs with, as it says.
pub(crate) fn parameters(view: &View) -> String {
    let config = view.state.pointer("/round/config").and_then(Value::as_object);
    let plain = |value: &Value| match (value.pointer("/secs"), value.pointer("/nanos")) {
        (Some(secs), Some(nanos)) => {
            format!(
                "{} s",
                secs.as_f64().unwrap_or(0.0) + nanos.as_f64().unwrap_or(0.0) / 1e9
            )
        }
        _ => value.to_string(),
    };
    let named = config
        .into_iter()
        .flatten()
        .filter(|(_, value)| !value.is_object() || value.get("secs").is_some());
    named
        .map(|(name, value)| format!("{name} {}", plain(value)))
        .collect::<Vec<_>>()
        .join(", ")
}

/// The shipped defaults, for the bounds of the band.
pub(crate) fn defaults(edge: &str) -> Config {
    Config::new("cloud".into(), [edge.into()])
}
