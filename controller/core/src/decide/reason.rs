//! Why nothing is done, why a move went back: enums that a person can read.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::cluster::Unroutable;
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
    /// It would take services that are pinned to the cloud.
    Pins {
        /// What is wanted.
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
            Self::Pins { what } => write!(f, "pinned to the cloud: {what}"),
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
    /// Too few requests for an interval that is narrow against the band, even in the longest window.
    TooFewRequests {
        /// Requests a second.
        #[serde(default)]
        seen_rps: f64,
        /// Requests a second that would do, about.
        #[serde(default)]
        needed_rps: f64,
    },
    /// There will be an interval that is narrow enough; it takes more time.
    NoInterval,
    /// The gateways are heard, and what they say is old.
    StaleTelemetry {
        /// Age of the newest delays.
        age: Duration,
    },
    /// Too many failed requests to trust the delay.
    Errors {
        /// Share, 0 … 1.
        share: f64,
    },
    /// Part of what should report does not: what it hides may be what matters.
    LowCoverage {
        /// Of what.
        of: Covered,
        /// Share that is heard, 0 … 1.
        share: f64,
        /// Share that is needed, 0 … 1.
        needed: f64,
    },
    /// Nothing can run at the edge now.
    EdgeUnavailable {
        /// What the platform says.
        why: String,
    },
    /// An autoscaler on the users' path changes its count: it may bring the delay back by itself.
    Autoscaling {
        /// Of which service,
        service: ServiceName,
        /// and where.
        area: AreaName,
        /// Replicas that it wants now.
        wants: u32,
        /// Part of the user delay that is spent in that instance, at most 1.
        share: f64,
    },
    /// A move would need these services, and it failed with them.
    BackingOff {
        /// Until when.
        until: Timestamp,
        /// Services that are not moved again before.
        #[serde(default)]
        services: BTreeSet<ServiceName>,
    },
    /// Another manager owns the routing of a service.
    RuleOwned {
        /// Which service.
        service: ServiceName,
        /// The manager, and the fields.
        by: String,
    },
    /// The rule of a service has a shape that can't be written.
    RuleShape {
        /// Which service.
        service: ServiceName,
        /// What is wrong, and what would fix it.
        what: String,
    },
    /// No proxy has reported the locality of an endpoint: weights on it could match nothing.
    LocalityUnproven {
        /// Of which service.
        service: ServiceName,
        /// Which locality.
        locality: String,
    },
    /// An endpoint of a service lies in no area.
    EndpointOutsideAreas {
        /// Of which service.
        service: ServiceName,
        /// Its locality.
        locality: String,
    },
    /// The operator suspended new moves.
    Suspended,
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

/// What is covered, or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Covered {
    /// The edge's gateways.
    Gateways,
    /// The sidecars of the services that the edge's users reach.
    UsersPath,
}

impl HoldReason {
    /// Why a service whose routing can't be written is held.
    pub(super) fn unroutable(service: ServiceName, why: &Unroutable) -> Self {
        match why.clone() {
            Unroutable::RuleOwned { by } => Self::RuleOwned { service, by },
            Unroutable::RuleShape { what } => Self::RuleShape { service, what },
            Unroutable::LocalityUnproven { locality } => Self::LocalityUnproven { service, locality },
            Unroutable::EndpointOutsideAreas { locality } => Self::EndpointOutsideAreas { service, locality },
        }
    }

    /// Whether too little is heard to judge a step or an effect by it.
    pub(super) const fn is_blindness(&self) -> bool {
        matches!(self, Self::LowCoverage { .. } | Self::StaleTelemetry { .. })
    }

    /// Whether the planner has no plan for what was measured: another measurement of the same says no more.
    pub(super) const fn is_planless(&self) -> bool {
        matches!(self, Self::NoPlan { why } if !matches!(why, NoPlan::NotEnoughData { .. }))
    }
}

