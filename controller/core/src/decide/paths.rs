//! Both ways to a service at once: calls of the same callers, in the same seconds, to the edge and to the cloud.
//!
//! Where a share of the calls stays on the cloud, each move carries its own control group: what changes for both (the
//! users' load, what they ask for, a slow callee of both) cancels. Callers that move themselves are left out: their
//! calls belong to the inside of what is compared.
//!
//! A mean of n durations is taken to have the standard error `mean / √n`, as of an exponential distribution. Calls over
//! a WAN vary less, so the test errs to saying nothing.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::evidence::ratio;
use crate::ids::{AreaName, ServiceName, Timestamp};
use crate::snapshot::{Caller, Snapshot};

/// Fewer calls on one way say nothing of it.
const LEAST_CALLS: u64 = 20;
/// Standard errors that tell the ways apart: one-sided 1e-4 of the normal distribution, as in readings.
const APART: f64 = 3.72;

/// Calls with a duration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Timed {
    pub(super) calls: u64,
    pub(super) us: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Both {
    edge: Timed,
    cloud: Timed,
}

/// Calls from an edge to services that moved there, since a moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Paths {
    pub(super) since: Timestamp,
    counted_to: Timestamp,
    services: BTreeMap<ServiceName, Both>,
}

/// What the comparison says.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) enum Compared {
    /// Nothing, or no difference that can be told from chance.
    #[default]
    Unknown,
    /// The way to the edge is faster now.
    Faster,
    /// It is slower.
    Slower {
        /// Mean of the calls to the edge, microseconds.
        edge_us: f64,
        /// Mean of the same callers' calls to the cloud, microseconds.
        cloud_us: f64,
    },
}

// === impl Timed ===

impl Timed {
    pub(super) fn add(&mut self, calls: u64, us: u64) {
        self.calls = self.calls.saturating_add(calls);
        self.us = self.us.saturating_add(us);
    }

    pub(super) fn mean_us(self) -> f64 {
        ratio(self.us, self.calls)
    }

    /// Square of the mean's standard error.
    pub(super) fn variance(self) -> f64 {
        self.mean_us().powi(2) / ratio(self.calls.max(1), 1)
    }
}

// === impl Paths ===

impl Paths {
    pub(super) fn new(since: Timestamp) -> Self {
        Self {
            since,
            counted_to: since,
            services: BTreeMap::new(),
        }
    }

    /// Counts a snapshot in, if its whole window lies after what was counted.
    pub(super) fn count(
        &mut self,
        snapshot: &Snapshot,
        edge: &AreaName,
        cloud: &AreaName,
        moved: &BTreeSet<ServiceName>,
    ) {
        if snapshot.at.since(self.counted_to) < snapshot.window {
            return;
        }
        self.counted_to = snapshot.at;
        for call in &snapshot.calls {
            let outside = match &call.caller {
                Caller::User { edge: at } => at == edge,
                Caller::Instance { service, area } => area == edge && !moved.contains(service),
            };
            if !outside || !moved.contains(&call.callee) {
                continue;
            }
            let both = self.services.entry(call.callee.clone()).or_default();
            match &call.callee_area {
                Some(area) if area == edge => both.edge.add(call.timed, call.sum_us),
                Some(area) if area == cloud => both.cloud.add(call.timed, call.sum_us),
                Some(_) | None => {}
            }
        }
    }

    /// All services together, each weighted by its calls to the edge.
    pub(super) fn compare(&self) -> Compared {
        let (mut edge_us, mut cloud_us, mut variance, mut calls) = (0.0, 0.0, 0.0, 0.0);
        for Both { edge, cloud } in self.services.values() {
            if edge.calls < LEAST_CALLS || cloud.calls < LEAST_CALLS {
                continue;
            }
            let weight = ratio(edge.calls, 1);
            calls += weight;
            edge_us += weight * edge.mean_us();
            cloud_us += weight * cloud.mean_us();
            variance += weight * weight * (edge.variance() + cloud.variance());
        }
        let least = APART * variance.sqrt();
        if calls <= 0.0 {
            Compared::Unknown
        } else if cloud_us - edge_us > least {
            Compared::Faster
        } else if edge_us - cloud_us > least {
            Compared::Slower {
                edge_us: edge_us / calls,
                cloud_us: cloud_us / calls,
            }
        } else {
            Compared::Unknown
        }
    }
}
