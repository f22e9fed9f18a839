//! Answers the decision machine's questions with the core's model and solver.
//!
//! All edges that ask are solved together, with one target on the model's mean for each. A target on a quantile, or on
//! the mean where calls are at once ([`Crossings::overlooked`]), is first turned into one on the model's mean, edge by
//! edge: the one whose cheapest plan meets the target ([`gma_core::measured::plan_for_statistic`]). What an
//! edge's users see does not depend on what other edges run (the shared cloud shares cost, not delay), so the mean found
//! alone is right in company. Where the set that is cheapest in company has the mean but misses the quantile, the edge
//! keeps the set that was found for it alone.

mod asker;
mod capacity;
mod reasons;

use std::collections::{BTreeMap, BTreeSet};

use gma_core::cluster::{Cluster, RoutingPlan};
use gma_core::decide::{
    Alternative, Ask, Config, Direction, NoPlan, Objective, PlannedMove, Planner, Replicas, Searched,
    Statistic,
};
use gma_core::ids::{AreaName, ServiceName};
use gma_core::measured::{Learned, Settings, Tail};
use gma_core::model::{
    AreaIx, Crossings, DensePlacement, EdgeIx, Pin, Problem, ServiceIx, Shares, Spec, evaluate,
};
use gma_core::snapshot::{DelayStats, Measured, Snapshot};
use gma_core::solver::{Budget, Reach, Solution, solve};
use gma_core::units::{CpuCores, Micros, Money};

use asker::Asker;
use reasons::{ms, reasons};

/// Plans on what was measured.
#[derive(Debug)]
pub struct MeasuredPlanner {
    settings: Settings,
    objectives: BTreeMap<AreaName, Objective>,
}

impl MeasuredPlanner {
    /// A planner for the machine's areas that knows what was learned earlier.
    pub fn new(config: &Config, learned: Learned) -> Self {
        let mut settings = Settings::new(config.cloud.clone(), config.edges.keys().cloned());
        settings.learned = learned;
        Self {
            settings,
            objectives: config.edges.clone(),
        }
    }

    /// What was learned so far.
    pub const fn learned(&self) -> &Learned {
        &self.settings.learned
    }

    /// What it counts with.
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Learns from a window, and takes the CPU in use, cores by service.
    pub fn observe(&mut self, snapshot: &Snapshot, cores: BTreeMap<ServiceName, f64>) {
        self.settings.cpu_cores = cores
            .into_iter()
            .map(|(service, cores)| (service, CpuCores::nearest(cores)))
            .collect();
        let mut learned = std::mem::take(&mut self.settings.learned);
        learned.observe(snapshot, &self.settings);
        self.settings.learned = learned;
    }

    /// An edge whose question can be put to the model.
    fn asker<'a>(
        &self,
        problem: &Problem,
        ask: &'a Ask,
        snapshot: &'a Snapshot,
    ) -> Result<Asker<'a>, NoPlan> {
        let lacking = |what: String| NoPlan::NotEnoughData { what };
        let Some(Measured::Present { value: delay }) =
            snapshot.edges.get(&ask.edge).map(|edge| &edge.user_delay)
        else {
            return Err(lacking(format!("no user delay of {} in the window", ask.edge)));
        };
        let Some(edge) = problem.edge_by_name(&ask.edge) else {
            return Err(lacking(format!("{} is no edge of the problem", ask.edge)));
        };
        Ok(Asker {
            ask,
            edge,
            delay,
            objective: self.objectives.get(&ask.edge).copied().unwrap_or_default(),
        })
    }

    /// The problem of those that have all that it needs; the others' reasons.
    fn problem(
        &self,
        asks: &[Ask],
        snapshot: &Snapshot,
        cluster: &Cluster,
    ) -> (Option<Problem>, BTreeMap<AreaName, NoPlan>) {
        let mut lacking = BTreeMap::new();
        let mut able: Vec<AreaName> = Vec::new();
        for ask in asks {
            let alone = std::slice::from_ref(&ask.edge);
            match Problem::from_measurements(snapshot, cluster, &self.settings, alone) {
                Ok(_) => able.push(ask.edge.clone()),
                Err(missing) => {
                    let what = missing.to_string();
                    lacking.insert(ask.edge.clone(), NoPlan::NotEnoughData { what });
                }
            }
        }
        if able.is_empty() {
            return (None, lacking);
        }
        match Problem::from_measurements(snapshot, cluster, &self.settings, &able) {
            Ok(problem) => (Some(self.with_standby(problem)), lacking),
            Err(missing) => {
                let what = missing.to_string();
                lacking.extend(able.into_iter().map(|edge| {
                    let what = what.clone();
                    (edge, NoPlan::NotEnoughData { what })
                }));
                (None, lacking)
            }
        }
    }
}

