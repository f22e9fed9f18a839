//! A world of one application, a cloud and edges, simulated in ticks of half a second. Every turn of the machine
//! is checked against the invariants of the module's documentation.
//!
//! Users call front; front calls cart, and ads for one request in five; cart calls db for three in ten. A call
//! that leaves the edge costs one round trip; the rest is 20 ms.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::planner::Exhaustive;
use super::users::{EdgeWorld, SERVICES, SLOTS, TICK};
use crate::cluster::{Cluster, Instance, Phase as Life, RoutingPlan, Unroutable, Weights};
use crate::decide::{
    Ask, Config, Decision, EdgeState, Effect, Event, HoldReason, Mode, NoPlan, Outcome, Phase, State,
    accounts, routes, saved, step,
};
use crate::ids::{AreaName, ServiceName, Timestamp};
use crate::model::Standby;
use crate::routing::{Form, Steering, check_plan, form, resting};
use crate::snapshot::{ServiceCoverage, Snapshot};

pub(super) const CLOUD: &str = "cloud";
pub(super) const EDGE: &str = "edge-1";

pub(super) struct World {
    pub(super) config: Config,
    pub(super) state: State,
    pub(super) now: Timestamp,
    pub(super) edges: BTreeMap<AreaName, EdgeWorld>,
    pub(super) instances: BTreeMap<(ServiceName, AreaName), (Life, Timestamp)>,
    pub(super) routing: RoutingPlan,
    pub(super) pending: Option<RoutingPlan>,
    /// Replicas in the cloud, where they are not 1.
    pub(super) replicas: BTreeMap<ServiceName, u32>,
    /// What the planner says that the cloud needs.
    pub(super) cloud_replicas: BTreeMap<ServiceName, u32>,
    /// No replica is added in the cloud.
    pub(super) stuck: bool,
    /// Replicas that each service needs at an edge for all of its callers there.
    pub(super) edge_needs: u32,
    /// What was asked for at edges.
    pub(super) edge_replicas: BTreeMap<ServiceName, u32>,
    /// No more than these are Ready there.
    pub(super) edge_most: u32,
    /// What autoscalers want.
    pub(super) desired: BTreeMap<(ServiceName, AreaName), u32>,
    pub(super) unavailable: BTreeMap<AreaName, String>,
    pub(super) unroutable: BTreeMap<ServiceName, Unroutable>,
    pub(super) coverage: Vec<ServiceCoverage>,
    /// The planner's answer, whoever asks.
    pub(super) no_plan: Option<NoPlan>,
    /// Services that the planner adds at an edge; elsewhere it looks for them.
    pub(super) script: BTreeMap<AreaName, BTreeSet<ServiceName>>,
    /// To unoffload, the planner exchanges services for others.
    pub(super) swaps: bool,
    /// And says that this halves the delay.
    pub(super) lowers: bool,
    /// The state is saved and loaded at every evaluation.
    pub(super) saving: bool,
    /// What the planner was asked, each time.
    pub(super) asked: RefCell<Vec<Vec<Ask>>>,
    /// The platform performs no effect.
    pub(super) deaf: bool,
    pub(super) noise: f64,
    random: u64,
    /// Every effect but records, with its time.
    pub(super) effects: Vec<(Timestamp, Effect)>,
    /// Every change of phase, with its time.
    pub(super) story: Vec<String>,
}

pub(super) fn area(name: &str) -> AreaName {
    AreaName::from(name)
}

