//! A simulated world: services, queues, links, autoscalers and proxies, from a seed.
//!
//! It stands in for a mesh under the decision machine: it takes [`Effect`](crate::decide::Effect)s, shows a [`Cluster`](crate::cluster::Cluster), and its proxies count
//! requests as the filter would. It knows nothing of reports and decides nothing. Deterministic: the same [`Spec`] and
//! the same calls give the same world.
//!
//! ```text
//!  users ─ rate ─► requests ─► instances: own time · level + wait(use) + calls over links
//!                     │              │
//!                     ▼              ▼
//!             Proxy: durations   autoscaler: 15 s, 10 %, 5 min
//!                     │              │
//!                [`World::proxies`]  [`World::cluster`]  ◄── [`World::perform`]: instances, weights
//! ```
//!
//! What it leaves out: retries beyond Istio's two, connection pools, clients that go away.

mod draw;
mod example;
mod instance;
mod platform;
mod proxy;
mod requests;
mod spec;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::time::Duration;

use crate::cluster::RoutingPlan;

pub use draw::{Draw, LogNormal};
pub use proxy::{Ending, Key, Proxy, Tally, Worker};
pub use spec::{CallSpec, EdgeSpec, Load, ServiceSpec, Spec};

use instance::{Instance, Life, Replica};
use requests::{Link, WALKS, Walk};

/// A world goes on in steps of this.
pub const TICK: Duration = Duration::from_millis(250);
/// σ of the logarithm of a request's own time.
const OWN_SIGMA: f64 = 0.5;
/// φ of the level, from tick to tick.
const LEVEL_PHI: f64 = 0.9;
/// A container that died is started again after this, uniform between the two (Kubernetes' first back-off is 10 s).
const RESTART_S: (f64, f64) = (8.0, 15.0);

/// What users of an edge saw since the last look.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Users {
    /// Requests.
    pub requests: u64,
    /// Those that failed.
    pub failed: u64,
    /// Sum of the durations of the others, microseconds.
    pub sum_us: f64,
}

/// Something that changes in the world from outside.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// The round trip of an edge's link, microseconds.
    Rtt {
        /// Position of the edge, from 0.
        edge: usize,
        /// Microseconds.
        us: f64,
    },
    /// An edge's link is cut, or whole again.
    Cut {
        /// Position of the edge, from 0.
        edge: usize,
        /// Whether nothing passes.
        is_cut: bool,
    },
    /// The rate of an edge's users.
    Rate {
        /// Position of the edge, from 0.
        edge: usize,
        /// Requests a second.
        rate: f64,
    },
    /// Own times of a service in an area are multiplied.
    Slow {
        /// Position of the service.
        service: usize,
        /// Position of the area: 0 is the cloud.
        area: usize,
        /// By this.
        factor: f64,
    },
    /// A service in an area answers some requests with an error.
    Errors {
        /// Position of the service.
        service: usize,
        /// Position of the area: 0 is the cloud.
        area: usize,
        /// Share of them.
        share: f64,
    },
    /// A replica dies and is started again later.
    Crash {
        /// Position of the service.
        service: usize,
        /// Position of the area: 0 is the cloud.
        area: usize,
    },
    /// Instances made from now on take so long until they are Ready; none: for ever.
    StartUp(Option<(Duration, Duration)>),
}

/// The world.
#[derive(Debug)]
pub struct World {
    spec: Spec,
    now: Duration,
    draw: Draw,
    own: LogNormal,
    level: f64,
    links: Vec<Link>,
    rates: Vec<Load>,
    users: Vec<Users>,
    start_up: Option<(Duration, Duration)>,
    /// By service and area.
    instances: Vec<Vec<Option<Instance>>>,
    /// What is wrong with a service in an area, whether it has an instance or not: slowness, share of errors.
    faults: Vec<Vec<(f64, f64)>>,
    proxies: Vec<Proxy>,
    written: RoutingPlan,
    /// Weights on their way to the proxies, oldest first.
    on_their_way: VecDeque<(Duration, Vec<Vec<u32>>)>,
    /// Percent for callers' own edge, by service and area.
    shares: Vec<Vec<u32>>,
}

// === impl World: time ===

impl World {
    /// A world in which everything runs in the cloud, and nothing at the edges.
    pub fn new(spec: Spec) -> Self {
        let areas = spec.edges.len() + 1;
        let services = spec.services.len();
        let mut this = Self {
            now: Duration::ZERO,
            draw: Draw::new(spec.seed, 1),
            own: LogNormal::new(OWN_SIGMA),
            level: 1.0,
            links: spec.edges.iter().map(link).collect(),
            rates: spec.edges.iter().map(|edge| edge.load.clone()).collect(),
            users: vec![Users::default(); spec.edges.len()],
            start_up: Some(spec.start_up),
            instances: vec![vec![None; areas]; services],
            faults: vec![vec![(1.0, 0.0); areas]; services],
            proxies: Vec::new(),
            written: RoutingPlan::default(),
            on_their_way: VecDeque::new(),
            shares: vec![vec![0; areas]; services],
            spec,
        };
        for edge in 0..this.spec.edges.len() {
            let workers = this.spec.edges.get(edge).map_or(1, |edge| edge.workers);
            this.add_proxy(edge + 1, None, workers);
        }
        for service in 0..services {
            let replicas = this.spec.services.get(service).map_or(1, |spec| spec.replicas);
            let mut instance = Instance::new(this.now, this.spec.autoscaled.then_some(1));
            for _ in 0..replicas.max(1) {
                let proxy = this.add_proxy(0, Some(service), 1);
                instance.replicas.push(Replica {
                    proxy,
                    life: Life::Ready,
                });
            }
            this.put(service, 0, Some(instance));
        }
        this
    }

