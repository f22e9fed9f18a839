//! Requests that no series holds, by reason: what cannot be measured is counted, never guessed.

use gma_report::v1::{self, Reason};

/// Counts by reason that are still to be sent, and the total of requests that never had a key.
#[derive(Debug, Default)]
pub(crate) struct Unmeasured {
    /// Few reasons occur: a short list is searched as fast as a table.
    pending: Vec<(Reason, u64)>,
    total: u64,
}

impl Unmeasured {
    /// Counts requests that have no key.
    pub(crate) fn add(&mut self, reason: Reason, count: u64) {
        self.total += count;
        self.put_back(reason, count);
    }

    /// Counts requests of a refused window: their keys' totals have them already.
    pub(crate) fn put_back(&mut self, reason: Reason, count: u64) {
        match self.pending.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, pending)) => *pending += count,
            None if count > 0 => self.pending.push((reason, count)),
            None => {}
        }
    }

    /// What is to be sent; nothing is left.
    pub(crate) fn take(&mut self) -> Vec<(Reason, u64)> {
        std::mem::take(&mut self.pending)
    }

    /// Requests without a key since the VM's start.
    pub(crate) const fn total(&self) -> u64 {
        self.total
    }
}

/// The counts on the wire.
pub(crate) fn wire(counts: &[(Reason, u64)]) -> Vec<v1::Unmeasured> {
    counts
        .iter()
        .map(|(reason, count)| v1::Unmeasured {
            reason: (*reason).into(),
            count: *count,
        })
        .collect()
}
