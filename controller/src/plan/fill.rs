//! From an answer to its report.

use std::collections::BTreeSet;

use gma_core::model::{AreaIx, DensePlacement, EdgeIx, Evaluation, Problem, ServiceIx};
use gma_core::solver::{Lost, Origin, Reach, RunnerUp};
use gma_core::units::{CpuCores, Gigabytes, Micros};

use super::report::{
    BoundReport, CostReport, CostTerms, DelayReport, Difference, EdgeCostTerms, EdgePlan, MethodReport,
    PlanReport, ProblemSummary, RunnerUpReport, UseReport,
};
use super::solve::{Answer, Method, Proof, delay, resting};
use crate::problem::{ApiVersion, Loaded};

/// Part of a limit that rounding of sums may exceed.
const ROUNDING: f64 = 1e-9;

// === impl ProblemSummary ===

impl ProblemSummary {
    pub(super) fn new(loaded: &Loaded, file: &str) -> Self {
        Self {
            name: loaded
                .file
                .metadata
                .name
                .clone()
                .unwrap_or_else(|| file.to_owned()),
            services: loaded.problem.services_len(),
            edges: loaded.problem.edges_len(),
            calls: loaded.file.calls.len(),
            currency: loaded.file.currency.clone(),
        }
    }
}

// === impl PlanReport ===

impl PlanReport {
    pub(super) fn new(loaded: &Loaded, summary: ProblemSummary, answer: &Answer) -> Self {
        let (problem, current) = (&loaded.problem, &loaded.current);
        let before = resting(problem, current);
        let edges = problem
            .edges()
            .zip(&answer.predicted)
            .zip(&answer.reach)
            .map(|(((edge, _), predicted), reach)| {
                edge_plan(loaded, edge, &before, answer, *predicted, *reach)
            })
            .collect();
        let met = answer.met();
        let bound = answer
            .proof
            .as_ref()
            .map(|proof| bound(problem, answer, proof, met));
        Self {
            api_version: ApiVersion::default(),
            kind: "PlacementPlan",
            problem: summary,
            strategy: answer.method.to_string(),
            target_met: met,
            breaks: breaks(problem, &answer.evaluation),
            edges,
            cost: CostReport {
                now: terms(problem, &before),
                planned: terms(problem, &answer.evaluation),
            },
            bound,
            origin: answer.proof.as_ref().map(|proof| origin_name(proof.origin)),
            runner_up: runner_up(problem, answer),
            evaluations: answer.evaluations,
            budget_exhausted: answer.exhausted,
            seconds: answer.time.as_secs_f64(),
        }
    }
}

// === impl MethodReport ===

impl MethodReport {
    pub(super) fn new(loaded: &Loaded, answer: &Answer) -> Self {
        let problem = &loaded.problem;
        let moves = problem.edges().map(|(edge, _)| {
            let (now, then) = (
                loaded.current.at_edge(problem, edge),
                answer.placement.at_edge(problem, edge),
            );
            now.symmetric_difference(&then).count()
        });
        Self {
            strategy: answer.method.to_string(),
            target_met: answer.met(),
            breaks: breaks(problem, &answer.evaluation),
            predicted_delay_ms: answer.predicted.iter().map(|delay| ms(*delay)).collect(),
            cost_per_hour: answer.evaluation.cost.total().as_f64(),
            moves: moves.sum(),
            evaluations: answer.evaluations,
            budget_exhausted: answer.exhausted,
            seconds: answer.time.as_secs_f64(),
        }
    }
}

