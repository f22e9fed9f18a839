//! Is the user delay outside the band, and do we know?
//!
//! The statistic's interval ([`crate::interval`]) is computed over windows that end with the newest slot and grow
//! from 4 s to 5 minutes. The shortest that decides counts: one whose interval is narrower than half the band, or
//! lies wholly on one side of it. The second half of that rule is what makes a step visible within seconds: an
//! interval from 200 to 300 ms says enough about a band that ends at 120 ms, however wide it is. Several windows are
//! looked at, so an evaluation errs more often than α: by how much has not been measured, only that of one window has
//! (`tests/intervals.rs`). Three evaluations in a row are asked for before anything is done.
//!
//! A window that holds a change is wide, because its batches differ: so the window that decides has mostly begun
//! after the change. Who must be sure asks with `since`.
//!
//! Narrow enough is not certain: a delay that stays a little above the band would be read for ever as "perhaps above". So while
//! an alarm lasts, that is while every value lies outside, the window grows on over the time of the alarm until its interval
//! lies wholly outside, too. What was before the alarm is not asked: it may have been another delay.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::config::{Config, Objective};
use super::reason::{Covered, HoldReason};
use crate::ids::Timestamp;
use crate::interval::{Interval, LEAST_REQUESTS, LEAST_SLOTS, LONGEST_US, Window};
use crate::snapshot::{DELAY_SLOT, EdgeSnapshot, MAX_DELAY_SLOTS, Measured, Snapshot};

/// Every length up to this many slots is looked at: a step is to be seen as soon as may be. 8 s.
const ALL_UP_TO: usize = 16;

/// From there on each window is a tenth longer than the one before.
const GROWTH: f64 = 1.1;

/// At most how much narrower a long window's interval is than a short one's says, squared: (t(7) / t(∞))².
const SHORT: f64 = 4.0;

/// Slots without which "lately" says nothing: 30 s. At a rate that leaves them empty there is no interval anyway.
const LATELY: usize = 60;

/// Where an interval lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Position {
    /// Wholly above the band.
    Above,
    /// Wholly below it.
    Below,
    /// Neither: in the band, or not known to be outside.
    Inside,
}

/// What a window says of an edge's user delay.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Reading {
    /// The statistic, microseconds.
    pub value_us: f64,
    /// Lower end of its interval, microseconds.
    pub low_us: f64,
    /// Upper end of its interval, microseconds.
    pub high_us: f64,
    /// Requests in the window.
    pub requests: u64,
    /// Start of the window.
    pub from: Timestamp,
    /// Length of the window.
    pub window: Duration,
    /// Against the band.
    pub position: Position,
}

/// From when on slots are read.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Since {
    /// None before this is.
    pub(super) at: Timestamp,
    /// Every value since then lay outside the band.
    pub(super) alarm: Option<Timestamp>,
}

/// Reads an edge's user delay against its objective.
///
/// # Errors
/// The reason for which nothing is decided.
pub(super) fn read(
    edge: Option<&EdgeSnapshot>,
    snapshot: &Snapshot,
    objective: &Objective,
    config: &Config,
    since: Since,
) -> Result<Reading, HoldReason> {
    if let Some(reason) = silence(edge) {
        return Err(reason);
    }
    let Some(edge) = edge else {
        return Err(HoldReason::NotHeardYet);
    };
    let share = edge.coverage.share();
    if share < config.gateway_coverage {
        return Err(HoldReason::LowCoverage {
            of: Covered::Gateways,
            share,
            needed: config.gateway_coverage,
        });
    }
    let outcomes = &edge.outcomes;
    let failed = outcomes.server_error.saturating_add(outcomes.no_response);
    let ended = outcomes
        .ok
        .saturating_add(outcomes.client_error)
        .saturating_add(failed);
    let share = ratio(failed, ended);
    if share > config.most_errors {
        return Err(HoldReason::Errors { share });
    }
    let age = snapshot.at.since(edge.slots_end);
    if age > snapshot.window.max(DELAY_SLOT * 2) && !edge.slots.is_empty() {
        return Err(HoldReason::StaleTelemetry { age });
    }
    if has_ended(edge) {
        return Err(HoldReason::NoTraffic);
    }
    shortest(edge, objective, config.alpha, since)
}

