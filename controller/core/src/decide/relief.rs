//! The share that an overloaded service gave up, and when it may have it back.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::own::Strain;
use crate::ids::Timestamp;

/// Shares on the way down, percent.
const LADDER: [u32; 4] = [75, 50, 25, 10];
/// A share returns when its rate is below this part of the one that was too much.
const ROOM: f64 = 0.9;
/// First wait before a share returns.
const FIRST_WAIT: Duration = Duration::from_secs(60);
/// An overload is remembered for at least this long after all weight is back.
const MEMORY: Duration = Duration::from_secs(3600);

/// Share that a service gave up, and when it may have it back.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Relief {
    /// At the edge now, percent.
    pub(super) share: u32,
    /// At rest, percent.
    pub(super) full: u32,
    /// Its last change.
    since: Timestamp,
    /// From then to the next return.
    wait: Duration,
    /// The lowest rate at the edge that was too much, requests a second a replica; none where more requests were not the
    /// cause.
    limit_rps: Option<f64>,
}

// === impl Relief ===

impl Relief {
    pub(super) fn new(share: u32, full: u32, now: Timestamp) -> Self {
        Self {
            share,
            full,
            since: now,
            wait: FIRST_WAIT,
            limit_rps: None,
        }
    }

    /// Its share changed.
    pub(super) fn set(&mut self, share: u32, now: Timestamp) {
        (self.share, self.since) = (share, now);
    }

    /// What is in force is what counts. Whether anything is left to remember.
    pub(super) fn settle(&mut self, in_force: u32, now: Timestamp) -> bool {
        if self.share != in_force {
            self.set(in_force, now);
            return in_force < self.full;
        }
        let memory = MEMORY.max(self.wait.saturating_mul(2));
        in_force < self.full || now.since(self.since) < memory
    }

    /// The next share on the way back; none at rest.
    pub(super) fn above(&self) -> Option<u32> {
        let mut rungs = LADDER.into_iter().rev().filter(|rung| *rung < self.full);
        (self.share < self.full).then(|| rungs.find(|rung| *rung > self.share).unwrap_or(self.full))
    }

    /// All weight is there, and it is too soon after a step down that made it worse.
    pub(super) fn just_tried(&self, now: Timestamp) -> bool {
        self.share == self.full && now.since(self.since) < self.wait
    }

    /// It has waited, and `rps` a replica would not be too much; or it has waited for the `longest` time.
    pub(super) fn may_return(&self, rps: f64, longest: Duration, now: Timestamp) -> bool {
        let waited = now.since(self.since);
        let has_room = self.limit_rps.is_none_or(|limit| rps <= ROOM * limit);
        waited >= self.wait && (has_room || waited >= longest)
    }

    /// So many requests a replica were too much, if requests were the cause.
    pub(super) fn too_much(&mut self, strain: &Strain, replicas: f64) {
        if strain.more_requests {
            let rps = strain.rps / replicas;
            self.limit_rps = Some(self.limit_rps.map_or(rps, |limit| limit.min(rps)));
        }
    }

    pub(super) fn wait_longer(&mut self, longest: Duration) {
        self.wait = self.wait.saturating_mul(2).min(longest);
    }
}

/// The next share on the way down; none at its end.
pub(super) fn below(share: u32) -> Option<u32> {
    LADDER.into_iter().find(|rung| *rung < share)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_start(Duration::from_secs(seconds))
    }

    const STRAIN: Strain = Strain {
        own_before_us: 4e3,
        own_now_us: 40e3,
        rps: 200.0,
        more_requests: true,
    };
    const LONGEST: Duration = Duration::from_secs(4 * 3600);

    #[test]
    fn shares_go_down_and_up_by_the_same_steps() {
        let down: Vec<u32> = std::iter::successors(Some(99), |share| below(*share)).collect();
        assert_eq!(down, [99, 75, 50, 25, 10]);
        let up = std::iter::successors(Some(10), |share| Relief::new(*share, 99, at(0)).above());
        assert_eq!(up.collect::<Vec<_>>(), [10, 25, 50, 75, 99]);
        // A standby of 30 leaves 70 at rest, an adopted share lies between the steps.
        assert_eq!(Relief::new(50, 70, at(0)).above(), Some(70));
        assert_eq!(Relief::new(60, 99, at(0)).above(), Some(75));
    }

    #[test]
    fn it_returns_after_a_wait_when_there_is_room_or_after_the_longest() {
        let mut relief = Relief::new(50, 99, at(0));
        assert!(!relief.may_return(0.0, LONGEST, at(59)));
        assert!(
            relief.may_return(1e9, LONGEST, at(60)),
            "requests were not the cause"
        );
        relief.too_much(&STRAIN, 2.0);
        assert!(!relief.may_return(91.0, LONGEST, at(60)));
        assert!(relief.may_return(90.0, LONGEST, at(60)));
        assert!(relief.may_return(91.0, LONGEST, at(4 * 3600)));
        relief.wait_longer(LONGEST);
        assert!(!relief.may_return(90.0, LONGEST, at(119)));
        (0..40).for_each(|_| relief.wait_longer(LONGEST));
        assert!(relief.may_return(90.0, LONGEST, at(4 * 3600)));
    }

    #[test]
    fn it_is_forgotten_an_hour_after_all_is_back_or_when_others_bring_it_back() {
        let mut relief = Relief::new(99, 99, at(0));
        assert!(relief.settle(99, at(3599)) && !relief.settle(99, at(3600)));
        let mut relief = Relief::new(50, 99, at(0));
        assert!(relief.settle(50, at(99_999)));
        assert!(relief.settle(25, at(0)) && relief.share == 25);
        assert!(!relief.settle(99, at(0)));
    }
}
