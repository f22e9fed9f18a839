//! The action sequence: instances → Ready → weights up → weights down → drained → removed.
//!
//! One sequence serves an offload (`up` only), an unoffload (`down` only), a swap (both, up first) and the way
//! back (the same with the sets exchanged, without ramps). Each stage asserts the weights and instances that it
//! stands for at every evaluation, so that a lost effect is repeated and a repeated one changes nothing.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Effect;
use super::config::Config;
use super::plan::Times;
use super::ramp;
use super::reason::Cause;
use super::routes;
use super::stages::{Next, Shift, Stage, Start, drain, lower, raise, remove, start};
use crate::cluster::{Cluster, RoutingPlan};
use crate::ids::{AreaName, ServiceName, Timestamp};
use crate::routing::SECOND_STEP;
use crate::snapshot::Snapshot;

/// How weights move.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Pace {
    /// In proven steps.
    Ramp,
    /// At once: to a state that was there before.
    AtOnce,
}

/// A sequence and how far it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Progress {
    up: BTreeSet<ServiceName>,
    down: BTreeSet<ServiceName>,
    pace: Pace,
    stage: Stage,
}

/// What an evaluation sees and may change.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    pub(super) edge: &'a AreaName,
    pub(super) snapshot: &'a Snapshot,
    pub(super) cluster: &'a Cluster,
    pub(super) config: &'a Config,
    pub(super) now: Timestamp,
    /// Routing in force, whole.
    pub(super) in_force: &'a RoutingPlan,
    /// Routing that is wanted.
    pub(super) wanted: &'a mut RoutingPlan,
    pub(super) effects: &'a mut Vec<Effect>,
}

/// What an evaluation made of a sequence.
#[derive(Debug)]
pub(super) enum Advance {
    Going(Progress),
    Done,
    Failed(Progress, Cause),
}

// === impl Progress ===

impl Progress {
    /// `up` gets instances and weight, `down` loses both.
    pub(super) fn new(
        up: BTreeSet<ServiceName>,
        down: BTreeSet<ServiceName>,
        pace: Pace,
        now: Timestamp,
    ) -> Self {
        Self {
            up,
            down,
            pace,
            stage: Stage::Starting(Start::new(now)),
        }
    }

    /// Services that carry traffic at the edge by now, if they rise.
    pub(super) fn raised(&self) -> Option<&BTreeSet<ServiceName>> {
        (!self.is_starting()).then_some(&self.up)
    }

    /// Whether it still waits for instances.
    pub(super) fn is_starting(&self) -> bool {
        matches!(self.stage, Stage::Starting(_))
    }

    /// The stage in words.
    pub fn sentence(&self) -> String {
        match &self.stage {
            Stage::Starting(_) => "waiting for instances".to_owned(),
            Stage::Raising(shift) | Stage::Lowering(shift) => format!("weight of the edge {} %", shift.share),
            Stage::Draining { .. } => "draining".to_owned(),
            Stage::Removing { .. } => "removing instances".to_owned(),
        }
    }

    /// Moves every deadline: the time `by` does not count.
    pub(super) fn postpone(&mut self, by: Duration) {
        let later = |at: &mut Timestamp| *at = at.after(by);
        match &mut self.stage {
            Stage::Starting(Start { since, .. }) | Stage::Removing { since } => later(since),
            Stage::Draining { since, last_seen } => {
                later(since);
                later(last_seen);
            }
            Stage::Raising(shift) | Stage::Lowering(shift) => shift.postpone(by),
        }
    }

    /// What a way back does when a stage fails: it has nothing to go back to, so it leaves out what can't be
    /// done and goes on. None where nothing is left to do.
    pub(super) fn skip(mut self, now: Timestamp) -> Option<Self> {
        match &mut self.stage {
            Stage::Starting(_) => {
                self.up.clear();
                self.stage = Stage::Starting(Start::new(now));
                (!self.down.is_empty()).then_some(self)
            }
            Stage::Raising(shift) | Stage::Lowering(shift) => {
                shift.since = now;
                Some(self)
            }
            Stage::Draining { .. } | Stage::Removing { .. } => None,
        }
    }

    /// Gives up on instances that failed.
    pub(super) fn leave_out(&mut self, services: &BTreeSet<ServiceName>) {
        self.up.retain(|service| !services.contains(service));
    }

    /// Goes on as far as what is seen allows.
    pub(super) fn advance(mut self, turn: &mut Turn<'_>, times: &mut Times) -> Advance {
        // More turns than any sequence has stages and steps.
        for _ in 0..16 {
            let next = match &mut self.stage {
                Stage::Starting(started) => start(&self.up, started, turn),
                Stage::Raising(shift) => raise(&self.up, self.pace, shift, turn, times),
                Stage::Lowering(shift) => lower(&self.down, self.pace, shift, turn, times),
                Stage::Draining { since, last_seen } => drain(&self.down, *since, last_seen, turn),
                Stage::Removing { since } => remove(&self.down, *since, turn),
            };
            match next {
                Next::Again => {}
                Next::Stay => return Advance::Going(self),
                Next::Fail(cause) => return Advance::Failed(self, cause),
                Next::Finished => match self.following(turn, times) {
                    Some(stage) => self.stage = stage,
                    None => return Advance::Done,
                },
            }
        }
        Advance::Going(self)
    }

    fn following(&self, turn: &Turn<'_>, times: &mut Times) -> Option<Stage> {
        match &self.stage {
            Stage::Starting(start) if !self.up.is_empty() => {
                times.instances_ready.get_or_insert(turn.now);
                Some(Stage::Raising(self.first_rise(start, turn)))
            }
            Stage::Starting(_) | Stage::Raising(_) => {
                let fall = || Stage::Lowering(self.first_fall(turn));
                (!self.down.is_empty()).then(fall)
            }
            Stage::Lowering(_) => {
                let nobody_there = self
                    .down
                    .iter()
                    .all(|s| !routes::is_ready(turn.cluster, s, turn.edge));
                Some(if nobody_there {
                    Stage::Removing { since: turn.now }
                } else {
                    Stage::Draining {
                        since: turn.now,
                        last_seen: turn.now,
                    }
                })
            }
            Stage::Draining { .. } => Some(Stage::Removing { since: turn.now }),
            Stage::Removing { .. } => None,
        }
    }

    fn first_rise(&self, start: &Start, turn: &Turn<'_>) -> Shift {
        let last = turn.config.final_weight();
        // Where no caller was seen at all, too little is known to spare any service the ramp.
        let frontier = if start.called.is_empty() {
            &self.up
        } else {
            &start.called
        };
        let share = match self.pace {
            Pace::Ramp => ramp::first_weight(turn.snapshot, turn.edge, frontier),
            Pace::AtOnce => last,
        };
        Shift::new(share, frontier.clone(), turn.now)
    }

    fn first_fall(&self, turn: &Turn<'_>) -> Shift {
        let frontier = ramp::frontier(turn.snapshot, turn.edge, &self.down);
        let share = match self.pace {
            Pace::Ramp if !frontier.is_empty() => SECOND_STEP,
            Pace::Ramp | Pace::AtOnce => 0,
        };
        Shift::new(share, frontier, turn.now)
    }
}
