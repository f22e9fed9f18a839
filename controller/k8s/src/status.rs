//! What the decision machine does, as an object's status. Pure; times count from 1970.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use gma_core::cluster::Cluster;
use gma_core::decide::{
    Account, Config, Decision, HoldReason, Mode, Objective, Outcome, Position, State, accounts,
};
use gma_core::ids::{AreaName, ServiceName, Timestamp};
use gma_core::routing::Steering;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff;

use crate::api::{
    DecisionStatus, EdgePlacementStatus, EdgeStatus, HeldService, MAX_DECISIONS, MeasuredDelay, PlanStatus,
    Shortage, Summary,
};
use crate::settings::service_name;

/// Why no weight is ever seen, and what would change that.
const BY_READINESS: &str = "areas are zones without regions: calls move by readiness, in one step, and standby and cloudStandbyPercent \
                            have no effect; label the nodes with regions and give localities to get ramps";

/// What the controller knows of an object.
#[derive(Clone, Copy, Debug)]
pub struct Told<'a> {
    /// Now, from 1970.
    pub now: Timestamp,
    /// What the machine is to do.
    pub config: &'a Config,
    /// What it does.
    pub state: &'a State,
    /// What runs where.
    pub cluster: &'a Cluster,
    /// Replicas that the cloud is short of if an edge dies.
    pub short_if_lost: &'a BTreeMap<AreaName, BTreeMap<ServiceName, u32>>,
    /// Why the memory is not written, where it is not.
    pub unsaved: Option<&'a str>,
}

/// What the cluster adds to that.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Known<'a> {
    /// Version of the spec that it is about.
    pub(crate) generation: i64,
    /// Services whose routing can't be written, why, and what would end it.
    pub(crate) held: &'a [(ServiceName, String, String)],
    /// Services that can't be placed at an edge, and why; none of them is held.
    pub(crate) pinned: &'a [(ServiceName, String)],
    /// Why CPU in use is not known, where the metrics API does not answer.
    pub(crate) no_metrics: Option<&'a str>,
}

