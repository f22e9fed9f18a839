//! A child process that ends with the value, and with the test's process.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Lines of the log that a failure shows.
const TAIL_LINES: usize = 25;

/// A running child. Killed on drop; its log's end is shown where the test fails.
#[derive(Debug)]
pub struct Process {
    name: String,
    log: PathBuf,
    child: Child,
}

// === impl Process ===

impl Process {
    /// Starts a program; its output goes to `folder/name.log`.
    ///
    /// # Panics
    /// Where it cannot be started.
    pub fn start(name: &str, folder: &Path, program: &Path, arguments: &[&str]) -> Self {
        let log = folder.join(format!("{name}.log"));
        let output = File::options().create(true).append(true).open(&log).unwrap();
        let child = bound(program, arguments)
            .stdin(Stdio::null())
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .spawn()
            .unwrap_or_else(|error| {
                panic!("setpriv (util-linux) cannot start {}: {error}", program.display())
            });
        Self {
            name: name.to_owned(),
            log,
            child,
        }
    }

    /// Everything that it has written.
    ///
    /// # Panics
    /// Where the log is gone.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap()).into_owned()
    }

    /// The most memory that it ever had, bytes.
    ///
    /// # Panics
    /// Where the kernel does not say.
    pub fn peak_bytes(&self) -> u64 {
        self.status_bytes("VmHWM:")
    }

    /// The memory that it has, bytes.
    ///
    /// # Panics
    /// Where the kernel does not say.
    pub fn resident_bytes(&self) -> u64 {
        self.status_bytes("VmRSS:")
    }

    fn status_bytes(&self, key: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }

    /// Ends it at once, as a crash would.
    ///
    /// # Panics
    /// Where it cannot be waited for.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        self.child.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let log = self.log();
            let from = log.lines().count().saturating_sub(TAIL_LINES);
            let tail: Vec<_> = log.lines().skip(from).collect();
            eprintln!("--- end of the log of {} ---\n{}", self.name, tail.join("\n"));
        }
    }
}

/// Runs a program that should end by itself.
///
/// # Panics
/// Where it still runs after `limit`.
pub fn run_to_end(program: &Path, arguments: &[&str], limit: Duration) -> Output {
    let mut child = bound(program, arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{}: {error}", program.display()));
    let end = Instant::now() + limit;
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > end {
            let _ = child.kill();
            let output = child.wait_with_output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            panic!(
                "{} {arguments:?} still runs after {limit:?}: {said}",
                program.display()
            );
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    child.wait_with_output().unwrap()
}

/// A command whose process ends with the thread that starts it: `setpriv` sets the parent-death signal
/// and becomes the program.
fn bound(program: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new("setpriv");
    command
        .args(["--pdeathsig", "KILL", "--"])
        .arg(program)
        .args(arguments);
    command
}
