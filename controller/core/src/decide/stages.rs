//! The stages of the action sequence, each of which asserts what it wants and says whether it is there.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::expect::{LEAST_SLOTS, Since};
use super::plan::{Decision, Direction, Trigger};
use super::progress::{Pace, Turn};
use super::ramp::{self, Counter, STEP_DEADLINE, Verdict};
use super::reason::Cause;
use super::starting::Start;
use super::{Effect, replicas, routes};
use crate::ids::{AreaName, ServiceName, Timestamp};
use crate::routing::SECOND_STEP;

/// A step whose delay is worse than predicted goes on for so long before it is given up: new instances have their connections
/// and caches to fill, and start them on nodes that are busy with starting.
const WARM_UP: Duration = Duration::from_secs(10);
/// The newest part of a step that is looked at alone.
const NEWEST: Duration = Duration::from_secs(4);

/// Requests that keep arriving for longer than this at an instance without weight come from somebody whom the
/// weights don't reach.
const DRAIN_DEADLINE: Duration = Duration::from_secs(300);

/// Where a sequence is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub(super) enum Stage {
    /// Rules are such that an instance may be made; instances are made and become Ready.
    Starting(Start),
    /// Weights of `up` rise.
    Raising(Shift),
    /// By readiness: `up` has its calls; they are watched.
    Arriving(Shift),
    /// The cloud gets the replicas that the traffic of `down` needs.
    Scaling { since: Timestamp },
    /// Weights of `down` fall.
    Lowering(Shift),
    /// `down` has no weight; requests under way end.
    Draining { since: Timestamp, last_seen: Timestamp },
    /// Instances of `down` are taken away.
    Removing { since: Timestamp },
}

