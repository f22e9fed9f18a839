//! Where the one report that may be in flight stands.
//!
//! ```text
//!          offer            due: the shell sends            ack, last part
//!   Idle ----------> Ready ------------------------> Flying ---------------> Idle
//!                      ^                                |  ack, parts follow: Ready at once
//!                      +--------------------------------+
//!                        busy, no answer, no echo, error: later, the same bytes
//! ```

use std::time::Duration;

use crate::time::{Random, Timestamp};
use crate::window::{Part, Parts};

/// First wait before a report is sent again; each further one is twice as long.
const FIRST_RETRY: Duration = Duration::from_millis(500);
/// Longest wait: a controller that comes back has everything within this and one round trip, and 30,000 VMs
/// knock on a dead one 4,000 times a second at most.
const LONGEST_RETRY: Duration = Duration::from_secs(8);

/// Beyond the call's own timeout: then the host's answer will never come (its root context is gone).
const GRACE: Duration = Duration::from_secs(5);

/// A call that was made, as the host names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    /// Root context that made it.
    pub root: u32,
    /// The host's token.
    pub token: u32,
}

/// The state of sending.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) enum Sending {
    /// Nothing is frozen.
    #[default]
    Idle,
    /// To be sent at `at`, after `failures` sends in vain.
    Ready {
        parts: Parts,
        at: Timestamp,
        failures: u32,
    },
    /// Sent and not answered.
    Flying {
        parts: Parts,
        call: Call,
        sent: Timestamp,
        failures: u32,
    },
}

// === impl Sending ===

impl Sending {
    /// Takes a frozen window.
    pub(crate) fn offer(parts: Parts, now: Timestamp) -> Self {
        Self::Ready {
            parts,
            at: now,
            failures: 0,
        }
    }

    /// The part that is to be sent now.
    pub(crate) fn due(&self, now: Timestamp) -> Option<&Part> {
        match self {
            Self::Ready { parts, at, .. } if *at <= now => Some(&parts.first),
            _ => None,
        }
    }

    /// The call of the due part was made.
    pub(crate) fn sent(self, call: Call, now: Timestamp) -> Self {
        match self {
            Self::Ready { parts, failures, .. } => Self::Flying {
                parts,
                call,
                sent: now,
                failures,
            },
            other => other,
        }
    }

    /// The send failed, or its answer was no ack, or the controller is busy for `at_least`.
    pub(crate) fn failed(self, now: Timestamp, at_least: Duration, random: &mut Random) -> Self {
        match self {
            Self::Ready { parts, failures, .. } | Self::Flying { parts, failures, .. } => {
                let wait = back_off(failures, random).max(at_least);
                Self::Ready {
                    parts,
                    at: now.after(wait),
                    failures: failures.saturating_add(1),
                }
            }
            Self::Idle => Self::Idle,
        }
    }

    /// The first part is done with: gives it, and what remains.
    pub(crate) fn resolved(self, now: Timestamp) -> (Self, Option<Part>) {
        match self {
            Self::Ready { parts, .. } | Self::Flying { parts, .. } => {
                let Parts { first, mut rest } = parts;
                let next = rest
                    .pop_front()
                    .map(|first| Self::offer(Parts { first, rest }, now));
                (next.unwrap_or_default(), Some(first))
            }
            Self::Idle => (Self::Idle, None),
        }
    }

    /// The root context that made a call is no more the one that answers: its report goes again at once.
    pub(crate) fn orphaned(self, now: Timestamp) -> Self {
        match self {
            Self::Flying { parts, failures, .. } => Self::Ready {
                parts,
                at: now,
                failures,
            },
            other => other,
        }
    }

    /// Whether the answer should have come long ago.
    pub(crate) fn is_overdue(&self, now: Timestamp, timeout: Duration) -> bool {
        matches!(self, Self::Flying { sent, .. } if now.since(*sent) > timeout + GRACE)
    }

    /// Sends in vain of the present part.
    pub(crate) fn failures(&self) -> u32 {
        match self {
            Self::Idle => 0,
            Self::Ready { failures, .. } | Self::Flying { failures, .. } => *failures,
        }
    }
}

/// 0.5 s, 1 s, 2 s, 4 s, 8 s, 8 s …, each up to a quarter shorter, so that proxies spread.
fn back_off(failures: u32, random: &mut Random) -> Duration {
    let wait = FIRST_RETRY
        .saturating_mul(1 << failures.min(8))
        .min(LONGEST_RETRY);
    wait - random.up_to(wait / 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_bound() {
        let mut random = Random::new(7);
        let expected = [500, 1000, 2000, 4000, 8000, 8000];
        for (failures, most) in (0..).zip(expected) {
            let wait = back_off(failures, &mut random).as_millis();
            assert!((most * 3 / 4..=most).contains(&wait), "{failures}: {wait} ms");
        }
        assert!(back_off(u32::MAX, &mut random) <= LONGEST_RETRY);
    }
}
