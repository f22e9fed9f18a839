//! `EdgePlacement`: one object for an application, in its namespace.

mod area;
mod crd;
mod policy;
mod service;
mod status;
#[cfg(test)]
mod tests;
mod text;

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

pub use area::{
    Areas, Capacity, CloudArea, CloudPrices, EdgeArea, EdgePrices, Gateway, LabelValue, Link, Objective,
    Prober, SecretRef, Statistic,
};
pub use crd::{CrdError, crd, crd_yaml};
pub use policy::{BackOff, Limits, Mode, Policy, Prometheus, Ramp, Reports, StandbyForm, Telemetry};
pub use service::{CloudInstance, EdgeDeployment, EdgeInstances, Pin, ServiceSpec};
pub use status::{
    DecisionStatus, EdgePlacementStatus, EdgeStatus, HeldService, MAX_DECISIONS, MAX_STATUS_BYTES,
    MeasuredDelay, PlanStatus, Shortage, Summary,
};
pub use text::{
    Amount, BandwidthText, CurrencyText, DurationText, LabelText, LocalityText, ObjectName, PriceText,
    UrlText, ZoneText,
};

/// The API group; labels, annotations and finalizers begin with it.
pub const GROUP: &str = "gma.dev";
/// Version of the API.
pub const VERSION: &str = "v1alpha1";

/// What is wanted for one application: where it may run and the band of its users' delay.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "gma.dev",
    version = "v1alpha1",
    kind = "EdgePlacement",
    plural = "edgeplacements",
    namespaced,
    status = "EdgePlacementStatus",
    derive = "PartialEq",
    shortname = "gma",
    category = "gma",
    doc = "Keeps the delay of edge users inside a band, at the lowest cost, for the application in this namespace.",
    validation = Rule::new("self.metadata.name.size() <= 63")
        .message("metadata.name must have at most 63 characters: it becomes the value of a label"),
    printcolumn(name = "State", type_ = "string", json_path = ".status.summary.state", description = "What is being done"),
    printcolumn(name = "Delay", type_ = "string", json_path = ".status.summary.delay", description = "Measured delay of the users"),
    printcolumn(name = "Target", type_ = "string", json_path = ".status.summary.target", description = "Band of the delay"),
    printcolumn(name = "Edge", type_ = "string", json_path = ".status.summary.placed", description = "Services at edges, of those that may be"),
    printcolumn(name = "Mode", type_ = "string", json_path = ".spec.policy.mode", description = "How far the controller goes"),
    printcolumn(name = "Suspended", type_ = "boolean", json_path = ".spec.suspend", description = "Nothing new begins", priority = 1),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status", description = "Whether all is well", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new(
        "self.services.all(s, !has(s.edge) || !has(s.edge.deployments) || s.edge.deployments.all(d, \
         self.areas.edges.exists(e, e.name == d.edge)))"
    )
    .message("services[].edge.deployments[].edge must be the name of an edge of areas.edges"),
)]
pub struct EdgePlacementSpec {
    /// Nothing new begins. What is under way is finished, or taken back; measuring goes on.
    #[serde(default)]
    pub suspend: bool,
    /// Where the application may run.
    pub areas: Areas,
    /// Services that differ from what is discovered.
    #[serde(default)]
    #[schemars(length(max = 256))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub services: Vec<ServiceSpec>,
    /// What the controller may do.
    #[serde(default)]
    pub policy: Policy,
    /// What decisions stand on.
    #[serde(default)]
    pub telemetry: Telemetry,
    /// The one currency of all prices, e.g. EUR; only shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub currency: Option<CurrencyText>,
}
