//! A simulated application that answers requests one by one: what the model must predict without knowing it.
//!
//! A service works, then makes its groups of calls in parallel, one after the other within a group, as muBench does. No
//! instance queues. Users of several edges share the cloud.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use gma_core::cluster::{Cluster, Instance, Phase};
use gma_core::ids::{AreaName, ServiceName, Timestamp};
use gma_core::snapshot::{
    CallStats, Caller, Coverage, DelayStats, EdgeSnapshot, Measured, OutcomeCounts, ReceivedStats, Snapshot,
};

pub(crate) const REQUESTS: u32 = 4_000;
const WINDOW: Duration = Duration::from_secs(20);

/// SplitMix64: seeded, and the same everywhere.
#[derive(Debug)]
pub(crate) struct Random(pub(crate) u64);

/// How far the work of a request is from its mean.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Spread {
    /// Even, from 0.6 to 1.4 of it.
    Even,
    /// Log-normal with this σ, of the same mean.
    LogNormal(f64),
}

#[derive(Debug)]
pub(crate) struct Simulated {
    /// Mean.
    pub(crate) work_us: f64,
    pub(crate) answer_bytes: u64,
    /// Callee and probability.
    pub(crate) groups: Vec<Vec<(usize, f64)>>,
}

/// Services; users call the first, where their world says no other.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) services: Vec<Simulated>,
    pub(crate) spread: Spread,
}

/// One edge and the cloud.
#[derive(Clone, Debug)]
pub(crate) struct World {
    pub(crate) at_edge: BTreeSet<usize>,
    pub(crate) rtt_us: f64,
    /// Share of the calls at the edge that stay on the cloud.
    pub(crate) standby: f64,
}

/// The users of one of several edges.
#[derive(Clone, Debug)]
pub(crate) struct Users {
    pub(crate) edge: AreaName,
    pub(crate) world: World,
    pub(crate) entry: usize,
    pub(crate) requests: u32,
}

#[derive(Debug, Default)]
struct Tally {
    count: u64,
    sum_us: f64,
    bytes: u64,
}

struct Run<'a> {
    app: &'a App,
    worlds: BTreeMap<&'a str, &'a World>,
    random: Random,
    calls: BTreeMap<(Caller, usize, AreaName), Tally>,
    received: BTreeMap<(usize, AreaName), Tally>,
}

// === impl Random ===

impl Random {
    pub(crate) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    /// Uniform in [0, 1).
    pub(crate) fn unit(&mut self) -> f64 {
        f64::from(u32::try_from(self.bits() >> 32).unwrap()) / 4_294_967_296.0
    }

    pub(crate) fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }

    /// A factor with mean 1.
    fn spread(&mut self, spread: Spread) -> f64 {
        match spread {
            Spread::Even => self.between(0.6, 1.4),
            Spread::LogNormal(sigma) => (sigma * self.normal() - sigma * sigma / 2.0).exp(),
        }
    }

    /// Box and Muller.
    fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.unit()).cos()
    }

    pub(crate) fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.bits() % u64::try_from(limit).unwrap()).unwrap()
    }
}

// === impl App ===

impl App {
    /// A tree of `count` services with some cross calls. The entry has two groups in parallel, all others one or two.
    pub(crate) fn random(seed: u64, count: usize) -> Self {
        let mut random = Random(seed);
        let mut services: Vec<Simulated> = (0..count)
            .map(|_| Simulated {
                work_us: random.between(2_000.0, 12_000.0),
                answer_bytes: random.bits() % 20_000 + 200,
                groups: Vec::new(),
            })
            .collect();
        for callee in 1..count {
            let caller = random.below(callee.min(4));
            let probability = random.between(0.4, 1.0);
            let groups = &mut services[caller].groups;
            if groups.is_empty() || (groups.len() == 1 && (caller == 0 || random.unit() < 0.3)) {
                groups.push(Vec::new());
            }
            let group = random.below(groups.len());
            let group = groups.iter().position(Vec::is_empty).unwrap_or(group);
            groups[group].push((callee, probability));
        }
        Self {
            services,
            spread: Spread::Even,
        }
    }

    /// The service of a name.
    pub(crate) fn number(&self, of: &ServiceName) -> usize {
        let mut services = 0..self.services.len();
        services.find(|service| name(*service) == *of).unwrap()
    }

    /// What runs in a world.
    pub(crate) fn cluster(&self, world: &World) -> Cluster {
        self.cluster_of(&[("edge".into(), world)])
    }

    /// What runs in the cloud and at several edges.
    pub(crate) fn cluster_of(&self, edges: &[(AreaName, &World)]) -> Cluster {
        let instance = |service: usize, area: &str| Instance {
            service: name(service),
            area: area.into(),
            phase: Phase::Ready,
            reason: None,
            replicas: 1,
            cpu_seconds: None,
            memory_bytes: None,
            autoscaler_wants: None,
        };
        let cloud = (0..self.services.len()).map(|service| instance(service, "cloud"));
        let at_edges = edges.iter().flat_map(|(edge, world)| {
            world
                .at_edge
                .iter()
                .map(|service| instance(*service, edge.as_str()))
        });
        Cluster {
            instances: cloud.chain(at_edges).collect(),
            ..Cluster::default()
        }
    }

    /// Answers [`REQUESTS`] requests; what the filters would have seen.
    pub(crate) fn measure(&self, world: &World, seed: u64) -> Snapshot {
        self.measure_all(&[Users::of(world, REQUESTS)], seed)
    }

