//! The action sequence: instances → Ready → weights up → weights down → drained → removed.
//!
//! One sequence serves an offload (`up` only), an unoffload (`down` only), a swap (both, up first) and the way
//! back (the same with the sets exchanged, without ramps). Each stage asserts the weights and instances that it
//! stands for at every evaluation, so that a lost effect is repeated and a repeated one changes nothing.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Effect;
use super::config::{Config, SECOND_STEP};
use super::plan::Times;
use super::ramp::{self, Counter, STEP_DEADLINE, Verdict};
use super::reason::Cause;
use super::routes;
use crate::cluster::{Cluster, Phase as Life, RoutingPlan};
use crate::ids::{AreaName, ServiceName, Timestamp};
use crate::snapshot::{OutcomeCounts, Snapshot};

/// Requests that keep arriving for longer than this at an instance without weight come from somebody whom the
/// weights don't reach.
const DRAIN_DEADLINE: Duration = Duration::from_secs(300);

/// How weights move.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Pace {
    /// In proven steps.
    Ramp,
    /// At once: to a state that was there before.
    AtOnce,
}

/// A sequence and how far it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Progress {
    up: BTreeSet<ServiceName>,
    down: BTreeSet<ServiceName>,
    pace: Pace,
    stage: Stage,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase")]
enum Stage {
    /// Instances are made and become Ready.
    Starting(Start),
    /// Weights of `up` rise.
    Raising(Shift),
    /// Weights of `down` fall.
    Lowering(Shift),
    /// `down` has no weight; requests under way end.
    Draining { since: Timestamp, last_seen: Timestamp },
    /// Instances of `down` are taken away.
    Removing { since: Timestamp },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Start {
    since: Timestamp,
    /// Instances that were seen alive.
    alive: BTreeSet<ServiceName>,
    /// Services that somebody at the edge was seen to call.
    called: BTreeSet<ServiceName>,
}

/// One step of weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Shift {
    /// Share of the edge for the frontier.
    share: u32,
    /// Services that somebody at the edge calls: those that are ramped.
    frontier: BTreeSet<ServiceName>,
    since: Timestamp,
    in_force: Option<InForce>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct InForce {
    since: Timestamp,
    counter: Counter,
}

/// What an evaluation sees and may change.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    pub(super) edge: &'a AreaName,
    pub(super) snapshot: &'a Snapshot,
    pub(super) cluster: &'a Cluster,
    pub(super) config: &'a Config,
    pub(super) now: Timestamp,
    /// Routing in force, whole.
    pub(super) in_force: &'a RoutingPlan,
    /// Routing that is wanted.
    pub(super) wanted: &'a mut RoutingPlan,
    pub(super) effects: &'a mut Vec<Effect>,
}

/// What an evaluation made of a sequence.
#[derive(Debug)]
pub(super) enum Advance {
    Going(Progress),
    Done,
    Failed(Progress, Cause),
}

/// What an evaluation made of a stage.
enum Next {
    Stay,
    /// It moved on within the stage: look again.
    Again,
    Finished,
    Fail(Cause),
}

// === impl Progress ===

impl Progress {
    /// `up` gets instances and weight, `down` loses both.
    pub(super) fn new(
        up: BTreeSet<ServiceName>,
        down: BTreeSet<ServiceName>,
        pace: Pace,
        now: Timestamp,
    ) -> Self {
        Self {
            up,
            down,
            pace,
            stage: Stage::Starting(Start::new(now)),
        }
    }

    /// Services that carry traffic at the edge by now, if they rise.
    pub(super) fn raised(&self) -> Option<&BTreeSet<ServiceName>> {
        (!self.is_starting()).then_some(&self.up)
    }

    /// Whether it still waits for instances.
    pub(super) fn is_starting(&self) -> bool {
        matches!(self.stage, Stage::Starting(_))
    }

