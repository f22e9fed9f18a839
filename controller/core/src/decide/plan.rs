//! What is asked of a planner, and the record of a decision.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::config::Statistic;
use super::evidence::Reading;
use super::prediction::Correction;
use super::reason::{Cause, NoPlan, ms, names};
use crate::cluster::{Cluster, RoutingPlan};
use crate::ids::{AreaName, ServiceName, Timestamp};
use crate::snapshot::{DelayStats, Snapshot};
use crate::solver::Lost;

/// Towards the edge or away from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Direction {
    /// Delay above the band: services go to the edge.
    Offload,
    /// Delay below the band: services leave the edge.
    Unoffload,
}

/// What the planner would do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PlannedMove {
    /// Services that get an instance at the edge.
    pub add: BTreeSet<ServiceName>,
    /// Services that lose theirs.
    pub remove: BTreeSet<ServiceName>,
    /// Delay that the prediction starts from, microseconds.
    pub measured_us: f64,
    /// Delays of that window, from which the steps are predicted; none where a planner does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay: Option<DelayStats>,
    /// Delay after the move, microseconds.
    pub predicted_us: f64,
    /// Price of the placement before, an hour.
    pub cost_before: f64,
    /// Price of the placement after, an hour.
    pub cost_after: f64,
    /// Why these services, for a person.
    pub reasons: String,
    /// Replicas in the cloud that the removed services need there after the move; none: as many as there are.
    #[serde(default)]
    pub cloud_replicas: BTreeMap<ServiceName, u32>,
    /// How the answer was found; none where a planner does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub search: Option<Searched>,
}

/// How an answer was found, and how good it is proven to be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Searched {
    /// Edges that were decided together, this one included.
    pub together: BTreeSet<AreaName>,
    /// Price of the placement after the moves of all of these, an hour.
    pub cost_together: f64,
    /// Proven: no placement that keeps all their targets costs less, an hour.
    pub cost_bound: f64,
    /// Part of `cost_together` that could be saved at most, 0 … 1.
    pub gap: f64,
    /// Whether it is proven to be the cheapest.
    pub optimal: bool,
    /// Placements that were evaluated.
    pub evaluations: u64,
    /// Whether the search ended because it may not take longer.
    pub exhausted: bool,
    /// The best of the others that were seen, if it differs at this edge.
    pub runner_up: Option<Alternative>,
}

/// What was nearly chosen for the edge.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Alternative {
    /// Services that would have got an instance.
    pub add: BTreeSet<ServiceName>,
    /// Services that would have lost theirs.
    pub remove: BTreeSet<ServiceName>,
    /// Delay after it, microseconds.
    pub predicted_us: f64,
    /// Price of that placement, all edges, an hour.
    pub cost: f64,
    /// Why it lost.
    pub lost: Lost,
}

/// What an edge asks a planner.
#[derive(Clone, Debug, PartialEq)]
pub struct Ask {
    /// Where.
    pub edge: AreaName,
    /// Which way to go.
    pub direction: Direction,
    /// Delay that the edge's statistic shall come to, microseconds.
    pub target_us: f64,
    /// Services that can't move at this edge now: a planner may plan around them; a plan that moves one is held.
    pub fixed: BTreeSet<ServiceName>,
}

/// Replicas that a service needs in an area.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replicas {
    /// With these it rests where its autoscaler would leave it.
    pub wanted: u32,
    /// With fewer its requests wait for one another.
    pub least: u32,
}

/// Chooses services. Pure: the same inputs give the same answer.
pub trait Planner {
    /// For each edge that asks, a move that brings its delay to its target, at the lowest cost of all together. What runs
    /// at edges that do not ask stays. The error says why there is none; an edge that is not answered has none either.
    fn plan(
        &self,
        asks: &[Ask],
        snapshot: &Snapshot,
        cluster: &Cluster,
    ) -> BTreeMap<AreaName, Result<PlannedMove, NoPlan>>;

