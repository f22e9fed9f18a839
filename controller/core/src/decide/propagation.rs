//! How long new weights take until the first request follows them, as the filter sees it.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ids::Timestamp;

/// Measurements that the estimate stands on: with n of them the next is longer than all with probability 1 / (n + 1).
const KEPT: usize = 20;
/// Before the first: istiod's debounce of 100 ms, Envoy's merge window of 1 s and two reports of a gateway.
const AT_FIRST: Duration = Duration::from_secs(2);
/// Nothing waits longer: what takes longer fails its step by its deadline.
const LONGEST: Duration = Duration::from_secs(10);

/// Times from a write of weights to the first request by them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Propagation {
    seen: VecDeque<Duration>,
    /// When the newest was measured.
    pub measured: Option<Timestamp>,
}

impl Propagation {
    /// One more, seen at `now`.
    pub(super) fn record(&mut self, took: Duration, now: Timestamp) {
        self.seen.push_back(took);
        while self.seen.len() > KEPT {
            self.seen.pop_front();
        }
        self.measured = Some(now);
    }

    /// The newest measurement.
    pub fn newest(&self) -> Option<Duration> {
        self.seen.back().copied()
    }

    /// Upper estimate: the longest of the last 20. What a step expects, it expects after this.
    pub fn upper(&self) -> Duration {
        let longest = self.seen.iter().max().copied();
        longest.unwrap_or(AT_FIRST).min(LONGEST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_estimate_is_the_longest_of_the_last_twenty_and_bounded() {
        let mut propagation = Propagation::default();
        assert_eq!(propagation.upper(), AT_FIRST);
        let mut record = |ms: u64| {
            propagation.record(Duration::from_millis(ms), Timestamp::default());
            propagation.upper()
        };
        assert_eq!(record(700), Duration::from_millis(700));
        assert_eq!(record(300), Duration::from_millis(700));
        assert_eq!(
            (0..19).map(|_| record(400)).last(),
            Some(Duration::from_millis(400))
        );
        assert_eq!(record(60_000), LONGEST);
        assert_eq!(propagation.newest(), Some(Duration::from_secs(60)));
    }
}
