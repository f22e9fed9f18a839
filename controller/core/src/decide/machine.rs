//! One edge's machine: what an evaluation makes of its phase.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::ops::ControlFlow;
use std::time::Duration;

use super::asking::Question;
use super::config::{Mode, Objective};
use super::evidence::{self, Reading};
use super::paths::{Compared, Paths};
use super::phase::{EdgeState, Phase, Refusal, Refused};
use super::plan::{After, Decision, Direction, Outcome, PlannedMove, Trigger};
use super::prediction::Correction;
use super::progress::{Advance, Pace, Progress, Turn};
use super::reason::{Cause, HoldReason};
use super::scaling::Autoscalers;
use super::{Effect, Ledger, readiness, routes, verify};
use crate::ids::{AreaName, ServiceName, Timestamp};
use crate::routing::SECOND_STEP;

/// Two instance failures closer than this are a failing edge, and offloads there back off.
const CRASHES_APART: Duration = Duration::from_secs(600);

/// One edge's evaluation.
pub(super) struct Machine<'a> {
    pub(super) turn: Turn<'a>,
    pub(super) objective: &'a Objective,
    pub(super) ledger: &'a mut Ledger,
    pub(super) autoscalers: &'a Autoscalers,
    /// Services that move at other edges, and where.
    pub(super) busy: &'a BTreeMap<ServiceName, AreaName>,
    pub(super) edge: &'a mut EdgeState,
}

/// What an evaluation makes of a phase: the next one, or a question to the planner on the way to it.
pub(super) type Next = ControlFlow<Box<Question>, Phase>;

// === impl Machine ===

