//! The file, field by field. The text here is also the schema's.

use std::collections::BTreeMap;

use gma_core::model::{Pin, Standby};
use gma_core::units::{
    BitsPerSecond, Bytes, CallsPerRequest, CpuCores, CpuSeconds, Gigabytes, Micros, Ratio, Rps,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::text::{Price, Text, unique_keys};

/// A placement problem: an application, its call graph, a cloud that runs all of it, and edges that may run parts of it.
///
/// Durations are written `80ms`, sizes `10kB`, bandwidths `1Gbit/s`, CPU and memory as Kubernetes does (`500m`, `256Mi`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(
    rename_all = "camelCase",
    deny_unknown_fields,
    expecting = "an object with apiVersion, kind, cloud, edges and services"
)]
#[schemars(title = "PlacementProblem")]
pub struct PlacementProblem {
    /// Version of this format.
    pub api_version: ApiVersion,
    /// Kind of this document.
    pub kind: Kind,
    /// Name of the problem.
    #[serde(default, skip_serializing_if = "Metadata::is_empty")]
    pub metadata: Metadata,
    /// Currency of all prices, e.g. `EUR`. Default: none is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub currency: Option<String>,
    /// The cloud: it runs every service.
    pub cloud: Cloud,
    /// The edges that share the cloud, at least one. Their users enter there.
    #[schemars(length(min = 1))]
    pub edges: Vec<Edge>,
    /// The services of the application.
    #[schemars(length(min = 1))]
    pub services: Vec<Service>,
    /// The call graph. Cycles and self-calls are allowed while their calls come to an end. Default: no calls.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub calls: Vec<Call>,
    /// What callers at an edge leave on the cloud for a service that is placed there. Default: 1 % of their calls.
    #[serde(default, skip_serializing_if = "StandbyPolicy::is_default")]
    pub standby: StandbyPolicy,
}

/// Version of the format.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ApiVersion {
    /// The only one.
    #[default]
    #[serde(rename = "gma.dev/v1alpha1")]
    V1Alpha1,
}

/// Kind of the document.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Kind {
    /// A problem for `gma plan`.
    #[default]
    PlacementProblem,
}

/// What the problem is called.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Metadata {
    /// Shown in results. Default: the file's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// The cloud.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Cloud {
    /// Its name. Default: `cloud`.
    #[serde(default = "cloud_name")]
    pub name: String,
    /// What a replica costs there.
    pub prices: Prices,
    /// Number of localities with endpoints: istiod rounds the standby share of each up. Default: 1.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    #[schemars(range(min = 1))]
    pub localities: u32,
}

/// Prices of resources that are requested.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Prices {
    /// A CPU core for an hour.
    pub cpu_core_hour: Price,
    /// A GB (1e9 bytes) of memory for an hour. Default: 0.
    #[serde(rename = "memoryGBHour", default, skip_serializing_if = "Price::is_free")]
    pub memory_gb_hour: Price,
}

/// Prices at an edge.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EdgePrices {
    /// A CPU core for an hour.
    pub cpu_core_hour: Price,
    /// A GB (1e9 bytes) of memory for an hour. Default: 0.
    #[serde(rename = "memoryGBHour", default, skip_serializing_if = "Price::is_free")]
    pub memory_gb_hour: Price,
    /// A GB (1e9 bytes) of traffic from the cloud to the edge. Default: 0.
    #[serde(rename = "trafficGB", default, skip_serializing_if = "Price::is_free")]
    pub traffic_gb: Price,
}

/// An edge, its link to the cloud, its users, and what runs there now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Edge {
    /// Its name.
    pub name: String,
    /// What a replica and traffic cost there.
    pub prices: EdgePrices,
    /// Number of localities with endpoints. Default: 1.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    #[schemars(range(min = 1))]
    pub localities: u32,
    /// Round trip to the cloud.
    pub rtt: Text<Micros>,
    /// From the cloud to the edge. Default: so large that it never matters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bandwidth: Option<Text<BitsPerSecond>>,
    /// Requests a second that users send to its gateway.
    #[schemars(with = "f64", range(min = 0))]
    pub user_requests_per_second: Rps,
    /// Services that the gateway calls for a user's request.
    pub user_calls: Vec<UserCall>,
    /// What it can hold. Default: no limit.
    #[serde(default, skip_serializing_if = "Capacity::is_unlimited")]
    pub capacity: Capacity,
    /// Mean user delay that was measured with the present placement: predictions start from it. Default: the model's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub measured_delay: Option<Text<Micros>>,
    /// Highest mean user delay that is wanted. Default: none, and this edge's placement is left as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_delay: Option<Text<Micros>>,
    /// Services that have an instance here now. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub placement: Vec<String>,
}

