//! A mesh in memory: three services, a cloud and an edge, their reports, and the platform that steers them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use gma::memory::Memory;
use gma::platform::{EffectError, Loaded, Observation, Platform};
use gma_core::cluster::{Cluster, Instance, Phase, Proxy, ProxyRole, RoutingPlan};
use gma_core::decide::Effect;
use gma_core::ids::{AreaName, ServiceName, Timestamp};
use gma_core::snapshot::DELAY_SLOT;
use gma_telemetry::report::histogram::{bucket_of, encode_buckets};
use gma_telemetry::report::{EnvelopeHead, encode_envelope, v1};
use gma_telemetry::{Directory, Event, Telemetry};
use prost::Message as _;

pub(crate) const CLOUD: &str = "cloud";
pub(crate) const EDGE: &str = "edge-1";
/// The first is where users enter; it calls the others, one after the other.
pub(crate) const SERVICES: [&str; 3] = ["front", "cart", "stock"];
/// As often as proxies report, and the controller looks.
pub(crate) const TICK: Duration = DELAY_SLOT;
/// User requests of a tick.
const USERS: u64 = 100;
const START: Duration = Duration::from_secs(2);
const GATEWAY: &str = "router~10.0.0.1~gateway.edge~edge.svc";

/// The point at which the controller ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kill {
    /// Before the `n`th save or effect is done, counted from 0.
    Before(usize),
    /// After it was done, and before the controller hears of it.
    After(usize),
}

/// The mesh itself: it goes on while there is no controller.
#[derive(Debug)]
pub(crate) struct Mesh {
    pub(crate) now: Timestamp,
    pub(crate) rtt_ms: u64,
    /// Of each service.
    pub(crate) own_ms: u64,
    pub(crate) routing: RoutingPlan,
    /// Time of the start by service and area, and the number of its proxy.
    pub(crate) instances: BTreeMap<(ServiceName, AreaName), (Timestamp, u64)>,
    /// Replicas in the cloud; none: one.
    replicas: BTreeMap<ServiceName, u32>,
    pub(crate) sent: u64,
    /// Requests that a weight sent to where nothing serves.
    pub(crate) failed: u64,
    /// Requests that reached the instance of each service and area in the last tick.
    arrived: BTreeMap<(ServiceName, AreaName), u64>,
    /// What rounding left over, percent, by service, caller area and area.
    carried: BTreeMap<(ServiceName, AreaName, AreaName), u64>,
    series: BTreeMap<u64, Vec<v1::Series>>,
    proxies: u64,
    seq: u64,
    /// What the controller wrote down.
    pub(crate) disk: Option<Vec<u8>>,
    pub(crate) saves: usize,
    pub(crate) effects: Vec<Effect>,
    /// Saves and effects so far.
    pub(crate) done: usize,
    pub(crate) kill: Option<Kill>,
    pub(crate) disk_is_full: bool,
    pub(crate) refuses: Option<fn(&Effect) -> Option<EffectError>>,
}

impl Mesh {
    pub(crate) fn new() -> Self {
        let mut mesh = Self {
            now: Timestamp::default(),
            rtt_ms: 10,
            own_ms: 30,
            routing: RoutingPlan::default(),
            instances: BTreeMap::new(),
            replicas: BTreeMap::new(),
            sent: 0,
            failed: 0,
            arrived: BTreeMap::new(),
            carried: BTreeMap::new(),
            series: BTreeMap::new(),
            proxies: 0,
            seq: 0,
            disk: None,
            saves: 0,
            effects: Vec::new(),
            done: 0,
            kill: None,
            disk_is_full: false,
            refuses: None,
        };
        for service in SERVICES {
            mesh.start(&service.into(), &CLOUD.into());
        }
        mesh
    }

    fn start(&mut self, service: &ServiceName, area: &AreaName) {
        self.proxies += 1;
        let (now, number) = (self.now, self.proxies);
        let key = (service.clone(), area.clone());
        self.instances.entry(key).or_insert((now, number));
    }

    fn is_ready(&self, service: &ServiceName, area: &AreaName) -> bool {
        let started = self.instances.get(&(service.clone(), area.clone()));
        started.is_some_and(|(started, _)| area.as_str() == CLOUD || self.now.since(*started) >= START)
    }

    fn replicas(&self, service: &ServiceName, area: &AreaName) -> u32 {
        let in_cloud = self.replicas.get(service).filter(|_| area.as_str() == CLOUD);
        in_cloud.copied().unwrap_or(1)
    }

    /// Share of the edge for its callers of a service, percent.
    pub(crate) fn share(&self, service: &str) -> u32 {
        let rule = self.routing.0.get(&service.into());
        let row = rule.and_then(|callers| callers.get(&EDGE.into()));
        row.and_then(|weights| weights.get(&EDGE.into()))
            .copied()
            .unwrap_or(0)
    }

