//! Own time of services: what a request takes inside them, less the calls that they make for it.
//!
//! Every call is taken off in full, as if one was made after the other. Where they overlap that is too much, and the
//! own time is too low by the same amount in each reading; what is compared are differences, and a callee that gets
//! slower makes them smaller, never larger.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::evidence::ratio;
use super::relief::Relief;
use crate::ids::{AreaName, ServiceName, Timestamp};
use crate::snapshot::{Caller, Snapshot};

/// Fewer requests say nothing of an own time.
const LEAST_REQUESTS: u64 = 30;
/// Requests in the cloud without which nothing is known of it: of a standby share there are few.
const LEAST_IN_CLOUD: f64 = 8.0;
/// Requests in the cloud beyond which older ones don't count any more.
const ENOUGH_IN_CLOUD: f64 = 30.0;
/// What is remembered of the cloud is worth half after this long: load comes and goes.
const HALF_LIFE: Duration = Duration::from_secs(30);
/// Where the cloud is not known this long after the alarm, it never will be: nobody uses it.
const CLOUD_WITHIN: Duration = Duration::from_secs(15);
/// Standard errors of a difference that is no chance: one-sided 1e-4 of the normal distribution, as in readings.
const CERTAIN: f64 = 3.72;

/// A rate above this times the former one explains a strain: what a count of a window varies by is less.
const MORE_REQUESTS: f64 = 1.1;

/// Mean own time of the requests of a window.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Own {
    pub(super) us: f64,
    /// Its standard error, from a standard deviation of the size of the mean time inside.
    error_us: f64,
    pub(super) requests: u64,
    pub(super) rps: f64,
}

/// What is known of the services at an edge; bounded by what is placed there.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Loads {
    counted_to: Timestamp,
    /// Since when the delay is above the band; what was seen of the cloud before does not count.
    alarmed: Option<Timestamp>,
    services: BTreeMap<ServiceName, Load>,
}

/// What is known of one of them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Load {
    /// At the edge, at rest in the band, when it was new there.
    normal: Option<Normal>,
    in_cloud: Pool,
    /// Part of its share that it gave up.
    relief: Option<Relief>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Normal {
    own_us: f64,
    rps: f64,
    /// In the cloud at that time.
    cloud_us: Option<f64>,
}

/// Own times in the cloud, fading.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Pool {
    requests: f64,
    us: f64,
    variance: f64,
}

/// A service whose instances at the edge take far longer than they did, and than those in the cloud do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Strain {
    pub(super) own_before_us: f64,
    pub(super) own_now_us: f64,
    /// Requests a second at the edge.
    pub(super) rps: f64,
    /// More requests than it had.
    pub(super) more_requests: bool,
}

/// Whether a service is strained.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Verdict {
    /// It is not, or too little is known of it at the edge.
    No,
    /// It is slower than it was there; whether it is in the cloud as well will be known soon.
    Unclear,
    /// It is.
    Yes(Strain),
}

// === impl Own ===

impl Own {
    /// None with too few requests.
    pub(super) fn at(snapshot: &Snapshot, service: &ServiceName, area: &AreaName) -> Option<Self> {
        Self::measure(snapshot, service, area).filter(|own| own.requests >= LEAST_REQUESTS)
    }

    fn measure(snapshot: &Snapshot, service: &ServiceName, area: &AreaName) -> Option<Self> {
        let mut received = snapshot.received.iter();
        let received = received.find(|r| r.service == *service && r.area == *area)?;
        let all = received.outcomes.total();
        if received.timed == 0 || all == 0 || snapshot.window.is_zero() {
            return None;
        }
        let is_ours = |caller: &Caller| matches!(caller, Caller::Instance { service: s, area: a } if s == service && a == area);
        let calls = snapshot.calls.iter().filter(|call| is_ours(&call.caller));
        let waited: f64 = calls
            .map(|call| ratio(call.outcomes.total(), all) * ratio(call.sum_us, call.timed))
            .sum();
        let inside = ratio(received.sum_us, received.timed);
        Some(Self {
            us: inside - waited,
            error_us: inside / ratio(received.timed, 1).sqrt(),
            requests: received.timed,
            rps: ratio(all, 1) / snapshot.window.as_secs_f64(),
        })
    }
}

// === impl Loads ===

impl Loads {
    /// A new alarm begins: edge and cloud are compared since then.
    pub(super) fn alarmed(&mut self, alarm: Option<Timestamp>) {
        if let Some(since) = alarm.filter(|_| self.alarmed != alarm) {
            self.counted_to = since;
            self.services
                .values_mut()
                .for_each(|load| load.in_cloud = Pool::default());
        }
        self.alarmed = alarm;
    }

