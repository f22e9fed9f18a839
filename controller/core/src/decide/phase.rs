//! What an edge's machine is doing, and what it remembers.

use std::collections::{BTreeMap, VecDeque};
use std::mem;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::evidence::Reading;
use super::overload::Step;
use super::own::Loads;
use super::paths::Paths;
use super::plan::{Decision, Direction};
use super::prediction::PredictionErrors;
use super::progress::Progress;
use super::reason::{Cause, HoldReason};
use crate::ids::Timestamp;

/// Decisions that an edge remembers: what the status shows.
pub(super) const DECISIONS: usize = 10;

/// Evaluations in a row on one side of the band.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
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

/// Failed moves in a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Failures {
    pub(super) count: u32,
    pub(super) until: Timestamp,
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
    /// The platform's last complaint.
    pub complaint: Option<String>,
    /// The platform will never make an instance of the plan under way.
    pub(super) refused: Option<String>,
    pub(super) failures: BTreeMap<Direction, Failures>,
    pub(super) silent_since: Option<Timestamp>,
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
    /// Keeps a closed decision.
    pub(super) fn remember(&mut self, decision: Decision) {
        self.decisions.push_back(decision);
        while self.decisions.len() > DECISIONS {
            self.decisions.pop_front();
        }
    }
}
