//! What a problem is made of, not yet checked. All numbers are quantities already; what is left to check is how the
//! parts fit together, and [`super::Problem::try_new`] does that.

use serde::{Deserialize, Serialize};

use super::ix::ServiceIx;
use crate::ids::{AreaName, ServiceName};
use crate::units::{
    BitsPerSecond, Bytes, CallsPerRequest, CpuCores, CpuSeconds, Gigabytes, Micros, Money, Ratio, Rps,
};

/// Everything that an evaluation needs.
#[derive(Clone, Debug, PartialEq)]
pub struct Spec {
    /// The cloud: it runs every service.
    pub cloud: Area,
    /// The edges that share the cloud.
    pub edges: Vec<Edge>,
    /// The services; a [`ServiceIx`] is a position here.
    pub services: Vec<Service>,
    /// The call graph without the users' rows; each pair at most once.
    pub calls: Vec<Call>,
    /// What an edge's callers leave on the cloud.
    pub standby: Standby,
}

/// Prices and shape of an area.
#[derive(Clone, Debug, PartialEq)]
pub struct Area {
    /// Its name.
    pub name: AreaName,
    /// What a replica costs there.
    pub prices: Prices,
    /// Localities with endpoints: istiod rounds the share of each up. At least 1.
    pub localities: u32,
}

/// Prices of resources that are requested, an hour.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Prices {
    /// A CPU core for an hour.
    pub cpu_core_hour: Money,
    /// A GB of memory for an hour.
    pub memory_gb_hour: Money,
}

/// An edge, its link to the cloud and its users.
#[derive(Clone, Debug, PartialEq)]
pub struct Edge {
    /// Name, prices, localities.
    pub area: Area,
    /// Round trip to the cloud.
    pub rtt: Micros,
    /// From the cloud to the edge; none: so large that it never matters.
    pub bandwidth: Option<BitsPerSecond>,
    /// A GB (1e9 bytes) from the cloud to the edge.
    pub traffic_gb: Money,
    /// Requests that users send to its gateway.
    pub rate: Rps,
    /// Calls of the gateway per user request.
    pub user_calls: Vec<(ServiceIx, CallsPerRequest)>,
    /// Mean user delay that was measured with the placement in force: what predictions are anchored to.
    pub measured: Option<Micros>,
    /// What may run there.
    pub capacity: Capacity,
    /// Highest mean user delay that is wanted; none: the solver leaves what runs there as it is.
    pub target: Option<Micros>,
    /// What its callers leave on the cloud, where that is not [`Spec::standby`].
    pub standby: Option<Standby>,
}

/// Room at an edge: the sum over its replicas must stay within each limit. None: no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Capacity {
    /// CPU requests.
    pub cpu: Option<CpuCores>,
    /// Memory requests.
    pub memory: Option<Gigabytes>,
    /// Replicas.
    pub pods: Option<u32>,
}

/// A service.
#[derive(Clone, Debug, PartialEq)]
pub struct Service {
    /// Its name.
    pub name: ServiceName,
    /// Mean size of its answers.
    pub response: Bytes,
    /// o: the part of its calls' time that it waits for, were they all of one length. 1: one after the other; 1/n: all n
    /// at once. Above 0, at most 1; below 1/n counts as 1/n.
    pub overlap: Ratio,
    /// What a call to it takes beyond its own delay: proxies and network within an area.
    pub hop_local: Micros,
    /// The same between areas, beyond the round trip.
    pub hop_remote: Micros,
    /// CPU time of a request.
    pub cpu_per_request: CpuSeconds,
    /// Whether it may move.
    pub pin: Pin,
    /// Its instances, one an area: the cloud, then the edges.
    pub sites: Vec<Site>,
}

/// An instance of a service, there or not.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Site {
    /// Time of a request inside the instance, without what it calls.
    pub own: Micros,
    /// CPU request of a replica; 0: none, then the number of replicas can't follow the load and is the minimum.
    pub cpu_request: CpuCores,
    /// Memory request of a replica.
    pub memory_request: Gigabytes,
    /// Use over request at which an autoscaler adds replicas. Above 0.
    pub threshold: Ratio,
    /// Replicas that run even without load.
    pub min_replicas: u32,
}

/// Mean calls of one service to another.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Call {
    /// Who calls.
    pub caller: ServiceIx,
    /// Who is called.
    pub callee: ServiceIx,
    /// Per request that the caller receives.
    pub per_request: CallsPerRequest,
}

/// Whether a service may move.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pin {
    /// Wherever it is best.
    #[default]
    Free,
    /// Never at an edge.
    Cloud,
    /// At every edge.
    Edge,
}

/// What callers at an edge leave on the cloud for a service that is placed there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Standby {
    /// Percent of the weight, 1 to 99.
    Distribute(u32),
    /// Nothing: the cloud is used only when the edge has no healthy endpoint.
    Failover,
}

impl Default for Standby {
    fn default() -> Self {
        Self::Distribute(1)
    }
}
