//! What an edge's machine is doing, and what it remembers.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::mem;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::config::Config;
use super::evidence::Reading;
use super::overload::Step;
use super::own::Loads;
use super::paths::Paths;
use super::plan::{Decision, Direction, Outcome};
use super::prediction::PredictionErrors;
use super::progress::Progress;
use super::reason::{Cause, HoldReason};
use crate::ids::{ServiceName, Timestamp};

/// Decisions that an edge remembers: what the status shows.
pub(super) const DECISIONS: usize = 10;

/// Where there is no plan, the pause before the next question is this part of the time without one. In the first 8 s, while a
/// snapshot may still hold what was before a change, it is asked each second.
const RARER: u32 = 8;

/// The longest such pause: what the longest window holds is new by then.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// Evaluations in a row on one side of the band.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Alarm {
    /// Where to go.
    pub direction: Direction,
    /// The first whose value was outside.
    pub since: Timestamp,
    /// How many of the last ones in a row had their whole interval outside.
    pub seen: u32,
    /// When the planner was asked last.
    pub asked: Option<Timestamp>,
    /// The planner found nothing.
    #[serde(default)]
    pub planless: Option<Planless>,
}

/// The planner's answers to an alarm so far: no plan. It is asked ever more rarely.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Planless {
    /// Since when.
    pub since: Timestamp,
    /// Lower end of the delay's interval then, microseconds.
    pub low_us: f64,
    /// Upper end, microseconds.
    pub high_us: f64,
}

/// What an edge's machine is doing. Each variant carries what is valid then, and no more.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub enum Phase {
    /// Nothing is wrong.
    #[default]
    Observing,
    /// Outside the band, not yet for long enough.
    Alarmed {
        /// Since when.
        alarm: Alarm,
    },
    /// A plan is carried out.
    Acting {
        /// The plan.
        plan: Box<Decision>,
        /// How far it is.
        progress: Progress,
    },
    /// Carried out; its effect is watched.
    Verifying {
        /// The plan.
        plan: Box<Decision>,
        /// Since the last weights were in force.
        since: Timestamp,
        /// Judged by then.
        until: Timestamp,
    },
    /// The share of an overloaded service changes, down or back up.
    Relieving {
        /// The decision.
        plan: Box<Decision>,
        /// Its present step.
        step: Step,
    },
    /// It did not do what it should.
    RollingBack {
        /// The plan.
        plan: Box<Decision>,
        /// Why it goes back.
        cause: Cause,
        /// How far it is back.
        progress: Progress,
    },
    /// Rest after a move.
    CoolingDown {
        /// Until when.
        until: Timestamp,
    },
    /// Deliberately nothing.
    Held {
        /// Why.
        reason: HoldReason,
        /// Since when.
        since: Timestamp,
        /// The alarm that waits, if the delay is trusted.
        alarm: Option<Alarm>,
    },
}

/// Moves with a service that failed in a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BackOff {
    /// How many.
    pub count: u32,
    /// It is not moved again before.
    pub until: Timestamp,
}

/// By direction, the services that failed moves are blamed on.
pub type Failures = BTreeMap<Direction, BTreeMap<ServiceName, BackOff>>;

/// What a platform says it will never do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Refusal {
    pub(super) of: Refused,
    pub(super) message: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub(super) enum Refused {
    Instance { service: ServiceName },
    Weights,
    Removal { service: ServiceName },
}

/// A platform's complaint about an effect that is still wanted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Complaint {
    /// What it said last.
    pub message: String,
    /// Since when this is said.
    pub since: Timestamp,
    /// How often.
    pub times: u32,
}

