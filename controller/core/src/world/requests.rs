//! Requests of a tick, walked through the call graph.
//!
//! At most [`WALKS`] requests of an edge are walked in a tick; each stands for a whole number of real ones, so that
//! every proxy on the way counts what its caller counted.

#![expect(
    clippy::indexing_slicing,
    reason = "positions of services, areas and proxies are made by the world itself and checked by Spec"
)]

use std::time::Duration;

use super::TICK;
use super::draw::{Draw, LogNormal};
use super::instance::Instance;
use super::proxy::{Ending, Key, Proxy};
use super::spec::{CallSpec, ServiceSpec};

/// Requests of an edge that are walked in a tick.
pub(super) const WALKS: u32 = 16;
/// Network and proxies of a call within an area, microseconds.
const HOP_US: f64 = 400.0;
/// When nothing answers, callers give up after this.
const GIVE_UP_US: f64 = 3e6;
/// A link is never taken to be fuller than this: what does not fit waits.
const MOST_BUSY: f64 = 0.98;
/// Weight of the newest tick in the use of a link.
const SMOOTHING: f64 = 0.25;
/// Other endpoints that a call tries where one does not answer: Istio's default retries.
const RETRIES: usize = 2;

/// A link between an edge and the cloud.
#[derive(Clone, Debug)]
pub(super) struct Link {
    pub(super) rtt_us: f64,
    pub(super) jitter: LogNormal,
    pub(super) is_cut: bool,
    pub(super) bandwidth: Option<f64>,
    /// Bytes of this tick.
    pub(super) bytes: f64,
    /// Bytes of all ticks before.
    pub(super) carried: f64,
    /// Share of the bandwidth in use, over about a second.
    pub(super) busy: f64,
}

// === impl Link ===

impl Link {
    /// Ends a tick.
    pub(super) fn settle(&mut self) {
        if let Some(bandwidth) = self.bandwidth {
            let share = 8.0 * self.bytes / (bandwidth * TICK.as_secs_f64());
            self.busy += SMOOTHING * (share - self.busy);
        }
        self.carried += self.bytes;
        self.bytes = 0.0;
    }

    /// Time of an answer on the link, microseconds: its bits over what the others leave free, as in [`crate::model`].
    fn transfer_us(&self, bytes: f64) -> f64 {
        self.bandwidth.map_or(0.0, |bandwidth| {
            8e6 * bytes / bandwidth / (1.0 - self.busy.min(MOST_BUSY))
        })
    }
}

/// What a walk sees and changes.
pub(super) struct Walk<'a> {
    pub(super) now: Duration,
    pub(super) services: &'a [ServiceSpec],
    /// By service and area.
    pub(super) instances: &'a mut [Vec<Option<Instance>>],
    pub(super) proxies: &'a mut [Proxy],
    /// By edge.
    pub(super) links: &'a mut [Link],
    /// Percent that callers at an edge give to their own edge, by service and area; 0 in the cloud.
    pub(super) shares: &'a [Vec<u32>],
    /// What own times are multiplied by now.
    pub(super) level: f64,
    pub(super) own: &'a LogNormal,
    pub(super) draw: &'a mut Draw,
    /// Requests that each walk stands for.
    pub(super) requests: u32,
}

// === impl Walk ===