    pub(crate) fn is_placed(&self, service: &str) -> bool {
        self.instances.contains_key(&(service.into(), EDGE.into()))
    }

    /// Lets a tick pass.
    pub(crate) fn tick(&mut self) {
        self.now = self.now.after(TICK);
        self.arrived.clear();
        self.series.clear();
        self.sent += USERS;
        self.call(None, &EDGE.into(), SERVICES[0], USERS);
    }

    /// Sends `count` requests to a service; gives the mean delay that their caller sees, microseconds.
    fn call(&mut self, caller: Option<u64>, from: &AreaName, to: &str, count: u64) -> f64 {
        let mut sum = 0.0;
        for (area, part) in self.split(&to.into(), from, count) {
            let key = (ServiceName::from(to), area.clone());
            if !self.is_ready(&key.0, &area) {
                self.failed += part;
                continue;
            }
            let number = self.instances[&key].1;
            let mut inside = self.own_ms as f64 * 1e3;
            if to == SERVICES[0] {
                for callee in &SERVICES[1..] {
                    inside += self.call(Some(number), &area, callee, part);
                }
            }
            *self.arrived.entry(key).or_default() += part;
            let away = if area == *from {
                0.0
            } else {
                self.rtt_ms as f64 * 1e3
            };
            let seen = inside + away;
            let outbound = v1::Key {
                direction: v1::Direction::Outbound.into(),
                service: to.into(),
                port: 80,
                destination: Some(v1::Locality {
                    region: area.to_string(),
                    ..v1::Locality::default()
                }),
                outcome: v1::Outcome::Ok.into(),
                ..v1::Key::default()
            };
            let inbound = v1::Key {
                direction: v1::Direction::Inbound.into(),
                port: 8080,
                outcome: v1::Outcome::Ok.into(),
                ..v1::Key::default()
            };
            self.series
                .entry(caller.unwrap_or(0))
                .or_default()
                .push(series(outbound, part, seen));
            self.series
                .entry(number)
                .or_default()
                .push(series(inbound, part, inside));
            sum += seen * part as f64;
        }
        sum / count.max(1) as f64
    }

    /// By the weights in force, each area its exact share in the long run.
    fn split(&mut self, to: &ServiceName, from: &AreaName, count: u64) -> Vec<(AreaName, u64)> {
        let row = self.routing.0.get(to).and_then(|callers| callers.get(from));
        let mut weights: Vec<_> = row
            .into_iter()
            .flatten()
            .map(|(area, weight)| (area.clone(), *weight))
            .collect();
        if weights.is_empty() {
            weights.push((CLOUD.into(), 100));
        }
        let mut left = count;
        let last = weights.len() - 1;
        let mut parts = Vec::new();
        for (at, (area, weight)) in weights.into_iter().enumerate() {
            let carried = self
                .carried
                .entry((to.clone(), from.clone(), area.clone()))
                .or_default();
            *carried += count * u64::from(weight);
            let part = if at == last {
                left
            } else {
                (*carried / 100).min(left)
            };
            *carried = carried.saturating_sub(100 * part);
            left -= part;
            if part > 0 {
                parts.push((area, part));
            }
        }
        parts
    }

    /// What every proxy says of the last tick.
    pub(crate) fn report(&mut self, telemetry: &mut Telemetry) {
        self.seq += 1;
        let sidecars = self
            .instances
            .iter()
            .filter(|((service, area), _)| self.is_ready(service, area));
        let nodes = sidecars.map(|((service, area), (_, number))| (*number, node(service, area, *number)));
        for (number, node) in nodes.chain([(0, GATEWAY.to_owned())]) {
            let window = v1::Window {
                node_id: node,
                duration_ms: 500,
                series: self.series.get(&number).cloned().unwrap_or_default(),
                ..v1::Window::default()
            };
            let rtt_us = u32::try_from(self.rtt_ms * 1_000).unwrap();
            let head = EnvelopeHead {
                vm: 1_000 + number,
                seq: self.seq,
                module: "gma-filter test",
                config_hash: 1,
                age_ms: 0,
                round_trip_us: (number == 0).then_some(rtt_us),
            };
            let body = encode_envelope(&head, &window.encode_to_vec());
            let event = telemetry.ingest(&body, self.now, self.now).event;
            // The controller has not seen a new instance yet.
            assert!(
                matches!(event, Event::Stored { .. } | Event::Busy(_)),
                "{event:?}"
            );
        }
    }