/// The status of an object that is looked after.
pub(crate) fn status(told: &Told<'_>, known: &Known<'_>) -> EdgePlacementStatus {
    let accounts = accounts(told.state, told.now);
    let mut edges = Vec::new();
    let mut decisions = Vec::new();
    for (name, account) in &accounts {
        edges.push(edge(told, name, account));
        decisions.extend(
            account
                .plan
                .into_iter()
                .chain(account.decisions.iter().map(|told| told.decision)),
        );
    }
    decisions.sort_by_key(|decision| std::cmp::Reverse(decision.id));
    let all: Vec<(&AreaName, &Account<'_>)> =
        accounts.iter().map(|(name, account)| (*name, account)).collect();
    let status = EdgePlacementStatus {
        observed_generation: Some(known.generation),
        conditions: conditions(told, known, &all),
        summary: Some(summary(told, &all)),
        edges,
        decisions: decisions.into_iter().take(MAX_DECISIONS).map(decision).collect(),
        held: known
            .held
            .iter()
            .map(held)
            .chain(known.pinned.iter().map(pinned))
            .collect(),
    };
    status.bounded()
}

/// The status of an object that is not looked after.
pub(crate) fn not_ready(generation: i64, reason: &str, message: &str) -> EdgePlacementStatus {
    let status = EdgePlacementStatus {
        observed_generation: Some(generation),
        conditions: vec![condition(
            "Ready",
            Some(false),
            reason,
            message.to_owned(),
            generation,
        )],
        ..EdgePlacementStatus::default()
    };
    status.bounded()
}

/// Takes the time of the last change of each condition from the status before.
pub(crate) fn keep_transitions(status: &mut EdgePlacementStatus, before: &EdgePlacementStatus) {
    for condition in &mut status.conditions {
        let known = before
            .conditions
            .iter()
            .find(|known| known.type_ == condition.type_);
        if let Some(known) = known.filter(|known| known.status == condition.status) {
            condition.last_transition_time = known.last_transition_time.clone();
        }
    }
}

/// What of a status is worth a write at once: what is done, not what is read.
pub(crate) fn essence(status: &EdgePlacementStatus) -> EdgePlacementStatus {
    let mut essence = status.clone();
    for edge in &mut essence.edges {
        edge.measured = None;
        edge.short_if_lost.clear();
        edge.held = edge.held.as_ref().map(|_| String::new());
        if let Some(plan) = &mut edge.plan {
            plan.progress.clear();
        }
    }
    for condition in &mut essence.conditions {
        condition.message.clear();
        condition.last_transition_time = Time(jiff::Timestamp::UNIX_EPOCH);
    }
    if let Some(summary) = &mut essence.summary {
        summary.delay.clear();
    }
    essence
}

fn edge(told: &Told<'_>, name: &AreaName, account: &Account<'_>) -> EdgeStatus {
    let placed = told
        .cluster
        .instances
        .iter()
        .filter(|instance| instance.area == *name);
    let services: BTreeSet<String> = placed.map(|instance| short(&instance.service)).collect();
    let predicted = account.plan.and_then(|plan| plan.planned.as_ref());
    EdgeStatus {
        name: name.as_str().to_owned(),
        state: capital(account.phase),
        held: account.held.map(|_| account.sentence.clone()),
        measured: account.reading.map(|reading| MeasuredDelay {
            value: ms(reading.value_us),
            at_least: ms(reading.low_us),
            at_most: ms(reading.high_us),
            requests: reading.requests,
        }),
        predicted: predicted.map(|planned| ms(planned.predicted_us)),
        services: services.into_iter().collect(),
        plan: account.plan.map(|plan| PlanStatus {
            id: plan.id,
            what: plan.sentence(),
            progress: account
                .progress
                .clone()
                .unwrap_or_else(|| account.sentence.clone()),
        }),
        short_if_lost: shortages(told, name),
        ..EdgeStatus::default()
    }
}

fn shortages(told: &Told<'_>, edge: &AreaName) -> Vec<Shortage> {
    let missing = told.short_if_lost.get(edge).into_iter().flatten();
    let shortage = |(service, replicas): (&ServiceName, &u32)| Shortage {
        service: short(service),
        replicas: *replicas,
    };
    missing.map(shortage).collect()
}

fn held((service, why, fix): &(ServiceName, String, String)) -> HeldService {
    HeldService {
        service: short(service),
        why: why.clone(),
        fix: Some(fix.clone()),
    }
}

/// What to do is part of the reason.
fn pinned((service, why): &(ServiceName, String)) -> HeldService {
    HeldService {
        service: short(service),
        why: format!("it stays in the cloud: {why}"),
        fix: None,
    }
}

fn decision(decision: &Decision) -> DecisionStatus {
    let why = decision.planned.as_ref().map(|planned| planned.reasons.clone());
    DecisionStatus {
        time: time(decision.times.decided),
        edge: decision.edge.as_str().to_owned(),
        what: decision.sentence(),
        why: why.unwrap_or_else(|| kind(&decision.trigger)),
        outcome: (!matches!(decision.outcome, Outcome::Running)).then(|| kind(&decision.outcome)),
    }
}

fn summary(told: &Told<'_>, accounts: &[(&AreaName, &Account<'_>)]) -> Summary {
    let each = |text: &dyn Fn(&AreaName, &Account<'_>) -> String| {
        let texts = accounts.iter().map(|(name, account)| text(name, account));
        texts.collect::<Vec<_>>().join(", ")
    };
    let services = |in_cloud: bool| {
        let instances = told.cluster.instances.iter();
        let there = instances.filter(|one| (one.area == told.config.cloud) == in_cloud);
        there.map(|one| &one.service).collect::<BTreeSet<_>>().len()
    };
    Summary {
        state: each(&|_, account| capital(account.phase)),
        delay: each(&|_, account| {
            account
                .reading
                .map_or_else(|| "-".to_owned(), |reading| ms(reading.value_us))
        }),
        target: each(&|name, _| told.config.edges.get(name).map(band).unwrap_or_default()),
        placed: format!("{}/{}", services(false), services(true)),
    }
}

fn band(objective: &Objective) -> String {
    let band = objective.band;
    format!(
        "{} - {}",
        ms(band.unoffload_below_us()),
        ms(band.offload_above_us())
    )
}