    /// The stage in words.
    pub(super) fn sentence(&self) -> String {
        match &self.stage {
            Stage::Starting(_) => "waiting for instances".to_owned(),
            Stage::Raising(shift) | Stage::Lowering(shift) => format!("weight of the edge {} %", shift.share),
            Stage::Draining { .. } => "draining".to_owned(),
            Stage::Removing { .. } => "removing instances".to_owned(),
        }
    }

    /// Moves every deadline: the time `by` does not count.
    pub(super) fn postpone(&mut self, by: Duration) {
        let later = |at: &mut Timestamp| *at = at.after(by);
        match &mut self.stage {
            Stage::Starting(Start { since, .. }) | Stage::Removing { since } => later(since),
            Stage::Draining { since, last_seen } => {
                later(since);
                later(last_seen);
            }
            Stage::Raising(shift) | Stage::Lowering(shift) => {
                later(&mut shift.since);
                if let Some(in_force) = &mut shift.in_force {
                    later(&mut in_force.since);
                }
            }
        }
    }

    /// What a way back does when a stage fails: it has nothing to go back to, so it leaves out what can't be
    /// done and goes on. None where nothing is left to do.
    pub(super) fn skip(mut self, now: Timestamp) -> Option<Self> {
        match &mut self.stage {
            Stage::Starting(_) => {
                self.up.clear();
                self.stage = Stage::Starting(Start::new(now));
                (!self.down.is_empty()).then_some(self)
            }
            Stage::Raising(shift) | Stage::Lowering(shift) => {
                shift.since = now;
                Some(self)
            }
            Stage::Draining { .. } | Stage::Removing { .. } => None,
        }
    }

    /// Gives up on instances that failed.
    pub(super) fn leave_out(&mut self, services: &BTreeSet<ServiceName>) {
        self.up.retain(|service| !services.contains(service));
    }

    /// Goes on as far as what is seen allows.
    pub(super) fn advance(mut self, turn: &mut Turn<'_>, times: &mut Times) -> Advance {
        // More turns than any sequence has stages and steps.
        for _ in 0..16 {
            let next = match &mut self.stage {
                Stage::Starting(started) => start(&self.up, started, turn),
                Stage::Raising(shift) => raise(&self.up, self.pace, shift, turn, times),
                Stage::Lowering(shift) => lower(&self.down, self.pace, shift, turn, times),
                Stage::Draining { since, last_seen } => drain(&self.down, *since, last_seen, turn),
                Stage::Removing { since } => remove(&self.down, *since, turn),
            };
            match next {
                Next::Again => {}
                Next::Stay => return Advance::Going(self),
                Next::Fail(cause) => return Advance::Failed(self, cause),
                Next::Finished => match self.following(turn, times) {
                    Some(stage) => self.stage = stage,
                    None => return Advance::Done,
                },
            }
        }
        Advance::Going(self)
    }

    fn following(&self, turn: &Turn<'_>, times: &mut Times) -> Option<Stage> {
        match &self.stage {
            Stage::Starting(start) if !self.up.is_empty() => {
                times.instances_ready.get_or_insert(turn.now);
                Some(Stage::Raising(self.first_rise(start, turn)))
            }
            Stage::Starting(_) | Stage::Raising(_) => {
                let fall = || Stage::Lowering(self.first_fall(turn));
                (!self.down.is_empty()).then(fall)
            }
            Stage::Lowering(_) => {
                let nobody_there = self
                    .down
                    .iter()
                    .all(|s| !routes::is_ready(turn.cluster, s, turn.edge));
                Some(if nobody_there {
                    Stage::Removing { since: turn.now }
                } else {
                    Stage::Draining {
                        since: turn.now,
                        last_seen: turn.now,
                    }
                })
            }
            Stage::Draining { .. } => Some(Stage::Removing { since: turn.now }),
            Stage::Removing { .. } => None,
        }
    }

