//! What the operator chooses. The defaults are the shipped ones; each says where it comes from.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ids::AreaName;
use crate::model::Standby;
use crate::routing::{SECOND_STEP, Steering};
use crate::snapshot::DelayStats;

/// The statistic of the user delay that the band is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Statistic {
    /// Arithmetic mean.
    Mean,
    /// Median.
    P50,
    /// 90th percentile.
    P90,
    /// 95th percentile.
    P95,
    /// 99th percentile.
    P99,
}

impl Statistic {
    /// The statistic's value, microseconds.
    pub fn of(self, delay: &DelayStats) -> f64 {
        let quantile = match self {
            Self::Mean => return delay.mean_us,
            Self::P50 => delay.p50_us,
            Self::P90 => delay.p90_us,
            Self::P95 => delay.p95_us,
            Self::P99 => delay.p99_us,
        };
        Duration::from_micros(quantile).as_secs_f64() * 1e6
    }

    /// Share of the requests that a quantile is an upper bound of; none for the mean.
    pub const fn share(self) -> Option<f64> {
        match self {
            Self::Mean => None,
            Self::P50 => Some(0.5),
            Self::P90 => Some(0.9),
            Self::P95 => Some(0.95),
            Self::P99 => Some(0.99),
        }
    }
}

/// Bounds of the user delay's statistic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Band {
    offload_above: Duration,
    unoffload_below: Duration,
}

/// A band that cannot be: its lower bound is not below its upper one, or is zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EmptyBand;

impl std::fmt::Display for EmptyBand {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the band is empty: set unoffloadBelow above 0 and below offloadAbove")
    }
}

impl std::error::Error for EmptyBand {}

impl Band {
    /// A band between two delays.
    ///
    /// # Errors
    /// [`EmptyBand`] unless `0 < unoffload_below < offload_above`.
    pub fn try_new(unoffload_below: Duration, offload_above: Duration) -> Result<Self, EmptyBand> {
        if unoffload_below.is_zero() || unoffload_below >= offload_above {
            return Err(EmptyBand);
        }
        Ok(Self {
            offload_above,
            unoffload_below,
        })
    }

    /// Upper bound, microseconds.
    pub fn offload_above_us(self) -> f64 {
        self.offload_above.as_secs_f64() * 1e6
    }

    /// Lower bound, microseconds.
    pub fn unoffload_below_us(self) -> f64 {
        self.unoffload_below.as_secs_f64() * 1e6
    }

    /// Whether a delay lies in it, its bounds included.
    pub fn holds(self, us: f64) -> bool {
        (self.unoffload_below_us()..=self.offload_above_us()).contains(&us)
    }

    /// An interval narrower than this says where a delay lies, microseconds: half the band.
    pub fn narrow_us(self) -> f64 {
        (self.offload_above_us() - self.unoffload_below_us()) / 2.0
    }

    /// The middle, microseconds: what a move aims at.
    pub fn target_us(self) -> f64 {
        f64::midpoint(self.offload_above_us(), self.unoffload_below_us())
    }
}

impl Default for Band {
    /// 60 to 120 ms.
    fn default() -> Self {
        Self {
            offload_above: Duration::from_millis(120),
            unoffload_below: Duration::from_millis(60),
        }
    }
}

/// How far the controller goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Mode {
    /// Measure and raise alarms.
    Observe,
    /// Also decide and say what it would do.
    Recommend,
    /// Also do it.
    Enforce,
}

/// What is wanted of one edge.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Objective {
    /// Bounds.
    pub band: Band,
    /// Of which statistic.
    pub statistic: Statistic,
    /// What callers of a service that is placed here leave on the cloud; none: as the statistic needs it, see
    /// [`Objective::standby`].
    pub standby: Option<Standby>,
}

impl Objective {
    /// The form that is chosen, else 1 % for the mean, the median and the p90, failover for p95 and p99: each call leaks
    /// the standby share, so with 10 calls 9.6 % of the requests cross the WAN and no tail is held.
    ///
    /// A share is from 1 to 49: a finished move is told from an unfinished one by a weight above every step.
    pub fn standby(&self) -> Standby {
        match self.standby {
            Some(Standby::Failover) => Standby::Failover,
            Some(Standby::Distribute(percent)) => {
                Standby::Distribute(percent.clamp(1, 100 - SECOND_STEP - 1))
            }
            None => match self.statistic {
                Statistic::Mean | Statistic::P50 | Statistic::P90 => Standby::Distribute(1),
                Statistic::P95 | Statistic::P99 => Standby::Failover,
            },
        }
    }
}

impl Default for Objective {
    fn default() -> Self {
        Self {
            band: Band::default(),
            statistic: Statistic::Mean,
            standby: None,
        }
    }
}

