//! Own times, overlaps and hops from sums.

use std::time::Duration;

use super::sums::{From, Sums};
use crate::model::{AreaIx, Edge, ServiceIx, byte_us};

/// With fewer requests an area's own time is not taken from itself but from all areas together.
const OWN_TIME_REQUESTS: f64 = 30.0;
/// Two areas tell own time and overlap apart only with so many requests each,
const OVERLAP_REQUESTS: f64 = 50.0;
/// and where the time of their calls differs by this part: below, noise would be divided by nearly nothing.
const OVERLAP_CONTRAST: f64 = 0.25;

/// What a call takes beyond the callee's own delay: weighted sum and weight.
#[derive(Clone, Copy, Debug, Default)]
struct Hop {
    us: f64,
    calls: f64,
}

/// One request of a service, µs: inside (I) and in its calls, one after the other (W).
#[derive(Clone, Copy, Debug)]
struct Inside {
    requests: f64,
    inbound_us: f64,
    calls_us: f64,
}

pub(super) struct Times<'a> {
    sums: &'a Sums,
    edges: usize,
    links: Vec<(f64, f64)>,
    all_local: Hop,
    all_remote: Hop,
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
}

// === impl Times ===

impl<'a> Times<'a> {
    pub(super) fn new(sums: &'a Sums, edges: &[Edge], window: Duration) -> Self {
        let link = |(at, edge): (usize, &Edge)| {
            let traffic = traffic_bps(sums, AreaIx::all(edges.len()).nth(at + 1), window);
            (edge.rtt.as_f64(), byte_us(traffic, edge.bandwidth))
        };
        let links = edges.iter().enumerate().map(link).collect();
        let mut this = Self { sums, edges: edges.len(), links, all_local: Hop::default(), all_remote: Hop::default() };
        (this.all_local, this.all_remote) = this.hops(None);
        this
    }

    /// o of a service: see [`super`].
    pub(super) fn overlap(&self, service: ServiceIx) -> f64 {
        let Some(all) = self.inside(service, None).filter(|all| all.calls_us > 0.0) else { return 1.0 };
        let children = f64::from(u32::try_from(self.sums.callees(service).count()).unwrap_or(u32::MAX));
        let least = 1.0 / children.max(self.sums.calls_per_request(service)).max(1.0);
        let prior = if all.inbound_us >= all.calls_us { 1.0 } else { all.inbound_us / all.calls_us };
        self.overlap_of_two_areas(service).unwrap_or(prior).clamp(least, 1.0)
    }

    /// Where a service runs in two areas and its calls take longer in one, own time and overlap are two unknowns in two
    /// equations I = own + o·W.
    fn overlap_of_two_areas(&self, service: ServiceIx) -> Option<f64> {
        let inside = |area| self.inside(service, Some(area)).filter(|inside| inside.requests >= OVERLAP_REQUESTS);
        let inside: Vec<Inside> = AreaIx::all(self.edges).filter_map(inside).collect();
        let by_calls = |one: &&Inside, two: &&Inside| one.calls_us.total_cmp(&two.calls_us);
        let (low, high) = (inside.iter().min_by(by_calls)?, inside.iter().max_by(by_calls)?);
        let apart = high.calls_us - low.calls_us;
        (apart > OVERLAP_CONTRAST * high.calls_us).then(|| (high.inbound_us - low.inbound_us) / apart)
    }

    /// Time of a request inside the service without what it calls, µs.
    pub(super) fn own(&self, service: ServiceIx, area: AreaIx, overlap: f64) -> f64 {
        let here = self.inside(service, Some(area)).filter(|here| here.requests >= OWN_TIME_REQUESTS);
        let inside = here.or_else(|| self.inside(service, None));
        inside.map_or(0.0, |inside| (inside.inbound_us - overlap * inside.calls_us).max(0.0))
    }

    pub(super) fn hop_local(&self, service: ServiceIx) -> f64 {
        let (local, _) = self.hops(Some(service));
        local.mean().or_else(|| self.all_local.mean()).unwrap_or(0.0)
    }

    pub(super) fn hop_remote(&self, service: ServiceIx) -> f64 {
        let (_, remote) = self.hops(Some(service));
        remote.mean().or_else(|| self.all_remote.mean()).unwrap_or_else(|| self.hop_local(service))
    }

    /// In one area, or over all of them (then every request counts alike).
    fn inside(&self, service: ServiceIx, area: Option<AreaIx>) -> Option<Inside> {
        let received =
            area.map_or_else(|| self.sums.received(service), |area| self.sums.received_at(service, area));
        let inbound_us = received.mean()?;
        let at = |here: AreaIx| area.is_none_or(|area| area == here);
        let calls_us: f64 = AreaIx::all(self.edges)
            .filter(|here| at(*here))
            .flat_map(|here| self.sums.of_caller(From::Service(service, here)))
            .filter_map(|(_, sum)| Some(sum.requests / received.requests * sum.mean()?))
            .sum();
        Some(Inside { requests: received.timed, inbound_us, calls_us })
    }

    /// Local and remote hops to one service, or to all: mean outbound less mean inbound, weighted by calls (over all
    /// callers of an area the callers' differences cancel), less round trip and transfer between areas.
    fn hops(&self, only: Option<ServiceIx>) -> (Hop, Hop) {
        let (mut local, mut remote) = (Hop::default(), Hop::default());
        for ((from, callee, area), sum) in &self.sums.calls {
            let Some(to) = *area else { continue };
            if only.is_some_and(|only| only != *callee) {
                continue;
            }
            let received = self.sums.received_at(*callee, to);
            let (Some(outbound), Some(inbound)) = (sum.mean(), received.mean()) else { continue };
            let over = outbound - inbound;
            if from.area() == to {
                local.add(over, sum.timed);
            } else {
                remote.add(over - self.between(from.area(), to, sum.bytes / sum.timed), sum.timed);
            }
        }
        (local, remote)
    }

    /// As the model has it: the round trips of both edges, and the transfer into the caller's.
    fn between(&self, from: AreaIx, to: AreaIx, bytes: f64) -> f64 {
        let link = |area: AreaIx| area.position().checked_sub(1).and_then(|edge| self.links.get(edge));
        let rtt: f64 = [from, to].into_iter().filter_map(link).map(|(rtt, _)| rtt).sum();
        rtt + link(from).map_or(0.0, |(_, byte_us)| byte_us * bytes)
    }
}

/// Answers into an edge now, bit/s.
fn traffic_bps(sums: &Sums, edge: Option<AreaIx>, window: Duration) -> f64 {
    let from_afar = sums.calls.iter().filter(|((from, _, to), _)| Some(from.area()) == edge && *to != edge);
    let bytes: f64 = from_afar.map(|(_, sum)| sum.bytes).sum();
    if window.is_zero() { 0.0 } else { 8.0 * bytes / window.as_secs_f64() }
}