impl World {
    pub(super) fn new(edges: &[&str]) -> Self {
        let mut config = Config::new(area(CLOUD), edges.iter().map(|edge| area(edge)));
        config.mode = Mode::Enforce;
        let ready = (Life::Ready, Timestamp::default());
        let nothing = edges.iter().map(|edge| (area(edge), BTreeSet::new())).collect();
        Self {
            config,
            state: State::default(),
            now: Timestamp::default(),
            edges: edges
                .iter()
                .map(|edge| (area(edge), EdgeWorld::default()))
                .collect(),
            instances: SERVICES
                .into_iter()
                .map(|s| ((s.into(), area(CLOUD)), ready))
                .collect(),
            routing: resting(
                &SERVICES.map(ServiceName::from),
                &nothing,
                &area(CLOUD),
                Standby::default(),
            ),
            pending: None,
            replicas: BTreeMap::new(),
            cloud_replicas: BTreeMap::new(),
            stuck: false,
            edge_needs: 1,
            edge_replicas: BTreeMap::new(),
            edge_most: u32::MAX,
            desired: BTreeMap::new(),
            unavailable: BTreeMap::new(),
            unroutable: BTreeMap::new(),
            coverage: Vec::new(),
            no_plan: None,
            script: BTreeMap::new(),
            swaps: false,
            lowers: false,
            saving: false,
            asked: RefCell::default(),
            deaf: false,
            noise: 0.02,
            random: 1,
            effects: Vec::new(),
            story: Vec::new(),
        }
    }

    /// One that nobody has written a rule in.
    pub(super) fn without_rules(edges: &[&str]) -> Self {
        Self {
            routing: RoutingPlan::default(),
            ..Self::new(edges)
        }
    }

    /// One whose areas are zones without regions.
    pub(super) fn by_readiness(edges: &[&str]) -> Self {
        let mut world = Self::new(edges);
        world.config.steering = Steering::Readiness;
        world
    }

    pub(super) fn edge(&mut self) -> &mut EdgeWorld {
        self.edges.get_mut(&area(EDGE)).unwrap()
    }

    pub(super) fn phase(&self) -> &Phase {
        &self.state.edges[&area(EDGE)].phase
    }

    pub(super) fn decisions(&self) -> Vec<&Decision> {
        self.state.edges[&area(EDGE)].decisions.iter().collect()
    }

    pub(super) fn outcomes(&self) -> Vec<&Outcome> {
        self.decisions()
            .into_iter()
            .map(|decision| &decision.outcome)
            .collect()
    }

    pub(super) fn share(&self, service: &str) -> u32 {
        routes::share(&self.in_force(), &service.into(), &area(EDGE))
    }

    /// What calls go by: the weights that were written, or where there is a rule and an instance that is Ready.
    fn in_force(&self) -> RoutingPlan {
        let mut routing = self.routing.clone();
        if self.config.steering == Steering::Weights {
            return routing;
        }
        for (service, rule) in &mut routing.0 {
            for (caller, weights) in rule {
                let instance = self.instances.get(&(service.clone(), caller.clone()));
                let is_ready = instance.is_some_and(|(life, _)| *life == Life::Ready);
                let to = if is_ready { caller.clone() } else { area(CLOUD) };
                *weights = Weights::from([(to, 100)]);
            }
        }
        routing
    }

    pub(super) fn placed(&self) -> Vec<&str> {
        let at_edge = self.instances.keys().filter(|(_, at)| *at == area(EDGE));
        at_edge.map(|(service, _)| service.as_str()).collect()
    }

    pub(super) fn delay_now_ms(&self, edge: &str) -> f64 {
        self.edges[&area(edge)].now_ms()
    }

    pub(super) fn run(&mut self, seconds: u64) {
        for _ in 0..seconds * 2 {
            self.tick();
        }
    }

    /// Runs until `done`; fails with the story after `seconds`.
    pub(super) fn run_until(&mut self, seconds: u64, done: impl Fn(&Self) -> bool) -> Duration {
        let start = self.now;
        loop {
            self.tick();
            if done(self) {
                break;
            }
            let story = self.story.join("\n");
            assert!(
                self.now.since(start).as_secs() < seconds,
                "not within {seconds} s:\n{story}"
            );
        }
        self.now.since(start)
    }

    fn uniform(&mut self) -> f64 {
        self.random = self
            .random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        f64::from(u32::try_from(self.random >> 33).unwrap()) / f64::from(1_u32 << 31)
    }

