//! What the controller says of an object: bounded, so that a status never grows past what etcd should hold.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Decisions that are kept.
pub const MAX_DECISIONS: usize = 10;
/// Bytes of a status, as JSON.
pub const MAX_STATUS_BYTES: usize = 64 * 1024;
/// Characters of a sentence.
const MAX_TEXT: usize = 400;
/// Entries of a list of services, at first.
const MAX_SERVICES: usize = 64;
/// Entries of the list of edges; the spec has no more.
const MAX_EDGES: usize = 16;

/// What the controller says.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct EdgePlacementStatus {
    /// Generation of the spec that this is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready, TelemetryFresh, EdgeAvailable, AutoscalersIdle, WithinBand, Suspended, RoutingApplied, CostMeasured.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// A line for kubectl get.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<Summary>,
    /// Each edge.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub edges: Vec<EdgeStatus>,
    /// The last decisions, the newest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10))]
    pub decisions: Vec<DecisionStatus>,
    /// Services that are held, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["service".into()]))]
    pub held: Vec<HeldService>,
}

/// A line for `kubectl get`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// What is being done, e.g. Observing, Acting, Held.
    pub state: String,
    /// The measured delay of each edge.
    pub delay: String,
    /// The band of each edge.
    pub target: String,
    /// Services at the edges, of those that may be there, e.g. 3/10.
    pub placed: String,
}

/// An edge.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EdgeStatus {
    /// Its name.
    pub name: String,
    /// The decision machine's phase, e.g. Observing.
    pub state: String,
    /// Why nothing is done, where nothing is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<String>,
    /// The delay that was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub measured: Option<MeasuredDelay>,
    /// The delay that the last plan predicted, e.g. 182.4ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub predicted: Option<String>,
    /// Services that run here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<String>,
    /// How many more run here than services lists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub more_services: Option<u32>,
    /// The plan that is carried out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<PlanStatus>,
    /// Replicas that the cloud is short of if this edge dies.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub short_if_lost: Vec<Shortage>,
}

/// A delay that was measured.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MeasuredDelay {
    /// The statistic's value, e.g. 182.4ms.
    pub value: String,
    /// Lower end of its interval.
    pub at_least: String,
    /// Upper end of its interval.
    pub at_most: String,
    /// Requests that it stands on.
    pub requests: u64,
}

/// A plan that is carried out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlanStatus {
    /// Its number.
    pub id: u64,
    /// What it does, in a sentence.
    pub what: String,
    /// How far it is, e.g. shifting at 25 %.
    pub progress: String,
}

/// Replicas that are missing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Shortage {
    /// Of which service.
    pub service: String,
    /// How many.
    pub replicas: u32,
}

/// A decision.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DecisionStatus {
    /// When it began.
    pub time: Time,
    /// At which edge.
    pub edge: String,
    /// What was decided.
    pub what: String,
    /// Why.
    pub why: String,
    /// What came of it; absent: it is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
}

/// A service that is held.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HeldService {
    /// Its name.
    pub service: String,
    /// Why.
    pub why: String,
    /// What would end it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
}

// === impl EdgePlacementStatus ===

impl EdgePlacementStatus {
    /// The same within [`MAX_STATUS_BYTES`] and [`MAX_DECISIONS`]: long sentences are cut, then lists of services; how many
    /// are left out is said.
    #[must_use]
    pub fn bounded(mut self) -> Self {
        self.conditions.truncate(16);
        self.edges.truncate(MAX_EDGES);
        self.decisions.truncate(MAX_DECISIONS);
        self.held.truncate(MAX_SERVICES);
        self.texts().for_each(|text| cut(text, MAX_TEXT));
        let mut most = MAX_SERVICES;
        while self.bytes() > MAX_STATUS_BYTES && most > 0 {
            most /= 2;
            self.shorten(most);
        }
        self
    }

    /// Its size as JSON.
    fn bytes(&self) -> usize {
        serde_json::to_vec(self).map_or(usize::MAX, |json| json.len())
    }

    fn shorten(&mut self, most: usize) {
        for edge in &mut self.edges {
            let left_out = edge.services.len().saturating_sub(most);
            edge.services.truncate(most);
            if left_out > 0 {
                let more = u32::try_from(left_out).unwrap_or(u32::MAX);
                edge.more_services = Some(edge.more_services.unwrap_or_default().saturating_add(more));
            }
            edge.short_if_lost.truncate(most);
        }
        self.held.truncate(most);
        self.texts().for_each(|text| cut(text, most.max(16) * 4));
    }

    /// Everything that can be long.
    fn texts(&mut self) -> impl Iterator<Item = &mut String> {
        let summary = self.summary.iter_mut().flat_map(|summary| {
            [
                &mut summary.state,
                &mut summary.delay,
                &mut summary.target,
                &mut summary.placed,
            ]
        });
        let conditions = self.conditions.iter_mut().map(|condition| &mut condition.message);
        let edges = self.edges.iter_mut().flat_map(EdgeStatus::texts);
        let decisions = self.decisions.iter_mut().flat_map(|decision| {
            [&mut decision.edge, &mut decision.what, &mut decision.why]
                .into_iter()
                .chain(&mut decision.outcome)
        });
        let held = self.held.iter_mut().flat_map(|held| {
            [&mut held.service, &mut held.why]
                .into_iter()
                .chain(&mut held.fix)
        });
        summary
            .chain(conditions)
            .chain(edges)
            .chain(decisions)
            .chain(held)
    }
}

impl EdgeStatus {
    fn texts(&mut self) -> impl Iterator<Item = &mut String> {
        let plan = self
            .plan
            .iter_mut()
            .flat_map(|plan| [&mut plan.what, &mut plan.progress]);
        let measured = self
            .measured
            .iter_mut()
            .flat_map(|measured| [&mut measured.value, &mut measured.at_least, &mut measured.at_most]);
        [&mut self.name, &mut self.state]
            .into_iter()
            .chain(&mut self.held)
            .chain(&mut self.predicted)
            .chain(&mut self.services)
            .chain(plan)
            .chain(measured)
            .chain(
                self.short_if_lost
                    .iter_mut()
                    .map(|shortage| &mut shortage.service),
            )
    }
}

/// Cuts a text to `most` characters; the last says that something is missing.
fn cut(text: &mut String, most: usize) {
    if let Some((at, _)) = text.char_indices().nth(most) {
        let before = text
            .char_indices()
            .nth(most.saturating_sub(1))
            .map_or(at, |(at, _)| at);
        text.truncate(before);
        text.push('…');
    }
}
