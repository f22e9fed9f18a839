//! An edge at rest: is the delay outside the band for long enough, and is there a move that may be made?

use std::collections::{BTreeMap, BTreeSet};

use super::config::Mode;
use super::evidence::{Position, Reading};
use super::machine::{Machine, Next};
use super::phase::{Alarm, Phase};
use super::plan::{Ask, Direction, Outcome, PlannedMove, Trigger};
use super::progress::{Pace, Progress};
use super::reason::{Covered, HoldReason, NoPlan};
use super::routes;
use super::visits::Visits;
use crate::ids::{AreaName, ServiceName};

/// What an edge wants to know of the planner, and why.
pub(super) struct Question {
    pub(super) ask: Ask,
    /// Goes on from here if there is no plan.
    was: Phase,
    alarm: Alarm,
    reading: Reading,
    /// Where to, if nothing lies as near as the ask.
    wide_us: Option<f64>,
}

/// What the planner said and the machine may rely on.
pub(super) type Answer = Result<PlannedMove, NoPlan>;

impl Question {
    /// Asks for a larger change. False where that was asked already.
    pub(super) fn widen(&mut self) -> bool {
        let wide = self.wide_us.take();
        self.ask.target_us = wide.unwrap_or(self.ask.target_us);
        wide.is_some()
    }
}

