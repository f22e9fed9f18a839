//! One dated, consistent view of everything that was measured.
//!
//! Filled by `gma-telemetry` for a window that ends at `at`; read by the model and the decision machine.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use crate::ids::{AreaName, ServiceName, Timestamp};

/// A measured value, or why there is none. Silence is never 0.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "state", rename_all = "camelCase")]
pub enum Measured<T> {
    /// Nothing was heard since the start.
    NotYet,
    /// The newest data is older than the window.
    Stale {
        /// Age of the newest data.
        age: Duration,
    },
    /// Reports came, and they counted no request.
    Idle,
    /// A value from the window.
    Present {
        /// The value.
        value: T,
    },
}

/// Durations of requests in the window.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DelayStats {
    /// Requests in the statistic.
    pub count: u64,
    /// Exact mean, microseconds.
    pub mean_us: f64,
    /// Median, microseconds, within 1 % (as all quantiles here).
    pub p50_us: u64,
    /// 90th percentile, microseconds.
    pub p90_us: u64,
    /// 95th percentile, microseconds.
    pub p95_us: u64,
    /// 99th percentile, microseconds.
    pub p99_us: u64,
    /// Standard error of the mean over slots of 0.5 s, microseconds; none with fewer than 2 slots.
    pub mean_standard_error_us: Option<f64>,
}

/// Who calls: the user at an edge's gateway, or a service's instances in an area.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Caller {
    /// The gateway of an edge.
    User {
        /// The edge.
        edge: AreaName,
    },
    /// The instances of a service in an area.
    Instance {
        /// The service.
        service: ServiceName,
        /// Where it runs.
        area: AreaName,
    },
}

/// Requests by outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OutcomeCounts {
    /// Answered without error.
    pub ok: u64,
    /// The client's fault.
    pub client_error: u64,
    /// The server's fault.
    pub server_error: u64,
    /// Nothing answered.
    pub no_response: u64,
    /// The client went away.
    pub cancelled: u64,
    /// Over 60 s, upgrades, long streams: also counted in none of the above.
    pub long: u64,
}

impl OutcomeCounts {
    /// All requests, whatever became of them.
    pub const fn total(&self) -> u64 {
        self.ok
            .saturating_add(self.client_error)
            .saturating_add(self.server_error)
            .saturating_add(self.no_response)
            .saturating_add(self.cancelled)
            .saturating_add(self.long)
    }
}

/// Calls of one caller to one service in one area (from outbound reports), in the window.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CallStats {
    /// Who calls.
    pub caller: Caller,
    /// Which service.
    pub callee: ServiceName,
    /// Area of the endpoint that answered; none where no endpoint was reached.
    pub callee_area: Option<AreaName>,
    /// By outcome.
    pub outcomes: OutcomeCounts,
    /// Requests with a duration (ok and client errors), and the sum of those.
    pub timed: u64,
    /// Sum of the durations of `timed`, microseconds.
    pub sum_us: u64,
    /// Bytes of the answers of `timed`.
    pub response_bytes: u64,
}

/// Requests that a service received in an area (from inbound reports), in the window.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ReceivedStats {
    /// Which service.
    pub service: ServiceName,
    /// Where.
    pub area: AreaName,
    /// By outcome.
    pub outcomes: OutcomeCounts,
    /// Requests with a duration (ok and client errors).
    pub timed: u64,
    /// Sum of the durations of `timed`, microseconds.
    pub sum_us: u64,
    /// Bytes of the answers of `timed`.
    pub response_bytes: u64,
}

/// What is known of one edge and its users.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EdgeSnapshot {
    /// Delay of its users (ok and client errors), at its gateway.
    pub user_delay: Measured<DelayStats>,
    /// User requests by outcome.
    pub outcomes: OutcomeCounts,
    /// User requests a second.
    pub rate_rps: f64,
    /// Round trip between the edge and the cloud.
    pub rtt: Measured<Duration>,
    /// Age of the newest report of the edge's gateway.
    pub report_age: Measured<Duration>,
}

/// Everything that was measured in the window that ends at `at`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Snapshot {
    /// End of the window.
    pub at: Timestamp,
    /// Length of the window.
    pub window: Duration,
    /// By edge.
    pub edges: BTreeMap<AreaName, EdgeSnapshot>,
    /// Every caller, service and area that was seen; ordered, each at most once.
    pub calls: Vec<CallStats>,
    /// Every service and area that was seen; ordered, each at most once.
    pub received: Vec<ReceivedStats>,
}
