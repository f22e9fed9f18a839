//! From an alarm that counts to a plan: what the planner is asked, which answers may be relied on, and which may begin.

use std::collections::{BTreeMap, BTreeSet};

use super::config::{Band, Mode};
use super::evidence::Reading;
use super::machine::Machine;
use super::phase::{Alarm, Phase, Planless};
use super::plan::{Ask, Direction, Outcome, PlannedMove, Trigger};
use super::prediction::{Correction, PredictionErrors};
use super::progress::{Pace, Progress};
use super::reason::{HoldReason, NoPlan};
use super::routes;
use super::visits::Visits;
use crate::ids::{AreaName, ServiceName};

/// What an edge wants to know of the planner, and why.
#[derive(Clone)]
pub(super) struct Question {
    pub(super) ask: Ask,
    /// Goes on from here if there is no plan.
    was: Phase,
    alarm: Alarm,
    reading: Reading,
    /// What the delay shall come to, microseconds. The planner does not know its bias, so it is asked for what will come
    /// to that.
    target_us: f64,
    /// The middle of the band, where one move goes less far.
    whole_us: Option<f64>,
    /// What runs at the edge and stays, although it could move: the next step might bring it back.
    stays: BTreeSet<ServiceName>,
    errors: PredictionErrors,
}

/// What the planner said and the machine may rely on.
pub(super) type Answer = Result<(PlannedMove, Correction), NoPlan>;

// === impl Question ===

impl Question {
    fn aim(mut self, target_us: f64) -> Self {
        let bias_us = self.errors.correction(self.reading.value_us, target_us).bias_us;
        (self.target_us, self.ask.target_us) = (target_us, target_us - bias_us);
        self
    }

    /// What is asked where that has no answer: of an unoffload more at once, of an offload an exchange; none where that was
    /// asked already.
    pub(super) fn wider(&self) -> Option<Self> {
        match self.ask.direction {
            Direction::Unoffload => self.whole(),
            Direction::Offload => (!self.stays.is_empty()).then(|| self.clone().with_exchange()),
        }
    }

    fn with_exchange(mut self) -> Self {
        let stays = std::mem::take(&mut self.stays);
        self.ask.fixed.retain(|service| !stays.contains(service));
        self
    }

    /// Whether the band can be reached at all: what is asked of an offload that ends above it. A first step to nowhere would
    /// be made or not as the delay's noise has it, because half of the delay is no bound that means anything to users.
    pub(super) fn beyond(&self, answer: &Answer, band: Band) -> Option<Self> {
        let ends_above = answer
            .as_ref()
            .is_ok_and(|(planned, _)| planned.predicted_us > band.offload_above_us());
        self.whole()
            .filter(|_| ends_above && self.ask.direction == Direction::Offload)
    }

    fn whole(&self) -> Option<Self> {
        let target_us = self.whole_us?;
        let whole_us = None;
        Some(
            Self {
                whole_us,
                ..self.clone()
            }
            .with_exchange()
            .aim(target_us),
        )
    }
}

// === impl Machine ===

