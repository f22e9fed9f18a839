//! Where the requests of an edge's users go, and where their time is spent: from the calls that were seen.
//!
//! An instance is a service in an area. The gateway calls some, those call others; with the calls of an instance for
//! each request that it receives, the requests follow from the users on. No model is fitted and nothing is assumed of
//! what was not seen.

use std::collections::BTreeMap;

use super::evidence::ratio;
use crate::ids::{AreaName, ServiceName};
use crate::snapshot::{CallStats, Caller, Coverage, Measured, Snapshot};

/// Calls that a request is followed through; longer chains add what the guard below cuts off.
const DEPTH: usize = 32;
/// Visits for each user request below which an instance is not followed: it can't hold a share of the delay.
const LEAST_VISITS: f64 = 1e-4;

/// A service in an area.
pub(super) type Instance = (ServiceName, AreaName);

/// Visits of each instance for each request of an edge's users.
#[derive(Debug)]
pub(super) struct Visits<'a> {
    snapshot: &'a Snapshot,
    calls: BTreeMap<Instance, Vec<&'a CallStats>>,
    delay_us: Option<f64>,
    visits: BTreeMap<Instance, f64>,
}

impl<'a> Visits<'a> {
    /// Follows the requests of the users of `edge`.
    pub(super) fn of(snapshot: &'a Snapshot, edge: &AreaName) -> Self {
        let mut calls: BTreeMap<Instance, Vec<&CallStats>> = BTreeMap::new();
        let mut users = Vec::new();
        for call in &snapshot.calls {
            match &call.caller {
                Caller::User { edge: at } if at == edge => users.push(call),
                Caller::User { .. } => {}
                Caller::Instance { service, area } => {
                    let of = (service.clone(), area.clone());
                    calls.entry(of).or_default().push(call);
                }
            }
        }
        let heard = snapshot.edges.get(edge);
        let delay_us = match heard.map(|edge| &edge.user_delay) {
            Some(Measured::Present { value }) => Some(value.mean_us),
            _ => None,
        };
        let requests = heard.map_or(0, |edge| edge.outcomes.total());
        let mut this = Self {
            snapshot,
            calls,
            delay_us,
            visits: BTreeMap::new(),
        };
        this.follow(&users, requests);
        this
    }

    fn follow(&mut self, users: &[&CallStats], requests: u64) {
        let mut open: BTreeMap<Instance, f64> = BTreeMap::new();
        for call in users {
            if let Some(to) = answered(call) {
                *open.entry(to).or_default() += ratio(call.outcomes.total(), requests);
            }
        }
        for _ in 0..DEPTH {
            let mut next: BTreeMap<Instance, f64> = BTreeMap::new();
            for (at, visits) in open {
                let received = self.received(&at).map_or(0, |(requests, _, _)| requests);
                for call in self.calls.get(&at).into_iter().flatten() {
                    let made = visits * ratio(call.outcomes.total(), received);
                    if let Some(to) = answered(call).filter(|_| made >= LEAST_VISITS) {
                        *next.entry(to).or_default() += made;
                    }
                }
                *self.visits.entry(at).or_default() += visits;
            }
            if next.is_empty() {
                break;
            }
            open = next;
        }
    }

    /// Whether the users reach the service, in any area.
    pub(super) fn reaches(&self, service: &ServiceName) -> bool {
        self.visits.keys().any(|(reached, _)| reached == service)
    }

    /// Part of the user delay that is spent inside an instance, 0 … 1, waiting for its slowest callee left out: at most
    /// that, because of what it calls at the same time only the slowest is known to be waited for.
    pub(super) fn share(&self, at: &Instance) -> f64 {
        let (Some(delay_us), Some(visits)) = (self.delay_us, self.visits.get(at)) else {
            return 0.0;
        };
        let Some((received, timed, sum_us)) = self.received(at).filter(|_| delay_us > 0.0) else {
            return 0.0;
        };
        let mut waits: BTreeMap<&ServiceName, f64> = BTreeMap::new();
        for call in self.calls.get(at).into_iter().flatten() {
            *waits.entry(&call.callee).or_default() += ratio(call.sum_us, received);
        }
        let slowest = waits.into_values().fold(0.0, f64::max);
        let own_us = (ratio(sum_us, timed) - slowest).max(0.0);
        (visits * own_us / delay_us).min(1.0)
    }

    /// Coverage of the sidecars of every instance that the users reach.
    pub(super) fn coverage(&self) -> Coverage {
        let reached = |service: &ServiceName, area: &AreaName| {
            self.visits.contains_key(&(service.clone(), area.clone()))
        };
        let mut sum = Coverage::default();
        for known in &self.snapshot.coverage {
            if reached(&known.service, &known.area) {
                sum.expected = sum.expected.saturating_add(known.coverage.expected);
                sum.heard = sum.heard.saturating_add(known.coverage.heard);
                sum.blind = sum.blind.saturating_add(known.coverage.blind);
            }
        }
        sum
    }

    /// Requests, requests with a duration, and the sum of those, µs.
    fn received(&self, (service, area): &Instance) -> Option<(u64, u64, u64)> {
        let mut found = None;
        for received in &self.snapshot.received {
            if received.service == *service && received.area == *area {
                let (requests, timed, sum_us) = found.unwrap_or_default();
                found = Some((
                    received.outcomes.total().saturating_add(requests),
                    received.timed.saturating_add(timed),
                    received.sum_us.saturating_add(sum_us),
                ));
            }
        }
        found
    }
}

fn answered(call: &CallStats) -> Option<Instance> {
    let area = call.callee_area.as_ref()?;
    Some((call.callee.clone(), area.clone()))
}
