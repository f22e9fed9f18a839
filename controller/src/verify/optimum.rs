//! gma-optimum-1: the cheapest placements of small applications, and what each strategy finds.

use std::collections::BTreeMap;

use gma_core::model::{DensePlacement, Problem};
use gma_core::solver::{Budget, Reach, solve};
use gma_core::strategy::{Goal, Params, Strategy, Traces};
use gma_core::units::Micros;
use serde::Deserialize;

use super::compare::{Request, close, different, within};
use super::error::VerifyError;
use super::input::Text;
use super::instance::{Application, EDGE, Instance, evaluate_at_rest};
use super::report::{Difference, Verdict};
use super::rules::{Repeated, Rule, attribute};
use super::strategy::{judge, params, traces};

/// The reference's default in the recorded runs.
const MAX_SGS: usize = 1_000_000;

#[derive(Deserialize)]
struct File {
    traces: Vec<String>,
    void_delay_s: f64,
    void_cost: f64,
    full_delay_s: f64,
    full_cost: f64,
    targets: Vec<Target>,
}

#[derive(Deserialize)]
struct Target {
    how: String,
    delay_decrease_target_s: f64,
    optimum: Optima,
    strategies: BTreeMap<String, RecordedRun>,
}

#[derive(Deserialize)]
struct Optima {
    any_subset: Optimum,
    reachable_only: Optimum,
}

#[derive(Deserialize)]
struct Optimum {
    cost: f64,
    delay_decrease_s: f64,
    edge: Vec<u8>,
}

#[derive(Deserialize)]
struct RecordedRun {
    cost: f64,
    delay_decrease_s: f64,
    edge: Vec<u8>,
    meets_target: bool,
}

/// Repeats every run and looks for every optimum.
pub(super) fn verify(text: &Text<'_>) -> Result<Vec<(String, Verdict)>, VerifyError> {
    let application = text.parse::<Instance>()?.check(text)?;
    let file: File = text.parse()?;
    let traces = traces(text, &file.traces, application.instance.n_services)?;
    let ends = attribute(Rule::MODEL, |repeated| same_ends(&application, &file, repeated));
    let mut lines = vec![("nothing and everything at the edge".to_owned(), ends)];
    for (at, target) in file.targets.iter().enumerate() {
        let name = format!("target {at} ({})", target.how);
        for (kind, optimum) in [
            ("any_subset", &target.optimum.any_subset),
            ("reachable_only", &target.optimum.reachable_only),
        ] {
            let field = format!("targets[{at}].optimum.{kind}.edge");
            text.bits(&field, &optimum.edge, application.instance.n_services, Some(1))?;
            let verdict = attribute(Rule::MODEL, |repeated| {
                same_optimum(&application, optimum, file.void_delay_s, repeated)
            });
            lines.push((format!("{name} optimum of {kind}"), verdict));
        }
        let cheapest = &target.optimum.any_subset;
        let solved = attribute(Rule::MODEL, |repeated| {
            same_solution(&application, target.delay_decrease_target_s, cheapest, repeated)
        });
        lines.push((format!("{name} solver"), solved));
        for (key, recorded) in &target.strategies {
            let field = format!("targets[{at}].strategies.{key}");
            let Some((strategy, depth)) = variant(key) else {
                return Err(text.wrong(field, "a strategy's name, with _depth and a number or _unlimited"));
            };
            text.bits(
                &format!("{field}.edge"),
                &recorded.edge,
                application.instance.n_services,
                Some(1),
            )?;
            let verdict = run(&application, &traces, strategy, depth, target, recorded);
            lines.push((format!("{name} {key}"), verdict));
        }
    }
    Ok(lines)
}

/// `SBMP_depth2`: a strategy and its depth.
fn variant(key: &str) -> Option<(Strategy, Option<usize>)> {
    let (name, depth) = match key.split_once('_') {
        None => (key, None),
        Some((name, "unlimited")) => (name, None),
        Some((name, depth)) => (name, Some(depth.strip_prefix("depth")?.parse().ok()?)),
    };
    Some((name.parse().ok()?, depth))
}

