//! The load generator, as a process of its own.

use std::{
    io::{BufRead, BufReader, Write},
    net::SocketAddr,
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};

/// Requests in flight: enough to keep one worker busy, few enough that they wait for it and not for each other.
pub(crate) const CONNECTIONS: &str = "8";

/// A closed loop. Killed on drop.
#[derive(Debug)]
pub(crate) struct Load {
    child: Child,
    ask: ChildStdin,
    answer: BufReader<ChildStdout>,
}

// === impl Load ===

impl Load {
    pub(crate) fn start(cell: &Path, target: SocketAddr) -> Result<Self> {
        let url = format!("http://{target}/");
        let mut child = Command::new(cell)
            .args([
                "--die-with-parent",
                "load",
                "--closed",
                "--count-on-stdin",
                "--connections",
                CONNECTIONS,
            ])
            .args(["--url", &url, "--host", "cart.shop.svc.cluster.local"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", cell.display()))?;
        let (ask, answer) = (child.stdin.take(), child.stdout.take());
        let (Some(ask), Some(answer)) = (ask, answer) else {
            unreachable!("both are piped")
        };
        Ok(Self {
            child,
            ask,
            answer: BufReader::new(answer),
        })
    }

    /// Stops it where it is: its connections stay open, answers wait in their buffers.
    pub(crate) fn pause(&self) -> Result<()> {
        self.signal(Signal::STOP)
    }

    /// Lets it go on.
    pub(crate) fn resume(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        kill_process(Pid::from_child(&self.child), signal).context("the load generator is gone")
    }

    /// Requests that were completed so far. A failed one ends the measurement: its cost is another.
    pub(crate) fn completed(&mut self) -> Result<u64> {
        self.ask.write_all(b"\n").context("the load generator is gone")?;
        self.ask.flush()?;
        let mut line = String::new();
        self.answer.read_line(&mut line)?;
        let mut numbers = line.split_whitespace().map(str::parse::<u64>);
        let (Some(Ok(completed)), Some(Ok(failed))) = (numbers.next(), numbers.next()) else {
            anyhow::bail!("the load generator says \"{}\"", line.trim());
        };
        ensure!(failed == 0, "{failed} requests failed");
        Ok(completed)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