    fn observation(&self) -> Observation {
        let instances = self.instances.iter().map(|((service, area), _)| Instance {
            service: service.clone(),
            area: area.clone(),
            phase: if self.is_ready(service, area) {
                Phase::Ready
            } else {
                Phase::Starting
            },
            reason: None,
            replicas: self.replicas(service, area),
            cpu_seconds: None,
            memory_bytes: None,
            autoscaler_wants: None,
        });
        let proxy = |area: &AreaName, role| Proxy {
            area: area.clone(),
            role,
            ready: true,
        };
        let sidecars = self.instances.iter().map(|((service, area), (_, number))| {
            let role = ProxyRole::Sidecar {
                ports: [(8080, service.clone())].into(),
            };
            (node(service, area, *number), proxy(area, role))
        });
        Observation {
            cluster: Cluster {
                instances: instances.collect(),
                routing: self.routing.clone(),
                ..Cluster::default()
            },
            directory: Directory {
                proxies: sidecars
                    .chain([(GATEWAY.to_owned(), proxy(&EDGE.into(), ProxyRole::Gateway))])
                    .collect(),
                areas: [CLOUD, EDGE].map(|area| (area.to_owned(), area.into())).into(),
                services: SERVICES.map(ServiceName::from).into(),
            },
            settings: None,
        }
    }

    fn perform(&mut self, effect: &Effect) -> Result<(), EffectError> {
        if let Some(error) = self.refuses.and_then(|refuses| refuses(effect)) {
            return Err(error);
        }
        self.effects.push(effect.clone());
        match effect {
            Effect::Ensure { service, area, .. } => self.start(service, area),
            Effect::Remove { service, area } => {
                let key = (service.clone(), area.clone());
                // What arrived in the last second may be under way.
                self.failed += self.arrived.get(&key).copied().unwrap_or(0);
                self.instances.remove(&key);
            }
            Effect::Route { plan } => {
                for row in plan.0.values().flat_map(BTreeMap::values) {
                    assert_eq!(row.values().sum::<u32>(), 100, "{plan:?}");
                }
                self.routing = plan.clone();
            }
            Effect::Scale {
                service, replicas, ..
            } => {
                self.replicas.insert(service.clone(), *replicas);
            }
            Effect::Record { .. } => {}
        }
        Ok(())
    }
}

fn node(service: &ServiceName, area: &AreaName, number: u64) -> String {
    format!("sidecar~10.0.1.{number}~{service}-{area}-{number}.shop~shop.svc")
}

/// Durations around a mean: evenly from 80 to 120 % of it.
fn series(key: v1::Key, count: u64, mean_us: f64) -> v1::Series {
    let duration = |at: u64| (mean_us * (0.8 + 0.4 * (at as f64 + 0.5) / count as f64)) as u64;
    let mut histogram = Vec::new();
    encode_buckets((0..count).map(|at| (bucket_of(duration(at)), 1)), &mut histogram);
    v1::Series {
        key: Some(key),
        count,
        sum_us: (0..count).map(duration).sum(),
        histogram,
        response_bytes: 1_000 * count,
        ..v1::Series::default()
    }
}

/// The mesh as a controller steers it.
#[derive(Clone, Debug)]
pub(crate) struct Steered(pub Arc<Mutex<Mesh>>);

impl Steered {
    /// Does a step, unless the controller ends at it; then nobody ever hears of it.
    async fn step<T>(&self, act: impl FnOnce(&mut Mesh) -> T) -> T {
        let result = {
            let mut mesh = self.0.lock().unwrap();
            let number = mesh.done;
            mesh.done += 1;
            if mesh.kill == Some(Kill::Before(number)) {
                None
            } else {
                let result = act(&mut mesh);
                (mesh.kill != Some(Kill::After(number))).then_some(result)
            }
        };
        match result {
            Some(result) => result,
            None => std::future::pending().await,
        }
    }
}

impl Platform for Steered {
    async fn observe(&mut self) -> anyhow::Result<Observation> {
        Ok(self.0.lock().unwrap().observation())
    }

    async fn perform(&mut self, effect: &Effect) -> Result<(), EffectError> {
        self.step(|mesh| mesh.perform(effect)).await
    }

    async fn load(&mut self) -> anyhow::Result<Loaded> {
        let disk = self.0.lock().unwrap().disk.clone();
        Ok(match disk {
            Some(bytes) => Loaded::Memory(Box::new(Memory::decode(&bytes)?)),
            None => Loaded::Nothing,
        })
    }

    async fn save(&mut self, memory: Vec<u8>) -> anyhow::Result<()> {
        let save = |mesh: &mut Mesh| {
            anyhow::ensure!(!mesh.disk_is_full, "no space left on device");
            mesh.saves += 1;
            mesh.disk = Some(memory);
            Ok(())
        };
        self.step(save).await
    }
}