fn edge_plan(
    loaded: &Loaded,
    edge: EdgeIx,
    before: &Evaluation,
    answer: &Answer,
    predicted: Micros,
    reach: Reach,
) -> EdgePlan {
    let problem = &loaded.problem;
    let value = problem.edge(edge);
    let (now, then) = (
        loaded.current.at_edge(problem, edge),
        answer.placement.at_edge(problem, edge),
    );
    let model_now = delay(before, edge);
    let target = value.and_then(|edge| edge.target);
    EdgePlan {
        name: value.map_or_else(String::new, |edge| edge.area.name.to_string()),
        placement: names(problem, &then),
        add: names(problem, &then.difference(&now).copied().collect()),
        remove: names(problem, &now.difference(&then).copied().collect()),
        delay: DelayReport {
            now_ms: ms(value.and_then(|edge| edge.measured).unwrap_or(model_now)),
            predicted_ms: ms(predicted),
            target_ms: target.map(ms),
            model_now_ms: ms(model_now),
            model_predicted_ms: ms(delay(&answer.evaluation, edge)),
        },
        reach,
        reason: reason(reach, answer.method, predicted),
        used: used(problem, &answer.evaluation, edge),
    }
}

fn reason(reach: Reach, method: Method, predicted: Micros) -> String {
    let here = format!("this one comes to {:.1} ms", ms(predicted));
    match reach {
        Reach::Met => "the target is met".to_owned(),
        Reach::NoTarget => "no target: what runs here stays".to_owned(),
        Reach::TargetTooLow => {
            format!(
                "no placement meets the target, whatever room the edge has; {here}, as near as is worth its cost"
            )
        }
        Reach::Capacity => {
            format!("within this capacity no placement meets the target, with more room one does; {here}")
        }
        Reach::Pins => {
            format!("no placement meets the target while services are pinned to the cloud; {here}")
        }
        Reach::NotFound if method == Method::Solver => format!(
            "no placement was found that meets the target, nor a proof that there is none; {here}; a larger --budget may \
             help"
        ),
        Reach::NotFound => format!("{method} found no placement that meets the target; {here}"),
    }
}

/// What the replicas of an edge request.
fn used(problem: &Problem, evaluation: &Evaluation, edge: EdgeIx) -> UseReport {
    let area = AreaIx::Edge(edge);
    let (mut cpu, mut memory, mut pods) = (0.0, 0.0, 0_u64);
    for (service, _) in problem.services() {
        let replicas = evaluation.replicas.get(service, area);
        if let Some(site) = problem.site(service, area) {
            cpu += f64::from(replicas) * site.cpu_request.as_f64();
            memory += f64::from(replicas) * site.memory_request.as_f64();
            pods += u64::from(replicas);
        }
    }
    let capacity = problem.edge(edge).map(|edge| edge.capacity).unwrap_or_default();
    let link = evaluation.edges.get(edge.position());
    UseReport {
        cpu_cores: cpu,
        cpu_cores_limit: capacity.cpu.map(CpuCores::as_f64),
        memory_gb: memory,
        memory_gb_limit: capacity.memory.map(Gigabytes::as_f64),
        pods,
        pods_limit: capacity.pods,
        traffic_bits_per_second: link.map_or(0.0, |link| link.traffic.as_f64()),
        link_utilisation: link.map_or(0.0, |link| link.utilisation.as_f64()),
    }
}

/// Capacities that a placement exceeds.
fn breaks(problem: &Problem, evaluation: &Evaluation) -> Vec<String> {
    let mut broken = Vec::new();
    for (edge, value) in problem.edges() {
        let used = used(problem, evaluation, edge);
        let over = |used: f64, limit: Option<f64>| limit.is_some_and(|limit| used > limit * (1.0 + ROUNDING));
        let pods = used.pods_limit.is_some_and(|limit| used.pods > u64::from(limit));
        let resources = [
            ("CPU", over(used.cpu_cores, used.cpu_cores_limit)),
            ("memory", over(used.memory_gb, used.memory_gb_limit)),
            ("pods", pods),
        ];
        let exceeded = resources.into_iter().filter(|(_, over)| *over);
        broken.extend(exceeded.map(|(what, _)| format!("{} of {}", what, value.area.name)));
    }
    broken
}

fn terms(problem: &Problem, evaluation: &Evaluation) -> CostTerms {
    let cost = &evaluation.cost;
    let edges = problem
        .edges()
        .zip(&cost.edges)
        .map(|((_, edge), cost)| EdgeCostTerms {
            name: edge.area.name.to_string(),
            replicas: cost.replicas.as_f64(),
            traffic: cost.network.as_f64(),
        });
    CostTerms {
        total_per_hour: cost.total().as_f64(),
        cloud_replicas: cost.cloud.as_f64(),
        edges: edges.collect(),
    }
}