fn conditions(told: &Told<'_>, known: &Known<'_>, accounts: &[(&AreaName, &Account<'_>)]) -> Vec<Condition> {
    let generation = known.generation;
    let holds = || {
        accounts
            .iter()
            .filter_map(|(name, account)| Some((*name, account.held?, *account)))
    };
    let any = |is: &dyn Fn(&HoldReason) -> bool| {
        holds()
            .find(|(_, reason, _)| is(reason))
            .map(|(name, reason, account)| (kind(reason), format!("{name}: {}", account.sentence)))
    };
    let of = |type_: &str, problem: Option<(String, String)>, good: &str| match problem {
        None => condition(type_, Some(true), good, String::new(), generation),
        Some((reason, message)) => condition(type_, Some(false), &reason, message, generation),
    };
    let complaint = accounts.iter().find_map(|(name, account)| {
        Some((
            "EffectRefused".to_owned(),
            format!("{name}: {}", account.complaint?),
        ))
    });
    let unsaved = told
        .unsaved
        .map(|why| ("MemoryNotWritten".to_owned(), why.to_owned()));
    let unavailable = told.cluster.unavailable.iter().next();
    let unavailable = unavailable.map(|(_, why)| ("NoNode".to_owned(), why.clone()));
    let silent = any(&is_silence).or_else(|| unheard(told, accounts));
    let ready = unsaved
        .or_else(|| unavailable.clone())
        .or_else(|| silent.clone())
        .or(complaint)
        .or_else(|| any(&is_trouble));
    let costs = told
        .cluster
        .instances
        .iter()
        .any(|instance| instance.cpu_seconds.is_some());
    let costs = (!costs).then(|| {
        let why = known
            .no_metrics
            .unwrap_or("metrics.k8s.io says nothing of these pods yet");
        let message = format!("costs are counted with what is requested: {why}");
        ("NoMetrics".to_owned(), message)
    });
    let (suspended, mode) = (told.config.suspend, told.config.mode);
    vec![
        of(
            "Ready",
            ready,
            if mode == Mode::Enforce {
                "Enforcing"
            } else {
                "Watching"
            },
        ),
        of("TelemetryFresh", silent, "Heard"),
        of("EdgeAvailable", unavailable, "NodesReady"),
        of(
            "AutoscalersIdle",
            any(&|reason| matches!(reason, HoldReason::Autoscaling { .. })),
            "Idle",
        ),
        within_band(accounts, generation),
        condition(
            "Suspended",
            Some(suspended),
            if suspended { "SpecSuspend" } else { "Active" },
            String::new(),
            generation,
        ),
        routing(told, known),
        of("CostMeasured", costs, "Measured"),
    ]
}

/// Whether rules can be written, and what moves the calls where that is no weight.
fn routing(told: &Told<'_>, known: &Known<'_>) -> Condition {
    let (is_applied, reason, message) = match (known.held.first(), told.config.steering) {
        (Some((service, why, fix)), _) => (false, "Held", format!("{service}: {why}; {fix}")),
        (None, Steering::Readiness) => (true, "ByReadiness", BY_READINESS.to_owned()),
        (None, Steering::Weights) => (true, "Writable", String::new()),
    };
    condition(
        "RoutingApplied",
        Some(is_applied),
        reason,
        message,
        known.generation,
    )
}

fn within_band(accounts: &[(&AreaName, &Account<'_>)], generation: i64) -> Condition {
    let readings = || {
        accounts
            .iter()
            .filter_map(|(name, account)| Some((*name, account.reading?)))
    };
    let outside = readings().find(|(_, reading)| reading.position != Position::Inside);
    let type_ = "WithinBand";
    match outside {
        Some((name, reading)) => {
            let side = if reading.position == Position::Above {
                "Above"
            } else {
                "Below"
            };
            let message = format!("{name}: {}", ms(reading.value_us));
            condition(type_, Some(false), side, message, generation)
        }
        None if readings().count() < accounts.len() => condition(
            type_,
            None,
            "NoReading",
            "the delay of an edge is not known".to_owned(),
            generation,
        ),
        None => condition(type_, Some(true), "Inside", String::new(), generation),
    }
}

const fn is_silence(reason: &HoldReason) -> bool {
    matches!(
        reason,
        HoldReason::NotHeardYet
            | HoldReason::EdgeSilent { .. }
            | HoldReason::StaleTelemetry { .. }
            | HoldReason::LowCoverage { .. }
    )
}

/// An edge with a plan under way is not held when it falls silent: the plan waits.
fn unheard(told: &Told<'_>, accounts: &[(&AreaName, &Account<'_>)]) -> Option<(String, String)> {
    accounts.iter().find_map(|(name, account)| {
        let unread = told.state.edges.get(*name)?.unread.as_ref();
        let reason = unread.filter(|reason| is_silence(reason))?;
        Some((kind(reason), format!("{name}: {}", account.sentence)))
    })
}

/// Holds that a person can or must do something about.
const fn is_trouble(reason: &HoldReason) -> bool {
    matches!(
        reason,
        HoldReason::Errors { .. }
            | HoldReason::EdgeUnavailable { .. }
            | HoldReason::RuleOwned { .. }
            | HoldReason::RuleShape { .. }
            | HoldReason::LocalityUnproven { .. }
            | HoldReason::EndpointOutsideAreas { .. }
            | HoldReason::NoPlan { .. }
    )
}

fn condition(type_: &str, status: Option<bool>, reason: &str, message: String, generation: i64) -> Condition {
    let status = match status {
        Some(true) => "True",
        Some(false) => "False",
        None => "Unknown",
    };
    Condition {
        type_: type_.to_owned(),
        status: status.to_owned(),
        reason: capital(reason),
        message,
        observed_generation: Some(generation),
        last_transition_time: Time(jiff::Timestamp::now()),
    }
}

/// Name of a variant, as its JSON gives it.
fn kind(value: &impl serde::Serialize) -> String {
    let value = serde_json::to_value(value).unwrap_or_default();
    let kind = value
        .get("kind")
        .and_then(serde_json::Value::as_str)
        .unwrap_or("unknown");
    capital(kind)
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|letter| letter.to_ascii_uppercase());
    first.into_iter().chain(letters).collect()
}

/// The name of the Service alone.
fn short(service: &ServiceName) -> String {
    service_name(service).to_owned()
}

fn ms(micros: f64) -> String {
    format!("{:.1}ms", micros / 1e3)
}

fn time(at: Timestamp) -> Time {
    let millis = i64::try_from(at.since_start().as_millis()).unwrap_or(i64::MAX);
    Time(jiff::Timestamp::from_millisecond(millis).unwrap_or(jiff::Timestamp::MAX))
}