    /// Answers the requests of several edges' users in one window.
    pub(crate) fn measure_all(&self, all: &[Users], seed: u64) -> Snapshot {
        let mut run = Run {
            app: self,
            worlds: all
                .iter()
                .map(|users| (users.edge.as_str(), &users.world))
                .collect(),
            random: Random(seed),
            calls: BTreeMap::new(),
            received: BTreeMap::new(),
        };
        let mut edges = BTreeMap::new();
        for users in all {
            let user = Caller::User {
                edge: users.edge.clone(),
            };
            let delays = (0..users.requests).map(|_| run.call(&user, users.edge.as_str(), users.entry));
            let edge = edge_snapshot(delays.collect(), users.world.rtt_us);
            edges.insert(users.edge.clone(), edge);
        }
        run.snapshot(edges)
    }
}

// === impl Users ===

impl Users {
    /// The only edge's.
    pub(crate) fn of(world: &World, requests: u32) -> Self {
        Self {
            edge: "edge".into(),
            world: world.clone(),
            entry: 0,
            requests,
        }
    }
}

// === impl Run ===

impl Run<'_> {
    /// Time of a call as its caller sees it.
    fn call(&mut self, caller: &Caller, from: &str, callee: usize) -> f64 {
        let world = self.worlds.get(from).copied();
        let local =
            world.is_some_and(|world| world.at_edge.contains(&callee) && self.random.unit() >= world.standby);
        let to = if local { from } else { "cloud" };
        let way = world.filter(|_| from != to).map_or(0.0, |world| world.rtt_us);
        let outbound = self.random.between(500.0, 1_500.0) + way + self.serve(callee, to);
        let bytes = self.app.services[callee].answer_bytes;
        self.calls
            .entry((caller.clone(), callee, to.into()))
            .or_default()
            .add(outbound, bytes);
        outbound
    }

    fn serve(&mut self, service: usize, area: &str) -> f64 {
        let app = self.app;
        let Simulated {
            work_us,
            answer_bytes,
            groups,
        } = &app.services[service];
        let caller = Caller::Instance {
            service: name(service),
            area: area.into(),
        };
        let work = work_us * self.random.spread(app.spread);
        let mut slowest = 0.0_f64;
        for group in groups {
            let mut sum = 0.0;
            for (callee, probability) in group {
                if self.random.unit() < *probability {
                    sum += self.call(&caller, area, *callee);
                }
            }
            slowest = slowest.max(sum);
        }
        let inbound = work + slowest;
        self.received
            .entry((service, area.into()))
            .or_default()
            .add(inbound, *answer_bytes);
        inbound
    }

    fn snapshot(self, edges: BTreeMap<AreaName, EdgeSnapshot>) -> Snapshot {
        let calls = self
            .calls
            .into_iter()
            .map(|((caller, callee, area), tally)| CallStats {
                caller,
                callee: name(callee),
                callee_area: Some(area),
                outcomes: tally.outcomes(),
                timed: tally.count,
                sum_us: tally.sum_us as u64,
                response_bytes: tally.bytes,
            });
        let received = self
            .received
            .into_iter()
            .map(|((service, area), tally)| ReceivedStats {
                service: name(service),
                area,
                outcomes: tally.outcomes(),
                timed: tally.count,
                sum_us: tally.sum_us as u64,
                response_bytes: tally.bytes,
                longest_us: 0,
                long_in_hour: false,
            });
        Snapshot {
            at: Timestamp::from_start(WINDOW),
            window: WINDOW,
            edges,
            calls: calls.collect(),
            received: received.collect(),
            coverage: Vec::new(),
            network: Vec::new(),
        }
    }
}

fn edge_snapshot(mut delays: Vec<f64>, rtt_us: f64) -> EdgeSnapshot {
    let count = delays.len();
    let mean_us = delays.iter().sum::<f64>() / count as f64;
    delays.sort_by(f64::total_cmp);
    // The smallest delay that a share of the requests stays below.
    let quantile = |percent: usize| delays[((count * percent).div_ceil(100)).max(1) - 1] as u64;
    EdgeSnapshot {
        user_delay: Measured::Present {
            value: DelayStats {
                count: count as u64,
                mean_us,
                p50_us: quantile(50),
                p90_us: quantile(90),
                p95_us: quantile(95),
                p99_us: quantile(99),
            },
        },
        outcomes: OutcomeCounts {
            ok: count as u64,
            ..OutcomeCounts::default()
        },
        rate_rps: count as f64 / WINDOW.as_secs_f64(),
        rtt: Measured::Present {
            value: Duration::from_secs_f64(rtt_us / 1e6),
        },
        report_age: Measured::Present {
            value: Duration::ZERO,
        },
        slots: Vec::new(),
        slots_end: Timestamp::default(),
        coverage: Coverage::default(),
    }
}

// === impl Tally ===

impl Tally {
    fn add(&mut self, us: f64, bytes: u64) {
        self.count += 1;
        self.sum_us += us;
        self.bytes += bytes;
    }

    fn outcomes(&self) -> OutcomeCounts {
        OutcomeCounts {
            ok: self.count,
            ..OutcomeCounts::default()
        }
    }
}

pub(crate) fn name(service: usize) -> ServiceName {
    ServiceName::new(format!("s{service}"))
}
