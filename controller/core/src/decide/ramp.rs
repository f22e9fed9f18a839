//! When a step of a shift may be left: what is counted, and the tests on it.
//!
//! The snapshot is a sliding window; a step needs requests since it came in force. Windows that lie wholly after
//! the last counted moment are added up, without overlap. Of the window that begins before it, the share that
//! lies after it is taken: the weight of the new area only rises, so its requests are not denser before the step
//! than after, and the estimate is a lower bound in expectation. Of the window's errors the same share is taken.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::evidence::ratio;
use super::reason::Cause;
use crate::ids::{AreaName, ServiceName, Timestamp};
use crate::routing::{SECOND_STEP, first_step};
use crate::snapshot::{CallStats, Caller, OutcomeCounts, Snapshot};

/// Requests in the new area that end a step at once.
const ENOUGH: f64 = 50.0;
/// With this many it ends after `PATIENCE`.
const FEW: f64 = 5.0;
const PATIENCE: Duration = Duration::from_secs(20);
/// A step that brought less by now, although `EXPECTED` were due, has failed.
pub(super) const STEP_DEADLINE: Duration = Duration::from_secs(60);
const EXPECTED: f64 = 10.0;
/// A rise without the traffic to prove it goes back after this: until an area is seen, its users stay on the cloud.
const UNPROVEN_DEADLINE: Duration = Duration::from_secs(300);
/// Level of the one-sided test on errors.
const ALPHA: f64 = 0.01;
/// Requests that were not seen elsewhere count as this many with a share of errors of 1 %.
const PRIOR_REQUESTS: u64 = 50;
const PRIOR_ERRORS: f64 = 0.5;

/// Requests and those of them that failed (server's fault, or nothing answered).
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Seen {
    requests: f64,
    errors: f64,
}

impl Seen {
    /// Of a window. A request that its client gave up says nothing.
    pub(super) fn of(outcomes: &OutcomeCounts) -> Self {
        let errors = outcomes.server_error.saturating_add(outcomes.no_response);
        let requests = [outcomes.ok, outcomes.client_error, errors, outcomes.long];
        let requests = requests.into_iter().fold(0_u64, u64::saturating_add);
        Self {
            requests: ratio(requests, 1),
            errors: ratio(errors, 1),
        }
    }

    pub(super) fn plus(mut self, other: Self) -> Self {
        self.add(other, 1.0);
        self
    }

    fn add(&mut self, other: Self, share: f64) {
        self.requests += other.requests * share;
        self.errors += other.errors * share;
    }
}

/// Requests of one caller area to one service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Tally {
    /// In the area that gets more, or nowhere: that is what a wrong weight looks like.
    pub(super) new: Seen,
    /// In the others.
    old: Seen,
}

impl Tally {
    pub(super) fn only_new(new: Seen) -> Self {
        Self {
            new,
            old: Seen::default(),
        }
    }
}

/// By service.
pub(super) type Tallies = BTreeMap<ServiceName, Tally>;

/// Whether the step may be left.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Verdict {
    Wait,
    Next,
    Fail(Cause),
}

/// Counts since a moment, from sliding windows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Counter {
    counted_to: Timestamp,
    closed: Tallies,
}

impl Counter {
    pub(super) fn new(at: Timestamp) -> Self {
        Self {
            counted_to: at,
            closed: Tallies::new(),
        }
    }

    /// Counts the snapshot's window in; returns the estimate of all since the start.
    pub(super) fn count(&mut self, snapshot: &Snapshot, window: Tallies) -> Tallies {
        let fresh = snapshot.at.since(self.counted_to);
        let share = if snapshot.window.is_zero() {
            0.0
        } else {
            (fresh.as_secs_f64() / snapshot.window.as_secs_f64()).min(1.0)
        };
        let mut all = self.closed.clone();
        for (service, tally) in window {
            let sum = all.entry(service).or_default();
            sum.new.add(tally.new, share);
            sum.old.add(tally.old, share);
        }
        if share >= 1.0 {
            self.counted_to = snapshot.at;
            self.closed.clone_from(&all);
        }
        all
    }
}

/// Services among `services` that somebody at `edge` calls.
pub(super) fn frontier(
    snapshot: &Snapshot,
    edge: &AreaName,
    services: &BTreeSet<ServiceName>,
) -> BTreeSet<ServiceName> {
    window(snapshot, edge, edge, services)
        .into_iter()
        .filter(|(_, tally)| tally.new.requests + tally.old.requests > 0.0)
        .map(|(service, _)| service)
        .collect()
}

