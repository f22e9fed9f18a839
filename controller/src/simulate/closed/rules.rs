//! What must hold after every step, whatever happens.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use gma_core::cluster::{Cluster, Phase as Life};
use gma_core::decide::{Config, Decision, Direction, Effect, Outcome, Trigger};
use gma_core::ids::{AreaName, ServiceName, Timestamp};
use gma_core::routing::check_plan;
use gma_core::snapshot::{Caller, Coverage, EdgeSnapshot, Measured, Snapshot};
use gma_core::world::World;

use super::controller::Seen;

/// Weight may stay on an instance that is not Ready for this long while the edge is heard and effects are performed: the
/// evaluation that sees it takes it away.
const STRANDED: Duration = Duration::from_secs(2);

/// Changes of direction at one edge in an hour, at most, under constant inputs: a move may be corrected once, and the
/// back-off of a failed one doubles from 2 minutes.
pub const MOST_TURNS_AN_HOUR: usize = 6;

/// A worker that is silent for longer than its heartbeat and what is allowed for it is known to be blind.
const BLIND_AFTER: Duration = Duration::from_secs(75);

/// A move that began.
#[derive(Debug)]
pub(super) struct Move {
    at: Duration,
    direction: Direction,
    add: BTreeSet<ServiceName>,
    remove: BTreeSet<ServiceName>,
}

/// What has to be remembered between steps.
#[derive(Debug, Default)]
pub(super) struct Rules {
    /// Band decisions that began, by edge: in the world's time.
    pub(super) begun: BTreeMap<AreaName, Vec<Move>>,
    /// When an edge's last decision ended.
    ended: BTreeMap<AreaName, Timestamp>,
    /// Edges with a blind worker at their gateway beside one that speaks, since when.
    half_blind: BTreeMap<AreaName, Duration>,
    /// Edges whose blind worker fell silent before the controller started.
    excused: BTreeSet<AreaName>,
    /// All band decisions of the last hour.
    hour: VecDeque<Duration>,
    /// Services with weight and no Ready instance, since when.
    stranded: BTreeMap<(ServiceName, AreaName), Duration>,
    /// The last time anything was written.
    pub(super) written: Duration,
    /// Edges whose last move, or share given up, went back.
    failed: BTreeSet<AreaName>,
    /// What left an edge by a move of which nobody could say whether it was right. To bring it back is how that goes back: the
    /// machine backs off as it does from a move that failed.
    unproven: BTreeMap<AreaName, BTreeSet<ServiceName>>,
    /// Edges that try again after that.
    retrying: BTreeSet<AreaName>,
    /// The last time an edge tried again after that, or that this went back as well: its back-off doubles from 2
    /// minutes to 4 hours, so how often is bounded. (A try takes up to 5 minutes where nobody's requests prove it.)
    pub(super) retried: Duration,
}

// === impl Move ===

impl Move {
    /// Whether it goes the other way, or takes back a part of what an earlier one did.
    fn undoes(&self, earlier: &Self) -> bool {
        self.direction != earlier.direction
            || !self.add.is_disjoint(&earlier.remove)
            || !self.remove.is_disjoint(&earlier.add)
    }
}

// === impl Rules ===

impl Rules {
    /// The controller's clock and state are gone: what it remembers of decisions too.
    pub(super) fn forget(&mut self) {
        self.ended.clear();
    }

    /// Checks the effects of a step, and the world that it saw.
    ///
    /// # Errors
    /// What does not hold.
    pub(super) fn check(
        &mut self,
        seen: &Seen,
        effects: &[Effect],
        world: &World,
        config: &Config,
        can_act: bool,
    ) -> Result<(), String> {
        self.watch_gateways(world);
        let world = world.now();
        let Seen {
            cluster, snapshot, ..
        } = seen;
        let silent = |edge: &AreaName| snapshot.edges.get(edge).is_none_or(is_silent);
        let in_cloud = |service: &&ServiceName| life(cluster, service, &config.cloud) == Some(Life::Ready);
        let mut services = cluster.instances.iter().map(|instance| &instance.service);
        if let Some(missing) = services.find(|service| !in_cloud(service)) {
            return Err(format!("{missing} has no instance in the cloud"));
        }
        for effect in effects {
            match effect {
                Effect::Ensure { service, area, .. } | Effect::Remove { service, area }
                    if *area == config.cloud =>
                {
                    return Err(format!("{service} is made or removed in the cloud"));
                }
                Effect::Ensure { service, area, .. } if silent(area) => {
                    return Err(format!("{service} is made at {area}, which is silent"));
                }
                Effect::Remove { service, area } => {
                    if silent(area) {
                        return Err(format!("{service} is removed at {area}, which is silent"));
                    }
                    if share(cluster, service, area) > 0 {
                        return Err(format!("{service} is removed at {area} under traffic"));
                    }
                }
                Effect::Route { plan } => Self::check_route(plan, seen, config, &silent)?,
                Effect::Record { decision } => self.check_decision(decision, seen, world, config)?,
                Effect::Scale { area, .. } if *area != config.cloud => {
                    return Err(format!("{area} is scaled, which is not the cloud"));
                }
                Effect::Ensure { .. } | Effect::Scale { .. } => {}
            }
            if !matches!(effect, Effect::Record { .. }) {
                self.written = world;
            }
        }
        self.check_stranded(cluster, world, can_act, &silent)
    }

