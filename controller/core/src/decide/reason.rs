//! Why nothing is done, why a move went back: enums that a person can read.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ids::{AreaName, ServiceName, Timestamp};

/// Why there is no plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum NoPlan {
    /// No other placement comes nearer to the target.
    NoBetterPlacement,
    /// Something that the prediction needs was not measured.
    NotEnoughData {
        /// What.
        what: String,
    },
    /// The edge has no room.
    Capacity {
        /// For what, and how much is short.
        what: String,
    },
    /// Even everything at the edge stays above the target, because the standby share crosses the WAN.
    TargetBelowLeak {
        /// Wanted, microseconds.
        target_us: f64,
        /// Best reachable, microseconds.
        reachable_us: f64,
    },
    /// The planner's answer is not one that may be carried out.
    Unsuitable {
        /// What is wrong with it.
        what: String,
    },
}

impl fmt::Display for NoPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoBetterPlacement => f.write_str("no better placement"),
            Self::NotEnoughData { what } => write!(f, "not enough data: {what}"),
            Self::Capacity { what } => write!(f, "no capacity: {what}"),
            Self::TargetBelowLeak {
                target_us,
                reachable_us,
            } => write!(
                f,
                "target {} is below what the standby share allows ({})",
                ms(*target_us),
                ms(*reachable_us)
            ),
            Self::Unsuitable { what } => write!(f, "plan refused: {what}"),
        }
    }
}

/// Why an edge is held.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum HoldReason {
    /// Nothing was heard of the edge since the start.
    NotHeardYet,
    /// The edge's gateway was heard, and is silent now.
    EdgeSilent {
        /// Age of the newest data.
        age: Duration,
    },
    /// It reports that nobody asks.
    NoTraffic,
    /// Too few requests in the window.
    TooFewRequests {
        /// Seen.
        seen: u64,
        /// Needed.
        needed: u64,
    },
    /// The window says nothing of its own error, or a number is not finite.
    NoInterval,
    /// Too many failed requests to trust the delay.
    Errors {
        /// Share, 0 … 1.
        share: f64,
    },
    /// The last move in this direction failed.
    BackingOff {
        /// Until when.
        until: Timestamp,
    },
    /// The moves of this hour are used up.
    MovesSpent {
        /// Moves an hour.
        per_hour: usize,
    },
    /// A service of the plan is moving at another edge.
    ServiceBusy {
        /// Which.
        service: ServiceName,
        /// Where.
        edge: AreaName,
    },
    /// A service at the edge was overloaded and gave up part of its share: nothing more is placed there.
    Relieved {
        /// Which.
        service: ServiceName,
        /// Share of the edge, percent.
        share: u32,
    },
    /// The planner has nothing to offer.
    NoPlan {
        /// Why.
        why: NoPlan,
    },
    /// There is a plan; the mode only recommends it.
    Recommending,
}

impl fmt::Display for HoldReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotHeardYet => f.write_str("nothing heard of the edge yet"),
            Self::EdgeSilent { age } => write!(f, "edge silent for {:.0} s", age.as_secs_f64()),
            Self::NoTraffic => f.write_str("no traffic"),
            Self::TooFewRequests { seen, needed } => write!(f, "too few requests ({seen} of {needed})"),
            Self::NoInterval => f.write_str("no interval of the delay yet"),
            Self::Errors { share } => write!(f, "{:.1} % of the requests fail", share * 100.0),
            Self::BackingOff { until } => {
                write!(f, "backing off until {:.0} s", until.since_start().as_secs_f64())
            }
            Self::MovesSpent { per_hour } => write!(f, "{per_hour} moves an hour are used up"),
            Self::ServiceBusy { service, edge } => write!(f, "{service} is moving at {edge}"),
            Self::Relieved { service, share } => {
                write!(f, "{service} was overloaded at the edge and has {share} % there")
            }
            Self::NoPlan { why } => why.fmt(f),
            Self::Recommending => f.write_str("a move is recommended, the mode does not enforce it"),
        }
    }
}

