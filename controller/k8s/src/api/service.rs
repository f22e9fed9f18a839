//! Services that differ from what is discovered.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::text::{LabelText, ObjectName};

/// A service. Those that are not listed are discovered by their calls, and are as the defaults say.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServiceSpec {
    /// Name of its Service, in the object's namespace.
    pub name: LabelText,
    /// Where it may run; absent: free, and cloud where its pods come from a StatefulSet or hold a volume claim.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pin: Option<Pin>,
    /// Replicas of an instance that run even without load; absent: 1, or its autoscaler's minimum.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub min_replicas: Option<u32>,
    /// Its instance in the cloud.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cloud: Option<CloudInstance>,
    /// Its instances at edges.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub edge: Option<EdgeInstances>,
}

/// Where a service may run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub enum Pin {
    /// Wherever it is best.
    Free,
    /// Never at an edge.
    Cloud,
    /// At every edge.
    Edge,
}

/// A service's instance in the cloud.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CloudInstance {
    /// Its Deployment; absent: the one whose pods the Service selects in the cloud.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployment: Option<ObjectName>,
}

/// A service's instances at edges.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct EdgeInstances {
    /// Deployments that exist already and are scaled between 0 and what is needed. For an edge that is not listed, one is
    /// derived from the cloud's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["edge".into()]))]
    pub deployments: Vec<EdgeDeployment>,
}

/// A Deployment at an edge.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EdgeDeployment {
    /// Which edge: a name of areas.edges.
    pub edge: LabelText,
    /// The Deployment, in the object's namespace.
    pub name: ObjectName,
}