    fn check_route(
        plan: &gma_core::cluster::RoutingPlan,
        seen: &Seen,
        config: &Config,
        silent: &dyn Fn(&AreaName) -> bool,
    ) -> Result<(), String> {
        let cluster = &seen.cluster;
        check_plan(plan, &config.cloud).map_err(|(service, error)| format!("rule of {service}: {error}"))?;
        for (service, callers) in &plan.0 {
            if !callers.is_empty() && !callers.contains_key(&config.cloud) {
                return Err(format!("rule of {service} has no row for callers in the cloud"));
            }
            for (caller, weights) in callers {
                let new = weights.get(caller).copied().unwrap_or(0);
                let old = share(cluster, service, caller);
                if *caller == config.cloud || new == old {
                    continue;
                }
                if silent(caller) {
                    return Err(format!("{service} is routed at {caller}, which is silent"));
                }
                if new > 0 && life(cluster, service, caller) != Some(Life::Ready) {
                    return Err(format!(
                        "{service} gets {new} % at {caller} and is not Ready there"
                    ));
                }
            }
        }
        Ok(())
    }

    fn check_decision(
        &mut self,
        decision: &Decision,
        seen: &Seen,
        world: Duration,
        config: &Config,
    ) -> Result<(), String> {
        self.note_retries(decision, world);
        let edge = &decision.edge;
        let Trigger::Band { direction, .. } = decision.trigger else {
            return Ok(());
        };
        if decision.outcome != Outcome::Running {
            self.ended.insert(edge.clone(), seen.now);
            return Ok(());
        }
        let data = seen.snapshot.edges.get(edge);
        let fresh = data.is_some_and(|data| {
            matches!(data.user_delay, Measured::Present { .. })
                && matches!(data.report_age, Measured::Present { .. })
        });
        if !fresh {
            return Err(format!("a move at {edge} begins without fresh data: {data:?}"));
        }
        let coverage = data.map_or(1.0, |data| data.coverage.share());
        if coverage < 1.0 {
            return Err(format!(
                "a move at {edge} begins with {:.0} % of its gateway heard",
                100.0 * coverage
            ));
        }
        let coverage = path_coverage(&seen.snapshot, edge);
        if coverage < config.service_coverage {
            let percent = 100.0 * coverage;
            return Err(format!(
                "a move at {edge} begins with {percent:.0} % of its users' path heard"
            ));
        }
        if let Some(since) = self
            .half_blind
            .get(edge)
            .filter(|since| world - **since > BLIND_AFTER)
        {
            let seconds = (world - *since).as_secs();
            return Err(format!(
                "a move at {edge} begins, and a worker of its gateway is blind for {seconds} s"
            ));
        }
        if let Some(ended) = self.ended.get(edge)
            && seen.now.since(*ended) < config.cool_down
        {
            return Err(format!(
                "a move at {edge} begins within the cool-down of the last one"
            ));
        }
        while self
            .hour
            .front()
            .is_some_and(|at| world - *at >= Duration::from_secs(3600))
        {
            self.hour.pop_front();
        }
        self.hour.push_back(world);
        if self.hour.len() > config.moves_per_hour {
            return Err(format!("{} moves within an hour", self.hour.len()));
        }
        self.begun.entry(edge.clone()).or_default().push(Move {
            at: world,
            direction,
            add: decision.add.clone(),
            remove: decision.remove.clone(),
        });
        Ok(())
    }

    /// Moves, and shares that a slow service gives up, that are tried again after one that went back.
    fn note_retries(&mut self, decision: &Decision, world: Duration) {
        if !matches!(decision.trigger, Trigger::Band { .. } | Trigger::Overload { .. }) {
            return;
        }
        let edge = &decision.edge;
        if decision.outcome == Outcome::Running {
            let unproven = self.unproven.remove(edge).unwrap_or_default();
            if self.failed.remove(edge) || !unproven.is_disjoint(&decision.add) {
                self.retried = world;
                self.retrying.insert(edge.clone());
            }
            return;
        }
        let was_retried = self.retrying.remove(edge);
        if decision.outcome == Outcome::Unverified {
            self.unproven.insert(edge.clone(), decision.remove.clone());
        }
        if matches!(decision.outcome, Outcome::RolledBack { .. }) {
            self.failed.insert(edge.clone());
            if was_retried {
                self.retried = world;
            }
        }
    }