    pub(super) fn tick(&mut self) {
        self.now = self.now.after(TICK);
        if let Some(routing) = self.pending.take() {
            self.routing.0.extend(routing.0);
            self.routing.0.retain(|_, rule| !rule.is_empty());
        }
        for ((service, at), (life, since)) in &mut self.instances {
            let never = |edge: &&EdgeWorld| !edge.never_ready.contains(service.as_str());
            let ready_after = self.edges.get(at).filter(never).and_then(|edge| edge.ready_after);
            if *life == Life::Starting && ready_after.is_some_and(|after| self.now.since(*since) >= after) {
                *life = Life::Ready;
            }
        }
        for name in self.edges.keys().cloned().collect::<Vec<_>>() {
            let factor = 1.0 + self.noise * (2.0 * self.uniform() - 1.0);
            let routing = self.in_force();
            self.edges.get_mut(&name).unwrap().serve(&name, &routing, factor);
        }
        self.turn();
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        let window = TICK * u32::try_from(SLOTS).unwrap();
        let (edges, calls, received) = Default::default();
        let mut snapshot = Snapshot {
            at: self.now,
            window,
            edges,
            calls,
            received,
            coverage: self.coverage.clone(),
            network: Vec::new(),
        };
        for (name, edge) in &self.edges {
            edge.measure(name, &mut snapshot);
        }
        snapshot
    }

    pub(super) fn cluster(&self) -> Cluster {
        let instance =
            |((service, area), (phase, _)): (&(ServiceName, AreaName), &(Life, Timestamp))| Instance {
                service: service.clone(),
                area: area.clone(),
                phase: *phase,
                reason: None,
                replicas: self.replicas_of(service, area),
                cpu_seconds: None,
                memory_bytes: None,
                autoscaler_wants: self.desired.get(&(service.clone(), area.clone())).copied(),
            };
        Cluster {
            instances: self.instances.iter().map(instance).collect(),
            routing: self.in_force(),
            unavailable: self.unavailable.clone(),
            unroutable: self.unroutable.clone(),
        }
    }

    fn replicas_of(&self, service: &ServiceName, at: &AreaName) -> u32 {
        let (scaled, most) = if at.as_str() == CLOUD {
            (&self.replicas, u32::MAX)
        } else {
            (&self.edge_replicas, self.edge_most)
        };
        scaled.get(service).copied().unwrap_or(1).min(most)
    }

    fn turn(&mut self) {
        let (snapshot, cluster) = (self.snapshot(), self.cluster());
        let before = std::mem::take(&mut self.state);
        let phases: BTreeMap<_, _> = before
            .edges
            .iter()
            .map(|(e, m)| (e.clone(), m.phase.clone()))
            .collect();
        let before = self.reloaded(before);
        let event = Event::Evaluate {
            snapshot: &snapshot,
            cluster: &cluster,
            planner: &Exhaustive(self),
        };
        let (state, effects) = step(before, event, self.now, &self.config);
        self.state = state;
        for (edge, account) in accounts(&self.state, self.now) {
            let phase = &self.state.edges[edge].phase;
            if phases.get(edge).map(std::mem::discriminant) != Some(std::mem::discriminant(phase)) {
                let at = self.now.since_start().as_secs_f64();
                self.story.push(format!("{at:.1} {edge} {}", account.sentence));
            }
        }
        self.check(&effects);
        for effect in effects {
            if !self.deaf {
                self.perform(&effect);
            }
            if !matches!(effect, Effect::Record { .. }) {
                self.effects.push((self.now, effect));
            }
        }
    }

    /// What is saved and loaded goes on as if nothing had been.
    fn reloaded(&self, state: State) -> State {
        if !self.saving {
            return state;
        }
        let saved = saved::from_json(&saved::to_json(&state, 0).unwrap()).unwrap();
        assert_eq!(saved.state, state);
        saved.state
    }

    /// The machine's state of the edge.
    pub(super) fn machine(&self) -> &EdgeState {
        &self.state.edges[&area(EDGE)]
    }

    /// Why the edge is held, if it is.
    pub(super) fn held(&self) -> Option<&HoldReason> {
        match self.phase() {
            Phase::Held { reason, .. } => Some(reason),
            _ => None,
        }
    }

    pub(super) fn is_acting(&self) -> bool {
        matches!(self.phase(), Phase::Acting { .. })
    }