    fn first_rise(&self, start: &Start, turn: &Turn<'_>) -> Shift {
        let last = turn.config.final_weight();
        // Where no caller was seen at all, too little is known to spare any service the ramp.
        let frontier = if start.called.is_empty() {
            &self.up
        } else {
            &start.called
        };
        let share = match self.pace {
            Pace::Ramp => ramp::first_weight(turn.snapshot, turn.edge, frontier),
            Pace::AtOnce => last,
        };
        Shift {
            share,
            frontier: frontier.clone(),
            since: turn.now,
            in_force: None,
        }
    }

    fn first_fall(&self, turn: &Turn<'_>) -> Shift {
        let frontier = ramp::frontier(turn.snapshot, turn.edge, &self.down);
        let share = match self.pace {
            Pace::Ramp if !frontier.is_empty() => SECOND_STEP,
            Pace::Ramp | Pace::AtOnce => 0,
        };
        Shift {
            share,
            frontier,
            since: turn.now,
            in_force: None,
        }
    }
}

/// Makes instances and waits until all are Ready.
fn start(up: &BTreeSet<ServiceName>, start: &mut Start, turn: &mut Turn<'_>) -> Next {
    let Start { since, alive, called } = start;
    called.extend(ramp::frontier(turn.snapshot, turn.edge, up));
    let mut missing = BTreeSet::new();
    let mut failed = BTreeSet::new();
    for service in up {
        match routes::life(turn.cluster, service, turn.edge) {
            Some(Life::Ready) => continue,
            Some(Life::Starting) => {
                alive.insert(service.clone());
            }
            Some(Life::Failed) if alive.contains(service) => {
                failed.insert(service.clone());
            }
            Some(Life::Failed) | None => {
                turn.effects.push(Effect::Ensure {
                    service: service.clone(),
                    area: turn.edge.clone(),
                });
            }
        }
        missing.insert(service.clone());
    }
    if !failed.is_empty() {
        Next::Fail(Cause::InstanceFailed { services: failed })
    } else if missing.is_empty() {
        Next::Finished
    } else if turn.now.since(*since) >= turn.config.ready_within {
        Next::Fail(Cause::NotReady { services: missing })
    } else {
        Next::Stay
    }
}

/// Asserts the weights of `services` and waits until they are in force. Services without a caller at the edge get
/// `rest` straight away: it moves nothing.
fn assert_weights(
    services: &BTreeSet<ServiceName>,
    rest: u32,
    shift: &mut Shift,
    turn: &mut Turn<'_>,
) -> Option<Next> {
    let mut all = true;
    for service in services {
        let share = if shift.frontier.contains(service) {
            shift.share
        } else {
            rest
        };
        routes::set(turn.wanted, service, turn.edge, &turn.config.cloud, share);
        all &= routes::share(turn.in_force, service, turn.edge) == share;
    }
    if shift.in_force.is_some() {
        return None;
    }
    if all {
        let counter = Counter::new(turn.snapshot.at);
        shift.in_force = Some(InForce {
            since: turn.now,
            counter,
        });
        return None;
    }
    Some(if turn.now.since(shift.since) >= STEP_DEADLINE {
        Next::Fail(Cause::NotInForce)
    } else {
        Next::Stay
    })
}

fn raise(
    up: &BTreeSet<ServiceName>,
    pace: Pace,
    shift: &mut Shift,
    turn: &mut Turn<'_>,
    times: &mut Times,
) -> Next {
    let last = turn.config.final_weight();
    if let Some(next) = assert_weights(up, last, shift, turn) {
        return next;
    }
    if pace == Pace::AtOnce || shift.share == last {
        times.weights_final = Some(turn.now);
        return Next::Finished;
    }
    let edge = turn.edge;
    match judge(shift, edge, shift.share, true, turn, times) {
        Verdict::Wait => Next::Stay,
        Verdict::Fail(cause) => Next::Fail(cause),
        Verdict::Next => {
            shift.move_to(ramp::next_weight(shift.share, last), turn.now);
            Next::Again
        }
    }
}