impl MeasuredPlanner {
    /// With each edge's form of the standby.
    fn with_standby(&self, problem: Problem) -> Problem {
        let mut spec = problem.spec().clone();
        for edge in &mut spec.edges {
            edge.standby = self.objectives.get(&edge.area.name).map(Objective::standby);
        }
        Problem::try_new(spec).unwrap_or(problem)
    }
}

impl Planner for MeasuredPlanner {
    fn change_us(
        &self,
        edge: &AreaName,
        from: &RoutingPlan,
        to: &RoutingPlan,
        delay: Option<&DelayStats>,
        snapshot: &Snapshot,
        cluster: &Cluster,
    ) -> Option<f64> {
        let cluster = capacity::settled(cluster);
        let alone = std::slice::from_ref(edge);
        let problem = Problem::from_measurements(snapshot, &cluster, &self.settings, alone).ok()?;
        let ix = problem.edge_by_name(edge)?;
        let user_delay = &snapshot.edges.get(edge)?.user_delay;
        let ((Some(delay), _) | (None, Measured::Present { value: delay })) = (delay, user_delay) else {
            return None;
        };
        let statistic = self.objectives.get(edge)?.statistic;
        let placement = DensePlacement::from_cluster(&problem, &cluster);
        let under = |plan: &RoutingPlan| {
            let shares = Shares::from_plan(&problem, plan);
            let result = evaluate(&problem, &placement, &shares);
            let mean_us = result.edges.get(ix.position()).map(|edge| edge.delay.as_f64());
            Some((mean_us?, Crossings::new(&problem, ix, &placement, &shares)))
        };
        let ((before_us, crossings), (after_us, after)) = (under(from)?, under(to)?);
        let tail = Tail::of(statistic, delay, crossings);
        let predicted_us = tail.predict(statistic, delay.mean_us + after_us - before_us, &after);
        Some(predicted_us - statistic.of(delay))
    }

    fn replicas(
        &self,
        edge: &AreaName,
        routing: &RoutingPlan,
        snapshot: &Snapshot,
        cluster: &Cluster,
    ) -> BTreeMap<ServiceName, Replicas> {
        let alone = std::slice::from_ref(edge);
        let problem =
            Problem::from_measurements(snapshot, &capacity::settled(cluster), &self.settings, alone);
        problem.map_or_else(
            |_| BTreeMap::new(),
            |problem| capacity::replicas(&problem, edge, routing),
        )
    }

    fn plan(
        &self,
        asks: &[Ask],
        snapshot: &Snapshot,
        cluster: &Cluster,
    ) -> BTreeMap<AreaName, Result<PlannedMove, NoPlan>> {
        let cluster = capacity::settled(cluster);
        let (problem, lacking) = self.problem(asks, snapshot, &cluster);
        let mut answers: BTreeMap<_, _> = lacking.into_iter().map(|(edge, why)| (edge, Err(why))).collect();
        let Some(problem) = problem else {
            return answers;
        };
        let mut askers = Vec::new();
        for ask in asks
            .iter()
            .filter(|ask| !answers.contains_key(&ask.edge))
            .collect::<Vec<_>>()
        {
            match self.asker(&problem, ask, snapshot) {
                Ok(asker) => askers.push(asker),
                Err(why) => {
                    answers.insert(ask.edge.clone(), Err(why));
                }
            }
        }
        let current = DensePlacement::from_cluster(&problem, &cluster);
        let problem = fix(problem, &current, &askers);
        let together = Together::solve(&problem, &current, &askers);
        for asker in &askers {
            answers.insert(asker.ask.edge.clone(), together.answer(asker));
        }
        answers
    }
}