impl Machine<'_> {
    /// Observing, alarmed, held, or a question.
    pub(super) fn rest(&mut self, phase: Phase, read: Result<Reading, HoldReason>) -> Next {
        let now = self.turn.now;
        let alarm = match &read {
            Ok(reading) => self.alarm(&phase, reading),
            Err(_) => None,
        };
        if self.turn.config.suspend {
            return Next::Continue(phase.held(HoldReason::Suspended, alarm, now));
        }
        let (reading, alarm) = match (read, alarm) {
            (Err(reason), _) => return Next::Continue(phase.held(reason, None, now)),
            (Ok(_), None) => {
                self.edge.scaling_since = None;
                return Next::Continue(Phase::Observing);
            }
            (Ok(reading), Some(alarm)) => (reading, alarm),
        };
        // A window that began before the change mixes two delays and two round trips: nothing is predicted from it.
        let settled = reading.from >= alarm.since;
        let many = alarm.seen >= self.turn.config.consecutive;
        if !settled || !many || self.turn.config.mode == Mode::Observe {
            return Next::Continue(Phase::Alarmed { alarm });
        }
        if let Some(reason) = self.obstacle() {
            return Next::Continue(phase.held(reason, Some(alarm), now));
        }
        let asked = alarm.asked.map(|asked| now.since(asked));
        if asked.is_some_and(|since| since < self.turn.config.ask_again) {
            return Next::Continue(match phase {
                Phase::Held { reason, since, .. } => Phase::Held {
                    reason,
                    since,
                    alarm: Some(alarm),
                },
                _ => Phase::Alarmed { alarm },
            });
        }
        Next::Break(Box::new(self.question(phase, alarm, reading)))
    }

    /// The alarm of this reading; none in the band, and none below it with nothing at the edge to take away.
    fn alarm(&self, phase: &Phase, reading: &Reading) -> Option<Alarm> {
        let band = self.objective.band;
        let direction = if reading.value_us > band.offload_above_us() {
            Direction::Offload
        } else if reading.value_us < band.unoffload_below_us() && !self.placed().is_empty() {
            Direction::Unoffload
        } else {
            return None;
        };
        // The alarm dates from the first value outside; it counts where the whole interval is.
        let certain = reading.position != Position::Inside;
        let before = match phase {
            Phase::Alarmed { alarm } => Some(*alarm),
            Phase::Held { alarm, .. } => *alarm,
            Phase::Observing
            | Phase::Acting { .. }
            | Phase::Verifying { .. }
            | Phase::RollingBack { .. }
            | Phase::CoolingDown { .. } => None,
        };
        Some(match before {
            Some(alarm) if alarm.direction == direction => Alarm {
                seen: if certain { alarm.seen.saturating_add(1) } else { 0 },
                ..alarm
            },
            _ => Alarm {
                direction,
                since: self.turn.now,
                seen: u32::from(certain),
                asked: None,
            },
        })
    }

    /// Why no move is planned now, whichever it would be.
    fn obstacle(&mut self) -> Option<HoldReason> {
        let config = self.turn.config;
        if let Some(why) = self.turn.cluster.unavailable.get(self.turn.edge) {
            return Some(HoldReason::EdgeUnavailable { why: why.clone() });
        }
        let visits = Visits::of(self.turn.snapshot, self.turn.edge);
        let share = visits.coverage().share();
        if share < config.service_coverage {
            return Some(HoldReason::LowCoverage {
                of: Covered::UsersPath,
                share,
                needed: config.service_coverage,
            });
        }
        self.autoscaling(&visits).or_else(|| self.moves_spent())
    }

    /// An autoscaler at work may bring the delay back by itself. One that never rests is not waited for for ever.
    fn autoscaling(&mut self, visits: &Visits<'_>) -> Option<HoldReason> {
        let (config, now) = (self.turn.config, self.turn.now);
        let at_work = self.autoscalers.at_work(config.autoscaler_quiet, now);
        let found = at_work
            .map(|(at, wants)| (visits.share(&at), at, wants))
            .find(|(share, ..)| *share >= config.autoscaler_share);
        let Some((share, (service, area), wants)) = found else {
            self.edge.scaling_since = None;
            return None;
        };
        let since = *self.edge.scaling_since.get_or_insert(now);
        (now.since(since) < config.autoscaler_patience).then_some(HoldReason::Autoscaling {
            service,
            area,
            wants,
            share,
        })
    }

    fn moves_spent(&mut self) -> Option<HoldReason> {
        let per_hour = self.turn.config.moves_per_hour;
        let spent = self.ledger.moves_within_hour(self.turn.now) >= per_hour;
        spent.then_some(HoldReason::MovesSpent { per_hour })
    }

    /// One move changes the delay by a bounded share of the larger one: where the band is further away it takes
    /// several. If no placement lies so near, an unoffload may go up to the target, which is in the band.
    fn question(&self, was: Phase, alarm: Alarm, reading: Reading) -> Question {
        let least = 1.0 - self.turn.config.most_change;
        let target_us = self.objective.band.target_us();
        let direction = alarm.direction;
        let bounded_us = match direction {
            Direction::Offload => target_us.max(reading.value_us * least),
            Direction::Unoffload => target_us.min(reading.value_us / least),
        };
        let wide_us = (direction == Direction::Unoffload && bounded_us < target_us).then_some(target_us);
        let failed = self.edge.backing_off(direction, self.turn.now);
        let fixed = failed
            .map(|(service, _)| service)
            .chain(self.turn.cluster.unroutable.keys());
        Question {
            ask: Ask {
                edge: self.turn.edge.clone(),
                direction,
                target_us: bounded_us,
                fixed: fixed.cloned().collect(),
            },
            was,
            alarm,
            reading,
            wide_us,
        }
    }

    /// Begins the move, or is held.
    pub(super) fn begin(
        &mut self,
        question: Question,
        answer: Answer,
        busy: &BTreeMap<ServiceName, AreaName>,
    ) {
        let now = self.turn.now;
        let alarm = Alarm {
            asked: Some(now),
            ..question.alarm
        };
        let begun = self.may_begin(&question, answer, busy);
        self.edge.phase = match begun {
            Ok(planned) => self.start(&question, planned),
            Err(reason) => question.was.held(reason, Some(alarm), now),
        };
    }

    fn may_begin(
        &mut self,
        question: &Question,
        answer: Answer,
        busy: &BTreeMap<ServiceName, AreaName>,
    ) -> Result<PlannedMove, HoldReason> {
        let planned = answer.map_err(|why| self.no_plan(why, &question.ask))?;
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
            self.recommend(question, planned);
            return Err(HoldReason::Recommending);
        }
        Ok(planned)
    }

    fn start(&mut self, question: &Question, planned: PlannedMove) -> Phase {
        let now = self.turn.now;
        self.ledger.moves.push_back(now);
        self.edge.scaling_since = None;
        let (add, remove) = (planned.add.clone(), planned.remove.clone());
        let plan = self.decide(
            self.trigger(question),
            add.clone(),
            remove.clone(),
            Some(planned),
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
            target_us: question.ask.target_us,
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
            // An unoffload that leaves the band at the other side would be undone at once.
            Direction::Unoffload if planned.predicted_us > offload_above_us => {
                refuse("it would leave the delay above the band")
            }
            Direction::Offload | Direction::Unoffload => Ok(planned),
        }
    }

    /// Says it once for each alarm and answer.
    fn recommend(&mut self, question: &Question, planned: PlannedMove) {
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
            plan.planned = Some(planned);
            plan.times.alarm = Some(question.alarm.since);
            self.finish(Box::new(plan), Outcome::Recommended);
        }
    }
}
