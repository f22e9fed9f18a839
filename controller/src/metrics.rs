//! The controller's own metrics, and the measured histograms, as Prometheus text.

use gma_core::decide::{Direction, State};
use gma_core::ids::{AreaName, Timestamp};
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

/// Counters of the control loop.
#[derive(Debug)]
pub struct ControllerMetrics {
    /// Rounds of the control loop, by result.
    pub rounds: Family<ResultLabel, Counter>,
    /// Changes asked of the platform, by kind and result.
    pub changes: Family<ChangeLabel, Counter>,
    /// Times that what the controller remembers was written down, by result. Nothing is changed while that fails.
    pub saves: Family<ResultLabel, Counter>,
    /// Duration of a round.
    pub round_seconds: Histogram,
    /// From a write of weights to the first request by them.
    pub propagation: Histogram,
}

/// What was learned of the predictions for an edge.
#[derive(Clone, Debug, PartialEq)]
pub struct Prediction {
    /// The edge.
    pub edge: AreaName,
    /// `offload` or `unoffload`.
    pub direction: &'static str,
    /// Measured less predicted delay of the last move that was measured, seconds.
    pub error: f64,
    /// Share of a predicted change by which the next prediction is corrected.
    pub bias: f64,
    /// Standard deviation of predictions' errors, share of the predicted change.
    pub spread: f64,
}

/// Whether something worked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum Worked {
    /// It did.
    Ok,
    /// It did not.
    Failed,
}

/// Label set of a result.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ResultLabel {
    /// The result.
    pub result: Worked,
}

/// Kinds of change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum ChangeKind {
    /// An instance is started.
    Ensure,
    /// An instance is removed.
    Remove,
    /// Replicas are asked for in the cloud.
    Scale,
    /// Weights are written.
    Route,
}

/// Label set of a change.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ChangeLabel {
    /// Its kind.
    pub kind: ChangeKind,
    /// Its result.
    pub result: Worked,
}

impl Default for ControllerMetrics {
    fn default() -> Self {
        Self {
            rounds: Family::default(),
            changes: Family::default(),
            saves: Family::default(),
            // 100 us .. 1.6 s: a round is expected well under its 0.5 s period.
            round_seconds: Histogram::new(exponential_buckets(0.0001, 2.0, 15)),
            // 0.1 s … 51 s: the evaluation's period at least, a step's deadline at most.
            propagation: Histogram::new(exponential_buckets(0.1, 2.0, 10)),
        }
    }
}

impl ControllerMetrics {
    /// Adds the metrics to a registry.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("gma_rounds", "Rounds of the control loop", self.rounds.clone());
        registry.register(
            "gma_changes",
            "Changes asked of the platform",
            self.changes.clone(),
        );
        registry.register(
            "gma_saves",
            "Times that the controller's state was written down; nothing is changed while that fails",
            self.saves.clone(),
        );
        registry.register_with_unit(
            "gma_round",
            "Duration of a round of the control loop",
            Unit::Seconds,
            self.round_seconds.clone(),
        );
        registry.register_with_unit(
            "gma_propagation",
            "From a write of weights to the first request by them, as filters see it",
            Unit::Seconds,
            self.propagation.clone(),
        );
    }

    /// Counts a propagation that was measured at `now`.
    pub fn observe_propagation(&self, state: &State, now: Timestamp) {
        let measured = state.propagation.measured == Some(now);
        if let Some(newest) = state.propagation.newest().filter(|_| measured) {
            self.propagation.observe(newest.as_secs_f64());
        }
    }
}

/// What the machines have learned of their predictions.
pub fn predictions(state: &State) -> Vec<Prediction> {
    let all = state.edges.iter().flat_map(|(edge, machine)| {
        let errors = machine.prediction.iter();
        errors.map(move |(direction, errors)| (edge, *direction, errors))
    });
    let measured = all.filter_map(|(edge, direction, errors)| {
        Some(Prediction {
            edge: edge.clone(),
            direction: match direction {
                Direction::Offload => "offload",
                Direction::Unoffload => "unoffload",
            },
            error: errors.last_us()? / 1e6,
            bias: errors.bias(),
            spread: errors.spread(),
        })
    });
    measured.collect()
}
