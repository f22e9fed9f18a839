//! The `gma` command as a child that can be killed, stopped and started again.

use std::fs::OpenOptions;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

use crate::envoy::get;

/// Time to listen and to see the platform once.
const START_LIMIT: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(50);
/// What `gma run` may take to end.
const STOP_LIMIT: Duration = Duration::from_secs(8);
/// Lines of the log that an error shows.
const LOG_LINES: usize = 20;

/// What the command is given.
#[derive(Clone, Debug)]
pub(super) struct Program {
    pub(super) binary: PathBuf,
    /// The world's topology and socket.
    pub(super) topology: PathBuf,
    pub(super) world: PathBuf,
    pub(super) address: SocketAddr,
    /// Bounds of the band.
    pub(super) unoffload_below: Duration,
    pub(super) offload_above: Duration,
    pub(super) log: PathBuf,
}

/// A controller; dropping it kills it.
#[derive(Debug)]
pub(super) struct Controller {
    program: Program,
    child: Option<Child>,
}

// === impl Controller ===

impl Controller {
    /// Starts it and waits until it has seen the world.
    pub(super) async fn start(program: Program) -> anyhow::Result<Self> {
        let mut controller = Self { program, child: None };
        controller.start_again().await?;
        Ok(controller)
    }

    /// Starts it after it was killed.
    pub(super) async fn start_again(&mut self) -> anyhow::Result<()> {
        ensure!(self.child.is_none(), "the controller runs already");
        self.child = Some(spawn(&self.program)?);
        let began = Instant::now();
        while !is_ready(self.program.address).await {
            self.check()?;
            if began.elapsed() > START_LIMIT {
                bail!(
                    "the controller is not ready after {START_LIMIT:?}:\n{}",
                    last_lines(&self.program.log)
                );
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    /// Where it listens.
    pub(super) const fn address(&self) -> SocketAddr {
        self.program.address
    }

    /// SIGKILL; returns once it is gone.
    pub(super) async fn kill(&mut self) -> anyhow::Result<()> {
        let mut child = self.child.take().context("the controller does not run")?;
        child.kill().await.context("the controller cannot be killed")
    }

    /// SIGSTOP: it keeps its port and answers nobody.
    pub(super) fn freeze(&self) -> anyhow::Result<()> {
        self.signal(Signal::STOP)
    }

    /// SIGCONT.
    pub(super) fn thaw(&self) -> anyhow::Result<()> {
        self.signal(Signal::CONT)
    }

    /// Fails where the process has ended by itself.
    pub(super) fn check(&mut self) -> anyhow::Result<()> {
        let Some(child) = &mut self.child else {
            return Ok(());
        };
        match child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!(
                "the controller ended ({status}):\n{}",
                last_lines(&self.program.log)
            ),
        }
    }

    /// Asks it to end, and waits.
    pub(super) async fn stop(mut self) {
        let asked = self.signal(Signal::TERM);
        if let (Ok(()), Some(child)) = (asked, &mut self.child) {
            // What does not end in time is killed when it is dropped.
            let _late = tokio::time::timeout(STOP_LIMIT, child.wait()).await;
        }
    }

    fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let id = self.child.as_ref().and_then(Child::id);
        let pid = id.and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        kill_process(pid.context("the controller does not run")?, signal)?;
        Ok(())
    }
}

fn spawn(program: &Program) -> anyhow::Result<Child> {
    let log = OpenOptions::new().create(true).append(true).open(&program.log)?;
    let millis = |duration: Duration| format!("{}ms", duration.as_millis());
    // Whoever is killed takes the controller with it.
    Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "--"])
        .arg(&program.binary)
        .args(["run", "--listen", &program.address.to_string()])
        .args(["--offload-above", &millis(program.offload_above)])
        .args(["--unoffload-below", &millis(program.unoffload_below)])
        .arg("--local")
        .arg(&program.topology)
        .arg("--world")
        .arg(&program.world)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .kill_on_drop(true)
        .spawn()
        .context("setpriv does not start: install util-linux")
}

async fn is_ready(address: SocketAddr) -> bool {
    get(address, "/ready")
        .await
        .is_ok_and(|answer| answer.status.is_success())
}

fn last_lines(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let last = lines
        .get(lines.len().saturating_sub(LOG_LINES)..)
        .unwrap_or_default();
    last.join("\n")
}
