//! What requests are counted by: a bounded set of keys, each with an accumulator and totals.
//!
//! A request finds its cluster by the bytes of the cluster's name, then its key in the cluster's short list.
//! Past [`MAX_KEYS`] keys, and for what no table has a place for, there is one overflow key for each
//! direction, locality and outcome, so that outcomes are never mixed and every request is in some series.

use std::time::Duration;

use gma_report::limits::{MAX_KEYS, MAX_SERIES};
use gma_report::v1::{self, Direction, Outcome};

use crate::accumulator::{Accumulator, Full, Observation, Totals};
use crate::cluster::ClusterName;
use crate::intern::{Ordinal, Table};
use crate::node;
use crate::outcome::GrpcProbe;
use crate::time::Timestamp;

/// Cluster names that are remembered: twice the keys, as a service without a key of its own still has
/// a name. Past it requests go to the overflow keys until a sweep forgets unused names.
const MAX_CLUSTERS: u16 = 512;

/// Localities that are remembered. With 5 outcomes this bounds the overflow keys:
/// inbound 5, outbound 5 x (48 + 1): 250.
const MAX_LOCALITIES: u16 = 48;

const _: () = assert!(MAX_KEYS + 5 + 5 * (MAX_LOCALITIES as usize + 1) <= MAX_SERIES);

/// A key that nobody used for so long after its last ack makes place.
const IDLE: Duration = Duration::from_secs(600);

/// A cluster that is remembered.
#[derive(Debug)]
struct Cluster {
    name: ClusterName,
    grpc: GrpcProbe,
    keys: Vec<Shortcut>,
}

/// From a request to its key; a handful for each cluster.
#[derive(Clone, Copy, Debug)]
struct Shortcut {
    destination: Option<Ordinal>,
    outcome: Outcome,
    key: usize,
}

/// Where a request went.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Route {
    pub(crate) direction: Direction,
    /// None: the table of names was full.
    cluster: Option<Ordinal>,
}

/// The endpoint's locality.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Destination {
    /// There was no endpoint, or the direction is inbound.
    None,
    /// A locality, perhaps the empty one.
    At(Ordinal),
    /// Malformed, or the table is full.
    Unknown,
}

/// A key and what was counted under it.
#[derive(Debug)]
struct Key {
    wire: v1::Key,
    cluster: Option<Ordinal>,
    destination: Option<Ordinal>,
    window: Accumulator,
    totals: Totals,
    sent: Sent,
}

/// How far the counts of a key have come, the present window aside.
#[derive(Clone, Copy, Debug)]
enum Sent {
    Never,
    /// In the report of this number, not yet answered.
    In(u64),
    /// Everything was answered at this time.
    Answered(Timestamp),
}

/// All keys of a VM.
#[derive(Debug)]
pub(crate) struct Keys {
    clusters: Table<Cluster>,
    localities: Table<v1::Locality>,
    keys: Vec<Option<Key>>,
    /// Keys that are no overflow.
    regular: usize,
    overflow: Vec<(Direction, Shortcut)>,
    /// A key that is made after n evictions has generation n: larger than it had before.
    evictions: u32,
    retired: Totals,
}

impl Default for Keys {
    fn default() -> Self {
        Self {
            clusters: Table::new(MAX_CLUSTERS),
            localities: Table::new(MAX_LOCALITIES),
            keys: Vec::new(),
            regular: 0,
            overflow: Vec::new(),
            evictions: 0,
            retired: Totals::default(),
        }
    }
}

// === impl Keys: one request ===

impl Keys {
    /// The route of a request, by its cluster's name; none where the name is not one of Istio's.
    pub(crate) fn route(&mut self, name: &[u8]) -> Option<Route> {
        if let Some(found) = self.clusters.find(name) {
            let direction = direction(&self.clusters.get(found)?.name);
            return Some(Route {
                direction,
                cluster: Some(found),
            });
        }
        self.new_route(name)
    }

    // What happens once for each name, locality or key stays out of the code that each request runs.
    #[cold]
    #[inline(never)]
    fn new_route(&mut self, name: &[u8]) -> Option<Route> {
        let parsed = ClusterName::parse(name)?;
        let direction = direction(&parsed);
        let cluster = Cluster {
            name: parsed,
            grpc: GrpcProbe::default(),
            keys: Vec::new(),
        };
        Some(Route {
            direction,
            cluster: self.clusters.insert(name, cluster),
        })
    }

