//! Calls that move by readiness: areas without a region can't be addressed by weights, so there are no steps.
//!
//! A caller at the edge uses an instance there from the moment it is Ready, and the cloud from the moment it is gone. So the calls
//! of a move's services go over one by one, as their instances become Ready: until its callees are there, a service calls
//! them in the cloud, as before. Nothing is written for it, nothing can be held back, and the way back is to take the
//! instances away: their endpoints go as their pods begin to end, and what is under way has the pods' grace period.
//!
//! What a ramp's first step tests is tested all the same: errors from the first instance that is Ready on; once all are,
//! requests must be seen there in time, without more errors or more delay than predicted. Then it is verified like any move.

use std::collections::BTreeSet;

use super::phase::Phase;
use super::plan::Decision;
use super::progress::{Progress, Turn};
use super::ramp::{self, Counter, Verdict};
use super::reason::Cause;
use super::routes;
use super::stages::{Next, Shift, judge};
use super::starting::Start;
use crate::ids::{ServiceName, Timestamp};

/// Share of an edge with a Ready instance.
pub(super) const ALL: u32 = 100;

/// Watches what the instances that are Ready already get while others start. A reason, where errors end the move before
/// all are there.
pub(super) fn arriving(
    up: &BTreeSet<ServiceName>,
    start: &mut Start,
    turn: &Turn<'_>,
    plan: &mut Decision,
) -> Option<Cause> {
    let is_there = |service: &ServiceName| routes::is_ready(turn.cluster, service, turn.edge);
    if start.counter.is_none() && !up.iter().any(is_there) {
        return None;
    }
    let window = ramp::window(turn.snapshot, turn.edge, turn.edge, up);
    if ramp::arrived(&window) > 0.0 {
        plan.times.first_shifted_request.get_or_insert(turn.now);
    }
    let counter = start.counter.get_or_insert_with(|| fresh(turn));
    ramp::errors(&counter.count(turn.snapshot, window))
}

/// Counts from before the first instance was seen Ready: the platform shows it after the first requests may have arrived.
fn fresh(turn: &Turn<'_>) -> Counter {
    let (at, window) = (turn.snapshot.at.since_start(), turn.snapshot.window);
    Counter::new(Timestamp::from_start(at.saturating_sub(window)))
}

/// The only step: all of `up` is Ready and has its calls. What was counted while they started is counted on.
pub(super) fn arrival(up: &BTreeSet<ServiceName>, start: &Start, turn: &Turn<'_>, plan: &Decision) -> Shift {
    let counter = start.counter.clone().unwrap_or_else(|| fresh(turn));
    let mut shift = Shift::moved(ALL, up.clone(), counter, turn);
    // The routing in force is that of its end by now.
    let (before, after) = (turn.with_share(up, 0), turn.with_share(up, ALL));
    shift.expected_us.extend(turn.expect(ALL, &before, &after, plan));
    shift
}

/// Of the services that are placed, those whose instance is not Ready although the phase does not wait for it. With weights
/// they would have some; by readiness their calls have gone to the cloud already.
pub(super) fn broken(
    phase: &Phase,
    mut placed: BTreeSet<ServiceName>,
    turn: &Turn<'_>,
) -> BTreeSet<ServiceName> {
    let starts = phase.progress().and_then(Progress::starting);
    let is_awaited = |service: &ServiceName| starts.is_some_and(|up| up.contains(service));
    placed.retain(|service| !routes::is_ready(turn.cluster, service, turn.edge) && !is_awaited(service));
    placed
}

/// Waits until enough requests were seen at the edge, and judges them.
pub(super) fn arrive(shift: &mut Shift, turn: &mut Turn<'_>, plan: &mut Decision) -> Next {
    let edge = turn.edge;
    match judge(shift, edge, ALL, true, turn, plan) {
        Verdict::Wait => Next::Stay,
        Verdict::Fail(cause) => Next::Fail(cause),
        Verdict::Next => {
            plan.times.weights_final = Some(turn.now);
            Next::Finished
        }
    }
}
