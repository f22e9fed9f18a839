//! Did a move do what it should?
//!
//! Three things are compared: the reading before the move, that after it (its window begins when the last weights are in
//! force), and the prediction with its own spread ([`super::prediction`]). With b and a the values before and after, h
//! their half widths combined (root of the sum of squares), p the prediction:
//!
//! - **kept**: the whole interval after it is at or below the band's upper bound; or (offload) the delay fell, `b − a > h`,
//!   and is as predicted, `a − p` at most the half width after and two spreads combined.
//! - **regression**: the whole interval is on the wrong side: `a − b > h` (offload), above the band (unoffload).
//! - **not improved** (offload): at the end of the time less than half of the promise: `b − a + h < (b − p) / 2`.
//! - **unknown**: at the end nothing of that is certain, or nothing could be read. Then it stays: a move is never undone
//!   on silence, and the band goes on being watched.
//!
//! The users' load may change while this is watched. Where some calls stay on the cloud, the same callers' calls of the
//! same seconds to both areas are compared ([`super::paths`]), and where the two can be told apart they overrule before
//! and after: an offload whose way is faster is not undone because the load rose; one whose way is slower is not kept
//! because the load fell.
//!
//! Error rates. An interval misses its value on one side with probability α (1e-4: readings, paths), and it is looked at
//! each 0.5 s from 15 s to 60 s, at most 91 times: by the union bound less than 1 % over the whole time. So
//! - a move that brings at least half of what was promised is undone in less than 1 % of the cases;
//! - a move that brings nothing or makes it worse is kept as good in less than 1 % of the cases; it is undone at the latest
//!   after 60 s if the promise is at least four times h, and else can't be told from a good one and stays, marked as
//!   not verified.
//!
//! What it can't tell: in the failover form and after an unoffload nothing takes the other way, so a change of the users'
//! load counts as the move's. An unoffload that is undone for that reason leaves what the band would ask for. A change of
//! the mix that reaches only requests to one of the areas is no change of both.

use super::evidence::Reading;
use super::paths::Compared;
use super::plan::{Decision, Direction, Trigger};
use super::reason::{Cause, HoldReason};

/// Share of the promise that must have happened where the band is not reached.
const LEAST_OF_PREDICTED: f64 = 0.5;
/// Spreads of the prediction within which an effect is as predicted: 95 % of normal errors.
const SPREADS: f64 = 2.0;

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Verdict {
    Wait,
    Kept,
    Failed(Cause),
    Unknown,
}

/// Judges the effect of `plan`; `last`: there is no more time.
pub(super) fn judge(
    plan: &Decision,
    read: &Result<Reading, HoldReason>,
    paths: Compared,
    last: bool,
) -> Verdict {
    let Trigger::Band {
        direction,
        reading: before,
        offload_above_us,
        ..
    } = &plan.trigger
    else {
        return Verdict::Unknown;
    };
    let after = match read {
        Ok(after) => after,
        Err(HoldReason::Errors { share }) => return Verdict::Failed(Cause::ErrorsAfter { share: *share }),
        Err(_) if last => return Verdict::Unknown,
        Err(_) => return Verdict::Wait,
    };
    match direction {
        Direction::Offload => offload(plan, before, after, paths, *offload_above_us, last),
        Direction::Unoffload => unoffload(plan, before, after, *offload_above_us, last),
    }
}

fn offload(
    plan: &Decision,
    before: &Reading,
    after: &Reading,
    paths: Compared,
    offload_above_us: f64,
    last: bool,
) -> Verdict {
    let Some(planned) = &plan.planned else {
        return Verdict::Unknown;
    };
    let (before_us, after_us) = (planned.measured_us, after.value_us);
    let (gain, half) = (before_us - after_us, half_us(before).hypot(half_us(after)));
    let spread = SPREADS * plan.correction.unwrap_or_default().spread_us;
    let as_predicted = after_us - planned.predicted_us <= half_us(after).hypot(spread);
    let better = gain > half || paths == Compared::Faster;
    let promised = before_us - planned.predicted_us;
    if let Compared::Slower { edge_us, cloud_us } = paths {
        Verdict::Failed(Cause::PathSlower { edge_us, cloud_us })
    } else if after.high_us <= offload_above_us || (better && as_predicted) {
        Verdict::Kept
    } else if gain < -half && !better {
        Verdict::Failed(Cause::DelayWorse { before_us, after_us })
    } else if !last {
        Verdict::Wait
    } else if paths == Compared::Faster {
        Verdict::Kept
    } else if gain + half < promised * LEAST_OF_PREDICTED {
        Verdict::Failed(Cause::NotImproved { before_us, after_us })
    } else if better {
        Verdict::Kept
    } else {
        Verdict::Unknown
    }
}

fn unoffload(
    plan: &Decision,
    before: &Reading,
    after: &Reading,
    offload_above_us: f64,
    last: bool,
) -> Verdict {
    let before_us = plan
        .planned
        .as_ref()
        .map_or(before.value_us, |planned| planned.measured_us);
    if after.high_us <= offload_above_us {
        Verdict::Kept
    } else if after.low_us > offload_above_us {
        let after_us = after.value_us;
        Verdict::Failed(Cause::DelayWorse { before_us, after_us })
    } else if !last {
        Verdict::Wait
    } else {
        Verdict::Unknown
    }
}

/// Whether an exchange of services certainly changed less than half of what was promised: what was given up for it would
/// have done as well.
pub(super) fn is_pointless(plan: &Decision, after: &Reading) -> bool {
    let (Trigger::Band { reading: before, .. }, Some(planned)) = (&plan.trigger, &plan.planned) else {
        return false;
    };
    let promised = planned.predicted_us - planned.measured_us;
    let changed = (after.value_us - planned.measured_us) * promised.signum();
    let half = half_us(before).hypot(half_us(after));
    let is_exchange = !plan.add.is_empty() && !plan.remove.is_empty();
    is_exchange && changed + half < promised.abs() * LEAST_OF_PREDICTED
}

fn half_us(reading: &Reading) -> f64 {
    (reading.high_us - reading.low_us) / 2.0
}