    /// Whether a 200 answer of this route is asked for its gRPC status.
    pub(crate) fn asks_grpc(&mut self, route: Route) -> bool {
        // Where the name found no place, so does its key: always asking keeps the outcome right.
        self.probe(route).is_none_or(GrpcProbe::asks)
    }

    /// The route has shown a gRPC status.
    pub(crate) fn show_grpc(&mut self, route: Route) {
        if let Some(probe) = self.probe(route) {
            probe.show();
        }
    }

    fn probe(&mut self, route: Route) -> Option<&mut GrpcProbe> {
        Some(&mut self.clusters.get_mut(route.cluster?)?.grpc)
    }

    /// The locality that the host returned.
    pub(crate) fn destination(&mut self, bytes: &[u8]) -> Destination {
        if let Some(found) = self.localities.find(bytes) {
            return Destination::At(found);
        }
        self.new_destination(bytes)
    }

    #[cold]
    #[inline(never)]
    fn new_destination(&mut self, bytes: &[u8]) -> Destination {
        let inserted = node::locality(bytes).and_then(|locality| self.localities.insert(bytes, locality));
        inserted.map_or(Destination::Unknown, Destination::At)
    }

    /// Counts one request.
    pub(crate) fn add(
        &mut self,
        route: Route,
        destination: Destination,
        outcome: Outcome,
        observation: &Observation,
    ) -> Result<(), Full> {
        let key = self
            .key(route, destination, outcome)
            .and_then(|at| self.keys.get_mut(at)?.as_mut());
        let key = key.ok_or(Full)?;
        key.window.add(observation)?;
        key.totals.add(observation);
        Ok(())
    }

    fn key(&mut self, route: Route, destination: Destination, outcome: Outcome) -> Option<usize> {
        let place = match destination {
            Destination::None => None,
            Destination::At(place) => Some(place),
            Destination::Unknown => return self.overflow_key(route, None, outcome),
        };
        let cluster = route.cluster.and_then(|at| self.clusters.get(at));
        match cluster.and_then(|cluster| cluster.keys.iter().find(|each| each.is(place, outcome))) {
            Some(found) => Some(found.key),
            None => self.new_key(route, place, outcome),
        }
    }

    #[cold]
    #[inline(never)]
    fn new_key(&mut self, route: Route, place: Option<Ordinal>, outcome: Outcome) -> Option<usize> {
        match route.cluster.and_then(|at| self.clusters.get(at)) {
            Some(cluster) if self.regular < MAX_KEYS => {
                let wire = self.wire(Some(&cluster.name), route.direction, place, outcome);
                self.insert(wire, route, place, outcome)
            }
            _ => self.overflow_key(route, place, outcome),
        }
    }

    #[cold]
    #[inline(never)]
    fn overflow_key(&mut self, route: Route, place: Option<Ordinal>, outcome: Outcome) -> Option<usize> {
        let mut same_side = self
            .overflow
            .iter()
            .filter(|(direction, _)| *direction == route.direction);
        if let Some((_, found)) = same_side.find(|(_, shortcut)| shortcut.is(place, outcome)) {
            return Some(found.key);
        }
        let wire = self.wire(None, route.direction, place, outcome);
        self.insert(
            wire,
            Route {
                cluster: None,
                ..route
            },
            place,
            outcome,
        )
    }

    /// The key on the wire; without a name, the overflow key.
    fn wire(
        &self,
        name: Option<&ClusterName>,
        direction: Direction,
        destination: Option<Ordinal>,
        outcome: Outcome,
    ) -> v1::Key {
        let (service, port, subset) = match name {
            Some(ClusterName::Outbound {
                port,
                subset,
                service,
            }) => (service.clone(), *port, subset.clone()),
            Some(ClusterName::Inbound { port }) => (String::new(), *port, String::new()),
            None => (String::new(), 0, String::new()),
        };
        v1::Key {
            direction: direction.into(),
            service,
            port: port.into(),
            subset,
            destination: destination.and_then(|at| self.localities.get(at)).cloned(),
            outcome: outcome.into(),
            overflow: name.is_none(),
            generation: self.evictions,
        }
    }

