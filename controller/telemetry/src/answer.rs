//! What becomes of a report, and what the filter is told.

use gma_core::ids::AreaName;
use gma_report::{Ack, DecodeError, decode, encode_ack};

/// The answer to a report.
#[derive(Clone, Debug, PartialEq)]
pub struct Ingested {
    /// Body of the answer. None where the report could not even be named: answer 400 with the text of
    /// the refusal.
    pub ack: Option<Vec<u8>>,
    /// What became of it.
    pub event: Event,
    answer: Option<Ack>,
}

/// What became of a report: for the caller to log.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// Counted.
    Stored {
        /// The proxy says that it runs elsewhere than the directory does; the directory counts.
        mismatch: Option<Mismatch>,
    },
    /// Counted before.
    Duplicate,
    /// Not counted now; the filter keeps it.
    Busy(Busy),
    /// Never counted; the filter drops it.
    Refused(Refusal),
}

/// Why a report is not counted now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Busy {
    /// A proxy may be heard before the platform lists it.
    UnknownNode {
        /// Its name.
        node: String,
        /// Whether it was not heard before: log it once.
        is_first: bool,
    },
    /// [`crate::Config::max_vms`] are known, and none was silent for long.
    Full,
}

/// Why a report is never counted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It is not one.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The VM belongs to another node: VM ids are random and do not meet by chance.
    #[error("VM {vm:016x} reports as node {found:?}, before as {known:?}; is a proxy's state copied?")]
    NodeChanged {
        /// Which VM.
        vm: u64,
        /// Its node so far.
        known: String,
        /// The node of this report.
        found: String,
    },
}

/// A proxy's own locality lies in another area than the directory says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// Envoy's node id.
    pub node: String,
    /// What the proxy says.
    pub locality: String,
    /// Area of that, where there is one.
    pub reported: Option<AreaName>,
    /// Area by the directory.
    pub expected: Option<AreaName>,
}

// === impl Ingested ===

impl Ingested {
    pub(crate) fn new(answer: Option<Ack>, event: Event) -> Self {
        Self {
            ack: answer.as_ref().map(encode_ack),
            event,
            answer,
        }
    }

    /// The answer to a report that two took. A report that one of them counts is not sent again: the other had no room for it,
    /// or will never count it. What either asks for is asked for.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        let (best, rest) = if other.event.rank() < self.event.rank() {
            (other, self)
        } else {
            (self, other)
        };
        let answer = match (best.answer, rest.answer) {
            (Some(one), Some(two)) => Some(Ack {
                next_ms: one.next_ms.min(two.next_ms),
                resync: one.resync || two.resync,
                ..one
            }),
            (one, _) => one,
        };
        Self::new(answer, best.event)
    }
}

impl Event {
    const fn rank(&self) -> u8 {
        match self {
            Self::Stored { .. } => 0,
            Self::Duplicate => 1,
            Self::Busy(_) => 2,
            Self::Refused(_) => 3,
        }
    }
}

/// The node that a report names; none where it is no report.
pub fn node_of(body: &[u8]) -> Option<String> {
    Some(decode(body).ok()?.window.node_id)
}

#[cfg(test)]
mod tests {
    use gma_report::{Verdict, decode_ack};

    use super::*;

    fn answer(event: Event, verdict: Verdict, next_ms: u32, resync: bool) -> Ingested {
        let ack = Ack {
            vm: 7,
            seq: 3,
            verdict,
            next_ms,
            resync,
            served_us: 5,
        };
        Ingested::new(Some(ack), event)
    }

    #[test]
    fn a_report_that_one_counts_is_stored_and_both_have_what_they_ask_for() {
        let stored = || answer(Event::Stored { mismatch: None }, Verdict::Stored, 10_000, false);
        let busy = || answer(Event::Busy(Busy::Full), Verdict::Busy, 500, true);
        for both in [stored().and(busy()), busy().and(stored())] {
            assert_eq!(both.event, Event::Stored { mismatch: None });
            let ack = decode_ack(&both.ack.unwrap(), 7, 3).unwrap();
            assert_eq!(
                (ack.verdict, ack.next_ms, ack.resync),
                (Verdict::Stored, 500, true)
            );
        }
    }
}