/// The smallest first step that brings enough requests to the new area.
pub(super) fn first_weight(snapshot: &Snapshot, edge: &AreaName, services: &BTreeSet<ServiceName>) -> u32 {
    let tallies = window(snapshot, edge, edge, services);
    let requests: f64 = tallies
        .values()
        .map(|tally| tally.new.requests + tally.old.requests)
        .sum();
    // An empty window has no rate: then the largest first step.
    first_step(if snapshot.window.is_zero() {
        0.0
    } else {
        requests / snapshot.window.as_secs_f64()
    })
}

/// The weight after `weight`.
pub(super) fn next_weight(weight: u32, last: u32) -> u32 {
    if weight < SECOND_STEP {
        SECOND_STEP.min(last)
    } else {
        last
    }
}

/// Requests of the new area that were answered there, in all services.
pub(super) fn arrived(tallies: &Tallies) -> f64 {
    tallies
        .values()
        .map(|tally| tally.new.requests - tally.new.errors)
        .sum()
}

/// Errors in the new area that are more than elsewhere, in all services.
pub(super) fn errors(tallies: &Tallies) -> Option<Cause> {
    let (new, old) = sums(tallies);
    errors_worse(new, old)
}

fn sums(tallies: &Tallies) -> (Seen, Seen) {
    let (mut new, mut old) = (Seen::default(), Seen::default());
    for tally in tallies.values() {
        new.add(tally.new, 1.0);
        old.add(tally.old, 1.0);
    }
    (new, old)
}

/// Judges a step in which the new area's weight is `weight` percent, in force for `since`.
/// A step up that nobody's requests prove is not left; a step down may be, because the cloud serves already.
pub(super) fn judge(tallies: &Tallies, weight: u32, since: Duration, up: bool) -> Verdict {
    let (new, old) = sums(tallies);
    if let Some(cause) = errors_worse(new, old) {
        return Verdict::Fail(cause);
    }
    let due = |tally: &Tally| (tally.new.requests + tally.old.requests) * f64::from(weight) / 100.0;
    let all_seen = tallies
        .values()
        .all(|tally| tally.new.requests > 0.0 || due(tally) < EXPECTED);
    let few = new.requests >= FEW && since >= PATIENCE;
    if all_seen && (new.requests >= ENOUGH || few) {
        return Verdict::Next;
    }
    if since < STEP_DEADLINE {
        return Verdict::Wait;
    }
    let expected: f64 = tallies.values().map(due).sum();
    if !all_seen || expected >= EXPECTED || (up && since >= UNPROVEN_DEADLINE) {
        return Verdict::Fail(Cause::NotSeen {
            seen: whole(new.requests),
            expected: whole(expected),
        });
    }
    if up { Verdict::Wait } else { Verdict::Next }
}

/// Exact binomial tail: errors in the new area against the share elsewhere. One error alone is never enough.
pub(super) fn errors_worse(new: Seen, old: Seen) -> Option<Cause> {
    let (requests, errors) = (whole(new.requests), whole(new.errors));
    let elsewhere = (old.errors + PRIOR_ERRORS) / (old.requests + ratio(PRIOR_REQUESTS, 1));
    let worse = errors >= 2 && tail(errors, requests, elsewhere.min(1.0)) < ALPHA;
    worse.then_some(Cause::ErrorsWorse {
        errors,
        requests,
        share_elsewhere: elsewhere,
    })
}

/// P(X >= k) for X ~ Bin(n, p), summed from 0 in logarithms (no underflow at large n).
fn tail(k: u64, n: u64, p: f64) -> f64 {
    if k > n || p <= 0.0 {
        return 0.0;
    }
    if p >= 1.0 {
        return 1.0;
    }
    let mut log = ratio(n, 1) * (-p).ln_1p();
    let mut below = 0.0;
    for i in 0..k {
        below += log.exp();
        log += (ratio(n - i, i + 1) * p / (1.0 - p)).ln();
    }
    1.0 - below
}