impl Walk<'_> {
    /// A call from a proxy's worker in `from`; its duration as the caller sees it, and how it ended.
    pub(super) fn call(&mut self, caller: (usize, usize), from: usize, callee: usize) -> (f64, Ending) {
        let share = self.shares[callee][from];
        let wants_edge = from > 0 && share > 0 && self.draw.below(100) < share as usize;
        let first = if wants_edge { from } else { 0 };
        // A locality without endpoints has no share: the rest takes it.
        let other = if wants_edge || share == 0 { 0 } else { from };
        let area = if self.has_endpoint(callee, first) {
            first
        } else {
            other
        };
        let reached = (area == from || !self.links[from.max(area) - 1].is_cut)
            .then(|| self.endpoint(callee, area))
            .flatten();
        let (duration_us, ending) = match reached {
            Some(proxy) => {
                let (inside_us, ending) = self.serve(callee, area, proxy);
                (inside_us + self.net_us(from, area, callee), ending)
            }
            None => (GIVE_UP_US, Ending::NoResponse),
        };
        let key = Key::Outbound {
            callee,
            area: reached.map(|_| area),
            ending,
        };
        let requests = self.requests;
        self.proxies[caller.0].record(caller.1, key, duration_us, requests);
        (duration_us, ending)
    }

    fn has_endpoint(&self, service: usize, area: usize) -> bool {
        let instance = self.instances[service][area].as_ref();
        instance.is_some_and(|instance| {
            let mut replicas = instance.replicas.iter();
            replicas.any(|replica| Instance::is_endpoint(replica, self.now))
        })
    }

    /// The proxy of an endpoint that answers, after retries; none where all that were tried are dead.
    fn endpoint(&mut self, service: usize, area: usize) -> Option<usize> {
        let instance = self.instances[service][area].as_mut()?;
        instance.arrivals += self.requests;
        let replicas = &instance.replicas;
        let endpoints = replicas
            .iter()
            .filter(|replica| Instance::is_endpoint(replica, self.now))
            .count();
        let start = self.draw.below(endpoints);
        let mut tried = replicas
            .iter()
            .filter(|replica| Instance::is_endpoint(replica, self.now))
            .cycle()
            .skip(start)
            .take(endpoints.min(1 + RETRIES));
        tried
            .find(|replica| replica.life == super::instance::Life::Ready)
            .map(|replica| replica.proxy)
    }

    /// A request inside an instance.
    fn serve(&mut self, service: usize, area: usize, proxy: usize) -> (f64, Ending) {
        let services = self.services;
        let spec = &services[service];
        let (slow, errors, wait_us, full) =
            self.instances[service][area]
                .as_ref()
                .map_or((1.0, 0.0, 0.0, false), |instance| {
                    let wait_us = instance.wait_us(spec.cpu_us * instance.slow);
                    (instance.slow, instance.errors, wait_us, instance.is_full())
                });
        let worker = self.draw.below(self.proxies[proxy].workers.len());
        let mut ending = Ending::Ok;
        let mut inside_us = wait_us + spec.own_us * slow * self.level * self.own.draw(self.draw);
        if full || (errors > 0.0 && self.draw.chance(errors)) {
            ending = Ending::ServerError;
        } else {
            for group in &spec.groups {
                let mut slowest_us = 0.0_f64;
                for CallSpec { callee, per_request } in group {
                    for _ in 0..self.calls(*per_request) {
                        let (duration_us, ended) = self.call((proxy, worker), area, *callee);
                        slowest_us = slowest_us.max(duration_us);
                        if ended != Ending::Ok {
                            ending = Ending::ServerError;
                        }
                    }
                }
                inside_us += slowest_us;
            }
        }
        let requests = self.requests;
        self.proxies[proxy].record(worker, Key::Inbound { ending }, inside_us, requests);
        (inside_us, ending)
    }

    /// A whole number with this mean.
    fn calls(&mut self, mean: f64) -> u32 {
        mean as u32 + u32::from(self.draw.chance(mean.fract()))
    }

    fn net_us(&mut self, from: usize, to: usize, callee: usize) -> f64 {
        if from == to {
            return HOP_US;
        }
        let bytes = self.services[callee].answer_bytes;
        let link = &mut self.links[from.max(to) - 1];
        link.bytes += bytes * f64::from(self.requests);
        let trip_us = link.rtt_us * (1.0 + link.jitter.draw(self.draw)) / 2.0;
        HOP_US + trip_us + link.transfer_us(bytes)
    }
}
