//! What the controller may do, and what it stands on.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::text::DurationText;

/// What the controller may do. What is absent has the controller's default.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new(
        "!has(self.cloudStandbyPercent) || !has(self.standby) || self.standby == 'distribute'"
    )
    .message("cloudStandbyPercent is of the form distribute: leave it out, or set standby to distribute"),
)]
pub struct Policy {
    /// How far it goes.
    #[serde(default)]
    pub mode: Mode,
    /// What callers at an edge leave on the cloud for a service that runs there. distribute: cloudStandbyPercent of the
    /// calls. failover: nothing while the edge has a healthy endpoint; needs a region of its own for each area. Absent:
    /// distribute for mean, p50 and p90, failover for p95 and p99.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub standby: Option<StandbyForm>,
    /// Percent of the calls that stay on the cloud in the form distribute; absent: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 49))]
    pub cloud_standby_percent: Option<u32>,
    /// Times of a move.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ramp: Option<Ramp>,
    /// How much may change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<Limits>,
    /// Rest after failed moves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub back_off: Option<BackOff>,
}

/// How far the controller goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub enum Mode {
    /// It measures and raises alarms.
    #[default]
    Observe,
    /// It also decides, and says what it would do.
    Recommend,
    /// It also does it.
    Enforce,
}

/// What callers at an edge leave on the cloud.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub enum StandbyForm {
    /// A share of the calls.
    Distribute,
    /// Nothing while the edge has a healthy endpoint.
    Failover,
}

/// Times of a move.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new(
        "duration(has(self.verifyAtLeast) ? self.verifyAtLeast : '15s') <= \
         duration(has(self.verifyAtMost) ? self.verifyAtMost : '60s')"
    )
    .message("verifyAtLeast (default 15s) must not be above verifyAtMost (default 60s)"),
)]
pub struct Ramp {
    /// An instance that is not Ready after this ends its move; absent: 120s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_within: Option<DurationText>,
    /// A move is verified for at least this long; absent: 15s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verify_at_least: Option<DurationText>,
    /// And for at most this long; absent: 60s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verify_at_most: Option<DurationText>,
    /// Rest after a move; absent: 15s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cool_down: Option<DurationText>,
}

/// How much may change.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Limits {
    /// Moves of all edges in an hour; absent: 60.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub moves_per_hour: Option<u32>,
    /// Change of the delay that one move aims at, percent; absent: 50.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 99))]
    pub change_per_move_percent: Option<u32>,
}

/// Rest after failed moves. It doubles with each one in a row.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new(
        "duration(has(self.first) ? self.first : '2m') <= duration(has(self.most) ? self.most : '4h')"
    )
    .message("first (default 2m) must not be above most (default 4h)"),
)]
pub struct BackOff {
    /// After the first; absent: 2m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first: Option<DurationText>,
    /// Up to this; absent: 4h.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub most: Option<DurationText>,
}

/// What decisions stand on. A union: exactly one member, and only reports can be chosen now.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.prometheus)")
        .message("prometheus is reserved: leave it out, or use reports: {}"),
)]
pub struct Telemetry {
    /// The filter's reports; the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reports: Option<Reports>,
    /// Reserved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prometheus: Option<Prometheus>,
}

/// The filter's reports.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Reports {
    /// Percent of an edge's gateways that must be heard; absent: 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub gateway_coverage_percent: Option<u32>,
    /// Percent of the proxies on the users' path that must be heard; absent: 90.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub service_coverage_percent: Option<u32>,
}

/// Reserved.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Prometheus {}