fn run(
    application: &Application,
    traces: &Traces,
    strategy: Strategy,
    depth: Option<usize>,
    target: &Target,
    recorded: &RecordedRun,
) -> Verdict {
    let start = vec![0; application.instance.n_services];
    let goal = Goal::Decrease(target.delay_decrease_target_s * 1e6);
    let request = Request {
        strategy,
        start: &start,
        used: &application.instance.cpu_usage_cores,
        params: Params {
            expanding_depth: depth,
            max_sgs: MAX_SGS,
            ..params(goal, None, traces)
        },
    };
    judge(application, &request, |request, repeated| {
        let found = request.run(application, repeated)?;
        let outcome = &found.outcome;
        let added: Vec<u32> = (0_u32..)
            .zip(&recorded.edge)
            .take(application.gateway())
            .filter(|(_, bit)| **bit == 1)
            .map(|(at, _)| at)
            .collect();
        found.same_edge(&recorded.edge, &added, &[])?;
        let (before, after) = (outcome.delay_before.as_f64() / 1e6, outcome.delay.as_f64() / 1e6);
        within(
            "delay_decrease_s",
            before - after,
            recorded.delay_decrease_s,
            before.max(after),
        )?;
        found.same_cost(recorded.cost, repeated)?;
        if outcome.met == recorded.meets_target {
            Ok(())
        } else {
            Err(different("meets_target", outcome.met, recorded.meets_target))
        }
    })
}

fn same_ends(application: &Application, file: &File, repeated: &Repeated) -> Result<(), Difference> {
    let services = application.instance.n_services;
    for (what, bit, delay_s, cost) in [
        ("void", 0, file.void_delay_s, file.void_cost),
        ("full", 1, file.full_delay_s, file.full_cost),
    ] {
        let (ours_s, ours) = state(application, &vec![bit; services], repeated)?;
        close(&format!("{what}_delay_s"), ours_s, delay_s)?;
        close(&format!("{what}_cost"), ours, cost)?;
    }
    Ok(())
}

/// The recorded figures of the recorded optimum are the model's.
fn same_optimum(
    application: &Application,
    optimum: &Optimum,
    void_delay_s: f64,
    repeated: &Repeated,
) -> Result<(), Difference> {
    let (delay_s, cost) = state(application, &optimum.edge, repeated)?;
    within(
        "delay_decrease_s",
        void_delay_s - delay_s,
        optimum.delay_decrease_s,
        void_delay_s.max(delay_s),
    )?;
    close("cost", cost, optimum.cost)
}

/// Ours is proven to be the cheapest, and costs what the cheapest of all placements does.
fn same_solution(
    application: &Application,
    decrease_s: f64,
    cheapest: &Optimum,
    repeated: &Repeated,
) -> Result<(), Difference> {
    let (void_delay_s, _) = state(application, &[], repeated)?;
    let target = Micros::nearest((void_delay_s - decrease_s) * 1e6);
    let problem = application
        .problem(&application.instance.cpu_usage_cores, repeated)
        .and_then(|problem| {
            let mut spec = problem.spec().clone();
            spec.edges.iter_mut().for_each(|edge| edge.target = Some(target));
            Problem::try_new(spec)
        })
        .map_err(|error| different("the application", error, "one"))?;
    let solution = solve(&problem, &DensePlacement::cloud_only(&problem), Budget::default());
    close("cost", solution.evaluation.cost.total().as_f64(), cheapest.cost)?;
    if solution.edges.iter().any(|edge| edge.reach != Reach::Met) {
        return Err(different("the target", "missed", "met"));
    }
    if solution.bound.optimal {
        Ok(())
    } else {
        Err(different(
            "proof",
            format!("none, bound {}", solution.bound.cost),
            "the cheapest of all",
        ))
    }
}

fn state(application: &Application, edge: &[u8], repeated: &Repeated) -> Result<(f64, f64), Difference> {
    let problem = application
        .problem(&application.instance.cpu_usage_cores, repeated)
        .map_err(|error| different("the application", error, "one"))?;
    let result = evaluate_at_rest(&problem, &application.placement(&problem, edge));
    let delay = result
        .edges
        .get(EDGE.position())
        .map_or(0.0, |edge| edge.delay.as_f64());
    Ok((delay / 1e6, result.cost.total().as_f64()))
}
