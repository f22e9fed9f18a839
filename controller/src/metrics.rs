//! The controller's own metrics, and the measured histograms, as Prometheus text.

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
    }
}