/// Why a move went back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Cause {
    /// Instances were not Ready in time.
    NotReady {
        /// Which.
        services: BTreeSet<ServiceName>,
    },
    /// An instance of the move failed.
    InstanceFailed {
        /// Which.
        services: BTreeSet<ServiceName>,
    },
    /// The platform refused an effect for good.
    Refused {
        /// What it said.
        message: String,
    },
    /// Weights were not in force in time.
    NotInForce,
    /// The requests of a step did not arrive in the new area.
    NotSeen {
        /// Seen there.
        seen: u64,
        /// Expected there by the weights.
        expected: u64,
    },
    /// Requests fail more often in the new area.
    ErrorsWorse {
        /// Failed in the new area,
        errors: u64,
        /// of so many.
        requests: u64,
        /// Share that failed elsewhere, 0 … 1.
        share_elsewhere: f64,
    },
    /// Too many requests of the users failed after the move.
    ErrorsAfter {
        /// Share, 0 … 1.
        share: f64,
    },
    /// Calls to the edge take longer than those of the same callers and seconds to the cloud.
    PathSlower {
        /// Mean to the edge, microseconds.
        edge_us: f64,
        /// Mean to the cloud, microseconds.
        cloud_us: f64,
    },
    /// The delay after the move is on the wrong side.
    DelayWorse {
        /// Before, microseconds.
        before_us: f64,
        /// After, microseconds.
        after_us: f64,
    },
    /// The delay changed by less than half of what was predicted and is not in the band.
    NotImproved {
        /// Before, microseconds.
        before_us: f64,
        /// After, microseconds.
        after_us: f64,
    },
    /// A service that got weight back saturates again.
    OverloadedAgain {
        /// Which.
        service: ServiceName,
        /// Its own time, microseconds.
        own_us: f64,
    },
    /// Requests kept arriving at an instance without weight.
    NotDrained,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotReady { services } => write!(f, "not ready in time: {}", names(services)),
            Self::InstanceFailed { services } => write!(f, "instance failed: {}", names(services)),
            Self::Refused { message } => write!(f, "refused by the platform: {message}"),
            Self::NotInForce => f.write_str("weights were not in force in time"),
            Self::NotSeen { seen, expected } => {
                write!(f, "{seen} requests seen in the new area, {expected} expected")
            }
            Self::ErrorsWorse {
                errors,
                requests,
                share_elsewhere,
            } => write!(
                f,
                "{errors} of {requests} requests failed in the new area, {:.1} % elsewhere",
                share_elsewhere * 100.0
            ),
            Self::ErrorsAfter { share } => write!(f, "{:.1} % of the requests fail after it", share * 100.0),
            Self::PathSlower { edge_us, cloud_us } => write!(
                f,
                "calls to the edge take {}, to the cloud {}",
                ms(*edge_us),
                ms(*cloud_us)
            ),
            Self::DelayWorse { before_us, after_us } => {
                write!(
                    f,
                    "delay worse: {} before, {} after",
                    ms(*before_us),
                    ms(*after_us)
                )
            }
            Self::NotImproved { before_us, after_us } => {
                write!(
                    f,
                    "delay not improved: {} before, {} after",
                    ms(*before_us),
                    ms(*after_us)
                )
            }
            Self::OverloadedAgain { service, own_us } => {
                write!(f, "{service} is overloaded again: {} inside", ms(*own_us))
            }
            Self::NotDrained => f.write_str("requests kept arriving at an instance without weight"),
        }
    }
}

/// `153.2 ms` of microseconds.
pub(super) fn ms(us: f64) -> String {
    format!("{:.1} ms", us / 1e3)
}

/// Names with commas.
pub(super) fn names(services: &BTreeSet<ServiceName>) -> String {
    services
        .iter()
        .map(ServiceName::as_str)
        .collect::<Vec<_>>()
        .join(", ")
}