/// The answer to all.
struct Together<'a> {
    problem: &'a Problem,
    current: &'a DensePlacement,
    edges: BTreeSet<AreaName>,
    solution: Solution,
    cost_before: Money,
    tails: BTreeMap<EdgeIx, Tail>,
    /// Sets of edges that the solution's would miss their quantile with.
    alone: BTreeMap<EdgeIx, Solution>,
}

// === impl Together ===

impl<'a> Together<'a> {
    fn solve(problem: &'a Problem, current: &'a DensePlacement, askers: &[Asker<'_>]) -> Self {
        let mut tails = BTreeMap::new();
        let mut alone = BTreeMap::new();
        let mut spec = problem.spec().clone();
        for edge in &mut spec.edges {
            edge.target = None;
        }
        for asker in askers {
            let now = Crossings::resting(problem, asker.edge, current);
            let tail = Tail::of(asker.objective.statistic, asker.delay, now);
            let is_modelled = asker.objective.statistic == Statistic::Mean && problem.is_serial();
            let mean = if is_modelled {
                Some(Micros::nearest(asker.ask.target_us))
            } else {
                asker.alone(problem, current, &tail).map(|(mean, solution)| {
                    alone.insert(asker.edge, solution);
                    mean
                })
            };
            if let Some(edge) = spec.edges.get_mut(asker.edge.position()) {
                edge.target = mean;
            }
            tails.insert(asker.edge, tail);
        }
        let solution = match (askers, alone.len()) {
            // Solved already.
            ([asker], 1) => alone.remove(&asker.edge),
            _ => None,
        };
        let solution = solution.unwrap_or_else(|| match Problem::try_new(spec) {
            Ok(problem) => solve(&problem, current, Budget::default()),
            // A target changes nothing that is checked.
            Err(_) => solve(problem, current, Budget::default()),
        });
        let before = evaluate(problem, current, &Shares::resting(problem, current));
        Self {
            problem,
            current,
            edges: askers.iter().map(|asker| asker.ask.edge.clone()).collect(),
            solution,
            cost_before: before.cost.total(),
            tails,
            alone,
        }
    }

    fn answer(&self, asker: &Asker<'_>) -> Result<PlannedMove, NoPlan> {
        let (edge, target_us) = (asker.edge, asker.ask.target_us);
        let Some(tail) = self.tails.get(&edge) else {
            return Err(NoPlan::NoBetterPlacement);
        };
        let mut solution = &self.solution;
        let mut predicted_us = asker.predicted_us(self.problem, solution, tail);
        if let Some(alone) = self.alone.get(&edge).filter(|_| predicted_us > target_us) {
            let alone_us = asker.predicted_us(self.problem, alone, tail);
            if alone_us < predicted_us {
                (solution, predicted_us) = (alone, alone_us);
            }
        }
        let (add, remove) = self.change(edge, &solution.placement);
        let reach = solution
            .edges
            .get(edge.position())
            .map_or(Reach::NoTarget, |edge| edge.reach);
        let above_us = target_us.max(asker.objective.band.offload_above_us());
        if predicted_us > above_us {
            let what = format!("{} at {}", ms(target_us), asker.ask.edge);
            match reach {
                Reach::Capacity => return Err(NoPlan::Capacity { what }),
                Reach::Pins => return Err(NoPlan::Pins { what }),
                Reach::NotFound => {}
                Reach::Met | Reach::NoTarget | Reach::TargetTooLow if add.is_empty() && remove.is_empty() => {
                }
                Reach::Met | Reach::NoTarget | Reach::TargetTooLow => {
                    return Err(NoPlan::TargetBelowLeak {
                        target_us,
                        reachable_us: predicted_us,
                    });
                }
            }
        }
        // What serves well is not given up for what may be above the band, nor exchanged for what may serve as it does.
        let is_unsure = || {
            asker.unsure_us(self.problem, solution, tail).is_some()
                || !add.is_empty() && asker.may_not_rise(self.problem, solution, tail)
        };
        let is_needless = asker.ask.direction == Direction::Unoffload && is_unsure();
        if is_needless || add.is_empty() && remove.is_empty() {
            return Err(NoPlan::NoBetterPlacement);
        }
        Ok(PlannedMove {
            measured_us: asker.objective.statistic.of(asker.delay),
            delay: Some(asker.delay.clone()),
            predicted_us,
            cost_before: self.cost_before.as_f64(),
            cost_after: self.cost_of(edge, &solution.placement),
            reasons: reasons(reach, predicted_us, target_us),
            search: Some(self.searched(asker, tail)),
            cloud_replicas: self.cloud_replicas(edge, &solution.placement, &remove),
            add,
            remove,
        })
    }

    /// Services that an edge gets and loses with a placement.
    fn change(
        &self,
        edge: EdgeIx,
        placement: &DensePlacement,
    ) -> (BTreeSet<ServiceName>, BTreeSet<ServiceName>) {
        let (present, after) = (
            self.current.at_edge(self.problem, edge),
            placement.at_edge(self.problem, edge),
        );
        let names = |services: Vec<&ServiceIx>| {
            let services = services.into_iter();
            let services = services.filter_map(|service| self.problem.service(*service));
            services.map(|service| service.name.clone()).collect()
        };
        (
            names(after.difference(&present).collect()),
            names(present.difference(&after).collect()),
        )
    }

    /// Replicas in the cloud of the services that leave an edge, once they have.
    fn cloud_replicas(
        &self,
        edge: EdgeIx,
        placement: &DensePlacement,
        left: &BTreeSet<ServiceName>,
    ) -> BTreeMap<ServiceName, u32> {
        let only = self.only(edge, placement);
        let replicas = evaluate(self.problem, &only, &Shares::resting(self.problem, &only)).replicas;
        let services = left.iter().filter_map(|name| {
            let service = self.problem.service_by_name(name)?;
            Some((name.clone(), replicas.get(service, AreaIx::Cloud)))
        });
        services.collect()
    }

    /// What runs, with this edge's part of a placement only.
    fn cost_of(&self, edge: EdgeIx, placement: &DensePlacement) -> f64 {
        let only = self.only(edge, placement);
        let shares = Shares::resting(self.problem, &only);
        evaluate(self.problem, &only, &shares).cost.total().as_f64()
    }

    fn only(&self, edge: EdgeIx, placement: &DensePlacement) -> DensePlacement {
        let mut only = self.current.clone();
        for (service, _) in self.problem.services() {
            only.set(edge, service, placement.contains(edge, service));
        }
        only
    }

    fn searched(&self, asker: &Asker<'_>, tail: &Tail) -> Searched {
        let Solution {
            evaluation,
            bound,
            runner_up,
            evaluations,
            exhausted,
            ..
        } = &self.solution;
        let cost = evaluation.cost.total();
        let runner_up = runner_up.as_ref().and_then(|other| {
            let (add, remove) = self.change(asker.edge, &other.placement);
            let mean_us = other.predicted.get(asker.edge.position())?.as_f64();
            let after = Crossings::resting(self.problem, asker.edge, &other.placement);
            let chosen = self.change(asker.edge, &self.solution.placement);
            let differs = chosen != (add.clone(), remove.clone());
            differs.then(|| Alternative {
                add,
                remove,
                predicted_us: tail.predict(asker.objective.statistic, mean_us, &after),
                cost: other.cost.as_f64(),
                lost: other.lost,
            })
        });
        Searched {
            together: self.edges.clone(),
            cost_together: cost.as_f64(),
            cost_bound: bound.cost.as_f64(),
            gap: bound.gap(cost),
            optimal: bound.optimal,
            evaluations: *evaluations,
            exhausted: *exhausted,
            runner_up,
        }
    }
}

/// Pins what none of the asking edges can move, where a pin says just that: nowhere at the edges, or at all of them. What
/// else is fixed stays free, and a plan that moves it is held by the machine.
fn fix(problem: Problem, current: &DensePlacement, askers: &[Asker<'_>]) -> Problem {
    let mut spec: Spec = problem.spec().clone();
    for (service, value) in problem.services() {
        if !askers.iter().all(|asker| asker.ask.fixed.contains(&value.name)) {
            continue;
        }
        let runs = || problem.edges().map(|(edge, _)| current.contains(edge, service));
        let pin = if runs().all(|runs| !runs) {
            Pin::Cloud
        } else if runs().all(|runs| runs) {
            Pin::Edge
        } else {
            continue;
        };
        if let Some(value) = spec.services.get_mut(service.position()) {
            value.pin = pin;
        }
    }
    Problem::try_new(spec).unwrap_or(problem)
}

#[cfg(test)]
mod tests;