    /// By how much the statistic of the delay of `edge` changes when its routing goes from one to the other, microseconds;
    /// none where that can't be said. The snapshot was measured under something like `from`, and so was `delay`; without it
    /// the snapshot's delays count.
    fn change_us(
        &self,
        edge: &AreaName,
        from: &RoutingPlan,
        to: &RoutingPlan,
        delay: Option<&DelayStats>,
        snapshot: &Snapshot,
        cluster: &Cluster,
    ) -> Option<f64> {
        let _ = (edge, from, to, delay, snapshot, cluster);
        None
    }

    /// Replicas that services need at `edge` under a routing, at the rates of the snapshot. A service about which that
    /// can't be said is absent.
    fn replicas(
        &self,
        edge: &AreaName,
        routing: &RoutingPlan,
        snapshot: &Snapshot,
        cluster: &Cluster,
    ) -> BTreeMap<ServiceName, Replicas> {
        let _ = (edge, routing, snapshot, cluster);
        BTreeMap::new()
    }
}

/// Why a decision was taken.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Trigger {
    /// The delay left the band.
    Band {
        /// Which way to go.
        direction: Direction,
        /// The window that decided.
        reading: Reading,
        /// Of which statistic.
        statistic: Statistic,
        /// Upper bound, microseconds.
        offload_above_us: f64,
        /// Lower bound, microseconds.
        unoffload_below_us: f64,
        /// What the planner was asked for, microseconds.
        target_us: f64,
    },
    /// A service's instances at the edge saturate: part of its share goes to the cloud.
    Overload {
        /// Which.
        service: ServiceName,
        /// Its own time at the edge when it was new there, microseconds.
        own_before_us: f64,
        /// Its own time at the edge when this began, microseconds.
        own_now_us: f64,
        /// Share of the edge before, percent.
        from: u32,
        /// Share of the edge that is the last one wanted, percent.
        to: u32,
    },
    /// A share that an overloaded service gave up returns.
    OverloadOver {
        /// Which service.
        service: ServiceName,
        /// Share of the edge before, percent.
        from: u32,
        /// Share of the edge after, percent.
        to: u32,
    },
    /// Instances at the edge that carried traffic can't any more.
    InstanceFailed,
    /// Callers at the edge see instances fail there, and not in the cloud.
    Failing,
    /// Instances or weights that no finished move explains: of a run that ended in between.
    Unfinished,
}

impl Trigger {
    /// The service whose share alone changes.
    pub(super) const fn service(&self) -> Option<&ServiceName> {
        match self {
            Self::Overload { service, .. } | Self::OverloadOver { service, .. } => Some(service),
            Self::Band { .. } | Self::InstanceFailed | Self::Failing | Self::Unfinished => None,
        }
    }
}

/// When what happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Times {
    /// First evaluation outside the band.
    pub alarm: Option<Timestamp>,
    /// The plan began.
    pub decided: Timestamp,
    /// All instances Ready.
    pub instances_ready: Option<Timestamp>,
    /// First request seen in the new area.
    pub first_shifted_request: Option<Timestamp>,
    /// From the write of the first weights to that request.
    #[serde(default)]
    pub propagation: Option<Duration>,
    /// The last weights in force.
    pub weights_final: Option<Timestamp>,
    /// The effect was judged.
    pub verified: Option<Timestamp>,
    /// All done, or all back.
    pub finished: Option<Timestamp>,
}

/// How it ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Outcome {
    /// Under way.
    Running,
    /// Said, not done.
    Recommended,
    /// Done, and the effect is as wanted.
    Kept,
    /// Done; nothing could be measured in time to judge it.
    Unverified,
    /// Taken back.
    RolledBack {
        /// Why.
        cause: Cause,
    },
    /// Left where it was: the mode no longer enforces, or it could not go on.
    Abandoned {
        /// Why it could not; none where the mode changed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cause: Option<Cause>,
    },
}