/// One edge's machine and what it remembers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EdgeState {
    /// What it is doing.
    pub phase: Phase,
    /// The newest reading; none where the window decides nothing.
    pub reading: Option<Reading>,
    /// Why the newest window decides nothing; it can come with any phase.
    pub unread: Option<HoldReason>,
    /// The last decisions, oldest first.
    pub decisions: VecDeque<Decision>,
    /// The platform's last complaint; none once nothing is wanted any more.
    #[serde(default)]
    pub complaining: Option<Complaint>,
    /// Services that failed moves are blamed on; forgotten when a move with them is kept, or long after.
    #[serde(default)]
    pub failed: Failures,
    #[serde(default)]
    pub(super) refusal: Option<Refusal>,
    /// Since when the edge waits for autoscalers.
    #[serde(default)]
    pub(super) scaling_since: Option<Timestamp>,
    pub(super) silent_since: Option<Timestamp>,
    /// Services that callers at the edge see fail there, and in how many evaluations in a row.
    #[serde(default)]
    pub(super) failing: BTreeMap<ServiceName, u32>,
    pub(super) last_crash: Option<Timestamp>,
    /// What predictions were wrong by.
    #[serde(default)]
    pub prediction: BTreeMap<Direction, PredictionErrors>,
    /// What the services at the edge take, and what they gave up.
    #[serde(default)]
    pub(super) loads: Loads,
    /// Both ways to what the move under verification moved.
    #[serde(default)]
    pub(super) paths: Option<Paths>,
}

// === impl Alarm ===

impl Alarm {
    /// How long after the last question the next is asked. Each question is put with a delay that was measured anew, so of
    /// many a plan that is none on the whole would come by chance: a question each second is 300 chances in 5 minutes. With
    /// the pause in proportion to the time without a plan their number grows like its logarithm. A delay that is certainly
    /// another one begins anew.
    pub(super) fn ask_again(&self, reading: &Reading, now: Timestamp, config: &Config) -> Duration {
        let planless = self.planless.filter(|planless| planless.is_of(reading));
        let pause = planless.map_or(Duration::ZERO, |planless| now.since(planless.since) / RARER);
        pause.clamp(config.ask_again, LONGEST_PAUSE.max(config.ask_again))
    }
}

// === impl Planless ===

impl Planless {
    /// After another answer without a plan.
    pub(super) fn again(before: Option<Self>, reading: &Reading, now: Timestamp) -> Self {
        before.filter(|before| before.is_of(reading)).unwrap_or(Self {
            since: now,
            low_us: reading.low_us,
            high_us: reading.high_us,
        })
    }

    /// Whether the delay may still be the same.
    fn is_of(&self, reading: &Reading) -> bool {
        reading.low_us <= self.high_us && self.low_us <= reading.high_us
    }
}

// === impl Phase ===

impl Phase {
    /// The plan under way.
    pub fn plan(&self) -> Option<&Decision> {
        match self {
            Self::Acting { plan, .. }
            | Self::Verifying { plan, .. }
            | Self::Relieving { plan, .. }
            | Self::RollingBack { plan, .. } => Some(plan),
            Self::Observing | Self::Alarmed { .. } | Self::CoolingDown { .. } | Self::Held { .. } => None,
        }
    }

    /// How far the sequence of a plan is.
    pub(super) fn progress(&self) -> Option<&Progress> {
        match self {
            Self::Acting { progress, .. } | Self::RollingBack { progress, .. } => Some(progress),
            Self::Observing
            | Self::Alarmed { .. }
            | Self::Verifying { .. }
            | Self::Relieving { .. }
            | Self::CoolingDown { .. }
            | Self::Held { .. } => None,
        }
    }

    /// The alarm that lasts.
    pub(super) const fn alarm(&self) -> Option<Alarm> {
        match self {
            Self::Alarmed { alarm } => Some(*alarm),
            Self::Held { alarm, .. } => *alarm,
            Self::Observing
            | Self::Acting { .. }
            | Self::Verifying { .. }
            | Self::Relieving { .. }
            | Self::RollingBack { .. }
            | Self::CoolingDown { .. } => None,
        }
    }

    /// Moves every deadline: the time `by` does not count.
    pub(super) fn postpone(&mut self, by: Duration) {
        match self {
            Self::Acting { progress, .. } | Self::RollingBack { progress, .. } => progress.postpone(by),
            Self::Relieving { step, .. } => step.postpone(by),
            Self::Verifying { since, until, .. } => {
                *since = since.after(by);
                *until = until.after(by);
            }
            Self::Observing | Self::Alarmed { .. } | Self::CoolingDown { .. } | Self::Held { .. } => {}
        }
    }

    /// Holds because nothing can be read. A report that is late ends no alarm: evaluations that see nothing new are not
    /// counted, and those before them go on. Nor does a window that decides nothing; but who counts evaluations in a row
    /// begins anew.
    pub(super) fn late(self, reason: HoldReason, now: Timestamp) -> Self {
        let alarm = match reason {
            HoldReason::StaleTelemetry { .. } => self.alarm(),
            HoldReason::NoInterval => self.alarm().map(|alarm| Alarm { seen: 0, ..alarm }),
            _ => None,
        };
        self.held(reason, alarm, now)
    }

