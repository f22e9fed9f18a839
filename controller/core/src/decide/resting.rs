//! An edge at rest: is the delay outside the band for long enough, and is there a move that may be made?

use super::config::Mode;
use super::evidence::{Position, Reading};
use super::machine::{Machine, Next};
use super::phase::{Alarm, Phase};
use super::plan::Direction;
use super::reason::{Covered, HoldReason};
use super::visits::Visits;

/// An interval that is narrower than this part of its delay holds no change.
const EVEN: f64 = 0.5;

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
        if let Some(relieving) = read.as_ref().ok().and_then(|reading| self.give_back(*reading)) {
            return Next::Continue(relieving);
        }
        let (reading, alarm) = match (read, alarm) {
            (Err(reason), _) => return Next::Continue(phase.late(reason, now)),
            (Ok(_), None) => {
                self.edge.scaling_since = None;
                return Next::Continue(Phase::Observing);
            }
            (Ok(reading), Some(alarm)) => (reading, alarm),
        };
        // A snapshot that began before the change mixes two call graphs and two round trips: nothing is predicted from it.
        // Where a change is in its window, batches differ and the interval is wide: of eight slots one that took half as long
        // makes it as wide as the delay is long.
        let narrow_us = self.objective.band.narrow_us().max(EVEN * reading.value_us);
        let even =
            reading.window >= self.turn.snapshot.window && reading.high_us - reading.low_us < narrow_us;
        let settled = even || now.since(alarm.since) >= self.turn.snapshot.window;
        let many = alarm.seen >= self.turn.config.consecutive;
        if !settled || !many || self.turn.config.mode == Mode::Observe {
            return Next::Continue(Phase::Alarmed { alarm });
        }
        if let Some(reason) = self.obstacle() {
            return Next::Continue(phase.held(reason, Some(alarm), now));
        }
        if alarm.direction == Direction::Offload {
            if let Some(relieving) = self.relieve(&phase, alarm, reading) {
                return Next::Continue(relieving);
            }
            if let Some(reason) = self.relieved() {
                return Next::Continue(phase.held(reason, Some(alarm), now));
            }
        }
        let asked = alarm.asked.map(|asked| now.since(asked));
        let pause = alarm.ask_again(&reading, now, self.turn.config);
        if asked.is_some_and(|since| since < pause) {
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
        Some(match phase.alarm() {
            Some(alarm) if alarm.direction == direction => Alarm {
                seen: if certain { alarm.seen.saturating_add(1) } else { 0 },
                ..alarm
            },
            _ => Alarm {
                direction,
                since: match phase {
                    // A change widens the interval at once: it dates from then.
                    Phase::Held {
                        reason: HoldReason::NoInterval,
                        since,
                        ..
                    } => *since,
                    _ => self.turn.now,
                },
                seen: u32::from(certain),
                asked: None,
                planless: None,
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

    pub(super) fn moves_spent(&mut self) -> Option<HoldReason> {
        let per_hour = self.turn.config.moves_per_hour;
        let spent = self.ledger.moves_within_hour(self.turn.now) >= per_hour;
        spent.then_some(HoldReason::MovesSpent { per_hour })
    }
}