    /// Goes on by [`TICK`].
    pub fn tick(&mut self) {
        self.now += TICK;
        while let Some((_, shares)) = self.on_their_way.pop_front_if(|(at, _)| *at <= self.now) {
            self.shares = shares;
        }
        self.level = 1.0
            + LEVEL_PHI * (self.level - 1.0)
            + self.spec.level_sd * libm::sqrt(1.0 - LEVEL_PHI * LEVEL_PHI) * self.draw.normal();
        self.level = self.level.max(0.5);
        self.serve();
        self.links.iter_mut().for_each(Link::settle);
        self.live();
    }

    fn serve(&mut self) {
        for edge in 0..self.users.len() {
            let rate = self.rates.get(edge).map_or(0.0, |load| load.at(self.now));
            let requests = self.draw.poisson(rate * TICK.as_secs_f64());
            let workers = self.spec.edges.get(edge).map_or(1, |edge| edge.workers);
            let mut walk = Walk {
                now: self.now,
                services: &self.spec.services,
                instances: &mut self.instances,
                proxies: &mut self.proxies,
                links: &mut self.links,
                shares: &self.shares,
                level: self.level,
                own: &self.own,
                draw: &mut self.draw,
                requests: 0,
            };
            let walks = requests.min(WALKS);
            for number in 0..walks {
                walk.requests = requests / walks + u32::from(number < requests % walks);
                let worker = walk.draw.below(workers);
                // Gateways are the first proxies, in the order of the edges.
                let (duration_us, ending) = walk.call((edge, worker), edge + 1, 0);
                if let Some(users) = self.users.get_mut(edge) {
                    users.requests += u64::from(walk.requests);
                    if ending == Ending::Ok {
                        users.sum_us += duration_us * f64::from(walk.requests);
                    } else {
                        users.failed += u64::from(walk.requests);
                    }
                }
            }
        }
    }

    /// Starts, restarts, and the autoscalers.
    fn live(&mut self) {
        let now = self.now;
        for service in 0..self.instances.len() {
            let cpu_us = self.spec.services.get(service).map_or(0.0, |spec| spec.cpu_us);
            for area in 0..=self.spec.edges.len() {
                let Some(mut instance) = self.take(service, area) else {
                    continue;
                };
                instance.settle(cpu_us * instance.slow);
                for replica in &mut instance.replicas {
                    let ready = match replica.life {
                        Life::Starting(Some(at)) => at <= now,
                        Life::Dead(_, again) => again <= now,
                        Life::Starting(None) | Life::Ready => false,
                    };
                    if ready {
                        replica.life = Life::Ready;
                        if let Some(proxy) = self.proxies.get_mut(replica.proxy) {
                            proxy.ready_since = Some(now);
                        }
                    }
                }
                if let Some(wants) = instance.look(now) {
                    self.scale(&mut instance, service, area, wants as usize);
                }
                self.put(service, area, Some(instance));
            }
        }
    }

    fn scale(&mut self, instance: &mut Instance, service: usize, area: usize, wants: usize) {
        while instance.replicas.len() < wants {
            let replica = self.start(service, area);
            instance.replicas.push(replica);
        }
        while instance.replicas.len() > wants.max(1) {
            if let Some(replica) = instance.replicas.pop() {
                self.end(replica.proxy);
            }
        }
    }

    fn start(&mut self, service: usize, area: usize) -> Replica {
        let ready = self.start_up.map(|(least, most)| {
            let seconds = self.draw.between(least.as_secs_f64(), most.as_secs_f64());
            self.now + Duration::from_secs_f64(seconds)
        });
        let proxy = self.add_proxy(area, Some(service), 1);
        if let Some(proxy) = self.proxies.get_mut(proxy) {
            proxy.ready_since = None;
        }
        Replica {
            proxy,
            life: Life::Starting(ready),
        }
    }

    fn end(&mut self, proxy: usize) {
        if let Some(proxy) = self.proxies.get_mut(proxy) {
            (proxy.is_alive, proxy.ready_since) = (false, None);
        }
    }

    fn add_proxy(&mut self, area: usize, service: Option<usize>, workers: usize) -> usize {
        let number = self.proxies.len();
        let what = service.and_then(|at| self.spec.services.get(at));
        let name = what.map_or("gateway", |spec| spec.name.as_str());
        let kind = if service.is_some() { "sidecar" } else { "router" };
        self.proxies.push(Proxy {
            node: format!("{kind}~10.0.{area}.{number}~{name}-{number}.shop~shop.svc.cluster.local"),
            area,
            service,
            is_alive: true,
            ready_since: Some(self.now),
            workers: vec![Worker::default(); workers.max(1)],
        });
        number
    }