    /// Weight on what can't serve is taken away while the edge is heard.
    fn check_stranded(
        &mut self,
        cluster: &Cluster,
        world: Duration,
        can_act: bool,
        silent: &dyn Fn(&AreaName) -> bool,
    ) -> Result<(), String> {
        let mut now = BTreeMap::new();
        for (service, callers) in &cluster.routing.0 {
            for caller in callers.keys() {
                let weight = share(cluster, service, caller);
                if weight == 0 || life(cluster, service, caller) == Some(Life::Ready) {
                    continue;
                }
                if !can_act || silent(caller) {
                    continue;
                }
                let key = (service.clone(), caller.clone());
                let since = self.stranded.get(&key).copied().unwrap_or(world);
                if world - since > STRANDED {
                    return Err(format!(
                        "{service} has {weight} % at {caller} and nothing Ready there"
                    ));
                }
                now.insert(key, since);
            }
        }
        self.stranded = now;
        Ok(())
    }

    /// A controller starts: it can't miss workers that it never heard.
    pub(super) fn restarted(&mut self, world: &World) {
        self.watch_gateways(world);
        self.excused.extend(self.half_blind.keys().cloned());
    }

    /// Notes gateways of which one worker is silent while another one speaks.
    fn watch_gateways(&mut self, world: &World) {
        for (edge, gateway) in world.spec().edges.iter().zip(world.proxies()) {
            let blind = gateway.workers.iter().filter(|worker| worker.is_blind).count();
            if (1..gateway.workers.len()).contains(&blind) && !self.excused.contains(&edge.name) {
                self.half_blind.entry(edge.name.clone()).or_insert(world.now());
            } else {
                self.half_blind.remove(&edge.name);
            }
        }
    }

    /// Moves since a moment that turned against the one before, at the edge that has most.
    pub(super) fn turns(&self, since: Duration) -> usize {
        let of_edge = |moves: &Vec<Move>| {
            let later: Vec<&Move> = moves.iter().filter(|one| one.at >= since).collect();
            let turns = later
                .windows(2)
                .filter(|pair| matches!(pair, [one, two] if two.undoes(one)));
            turns.count()
        };
        self.begun.values().map(of_edge).max().unwrap_or(0)
    }
}

/// Share of the proxies that were heard, of all instances that requests of an edge's users were seen to reach; 1 of none.
fn path_coverage(snapshot: &Snapshot, edge: &AreaName) -> f64 {
    let mut reached: BTreeSet<(&ServiceName, &AreaName)> = BTreeSet::new();
    loop {
        let is_on_path = |caller: &Caller| match caller {
            Caller::User { edge: at } => at == edge,
            Caller::Instance { service, area } => reached.contains(&(service, area)),
        };
        let calls = snapshot.calls.iter().filter(|call| is_on_path(&call.caller));
        let next: BTreeSet<_> = calls
            .filter_map(|call| Some((&call.callee, call.callee_area.as_ref()?)))
            .collect();
        if next == reached {
            break;
        }
        reached = next;
    }
    let on_path = snapshot
        .coverage
        .iter()
        .filter(|row| reached.contains(&(&row.service, &row.area)));
    let sum = on_path.fold(Coverage::default(), |sum, row| Coverage {
        expected: sum.expected + row.coverage.expected,
        heard: sum.heard + row.coverage.heard,
        blind: sum.blind + row.coverage.blind,
    });
    sum.share()
}

fn is_silent(edge: &EdgeSnapshot) -> bool {
    matches!(edge.report_age, Measured::NotYet | Measured::Stale { .. })
        || matches!(edge.user_delay, Measured::NotYet | Measured::Stale { .. })
}

fn share(cluster: &Cluster, service: &ServiceName, area: &AreaName) -> u32 {
    let weights = cluster
        .routing
        .0
        .get(service)
        .and_then(|callers| callers.get(area));
    match weights {
        Some(weights) if weights.len() == 1 && weights.get(area).is_none() => 0,
        Some(weights) => weights.get(area).copied().unwrap_or(0),
        None => 0,
    }
}

fn life(cluster: &Cluster, service: &ServiceName, area: &AreaName) -> Option<Life> {
    let mut instances = cluster.instances.iter();
    instances
        .find(|instance| instance.service == *service && instance.area == *area)
        .map(|instance| instance.phase)
}
