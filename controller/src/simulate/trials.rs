//! Runs trials on the machine's cores and takes means; the result does not depend on how many there are.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use super::experiment::{Applications, Experiment, Setting};
use super::methods::{Method, Outcome, ROUNDING};
use super::statistics::{Mean, median_and_largest};

/// What is run.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) experiment: Experiment,
    pub(super) points: Vec<(f64, Setting)>,
    pub(super) trials: usize,
    pub(super) methods: Vec<Method>,
    pub(super) applications: Applications,
    pub(super) threads: usize,
}

/// One method on one application.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Run {
    /// Value of the sweep, in the unit of its column.
    pub(super) point: f64,
    pub(super) trial: usize,
    /// What the application was generated from.
    pub(super) seed: u64,
    pub(super) strategy: Method,
    #[serde(flatten)]
    pub(super) outcome: Outcome,
}

/// One method at one point: means over the trials.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Point {
    pub(super) point: f64,
    pub(super) strategy: Method,
    pub(super) trials: usize,
    pub(super) cost: Mean,
    pub(super) increase: Mean,
    pub(super) delay_ms: Mean,
    pub(super) edge_services: Mean,
    pub(super) evaluations: Mean,
    /// Share of the trials.
    pub(super) target_met: f64,
    /// (cost − bound) / cost, over the trials that met the target; the bound is the solver's.
    pub(super) gap: Option<Mean>,
    /// (cost − bound) / (cost − cloud-only cost), where that is positive.
    pub(super) gap_of_increase: Option<Mean>,
    /// (cost − the solver's) / the solver's cost on the same application, where both meet the target.
    pub(super) above_solver: Option<Mean>,
    pub(super) median_cpu_ms: f64,
    pub(super) slowest_cpu_ms: f64,
}

// === impl Plan ===

impl Plan {
    /// All runs: by point, trial and method, in the order of the plan.
    ///
    /// # Errors
    /// An application could not be made.
    pub(super) fn run(&self) -> anyhow::Result<Vec<Run>> {
        let cells: Vec<(f64, Setting, usize)> = self
            .points
            .iter()
            .flat_map(|(point, setting)| (0..self.trials).map(|trial| (*point, *setting, trial)))
            .collect();
        let bar = progress(cells.len());
        let next = AtomicUsize::new(0);
        let results: Vec<Mutex<anyhow::Result<Vec<Run>>>> =
            cells.iter().map(|_| Mutex::new(Ok(Vec::new()))).collect();
        let work = || {
            loop {
                let taken = next.fetch_add(1, Ordering::Relaxed);
                let (Some(cell), Some(result)) = (cells.get(taken), results.get(taken)) else {
                    return;
                };
                let runs = self.cell(cell);
                if let Ok(mut place) = result.lock() {
                    *place = runs;
                }
                bar.inc(1);
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..self.threads.clamp(1, cells.len().max(1)) {
                scope.spawn(work);
            }
        });
        bar.finish_and_clear();
        let mut runs = Vec::new();
        for result in results {
            runs.extend(
                result
                    .into_inner()
                    .unwrap_or_else(std::sync::PoisonError::into_inner)?,
            );
        }
        Ok(runs)
    }

    fn cell(&self, (point, setting, trial): &(f64, Setting, usize)) -> anyhow::Result<Vec<Run>> {
        let problem = self.applications.problem(self.experiment, setting, *trial)?;
        let seed = self.applications.seed(*trial);
        let run = |method: &Method| Run {
            point: *point,
            trial: *trial,
            seed,
            strategy: *method,
            outcome: method.run(&problem, setting, seed),
        };
        Ok(self.methods.iter().map(run).collect())
    }

    /// Means over the trials: by point and method.
    pub(super) fn points(&self, runs: &[Run]) -> Vec<Point> {
        let mut points = Vec::new();
        for at_point in runs.chunk_by(|one, two| one.point == two.point) {
            for method in &self.methods {
                let of_method = at_point.iter().filter(|run| run.strategy == *method);
                points.extend(mean(&of_method.collect::<Vec<_>>(), at_point));
            }
        }
        points
    }
}

/// `at_point` holds the solver's runs, whose bounds the others are held against.
fn mean(runs: &[&Run], at_point: &[Run]) -> Option<Point> {
    let first = runs.first()?;
    let of = |value: fn(&Outcome) -> f64| Mean::of(runs.iter().map(|run| value(&run.outcome)));
    let solved = |trial: usize| {
        let of_trial = at_point.iter().filter(|run| run.trial == trial);
        of_trial
            .filter(|run| run.strategy == Method::Solver)
            .map(|run| &run.outcome)
            .next()
    };
    let met = runs.iter().filter(|run| run.outcome.met);
    let above_bound = met
        .clone()
        .filter_map(|run| Some((&run.outcome, above(run.outcome.cost, solved(run.trial)?.bound?))));
    let above_solver = met.clone().filter_map(|run| {
        let best = solved(run.trial).filter(|solver| solver.met && solver.cost > 0.0)?;
        Some(run.outcome.cost / best.cost - 1.0)
    });
    let (median_cpu_ms, slowest_cpu_ms) = median_and_largest(runs.iter().map(|run| run.outcome.cpu_ms))?;
    Some(Point {
        point: first.point,
        strategy: first.strategy,
        trials: runs.len(),
        cost: of(|run| run.cost)?,
        increase: of(|run| run.increase)?,
        delay_ms: of(|run| run.delay_ms)?,
        edge_services: of(|run| run.edge_services.len() as f64)?,
        evaluations: of(|run| run.evaluations as f64)?,
        target_met: met.count() as f64 / runs.len() as f64,
        gap: Mean::of(above_bound.clone().map(|(run, above)| above / run.cost)),
        gap_of_increase: Mean::of(
            above_bound
                .filter(|(run, _)| run.increase > 0.0)
                .map(|(run, above)| above / run.increase),
        ),
        above_solver: Mean::of(above_solver),
        median_cpu_ms,
        slowest_cpu_ms,
    })
}

/// Sums in another order differ in their last digits; a bound that is above by more shows.
fn above(cost: f64, bound: f64) -> f64 {
    let above = cost - bound;
    if above.abs() <= ROUNDING * cost {
        0.0
    } else {
        above
    }
}

/// On a terminal only: elsewhere nothing is drawn.
fn progress(length: usize) -> ProgressBar {
    let bar = ProgressBar::new(length as u64);
    if let Ok(style) =
        ProgressStyle::with_template("{bar:40} {pos}/{len} trials, {elapsed} so far, {eta} to go")
    {
        bar.set_style(style);
    }
    bar.tick();
    bar
}
