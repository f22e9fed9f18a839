//! Child processes that never outlive the world.
//!
//! The kernel kills a child whose parent-death signal is set when the *thread* that started it ends. So one thread
//! starts all of them and lives as long as the world: however the world ends (return, panic, SIGKILL), the children
//! end with it. `setpriv` sets the signal, because doing it between fork and exec is unsafe code here; it replaces
//! itself by the program, so the process id is the program's. Each child has a process group of its own, or the
//! terminal's Ctrl-C would end it before the world can drain it.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal};
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, oneshot};

/// End of a log that an error shows.
const TAIL_BYTES: u64 = 16_000;
/// Lines of it.
const TAIL_LINES: usize = 8;

/// Sets the parent-death signal.
const SETPRIV: &str = "setpriv";

/// A process that cannot be started. The user can act: the text names the program and the remedy.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// The tool that ties children to the world is missing.
    #[error(
        "cannot run {SETPRIV}, which ends processes with the world: {0}; install util-linux 2.33 or later"
    )]
    NoSetpriv(#[source] io::Error),
    /// The log cannot be written.
    #[error("cannot write the log {path}: {error}; give a run folder that can be written")]
    Log {
        /// Which file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The thread that starts processes is gone, so the world is ending.
    #[error("the world is ending, so {0} is not started")]
    Ending(String),
}

/// What to start.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    /// What errors and logs call it.
    pub(crate) name: String,
    pub(crate) binary: PathBuf,
    pub(crate) arguments: Vec<OsString>,
    /// Where its output goes.
    pub(crate) log: PathBuf,
}

/// A running child.
#[derive(Debug)]
pub(crate) struct Process {
    name: String,
    log: PathBuf,
    child: Child,
    pid: Option<Pid>,
}

/// Hands programs to the thread that starts them.
#[derive(Clone, Debug)]
pub(crate) struct Spawner {
    orders: mpsc::Sender<Order>,
}

/// The thread itself. Dropping it kills every child that still runs.
#[derive(Debug)]
pub(crate) struct SpawnerThread {
    orders: mpsc::Sender<Order>,
    thread: Option<std::thread::JoinHandle<()>>,
}

#[derive(Debug)]
enum Order {
    Start(Box<Program>, oneshot::Sender<Result<Process, ProcessError>>),
    End,
}

// === impl SpawnerThread ===

impl SpawnerThread {
    /// Starts the thread; must be called within a tokio runtime, which watches the children.
    pub(crate) fn start() -> io::Result<Self> {
        // A start takes a millisecond; a world starts two processes an instance.
        let (orders, mut received) = mpsc::channel(64);
        let runtime = tokio::runtime::Handle::current();
        let thread = std::thread::Builder::new()
            .name("gma-spawner".to_owned())
            .spawn(move || {
                let _entered = runtime.enter();
                while let Some(Order::Start(program, answer)) = received.blocking_recv() {
                    // A receiver that is gone drops the process, which kills it.
                    let _unwanted = answer.send(start(*program));
                }
            })?;
        Ok(Self {
            orders,
            thread: Some(thread),
        })
    }

    pub(crate) fn spawner(&self) -> Spawner {
        Spawner {
            orders: self.orders.clone(),
        }
    }
}

impl Drop for SpawnerThread {
    fn drop(&mut self) {
        // Full means that it is busy starting; it is then reached by closing below only if no task holds a sender.
        while let Err(mpsc::error::TrySendError::Full(_)) = self.orders.try_send(Order::End) {
            std::thread::sleep(Duration::from_millis(1));
        }
        if let Some(thread) = self.thread.take() {
            let _panicked = thread.join();
        }
    }
}

// === impl Spawner ===

impl Spawner {
    /// Starts a program.
    pub(crate) async fn start(&self, program: Program) -> Result<Process, ProcessError> {
        let name = program.name.clone();
        let (answer, answered) = oneshot::channel();
        let order = Order::Start(Box::new(program), answer);
        self.orders
            .send(order)
            .await
            .map_err(|_| ProcessError::Ending(name.clone()))?;
        answered.await.map_err(|_| ProcessError::Ending(name))?
    }
}

fn start(program: Program) -> Result<Process, ProcessError> {
    let Program {
        name,
        binary,
        arguments,
        log,
    } = program;
    let log_error = |error| ProcessError::Log {
        path: log.clone(),
        error,
    };
    let output = File::create(&log).map_err(log_error)?;
    let errors = output.try_clone().map_err(log_error)?;
    let child = Command::new(SETPRIV)
        .args(["--pdeathsig", "KILL", "--"])
        .arg(binary)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(errors)
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(ProcessError::NoSetpriv)?;
    let pid = child
        .id()
        .and_then(|pid| i32::try_from(pid).ok())
        .and_then(Pid::from_raw);
    Ok(Process {
        name,
        log,
        child,
        pid,
    })
}

// === impl Process ===