/// Calls of callers at `edge` to `services` in the window, by whether they went to the area `to`.
pub(super) fn window(
    snapshot: &Snapshot,
    edge: &AreaName,
    to: &AreaName,
    services: &BTreeSet<ServiceName>,
) -> Tallies {
    let mut tallies = Tallies::new();
    for CallStats {
        caller,
        callee,
        callee_area,
        outcomes,
        ..
    } in &snapshot.calls
    {
        let at = match caller {
            Caller::User { edge } => edge,
            Caller::Instance { area, .. } => area,
        };
        if at != edge || !services.contains(callee) {
            continue;
        }
        let seen = Seen::of(outcomes);
        let tally = tallies.entry(callee.clone()).or_default();
        match callee_area {
            Some(area) if area != to => tally.old.add(seen, 1.0),
            _ => tally.new.add(seen, 1.0),
        }
    }
    tallies
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "sums of counts; `as` saturates"
)]
fn whole(count: f64) -> u64 {
    count as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_is_that_of_the_binomial() {
        // 1 - 0.9^10 and 1 - 0.9^10 - 10·0.1·0.9^9, by hand.
        assert!((tail(1, 10, 0.1) - 0.651_321_559_9).abs() < 1e-9);
        assert!((tail(2, 10, 0.1) - 0.263_901_070_9).abs() < 1e-9);
        assert!((tail(0, 10, 0.1) - 1.0).abs() < 1e-12);
        let far = tail(30_000, 100_000, 0.3);
        assert!((0.45..0.55).contains(&far), "{far}");
    }

    fn tallies(new: (f64, f64), old: (f64, f64)) -> Tallies {
        let seen = |(requests, errors)| Seen { requests, errors };
        Tallies::from([(
            "front".into(),
            Tally {
                new: seen(new),
                old: seen(old),
            },
        )])
    }

    #[test]
    fn a_step_ends_on_fifty_or_on_few_after_patience() {
        let second = Duration::from_secs(1);
        let enough = tallies((50.0, 0.0), (50.0, 0.0));
        let few = tallies((6.0, 0.0), (10.0, 0.0));
        assert_eq!(judge(&enough, 50, second, true), Verdict::Next);
        assert_eq!(judge(&few, 50, second, true), Verdict::Wait);
        assert_eq!(judge(&few, 50, PATIENCE, true), Verdict::Next);
    }

    #[test]
    fn requests_that_do_not_arrive_fail_the_step() {
        let lost = tallies((0.0, 0.0), (400.0, 0.0));
        assert_eq!(
            judge(&lost, 50, STEP_DEADLINE - Duration::from_secs(1), true),
            Verdict::Wait
        );
        assert!(matches!(
            judge(&lost, 50, STEP_DEADLINE, true),
            Verdict::Fail(Cause::NotSeen {
                seen: 0,
                expected: 200
            })
        ));
    }

    #[test]
    fn without_traffic_up_waits_and_down_goes_on() {
        let none = Tallies::new();
        assert_eq!(judge(&none, 50, STEP_DEADLINE, true), Verdict::Wait);
        assert_eq!(judge(&none, 50, STEP_DEADLINE, false), Verdict::Next);
        assert!(matches!(
            judge(&none, 50, UNPROVEN_DEADLINE, true),
            Verdict::Fail(_)
        ));
    }

    #[test]
    fn errors_only_in_the_new_area_fail_it_and_shared_ones_do_not() {
        let second = Duration::from_secs(1);
        assert!(matches!(
            judge(&tallies((40.0, 4.0), (400.0, 0.0)), 10, second, true),
            Verdict::Fail(Cause::ErrorsWorse {
                errors: 4,
                requests: 40,
                ..
            })
        ));
        assert_eq!(
            judge(&tallies((100.0, 4.0), (400.0, 16.0)), 10, second, true),
            Verdict::Next
        );
        assert_eq!(
            judge(&tallies((50.0, 1.0), (4_000.0, 0.0)), 10, second, true),
            Verdict::Next
        );
    }

    #[test]
    fn weights_rise_in_the_documented_steps() {
        assert_eq!(
            [1, 5, 10, 25, 50].map(|weight| next_weight(weight, 99)),
            [50, 50, 50, 50, 99]
        );
    }

    #[test]
    fn windows_are_added_without_overlap_and_an_older_one_by_its_share() {
        let second = |at| Timestamp::from_start(Duration::from_secs(at));
        let (edge, front) = (AreaName::from("edge-1"), ServiceName::from("front"));
        let outcomes = OutcomeCounts {
            ok: 36,
            server_error: 4,
            ..Default::default()
        };
        let call = CallStats {
            caller: Caller::User { edge: edge.clone() },
            callee: front.clone(),
            callee_area: Some(edge.clone()),
            outcomes,
            timed: 36,
            sum_us: 0,
            response_bytes: 0,
        };
        let mut counter = Counter::new(second(10));
        let services = BTreeSet::from([front]);
        // 10 requests a second, one of which fails, windows of 4 s, looked at each second: from 14 s on the count is exact each 4 s.
        let counts = (11..=18).map(|at| {
            let snapshot = Snapshot {
                at: second(at),
                window: Duration::from_secs(4),
                edges: BTreeMap::new(),
                calls: vec![call.clone()],
                received: Vec::new(),
                coverage: Vec::new(),
                network: Vec::new(),
            };
            let tallies = counter.count(&snapshot, window(&snapshot, &edge, &edge, &services));
            whole(arrived(&tallies))
        });
        assert_eq!(counts.collect::<Vec<_>>(), [9, 18, 27, 36, 45, 54, 63, 72]);
    }
}