    /// The platform says that it does not do this.
    pub(super) fn fail(&mut self, effect: &Effect, message: &str, permanent: bool) {
        let event = Event::EffectFailed {
            effect,
            message,
            permanent,
        };
        let state = std::mem::take(&mut self.state);
        self.state = step(state, event, self.now, &self.config).0;
    }

    fn perform(&mut self, effect: &Effect) {
        match effect {
            Effect::Ensure {
                service,
                area,
                replicas,
            } => {
                self.edge_replicas.insert(service.clone(), *replicas);
                let instance = (Life::Starting, self.now);
                let there = self
                    .instances
                    .entry((service.clone(), area.clone()))
                    .or_insert(instance);
                if there.0 == Life::Failed {
                    *there = instance;
                }
            }
            Effect::Remove { service, area } => {
                self.instances.remove(&(service.clone(), area.clone()));
            }
            Effect::Scale {
                service, replicas, ..
            } => {
                if !self.stuck {
                    self.replicas.insert(service.clone(), *replicas);
                }
            }
            Effect::Route { plan } => self.pending = Some(plan.clone()),
            Effect::Record { .. } => {}
        }
    }

    /// The invariants, on the effects of one turn.
    fn check(&self, effects: &[Effect]) {
        let cluster = self.cluster();
        let in_force = routes::whole(&cluster, &self.config);
        let story = || self.story.join("\n");
        for effect in effects {
            match effect {
                Effect::Ensure { area: at, .. } => {
                    assert!(!self.edges[at].silent, "silent {at}\n{}", story());
                }
                Effect::Remove { service, area: at } => {
                    assert!(!self.edges[at].silent, "silent {at}\n{}", story());
                    let share = routes::share(&self.routing, service, at);
                    let is_steered = self.config.steering == Steering::Readiness;
                    assert!(
                        is_steered || share == 0,
                        "{service} removed under traffic\n{}",
                        story()
                    );
                }
                Effect::Scale { area: at, .. } => assert_eq!(*at, area(CLOUD)),
                Effect::Route { plan } => self.check_routing(plan, &in_force, &cluster),
                Effect::Record { .. } => {}
            }
        }
        for machine in self.state.edges.values() {
            assert!(machine.decisions.len() <= 10);
        }
    }

    fn check_routing(&self, plan: &RoutingPlan, in_force: &RoutingPlan, cluster: &Cluster) {
        assert_eq!(
            check_plan(plan, &area(CLOUD)),
            Ok(()),
            "{}",
            self.story.join("\n")
        );
        let same = |(s, rule)| self.routing.0.contains_key(s) && in_force.0.get(s) == Some(rule);
        assert!(
            !plan.0.iter().all(same),
            "nothing to write\n{}",
            self.story.join("\n")
        );
        for (service, callers) in &plan.0 {
            for (caller, weights) in callers {
                let silent = self.edges.get(caller).is_some_and(|edge| edge.silent);
                let same = in_force.0[service][caller] == *weights;
                assert!(
                    !silent || same,
                    "written for a silent edge\n{}",
                    self.story.join("\n")
                );
                let share = weights.get(caller).copied().unwrap_or(0);
                let ready = routes::is_ready(cluster, service, caller);
                assert!(
                    *caller == area(CLOUD) || share == 0 || ready || silent,
                    "{service} gets {share} % at {caller} and is not ready\n{}",
                    self.story.join("\n")
                );
            }
            assert!(callers.is_empty() || callers.contains_key(&area(CLOUD)));
            self.check_form(service, callers, cluster);
        }
    }

    /// With failover an instance gets everything, so each has its final weight.
    fn check_form(&self, service: &ServiceName, callers: &BTreeMap<AreaName, Weights>, cluster: &Cluster) {
        if form(callers, &area(CLOUD)) == Form::Distribute {
            return;
        }
        for edge in self
            .edges
            .keys()
            .filter(|edge| routes::is_ready(cluster, service, edge))
        {
            let share = callers[edge].get(edge).copied().unwrap_or(0);
            let silent = self.edges[edge].silent;
            assert!(
                silent || share == 100,
                "{service} at {edge}\n{}",
                self.story.join("\n")
            );
        }
    }
}
