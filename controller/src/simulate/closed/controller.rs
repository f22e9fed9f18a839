//! The controller of a simulated world: telemetry, planner and decision machine as `gma run` has them, without a clock.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use gma_core::cluster::Cluster;
use gma_core::decide::{self, Config, Effect, Event, State};
use gma_core::ids::Timestamp;
use gma_core::snapshot::Snapshot;
use gma_core::world::World;
use gma_telemetry::{Directory, Proxy, ProxyRole, Telemetry};

use super::filters::CONTAINER_PORT;
use crate::control::WINDOW;
use crate::memory::Memory;
use crate::planner::MeasuredPlanner;
use crate::usage::CpuUsage;

/// A controller that runs.
#[derive(Debug)]
pub(super) struct Controller {
    pub(super) telemetry: Telemetry,
    pub(super) state: State,
    planner: MeasuredPlanner,
    usage: CpuUsage,
    /// When it started, in the world's time, and what its clock said then.
    began: (Duration, Timestamp),
    /// Alive and Ready, of each proxy: what the directory was made of.
    listed: Vec<(bool, bool)>,
}

/// What one evaluation saw.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) now: Timestamp,
    pub(super) snapshot: Snapshot,
    pub(super) cluster: Cluster,
}

// === impl Controller ===

impl Controller {
    /// Starts with what an earlier one wrote down, if it did; its clock goes on from there. Telemetry starts empty.
    pub(super) fn start(config: &Config, memory: Option<Memory>, now: Duration) -> Self {
        let (mut state, learned) = memory
            .map(|memory| memory.resume(unix_ms(now)))
            .unwrap_or_default();
        state.interrupt();
        Self {
            telemetry: Telemetry::new(gma_telemetry::Config::default()),
            began: (now, state.at),
            state,
            planner: MeasuredPlanner::new(config, learned),
            usage: CpuUsage::default(),
            listed: Vec::new(),
        }
    }

    /// What the next one can go on with.
    ///
    /// # Errors
    /// It does not serialise, or does not read back.
    pub(super) fn memory(&self, now: Duration) -> Result<Memory, String> {
        let bytes = Memory::encode(&self.state, self.planner.learned(), unix_ms(now))
            .map_err(|error| error.to_string())?;
        Memory::decode(&bytes).map_err(|error| error.to_string())
    }

    pub(super) fn now(&self, world: Duration) -> Timestamp {
        self.began.1.after(world.saturating_sub(self.began.0))
    }

    /// Takes a report; the answer.
    pub(super) fn take(&mut self, body: &[u8], at: Duration) -> Option<Vec<u8>> {
        let received = self.now(at);
        self.telemetry.ingest(body, received, received).ack
    }

    /// One round of the control loop, as far as its effects.
    pub(super) fn round(&mut self, world: &World, config: &Config) -> (Seen, Vec<Effect>) {
        let now = self.now(world.now());
        let cluster = world.cluster();
        let listed: Vec<_> = world
            .proxies()
            .iter()
            .map(|proxy| (proxy.is_alive, proxy.ready_since.is_some()))
            .collect();
        if listed != self.listed {
            self.telemetry.set_directory(&directory(world), now);
            self.listed = listed;
        }
        if let Some(window) = self.usage.record(&cluster, now) {
            self.usage.set_requests(&self.telemetry.received(now, window));
        }
        let snapshot = self.telemetry.snapshot(now, WINDOW);
        self.planner.observe(&snapshot, self.usage.cores(&snapshot));
        let event = Event::Evaluate {
            snapshot: &snapshot,
            cluster: &cluster,
            planner: &self.planner,
        };
        let (state, effects) = decide::step(std::mem::take(&mut self.state), event, now, config);
        self.state = state;
        (
            Seen {
                now,
                snapshot,
                cluster,
            },
            effects,
        )
    }

    pub(super) fn failed(&mut self, effect: &Effect, world: &World, config: &Config) {
        let event = Event::EffectFailed {
            effect,
            message: "the platform failed",
            permanent: false,
        };
        let now = self.now(world.now());
        (self.state, _) = decide::step(std::mem::take(&mut self.state), event, now, config);
    }
}

/// The wall clock: the world's time is all there is.
fn unix_ms(now: Duration) -> u64 {
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

fn directory(world: &World) -> Directory {
    let services = &world.spec().services;
    let proxies = world
        .proxies()
        .iter()
        .filter(|proxy| proxy.is_alive)
        .map(|proxy| {
            let name = proxy
                .service
                .and_then(|at| services.get(at))
                .map(|spec| spec.name.clone());
            let role = name.map_or(ProxyRole::Gateway, |name| ProxyRole::Sidecar {
                ports: BTreeMap::from([(CONTAINER_PORT, name)]),
            });
            let of = Proxy {
                area: world.area_name(proxy.area),
                role,
                ready: proxy.ready_since.is_some(),
            };
            (proxy.node.clone(), of)
        });
    let areas = (0..=world.spec().edges.len()).map(|area| world.area_name(area));
    Directory {
        proxies: proxies.collect(),
        areas: areas.map(|area| (area.as_str().to_owned(), area)).collect(),
        services: services
            .iter()
            .map(|spec| spec.name.clone())
            .collect::<BTreeSet<_>>(),
    }
}