    fn take(&mut self, service: usize, area: usize) -> Option<Instance> {
        self.instances.get_mut(service)?.get_mut(area)?.take()
    }

    fn put(&mut self, service: usize, area: usize, instance: Option<Instance>) {
        let fault = self
            .faults
            .get(service)
            .and_then(|areas| areas.get(area))
            .copied();
        let place = self
            .instances
            .get_mut(service)
            .and_then(|areas| areas.get_mut(area));
        if let Some(place) = place {
            *place = instance;
            if let (Some(instance), Some((slow, errors))) = (place, fault) {
                (instance.slow, instance.errors) = (slow, errors);
            }
        }
    }
}

// === impl World: from outside ===

impl World {
    /// Time since the start.
    pub fn now(&self) -> Duration {
        self.now
    }

    /// What it was made of.
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// All proxies that ever were; a position stays a proxy's own. Gateways come first, in the order of the edges.
    pub fn proxies(&self) -> &[Proxy] {
        &self.proxies
    }

    /// The same, to take what they counted or to blind their workers.
    pub fn proxies_mut(&mut self) -> &mut [Proxy] {
        &mut self.proxies
    }

    /// What users of each edge saw since the last call.
    pub fn take_users(&mut self) -> Vec<Users> {
        self.users.iter_mut().map(std::mem::take).collect()
    }

    /// Requests a second of an edge's users now.
    pub fn rate(&self, edge: usize) -> f64 {
        self.rates.get(edge).map_or(0.0, |load| load.at(self.now))
    }

    /// Round trip of an edge's link, microseconds; none while it is cut.
    pub fn rtt_us(&self, edge: usize) -> Option<f64> {
        self.links
            .get(edge)
            .filter(|link| !link.is_cut)
            .map(|link| link.rtt_us)
    }

    /// Bytes that crossed an edge's link since the start.
    pub fn carried_bytes(&self, edge: usize) -> f64 {
        self.links.get(edge).map_or(0.0, |link| link.carried)
    }

    /// Whether proxies still hold weights that were replaced.
    pub fn is_propagating(&self) -> bool {
        !self.on_their_way.is_empty()
    }

    /// Percent that proxies at an edge give to it now for a service.
    pub fn share(&self, service: usize, edge: usize) -> u32 {
        self.shares
            .get(service)
            .and_then(|areas| areas.get(edge + 1))
            .copied()
            .unwrap_or(0)
    }

    /// Changes something. Positions that don't exist change nothing.
    pub fn change(&mut self, change: &Change) {
        match *change {
            Change::Rtt { edge, us } => {
                if let Some(link) = self.links.get_mut(edge) {
                    link.rtt_us = us;
                }
            }
            Change::Cut { edge, is_cut } => {
                if let Some(link) = self.links.get_mut(edge) {
                    link.is_cut = is_cut;
                }
            }
            Change::Rate { edge, rate } => {
                if let Some(load) = self.rates.get_mut(edge) {
                    *load = Load::constant(rate);
                }
            }
            Change::Slow {
                service,
                area,
                factor,
            } => self.fault(service, area, |fault| fault.0 = factor),
            Change::Errors { service, area, share } => self.fault(service, area, |fault| fault.1 = share),
            Change::Crash { service, area } => self.crash(service, area),
            Change::StartUp(within) => self.start_up = within,
        }
    }

    fn fault(&mut self, service: usize, area: usize, change: impl FnOnce(&mut (f64, f64))) {
        if let Some(fault) = self.faults.get_mut(service).and_then(|areas| areas.get_mut(area)) {
            change(fault);
        }
        let instance = self.take(service, area);
        self.put(service, area, instance);
    }

    /// The first replica that serves dies; in the cloud only where another one serves.
    fn crash(&mut self, service: usize, area: usize) {
        let (now, (least, most)) = (self.now, RESTART_S);
        let again = now + Duration::from_secs_f64(self.draw.between(least, most));
        let place = self
            .instances
            .get_mut(service)
            .and_then(|areas| areas.get_mut(area));
        let Some(instance) = place.and_then(Option::as_mut) else {
            return;
        };
        if area == 0 && instance.ready() < 2 {
            return;
        }
        let first = instance
            .replicas
            .iter_mut()
            .find(|replica| replica.life == Life::Ready);
        if let Some(replica) = first {
            replica.life = Life::Dead(now, again);
            if let Some(proxy) = self.proxies.get_mut(replica.proxy) {
                proxy.ready_since = None;
            }
        }
    }
}

fn link(edge: &EdgeSpec) -> Link {
    Link {
        rtt_us: edge.rtt_us,
        jitter: LogNormal::new(edge.jitter),
        is_cut: false,
        bandwidth: edge.bandwidth,
        bytes: 0.0,
        carried: 0.0,
        busy: 0.0,
    }
}