/// One step of weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Shift {
    /// Share of the edge for the frontier.
    pub(super) share: u32,
    /// Services that somebody at the edge calls: those that are ramped.
    pub(super) frontier: BTreeSet<ServiceName>,
    /// Since its weights are wanted.
    pub(super) since: Timestamp,
    in_force: Option<InForce>,
    /// Delay that is predicted for each share on the way, microseconds.
    #[serde(default)]
    pub(super) expected_us: Vec<(u32, f64)>,
    /// Since when replicas for the next step are waited for.
    #[serde(default)]
    short: Option<Timestamp>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct InForce {
    /// Since the weights are followed, as far as propagation is known.
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

// === impl Shift ===

impl Shift {
    pub(super) fn new(share: u32, frontier: BTreeSet<ServiceName>, now: Timestamp) -> Self {
        Self {
            share,
            frontier,
            since: now,
            in_force: None,
            expected_us: Vec::new(),
            short: None,
        }
    }

    /// A step whose calls have moved already, and are counted.
    pub(super) fn moved(
        share: u32,
        services: BTreeSet<ServiceName>,
        counter: Counter,
        turn: &Turn<'_>,
    ) -> Self {
        let since = turn.now.after(turn.propagation.upper());
        Self {
            in_force: Some(InForce { since, counter }),
            ..Self::new(share, services, turn.now)
        }
    }

    pub(super) const fn is_short(&self) -> bool {
        self.short.is_some()
    }

    pub(super) fn postpone(&mut self, by: Duration) {
        self.since = self.since.after(by);
        if let Some(in_force) = &mut self.in_force {
            in_force.since = in_force.since.after(by);
        }
        self.short = self.short.map(|short| short.after(by));
    }

    /// Delay that is predicted for its share, microseconds.
    fn expected(&self) -> Option<f64> {
        let of_share = |(share, _): &&(u32, f64)| *share == self.share;
        self.expected_us.iter().find(of_share).map(|(_, us)| *us)
    }

    fn move_to(&mut self, share: u32, now: Timestamp) {
        self.share = share;
        self.since = now;
        self.in_force = None;
        self.short = None;
    }
}

/// Asserts the weights of `services` and waits until they are in force. Services without a caller at the edge get
/// `rest` straight away: it moves nothing.
fn assert_weights(
    services: &BTreeSet<ServiceName>,
    rest: u32,
    lowers: bool,
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
        // What lost its weight on the way, as its instance failed, has none to give back.
        let share = if lowers {
            share.min(routes::share(turn.wanted, service, turn.edge))
        } else {
            share
        };
        routes::set(turn.wanted, service, turn.edge, &turn.config.cloud, share);
        all &= routes::share(turn.in_force, service, turn.edge) == share;
    }
    if shift.in_force.is_some() {
        return None;
    }
    if all {
        let upper = turn.propagation.upper();
        shift.in_force = Some(InForce {
            since: turn.now.after(upper),
            counter: Counter::new(turn.snapshot.at.after(upper)),
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
    plan: &mut Decision,
) -> Next {
    let last = turn.config.final_weight(turn.edge);
    let rest = match pace {
        Pace::Ramp => turn.config.resting_weight(turn.edge),
        // The form follows at rest.
        Pace::AtOnce => last,
    };
    match assert_weights(up, last.max(shift.share), false, shift, turn) {
        // Another edge keeps the service from the failover form; the share before it serves as well.
        Some(Next::Fail(_)) if shift.share > last => {
            plan.times.weights_final = Some(turn.now);
            return Next::Finished;
        }
        Some(next) => return next,
        None => {}
    }
    if shift.share == rest {
        plan.times.weights_final = Some(turn.now);
        return Next::Finished;
    }
    let edge = turn.edge;
    match judge(shift, edge, shift.share, true, turn, plan) {
        Verdict::Wait => Next::Stay,
        Verdict::Fail(cause) => Next::Fail(cause),
        Verdict::Next => {
            let next = if shift.share >= last {
                rest
            } else {
                ramp::next_weight(shift.share, last)
            };
            let routing = turn.with_shares(up, last, shift, next);
            let short = replicas::short(up, &routing, turn);
            if !short.is_empty() {
                let since = *shift.short.get_or_insert(turn.now);
                return if turn.now.since(since) >= turn.config.ready_within {
                    Next::Fail(Cause::EdgeNotScaled { services: short })
                } else {
                    Next::Stay
                };
            }
            if shift.share == SECOND_STEP
                && let Some(cause) = predict_again(shift, turn, plan)
            {
                return Next::Fail(cause);
            }
            shift.move_to(next, turn.now);
            Next::Again
        }
    }
}

pub(super) fn lower(
    down: &BTreeSet<ServiceName>,
    pace: Pace,
    shift: &mut Shift,
    turn: &mut Turn<'_>,
    plan: &mut Decision,
) -> Next {
    if let Some(next) = assert_weights(down, 0, true, shift, turn) {
        return next;
    }
    if pace == Pace::AtOnce || shift.share == 0 {
        plan.times.weights_final = Some(turn.now);
        return Next::Finished;
    }
    let cloud = &turn.config.cloud;
    match judge(shift, cloud, 100 - shift.share, false, turn, plan) {
        Verdict::Wait => Next::Stay,
        Verdict::Fail(cause) => Next::Fail(cause),
        Verdict::Next => {
            if let Some(cause) = predict_again(shift, turn, plan) {
                return Next::Fail(cause);
            }
            shift.move_to(0, turn.now);
            Next::Again
        }
    }
}

/// Judges a step by what its requests show from when its weights are followed.
pub(super) fn judge(
    shift: &mut Shift,
    to: &AreaName,
    weight: u32,
    up: bool,
    turn: &mut Turn<'_>,
    plan: &mut Decision,
) -> Verdict {
    let Some(in_force) = &mut shift.in_force else {
        return Verdict::Wait;
    };
    let window = ramp::window(turn.snapshot, turn.edge, to, &shift.frontier);
    if ramp::arrived(&window) > 0.0 && plan.times.first_shifted_request.is_none() {
        plan.times.first_shifted_request = Some(turn.now);
        // Only where nothing went there before it is surely a request by the new weights.
        if up && !turn.config.by_readiness() {
            let took = turn.now.since(shift.since);
            plan.times.propagation = Some(took);
            turn.propagation.record(took, turn.now);
        }
    }
    let followed = in_force.since;
    let tallies = in_force.counter.count(turn.snapshot, window);
    if turn.now < followed {
        // By readiness calls come from the first moment on; weights count none yet.
        return ramp::errors(&tallies).map_or(Verdict::Wait, Verdict::Fail);
    }
    let verdict = ramp::judge(&tallies, weight, turn.now.since(followed), up);
    if verdict != Verdict::Next {
        return verdict;
    }
    match since_followed(shift, turn) {
        // Enough requests, and not yet enough time to see what they take.
        Some(read) if read.slots < LEAST_SLOTS && turn.now.since(followed) < STEP_DEADLINE => Verdict::Wait,
        Some(read) => match shift.expected().filter(|us| read.is_worse_than(*us)) {
            Some(_) if turn.now.since(followed) < WARM_UP => Verdict::Wait,
            Some(predicted_us) => Verdict::Fail(Cause::StepSlower {
                predicted_us,
                measured_us: read.value_us,
            }),
            None => Verdict::Next,
        },
        // Enough requests before there is a whole slot of the delay.
        None if turn.now.since(followed) < NEWEST => Verdict::Wait,
        None => Verdict::Next,
    }
}

/// The delay since the step's weights are followed, or of its newest seconds where these are better: what is new is slow
/// at first.
fn since_followed(shift: &Shift, turn: &Turn<'_>) -> Option<Since> {
    let in_force = shift.in_force.as_ref()?;
    let edge = turn.snapshot.edges.get(turn.edge)?;
    let statistic = turn.config.edges.get(turn.edge)?.statistic;
    if edge.slots.is_empty() {
        return None;
    }
    let all = Since::read(edge, statistic, in_force.since)?;
    let newest = Timestamp::from_start(edge.slots_end.since_start().saturating_sub(NEWEST));
    let newest = Since::read(edge, statistic, newest.max(in_force.since))
        .filter(|newest| newest.slots >= LEAST_SLOTS && newest.low_us < all.low_us);
    Some(newest.unwrap_or(all))
}

/// Predicts the rest of the move from what this step does. A reason, where it would then certainly not do what it is for.
fn predict_again(shift: &Shift, turn: &Turn<'_>, plan: &mut Decision) -> Option<Cause> {
    let read = since_followed(shift, turn)?;
    let change_us = turn.planner.change_us(
        turn.edge,
        turn.in_force,
        &turn.at_end(plan),
        None,
        turn.snapshot,
        turn.cluster,
    )?;
    let again_us = read.value_us + change_us;
    plan.predicted_again_us = Some(again_us);
    let planned = plan.planned.as_ref()?;
    let Trigger::Band {
        direction,
        offload_above_us,
        ..
    } = &plan.trigger
    else {
        return None;
    };
    let bound_us = match direction {
        Direction::Offload => planned.measured_us,
        Direction::Unoffload => *offload_above_us,
    };
    (read.low_us + change_us > bound_us).then_some(Cause::PredictedWorse {
        first_us: planned.predicted_us,
        again_us,
    })
}

/// Asks for the replicas that the cloud needs, and waits for them.
pub(super) fn scale(
    down: &BTreeSet<ServiceName>,
    since: Timestamp,
    turn: &mut Turn<'_>,
    plan: &Decision,
) -> Next {
    let counts = plan.planned.as_ref().map(|planned| &planned.cloud_replicas);
    let mut short = BTreeSet::new();
    for (service, replicas) in counts.into_iter().flatten().filter(|(s, _)| down.contains(*s)) {
        let Turn {
            cluster,
            config,
            edge,
            ..
        } = turn;
        if !turn.requests.ask(cluster, config, edge, service, *replicas) {
            short.insert(service.clone());
        }
    }
    if short.is_empty() {
        Next::Finished
    } else if turn.now.since(since) >= turn.config.ready_within {
        Next::Fail(Cause::CloudNotScaled { services: short })
    } else {
        Next::Stay
    }
}

pub(super) fn drain(
    down: &BTreeSet<ServiceName>,
    since: Timestamp,
    last_seen: &mut Timestamp,
    quiet: Duration,
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
    if turn.now.since(*last_seen) >= quiet {
        Next::Finished
    } else if turn.now.since(since) >= DRAIN_DEADLINE.saturating_add(quiet) {
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
    if !left {
        Next::Finished
    } else if turn.now.since(since) < turn.config.ready_within {
        Next::Stay
    } else if turn.config.by_readiness() {
        Next::Fail(Cause::NotDrained)
    } else {
        // What can't be removed carries no traffic; it is found again as unfinished.
        Next::Finished
    }
}

fn keep_at_zero(down: &BTreeSet<ServiceName>, turn: &mut Turn<'_>) {
    for service in down {
        routes::set(turn.wanted, service, turn.edge, &turn.config.cloud, 0);
    }
}