impl Machine<'_> {
    /// Goes on with what the edge does; a question is answered by [`Machine::begin`].
    pub(super) fn evaluate(&mut self) -> Option<Question> {
        let phase = mem::take(&mut self.edge.phase);
        let heard = self.turn.snapshot.edges.get(self.turn.edge);
        // What a move did is read from what came after it.
        let at = match &phase {
            Phase::Verifying { since, .. } => *since,
            Phase::Relieving { step, .. } => step.in_force().unwrap_or_default(),
            _ => self.edge.changed(),
        };
        let alarm = phase.alarm().map(|alarm| alarm.since);
        let since = evidence::Since { at, alarm };
        let read = evidence::read(heard, self.turn.snapshot, self.objective, self.turn.config, since);
        self.edge.reading = read.as_ref().ok().copied();
        self.edge.unread = read.as_ref().err().cloned();
        let next = match evidence::silence(heard) {
            Some(reason) => Next::Continue(self.silent(phase, reason)),
            None => self.heard(phase, read),
        };
        match next {
            Next::Continue(phase) => {
                self.edge.phase = phase;
                None
            }
            Next::Break(question) => Some(*question),
        }
    }

    /// Silence alone writes nothing, and its time counts for no deadline.
    fn silent(&mut self, phase: Phase, reason: HoldReason) -> Phase {
        let now = self.turn.now;
        match phase {
            Phase::Acting { .. }
            | Phase::Verifying { .. }
            | Phase::Relieving { .. }
            | Phase::RollingBack { .. } => {
                self.edge.silent_since.get_or_insert(now);
                phase
            }
            Phase::CoolingDown { until } if now < until => phase,
            phase => phase.late(reason, now),
        }
    }

    fn heard(&mut self, mut phase: Phase, read: Result<Reading, HoldReason>) -> Next {
        let now = self.turn.now;
        if let Some(since) = self.edge.silent_since.take() {
            phase.postpone(now.since(since));
        }
        self.watch_loads(&phase, read.as_ref().ok());
        phase = match self.turn.config.mode {
            Mode::Enforce => self.restore(phase),
            Mode::Observe | Mode::Recommend => self.let_go(phase),
        };
        let is_blind = read.as_ref().is_err_and(HoldReason::is_blindness);
        Next::Continue(match phase {
            // Steps and effects are judged by what is heard. The way back needs no judgement.
            Phase::Acting { .. } | Phase::Verifying { .. } | Phase::Relieving { .. } if is_blind => {
                self.edge.silent_since = Some(now);
                phase
            }
            Phase::Acting { plan, progress } => self.act(plan, progress),
            Phase::Verifying { plan, since, until } => self.verify(plan, since, until, read),
            Phase::Relieving { plan, step } => self.relieving(plan, step, read),
            Phase::RollingBack {
                plan,
                cause,
                progress,
            } => self.roll_back(plan, cause, progress),
            Phase::CoolingDown { until } if now < until => phase,
            Phase::Observing | Phase::Alarmed { .. } | Phase::CoolingDown { .. } | Phase::Held { .. } => {
                return self.rest(phase, read);
            }
        })
    }

    /// Without the right to act a plan is left where it is: every state of it serves.
    fn let_go(&mut self, phase: Phase) -> Phase {
        match phase {
            Phase::Acting { plan, .. }
            | Phase::Verifying { plan, .. }
            | Phase::Relieving { plan, .. }
            | Phase::RollingBack { plan, .. } => {
                self.finish(plan, Outcome::Abandoned { cause: None });
                Phase::Observing
            }
            phase => phase,
        }
    }

    /// Takes weight from instances that can't serve, whatever the phase; and, at rest, takes back what no finished
    /// move explains.
    fn restore(&mut self, phase: Phase) -> Phase {
        let now = self.turn.now;
        // Where a whole edge is away, its callers are, too: there is nobody to take weight from, and all is as it was
        // when it is back.
        if self.turn.cluster.unavailable.contains_key(self.turn.edge) {
            return phase;
        }
        let broken = self.broken(&phase);
        for service in &broken {
            routes::set(
                self.turn.wanted,
                service,
                self.turn.edge,
                &self.turn.config.cloud,
                0,
            );
        }
        let hit = |services: &BTreeSet<ServiceName>| services.intersection(&broken).next().is_some();
        match phase {
            Phase::Acting { plan, progress } if progress.raised().is_some_and(hit) => {
                self.turn_back(plan, broken)
            }
            Phase::Verifying { plan, .. } if hit(&plan.add) => self.turn_back(plan, broken),
            Phase::RollingBack {
                plan,
                cause,
                mut progress,
            } => {
                progress.leave_out(&broken);
                Phase::RollingBack {
                    plan,
                    cause,
                    progress,
                }
            }
            Phase::Relieving { plan, step } if broken.contains(&step.service) => {
                let services = broken.clone();
                let cause = Some(Cause::InstanceFailed { services });
                self.finish(plan, Outcome::Abandoned { cause });
                self.restore(Phase::Observing)
            }
            Phase::Acting { .. } | Phase::Verifying { .. } | Phase::Relieving { .. } => phase,
            Phase::Observing | Phase::Alarmed { .. } | Phase::CoolingDown { .. } | Phase::Held { .. } => {
                // What the platform would not take away is not tried at each evaluation. Its weight is 0 above.
                let refused: BTreeSet<ServiceName> = self.failed_to_leave();
                let broken: BTreeSet<ServiceName> = broken.difference(&refused).cloned().collect();
                if !broken.is_empty() {
                    let apart = self.edge.last_crash.replace(now).map(|last| now.since(last));
                    if apart.is_some_and(|apart| apart < CRASHES_APART) {
                        self.blame(Direction::Offload, broken.iter().cloned());
                    }
                    return self.take_away(broken, Trigger::InstanceFailed);
                }
                self.settle_reliefs();
                let failing = self.seen_failing();
                if !failing.is_empty() {
                    self.blame(Direction::Offload, failing.iter().cloned());
                    return self.take_away(failing, Trigger::Failing);
                }
                let unfinished: BTreeSet<ServiceName> =
                    self.unfinished().difference(&refused).cloned().collect();
                if unfinished.is_empty() || self.turn.config.suspend {
                    phase
                } else {
                    self.take_away(unfinished, Trigger::Unfinished)
                }
            }
        }
    }

    fn failed_to_leave(&self) -> BTreeSet<ServiceName> {
        let failed = self.edge.backing_off(Direction::Unoffload, self.turn.now);
        failed.map(|(service, _)| service.clone()).collect()
    }

    fn blame(&mut self, direction: Direction, services: impl IntoIterator<Item = ServiceName>) {
        self.edge
            .blame(direction, services, self.turn.now, self.turn.config);
    }

    fn turn_back(&mut self, plan: Box<Decision>, services: BTreeSet<ServiceName>) -> Phase {
        let cause = Cause::InstanceFailed { services };
        let progress = self.way_back(&plan, &cause);
        Phase::RollingBack {
            plan,
            cause,
            progress,
        }
    }

    fn take_away(&mut self, services: BTreeSet<ServiceName>, trigger: Trigger) -> Phase {
        let plan = self.decide(trigger, BTreeSet::new(), services.clone(), None, None);
        let progress = Progress::new(BTreeSet::new(), services, Pace::AtOnce, self.turn.now);
        Phase::Acting { plan, progress }
    }

    /// Managed services with an instance at the edge.
    pub(super) fn placed(&self) -> BTreeSet<ServiceName> {
        let instances = &self.turn.cluster.instances;
        let at = |area: &AreaName| -> BTreeSet<ServiceName> {
            instances
                .iter()
                .filter(|i| i.area == *area)
                .map(|i| i.service.clone())
                .collect()
        };
        at(self.turn.edge)
            .intersection(&at(&self.turn.config.cloud))
            .cloned()
            .collect()
    }

    /// Services with weight at the edge and no Ready instance there.
    fn broken(&self, phase: &Phase) -> BTreeSet<ServiceName> {
        if self.turn.config.by_readiness() {
            return readiness::broken(phase, self.placed(), &self.turn);
        }
        let Turn {
            edge,
            cluster,
            wanted,
            ..
        } = &self.turn;
        let is_broken =
            |s: &&ServiceName| routes::share(wanted, s, edge) > 0 && !routes::is_ready(cluster, s, edge);
        wanted.0.keys().filter(is_broken).cloned().collect()
    }

    /// Services with an instance at the edge and less than a finished move's weight. What an overload took leaves some.
    fn unfinished(&self) -> BTreeSet<ServiceName> {
        let share = |s: &ServiceName| routes::share(self.turn.in_force, s, self.turn.edge);
        let is_relieved = |s: &ServiceName| self.edge.loads.relief(s).is_some();
        let is_unfinished = |s: &ServiceName| share(s) == 0 || share(s) <= SECOND_STEP && !is_relieved(s);
        self.placed().into_iter().filter(is_unfinished).collect()
    }

    /// Opens a decision and says so.
    pub(super) fn decide(
        &mut self,
        trigger: Trigger,
        add: BTreeSet<ServiceName>,
        remove: BTreeSet<ServiceName>,
        planned: Option<(PlannedMove, Correction)>,
        alarm: Option<Timestamp>,
    ) -> Box<Decision> {
        let mut plan = self
            .ledger
            .decision(self.turn.edge, self.turn.now, trigger, add, remove);
        (plan.planned, plan.correction) = planned.unzip();
        plan.times.alarm = alarm;
        let plan = Box::new(plan);
        // Refusals are about the plan under way.
        self.edge.refusal = None;
        self.turn.effects.push(Effect::Record {
            decision: plan.clone(),
        });
        plan
    }

    pub(super) fn act(&mut self, mut plan: Box<Decision>, progress: Progress) -> Phase {
        let now = self.turn.now;
        if let Some(refusal) = self.edge.refusal.take() {
            return self.refused(plan, refusal);
        }
        match progress.advance(&mut self.turn, &mut plan) {
            Advance::Going(progress) => Phase::Acting { plan, progress },
            Advance::Done => self.done(plan, now),
            Advance::Failed(_, cause) => self.failed(plan, cause),
        }
    }

    /// All effects show.
    fn done(&mut self, plan: Box<Decision>, now: Timestamp) -> Phase {
        if plan.direction().is_some() {
            let until = now.after(self.turn.config.verify_most);
            return Phase::Verifying {
                plan,
                since: now,
                until,
            };
        }
        // What should have left and is still there is not tried again at once.
        let left: BTreeSet<ServiceName> = self.placed().intersection(&plan.remove).cloned().collect();
        self.blame(Direction::Unoffload, left);
        self.finish(plan, Outcome::Kept);
        self.cool_down()
    }

    fn failed(&mut self, plan: Box<Decision>, cause: Cause) -> Phase {
        if plan.direction().is_some() {
            return self.go_back(plan, cause);
        }
        self.blame(Direction::Unoffload, plan.remove.iter().cloned());
        self.finish(plan, Outcome::Abandoned { cause: Some(cause) });
        self.cool_down()
    }

    /// What the platform will never do ends the plan. An instance that it doesn't remove carries no traffic by then:
    /// the move is judged without it.
    fn refused(&mut self, plan: Box<Decision>, refusal: Refusal) -> Phase {
        let Refusal { of, message } = refusal;
        match of {
            // By readiness it has its calls as long as it is there.
            Refused::Removal { service } if self.turn.config.by_readiness() => {
                let services = BTreeSet::from([service]);
                self.failed(plan, Cause::Refused { message, services })
            }
            Refused::Removal { service } => {
                self.blame(Direction::Unoffload, [service]);
                self.done(plan, self.turn.now)
            }
            Refused::Instance { service } => {
                let services = BTreeSet::from([service]);
                self.failed(plan, Cause::Refused { message, services })
            }
            Refused::Weights => {
                let services = BTreeSet::new();
                self.failed(plan, Cause::Refused { message, services })
            }
        }
    }

    fn verify(
        &mut self,
        mut plan: Box<Decision>,
        since: Timestamp,
        until: Timestamp,
        read: Result<Reading, HoldReason>,
    ) -> Phase {
        let now = self.turn.now;
        let paths = self.both_ways(&plan, since);
        if now.since(since) < self.turn.config.verify_least {
            return Phase::Verifying { plan, since, until };
        }
        // Only a window that lies wholly after the last change says something about it.
        let read = read.and_then(|r| {
            if r.from >= since {
                Ok(r)
            } else {
                Err(HoldReason::NoInterval)
            }
        });
        let verdict = verify::judge(&plan, &read, paths, now >= until);
        if verdict != verify::Verdict::Wait {
            plan.times.verified = Some(now);
            let after = read.ok().map(|read| self.all_since(since, read));
            self.learn(&plan, after.as_ref());
            plan.after = after.zip(plan.planned.as_ref()).map(|(reading, planned)| After {
                reading,
                prediction_error_us: reading.value_us - planned.predicted_us,
                change_us: reading.value_us - planned.measured_us,
            });
        }
        let after = plan.after.map(|after| after.reading);
        let is_pointless = after.is_some_and(|after| verify::is_pointless(&plan, &after));
        let given_up = plan.direction().filter(|_| is_pointless);
        let given_up = given_up.map(|direction| (direction, plan.remove.clone()));
        match verdict {
            verify::Verdict::Wait => return Phase::Verifying { plan, since, until },
            verify::Verdict::Failed(cause) => return self.go_back(plan, cause),
            verify::Verdict::Kept => {
                if let Some(direction) = plan.direction() {
                    let (left, regretted) = (self.placed(), self.edge.regretted(&plan.add));
                    let gone = plan.remove.difference(&left);
                    self.edge.absolve(direction, plan.add.iter().chain(gone));
                    self.blame(Direction::Unoffload, regretted);
                }
                self.finish(plan, Outcome::Kept);
            }
            verify::Verdict::Unknown => self.finish(plan, Outcome::Unverified),
        }
        if let Some((direction, given_up)) = given_up {
            let Turn { now, config, .. } = self.turn;
            self.edge.bar(direction, &given_up, now, config);
        }
        self.cool_down()
    }

    /// A reading is the shortest window that decides; what a move did is known best from all that came after it.
    pub(super) fn all_since(&self, since: Timestamp, read: Reading) -> Reading {
        let heard = self.turn.snapshot.edges.get(self.turn.edge);
        evidence::whole(heard, self.objective, self.turn.config.alpha, since).unwrap_or(read)
    }

    /// Compares both ways to what an offload moved, since its last weights are in force.
    fn both_ways(&mut self, plan: &Decision, since: Timestamp) -> Compared {
        if plan.direction() != Some(Direction::Offload) || !plan.remove.is_empty() {
            return Compared::Unknown;
        }
        let Turn {
            edge,
            snapshot,
            config,
            ..
        } = &self.turn;
        let paths = self.edge.paths.take().filter(|paths| paths.since == since);
        let mut paths = paths.unwrap_or_else(|| Paths::new(since));
        paths.count(snapshot, edge, &config.cloud, &plan.add);
        self.edge.paths.insert(paths).compare()
    }

    /// The error of a prediction, whatever became of the move.
    fn learn(&mut self, plan: &Decision, after: Option<&Reading>) {
        self.edge.paths = None;
        if let (Some(direction), Some(after)) = (plan.direction(), after) {
            let errors = self.edge.prediction.entry(direction).or_default();
            errors.record(plan, after.value_us, self.turn.now);
        }
    }

    /// In reverse: what was removed comes back, then what was added goes.
    fn go_back(&mut self, plan: Box<Decision>, cause: Cause) -> Phase {
        let progress = self.way_back(&plan, &cause);
        self.roll_back(plan, cause, progress)
    }

    /// The failed move is remembered: by the services that are to blame, if the cause names some, else by all.
    fn way_back(&mut self, plan: &Decision, cause: &Cause) -> Progress {
        if let Some(direction) = plan.direction() {
            let moved: BTreeSet<ServiceName> = plan.add.union(&plan.remove).cloned().collect();
            let mut guilty: BTreeSet<ServiceName> = cause.services().intersection(&moved).cloned().collect();
            if guilty.is_empty() {
                guilty = moved;
            }
            self.blame(direction, guilty);
        }
        Progress::new(plan.remove.clone(), plan.add.clone(), Pace::AtOnce, self.turn.now)
    }

    fn roll_back(&mut self, plan: Box<Decision>, cause: Cause, progress: Progress) -> Phase {
        // The record's times are those of the way there.
        let mut back = (*plan).clone();
        let progress = match progress.advance(&mut self.turn, &mut back) {
            Advance::Going(progress) => Some(progress),
            Advance::Failed(progress, _) => progress.skip(self.turn.now),
            Advance::Done => None,
        };
        match progress {
            Some(progress) => Phase::RollingBack {
                plan,
                cause,
                progress,
            },
            None => {
                self.finish(plan, Outcome::RolledBack { cause });
                self.cool_down()
            }
        }
    }

    pub(super) fn cool_down(&self) -> Phase {
        Phase::CoolingDown {
            until: self.turn.now.after(self.turn.config.cool_down),
        }
    }

    /// Closes a decision.
    pub(super) fn finish(&mut self, mut plan: Box<Decision>, outcome: Outcome) {
        plan.times.finished = Some(self.turn.now);
        plan.outcome = outcome;
        self.edge.refusal = None;
        self.turn.effects.push(Effect::Record {
            decision: plan.clone(),
        });
        self.edge.remember(*plan);
    }
}
