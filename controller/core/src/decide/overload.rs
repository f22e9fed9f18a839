//! An edge's instances saturate: part of the load goes back to the cloud before more is placed, and returns after.
//!
//! Looked for when the delay is certainly above the band, before a move is planned. A service at the edge is overloaded
//! if its own time ([`super::own`]) is twice what it was when it was new there, beyond chance, in the cloud it did not rise
//! as much, and what it lost is at least 5 % of the users' delay. The one that costs the users most goes first:
//!
//! ```text
//!            overloaded, delay above the band          own time normal,
//!  99 % ───────► 75 % ───► 50 % ───► 25 % ───► 10 %    or delay in the band: rests there
//!   ▲   ◄─────────── one step a decision ────────┘     worse: the last step back
//!            after 1 min, doubled each time, if the requests fell or were not the cause
//! ```
//!
//! - A step is judged like a move, on a reading that begins after it is in force, 15 s at least and 60 s at most. No
//!   other plan of that edge begins meanwhile, and no offload there while a share is away: an edge that can't carry what
//!   it has is not given more, and predictions assume whole shares.
//! - Back up: the service has waited, its own time is normal, and the rate that the next share would bring is below 0.9
//!   of the lowest that was too much for as many replicas. Where more requests were not the cause (something else uses
//!   the edge's CPU), or after the longest back-off, waiting is enough: it is tried. A step up that strains it again
//!   goes back.
//! - Bound of oscillation: an overload that comes back within the memory, and a step up that goes back, double the wait,
//!   from 1 minute to the longest back-off. The memory lasts an hour or twice the wait after all weight is back. Between
//!   two onsets lie at most four steps down and four up, and at least one wait.
//!
//! Not told apart: instances that are slow at the edge for another reason than load. Less weight helps there as well;
//! only what it takes to come back differs. CPU use is not looked at: what instances may use is not known here.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::config::Mode;
use super::evidence::{Position, Reading};
use super::machine::Machine;
use super::own::{Own, Strain, Verdict};
use super::phase::{Alarm, Phase};
use super::plan::{Decision, Direction, Outcome, Trigger};
use super::progress::Turn;
use super::ramp::STEP_DEADLINE;
use super::reason::{Cause, HoldReason};
use super::relief::{Relief, below};
use super::routes;
use crate::ids::{AreaName, ServiceName, Timestamp};
use crate::routing::SECOND_STEP;
use crate::snapshot::{Caller, Snapshot};

/// What a service lost must be this share of the users' delay: less does not bring it back into the band.
const LEAST_OF_DELAY: f64 = 0.05;
/// By readiness an overloaded service is held: what it can't carry is given to no edge in addition.
const NO_SHARES: &str = "it is overloaded at the edge, and by readiness no part of its calls can go back to the cloud: \
                         give it more replicas there, or label the nodes with regions to get weights";

/// One step of an overloaded service's weight.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    pub(super) service: ServiceName,
    from: u32,
    to: u32,
    since: Timestamp,
    in_force: Option<Timestamp>,
    /// The users' delay before it.
    before: Reading,
    /// It goes back, for this reason.
    back: Option<Cause>,
}

/// What a step has shown.
enum Shown {
    Nothing,
    Good,
    /// Not enough yet: the next one.
    Further,
    Bad(Cause),
    Unknown,
}

// === impl Step ===

impl Step {
    /// The step in words.
    pub fn sentence(&self) -> String {
        let Self {
            service, from, to, ..
        } = self;
        match &self.back {
            Some(_) => format!("share of {service} back to {from} %"),
            None => format!("share of {service} from {from} % to {to} %"),
        }
    }

    /// Since when its weight is in force.
    pub(super) fn in_force(&self) -> Option<Timestamp> {
        self.in_force
    }

    pub(super) fn postpone(&mut self, by: Duration) {
        self.since = self.since.after(by);
        self.in_force = self.in_force.map(|at| at.after(by));
    }

    fn share(&self) -> u32 {
        if self.back.is_some() { self.from } else { self.to }
    }
}

// === impl Machine ===

