//! The `gma` command as a child, and what its state says.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use gma_core::cluster::Cluster;
use gma_core::decide::{Decision, Outcome};
use gma_core::ids::Timestamp;
use serde::Deserialize;
use serde_json::Value;
use tokio::process::{Child, Command};

use crate::http;

/// Time to listen and to see the platform once.
const START_LIMIT: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(100);

/// How it is started.
pub(crate) struct Program {
    pub(crate) topology: PathBuf,
    /// The world's socket.
    pub(crate) world: PathBuf,
    pub(crate) address: SocketAddr,
    pub(crate) log: PathBuf,
    /// Further arguments.
    pub(crate) objective: Vec<String>,
}

/// The controller; dropping it kills it.
pub(crate) struct Controller {
    program: Program,
    child: Option<Child>,
}

/// What the playground reads of `/api/v1/state`.
pub(crate) struct View {
    /// When it was read, on both clocks.
    read: Instant,
    at: Timestamp,
    pub(crate) edges: BTreeMap<String, Edge>,
    pub(crate) cluster: Cluster,
    pub(crate) state: Value,
}

/// What the controller says of an edge.
pub(crate) struct Edge {
    pub(crate) sentence: String,
    pub(crate) phase: String,
    /// Name of the reason for which nothing is done.
    pub(crate) held: Option<String>,
    pub(crate) measured_ms: Option<f64>,
    /// Oldest first; with the one under way last.
    pub(crate) decisions: Vec<Decision>,
}

#[derive(Deserialize)]
struct Account {
    sentence: String,
    phase: String,
    held: Option<Value>,
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

// === impl Controller ===

impl Controller {
    /// Starts the command that was built beside the playground, and waits until it has seen the world.
    pub(crate) async fn start(program: Program) -> anyhow::Result<Self> {
        let mut controller = Self { program, child: None };
        controller.start_again().await?;
        Ok(controller)
    }

    /// Starts it after it was killed.
    pub(crate) async fn start_again(&mut self) -> anyhow::Result<()> {
        ensure!(self.child.is_none(), "the controller runs already");
        let binary = std::env::current_exe()?.with_file_name("gma");
        ensure!(
            binary.exists(),
            "{} is missing: run `make build`",
            binary.display()
        );
        let program = &self.program;
        let log = OpenOptions::new().create(true).append(true).open(&program.log)?;
        // A playground that is killed takes the controller with it. Ctrl-C is the playground's to deal with.
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--"])
            .arg(&binary)
            .args(["run", "--listen", &program.address.to_string(), "--local"])
            .arg(&program.topology)
            .arg("--world")
            .arg(&program.world)
            .args(&program.objective)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .context("setpriv does not start: install util-linux")?;
        self.child = Some(child);
        let began = Instant::now();
        while http::get(self.program.address, "/ready").await.is_err() {
            self.check()?;
            if began.elapsed() > START_LIMIT {
                bail!(
                    "the controller is not ready after {START_LIMIT:?}:\n{}",
                    self.last_lines()
                );
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    /// SIGKILL; returns once it is gone.
    pub(crate) async fn kill(&mut self) -> anyhow::Result<()> {
        let mut child = self.child.take().context("the controller does not run")?;
        child.kill().await.context("the controller cannot be killed")
    }

    pub(crate) const fn is_running(&self) -> bool {
        self.child.is_some()
    }

    pub(crate) const fn address(&self) -> SocketAddr {
        self.program.address
    }

    /// Fails where the process has ended by itself.
    fn check(&mut self) -> anyhow::Result<()> {
        let child = self.child.as_mut().context("the controller does not run")?;
        match child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("the controller ended ({status}):\n{}", self.last_lines()),
        }
    }

    fn last_lines(&self) -> String {
        let text = std::fs::read_to_string(&self.program.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines
            .iter()
            .skip(lines.len().saturating_sub(20))
            .copied()
            .collect::<Vec<_>>()
            .join("\n")
    }

    /// What it says now.
    pub(crate) async fn view(&mut self) -> anyhow::Result<View> {
        self.check()?;
        let body = http::get(self.program.address, "/api/v1/state").await?;
        let read = Instant::now();
        let state: Value = serde_json::from_slice(&body).context("the controller's state is no JSON")?;
        let field = |pointer: &str| {
            state
                .pointer(pointer)
                .cloned()
                .with_context(|| format!("the controller's state has no {pointer}"))
        };
        let accounts: BTreeMap<String, Account> = serde_json::from_value(field("/round/edges")?)
            .context("the accounts of the edges cannot be read")?;
        Ok(View {
            read,
            at: serde_json::from_value(field("/now")?)?,
            edges: accounts
                .into_iter()
                .map(|(name, account)| (name, account.into()))
                .collect(),
            cluster: serde_json::from_value(field("/round/cluster")?)?,
            state,
        })
    }

    /// Asks it to end, and waits.
    pub(crate) async fn stop(mut self) {
        let Some(child) = &mut self.child else { return };
        if let Some(id) = child.id() {
            let _ = Command::new("kill")
                .args(["-TERM", &id.to_string()])
                .status()
                .await;
            let _ = tokio::time::timeout(Duration::from_secs(8), child.wait()).await;
        }
    }
}

// === impl View, Edge ===

impl View {
    /// A time of the controller's clock on this process's clock.
    pub(crate) fn instant(&self, time: Timestamp) -> Instant {
        let ago = self.at.since(time);
        self.read.checked_sub(ago).unwrap_or(self.read)
    }

    pub(crate) fn edge(&self, name: &str) -> anyhow::Result<&Edge> {
        self.edges
            .get(name)
            .with_context(|| format!("the controller knows no {name}"))
    }
}

impl Edge {
    /// The newest decision that has ended, of those after `before`.
    pub(crate) fn ended(&self, before: Option<u64>) -> Option<&Decision> {
        let ended = self.decisions.iter().rev();
        ended
            .filter(|decision| !matches!(decision.outcome, Outcome::Running))
            .find(|decision| Some(decision.id) > before)
    }

    /// The decision that is carried out.
    pub(crate) fn running(&self) -> Option<&Decision> {
        self.decisions
            .last()
            .filter(|decision| matches!(decision.outcome, Outcome::Running))
    }

    pub(crate) fn newest(&self) -> Option<u64> {
        self.decisions.iter().map(|decision| decision.id).max()
    }
}

impl From<Account> for Edge {
    fn from(account: Account) -> Self {
        let told = account.decisions.into_iter().map(|told| told.decision);
        let mut decisions: Vec<Decision> = told
            .filter(|decision| !matches!(decision.outcome, Outcome::Running))
            .collect();
        decisions.extend(account.plan);
        let kind = |held: &Value| held.get("kind").and_then(Value::as_str).map(str::to_owned);
        Self {
            sentence: account.sentence,
            phase: account.phase,
            held: account.held.as_ref().and_then(kind),
            measured_ms: account.reading.map(|reading| reading.value_us / 1_000.0),
            decisions,
        }
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
