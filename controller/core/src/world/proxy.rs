//! Proxies and what their workers measured: for each key the durations, as a filter would see them.

use std::time::Duration;

/// A proxy.
#[derive(Clone, Debug)]
pub struct Proxy {
    /// Envoy's node id.
    pub node: String,
    /// Position of its area: 0 is the cloud, then the edges.
    pub area: usize,
    /// Position of its service; none at a gateway.
    pub service: Option<usize>,
    /// It is there: it reports, and the platform lists it.
    pub is_alive: bool,
    /// Its pod is Ready since.
    pub ready_since: Option<Duration>,
    /// Its workers.
    pub workers: Vec<Worker>,
}

/// A worker of a proxy, with a filter of its own.
#[derive(Clone, Debug, Default)]
pub struct Worker {
    /// What it counted and nobody has taken yet.
    pub tally: Vec<(Key, Tally)>,
    /// Its filter is dead: it passes requests and counts none.
    pub is_blind: bool,
    /// Requests that it counted since its start.
    pub counted: u64,
}

/// What requests are counted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// Received by the proxy's own service.
    Inbound {
        /// How they ended.
        ending: Ending,
    },
    /// Sent by the proxy's own service, or by users through a gateway.
    Outbound {
        /// Position of the service that was called.
        callee: usize,
        /// Position of the area that answered; none where nothing was reached.
        area: Option<usize>,
        /// How they ended.
        ending: Ending,
    },
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Ending {
    /// Answered.
    Ok,
    /// Answered with an error of the server.
    ServerError,
    /// Nothing answered.
    NoResponse,
}

/// Requests of one key.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tally {
    /// Requests.
    pub count: u64,
    /// Sum of their durations, microseconds.
    pub sum_us: u64,
    /// Durations in microseconds, each with the number of requests that had it; in no order.
    pub durations: Vec<(u32, u32)>,
}

// === impl Proxy ===

impl Proxy {
    /// A worker counts `requests` requests of one duration.
    pub(super) fn record(&mut self, worker: usize, key: Key, duration_us: f64, requests: u32) {
        let Some(worker) = self.workers.get_mut(worker).filter(|worker| !worker.is_blind) else {
            return;
        };
        worker.counted += u64::from(requests);
        let us = duration_us.clamp(1.0, 6e7) as u32;
        let known = worker.tally.iter().position(|(known, _)| *known == key);
        let at = known.unwrap_or_else(|| {
            worker.tally.push((key, Tally::default()));
            worker.tally.len() - 1
        });
        if let Some((_, tally)) = worker.tally.get_mut(at) {
            tally.count += u64::from(requests);
            tally.sum_us += u64::from(us) * u64::from(requests);
            tally.durations.push((us, requests));
        }
    }
}
