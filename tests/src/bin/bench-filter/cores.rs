//! Which core does what.

use anyhow::{Context, Result, ensure};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Two cores: one for Envoy, one for everything else.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cores {
    envoy: usize,
    rest: usize,
}

// === impl Cores ===

impl Cores {
    /// The first two cores that this process may use.
    pub(crate) fn find() -> Result<Self> {
        let allowed = sched_getaffinity(None).context("the kernel does not tell the allowed cores")?;
        let mut cores = (0..CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core));
        let (envoy, rest) = (cores.next(), cores.next());
        ensure!(
            rest.is_some(),
            "one core is not enough: Envoy needs one of its own; run this with two or more"
        );
        Ok(Self {
            envoy: envoy.unwrap_or_default(),
            rest: rest.unwrap_or_default(),
        })
    }

    /// Runs `start` on Envoy's core. A child that it starts stays there.
    pub(crate) fn on_envoys<T>(&self, start: impl FnOnce() -> Result<T>) -> Result<T> {
        pin(self.envoy)?;
        let started = start();
        self.leave()?;
        started
    }

    /// Takes this thread, and what it starts, to the other core.
    pub(crate) fn leave(&self) -> Result<()> {
        pin(self.rest)
    }
}

fn pin(core: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(core);
    sched_setaffinity(None, &set).with_context(|| format!("cannot use core {core}"))
}