/// Whether the newest slots are empty for longer than chance would have it: no request in [`LATELY`] slots, or none
/// in 4 s where ten were to be expected (e^-10 is below α).
fn has_ended(edge: &EdgeSnapshot) -> bool {
    let lately = edge.slots.iter().rev().take(LATELY);
    let empty = lately.clone().take_while(|slot| slot.count == 0).count();
    let busy = lately.len() - empty;
    let requests = lately.map(|slot| slot.count).fold(0, u64::saturating_add);
    let expected = requests.saturating_mul(empty as u64);
    !edge.slots.is_empty() && (busy == 0 || empty >= LEAST_SLOTS && expected > 10 * busy as u64)
}

/// The shortest window that decides.
fn shortest(
    edge: &EdgeSnapshot,
    objective: &Objective,
    alpha: f64,
    since: Since,
) -> Result<Reading, HoldReason> {
    let narrow_us = objective.band.narrow_us();
    let mut window = Window::default();
    let mut next = LEAST_SLOTS;
    let mut longest: Option<Interval> = None;
    let mut narrow: Option<Reading> = None;
    let usable = slots_since(edge, since.at);
    let alarmed = since.alarm.map_or(0, |alarm| slots_since(edge, alarm));
    for slot in edge.slots.iter().rev().take(usable) {
        if let Some(narrow) = narrow.filter(|_| window.len() >= alarmed) {
            return Ok(narrow);
        }
        window.grow(slot);
        if window.len() < next && window.len() < usable {
            continue;
        }
        next = longer(window.len());
        // The longest is computed in any case: why it does not decide is told.
        if window.len() < usable && !may_decide(&mut window, objective, alpha, narrow.is_none()) {
            continue;
        }
        let Some(interval) = interval(&mut window, objective, alpha) else {
            continue;
        };
        let position = position(&interval, objective);
        if position != Position::Inside {
            return Ok(reading(&interval, &window, edge.slots_end, position));
        }
        if narrow.is_none() && interval.high_us - interval.low_us < narrow_us {
            let reading = reading(&interval, &window, edge.slots_end, position);
            if objective.band.holds(reading.value_us) {
                return Ok(reading);
            }
            narrow = Some(reading);
        }
        longest = Some(interval);
    }
    narrow.ok_or_else(|| undecided(&window, longest, narrow_us))
}

/// All that was measured since a moment; none where that gives no interval.
pub(super) fn whole(
    edge: Option<&EdgeSnapshot>,
    objective: &Objective,
    alpha: f64,
    since: Timestamp,
) -> Option<Reading> {
    let edge = edge?;
    let mut window = Window::default();
    let slots = edge.slots.iter().rev().take(slots_since(edge, since));
    slots.for_each(|slot| window.grow(slot));
    let interval = interval(&mut window, objective, alpha)?;
    Some(reading(
        &interval,
        &window,
        edge.slots_end,
        position(&interval, objective),
    ))
}

fn interval(window: &mut Window<'_>, objective: &Objective, alpha: f64) -> Option<Interval> {
    match objective.statistic.share() {
        None => window.mean(alpha),
        Some(share) => window.quantile(share, alpha),
    }
}

/// Whether the interval of this window could decide, at best: the intervals themselves are dear. `by_width`: one that is narrow
/// decides, too.
fn may_decide(window: &mut Window<'_>, objective: &Objective, alpha: f64, by_width: bool) -> bool {
    let narrow_us = objective.band.narrow_us();
    match objective.statistic.share() {
        None => window.mean_at_best(alpha).is_some_and(|best| {
            let is_narrow = best.high_us - best.low_us < narrow_us;
            position(&best, objective) != Position::Inside || by_width && is_narrow
        }),
        Some(share) => {
            let (above_us, below_us) = (
                objective.band.offload_above_us(),
                objective.band.unoffload_below_us(),
            );
            window.quantile_at_best(share, alpha).is_some_and(|best| {
                best.may_exceed(above_us)
                    || best.may_stay_below(below_us)
                    || by_width
                        && best.may_exceed(best.value_us() - narrow_us)
                        && best.may_stay_below(best.value_us() + narrow_us)
            })
        }
    }
}