impl fmt::Display for HoldReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotHeardYet => f.write_str("nothing heard of the edge yet"),
            Self::EdgeSilent { age } => write!(f, "edge silent for {:.0} s", age.as_secs_f64()),
            Self::NoTraffic => f.write_str("no traffic"),
            Self::TooFewRequests { seen_rps, needed_rps } => write!(
                f,
                "too few requests ({seen_rps:.1} a second, about {needed_rps:.1} are needed)"
            ),
            Self::NoInterval => f.write_str("no interval of the delay yet"),
            Self::StaleTelemetry { age } => {
                write!(f, "telemetry is {:.0} s old", age.as_secs_f64())
            }
            Self::Errors { share } => write!(f, "{:.1} % of the requests fail", share * 100.0),
            Self::LowCoverage { of, share, needed } => write!(
                f,
                "coverage {:.0} % of {}, {:.0} % needed",
                share * 100.0,
                match of {
                    Covered::Gateways => "the gateways",
                    Covered::UsersPath => "the services on the users' path",
                },
                needed * 100.0
            ),
            Self::EdgeUnavailable { why } => write!(f, "edge unavailable: {why}"),
            Self::Autoscaling {
                service,
                area,
                wants,
                share,
            } => write!(
                f,
                "the autoscaler of {service} at {area} is at work: it wants {wants} replicas; {:.0} % of the delay",
                share * 100.0
            ),
            Self::BackingOff { until, services } => write!(
                f,
                "backing off until {:.0} s after a failed move of {}",
                until.since_start().as_secs_f64(),
                names(services)
            ),
            Self::RuleOwned { service, by } => write!(f, "the routing of {service} is owned by {by}"),
            Self::RuleShape { service, what } => write!(f, "the rule of {service} can't be written: {what}"),
            Self::LocalityUnproven { service, locality } => {
                write!(f, "no proxy has reported locality {locality} for {service}")
            }
            Self::EndpointOutsideAreas { service, locality } => {
                write!(f, "an endpoint of {service} is in no area: {locality}")
            }
            Self::Suspended => f.write_str("suspended"),
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
        /// What the platform says of the first of them that it says anything of, e.g. that no node has room.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        why: Option<String>,
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
        /// Of which services; none where it is about the weights.
        #[serde(default)]
        services: BTreeSet<ServiceName>,
    },
    /// Weights were not in force in time.
    NotInForce,
    /// Services have no rule yet.
    NotAdopted {
        /// Which.
        services: BTreeSet<ServiceName>,
    },
    /// The cloud did not get the replicas that it needs.
    CloudNotScaled {
        /// Of which services.
        services: BTreeSet<ServiceName>,
    },
    /// Instances at the edge did not get the replicas that the next step needs.
    EdgeNotScaled {
        /// Of which services.
        services: BTreeSet<ServiceName>,
    },
    /// The delay under a step's weights is certainly above what was predicted for them.
    StepSlower {
        /// Predicted for the step, microseconds.
        predicted_us: f64,
        /// Measured, microseconds.
        measured_us: f64,
    },
    /// Predicted again on the way, the move would not do what it is for.
    PredictedWorse {
        /// Predicted at first, microseconds.
        first_us: f64,
        /// Predicted with what was learned on the way, microseconds.
        again_us: f64,
    },
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
    /// A service is overloaded at the edge with the share that it has now.
    Overloaded {
        /// Which.
        service: ServiceName,
        /// Its own time, microseconds.
        own_us: f64,
    },
    /// Requests kept arriving at an instance without weight.
    NotDrained,
}

impl Cause {
    /// The services that it names.
    pub(super) fn services(&self) -> BTreeSet<ServiceName> {
        match self {
            Self::NotReady { services, .. }
            | Self::InstanceFailed { services }
            | Self::Refused { services, .. } => services.clone(),
            _ => BTreeSet::new(),
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotReady { services, why } => {
                write!(f, "not ready in time: {}", names(services))?;
                why.as_ref().map_or(Ok(()), |why| write!(f, " ({why})"))
            }
            Self::InstanceFailed { services } => write!(f, "instance failed: {}", names(services)),
            Self::Refused { message, .. } => write!(f, "refused by the platform: {message}"),
            Self::NotInForce => f.write_str("weights were not in force in time"),
            Self::NotAdopted { services } => write!(f, "no rule in force for {}", names(services)),
            Self::CloudNotScaled { services } => {
                write!(f, "not enough replicas in the cloud in time: {}", names(services))
            }
            Self::EdgeNotScaled { services } => {
                write!(f, "not enough replicas at the edge in time: {}", names(services))
            }
            Self::StepSlower {
                predicted_us,
                measured_us,
            } => write!(
                f,
                "delay of a step worse than predicted: {} instead of {}",
                ms(*measured_us),
                ms(*predicted_us)
            ),
            Self::PredictedWorse { first_us, again_us } => write!(
                f,
                "predicted again on the way: {} instead of {}",
                ms(*again_us),
                ms(*first_us)
            ),
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
            Self::Overloaded { service, own_us } => {
                write!(f, "{service} is overloaded: {} inside", ms(*own_us))
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