/// Everything that the machine does not learn from events.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Config {
    /// The area that runs the whole application.
    pub cloud: AreaName,
    /// The managed edges.
    pub edges: BTreeMap<AreaName, Objective>,
    /// How far to go.
    pub mode: Mode,
    /// What moves calls. By readiness there are no steps, and of the standby forms there is failover alone.
    pub steering: Steering,
    /// Nothing new begins. What is under way is finished, or taken back; weight is still taken from an instance that
    /// cannot serve.
    pub suspend: bool,
    /// Evaluations in a row whose whole interval is outside the band before a move is planned.
    pub consecutive: u32,
    /// Error rate of the interval that a decision stands on.
    pub alpha: f64,
    /// Share of server errors and no response above which the delay is not trusted.
    pub most_errors: f64,
    /// Share of an edge's gateways that must be heard for its delay to count, 0 … 1.
    pub gateway_coverage: f64,
    /// Share of the proxies on the users' path that must be heard for a move to be planned, 0 … 1.
    pub service_coverage: f64,
    /// An autoscaler that changed its count within this is at work.
    pub autoscaler_quiet: Duration,
    /// It is waited for at most this long; then the desired counts are planned with.
    pub autoscaler_patience: Duration,
    /// Share of the user delay from which an instance's autoscaler matters, 0 … 1.
    pub autoscaler_share: f64,
    /// A move is verified for at least this long,
    pub verify_least: Duration,
    /// and at most this long.
    pub verify_most: Duration,
    /// Rest after a move.
    pub cool_down: Duration,
    /// An instance that is not Ready after this ends its move.
    pub ready_within: Duration,
    /// Moves of all edges in an hour.
    pub moves_per_hour: usize,
    /// Rest after the first failed move; it doubles with each one in a row,
    pub back_off_first: Duration,
    /// up to this.
    pub back_off_most: Duration,
    /// Change that one move aims at, as a share of the larger of the delays before and after; below 1.
    pub most_change: f64,
    /// An unanswered question to the planner is asked again after this.
    pub ask_again: Duration,
    /// A service is drained when no completion was seen for this long.
    pub drained_after: Duration,
}

impl Config {
    /// Defaults: mode Observe until somebody asks for more, the default band at each edge.
    pub fn new(cloud: AreaName, edges: impl IntoIterator<Item = AreaName>) -> Self {
        Self {
            cloud,
            edges: edges
                .into_iter()
                .map(|edge| (edge, Objective::default()))
                .collect(),
            mode: Mode::Observe,
            steering: Steering::Weights,
            suspend: false,
            consecutive: 3,
            alpha: 1e-4,
            most_errors: 0.05,
            // A gateway that is not heard may serve users whose delay nobody sees. Of many sidecars a few are always
            // new or leaving; means and calls per request do not suffer from a tenth.
            gateway_coverage: 1.0,
            service_coverage: 0.9,
            // Kubernetes' autoscaler looks every 15 s. Below a twentieth of the delay it cannot bring it into the band.
            autoscaler_quiet: Duration::from_secs(15),
            autoscaler_patience: Duration::from_secs(60),
            autoscaler_share: 0.05,
            verify_least: Duration::from_secs(15),
            verify_most: Duration::from_secs(60),
            cool_down: Duration::from_secs(15),
            ready_within: Duration::from_secs(120),
            moves_per_hour: 60,
            back_off_first: Duration::from_secs(120),
            back_off_most: Duration::from_secs(4 * 3600),
            most_change: 0.5,
            ask_again: Duration::from_secs(1),
            drained_after: Duration::from_secs(10),
        }
    }

    /// Whether instances that become Ready or go move the calls, and no weights.
    pub(super) fn by_readiness(&self) -> bool {
        self.steering == Steering::Readiness
    }

    /// Weight of the edge for a service that is placed there, in the distribute form: above every step of a ramp, so
    /// that a finished move can be told from an unfinished one.
    pub(super) fn final_weight(&self, edge: &AreaName) -> u32 {
        match self.standby(edge) {
            Standby::Distribute(percent) => 100 - percent,
            Standby::Failover if self.by_readiness() => 100,
            // The way to it and from it.
            Standby::Failover => 99,
        }
    }

    /// Weight of the edge at rest.
    pub(super) fn resting_weight(&self, edge: &AreaName) -> u32 {
        match self.standby(edge) {
            Standby::Distribute(percent) => 100 - percent,
            Standby::Failover => 100,
        }
    }

    /// Form of an edge.
    pub fn standby(&self, edge: &AreaName) -> Standby {
        if self.by_readiness() {
            return Standby::Failover;
        }
        self.edges.get(edge).map(Objective::standby).unwrap_or_default()
    }

    /// Rest after `failures` failed moves in a row.
    pub(super) fn back_off(&self, failures: u32) -> Duration {
        let doublings = failures.saturating_sub(1).min(31);
        self.back_off_first
            .saturating_mul(1 << doublings)
            .min(self.back_off_most)
    }
}
