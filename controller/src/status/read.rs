//! What the commands read of `/api/v1/state`. Fields that they don't show are not looked at.

use std::collections::BTreeMap;
use std::time::Duration;

use gma_core::cluster::Cluster;
use gma_core::decide::{Decision, Mode, Reading, Statistic};
use gma_core::ids::{AreaName, ServiceName, Timestamp};
use gma_core::snapshot::OutcomeCounts;
use serde::Deserialize;

use crate::view::Costs;

/// The state of a controller.
#[derive(Clone, Debug, Deserialize)]
pub struct StateView {
    /// The controller's clock.
    pub now: Timestamp,
    /// Its last round; none before the first.
    pub round: Option<RoundView>,
}

/// A round.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RoundView {
    pub(super) at: Timestamp,
    pub(super) config: ConfigView,
    #[serde(default)]
    pub(super) edges: BTreeMap<AreaName, AccountView>,
    #[serde(default)]
    pub(super) ends: BTreeMap<AreaName, String>,
    pub(super) cluster: Cluster,
    pub(super) snapshot: SnapshotView,
    #[serde(default)]
    pub(super) costs: Costs,
    #[serde(default)]
    pub(super) short_if_lost: BTreeMap<AreaName, BTreeMap<ServiceName, u32>>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct ConfigView {
    pub(super) mode: Mode,
    pub(super) edges: BTreeMap<AreaName, ObjectiveView>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
pub(super) struct ObjectiveView {
    pub(super) statistic: Statistic,
    pub(super) band: BandView,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct BandView {
    pub(super) offload_above: Duration,
    pub(super) unoffload_below: Duration,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct AccountView {
    pub(super) sentence: String,
    pub(super) phase: String,
    pub(super) held: Option<serde_json::Value>,
    pub(super) reading: Option<Reading>,
    pub(super) plan: Option<Decision>,
    #[serde(default)]
    pub(super) decisions: Vec<ToldView>,
    pub(super) complaint: Option<String>,
    #[serde(default)]
    pub(super) progress: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct ToldView {
    pub(super) sentence: String,
    pub(super) decision: Decision,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct SnapshotView {
    #[serde(default)]
    pub(super) edges: BTreeMap<AreaName, EdgeView>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct EdgeView {
    pub(super) outcomes: OutcomesView,
    pub(super) rate_rps: f64,
    #[serde(default)]
    pub(super) coverage: CoverageView,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub(super) struct CoverageView {
    pub(super) expected: u32,
    pub(super) heard: u32,
    pub(super) blind: u32,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct OutcomesView {
    ok: u64,
    client_error: u64,
    server_error: u64,
    no_response: u64,
}

// === impl OutcomesView ===

impl OutcomesView {
    /// Share of requests that failed on the server's side; none where no request ended.
    pub(super) fn failing(self) -> Option<f64> {
        let counts = OutcomeCounts {
            ok: self.ok,
            client_error: self.client_error,
            server_error: self.server_error,
            no_response: self.no_response,
            ..OutcomeCounts::default()
        };
        #[expect(
            clippy::cast_precision_loss,
            reason = "counts of one window are far below 2^52"
        )]
        let share = (self.server_error + self.no_response) as f64 / counts.total() as f64;
        (counts.total() > 0).then_some(share)
    }
}

// === impl AccountView ===

impl AccountView {
    /// All decisions, oldest first, with that under way last; each once.
    pub(super) fn all(&self) -> Vec<(&str, &Decision)> {
        let running = self.plan.as_ref();
        let mut all: Vec<(&str, &Decision)> = self
            .decisions
            .iter()
            .filter(|told| running.is_none_or(|plan| plan.id != told.decision.id))
            .map(|told| (told.sentence.as_str(), &told.decision))
            .collect();
        all.extend(running.map(|plan| (self.sentence.as_str(), plan)));
        all
    }
}
