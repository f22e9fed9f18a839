//! A network namespace without a name: it ends with the last thread or process in it, however that ends.
//!
//! A thread that enters it stays there: its sockets, the threads and processes that it starts are all inside. So a test
//! talks to the API server over plain TCP, with the client that a cluster's user has. Rejected: `ip netns add` (its
//! name outlives a killed test), and a relay on the machine's loopback (every address would be another one inside than
//! outside, pods' addresses could not be reached at all, and the machine's ports would be used).

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::fd::AsFd;
use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Addresses of pods. Kubernetes takes no loopback addresses for endpoints, so these are made local.
pub(super) const POD_RANGE: &str = "10.244.0.0/16";

/// Says that it is set up, then waits until its standard input is closed: by us, or by our end.
const SETUP: &str = "ip link set lo up; ip route add local $0 dev lo; echo ready; read -r _ || true";

/// A network of its own: loopback, and [`POD_RANGE`] on it. There is no way out: no other device, no default route.
#[derive(Debug)]
pub(super) struct Namespace {
    file: File,
}

impl Namespace {
    /// Makes one.
    ///
    /// # Errors
    /// Not root, or a tool is missing; the text says which.
    pub(super) fn create() -> anyhow::Result<Self> {
        let mut holder = Command::new("unshare")
            .args(["--net", "--", "sh", "-ec", SETUP, POD_RANGE])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot run unshare (util-linux)")?;
        let mut line = String::new();
        if let Some(output) = holder.stdout.take() {
            BufReader::new(output).read_line(&mut line)?;
        }
        let file = File::open(format!("/proc/{}/ns/net", holder.id()));
        drop(holder.stdin.take());
        if line.trim() != "ready" {
            let mut why = String::new();
            if let Some(mut errors) = holder.stderr.take() {
                errors.read_to_string(&mut why)?;
            }
            holder.wait()?;
            bail!("cannot set up a network namespace: {}", why.trim());
        }
        holder.wait()?;
        Ok(Self { file: file? })
    }

    /// The same namespace, for another thread.
    pub(super) fn try_clone(&self) -> anyhow::Result<Self> {
        let file = self.file.try_clone()?;
        Ok(Self { file })
    }

    /// Moves the calling thread into it, for good.
    ///
    /// # Errors
    /// Not root.
    pub(super) fn enter(&self) -> anyhow::Result<()> {
        move_into_link_name_space(self.file.as_fd(), Some(LinkNameSpaceType::Network))
            .context("cannot enter the network namespace")
    }
}
