//! Is the user delay outside the band, and do we know?
//!
//! First form: at least N requests in the window, and the whole interval (mean ± k standard errors; a quantile
//! is taken as it is, with enough requests beyond it) on one side of a bound. Intervals with a stated error
//! rate replace [`read`] later; its callers don't change.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::config::{Config, Objective, Statistic};
use super::reason::HoldReason;
use crate::ids::Timestamp;
use crate::snapshot::{EdgeSnapshot, Measured, Snapshot};

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

/// Reads an edge's user delay against its objective.
///
/// # Errors
/// The reason for which the window decides nothing.
pub(super) fn read(
    edge: Option<&EdgeSnapshot>,
    snapshot: &Snapshot,
    objective: &Objective,
    config: &Config,
) -> Result<Reading, HoldReason> {
    if let Some(reason) = silence(edge) {
        return Err(reason);
    }
    let Some(EdgeSnapshot {
        user_delay, outcomes, ..
    }) = edge
    else {
        return Err(HoldReason::NotHeardYet);
    };
    let failed = outcomes.server_error.saturating_add(outcomes.no_response);
    let ended = outcomes
        .ok
        .saturating_add(outcomes.client_error)
        .saturating_add(failed);
    let share = ratio(failed, ended);
    if share > config.most_errors {
        return Err(HoldReason::Errors { share });
    }
    let Measured::Present { value: delay } = user_delay else {
        return Err(HoldReason::NoTraffic);
    };
    let needed = objective.statistic.least_requests(config.least_requests);
    if delay.count < needed {
        return Err(HoldReason::TooFewRequests {
            seen: delay.count,
            needed,
        });
    }
    let value_us = objective.statistic.of(delay);
    let half = match (objective.statistic, delay.mean_standard_error_us) {
        (Statistic::Mean, None) => return Err(HoldReason::NoInterval),
        (Statistic::Mean, Some(error)) => error * config.standard_errors,
        (Statistic::P50 | Statistic::P90 | Statistic::P95 | Statistic::P99, _) => 0.0,
    };
    if !(value_us.is_finite() && half.is_finite() && half >= 0.0) {
        return Err(HoldReason::NoInterval);
    }
    let (low_us, high_us) = (value_us - half, value_us + half);
    let position = if low_us > objective.band.offload_above_us() {
        Position::Above
    } else if high_us < objective.band.unoffload_below_us() {
        Position::Below
    } else {
        Position::Inside
    };
    let from = Timestamp::from_start(snapshot.at.since_start().saturating_sub(snapshot.window));
    Ok(Reading {
        value_us,
        low_us,
        high_us,
        requests: delay.count,
        from,
        window: snapshot.window,
        position,
    })
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
        Some(edge) => of(&edge.report_age).or_else(|| of(&edge.user_delay)),
    }
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
