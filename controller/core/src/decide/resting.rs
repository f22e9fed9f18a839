//! An edge at rest: is the delay outside the band for long enough, and is there a move that may be made?

use super::config::Mode;
use super::evidence::{Position, Reading};
use super::machine::Machine;
use super::phase::{Alarm, Phase};
use super::plan::{Direction, Outcome, PlannedMove, Trigger};
use super::prediction::Correction;
use super::progress::{Pace, Progress, Turn};
use super::reason::{HoldReason, NoPlan};
use super::routes;
use crate::ids::{ServiceName, Timestamp};

impl Machine<'_> {
    /// Observing, alarmed, held, or on to a plan.
    pub(super) fn rest(&mut self, phase: Phase, read: Result<Reading, HoldReason>) -> Phase {
        let now = self.turn.now;
        let reading = match read {
            Ok(reading) => reading,
            Err(reason) => return phase.held(reason, None, now),
        };
        if let Some(relieving) = self.give_back(reading) {
            return relieving;
        }
        let band = self.objective.band;
        let direction = if reading.value_us > band.offload_above_us() {
            Direction::Offload
        } else if reading.value_us < band.unoffload_below_us() && !self.placed().is_empty() {
            Direction::Unoffload
        } else {
            // Below the band with nothing at the edge, there is nothing to take away.
            return Phase::Observing;
        };
        // The alarm dates from the first value outside; it counts where the whole interval is.
        let certain = reading.position != Position::Inside;
        let before = match &phase {
            Phase::Alarmed { alarm } => Some(*alarm),
            Phase::Held { alarm, .. } => *alarm,
            Phase::Observing
            | Phase::Acting { .. }
            | Phase::Verifying { .. }
            | Phase::Relieving { .. }
            | Phase::RollingBack { .. }
            | Phase::CoolingDown { .. } => None,
        };
        let alarm = match before {
            Some(alarm) if alarm.direction == direction => Alarm {
                seen: if certain { alarm.seen.saturating_add(1) } else { 0 },
                ..alarm
            },
            _ => Alarm {
                direction,
                since: now,
                seen: u32::from(certain),
                asked: None,
            },
        };
        // A window that began before the change mixes two delays and two round trips: nothing is predicted from it.
        let settled = reading.from >= alarm.since;
        let many = alarm.seen >= self.turn.config.consecutive;
        if !settled || !many || self.turn.config.mode == Mode::Observe {
            return Phase::Alarmed { alarm };
        }
        if direction == Direction::Offload
            && let Some(relieving) = self.relieve(alarm, reading)
        {
            return relieving;
        }
        if alarm
            .asked
            .is_some_and(|asked| now.since(asked) < self.turn.config.ask_again)
        {
            return match phase {
                Phase::Held { reason, since, .. } => Phase::Held {
                    reason,
                    since,
                    alarm: Some(alarm),
                },
                _ => Phase::Alarmed { alarm },
            };
        }
        match self.plan(alarm, reading) {
            Ok(acting) => acting,
            Err(reason) => phase.held(
                reason,
                Some(Alarm {
                    asked: Some(now),
                    ..alarm
                }),
                now,
            ),
        }
    }

    /// Asks the planner and begins, if all allow it.
    fn plan(&mut self, alarm: Alarm, reading: Reading) -> Result<Phase, HoldReason> {
        let Turn { config, now, .. } = self.turn;
        let until = self
            .edge
            .failures
            .get(&alarm.direction)
            .map(|failures| failures.until);
        if let Some(until) = until.filter(|until| now < *until) {
            return Err(HoldReason::BackingOff { until });
        }
        if self.ledger.moves_within_hour(now) >= config.moves_per_hour {
            return Err(HoldReason::MovesSpent {
                per_hour: config.moves_per_hour,
            });
        }
        if alarm.direction == Direction::Offload
            && let Some(relieved) = self.relieved()
        {
            return Err(relieved);
        }
        let band = self.objective.band;
        let (target_us, planned) = self.ask(alarm.direction, reading.value_us);
        let (planned, correction) = planned.map_err(|why| HoldReason::NoPlan { why })?;
        for service in planned.add.iter().chain(&planned.remove) {
            if let Some(edge) = self.busy.get(service) {
                return Err(HoldReason::ServiceBusy {
                    service: service.clone(),
                    edge: edge.clone(),
                });
            }
        }
        let trigger = Trigger::Band {
            direction: alarm.direction,
            reading,
            statistic: self.objective.statistic,
            offload_above_us: band.offload_above_us(),
            unoffload_below_us: band.unoffload_below_us(),
            target_us,
        };
        if config.mode != Mode::Enforce {
            self.recommend(trigger, alarm.since, planned, correction);
            return Err(HoldReason::Recommending);
        }
        self.ledger.moves.push_back(now);
        let (add, remove) = (planned.add.clone(), planned.remove.clone());
        let plan = self.decide(
            trigger,
            add.clone(),
            remove.clone(),
            Some((planned, correction)),
            Some(alarm.since),
        );
        Ok(self.act(plan, Progress::new(add, remove, Pace::Ramp, now)))
    }

    /// One move changes the delay by a bounded share of the larger one: where the band is further away it takes
    /// several. If no placement lies so near, an unoffload may go up to the target, which is in the band.
    fn ask(&self, direction: Direction, value_us: f64) -> (f64, Result<(PlannedMove, Correction), NoPlan>) {
        let Turn {
            edge,
            snapshot,
            cluster,
            config,
            ..
        } = self.turn;
        let (least, most) = (1.0 - config.most_change, self.objective.band.offload_above_us());
        let target_us = self.objective.band.target_us();
        let errors = self.edge.prediction.get(&direction).copied().unwrap_or_default();
        let errors = errors.faded(self.turn.now);
        let ask = |target_us: f64| {
            // The planner doesn't know its bias, so it is asked for what will come to the target.
            let asked_us = target_us - errors.correction(value_us, target_us).bias_us;
            let planned = self.planner.plan(direction, edge, snapshot, cluster, asked_us);
            planned.and_then(|planned| self.check(errors.correct(planned), direction, most))
        };
        match direction {
            Direction::Offload => {
                let bounded_us = target_us.max(value_us * least);
                (bounded_us, ask(bounded_us))
            }
            Direction::Unoffload => {
                let bounded_us = target_us.min(value_us / least);
                match ask(bounded_us) {
                    Err(_) if bounded_us < target_us => (target_us, ask(target_us)),
                    planned => (bounded_us, planned),
                }
            }
        }
    }

    /// What the machine relies on, whoever planned.
    fn check(
        &self,
        (planned, correction): (PlannedMove, Correction),
        direction: Direction,
        offload_above_us: f64,
    ) -> Result<(PlannedMove, Correction), NoPlan> {
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
            Direction::Unoffload if planned.predicted_us + correction.margin_us() > offload_above_us => {
                refuse("with the error of its prediction it may leave the delay above the band")
            }
            Direction::Offload | Direction::Unoffload => Ok((planned, correction)),
        }
    }

    /// Says it once for each alarm and answer.
    fn recommend(
        &mut self,
        trigger: Trigger,
        alarm: Timestamp,
        planned: PlannedMove,
        correction: Correction,
    ) {
        let said = self.edge.decisions.back().is_some_and(|last| {
            last.outcome == Outcome::Recommended
                && last.times.alarm == Some(alarm)
                && last.add == planned.add
                && last.remove == planned.remove
        });
        if !said {
            let (add, remove) = (planned.add.clone(), planned.remove.clone());
            let mut plan = self
                .ledger
                .decision(self.turn.edge, self.turn.now, trigger, add, remove);
            (plan.planned, plan.correction) = (Some(planned), Some(correction));
            plan.times.alarm = Some(alarm);
            self.finish(Box::new(plan), Outcome::Recommended);
        }
    }
}
