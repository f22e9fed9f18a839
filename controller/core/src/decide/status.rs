//! The machine's own account, for people and for JSON.

use std::collections::BTreeMap;

use serde::Serialize;

use super::State;
use super::evidence::Reading;
use super::phase::{Alarm, Complaint, EdgeState, Failures, Phase};
use super::plan::{Decision, Direction};
use super::reason::{HoldReason, ms, names};
use crate::ids::{AreaName, Timestamp};

/// One edge, for people.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Account<'a> {
    /// What it does, in a sentence.
    pub sentence: String,
    /// Name of the phase.
    pub phase: &'static str,
    /// Why nothing is done, where nothing is.
    pub held: Option<&'a HoldReason>,
    /// The newest reading.
    pub reading: Option<&'a Reading>,
    /// The plan under way.
    pub plan: Option<&'a Decision>,
    /// The last decisions, oldest first, each with its sentence.
    pub decisions: Vec<Told<'a>>,
    /// The platform's last complaint about what is still wanted.
    pub complaint: Option<&'a str>,
    /// Since when it is said, and how often.
    pub complaining: Option<&'a Complaint>,
    /// Since when the edge is in this phase, where it says so.
    pub since: Option<Timestamp>,
    /// When the phase ends at the latest, where that is known.
    pub until: Option<Timestamp>,
    /// How far the plan under way is, in words.
    pub progress: Option<String>,
    /// The alarm, also while it is held.
    pub alarm: Option<Alarm>,
    /// Services that failed moves are blamed on, and until when each waits.
    pub failed: &'a Failures,
}

/// A decision and its sentence.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Told<'a> {
    /// The decision in a sentence.
    pub sentence: String,
    /// All of it.
    pub decision: &'a Decision,
}

/// The account of every edge at `now`.
pub fn accounts(state: &State, now: Timestamp) -> BTreeMap<&AreaName, Account<'_>> {
    state
        .edges
        .iter()
        .map(|(edge, machine)| (edge, account(machine, now)))
        .collect()
}

fn account(edge: &EdgeState, now: Timestamp) -> Account<'_> {
    let held = match &edge.phase {
        Phase::Held { reason, .. } => Some(reason),
        Phase::Observing
        | Phase::Alarmed { .. }
        | Phase::Acting { .. }
        | Phase::Verifying { .. }
        | Phase::Relieving { .. }
        | Phase::RollingBack { .. }
        | Phase::CoolingDown { .. } => None,
    };
    let told = |decision| Told {
        sentence: Decision::sentence(decision),
        decision,
    };
    Account {
        sentence: sentence(edge, now),
        phase: name(&edge.phase),
        held,
        reading: edge.reading.as_ref(),
        plan: edge.phase.plan(),
        decisions: edge.decisions.iter().map(told).collect(),
        complaint: edge
            .complaining
            .as_ref()
            .map(|complaint| complaint.message.as_str()),
        complaining: edge.complaining.as_ref(),
        since: since(&edge.phase),
        until: until(&edge.phase),
        progress: match &edge.phase {
            Phase::Acting { progress, .. } | Phase::RollingBack { progress, .. } => Some(progress.sentence()),
            Phase::Relieving { step, .. } => Some(step.sentence()),
            _ => None,
        },
        alarm: match &edge.phase {
            Phase::Alarmed { alarm } => Some(*alarm),
            Phase::Held { alarm, .. } => *alarm,
            _ => None,
        },
        failed: &edge.failed,
    }
}

fn since(phase: &Phase) -> Option<Timestamp> {
    match phase {
        Phase::Alarmed { alarm } => Some(alarm.since),
        Phase::Acting { plan, .. } | Phase::Relieving { plan, .. } | Phase::RollingBack { plan, .. } => {
            Some(plan.times.decided)
        }
        Phase::Verifying { since, .. } | Phase::Held { since, .. } => Some(*since),
        Phase::Observing | Phase::CoolingDown { .. } => None,
    }
}

fn until(phase: &Phase) -> Option<Timestamp> {
    match phase {
        Phase::Verifying { until, .. }
        | Phase::CoolingDown { until }
        | Phase::Held {
            reason: HoldReason::BackingOff { until, .. },
            ..
        } => Some(*until),
        Phase::Observing
        | Phase::Alarmed { .. }
        | Phase::Acting { .. }
        | Phase::Relieving { .. }
        | Phase::RollingBack { .. }
        | Phase::Held { .. } => None,
    }
}

fn name(phase: &Phase) -> &'static str {
    match phase {
        Phase::Observing => "observing",
        Phase::Alarmed { .. } => "alarmed",
        Phase::Acting { .. } => "acting",
        Phase::Verifying { .. } => "verifying",
        Phase::Relieving { .. } => "relieving",
        Phase::RollingBack { .. } => "rollingBack",
        Phase::CoolingDown { .. } => "coolingDown",
        Phase::Held { .. } => "held",
    }
}

fn sentence(edge: &EdgeState, now: Timestamp) -> String {
    let left = |until: &Timestamp| until.since(now).as_secs_f64();
    let text = match &edge.phase {
        Phase::Observing => match &edge.reading {
            Some(reading) => format!("observing: {}", ms(reading.value_us)),
            None => "observing".to_owned(),
        },
        Phase::Alarmed { alarm } => {
            let side = match alarm.direction {
                Direction::Offload => "above",
                Direction::Unoffload => "below",
            };
            let plural = if alarm.seen == 1 { "" } else { "s" };
            format!("alarmed: {side} the band in {} evaluation{plural}", alarm.seen)
        }
        Phase::Acting { plan, progress } => format!("acting, {}: {}", progress.sentence(), plan.sentence()),
        Phase::Verifying { plan, until, .. } => {
            format!("verifying, {:.0} s left: {}", left(until), plan.sentence())
        }
        Phase::Relieving { plan, step } => format!("relieving, {}: {}", step.sentence(), plan.sentence()),
        Phase::RollingBack {
            plan,
            cause,
            progress,
        } => {
            format!(
                "rolling back ({cause}), {}: {}",
                progress.sentence(),
                plan.sentence()
            )
        }
        Phase::CoolingDown { until } => format!("cooling down: {:.0} s left", left(until)),
        Phase::Held {
            reason: HoldReason::BackingOff { until, services },
            ..
        } => {
            let services = names(services);
            format!(
                "held: backing off after a failed move of {services}, {:.0} s left",
                left(until)
            )
        }
        Phase::Held { reason, .. } => format!("held: {reason}"),
    };
    match &edge.unread {
        Some(reason) if edge.phase.plan().is_some() => format!("{text}; no reading: {reason}"),
        _ => text,
    }
}
