//! What is told of a move.

use std::time::Instant;

use gma_cell::load::Report as LoadReport;
use gma_core::decide::{Direction, Outcome};
use serde::Serialize;

use crate::stage::{Done, short, weights};

/// One move of the controller.
#[derive(Debug, Serialize)]
pub(crate) struct Move {
    pub(crate) edge: String,
    pub(crate) direction: Option<Direction>,
    pub(crate) outcome: Outcome,
    pub(crate) sentence: String,
    pub(crate) services: Vec<String>,
    /// From the change of the WAN to the first request that took the new way, as the filter counted it.
    pub(crate) step_to_first_shifted_request_s: Option<f64>,
    pub(crate) detection_s: f64,
    pub(crate) instances_ready_s: Option<f64>,
    pub(crate) propagation_s: Option<f64>,
    /// Mean at the load generator between the change of the WAN and the decision.
    pub(crate) delay_before_ms: Option<f64>,
    /// Mean at the load generator from the last weights to the verdict.
    pub(crate) delay_after_ms: Option<f64>,
    /// Of the statistic that is held in the band, as are the next three.
    pub(crate) predicted_ms: Option<f64>,
    pub(crate) measured_ms: Option<f64>,
    pub(crate) predicted_change_ms: Option<f64>,
    pub(crate) measured_change_ms: Option<f64>,
    /// Weights at the edge after the move, percent to the edge by service.
    pub(crate) weights: Vec<(String, u32)>,
}

// === impl Move ===

impl Move {
    /// Of a move that ended; `load` is what the users of its edge saw since `load_began`.
    pub(crate) fn new(done: &Done, load_began: Instant, load: &LoadReport) -> Self {
        let Done {
            decision,
            view,
            stepped,
            routing,
        } = done;
        let instant = |time| view.instant(time);
        let since_step = |at: Instant| at.saturating_duration_since(*stepped).as_secs_f64();
        let second = |at: Instant| at.saturating_duration_since(load_began).as_secs();
        let times = &decision.times;
        let decided = instant(times.decided);
        let first = times.first_shifted_request.map(instant);
        let ready = times.instances_ready.map(instant);
        let settled = times.weights_final.map(instant);
        let judged = times.verified.or(times.finished).map(instant);
        let moved = if decision.add.is_empty() {
            &decision.remove
        } else {
            &decision.add
        };
        let between = |from: u64, to: u64| (from < to).then(|| load.mean_ms_between(from..to)).flatten();
        Self {
            edge: decision.edge.to_string(),
            direction: decision.direction(),
            outcome: decision.outcome.clone(),
            sentence: decision.sentence(),
            services: moved.iter().map(|name| short(name.as_str())).collect(),
            step_to_first_shifted_request_s: first.map(since_step),
            detection_s: since_step(decided),
            instances_ready_s: ready.map(|at| at.saturating_duration_since(decided).as_secs_f64()),
            propagation_s: first.map(|at| {
                at.saturating_duration_since(ready.unwrap_or(decided))
                    .as_secs_f64()
            }),
            delay_before_ms: between(second(*stepped) + 1, second(decided).max(second(*stepped) + 2)),
            delay_after_ms: settled
                .zip(judged)
                .and_then(|(from, to)| between(second(from) + 1, second(to))),
            predicted_ms: decision.planned.as_ref().map(|plan| plan.predicted_us / 1_000.0),
            measured_ms: decision.after.map(|after| after.reading.value_us / 1_000.0),
            predicted_change_ms: decision.predicted_change_us().map(|us| us / 1_000.0),
            measured_change_ms: decision.after.map(|after| after.change_us / 1_000.0),
            weights: weights(routing, &decision.edge),
        }
    }

    /// What it is called.
    pub(crate) fn name(&self) -> &'static str {
        match self.direction {
            Some(Direction::Offload) => "offload",
            Some(Direction::Unoffload) => "unoffload",
            None => "other move",
        }
    }

    /// Prediction error as a share of the delay that was measured after.
    pub(crate) fn error_of_delay(&self) -> Option<f64> {
        let (predicted, measured) = self.predicted_ms.zip(self.measured_ms)?;
        Some((predicted - measured).abs() / measured)
    }

    /// The same as a share of the change that was measured.
    pub(crate) fn error_of_change(&self) -> Option<f64> {
        let (predicted, measured) = self.predicted_change_ms.zip(self.measured_change_ms)?;
        Some((predicted - measured).abs() / measured.abs())
    }
}
