//! Children of the rig's own thread: the kernel kills them when that thread ends, however it ends.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

/// Lines of a log that a failure shows.
const TAIL_LINES: usize = 25;

/// What to start.
#[derive(Clone, Debug)]
pub(super) struct Program {
    /// What logs call it.
    pub(super) name: String,
    pub(super) binary: PathBuf,
    pub(super) arguments: Vec<String>,
    /// All that it sees of the environment, but for `PATH`.
    pub(super) environment: Vec<(String, String)>,
}

/// A running child; killed on drop.
#[derive(Debug)]
pub(super) struct Process {
    name: String,
    child: Child,
}

// === impl Program ===

impl Program {
    pub(super) fn new(name: &str, binary: PathBuf, arguments: &[String]) -> Self {
        Self {
            name: name.to_owned(),
            binary,
            arguments: arguments.to_vec(),
            environment: Vec::new(),
        }
    }

    /// Starts it; its output is added to `logs/name.log`. Must be called on the rig's thread.
    pub(super) fn start(&self, logs: &Path) -> anyhow::Result<Process> {
        let log = logs.join(format!("{}.log", self.name));
        let output = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .with_context(|| format!("cannot write {}", log.display()))?;
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--"])
            .arg(&self.binary)
            .args(&self.arguments)
            .env_clear()
            .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .current_dir(logs)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .context("cannot run setpriv (util-linux), which ends processes with the test")?;
        Ok(Process {
            name: self.name.clone(),
            child,
        })
    }
}

// === impl Process ===

impl Process {
    /// Its id; none once it was waited for.
    pub(super) fn id(&self) -> Option<Pid> {
        Pid::from_raw(i32::try_from(self.child.id()?).ok()?)
    }

    /// Waits for its end and says how it ended.
    pub(super) async fn ended(&mut self) -> String {
        match self.child.wait().await {
            Ok(status) => format!("{} ended: {status}", self.name),
            Err(error) => format!("{} cannot be waited for: {error}", self.name),
        }
    }

    /// SIGTERM, and SIGKILL if it still runs after `grace`; how it ended.
    pub(super) async fn stop(&mut self, grace: Duration) -> String {
        // To this very process: its id stays taken until it was waited for.
        if let Some(id) = self.id() {
            let _gone = kill_process(id, Signal::TERM);
        }
        if let Ok(how) = tokio::time::timeout(grace, self.ended()).await {
            return how;
        }
        self.kill().await
    }

    /// SIGKILL; how it ended.
    pub(super) async fn kill(&mut self) -> String {
        let _gone = self.child.start_kill();
        self.ended().await
    }
}

/// The last lines of each log of a folder.
pub(super) fn tails(logs: &Path) -> String {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(logs)
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
        .collect();
    paths.sort();
    let tail = |path: &PathBuf| {
        let bytes = std::fs::read(path).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<&str> = text.lines().collect();
        let last = lines
            .get(lines.len().saturating_sub(TAIL_LINES)..)
            .unwrap_or_default()
            .join("\n");
        format!("--- end of {} ---\n{last}\n", path.display())
    };
    paths.iter().map(tail).collect()
}
