//! What `gma plan` says, as data. Names and units are stable: `-o json` and `-o yaml` print these structs.

use gma_core::solver::{Lost, Reach};
use serde::Serialize;

use crate::problem::ApiVersion;

/// A plan for a problem.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PlanReport {
    /// Version of this format.
    pub api_version: ApiVersion,
    /// `PlacementPlan`.
    pub kind: &'static str,
    /// What was solved.
    pub problem: ProblemSummary,
    /// `solver`, or the name of a strategy.
    pub strategy: String,
    /// Whether every edge with a target meets it; null where no edge has one.
    pub target_met: Option<bool>,
    /// Capacities that the placement exceeds: the strategies know none.
    pub breaks: Vec<String>,
    /// The edges, in the problem's order.
    pub edges: Vec<EdgePlan>,
    /// Cost before and after.
    pub cost: CostReport,
    /// How much cheaper it could be; null for strategies.
    pub bound: Option<BoundReport>,
    /// Where the solver's placement came from: `staying`, `nothing`, `everything`, `relaxation`, `search`, or the name of
    /// a strategy; null for strategies.
    pub origin: Option<String>,
    /// The best of the placements that lost; null for strategies and where there was no other.
    pub runner_up: Option<RunnerUpReport>,
    /// Placements that were evaluated, and choices of the relaxation.
    pub evaluations: u64,
    /// The budget ended the search: with more, the answer may be better.
    pub budget_exhausted: bool,
    /// Time that it took. The only field that differs from run to run.
    pub seconds: f64,
}

/// All methods side by side.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CompareReport {
    /// Version of this format.
    pub api_version: ApiVersion,
    /// `PlacementComparison`.
    pub kind: &'static str,
    /// What was solved.
    pub problem: ProblemSummary,
    /// The solver, then the strategies.
    pub methods: Vec<MethodReport>,
}

/// What was solved.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ProblemSummary {
    /// Its name, else its file's.
    pub name: String,
    /// Services.
    pub services: usize,
    /// Edges.
    pub edges: usize,
    /// Calls between services.
    pub calls: usize,
    /// Currency of all amounts; null: none is named.
    pub currency: Option<String>,
}

/// One method's result.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MethodReport {
    /// `solver`, or the name of a strategy.
    pub strategy: String,
    /// Whether every edge with a target meets it; null where no edge has one.
    pub target_met: Option<bool>,
    /// Capacities that its placement exceeds: the strategies know none.
    pub breaks: Vec<String>,
    /// Predicted mean user delay by edge, in the problem's order, ms.
    pub predicted_delay_ms: Vec<f64>,
    /// Cost an hour.
    pub cost_per_hour: f64,
    /// Services that are added or removed, over all edges.
    pub moves: usize,
    /// Placements that were evaluated.
    pub evaluations: u64,
    /// The budget ended the search.
    pub budget_exhausted: bool,
    /// Time that it took.
    pub seconds: f64,
}

/// What to run at an edge and what that does.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EdgePlan {
    /// Its name.
    pub name: String,
    /// Services to run there.
    pub placement: Vec<String>,
    /// Those of them that are new.
    pub add: Vec<String>,
    /// Those that run there now and shall not.
    pub remove: Vec<String>,
    /// Mean user delay.
    pub delay: DelayReport,
    /// Whether the target is met, and if not, why: `met`, `noTarget`, `targetTooLow`, `capacity`, `pins`, `notFound`.
    pub reach: Reach,
    /// The same in words.
    pub reason: String,
    /// Use of its capacity with the planned placement.
    #[serde(rename = "use")]
    pub used: UseReport,
}

/// Mean user delay of an edge, ms.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DelayReport {
    /// Now: as measured where the problem says it, else the model's.
    pub now_ms: f64,
    /// With the plan: now + model(after) − model(now).
    pub predicted_ms: f64,
    /// Highest that is wanted; null: no target.
    pub target_ms: Option<f64>,
    /// Now, by the model alone.
    pub model_now_ms: f64,
    /// With the plan, by the model alone.
    pub model_predicted_ms: f64,
}

/// What the replicas of an edge request, and its link.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct UseReport {
    /// CPU requests, cores.
    pub cpu_cores: f64,
    /// Limit; null: none.
    pub cpu_cores_limit: Option<f64>,
    /// Memory requests, GB (1e9 bytes).
    #[serde(rename = "memoryGB")]
    pub memory_gb: f64,
    /// Limit; null: none.
    #[serde(rename = "memoryGBLimit")]
    pub memory_gb_limit: Option<f64>,
    /// Replicas.
    pub pods: u64,
    /// Limit; null: none.
    pub pods_limit: Option<u32>,
    /// Answers from the cloud to the edge, bit/s.
    pub traffic_bits_per_second: f64,
    /// Traffic over bandwidth, at most 1; 0 without a limit.
    pub link_utilisation: f64,
}

/// Cost before and after.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CostReport {
    /// With the present placement.
    pub now: CostTerms,
    /// With the planned one.
    pub planned: CostTerms,
}

/// Cost for an hour, by term.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CostTerms {
    /// All terms.
    pub total_per_hour: f64,
    /// Replicas in the cloud.
    pub cloud_replicas: f64,
    /// The edges, in the problem's order.
    pub edges: Vec<EdgeCostTerms>,
}

/// An edge's part of the cost for an hour.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EdgeCostTerms {
    /// Its name.
    pub name: String,
    /// Replicas there.
    pub replicas: f64,
    /// Traffic from the cloud.
    pub traffic: f64,
}

/// A proven lower bound of the cost.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BoundReport {
    /// No placement that does what `covers` says costs less, an hour.
    pub cost_per_hour: f64,
    /// Part of the planned cost that could be saved at most.
    pub gap: f64,
    /// The same, of the part of the cost that exceeds that of an empty edge; null where it does not exceed it.
    pub gap_of_increase: Option<f64>,
    /// The placement costs no more than any other.
    pub proven_optimal: bool,
    /// What the bound is a bound of.
    pub covers: String,
}

/// The best of the placements that lost.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RunnerUpReport {
    /// Where it came from, as for the plan.
    pub origin: String,
    /// By edge: what it would run beyond the plan, and what it would lack.
    pub edges: Vec<Difference>,
    /// What it would cost an hour.
    pub cost_per_hour: f64,
    /// Predicted mean user delay by edge, in the problem's order, ms.
    pub predicted_delay_ms: Vec<f64>,
    /// Why it lost: `slower`, `dearer`, `movesMore`.
    pub lost: Lost,
    /// The same in words.
    pub reason: String,
}

/// How a placement differs from the planned one at an edge.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Difference {
    /// The edge.
    pub name: String,
    /// Services that only the other has.
    pub also: Vec<String>,
    /// Services that only the plan has.
    pub not: Vec<String>,
}