fn lower(
    down: &BTreeSet<ServiceName>,
    pace: Pace,
    shift: &mut Shift,
    turn: &mut Turn<'_>,
    times: &mut Times,
) -> Next {
    if let Some(next) = assert_weights(down, 0, shift, turn) {
        return next;
    }
    if pace == Pace::AtOnce || shift.share == 0 {
        times.weights_final = Some(turn.now);
        return Next::Finished;
    }
    let cloud = &turn.config.cloud;
    match judge(shift, cloud, 100 - shift.share, false, turn, times) {
        Verdict::Wait => Next::Stay,
        Verdict::Fail(cause) => Next::Fail(cause),
        Verdict::Next => {
            shift.move_to(0, turn.now);
            Next::Again
        }
    }
}

fn judge(
    shift: &mut Shift,
    to: &AreaName,
    weight: u32,
    up: bool,
    turn: &Turn<'_>,
    times: &mut Times,
) -> Verdict {
    let Some(in_force) = &mut shift.in_force else {
        return Verdict::Wait;
    };
    let tallies = in_force
        .counter
        .count(turn.snapshot, turn.edge, to, &shift.frontier);
    if ramp::arrived(&tallies) > 0.0 {
        times.first_shifted_request.get_or_insert(turn.now);
    }
    ramp::judge(&tallies, weight, turn.now.since(in_force.since), up)
}

fn drain(
    down: &BTreeSet<ServiceName>,
    since: Timestamp,
    last_seen: &mut Timestamp,
    turn: &mut Turn<'_>,
) -> Next {
    keep_at_zero(down, turn);
    let at_edge = |service: &ServiceName, area: &AreaName| area == turn.edge && down.contains(service);
    let received = turn.snapshot.received.iter();
    let received = received
        .filter(|r| at_edge(&r.service, &r.area))
        .map(|r| &r.outcomes);
    let called = turn.snapshot.calls.iter();
    let called = called.filter(|c| {
        c.callee_area
            .as_ref()
            .is_some_and(|area| at_edge(&c.callee, area))
    });
    if received.chain(called.map(|c| &c.outcomes)).any(is_any) {
        *last_seen = turn.now;
    }
    if turn.now.since(*last_seen) >= turn.config.drained_after {
        Next::Finished
    } else if turn.now.since(since) >= DRAIN_DEADLINE {
        Next::Fail(Cause::NotDrained)
    } else {
        Next::Stay
    }
}

fn remove(down: &BTreeSet<ServiceName>, since: Timestamp, turn: &mut Turn<'_>) -> Next {
    keep_at_zero(down, turn);
    let mut left = false;
    for service in down {
        if routes::life(turn.cluster, service, turn.edge).is_some() {
            left = true;
            turn.effects.push(Effect::Remove {
                service: service.clone(),
                area: turn.edge.clone(),
            });
        }
    }
    // What can't be removed carries no traffic; it is found again as unfinished.
    if left && turn.now.since(since) < turn.config.ready_within {
        Next::Stay
    } else {
        Next::Finished
    }
}

fn keep_at_zero(down: &BTreeSet<ServiceName>, turn: &mut Turn<'_>) {
    for service in down {
        routes::set(turn.wanted, service, turn.edge, &turn.config.cloud, 0);
    }
}

fn is_any(outcomes: &OutcomeCounts) -> bool {
    let OutcomeCounts {
        ok,
        client_error,
        server_error,
        no_response,
        cancelled,
        long,
    } = *outcomes;
    [ok, client_error, server_error, no_response, cancelled, long]
        .into_iter()
        .any(|count| count > 0)
}

impl Shift {
    fn move_to(&mut self, share: u32, now: Timestamp) {
        self.share = share;
        self.since = now;
        self.in_force = None;
    }
}

impl Start {
    fn new(now: Timestamp) -> Self {
        Self {
            since: now,
            alive: BTreeSet::new(),
            called: BTreeSet::new(),
        }
    }
}