impl Process {
    /// Its id; none once it was waited for.
    pub(crate) fn id(&self) -> Option<Pid> {
        self.child.id().and(self.pid)
    }

    /// Waits for its end and says how it ended, with the last lines of its log.
    pub(crate) async fn ended(&mut self) -> String {
        let how = match self.child.wait().await {
            Ok(status) => describe(status),
            Err(error) => format!("cannot be waited for: {error}"),
        };
        let tail = tail(&self.log);
        format!("{} {how}; log {}{tail}", self.name, self.log.display())
    }

    /// SIGTERM, and SIGKILL if it still runs after `grace`.
    pub(crate) async fn stop(&mut self, grace: Duration) {
        self.signal(Signal::TERM);
        if tokio::time::timeout(grace, self.child.wait()).await.is_err() {
            tracing::warn!(process = %self.name, ?grace, "killed, because it did not stop when asked");
            self.kill();
            let _status = self.child.wait().await;
        }
    }

    /// SIGKILL.
    pub(crate) fn kill(&self) {
        self.signal(Signal::KILL);
    }

    /// To this very process: its id stays taken until it was waited for.
    fn signal(&self, signal: Signal) {
        let Some(pid) = self.id() else { return };
        if let Err(error) = rustix::process::kill_process(pid, signal) {
            tracing::debug!(process = %self.name, %error, "not signalled");
        }
    }
}

fn describe(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(127), _) => "could not be run (exit 127)".to_owned(),
        (Some(code), _) => format!("ended with exit code {code}"),
        (None, Some(signal)) => format!("was ended by signal {signal}"),
        (None, None) => "ended".to_owned(),
    }
}

/// The last lines of a log but for stacks, each on a line of its own; empty where there are none.
fn tail(log: &Path) -> String {
    let read = || -> io::Result<String> {
        let mut file = File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let text = read().unwrap_or_default();
    // Envoy writes its stack after the line that says what is wrong.
    let is_stack = |line: &str| line.contains("][backtrace]") || line.contains("][envoy_bug]");
    let lines: Vec<&str> = text.lines().filter(|line| !is_stack(line)).collect();
    let last = lines
        .get(lines.len().saturating_sub(TAIL_LINES)..)
        .unwrap_or_default();
    last.iter().map(|line| format!("\n  {line}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, folder: &Path) -> Program {
        Program {
            name: "sh".to_owned(),
            binary: "/bin/sh".into(),
            arguments: vec!["-c".into(), script.into()],
            log: folder.join("sh.log"),
        }
    }

    fn runs(pid: Pid) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
        stat.is_ok_and(|stat| !stat.contains(") Z "))
    }

    #[tokio::test]
    async fn an_end_is_told_with_the_last_lines_of_the_log() {
        let folder = tempfile::tempdir().unwrap();
        let thread = SpawnerThread::start().unwrap();
        let mut process = thread
            .spawner()
            .start(shell("seq 20; echo boom >&2; exit 3", folder.path()))
            .await
            .unwrap();
        let reason = process.ended().await;
        assert!(
            reason.contains("exit code 3") && reason.ends_with("  boom"),
            "{reason}"
        );
        assert!(!reason.contains("\n  10\n"), "only the last lines: {reason}");
    }

    #[tokio::test]
    async fn a_stop_is_a_term_and_then_a_kill() {
        let folder = tempfile::tempdir().unwrap();
        let thread = SpawnerThread::start().unwrap();
        let script = "trap '' TERM; echo ready; while :; do sleep 1; done";
        let mut process = thread
            .spawner()
            .start(shell(script, folder.path()))
            .await
            .unwrap();
        let pid = process.id().unwrap();
        while std::fs::read_to_string(folder.path().join("sh.log"))
            .unwrap()
            .is_empty()
        {
            tokio::task::yield_now().await;
        }
        process.stop(Duration::from_millis(50)).await;
        assert!(!runs(pid));
        assert_eq!(process.id(), None);
    }

    #[tokio::test]
    async fn children_end_with_the_thread_that_started_them() {
        let folder = tempfile::tempdir().unwrap();
        let thread = SpawnerThread::start().unwrap();
        let mut process = thread
            .spawner()
            .start(shell("exec sleep 600", folder.path()))
            .await
            .unwrap();
        while !std::fs::read_to_string(format!("/proc/{}/comm", process.id().unwrap().as_raw_nonzero()))
            .unwrap()
            .starts_with("sleep")
        {
            tokio::task::yield_now().await;
        }
        drop(thread);
        let reason = process.ended().await;
        assert!(reason.contains("signal 9"), "{reason}");
    }

    #[tokio::test]
    async fn a_missing_program_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let thread = SpawnerThread::start().unwrap();
        let program = Program {
            binary: "/no/such".into(),
            ..shell("", folder.path())
        };
        let mut process = thread.spawner().start(program).await.unwrap();
        let reason = process.ended().await;
        assert!(reason.contains("/no/such"), "{reason}");
    }
}