    fn insert(
        &mut self,
        wire: v1::Key,
        route: Route,
        destination: Option<Ordinal>,
        outcome: Outcome,
    ) -> Option<usize> {
        let free = self
            .keys
            .iter()
            .position(Option::is_none)
            .unwrap_or(self.keys.len());
        let shortcut = Shortcut {
            destination,
            outcome,
            key: free,
        };
        match route.cluster {
            Some(cluster) => {
                self.clusters.get_mut(cluster)?.keys.push(shortcut);
                self.regular += 1;
            }
            None => self.overflow.push((route.direction, shortcut)),
        }
        let (window, totals) = (Accumulator::default(), Totals::default());
        let key = Key {
            wire,
            cluster: route.cluster,
            destination,
            window,
            totals,
            sent: Sent::Never,
        };
        match self.keys.get_mut(free) {
            Some(place) => *place = Some(key),
            None => self.keys.push(Some(key)),
        }
        Some(free)
    }
}

// === impl Keys: windows ===

impl Keys {
    /// Empties the present window: calls `put` with each series that has requests, which answers with the
    /// number of the report that the series went into.
    pub(crate) fn drain(&mut self, mut put: impl FnMut(v1::Series) -> u64) {
        for key in self
            .keys
            .iter_mut()
            .flatten()
            .filter(|key| !key.window.is_empty())
        {
            key.sent = Sent::In(put(key.window.take(&key.wire)));
        }
    }

    /// The report of this number, and so all before it, is done with.
    pub(crate) fn answered(&mut self, seq: u64, now: Timestamp) {
        for key in self.keys.iter_mut().flatten() {
            if matches!(key.sent, Sent::In(last) if last <= seq) {
                key.sent = Sent::Answered(now);
            }
        }
    }

    /// Totals since the VM's start; those of requests without a key are the caller's to add.
    pub(crate) fn totals(&self) -> v1::Totals {
        let total = |key: &Key| v1::Total {
            key: Some(key.wire.clone()),
            count: key.totals.count,
            long_count: key.totals.long_count,
            sum_us: key.totals.sum_us,
        };
        v1::Totals {
            keys: self.keys.iter().flatten().map(total).collect(),
            retired_count: self.retired.count,
            retired_long_count: self.retired.long_count,
            unmeasured: 0,
        }
    }

    /// Evicts idle keys, and forgets names and localities without a key where their table gets full.
    pub(crate) fn sweep(&mut self, now: Timestamp) {
        for at in 0..self.keys.len() {
            let Some(place) = self.keys.get_mut(at) else {
                continue;
            };
            if let Some(key) = place.take_if(|key| key.is_idle(now)) {
                self.retire(at, &key);
            }
        }
        if self.clusters.is_crowded() {
            self.clusters.retain(|_, cluster| !cluster.keys.is_empty());
        }
        if self.localities.is_crowded() {
            let used: Vec<_> = self
                .keys
                .iter()
                .flatten()
                .filter_map(|key| key.destination)
                .collect();
            self.localities.retain(|at, _| used.contains(&at));
        }
    }

    fn retire(&mut self, at: usize, key: &Key) {
        match key.cluster.and_then(|cluster| self.clusters.get_mut(cluster)) {
            Some(cluster) => {
                cluster.keys.retain(|shortcut| shortcut.key != at);
                self.regular -= 1;
            }
            None => self.overflow.retain(|(_, shortcut)| shortcut.key != at),
        }
        self.evictions = self.evictions.saturating_add(1);
        self.retired.merge(&key.totals);
    }
}

impl Shortcut {
    fn is(&self, destination: Option<Ordinal>, outcome: Outcome) -> bool {
        self.destination == destination && self.outcome == outcome
    }
}

impl Key {
    fn is_idle(&self, now: Timestamp) -> bool {
        self.window.is_empty() && matches!(self.sent, Sent::Answered(at) if now.since(at) >= IDLE)
    }
}

const fn direction(name: &ClusterName) -> Direction {
    match name {
        ClusterName::Outbound { .. } => Direction::Outbound,
        ClusterName::Inbound { .. } => Direction::Inbound,
    }
}
