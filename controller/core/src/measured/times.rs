//! Own times, overlaps and hops from sums.

use std::collections::BTreeMap;
use std::time::Duration;

use super::learned::{Fit, Learned};
use super::sums::{From, Sums};
use crate::ids::{ServiceName, Timestamp};
use crate::model::{AreaIx, Edge, ServiceIx, byte_us};
use crate::snapshot::{Measured, Snapshot};

/// With fewer requests an area's own time is not taken from itself but from all areas together.
const OWN_TIME_REQUESTS: f64 = 30.0;
/// Calls that the mean hop of all services counts for in that of each: a hop is the difference of two means, and with
/// times that vary by 15 ms this many calls know it to 1 ms, which is about what it is.
const HOP_PRIOR_CALLS: f64 = 225.0;

/// What a call takes beyond the callee's own delay: weighted sum and weight.
#[derive(Clone, Copy, Debug, Default)]
struct Hop {
    us: f64,
    calls: f64,
}

/// One request of a service, µs: inside (I), its slowest call (X) and its other calls (W).
#[derive(Clone, Copy, Debug)]
pub(super) struct Inside {
    pub(super) requests: f64,
    pub(super) inbound: f64,
    pub(super) slowest: f64,
    pub(super) others: f64,
}

pub(super) struct Times<'a> {
    sums: &'a Sums,
    edges: usize,
    /// Round trip and time of a byte, µs, of each edge; none where the round trip is not known.
    links: Vec<Option<(f64, f64)>>,
    all_local: Hop,
    all_remote: Hop,
    at: Timestamp,
}

// === impl Hop ===

impl Hop {
    fn add(&mut self, us: f64, calls: f64) {
        self.us += us * calls;
        self.calls += calls;
    }

    fn mean(self) -> Option<f64> {
        (self.calls > 0.0).then(|| (self.us / self.calls).max(0.0))
    }

    /// The mean, drawn to that of all services where there are few calls.
    fn shrunk(mut self, all: Self) -> Option<f64> {
        if let Some(all) = all.mean() {
            self.add(all, HOP_PRIOR_CALLS);
        }
        self.mean()
    }
}

// === impl Times ===

impl<'a> Times<'a> {
    pub(super) fn new(sums: &'a Sums, edges: &[Edge], snapshot: &Snapshot) -> Self {
        let link = |(at, edge): (usize, &Edge)| {
            let rtt = &snapshot.edges.get(&edge.area.name)?.rtt;
            let known = matches!(rtt, Measured::Present { .. });
            let traffic = traffic_bps(sums, AreaIx::all(edges.len()).nth(at + 1), snapshot.window);
            known.then(|| (edge.rtt.as_f64(), byte_us(traffic, edge.bandwidth)))
        };
        let links = edges.iter().enumerate().map(link).collect();
        let mut this = Self {
            sums,
            edges: edges.len(),
            links,
            all_local: Hop::default(),
            all_remote: Hop::default(),
            at: snapshot.at,
        };
        (this.all_local, this.all_remote) = this.hops(None);
        this
    }

    /// s of a service: the part of its calls but the slowest that it waits for. Prior: where what is inside covers all
    /// calls one after the other, that is taken for the truth; else its own time is taken for nothing.
    pub(super) fn serial(&self, name: &ServiceName, service: ServiceIx, learned: &Learned) -> f64 {
        let Some(all) = self.inside(service, None).filter(|all| all.others > 0.0) else {
            return 1.0;
        };
        let prior = (all.inbound - all.slowest) / all.others;
        let window = Fit::of_window(self.sums, service, self.edges);
        learned.with_window(name, &window, self.at).shrunk(prior)
    }

    /// Time of a request inside the service without what it waits for, µs.
    pub(super) fn own(&self, service: ServiceIx, area: AreaIx, serial: f64) -> f64 {
        let here = self
            .inside(service, Some(area))
            .filter(|here| here.requests >= OWN_TIME_REQUESTS);
        let inside = here.or_else(|| self.inside(service, None));
        inside.map_or(0.0, |inside| {
            (inside.inbound - inside.slowest - serial * inside.others).max(0.0)
        })
    }