impl Machine<'_> {
    /// One move changes the delay by a bounded share of the larger one: where the band is further away it takes
    /// several. If no placement lies so near, an unoffload may go up to the target, which is in the band. An offload of
    /// several takes nothing away before the last, unless it can't do without.
    pub(super) fn question(&self, was: Phase, alarm: Alarm, reading: Reading) -> Question {
        let least = 1.0 - self.turn.config.most_change;
        let target_us = self.objective.band.target_us();
        let direction = alarm.direction;
        let bounded_us = match direction {
            Direction::Offload => target_us.max(reading.value_us * least),
            Direction::Unoffload => target_us.min(reading.value_us / least),
        };
        let whole_us = (bounded_us.total_cmp(&target_us).is_ne()).then_some(target_us);
        let failed = self.edge.backing_off(direction, self.turn.now);
        let fixed = failed
            .map(|(service, _)| service)
            .chain(self.turn.cluster.unroutable.keys());
        let fixed: BTreeSet<_> = fixed.cloned().collect();
        let stays = match direction {
            Direction::Offload if whole_us.is_some() => &self.placed() - &fixed,
            Direction::Offload | Direction::Unoffload => BTreeSet::new(),
        };
        Question {
            ask: Ask {
                edge: self.turn.edge.clone(),
                direction,
                target_us: bounded_us,
                fixed: &fixed | &stays,
            },
            was,
            alarm,
            reading,
            target_us: bounded_us,
            whole_us,
            stays,
            errors: self.edge.prediction.get(&direction).copied().unwrap_or_default(),
        }
        .aim(bounded_us)
    }

    /// Begins the move, or is held.
    pub(super) fn begin(
        &mut self,
        question: Question,
        answer: Answer,
        busy: &BTreeMap<ServiceName, AreaName>,
    ) {
        let now = self.turn.now;
        let begun = self.may_begin(&question, answer, busy);
        self.edge.phase = match begun {
            Ok((planned, correction)) => self.start(&question, planned, correction),
            Err(reason) => {
                let before = question.alarm.planless;
                let alarm = Alarm {
                    asked: Some(now),
                    planless: reason
                        .is_planless()
                        .then(|| Planless::again(before, &question.reading, now)),
                    ..question.alarm
                };
                question.was.held(reason, Some(alarm), now)
            }
        };
    }

    fn may_begin(
        &mut self,
        question: &Question,
        answer: Answer,
        busy: &BTreeMap<ServiceName, AreaName>,
    ) -> Result<(PlannedMove, Correction), HoldReason> {
        let (planned, correction) = answer.map_err(|why| self.no_plan(why, &question.ask))?;
        let moved = || planned.add.iter().chain(&planned.remove);
        let fixed: BTreeSet<_> = moved().filter(|s| question.ask.fixed.contains(*s)).collect();
        if let Some(reason) = self.stands_in_the_way(&fixed, question.ask.direction) {
            return Err(reason);
        }
        for service in moved() {
            if let Some(edge) = busy.get(service) {
                return Err(HoldReason::ServiceBusy {
                    service: service.clone(),
                    edge: edge.clone(),
                });
            }
        }
        // Another edge may just have used up the last one.
        if let Some(reason) = self.moves_spent() {
            return Err(reason);
        }
        if self.turn.config.mode != Mode::Enforce {
            self.recommend(question, planned, correction);
            return Err(HoldReason::Recommending);
        }
        Ok((planned, correction))
    }

    fn start(&mut self, question: &Question, planned: PlannedMove, correction: Correction) -> Phase {
        let now = self.turn.now;
        self.ledger.moves.push_back(now);
        self.edge.scaling_since = None;
        if question.ask.direction == Direction::Offload {
            // What it brings to the edge can be taken away again, but for what was wrong to take away.
            let regretted = self.edge.regretted(&planned.add);
            let others = planned.add.difference(&regretted);
            self.edge.absolve(Direction::Unoffload, others);
        }
        let (add, remove) = (planned.add.clone(), planned.remove.clone());
        let plan = self.decide(
            self.trigger(question),
            add.clone(),
            remove.clone(),
            Some((planned, correction)),
            Some(question.alarm.since),
        );
        self.act(plan, Progress::new(add, remove, Pace::Ramp, now))
    }

    fn trigger(&self, question: &Question) -> Trigger {
        let band = self.objective.band;
        Trigger::Band {
            direction: question.alarm.direction,
            reading: question.reading,
            statistic: self.objective.statistic,
            offload_above_us: band.offload_above_us(),
            unoffload_below_us: band.unoffload_below_us(),
            target_us: question.target_us,
        }
    }

    /// Without a plan around what can't move, that is the reason.
    fn no_plan(&self, why: NoPlan, ask: &Ask) -> HoldReason {
        let visits = Visits::of(self.turn.snapshot, self.turn.edge);
        let on_path: BTreeSet<_> = ask.fixed.iter().filter(|s| visits.reaches(s)).collect();
        let around = match why {
            NoPlan::NoBetterPlacement
            | NoPlan::Capacity { .. }
            | NoPlan::Pins { .. }
            | NoPlan::TargetBelowLeak { .. } => self.stands_in_the_way(&on_path, ask.direction),
            NoPlan::NotEnoughData { .. } | NoPlan::Unsuitable { .. } => None,
        };
        around.unwrap_or(HoldReason::NoPlan { why })
    }

    /// Why one of these services can't move.
    fn stands_in_the_way(
        &self,
        services: &BTreeSet<&ServiceName>,
        direction: Direction,
    ) -> Option<HoldReason> {
        let unroutable = &self.turn.cluster.unroutable;
        let rule = services
            .iter()
            .find_map(|service| unroutable.get(*service).map(|why| (*service, why)));
        if let Some((service, why)) = rule {
            return Some(HoldReason::unroutable(service.clone(), why));
        }
        let failed = self.edge.backing_off(direction, self.turn.now);
        let failed: Vec<_> = failed.filter(|(service, _)| services.contains(service)).collect();
        let until = failed.iter().map(|(_, until)| *until).min()?;
        Some(HoldReason::BackingOff {
            until,
            services: failed.into_iter().map(|(service, _)| service.clone()).collect(),
        })
    }

    /// What the machine relies on, whoever planned.
    pub(super) fn check(&self, planned: PlannedMove, question: &Question) -> Answer {
        let (planned, correction) = question.errors.correct(planned);
        let direction = question.ask.direction;
        let offload_above_us = self.objective.band.offload_above_us();
        let refuse = |what: &str| {
            Err(NoPlan::Unsuitable {
                what: what.to_owned(),
            })
        };
        let placed = self.placed();
        let in_cloud = |s: &ServiceName| routes::is_ready(self.turn.cluster, s, &self.turn.config.cloud);
        let figures = [
            planned.measured_us,
            planned.predicted_us,
            planned.cost_before,
            planned.cost_after,
        ];
        if planned.add.is_empty() && planned.remove.is_empty() {
            return Err(NoPlan::NoBetterPlacement);
        }
        if !figures.into_iter().all(f64::is_finite) {
            return refuse("a figure is not finite");
        }
        if !planned.add.is_disjoint(&placed) || !planned.remove.is_subset(&placed) {
            return refuse("it adds what is at the edge or removes what is not");
        }
        if !planned.add.iter().chain(&planned.remove).all(in_cloud) {
            return refuse("a service of it is not ready in the cloud");
        }
        match direction {
            Direction::Offload if planned.predicted_us >= planned.measured_us => {
                refuse("it does not lower the delay")
            }
            // Cheaper, perhaps, and no unoffload: below the band services are brought only in exchange for others,
            Direction::Unoffload if planned.remove.is_empty() => refuse("it takes no service from the edge"),
            // and only for what comes nearer to it. Where noise decides whether it does, it would decide the way back, too.
            Direction::Unoffload
                if !planned.add.is_empty()
                    && planned.predicted_us - correction.margin_us() <= planned.measured_us =>
            {
                refuse("it brings services to the edge and does not surely raise the delay")
            }
            // An unoffload that leaves the band at the other side would be undone at once.
            Direction::Unoffload if planned.predicted_us > offload_above_us => {
                refuse("it would leave the delay above the band")
            }
            Direction::Unoffload if planned.predicted_us + correction.margin_us() > offload_above_us => {
                refuse("with the error of its prediction it may leave the delay above the band")
            }
            Direction::Offload | Direction::Unoffload => Ok((planned, correction)),
        }
    }

    /// Says it once for each alarm and answer.
    fn recommend(&mut self, question: &Question, planned: PlannedMove, correction: Correction) {
        let said = self.edge.decisions.back().is_some_and(|last| {
            last.outcome == Outcome::Recommended
                && last.times.alarm == Some(question.alarm.since)
                && last.add == planned.add
                && last.remove == planned.remove
        });
        if !said {
            let (add, remove) = (planned.add.clone(), planned.remove.clone());
            let trigger = self.trigger(question);
            let mut plan = self
                .ledger
                .decision(self.turn.edge, self.turn.now, trigger, add, remove);
            (plan.planned, plan.correction) = (Some(planned), Some(correction));
            plan.times.alarm = Some(question.alarm.since);
            self.finish(Box::new(plan), Outcome::Recommended);
        }
    }
}
