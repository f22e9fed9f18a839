//! A report as the controller knows it: every value checked.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::histogram::{self, Checked};
use crate::v1;

/// One report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Of this send.
    pub head: Head,
    /// The same at every send.
    pub window: Window,
}

/// What is said anew at each send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// Random identity of the VM, not 0.
    pub vm: u64,
    /// Number of the window, from 1.
    pub seq: u64,
    /// Name and version of the module.
    pub module: String,
    /// Hash of the plugin configuration in force.
    pub config_hash: u64,
    /// Between the window's end and the send.
    pub age: Duration,
    /// Round trip of the last answered report, the controller's time taken off; never 0.
    pub round_trip: Option<Duration>,
}

/// What a VM counted in one window, or in a part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// Envoy's node id.
    pub node_id: String,
    /// Length of the window.
    pub duration: Duration,
    /// Who the proxy says it is, where it was asked.
    pub identity: Option<Identity>,
    /// By key.
    pub series: Vec<Series>,
    /// Since the VM's start, this window and all its parts included; where it was asked.
    pub totals: Option<Totals>,
    /// Requests in no series. `Unspecified` holds the reasons that this version does not know.
    pub unmeasured: Vec<(v1::Reason, u64)>,
    /// Parts of the same window that follow.
    pub parts_left: u32,
}

/// Who a proxy says it is: only a cross-check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Namespace of the pod.
    pub namespace: String,
    /// Workload of the pod.
    pub workload: String,
    /// Istio's cluster id.
    pub cluster_id: String,
    /// Where it runs.
    pub locality: Option<Locality>,
    /// Labels of the pod.
    pub labels: BTreeMap<String, String>,
}

/// Istio's locality of an endpoint or proxy. Any part may be empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Locality {
    /// First part.
    pub region: String,
    /// Second part.
    pub zone: String,
    /// Third part.
    pub sub_zone: String,
}

/// Side of a request that a proxy saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// To the application behind the proxy.
    Inbound,
    /// From the application (or, at a gateway, the user) to a service.
    Outbound,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Outcome {
    /// Answered without error.
    Ok,
    /// The client's fault.
    ClientError,
    /// The server's fault.
    ServerError,
    /// Nothing answered.
    NoResponse,
    /// The client went away.
    Cancelled,
}

/// What requests are counted by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Side.
    pub direction: Direction,
    /// Outbound: the host. Inbound and overflow: empty.
    pub service: String,
    /// Outbound: the service's port. Inbound: the container's. Overflow: 0.
    pub port: u16,
    /// Outbound: the subset, often empty.
    pub subset: String,
    /// Outbound: of the endpoint that was reached.
    pub destination: Option<Locality>,
    /// How the requests ended.
    pub outcome: Outcome,
    /// Collects what found no place of its own.
    pub overflow: bool,
    /// Grows each time the key comes back after an eviction.
    pub generation: u32,
}

/// Requests of one key in one window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Series {
    /// Which requests.
    pub key: Key,
    /// Requests, the long ones not counted.
    pub count: u64,
    /// Exact sum of their durations, µs.
    pub sum_us: u64,
    /// Bytes of their answers.
    pub response_bytes: u64,
    /// Requests over 60 s, upgrades, long streams.
    pub long_count: u64,
    /// Requests that were asked for their size and attempts.
    pub sampled: u64,
    /// Size of those.
    pub sampled_request_bytes: u64,
    /// Attempts of those.
    pub sampled_attempts: u64,
    pub(crate) histogram: Vec<u8>,
}

/// Counts since the VM's start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// By key, as far as the VM keeps it.
    pub keys: Vec<Total>,
    /// Of keys that the VM has evicted.
    pub retired_count: u64,
    /// Of keys that the VM has evicted.
    pub retired_long_count: u64,
    /// Requests that never had a key; those of refused windows have one.
    pub unmeasured: u64,
}

/// Counts of one key since it was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Total {
    /// Which requests.
    pub key: Key,
    /// Requests, the long ones not counted.
    pub count: u64,
    /// Requests over 60 s, upgrades, long streams.
    pub long_count: u64,
    /// Exact sum of the durations of `count`, µs.
    pub sum_us: u64,
}

// === impl Series ===

impl Series {
    /// Durations of `count` by bucket; none for cancelled requests, which have none.
    pub fn histogram(&self) -> Option<Checked<'_>> {
        // It was checked when the report was decoded.
        histogram::check_v2(&self.histogram, self.count).ok()
    }
}

// === impl Direction ===

impl Direction {
    /// The word for it in JSON and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Inbound => "inbound",
            Self::Outbound => "outbound",
        }
    }
}

// === impl Outcome ===

impl Outcome {
    /// Every outcome.
    pub const ALL: [Self; 5] = [
        Self::Ok,
        Self::ClientError,
        Self::ServerError,
        Self::NoResponse,
        Self::Cancelled,
    ];

    /// The word for it in JSON and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::ClientError => "clientError",
            Self::ServerError => "serverError",
            Self::NoResponse => "noResponse",
            Self::Cancelled => "cancelled",
        }
    }

    /// Answered, and not by the server's fault: such durations make the user delay.
    pub const fn is_timed(self) -> bool {
        matches!(self, Self::Ok | Self::ClientError)
    }
}

// === impl Locality ===

impl std::fmt::Display for Locality {
    /// `region/zone/sub_zone`, as Istio writes it, empty parts kept.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}/{}", self.region, self.zone, self.sub_zone)
    }
}