    /// Takes a snapshot in. `normal`: the edge rests in its band, so that what is seen is what is wanted.
    pub(super) fn watch(
        &mut self,
        snapshot: &Snapshot,
        edge: &AreaName,
        cloud: &AreaName,
        placed: &BTreeSet<ServiceName>,
        normal: bool,
    ) {
        self.services.retain(|service, _| placed.contains(service));
        let since = snapshot.at.since(self.counted_to);
        let fresh = since >= snapshot.window;
        let kept = 0.5_f64.powf(since.as_secs_f64() / HALF_LIFE.as_secs_f64());
        for service in placed {
            let load = self.services.entry(service.clone()).or_default();
            if fresh {
                load.in_cloud
                    .add(kept, Own::measure(snapshot, service, cloud).as_ref());
            }
            if normal && load.normal.is_none() && load.relief.is_none() {
                let cloud_us = load.in_cloud.mean().map(|(us, _)| us);
                load.normal = Own::at(snapshot, service, edge).map(|own| Normal {
                    own_us: own.us,
                    rps: own.rps,
                    cloud_us,
                });
            }
        }
        if fresh {
            self.counted_to = snapshot.at;
        }
    }

    /// Whether the own time at the edge is at least twice what is expected, beyond chance, and above that in the cloud.
    /// Expected is what it was when the service was new there, times what the own time in the cloud has risen by since:
    /// a service that is slow everywhere is not strained. Where nobody uses the cloud, it is taken to be as it was.
    pub(super) fn strain(&self, snapshot: &Snapshot, service: &ServiceName, edge: &AreaName) -> Verdict {
        let Some((load, own)) = self.services.get(service).zip(Own::at(snapshot, service, edge)) else {
            return Verdict::No;
        };
        let Some(normal) = load.normal else {
            return Verdict::No;
        };
        let cloud = load.in_cloud.mean();
        let (risen, its_error) = match (normal.cloud_us, cloud) {
            (Some(then), Some((now, error))) if then > 0.0 && now > 0.0 => {
                ((now / then).max(1.0), error / now)
            }
            _ => (1.0, 0.0),
        };
        let expected = normal.own_us.max(0.0) * risen;
        let chance = CERTAIN * own.error_us.hypot(expected * its_error);
        let doubled = own.us - expected > expected.max(chance);
        if !doubled || cloud.is_some_and(|(us, _)| own.us <= us) {
            return Verdict::No;
        }
        let soon = self
            .alarmed
            .is_some_and(|since| snapshot.at.since(since) < CLOUD_WITHIN);
        if cloud.is_none() && soon {
            return Verdict::Unclear;
        }
        Verdict::Yes(Strain {
            own_before_us: normal.own_us,
            own_now_us: own.us,
            rps: own.rps,
            more_requests: own.rps > MORE_REQUESTS * normal.rps,
        })
    }

    pub(super) fn relief(&self, service: &ServiceName) -> Option<&Relief> {
        self.services.get(service).and_then(|load| load.relief.as_ref())
    }

    /// Of a service that is placed; it knows them from [`Self::watch`].
    pub(super) fn relief_mut(&mut self, service: &ServiceName) -> &mut Option<Relief> {
        &mut self.services.entry(service.clone()).or_default().relief
    }

    pub(super) fn reliefs(&self) -> impl Iterator<Item = (&ServiceName, &Relief)> {
        let loads = self.services.iter();
        loads.filter_map(|(service, load)| load.relief.as_ref().map(|relief| (service, relief)))
    }
}

// === impl Pool ===

impl Pool {
    fn add(&mut self, kept: f64, own: Option<&Own>) {
        let new = own.map_or(0.0, |own| ratio(own.requests, 1));
        let room = (ENOUGH_IN_CLOUD - new).max(0.0);
        let kept = kept.min(if self.requests > room {
            room / self.requests
        } else {
            1.0
        });
        for (sum, kept) in [
            (&mut self.requests, kept),
            (&mut self.us, kept),
            (&mut self.variance, kept * kept),
        ] {
            *sum *= kept;
        }
        if let Some(own) = own {
            self.requests += new;
            self.us += own.us * new;
            self.variance += (own.error_us * new).powi(2);
        }
    }

    /// Mean and its standard error; none with too few requests.
    fn mean(&self) -> Option<(f64, f64)> {
        (self.requests >= LEAST_IN_CLOUD)
            .then(|| (self.us / self.requests, self.variance.sqrt() / self.requests))
    }
}
