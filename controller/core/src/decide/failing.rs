//! A service that its callers at the edge see fail there, while it does not fail in the cloud.
//!
//! Its platform may think it Ready, its answers come at once and are no gateway errors, so neither readiness nor outlier
//! detection takes the traffic away. Three things must be so in several evaluations in a row: enough of the edge's own
//! calls to it at the edge fail; calls to it in the cloud fail less, by an exact test; and nothing that it calls from
//! there fails so itself: then that one is the cause. What fails everywhere moves nowhere.

use std::collections::{BTreeMap, BTreeSet};

use super::evidence::ratio;
use super::machine::Machine;
use crate::ids::{AreaName, ServiceName};
use crate::snapshot::{Caller, OutcomeCounts, Snapshot};

/// Fewer calls in the window say nothing.
const LEAST_CALLS: u64 = 20;
/// Chance that so few calls fail in the cloud, if it were as bad as the edge: that of readings, as this is asked as often.
const ALPHA: f64 = 1e-4;
/// Nobody calls the cloud: so large a share is enough.
const MOST: f64 = 0.5;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Failed {
    calls: u64,
    failed: u64,
}

// === impl Machine ===

impl Machine<'_> {
    /// Services at the edge that were seen to fail in enough evaluations in a row. Their counts start again.
    pub(super) fn seen_failing(&mut self) -> BTreeSet<ServiceName> {
        let config = self.turn.config;
        let now = failing(
            self.turn.snapshot,
            self.turn.edge,
            &config.cloud,
            &self.placed(),
            config.most_errors,
        );
        self.edge.failing.retain(|service, _| now.contains(service));
        for service in now {
            let seen = self.edge.failing.entry(service).or_default();
            *seen = seen.saturating_add(1);
        }
        let (enough, fewer) = std::mem::take(&mut self.edge.failing)
            .into_iter()
            .partition(|(_, seen)| *seen >= config.consecutive);
        self.edge.failing = fewer;
        BTreeMap::into_keys(enough).collect()
    }
}

/// Those of `placed` that fail at the edge and not in the cloud, the causes only.
fn failing(
    snapshot: &Snapshot,
    edge: &AreaName,
    cloud: &AreaName,
    placed: &BTreeSet<ServiceName>,
    most_errors: f64,
) -> BTreeSet<ServiceName> {
    let mut here: BTreeMap<&ServiceName, Failed> = BTreeMap::new();
    let mut there: BTreeMap<&ServiceName, Failed> = BTreeMap::new();
    for call in snapshot.calls.iter().filter(|call| placed.contains(&call.callee)) {
        let at = match &call.caller {
            Caller::User { edge } => edge,
            Caller::Instance { area, .. } => area,
        };
        match &call.callee_area {
            Some(area) if area == edge && at == edge => {
                here.entry(&call.callee).or_default().add(&call.outcomes);
            }
            Some(area) if area == cloud => there.entry(&call.callee).or_default().add(&call.outcomes),
            Some(_) | None => {}
        }
    }
    let fails = |service: &ServiceName| {
        let here = here.get(service).copied().unwrap_or_default();
        let there = there.get(service).copied().unwrap_or_default();
        here.is_worse_than(there, most_errors)
    };
    let suspects: BTreeSet<&ServiceName> = placed.iter().filter(|service| fails(service)).collect();
    let calls_a_suspect = |service: &ServiceName| {
        snapshot.calls.iter().any(|call| {
            matches!(&call.caller, Caller::Instance { service: by, area } if by == service && area == edge)
                && call.callee != *service
                && suspects.contains(&call.callee)
        })
    };
    suspects
        .iter()
        .filter(|service| !calls_a_suspect(service))
        .map(|service| (*service).clone())
        .collect()
}

// === impl Failed ===

impl Failed {
    fn add(&mut self, outcomes: &OutcomeCounts) {
        let failed = outcomes.server_error.saturating_add(outcomes.no_response);
        let ended = [outcomes.ok, outcomes.client_error, failed];
        self.calls = ended.into_iter().fold(self.calls, u64::saturating_add);
        self.failed = self.failed.saturating_add(failed);
    }

    fn is_worse_than(self, cloud: Self, most_errors: f64) -> bool {
        let share = ratio(self.failed, self.calls);
        if self.calls < LEAST_CALLS || share <= most_errors {
            return false;
        }
        if cloud.calls == 0 {
            return share >= MOST;
        }
        at_most(cloud.failed, cloud.calls, share) < ALPHA
    }
}

/// P(X <= k) for X ~ Bin(n, p).
fn at_most(k: u64, n: u64, p: f64) -> f64 {
    if p >= 1.0 {
        return if k >= n { 1.0 } else { 0.0 };
    }
    let mut log = ratio(n, 1) * (-p).ln_1p();
    let mut sum = 0.0;
    for i in 0..=k.min(n) {
        sum += log.exp();
        log += (ratio(n - i, i + 1) * p / (1.0 - p)).ln();
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(failed: u64, calls: u64) -> Failed {
        Failed { calls, failed }
    }

    #[test]
    fn the_tail_is_that_of_the_binomial() {
        assert!((at_most(0, 2, 0.9) - 0.01).abs() < 1e-12);
        assert!((at_most(1, 3, 0.5) - 0.5).abs() < 1e-12);
        assert!((at_most(3, 3, 0.5) - 1.0).abs() < 1e-12);
        assert_eq!([at_most(0, 1, 1.0), at_most(1, 1, 1.0)], [0.0, 1.0]);
    }

    #[test]
    fn an_edge_is_worse_only_where_the_cloud_is_known_to_be_better() {
        let cases = [
            (failed(200, 200), failed(0, 2), true),
            (failed(19, 19), failed(0, 2), false),
            (failed(40, 200), failed(0, 4), false),
            (failed(40, 200), failed(0, 60), true),
            (failed(40, 200), failed(8, 40), false),
            (failed(8, 200), failed(0, 400), false),
            (failed(120, 200), failed(0, 0), true),
            (failed(80, 200), failed(0, 0), false),
        ];
        for (edge, cloud, worse) in cases {
            assert_eq!(edge.is_worse_than(cloud, 0.05), worse, "{edge:?} {cloud:?}");
        }
    }
}
