//! What predictions have been wrong by, and what follows from it for the next one.
//!
//! A closed move has an error: measured less predicted. It is kept as a share of the predicted change (at least of a
//! tenth of the delay, so that small moves don't shout), per edge and direction, cut at ±0.5: what is further off is
//! no fault of the model that could be corrected, and the back-off's business. With exponential forgetting: the n-th last
//! counts `0.9^n`, about ten moves in all, and half as much after 6 hours, so that what was learned of an application as
//! it was does not bar moves for ever.
//!
//! - Spread: the errors' standard deviation, with the prior of the figure that predictions are held to (0.25 of the
//!   change) counting as four moves.
//! - Bias: the errors' mean m with its standard error e is believed as far as it exceeds twice its error:
//!   `m · max(0, 1 − (2e / m)²)`, the positive-part form of Stein's shrinkage. One bad prediction changes nothing, a
//!   lasting fault is corrected.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::plan::{Decision, PlannedMove};
use crate::ids::Timestamp;

/// What an error counts when the next one is known.
const KEPT: f64 = 0.9;
/// What was learned is worth half after this long, a little more than the longest back-off.
const HALF_LIFE: Duration = Duration::from_secs(6 * 3600);
/// Errors are cut at this share of the change: twice the figure that they are held to.
const MOST: f64 = 0.5;
/// Standard deviation of the error before anything is known, share of the change.
const PRIOR_SPREAD: f64 = 0.25;
/// Moves that the prior counts for.
const PRIOR_WEIGHT: f64 = 4.0;
/// Smallest change, share of the delay, that an error is put in relation to.
const LEAST_CHANGE: f64 = 0.1;
/// Standard errors below which a bias is taken for chance.
const SIGNIFICANT: f64 = 2.0;
/// One-sided 5 % point of the normal distribution: a delay is expected within so many spreads.
const WITHIN: f64 = 1.645;

/// Errors of one edge's predictions in one direction, as shares of the predicted change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PredictionErrors {
    at: Timestamp,
    weight: f64,
    sum: f64,
    squares: f64,
    /// The last one: measured less predicted, microseconds.
    last_us: Option<f64>,
}

/// What was known of a prediction's error when it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Correction {
    /// Added to the planner's prediction, microseconds.
    pub bias_us: f64,
    /// Standard deviation of its error, microseconds.
    pub spread_us: f64,
}

// === impl PredictionErrors ===

impl PredictionErrors {
    /// Counts in what was measured after a move.
    pub(super) fn record(&mut self, plan: &Decision, measured_us: f64, now: Timestamp) {
        let Some(planned) = &plan.planned else { return };
        // Of the planner's own prediction: else a bias that is corrected would be forgotten.
        let predicted_us = planned.predicted_us - plan.correction.unwrap_or_default().bias_us;
        let scale = scale_us(planned.measured_us, predicted_us);
        let share = (measured_us - predicted_us) / scale;
        if !share.is_finite() {
            return;
        }
        let share = share.clamp(-MOST, MOST);
        *self = self.faded(now);
        for (sum, new) in [
            (&mut self.weight, 1.0),
            (&mut self.sum, share),
            (&mut self.squares, share * share),
        ] {
            *sum = *sum * KEPT + new;
        }
        self.last_us = Some(measured_us - planned.predicted_us);
    }

    /// With less weight for what is long ago.
    pub(super) fn faded(&self, now: Timestamp) -> Self {
        let kept = 0.5_f64.powf(now.since(self.at).as_secs_f64() / HALF_LIFE.as_secs_f64());
        Self {
            at: now,
            weight: self.weight * kept,
            sum: self.sum * kept,
            squares: self.squares * kept,
            last_us: self.last_us,
        }
    }

    /// Correction of a prediction that goes from one delay to another, microseconds.
    pub(super) fn correction(&self, measured_us: f64, predicted_us: f64) -> Correction {
        let scale = scale_us(measured_us, predicted_us);
        Correction {
            bias_us: self.bias() * scale,
            spread_us: self.spread() * scale,
        }
    }

    /// The prediction with what is known of its error.
    pub(super) fn correct(&self, planned: PlannedMove) -> (PlannedMove, Correction) {
        let mut correction = self.correction(planned.measured_us, planned.predicted_us);
        // No more than half of the delay is corrected away, however large the change is.
        correction.bias_us = correction.bias_us.max(-planned.predicted_us / 2.0);
        let predicted_us = planned.predicted_us + correction.bias_us;
        (
            PlannedMove {
                predicted_us,
                ..planned
            },
            correction,
        )
    }

    /// Share of a predicted change by which it is corrected: positive where the delay stays above the prediction.
    pub fn bias(&self) -> f64 {
        if self.weight <= 0.0 || self.sum == 0.0 {
            return 0.0;
        }
        let mean = self.sum / self.weight;
        let error = self.spread() / self.weight.sqrt();
        mean * (1.0 - (SIGNIFICANT * error / mean).powi(2)).max(0.0)
    }

    /// Standard deviation of the error, share of a predicted change.
    pub fn spread(&self) -> f64 {
        let mean = if self.weight > 0.0 {
            self.sum / self.weight
        } else {
            0.0
        };
        let squares = (self.squares - self.weight * mean * mean).max(0.0);
        ((squares + PRIOR_WEIGHT * PRIOR_SPREAD * PRIOR_SPREAD) / (self.weight + PRIOR_WEIGHT)).sqrt()
    }

    /// Measured less predicted of the last move that was measured, microseconds.
    pub const fn last_us(&self) -> Option<f64> {
        self.last_us
    }
}

// === impl Correction ===

impl Correction {
    /// How far the delay may lie from the prediction, on one side, with 95 % confidence; microseconds.
    pub(super) fn margin_us(self) -> f64 {
        WITHIN * self.spread_us
    }
}

fn scale_us(measured_us: f64, predicted_us: f64) -> f64 {
    (predicted_us - measured_us)
        .abs()
        .max(LEAST_CHANGE * measured_us.abs())
}