    pub(super) fn hop_local(&self, service: ServiceIx) -> f64 {
        let (local, _) = self.hops(Some(service));
        local.shrunk(self.all_local).unwrap_or(0.0)
    }

    pub(super) fn hop_remote(&self, service: ServiceIx) -> f64 {
        let (_, remote) = self.hops(Some(service));
        remote
            .shrunk(self.all_remote)
            .unwrap_or_else(|| self.hop_local(service))
    }

    fn inside(&self, service: ServiceIx, area: Option<AreaIx>) -> Option<Inside> {
        inside(self.sums, self.edges, service, area)
    }

    /// Local and remote hops to one service, or to all: mean outbound less mean inbound, weighted by calls (over all
    /// callers of an area the callers' differences cancel), less round trip and transfer between areas. Edges whose round
    /// trip is not known say nothing of remote hops.
    fn hops(&self, only: Option<ServiceIx>) -> (Hop, Hop) {
        let (mut local, mut remote) = (Hop::default(), Hop::default());
        for ((from, callee, area), sum) in &self.sums.calls {
            let Some(to) = *area else { continue };
            if only.is_some_and(|only| only != *callee) {
                continue;
            }
            let received = self.sums.received_at(*callee, to);
            let (Some(outbound), Some(inbound)) = (sum.mean(), received.mean()) else {
                continue;
            };
            let over = outbound - inbound;
            if from.area() == to {
                local.add(over, sum.timed);
            } else if let Some(way) = self.between(from.area(), to, sum.bytes / sum.timed) {
                remote.add(over - way, sum.timed);
            }
        }
        (local, remote)
    }

    /// As the model has it: the round trips of both edges, and the transfer into the caller's.
    fn between(&self, from: AreaIx, to: AreaIx, bytes: f64) -> Option<f64> {
        let link = |area: AreaIx| match area {
            AreaIx::Cloud => Some((0.0, 0.0)),
            AreaIx::Edge(edge) => self.links.get(edge.position()).copied().flatten(),
        };
        let ((rtt_from, byte_us), (rtt_to, _)) = (link(from)?, link(to)?);
        Some(rtt_from + rtt_to + byte_us * bytes)
    }
}

/// In one area, or over all of them (then every request counts alike).
pub(super) fn inside(sums: &Sums, edges: usize, service: ServiceIx, area: Option<AreaIx>) -> Option<Inside> {
    let received = area.map_or_else(|| sums.received(service), |area| sums.received_at(service, area));
    let at = |here: AreaIx| area.is_none_or(|area| area == here);
    let calls = AreaIx::all(edges)
        .filter(|here| at(*here))
        .flat_map(|here| sums.of_caller(From::Service(service, here)));
    let mut by_callee: BTreeMap<ServiceIx, f64> = BTreeMap::new();
    for ((_, callee, _), sum) in calls {
        let mean = sum.mean().unwrap_or_default();
        *by_callee.entry(*callee).or_default() += sum.requests / received.requests * mean;
    }
    let slowest = by_callee.values().copied().fold(0.0, f64::max);
    let others = by_callee.values().sum::<f64>() - slowest;
    Some(Inside {
        requests: received.timed,
        inbound: received.mean()?,
        slowest,
        others,
    })
}

/// Answers into an edge now, bit/s.
fn traffic_bps(sums: &Sums, edge: Option<AreaIx>, window: Duration) -> f64 {
    let from_afar = sums
        .calls
        .iter()
        .filter(|((from, _, to), _)| Some(from.area()) == edge && *to != edge);
    let bytes: f64 = from_afar.map(|(_, sum)| sum.bytes).sum();
    if window.is_zero() {
        0.0
    } else {
        8.0 * bytes / window.as_secs_f64()
    }
}
