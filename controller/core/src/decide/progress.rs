//! The action sequence: rules → instances → Ready → weights up → cloud scaled → weights down → drained → removed.
//!
//! One sequence serves an offload (`up` only), an unoffload (`down` only), a swap (both, up first) and the way
//! back (the same with the sets exchanged, without ramps); by readiness the stages of weights are left out. Each stage
//! asserts the weights and instances that it stands for at every evaluation, so that a lost effect is repeated and a
//! repeated one changes nothing.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Effect;
use super::adoption::Adoption;
use super::capacity::Requests;
use super::config::Config;
use super::plan::{Decision, Planner};
use super::propagation::Propagation;
use super::ramp;
use super::readiness::{arrival, arrive};
use super::reason::Cause;
use super::routes;
use super::stages::{Next, Shift, Stage, drain, lower, raise, remove, scale};
use super::starting::{Start, start};
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
    /// The longest request of `down` that was seen in the hour before.
    #[serde(default)]
    longest: Longest,
}

/// The longest of some requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Longest {
    took: Duration,
    /// One was too long to be measured.
    long: bool,
}

/// What an evaluation sees and may change.
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
    pub(super) planner: &'a dyn Planner,
    pub(super) adoption: &'a Adoption,
    /// Services that need a rule now.
    pub(super) adopt: &'a mut BTreeSet<ServiceName>,
    pub(super) requests: &'a mut Requests,
    pub(super) propagation: &'a mut Propagation,
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
            longest: Longest::default(),
        }
    }

    /// Services that carry traffic at the edge by now, if they rise.
    pub(super) fn raised(&self) -> Option<&BTreeSet<ServiceName>> {
        (!self.is_starting()).then_some(&self.up)
    }

    /// Services whose instances are on their way.
    pub(super) fn starting(&self) -> Option<&BTreeSet<ServiceName>> {
        self.is_starting().then_some(&self.up)
    }

    /// Whether it still waits for instances.
    pub(super) fn is_starting(&self) -> bool {
        matches!(self.stage, Stage::Starting(_))
    }

    /// The stage in words.
    pub fn sentence(&self) -> String {
        match &self.stage {
            Stage::Starting(_) => "waiting for instances".to_owned(),
            Stage::Raising(shift) if shift.is_short() => {
                format!("weight of the edge {} %, waiting for replicas", shift.share)
            }
            Stage::Raising(shift) | Stage::Lowering(shift) => format!("weight of the edge {} %", shift.share),
            Stage::Arriving(_) => "calls move by readiness, in one step".to_owned(),
            Stage::Scaling { .. } => "waiting for replicas in the cloud".to_owned(),
            Stage::Draining { .. } => {
                format!("draining, {:.0} s of quiet", self.longest.quiet().as_secs_f64())
            }
            Stage::Removing { .. } => "removing instances".to_owned(),
        }
    }

    /// Moves every deadline: the time `by` does not count.
    pub(super) fn postpone(&mut self, by: Duration) {
        let later = |at: &mut Timestamp| *at = at.after(by);
        match &mut self.stage {
            Stage::Starting(Start { since, .. }) | Stage::Scaling { since } | Stage::Removing { since } => {
                later(since);
            }
            Stage::Draining { since, last_seen } => {
                later(since);
                later(last_seen);
            }
            Stage::Raising(shift) | Stage::Arriving(shift) | Stage::Lowering(shift) => shift.postpone(by),
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
            Stage::Raising(shift) | Stage::Arriving(shift) | Stage::Lowering(shift) => {
                shift.since = now;
                Some(self)
            }
            Stage::Scaling { .. } => {
                self.stage = Stage::Lowering(Shift::new(0, BTreeSet::new(), now));
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
    pub(super) fn advance(mut self, turn: &mut Turn<'_>, plan: &mut Decision) -> Advance {
        self.longest.observe(turn.snapshot, &self.down);
        let by_readiness = turn.config.by_readiness();
        // More turns than any sequence has stages and steps.
        for _ in 0..16 {
            let next = match &mut self.stage {
                Stage::Starting(started) => start(&self.up, &self.down, self.pace, started, turn, plan),
                // Of a move that began by weights: there are none any more.
                Stage::Raising(_) | Stage::Lowering(_) | Stage::Draining { .. } if by_readiness => {
                    Next::Finished
                }
                Stage::Arriving(shift) => arrive(shift, turn, plan),
                Stage::Raising(shift) => raise(&self.up, self.pace, shift, turn, plan),
                Stage::Scaling { since } => scale(&self.down, *since, turn, plan),
                Stage::Lowering(shift) => lower(&self.down, self.pace, shift, turn, plan),
                Stage::Draining { since, last_seen } => {
                    let quiet = self.longest.quiet().max(turn.config.drained_after);
                    drain(&self.down, *since, last_seen, quiet, turn)
                }
                Stage::Removing { since } => remove(&self.down, *since, turn),
            };
            match next {
                Next::Again => {}
                Next::Stay => return Advance::Going(self),
                Next::Fail(cause) => return Advance::Failed(self, cause),
                Next::Finished => match self.following(turn, plan) {
                    Some(stage) => self.stage = stage,
                    None => return Advance::Done,
                },
            }
        }
        Advance::Going(self)
    }

    fn following(&self, turn: &Turn<'_>, plan: &mut Decision) -> Option<Stage> {
        let by_readiness = turn.config.by_readiness();
        // The way back by readiness is there once its instances are.
        let is_watched = self.pace == Pace::Ramp || !by_readiness;
        match &self.stage {
            Stage::Starting(start) if is_watched && !self.up.is_empty() => {
                plan.times.instances_ready.get_or_insert(turn.now);
                Some(if by_readiness {
                    Stage::Arriving(arrival(&self.up, start, turn, plan))
                } else {
                    Stage::Raising(self.first_rise(start, turn, plan))
                })
            }
            Stage::Starting(_) | Stage::Raising(_) | Stage::Arriving(_) if self.down.is_empty() => None,
            Stage::Starting(_) | Stage::Raising(_) | Stage::Arriving(_) => Some(match self.pace {
                Pace::Ramp => Stage::Scaling { since: turn.now },
                // To a state that was there before: the cloud had its replicas.
                Pace::AtOnce => self.fall(turn, plan),
            }),
            Stage::Scaling { .. } => Some(self.fall(turn, plan)),
            Stage::Lowering(_) if by_readiness => Some(Stage::Removing { since: turn.now }),
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
            Stage::Removing { .. } => {
                if by_readiness {
                    plan.times.weights_final = Some(turn.now);
                }
                None
            }
        }
    }

    /// What takes the calls from `down`: weights, or that it is removed.
    fn fall(&self, turn: &Turn<'_>, plan: &Decision) -> Stage {
        if turn.config.by_readiness() {
            Stage::Removing { since: turn.now }
        } else {
            Stage::Lowering(self.first_fall(turn, plan))
        }
    }

    fn first_rise(&self, start: &Start, turn: &Turn<'_>, plan: &Decision) -> Shift {
        let last = turn.config.final_weight(turn.edge);
        let frontier = start.frontier(&self.up);
        if self.pace == Pace::AtOnce {
            return Shift::new(last, frontier.clone(), turn.now);
        }
        let first = ramp::first_weight(turn.snapshot, turn.edge, frontier);
        let mut shift = Shift::new(first, frontier.clone(), turn.now);
        for share in [first, SECOND_STEP, last] {
            let routing = turn.with_shares(&self.up, last, &shift, share);
            let expected = turn.expect(share, turn.in_force, &routing, plan);
            shift.expected_us.extend(expected);
        }
        shift
    }

    fn first_fall(&self, turn: &Turn<'_>, plan: &Decision) -> Shift {
        let frontier = ramp::frontier(turn.snapshot, turn.edge, &self.down);
        if self.pace == Pace::AtOnce || frontier.is_empty() {
            return Shift::new(0, frontier, turn.now);
        }
        let mut shift = Shift::new(SECOND_STEP, frontier, turn.now);
        let routing = turn.with_shares(&self.down, 0, &shift, SECOND_STEP);
        let expected = turn.expect(SECOND_STEP, turn.in_force, &routing, plan);
        shift.expected_us.extend(expected);
        shift
    }
}

// === impl Turn ===

impl Turn<'_> {
    /// The routing in force with a step's shares: `share` for its frontier, `rest` for the other services.
    pub(super) fn with_shares(
        &self,
        services: &BTreeSet<ServiceName>,
        rest: u32,
        shift: &Shift,
        share: u32,
    ) -> RoutingPlan {
        let mut routing = self.in_force.clone();
        for service in services {
            let share = if shift.frontier.contains(service) {
                share
            } else {
                rest
            };
            routes::set(&mut routing, service, self.edge, &self.config.cloud, share);
        }
        routing
    }

    /// The routing in force with so much of the edge for these services.
    pub(super) fn with_share(&self, services: &BTreeSet<ServiceName>, share: u32) -> RoutingPlan {
        let mut routing = self.in_force.clone();
        for service in services {
            routes::set(&mut routing, service, self.edge, &self.config.cloud, share);
        }
        routing
    }

    /// The routing in force with the weights that a plan ends with.
    pub(super) fn at_end(&self, plan: &Decision) -> RoutingPlan {
        let mut routing = self.in_force.clone();
        let rest = self.config.resting_weight(self.edge);
        let shares = plan.add.iter().map(|service| (service, rest));
        for (service, share) in shares.chain(plan.remove.iter().map(|service| (service, 0))) {
            routes::set(&mut routing, service, self.edge, &self.config.cloud, share);
        }
        routing
    }

    /// The delay that a step from one routing to another should bring. Where the planner can't say: no worse than the
    /// worse end of the move.
    pub(super) fn expect(
        &self,
        share: u32,
        from: &RoutingPlan,
        to: &RoutingPlan,
        plan: &Decision,
    ) -> Option<(u32, f64)> {
        let planned = plan.planned.as_ref()?;
        // From what was measured when it was decided: while instances start, delays may be anything.
        let change_us = self.planner.change_us(
            self.edge,
            from,
            to,
            planned.delay.as_ref(),
            self.snapshot,
            self.cluster,
        );
        let worse_end = planned.measured_us.max(planned.predicted_us);
        Some((
            share,
            change_us.map_or(worse_end, |change| planned.measured_us + change),
        ))
    }
}

// === impl Longest ===

impl Longest {
    /// No request is expected to take longer than the longest did in the hour before: 10 s to 60 s, the longest that
    /// the filter measures; 5 minutes where one was longer.
    fn quiet(self) -> Duration {
        if self.long {
            return Duration::from_secs(300);
        }
        self.took.clamp(Duration::from_secs(10), Duration::from_secs(60))
    }

    fn observe(&mut self, snapshot: &Snapshot, services: &BTreeSet<ServiceName>) {
        let received = snapshot.received.iter();
        for received in received.filter(|received| services.contains(&received.service)) {
            self.took = self.took.max(Duration::from_micros(received.longest_us));
            self.long |= received.long_in_hour;
        }
    }
}