fn bound(problem: &Problem, answer: &Answer, proof: &Proof, met: Option<bool>) -> BoundReport {
    let cost = answer.evaluation.cost.total().as_f64();
    let lower = proof.bound.as_f64();
    let saving = (cost - lower).max(0.0);
    let part = |of: f64| if of > 0.0 { saving / of } else { 0.0 };
    let empty = resting(problem, &DensePlacement::cloud_only(problem))
        .cost
        .total();
    let increase = cost - empty.as_f64();
    let wanted = if met == Some(false) {
        "comes as near to the targets as this one"
    } else {
        "meets the targets"
    };
    BoundReport {
        cost_per_hour: lower,
        gap: part(cost),
        gap_of_increase: (increase > 0.0).then(|| part(increase)),
        proven_optimal: proof.optimal,
        covers: format!(
            "any placement that keeps to pins and capacity and {wanted}, by the model of means at the rates, sizes and \
             times of the file"
        ),
    }
}

fn runner_up(problem: &Problem, answer: &Answer) -> Option<RunnerUpReport> {
    let other = answer.proof.as_ref()?.runner_up.as_ref()?;
    let differences = problem.edges().filter_map(|(edge, value)| {
        let (this, that) = (
            answer.placement.at_edge(problem, edge),
            other.placement.at_edge(problem, edge),
        );
        let difference = Difference {
            name: value.area.name.to_string(),
            also: names(problem, &that.difference(&this).copied().collect()),
            not: names(problem, &this.difference(&that).copied().collect()),
        };
        (this != that).then_some(difference)
    });
    Some(RunnerUpReport {
        origin: origin_name(other.origin),
        edges: differences.collect(),
        cost_per_hour: other.cost.as_f64(),
        predicted_delay_ms: other.predicted.iter().map(|delay| ms(*delay)).collect(),
        lost: other.lost,
        reason: why_lost(problem, answer, other),
    })
}

fn why_lost(problem: &Problem, answer: &Answer, other: &RunnerUp) -> String {
    let slower = problem.edges().zip(&other.predicted).zip(&answer.predicted);
    let slower = slower.filter_map(|(((_, edge), theirs), ours)| {
        let target = edge.target?;
        let (name, theirs_ms) = (&edge.area.name, ms(*theirs));
        if *ours <= target && *theirs > target {
            Some(format!(
                "{name} would see {theirs_ms:.1} ms, above its target of {:.1} ms",
                ms(target)
            ))
        } else if *ours > target && theirs > ours {
            Some(format!(
                "{name} would see {theirs_ms:.1} ms, further from its target than {:.1} ms",
                ms(*ours)
            ))
        } else {
            None
        }
    });
    match other.lost {
        Lost::Slower => {
            let slower: Vec<String> = slower.collect();
            if slower.is_empty() {
                "an edge lacks the room".to_owned()
            } else {
                slower.join(", ")
            }
        }
        Lost::Dearer => "it costs more".to_owned(),
        Lost::MovesMore => "it costs the same and moves or keeps more".to_owned(),
    }
}

fn origin_name(origin: Origin) -> String {
    match origin {
        Origin::Staying => "staying".to_owned(),
        Origin::Nothing => "nothing".to_owned(),
        Origin::Everything => "everything".to_owned(),
        Origin::Relaxation => "relaxation".to_owned(),
        Origin::Strategy(strategy) => strategy.to_string(),
        Origin::Search => "search".to_owned(),
    }
}

fn names(problem: &Problem, services: &BTreeSet<ServiceIx>) -> Vec<String> {
    services
        .iter()
        .filter_map(|service| problem.service(*service))
        .map(|service| service.name.to_string())
        .collect()
}

fn ms(delay: Micros) -> f64 {
    delay.as_f64() / 1e3
}