fn position(interval: &Interval, objective: &Objective) -> Position {
    if interval.low_us > objective.band.offload_above_us() {
        Position::Above
    } else if interval.high_us < objective.band.unoffload_below_us() {
        Position::Below
    } else {
        Position::Inside
    }
}

/// Slots, counted from the newest, that began at `since` or later.
fn slots_since(edge: &EdgeSnapshot, since: Timestamp) -> usize {
    let slots = edge.slots_end.since(since).as_nanos() / DELAY_SLOT.as_nanos();
    usize::try_from(slots)
        .unwrap_or(usize::MAX)
        .min(edge.slots.len())
        .min(MAX_DELAY_SLOTS)
}

fn longer(slots: usize) -> usize {
    if slots < ALL_UP_TO {
        return slots + 1;
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "600 slots at most"
    )]
    let next = (slots as f64 * GROWTH) as usize;
    next.max(slots + 1)
}

fn reading(interval: &Interval, window: &Window<'_>, end: Timestamp, position: Position) -> Reading {
    let length = length(window.len());
    Reading {
        value_us: interval.value_us,
        low_us: interval.low_us,
        high_us: interval.high_us,
        requests: window.requests(),
        from: Timestamp::from_start(end.since_start().saturating_sub(length)),
        window: length,
        position,
    }
}

/// Why the longest window that there is does not decide: the width of an interval falls with the root of the
/// requests, so the rate that would do in 5 minutes can be told.
fn undecided(window: &Window<'_>, longest: Option<Interval>, narrow_us: f64) -> HoldReason {
    let (length, most) = (
        length(window.len()).as_secs_f64(),
        length(MAX_DELAY_SLOTS).as_secs_f64(),
    );
    if length <= 0.0 {
        return HoldReason::NoInterval;
    }
    if window.requests() == 0 {
        return HoldReason::NoTraffic;
    }
    let seen_rps = ratio(window.requests(), 1) / length;
    let least_rps = ratio(LEAST_REQUESTS, 1) / most;
    let needed_rps = longest.map_or(least_rps, |interval| {
        let width = if interval.high_us < LONGEST_US {
            interval.high_us - interval.low_us
        } else {
            // Open at the top: twice the other side, more or less.
            3.0 * (interval.value_us - interval.low_us)
        };
        (seen_rps * length / most * (width / narrow_us).powi(2)).max(least_rps)
    });
    // Short windows have few degrees of freedom: longer ones will do with fewer requests than they say.
    if seen_rps * SHORT >= needed_rps && window.len() < MAX_DELAY_SLOTS {
        return HoldReason::NoInterval;
    }
    HoldReason::TooFewRequests { seen_rps, needed_rps }
}

/// Why nothing at all is known of the edge now; then nothing is written for it.
pub(super) fn silence(edge: Option<&EdgeSnapshot>) -> Option<HoldReason> {
    fn of<T>(measured: &Measured<T>) -> Option<HoldReason> {
        match measured {
            Measured::NotYet => Some(HoldReason::NotHeardYet),
            Measured::Stale { age } => Some(HoldReason::EdgeSilent { age: *age }),
            Measured::Idle | Measured::Present { .. } => None,
        }
    }
    match edge {
        None => Some(HoldReason::NotHeardYet),
        Some(edge) => of(&edge.report_age).or(match edge.user_delay {
            Measured::NotYet => Some(HoldReason::NotHeardYet),
            // A report is late, as one is that was lost and is sent again.
            Measured::Stale { age } => Some(HoldReason::StaleTelemetry { age }),
            Measured::Idle | Measured::Present { .. } => None,
        }),
    }
}

fn length(slots: usize) -> Duration {
    DELAY_SLOT * u32::try_from(slots).unwrap_or(u32::MAX)
}

#[expect(
    clippy::cast_precision_loss,
    reason = "counts of one window are far below 2^52"
)]
pub(super) fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        0.0
    } else {
        part as f64 / whole as f64
    }
}