    /// Holds; a hold for the same kind of reason goes on.
    pub(super) fn held(self, reason: HoldReason, alarm: Option<Alarm>, now: Timestamp) -> Self {
        let since = match self {
            Self::Held {
                reason: held, since, ..
            } if mem::discriminant(&held) == mem::discriminant(&reason) => since,
            _ => now,
        };
        Self::Held { reason, since, alarm }
    }
}

// === impl EdgeState ===

impl EdgeState {
    /// Blames a failed move on `services`: they are not moved in this direction for a while, twice as long each time.
    pub(super) fn blame(
        &mut self,
        direction: Direction,
        services: impl IntoIterator<Item = ServiceName>,
        now: Timestamp,
        config: &Config,
    ) {
        let failed = self.failed.entry(direction).or_default();
        for service in services {
            let back_off = failed.entry(service).or_default();
            back_off.count = back_off.count.saturating_add(1);
            back_off.until = now.after(config.back_off(back_off.count));
        }
    }

    /// Giving up these services brought nothing: they don't come back in this direction for the longest back-off.
    pub(super) fn bar(
        &mut self,
        direction: Direction,
        services: &BTreeSet<ServiceName>,
        now: Timestamp,
        config: &Config,
    ) {
        let failed = self.failed.entry(direction).or_default();
        for service in services {
            let back_off = failed.entry(service.clone()).or_default();
            back_off.until = now.after(config.back_off_most);
        }
    }

    /// A move with these services was kept.
    pub(super) fn absolve<'a>(
        &mut self,
        direction: Direction,
        services: impl IntoIterator<Item = &'a ServiceName>,
    ) {
        if let Some(failed) = self.failed.get_mut(&direction) {
            for service in services {
                failed.remove(service);
            }
        }
    }

    /// When the last move had changed all that it did; none before says what the delay is now.
    pub(super) fn changed(&self) -> Timestamp {
        let changed = self.decisions.iter().rev().find_map(|decision| {
            let times = &decision.times;
            match decision.outcome {
                Outcome::RolledBack { .. } | Outcome::Abandoned { .. } => times.finished,
                _ => times.weights_final,
            }
        });
        changed.unwrap_or_default()
    }

    /// Of the services that an offload brings back, those that left by an unoffload of which nobody could say whether it
    /// was right: it was not.
    pub(super) fn regretted(&self, add: &BTreeSet<ServiceName>) -> BTreeSet<ServiceName> {
        let last_left = |service: &&ServiceName| {
            let mut left = self.decisions.iter().rev();
            left.find(|decision| decision.remove.contains(*service))
        };
        let is_regretted = |service: &&ServiceName| {
            last_left(service).is_some_and(|left| left.outcome == Outcome::Unverified)
        };
        add.iter().filter(is_regretted).cloned().collect()
    }

    /// Services that are not moved in this direction now, and until when.
    pub(super) fn backing_off(
        &self,
        direction: Direction,
        now: Timestamp,
    ) -> impl Iterator<Item = (&ServiceName, Timestamp)> {
        let failed = self.failed.get(&direction).into_iter().flatten();
        failed.filter_map(move |(service, back_off)| {
            (now < back_off.until).then_some((service, back_off.until))
        })
    }

    /// Forgets failures that nothing followed for as long as the longest back-off.
    pub(super) fn forget(&mut self, now: Timestamp, config: &Config) {
        for failed in self.failed.values_mut() {
            failed.retain(|_, back_off| now.since(back_off.until) < config.back_off_most);
        }
        self.failed.retain(|_, failed| !failed.is_empty());
    }

    /// Keeps what the platform said of an effect.
    pub(super) fn complain(&mut self, message: &str, now: Timestamp) {
        match &mut self.complaining {
            Some(known) if known.message == message => known.times = known.times.saturating_add(1),
            complaining => {
                *complaining = Some(Complaint {
                    message: message.to_owned(),
                    since: now,
                    times: 1,
                });
            }
        }
    }

    /// Keeps a closed decision.
    pub(super) fn remember(&mut self, decision: Decision) {
        self.decisions.push_back(decision);
        while self.decisions.len() > DECISIONS {
            self.decisions.pop_front();
        }
    }
}