impl Machine<'_> {
    /// Takes in what the services at the edge take.
    pub(super) fn watch_loads(&mut self, phase: &Phase, read: Option<&Reading>) {
        let placed = self.placed();
        let rests = matches!(phase, Phase::Observing);
        let in_band = read.is_some_and(|r| r.value_us <= self.objective.band.offload_above_us());
        let (snapshot, cloud) = (self.turn.snapshot, &self.turn.config.cloud);
        self.edge.loads.alarmed(match phase {
            Phase::Alarmed { alarm }
            | Phase::Held {
                alarm: Some(alarm), ..
            } if alarm.direction == Direction::Offload => Some(alarm.since),
            _ => None,
        });
        self.edge
            .loads
            .watch(snapshot, self.turn.edge, cloud, &placed, rests && in_band);
    }

    /// At rest: forgets overloads that are long over; takes shares that nobody remembers for those of one, so that they
    /// return.
    pub(super) fn settle_reliefs(&mut self) {
        let (now, full) = (self.turn.now, self.turn.config.final_weight(self.turn.edge));
        for service in self.placed() {
            let share = routes::share(self.turn.in_force, &service, self.turn.edge);
            let relief = self.edge.loads.relief_mut(&service);
            if relief.as_mut().is_some_and(|known| !known.settle(share, now)) {
                *relief = None;
            }
            if relief.is_none() && share > SECOND_STEP && share < full {
                *relief = Some(Relief::new(share, full, now));
            }
        }
    }

    /// The delay is above the band: begins to relieve the service that costs the users most, if one is overloaded; waits
    /// where that will be known soon; holds where shares can't be given.
    pub(super) fn relieve(&mut self, phase: &Phase, alarm: Alarm, reading: Reading) -> Option<Phase> {
        if self.turn.config.mode != Mode::Enforce {
            return None;
        }
        let users = self.turn.snapshot.edges.get(self.turn.edge)?.rate_rps;
        let (mut worst, mut unclear) = (None, false);
        for service in self.placed().into_iter().filter(|service| self.may_give(service)) {
            match self.verdict(&service) {
                Verdict::No => {}
                Verdict::Unclear => unclear = true,
                Verdict::Yes(strain) => {
                    let lost = (strain.own_now_us - strain.own_before_us) * strain.rps / users;
                    let most = worst.as_ref().map_or(0.0, |(_, _, most)| *most);
                    if lost >= LEAST_OF_DELAY * reading.value_us && lost > most {
                        worst = Some((service, strain, lost));
                    }
                }
            }
        }
        let Some((service, strain, _)) = worst else {
            return unclear.then_some(Phase::Alarmed { alarm });
        };
        if self.turn.config.by_readiness() {
            let reason = HoldReason::RuleShape {
                service,
                what: NO_SHARES.to_owned(),
            };
            return Some(phase.clone().held(reason, Some(alarm), self.turn.now));
        }
        let from = routes::share(self.turn.in_force, &service, self.turn.edge);
        let to = below(from)?;
        let trigger = Trigger::Overload {
            service: service.clone(),
            own_before_us: strain.own_before_us,
            own_now_us: strain.own_now_us,
            from,
            to,
        };
        self.onset(&service, from, &strain);
        Some(self.begin_step(trigger, Some(alarm.since), service, (from, to), reading))
    }

    /// A service whose share is not all back: until then nothing more is placed at the edge.
    pub(super) fn relieved(&self) -> Option<HoldReason> {
        let (service, relief) = self
            .edge
            .loads
            .reliefs()
            .find(|(_, relief)| relief.share < relief.full)?;
        Some(HoldReason::Relieved {
            service: service.clone(),
            share: relief.share,
        })
    }

    /// The share of a relieved service may return.
    pub(super) fn give_back(&mut self, reading: Reading) -> Option<Phase> {
        let below_band = reading.value_us < self.objective.band.unoffload_below_us();
        if self.turn.config.mode != Mode::Enforce || below_band || self.moves_spent().is_some() {
            return None;
        }
        let due = |(service, relief): (&ServiceName, &Relief)| {
            let to = relief.above()?;
            (self.has_room(service, relief, to) && self.is_calm(service))
                .then(|| (service.clone(), relief.share, to))
        };
        let (service, from, to) = self.edge.loads.reliefs().find_map(due)?;
        let trigger = Trigger::OverloadOver {
            service: service.clone(),
            from,
            to,
        };
        Some(self.begin_step(trigger, None, service, (from, to), reading))
    }

    /// A step under way.
    pub(super) fn relieving(
        &mut self,
        mut plan: Box<Decision>,
        mut step: Step,
        read: Result<Reading, HoldReason>,
    ) -> Phase {
        let now = self.turn.now;
        let (service, share) = (step.service.clone(), step.share());
        if !routes::is_ready(self.turn.cluster, &service, self.turn.edge) {
            let services = BTreeSet::from([service]);
            let cause = Some(Cause::InstanceFailed { services });
            self.finish(plan, Outcome::Abandoned { cause });
            return Phase::Observing;
        }
        let cloud = &self.turn.config.cloud;
        routes::set(self.turn.wanted, &service, self.turn.edge, cloud, share);
        if step.in_force.is_none() {
            if routes::share(self.turn.in_force, &service, self.turn.edge) == share {
                step.in_force = Some(now);
                plan.times.weights_final = Some(now);
                if let Some(relief) = self.edge.loads.relief_mut(&service) {
                    relief.set(share, now);
                }
            } else if now.since(step.since) >= STEP_DEADLINE {
                if step.back.is_some() {
                    let cause = Some(Cause::NotInForce);
                    self.finish(plan, Outcome::Abandoned { cause });
                    return self.cool_down();
                }
                return self.step_back(plan, step, Cause::NotInForce);
            }
            return Phase::Relieving { plan, step };
        }
        if let Some(cause) = step.back {
            self.finish(plan, Outcome::RolledBack { cause });
            return self.cool_down();
        }
        let shown = self.shown(&step, read.as_ref());
        if !matches!(shown, Shown::Nothing) {
            plan.times.verified = Some(now);
        }
        match shown {
            Shown::Nothing => return Phase::Relieving { plan, step },
            Shown::Bad(cause) => return self.step_back(plan, step, cause),
            Shown::Good => self.finish(plan, Outcome::Kept),
            Shown::Unknown => self.finish(plan, Outcome::Unverified),
            Shown::Further => return self.further(plan, step, read),
        }
        self.cool_down()
    }

    fn begin_step(
        &mut self,
        trigger: Trigger,
        alarm: Option<Timestamp>,
        service: ServiceName,
        (from, to): (u32, u32),
        before: Reading,
    ) -> Phase {
        self.ledger.moves.push_back(self.turn.now);
        let plan = self.decide(trigger, Default::default(), Default::default(), None, alarm);
        let step = Step {
            service,
            from,
            to,
            since: self.turn.now,
            in_force: None,
            before,
            back: None,
        };
        self.relieving(plan, step, Err(HoldReason::NoInterval))
    }

    fn further(&mut self, mut plan: Box<Decision>, step: Step, read: Result<Reading, HoldReason>) -> Phase {
        let next = below(step.to).zip(read.ok());
        let cause = self.strain(&step.service).map(|strain| {
            self.too_much(&step.service, &strain);
            overloaded(&step.service, &strain)
        });
        let (Some((next, before)), Trigger::Overload { to, .. }) = (next, &mut plan.trigger) else {
            self.finish(plan, Outcome::Abandoned { cause });
            return self.cool_down();
        };
        *to = next;
        let step = Step {
            from: step.to,
            to: next,
            since: self.turn.now,
            in_force: None,
            before,
            ..step
        };
        self.relieving(plan, step, Err(HoldReason::NoInterval))
    }

    fn step_back(&mut self, plan: Box<Decision>, step: Step, cause: Cause) -> Phase {
        if let Some(strain) = self.strain(&step.service).filter(|_| step.to > step.from) {
            self.too_much(&step.service, &strain);
        }
        self.wait_longer(&step.service);
        let step = Step {
            since: self.turn.now,
            in_force: None,
            back: Some(cause),
            ..step
        };
        self.relieving(plan, step, Err(HoldReason::NoInterval))
    }

    /// What a step in force has shown.
    fn shown(&self, step: &Step, read: Result<&Reading, &HoldReason>) -> Shown {
        let config = self.turn.config;
        let Some(in_force) = step.in_force else {
            return Shown::Nothing;
        };
        let for_long = self.turn.now.since(in_force);
        if let Err(HoldReason::Errors { share }) = read {
            return Shown::Bad(Cause::ErrorsAfter { share: *share });
        }
        if for_long < config.verify_least {
            return Shown::Nothing;
        }
        let after = read.ok().map(|reading| self.all_since(in_force, *reading));
        let Some(after) = after.filter(|reading| reading.from >= in_force) else {
            return if for_long >= config.verify_most {
                Shown::Unknown
            } else {
                Shown::Nothing
            };
        };
        let verdict = self.verdict(&step.service);
        let is_back = step.to > step.from;
        let strain = match verdict {
            // What makes the delay worse now is not the load: with all of its share back, the next plan deals with it.
            Verdict::No if is_back && self.is_calm(&step.service) => return Shown::Good,
            Verdict::Yes(strain) if is_back => return Shown::Bad(overloaded(&step.service, &strain)),
            Verdict::Yes(strain) => Some(strain),
            Verdict::No | Verdict::Unclear => None,
        };
        if after.low_us > step.before.high_us && after.position == Position::Above {
            let (before_us, after_us) = (step.before.value_us, after.value_us);
            return Shown::Bad(Cause::DelayWorse { before_us, after_us });
        }
        if strain.is_some() && after.position == Position::Above {
            Shown::Further
        } else {
            Shown::Good
        }
    }

    fn verdict(&self, service: &ServiceName) -> Verdict {
        let loads = &self.edge.loads;
        loads.strain(self.turn.snapshot, service, self.turn.edge)
    }

    fn strain(&self, service: &ServiceName) -> Option<Strain> {
        match self.verdict(service) {
            Verdict::Yes(strain) => Some(strain),
            Verdict::No | Verdict::Unclear => None,
        }
    }

    /// Its own time is known and normal.
    fn is_calm(&self, service: &ServiceName) -> bool {
        Own::at(self.turn.snapshot, service, self.turn.edge).is_some() && self.strain(service).is_none()
    }

    /// A service that does not move elsewhere, and whose rule allows a share: in the failover form all edges of a rule
    /// keep all of theirs or none.
    fn may_give(&self, service: &ServiceName) -> bool {
        // A step down that made it worse is not repeated at once.
        let relief = self.edge.loads.relief(service);
        let waits = relief.is_some_and(|relief| relief.just_tried(self.turn.now));
        let mut others = self.turn.config.edges.keys().filter(|e| *e != self.turn.edge);
        let bound = others.any(|other| routes::share(self.turn.in_force, service, other) == 100);
        !waits && !bound && !self.busy.contains_key(service)
    }

    fn has_room(&self, service: &ServiceName, relief: &Relief, to: u32) -> bool {
        let Turn {
            edge,
            snapshot,
            config,
            now,
            ..
        } = &self.turn;
        let rps = asked_for(snapshot, service, edge) * f64::from(to) / 100.0;
        !self.busy.contains_key(service)
            && relief.may_return(rps / self.replicas(service), config.back_off_most, *now)
    }

    fn onset(&mut self, service: &ServiceName, share: u32, strain: &Strain) {
        if self.edge.loads.relief(service).is_some() {
            self.wait_longer(service);
        } else {
            *self.edge.loads.relief_mut(service) = Some(Relief::new(share, share, self.turn.now));
        }
        self.too_much(service, strain);
    }

    fn too_much(&mut self, service: &ServiceName, strain: &Strain) {
        let replicas = self.replicas(service);
        if let Some(relief) = self.edge.loads.relief_mut(service) {
            relief.too_much(strain, replicas);
        }
    }

    fn wait_longer(&mut self, service: &ServiceName) {
        if let Some(relief) = self.edge.loads.relief_mut(service) {
            relief.wait_longer(self.turn.config.back_off_most);
        }
    }

    fn replicas(&self, service: &ServiceName) -> f64 {
        let mut instances = self.turn.cluster.instances.iter();
        let instance = instances.find(|i| i.service == *service && i.area == *self.turn.edge);
        f64::from(instance.map_or(1, |i| i.replicas.max(1)))
    }
}

fn overloaded(service: &ServiceName, strain: &Strain) -> Cause {
    Cause::Overloaded {
        service: service.clone(),
        own_us: strain.own_now_us,
    }
}

/// Calls of an edge's callers to a service, a second.
fn asked_for(snapshot: &Snapshot, service: &ServiceName, edge: &AreaName) -> f64 {
    let from_edge = |caller: &Caller| match caller {
        Caller::User { edge: at } => at == edge,
        Caller::Instance { area, .. } => area == edge,
    };
    let calls = snapshot
        .calls
        .iter()
        .filter(|call| call.callee == *service && from_edge(&call.caller));
    let calls = calls
        .map(|call| call.outcomes.total())
        .fold(0, u64::saturating_add);
    if snapshot.window.is_zero() {
        return 0.0;
    }
    super::evidence::ratio(calls, 1) / snapshot.window.as_secs_f64()
}
