//! What `gma status` says of each edge, as data.

use std::collections::BTreeMap;

use gma_core::cluster::{Instance, Phase};
use gma_core::decide::{Mode, Position, Statistic, Times};
use gma_core::ids::{AreaName, ServiceName, Timestamp};
use serde::Serialize;

use super::error::StatusError;
use super::read::{AccountView, RoundView, StateView};

/// Every edge of a controller.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StatusReport {
    /// What the controller may do.
    pub mode: Mode,
    /// Age of what it saw last, seconds.
    pub age_seconds: f64,
    /// What all areas cost an hour, in the currency of the prices.
    pub cost_per_hour: f64,
    /// By name.
    pub edges: Vec<EdgeReport>,
}

/// An edge.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EdgeReport {
    /// Which.
    pub edge: AreaName,
    /// What the controller does there, in a sentence.
    pub sentence: String,
    /// Name of the phase; none where the edge was not evaluated yet.
    pub phase: Option<String>,
    /// What would have to change for a hold to end; none where it is not held.
    pub ends: Option<String>,
    /// The user delay; none where the newest window decides nothing.
    pub delay: Option<DelayReport>,
    /// What it is held in.
    pub band: BandReport,
    /// User requests a second; none where the edge was never heard.
    pub requests_per_second: Option<f64>,
    /// Share of user requests that fail, 0 … 1; none where there was no request.
    pub failing: Option<f64>,
    /// Proxies that report; none where none is expected.
    pub coverage: Option<CoverageReport>,
    /// What runs there.
    pub services: Vec<PlacedReport>,
    /// What the area costs an hour, in the currency of the prices.
    pub cost_per_hour: Option<f64>,
    /// Replicas that the cloud is short of if the edge dies.
    pub short_if_lost: BTreeMap<ServiceName, u32>,
    /// The plan under way.
    pub plan: Option<PlanReport>,
    /// The platform's last complaint.
    pub complaint: Option<String>,
}

/// A user delay and its interval, milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DelayReport {
    /// The statistic's value.
    pub value_ms: f64,
    /// Lower end of its interval.
    pub low_ms: f64,
    /// Upper end of its interval.
    pub high_ms: f64,
    /// The whole interval against the band.
    pub position: Position,
    /// Requests in the window.
    pub requests: u64,
    /// Length of the window, seconds.
    pub window_seconds: f64,
}

/// A band, milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BandReport {
    /// Of which statistic.
    pub statistic: Statistic,
    /// Lower bound.
    pub unoffload_below_ms: f64,
    /// Upper bound.
    pub offload_above_ms: f64,
}

/// How many of the gateway's proxies report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CoverageReport {
    /// That should.
    pub expected: u32,
    /// That do.
    pub heard: u32,
    /// That do, but not with all of their workers.
    pub blind: u32,
}

/// A service at an edge.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PlacedReport {
    /// Which.
    pub service: ServiceName,
    /// Its life.
    pub phase: Phase,
    /// Replicas that run.
    pub replicas: u32,
    /// Percent of the calls at the edge that stay there.
    pub weight: u32,
}

/// A plan under way.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PlanReport {
    /// Its number, for `gma explain --decision`.
    pub id: u64,
    /// How far it is, in words.
    pub progress: Option<String>,
    /// What was reached and when, on the controller's clock.
    pub times: Times,
    /// The controller's clock now.
    pub now: Timestamp,
}

// === impl StatusReport ===

impl StatusReport {
    /// The report of a state.
    ///
    /// # Errors
    /// The controller has seen nothing yet.
    pub fn of(state: &StateView) -> Result<Self, StatusError> {
        let round = state.round.as_ref().ok_or(StatusError::NothingSeen)?;
        Ok(Self {
            mode: round.config.mode,
            age_seconds: state.now.since(round.at).as_secs_f64(),
            cost_per_hour: round.costs.per_hour,
            edges: round
                .config
                .edges
                .keys()
                .map(|edge| edge_report(round, edge))
                .collect(),
        })
    }
}

fn edge_report(round: &RoundView, edge: &AreaName) -> EdgeReport {
    let account = round.edges.get(edge);
    let measured = round.snapshot.edges.get(edge);
    let coverage = measured
        .map(|edge| edge.coverage)
        .filter(|coverage| coverage.expected > 0);
    EdgeReport {
        edge: edge.clone(),
        sentence: account.map_or_else(
            || "not evaluated yet".to_owned(),
            |account| account.sentence.clone(),
        ),
        phase: account.map(|account| account.phase.clone()),
        ends: round.ends.get(edge).cloned(),
        delay: account.and_then(delay),
        band: band(round, edge),
        requests_per_second: measured.map(|edge| edge.rate_rps),
        failing: measured.and_then(|edge| edge.outcomes.failing()),
        coverage: coverage.map(|coverage| CoverageReport {
            expected: coverage.expected,
            heard: coverage.heard,
            blind: coverage.blind,
        }),
        services: placed(round, edge),
        cost_per_hour: round
            .costs
            .areas
            .get(edge)
            .map(|cost| cost.instances_per_hour + cost.traffic_per_hour),
        short_if_lost: round.short_if_lost.get(edge).cloned().unwrap_or_default(),
        plan: account
            .and_then(|account| account.plan.as_ref())
            .map(|plan| PlanReport {
                id: plan.id,
                progress: account.and_then(|account| account.progress.clone()),
                times: plan.times,
                now: round.at,
            }),
        complaint: account.and_then(|account| account.complaint.clone()),
    }
}

fn delay(account: &AccountView) -> Option<DelayReport> {
    account.reading.map(|reading| DelayReport {
        value_ms: reading.value_us / 1e3,
        low_ms: reading.low_us / 1e3,
        high_ms: reading.high_us / 1e3,
        position: reading.position,
        requests: reading.requests,
        window_seconds: reading.window.as_secs_f64(),
    })
}

fn band(round: &RoundView, edge: &AreaName) -> BandReport {
    let objective = round.config.edges.get(edge);
    let ms = |pick: fn(&super::read::BandView) -> std::time::Duration| {
        objective.map_or(0.0, |objective| pick(&objective.band).as_secs_f64() * 1e3)
    };
    BandReport {
        statistic: objective.map_or(Statistic::Mean, |objective| objective.statistic),
        unoffload_below_ms: ms(|band| band.unoffload_below),
        offload_above_ms: ms(|band| band.offload_above),
    }
}

fn placed(round: &RoundView, edge: &AreaName) -> Vec<PlacedReport> {
    let weight = |instance: &Instance| {
        let rules = &round.cluster.routing.0;
        let own = rules
            .get(&instance.service)
            .and_then(|rule| rule.get(edge))
            .and_then(|weights| weights.get(edge));
        own.copied().unwrap_or(0)
    };
    let by_name: BTreeMap<&ServiceName, &Instance> = round
        .cluster
        .instances
        .iter()
        .filter(|instance| instance.area == *edge)
        .map(|instance| (&instance.service, instance))
        .collect();
    by_name
        .into_iter()
        .map(|(service, instance)| PlacedReport {
            service: service.clone(),
            phase: instance.phase,
            replicas: instance.replicas,
            weight: weight(instance),
        })
        .collect()
}
