//! One edge's question.

use gma_core::decide::{Ask, Direction, Objective};
use gma_core::measured::{Candidate, Tail, plan_for_statistic};
use gma_core::model::{Crossings, DensePlacement, EdgeIx, Problem, Shares, evaluate};
use gma_core::snapshot::DelayStats;
use gma_core::solver::{Budget, Solution, solve};
use gma_core::units::Micros;

/// An edge that asks.
#[derive(Debug)]
pub(super) struct Asker<'a> {
    pub(super) ask: &'a Ask,
    pub(super) edge: EdgeIx,
    pub(super) delay: &'a DelayStats,
    pub(super) objective: Objective,
}

// === impl Asker ===

impl Asker<'_> {
    /// The cheapest plan for this edge alone that brings the statistic to its target, and the mean it was made for.
    pub(super) fn alone(
        &self,
        problem: &Problem,
        current: &DensePlacement,
        tail: &Tail,
    ) -> Option<(Micros, Solution)> {
        let model_us = |placement: &DensePlacement| {
            let result = evaluate(problem, placement, &Shares::resting(problem, placement));
            let of_edge = result.edges.get(self.edge.position());
            of_edge.map_or(0.0, |edge| edge.delay.as_f64())
        };
        let (delay, statistic) = (self.delay, self.objective.statistic);
        let most_us = delay.mean_us + model_us(&DensePlacement::cloud_only(problem)) - model_us(current);
        let first_us = delay.mean_us - (statistic.of(delay) - self.ask.target_us);
        let plan = |mean_us| {
            let mean = Micros::nearest(mean_us);
            let solution = solve(&problem.with_target(self.edge, mean), current, Budget::default());
            let predicted_us = self.predicted_us(problem, &solution, tail);
            let unsure_us = self.unsure_us(problem, &solution, tail);
            Candidate {
                statistic_us: unsure_us.unwrap_or(predicted_us),
                cost: solution.evaluation.cost.total().as_f64(),
                plan: (mean, solution),
            }
        };
        let most_us = most_us.max(delay.mean_us);
        let best = plan_for_statistic(self.ask.target_us, first_us, most_us, plan)?;
        Some(best.plan)
    }

    pub(super) fn predicted_us(&self, problem: &Problem, solution: &Solution, tail: &Tail) -> f64 {
        let (mean_us, after) = self.after(problem, solution);
        tail.predict(self.objective.statistic, mean_us, &after)
    }

    /// What the statistic may be as well, where that is above the band.
    pub(super) fn unsure_us(&self, problem: &Problem, solution: &Solution, tail: &Tail) -> Option<f64> {
        let (_, high_us) = self.range_us(problem, solution, tail);
        let above_us = self.ask.target_us.max(self.objective.band.offload_above_us());
        (high_us > above_us).then_some(high_us)
    }

    /// Whether the statistic may stay where it is, or fall.
    pub(super) fn may_not_rise(&self, problem: &Problem, solution: &Solution, tail: &Tail) -> bool {
        let (low_us, _) = self.range_us(problem, solution, tail);
        low_us <= self.objective.statistic.of(self.delay)
    }

    fn range_us(&self, problem: &Problem, solution: &Solution, tail: &Tail) -> (f64, f64) {
        let (mean_us, after) = self.after(problem, solution);
        let (low_us, high_us) = tail.range(self.objective.statistic, mean_us, &after);
        match self.ask.direction {
            Direction::Offload => (low_us, high_us),
            // Where the model does not explain what is, nothing is given up for what it says.
            Direction::Unoffload => {
                let error_us = tail.error_us(self.objective.statistic);
                (low_us - error_us, high_us + error_us)
            }
        }
    }

    /// The model's mean under a solution, microseconds, and how often requests cross.
    fn after(&self, problem: &Problem, solution: &Solution) -> (f64, Crossings) {
        let mean = solution.edges.get(self.edge.position());
        let mean_us = mean.map_or(0.0, |edge| edge.predicted.as_f64());
        (
            mean_us,
            Crossings::resting(problem, self.edge, &solution.placement),
        )
    }
}