/// What an edge can hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Capacity {
    /// Sum of the replicas' CPU requests. Default: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Text<CpuCores>>,
    /// Sum of the replicas' memory requests. Default: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Text<Gigabytes>>,
    /// Number of replicas. Default: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pods: Option<u32>,
}

/// A call of an edge's gateway.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UserCall {
    /// The service that is called.
    pub to: String,
    /// Mean calls per user request. Default: 1.
    #[serde(default = "one_call", skip_serializing_if = "is_one_call")]
    #[schemars(with = "f64", range(min = 0))]
    pub per_request: CallsPerRequest,
}

/// A call between services.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Call {
    /// The service that calls.
    pub from: String,
    /// The service that is called.
    pub to: String,
    /// Mean calls per request that the caller receives; may exceed 1. Default: 1.
    #[serde(default = "one_call", skip_serializing_if = "is_one_call")]
    #[schemars(with = "f64", range(min = 0))]
    pub per_request: CallsPerRequest,
}

/// A service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Service {
    /// Its name.
    pub name: String,
    /// Mean size of its answers.
    pub response_size: Text<Bytes>,
    /// Time of a request inside an instance, without what it calls.
    pub own_time: Text<Micros>,
    /// The part of its calls' time that it waits for, were they all of one length: 1 where it makes them one after the
    /// other, 1/n where all n at once. Above 0, at most 1. Default: 1.
    #[serde(default = "one_ratio", skip_serializing_if = "is_one_ratio")]
    #[schemars(with = "f64", range(max = 1))]
    pub overlap: Ratio,
    /// CPU time of a request. This or `cpuUse` is needed where a CPU request is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_per_request: Option<Text<CpuSeconds>>,
    /// CPU in use, in cores, over all areas, measured at the rates that this file gives. A service that no user request
    /// reaches has nothing to divide it by: it keeps its minimum replicas.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_use: Option<Text<CpuCores>>,
    /// What a replica requests. Default: nothing, then replicas can't follow the load and stay at the minimum.
    #[serde(default, skip_serializing_if = "Requests::is_empty")]
    pub requests: Requests,
    /// Use over request at which an autoscaler adds replicas, e.g. 0.6 for 60 %. Above 0, at most 10. Default: 0.6.
    #[serde(default = "threshold", skip_serializing_if = "is_threshold")]
    #[schemars(with = "f64", range(max = 10))]
    pub autoscaler_threshold: Ratio,
    /// Replicas that run even without load, where there is an instance. Default: 1.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub min_replicas: u32,
    /// Where it may run. Default: `free`.
    #[serde(default, skip_serializing_if = "PinTo::is_free")]
    pub pin: PinTo,
    /// What a call to it takes beyond its own delay: proxies and network. Default: nothing.
    #[serde(default, skip_serializing_if = "Hops::is_zero")]
    pub hops: Hops,
    /// What differs in an area, by the area's name. Default: nothing.
    #[serde(
        default,
        skip_serializing_if = "BTreeMap::is_empty",
        deserialize_with = "unique_keys"
    )]
    pub areas: BTreeMap<String, InArea>,
}

/// What differs for a service in one area; what is absent is as for the service.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct InArea {
    /// Time of a request inside the instance, without what it calls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub own_time: Option<Text<Micros>>,
    /// What a replica requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests: Option<Requests>,
    /// Use over request at which an autoscaler adds replicas. Above 0, at most 10.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<f64>", range(max = 10))]
    pub autoscaler_threshold: Option<Ratio>,
    /// Replicas that run even without load, where there is an instance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_replicas: Option<u32>,
}