/// What was measured after a move.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct After {
    /// All that was measured from the last weights to the verdict.
    pub reading: Reading,
    /// Measured less predicted, microseconds.
    pub prediction_error_us: f64,
    /// Measured change, microseconds.
    pub change_us: f64,
}

/// One decision, from the alarm to its result.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Decision {
    /// Counts up, over all edges.
    pub id: u64,
    /// Where.
    pub edge: AreaName,
    /// Why.
    pub trigger: Trigger,
    /// Services that get an instance at the edge.
    pub add: BTreeSet<ServiceName>,
    /// Services that lose theirs.
    pub remove: BTreeSet<ServiceName>,
    /// The planner's whole answer; none where nothing was planned.
    pub planned: Option<PlannedMove>,
    /// What was predicted after the second step, with what was learned by then, microseconds.
    #[serde(default)]
    pub predicted_again_us: Option<f64>,
    /// What earlier moves taught of the prediction's error; it is in `planned` already.
    #[serde(default)]
    pub correction: Option<Correction>,
    /// When.
    pub times: Times,
    /// How it ended.
    pub outcome: Outcome,
    /// What was measured after it.
    pub after: Option<After>,
}

impl Decision {
    /// Direction, where the band was the reason.
    pub fn direction(&self) -> Option<Direction> {
        match self.trigger {
            Trigger::Band { direction, .. } => Some(direction),
            Trigger::Overload { .. }
            | Trigger::OverloadOver { .. }
            | Trigger::InstanceFailed
            | Trigger::Failing
            | Trigger::Unfinished => None,
        }
    }

    /// Predicted change, microseconds.
    pub fn predicted_change_us(&self) -> Option<f64> {
        self.planned
            .as_ref()
            .map(|planned| planned.predicted_us - planned.measured_us)
    }

    /// The decision in a sentence.
    pub fn sentence(&self) -> String {
        let mut text = match (&self.trigger, &self.planned) {
            (
                Trigger::Band {
                    direction, reading, ..
                },
                Some(planned),
            ) => format!(
                "{} at {} ({} requests), predicted {}",
                match direction {
                    Direction::Offload => "offload",
                    Direction::Unoffload => "unoffload",
                },
                ms(reading.value_us),
                reading.requests,
                ms(planned.predicted_us)
            ),
            (
                Trigger::Overload {
                    service,
                    own_before_us,
                    own_now_us,
                    from,
                    to,
                },
                _,
            ) => format!(
                "{service} is overloaded at the edge: a request takes {} longer inside than before; its share goes from {from} % to {to} %",
                ms(own_now_us - own_before_us)
            ),
            (Trigger::OverloadOver { service, from, to }, _) => {
                format!(
                    "{service} is no longer overloaded at the edge: its share goes from {from} % to {to} %"
                )
            }
            (Trigger::InstanceFailed, _) => {
                "an edge instance failed, its service goes to the cloud".to_owned()
            }
            (Trigger::Failing, _) => {
                "calls to an edge instance fail, its service goes to the cloud".to_owned()
            }
            (Trigger::Band { .. } | Trigger::Unfinished, _) => "an unfinished move goes back".to_owned(),
        };
        for (word, services) in [("add", &self.add), ("remove", &self.remove)] {
            if !services.is_empty() {
                text.push_str(&format!("; {word} {}", names(services)));
            }
        }
        match &self.outcome {
            Outcome::Running => {}
            Outcome::Recommended => text.push_str("; recommended"),
            Outcome::Kept => text.push_str("; kept"),
            Outcome::Unverified => text.push_str("; kept, not verified"),
            Outcome::RolledBack { cause } => text.push_str(&format!("; went back: {cause}")),
            Outcome::Abandoned { cause: None } => text.push_str("; abandoned"),
            Outcome::Abandoned { cause: Some(cause) } => text.push_str(&format!("; abandoned: {cause}")),
        }
        if let Some(after) = &self.after {
            text.push_str(&format!("; measured {} after", ms(after.reading.value_us)));
        }
        text
    }
}
