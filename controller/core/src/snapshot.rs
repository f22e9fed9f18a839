//! One dated, consistent view of everything that was measured.
//!
//! Filled by `gma-telemetry` for a window that ends at `at`; read by the model and the decision machine.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

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
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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
    /// Duration of the longest in the last hour, microseconds, within 1 %.
    pub longest_us: u64,
    /// Whether one of the last hour was too long to be measured (over 60 s, an upgrade, a stream).
    pub long_in_hour: bool,
}

/// Length of a [`DelaySlot`].
pub const DELAY_SLOT: Duration = Duration::from_millis(500);

/// Most slots of an edge: 5 minutes, the longest window that a decision may look at.
pub const MAX_DELAY_SLOTS: usize = 600;

/// User requests with a duration (ok and client errors) of one slot.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DelaySlot {
    /// Requests.
    pub count: u64,
    /// Exact sum of their durations, microseconds.
    pub sum_us: u64,
    /// Middle of each bucket of the histogram that is not empty, microseconds, and its requests; ascending.
    pub buckets: Arc<[(u32, u32)]>,
}

/// How much of what should report does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Coverage {
    /// Proxies that should be heard: those that are Ready for 30 s.
    pub expected: u32,
    /// Those of them that were heard in the window, or long enough ago only by their pace. Idle is heard.
    pub heard: u32,
    /// Those that were heard but have a blind worker: a VM that is silent while others of its proxy speak.
    pub blind: u32,
}

impl Coverage {
    /// Share of the expected proxies that were heard with all their workers, 0 … 1; 1 where none is expected.
    pub fn share(self) -> f64 {
        if self.expected == 0 {
            return 1.0;
        }
        f64::from(self.heard.saturating_sub(self.blind)) / f64::from(self.expected)
    }
}

/// Coverage of the sidecars of a service in an area.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceCoverage {
    /// Which service.
    pub service: ServiceName,
    /// Where.
    pub area: AreaName,
    /// Of its sidecars.
    pub coverage: Coverage,
}

/// Time that the network takes of a call: what the caller measured less what the callee did.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NetworkTime {
    /// Area of the callers.
    pub from: AreaName,
    /// Which service they call,
    pub callee: ServiceName,
    /// and where it answers.
    pub to: AreaName,
    /// Estimate, microseconds.
    pub mean_us: f64,
    /// Lower end of its interval, microseconds.
    pub low_us: f64,
    /// Upper end of its interval, microseconds.
    pub high_us: f64,
    /// Calls that it stands on.
    pub calls: u64,
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
    /// Age of the newest that the edge's gateway told; stale where no report came for 12 s.
    pub report_age: Measured<Duration>,
    /// Slots of [`DELAY_SLOT`], oldest first and without gaps, from the first that was heard (at most
    /// [`MAX_DELAY_SLOTS`]) to the newest that is whole; a slot without requests is empty.
    #[serde(skip)]
    pub slots: Vec<DelaySlot>,
    /// End of the newest slot; before the first, the controller's start.
    pub slots_end: Timestamp,
    /// Of the edge's gateways.
    pub coverage: Coverage,
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
    /// Every service and area with an expected sidecar; ordered, each at most once.
    pub coverage: Vec<ServiceCoverage>,
    /// Where callers and callee were both measured; ordered, each at most once.
    pub network: Vec<NetworkTime>,
}