/// What a replica requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Requests {
    /// CPU. Default: no request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Text<CpuCores>>,
    /// Memory. Default: no request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Text<Gigabytes>>,
}

/// What a call takes beyond the callee's own delay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Hops {
    /// Within an area. Default: nothing.
    #[serde(default)]
    pub local: Text<Micros>,
    /// Between areas, beyond round trip and transfer. Default: nothing.
    #[serde(default)]
    pub remote: Text<Micros>,
}

/// Where a service may run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum PinTo {
    /// Wherever it is best.
    #[default]
    Free,
    /// Never at an edge.
    Cloud,
    /// At every edge.
    Edge,
}

/// What callers at an edge leave on the cloud.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StandbyPolicy {
    /// The form.
    pub form: StandbyForm,
    /// Percent of the calls that stay on the cloud, 1 to 99; for `distribute` only. Default: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 99))]
    pub cloud_percent: Option<u32>,
}

/// Form of the standby.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum StandbyForm {
    /// A share of the calls stays on the cloud.
    #[default]
    Distribute,
    /// No call does: the cloud is used only when the edge has no healthy endpoint.
    Failover,
}

/// Use over request at which autoscalers add replicas where a file does not say: the default of the µPlacer reference.
const THRESHOLD: f64 = 0.6;

fn cloud_name() -> String {
    "cloud".to_owned()
}

const fn one() -> u32 {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
const fn is_one(value: &u32) -> bool {
    *value == 1
}

fn one_call() -> CallsPerRequest {
    CallsPerRequest::nearest(1.0)
}

fn is_one_call(value: &CallsPerRequest) -> bool {
    *value == one_call()
}

fn one_ratio() -> Ratio {
    Ratio::nearest(1.0)
}

fn is_one_ratio(value: &Ratio) -> bool {
    *value == one_ratio()
}

fn threshold() -> Ratio {
    Ratio::nearest(THRESHOLD)
}

fn is_threshold(value: &Ratio) -> bool {
    *value == threshold()
}

// === impl Service ===

impl Service {
    /// A service with the defaults.
    pub fn new(name: impl Into<String>, response_size: Bytes, own_time: Micros) -> Self {
        Self {
            name: name.into(),
            response_size: Text(response_size),
            own_time: Text(own_time),
            overlap: one_ratio(),
            cpu_per_request: None,
            cpu_use: None,
            requests: Requests::default(),
            autoscaler_threshold: threshold(),
            min_replicas: 1,
            pin: PinTo::Free,
            hops: Hops::default(),
            areas: BTreeMap::new(),
        }
    }
}

impl Metadata {
    fn is_empty(&self) -> bool {
        self.name.is_none()
    }
}

impl Price {
    fn is_free(&self) -> bool {
        *self == Self::default()
    }
}

impl Capacity {
    fn is_unlimited(&self) -> bool {
        *self == Self::default()
    }
}

impl Requests {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Hops {
    fn is_zero(&self) -> bool {
        *self == Self::default()
    }
}

// === impl PinTo ===

impl PinTo {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
    fn is_free(&self) -> bool {
        *self == Self::Free
    }
}

impl From<PinTo> for Pin {
    fn from(pin: PinTo) -> Self {
        match pin {
            PinTo::Free => Self::Free,
            PinTo::Cloud => Self::Cloud,
            PinTo::Edge => Self::Edge,
        }
    }
}

impl From<Pin> for PinTo {
    fn from(pin: Pin) -> Self {
        match pin {
            Pin::Free => Self::Free,
            Pin::Cloud => Self::Cloud,
            Pin::Edge => Self::Edge,
        }
    }
}

// === impl StandbyPolicy ===

impl StandbyPolicy {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl Default for StandbyPolicy {
    fn default() -> Self {
        Standby::default().into()
    }
}

impl From<Standby> for StandbyPolicy {
    fn from(standby: Standby) -> Self {
        match standby {
            Standby::Distribute(percent) => Self {
                form: StandbyForm::Distribute,
                cloud_percent: Some(percent),
            },
            Standby::Failover => Self {
                form: StandbyForm::Failover,
                cloud_percent: None,
            },
        }
    }
}
