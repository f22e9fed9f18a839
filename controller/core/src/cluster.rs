//! What runs where, what it uses, and how traffic is routed: the controller's view of the platform.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::ids::{AreaName, ServiceName};

/// For each edge, the services that have an instance there.
pub type Placement = BTreeMap<AreaName, BTreeSet<ServiceName>>;

/// Whole percent of each area for one caller area; they sum to 100, a zero is left out.
pub type Weights = BTreeMap<AreaName, u32>;

/// For each service and caller area, the weights over areas.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RoutingPlan(pub BTreeMap<ServiceName, BTreeMap<AreaName, Weights>>);

/// Life of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Phase {
    /// Created, not yet able to serve.
    Starting,
    /// Serving.
    Ready,
    /// Its process ended without being asked to.
    Failed,
}

/// A service in an area.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Instance {
    /// Which service.
    pub service: ServiceName,
    /// Where.
    pub area: AreaName,
    /// Its life.
    pub phase: Phase,
    /// Why it is `Failed`, or does not start.
    pub reason: Option<String>,
    /// Replicas that run.
    pub replicas: u32,
    /// CPU time used since the instance's start, seconds; none where it is not known.
    pub cpu_seconds: Option<f64>,
    /// Memory in use, bytes; none where it is not known.
    pub memory_bytes: Option<u64>,
    /// Replicas that an autoscaler wants; none where none owns the count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub autoscaler_wants: Option<u32>,
}

/// What the platform says at one moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Cluster {
    /// Every instance.
    pub instances: Vec<Instance>,
    /// The routing that is in force.
    pub routing: RoutingPlan,
    /// Edges where nothing can run now, and why.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub unavailable: BTreeMap<AreaName, String>,
    /// Services whose routing can't be written, and why.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub unroutable: BTreeMap<ServiceName, Unroutable>,
}

/// Why a service's routing can't be written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Unroutable {
    /// Another manager owns what we would write.
    RuleOwned {
        /// Its name, and the fields.
        by: String,
    },
    /// The rule that wins has a shape that we can't write.
    RuleShape {
        /// What is wrong, and what would fix it.
        what: String,
    },
    /// No proxy has reported the locality of an endpoint.
    LocalityUnproven {
        /// Which.
        locality: String,
    },
    /// An endpoint lies in no area.
    EndpointOutsideAreas {
        /// Its locality.
        locality: String,
    },
}

/// A proxy of the mesh, as the platform knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Proxy {
    /// Where it runs.
    pub area: AreaName,
    /// What it serves.
    pub role: ProxyRole,
    /// Whether its pod is Ready: then it is expected to report.
    pub ready: bool,
}

/// What a proxy serves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ProxyRole {
    /// The ingress gateway of an edge: its outbound requests are the users'.
    Gateway,
    /// Beside an instance.
    Sidecar {
        /// Service of each container port. The first service is the caller of outbound requests.
        ports: BTreeMap<u16, ServiceName>,
    },
}
