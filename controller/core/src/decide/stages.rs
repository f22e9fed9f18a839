//! The stages of the action sequence, each of which asserts what it wants and says whether it is there.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::plan::Times;
use super::progress::{Pace, Turn};
use super::ramp::{self, Counter, STEP_DEADLINE, Verdict};
use super::reason::Cause;
use super::{Effect, routes};
use crate::cluster::Phase as Life;
use crate::ids::{AreaName, ServiceName, Timestamp};

/// Requests that keep arriving for longer than this at an instance without weight come from somebody whom the
/// weights don't reach.
const DRAIN_DEADLINE: Duration = Duration::from_secs(300);

/// Where a sequence is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub(super) enum Stage {
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

/// Instances on their way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Start {
    pub(super) since: Timestamp,
    /// Instances that were seen alive.
    alive: BTreeSet<ServiceName>,
    /// Services that somebody at the edge was seen to call.
    pub(super) called: BTreeSet<ServiceName>,
}

/// One step of weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Shift {
    /// Share of the edge for the frontier.
    pub(super) share: u32,
    /// Services that somebody at the edge calls: those that are ramped.
    pub(super) frontier: BTreeSet<ServiceName>,
    pub(super) since: Timestamp,
    in_force: Option<InForce>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct InForce {
    since: Timestamp,
    counter: Counter,
}

/// What an evaluation made of a stage.
pub(super) enum Next {
    Stay,
    /// It moved on within the stage: look again.
    Again,
    Finished,
    Fail(Cause),
}

// === impl Start, Shift ===

impl Shift {
    pub(super) fn new(share: u32, frontier: BTreeSet<ServiceName>, now: Timestamp) -> Self {
        Self {
            share,
            frontier,
            since: now,
            in_force: None,
        }
    }

    pub(super) fn postpone(&mut self, by: Duration) {
        self.since = self.since.after(by);
        if let Some(in_force) = &mut self.in_force {
            in_force.since = in_force.since.after(by);
        }
    }

    fn move_to(&mut self, share: u32, now: Timestamp) {
        self.share = share;
        self.since = now;
        self.in_force = None;
    }
}

impl Start {
    pub(super) fn new(now: Timestamp) -> Self {
        Self {
            since: now,
            alive: BTreeSet::new(),
            called: BTreeSet::new(),
        }
    }
}

/// Makes instances and waits until all are Ready.
pub(super) fn start(up: &BTreeSet<ServiceName>, start: &mut Start, turn: &mut Turn<'_>) -> Next {
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

pub(super) fn raise(
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

pub(super) fn lower(
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

pub(super) fn drain(
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
    if received
        .chain(called.map(|c| &c.outcomes))
        .any(|outcomes| outcomes.total() > 0)
    {
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

pub(super) fn remove(down: &BTreeSet<ServiceName>, since: Timestamp, turn: &mut Turn<'_>) -> Next {
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
