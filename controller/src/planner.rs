//! Answers the decision machine's question with the core's model and strategy.

use std::collections::{BTreeMap, BTreeSet};

use gma_core::cluster::Cluster;
use gma_core::decide::{Config, Direction, NoPlan, Objective, PlannedMove, Planner, Statistic};
use gma_core::ids::{AreaName, ServiceName};
use gma_core::measured::{Candidate, Learned, Settings, Tail, plan_for_statistic};
use gma_core::model::{Crossings, DensePlacement, EdgeIx, Problem, ServiceIx, Shares, Standby, evaluate};
use gma_core::snapshot::{DelayStats, Measured, Snapshot};
use gma_core::solver::{self, Plan, Reach};
use gma_core::units::{CpuCores, Micros};

/// Plans on what was measured.
#[derive(Debug)]
pub struct MeasuredPlanner {
    settings: Settings,
    objectives: BTreeMap<AreaName, Objective>,
}

impl MeasuredPlanner {
    /// A planner for the machine's areas that has learned nothing yet.
    pub fn new(config: &Config) -> Self {
        let mut settings = Settings::new(config.cloud.clone(), config.edges.keys().cloned());
        settings.standby = Standby::Distribute(config.standby.clamp(1, 49));
        Self {
            settings,
            objectives: config.edges.clone(),
        }
    }

    /// What windows have taught; saved, and given back with [`Self::restore`].
    pub fn learned(&self) -> &Learned {
        &self.settings.learned
    }

    /// Goes on with what an earlier run learned. Its times count from the same start as the machine's.
    pub fn restore(&mut self, learned: Learned) {
        self.settings.learned = learned;
    }

    /// What it counts with.
    pub fn settings(&self) -> &Settings {
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
}

/// The cheapest plan that brings the statistic to its target, as far as one can be found.
fn choose(
    problem: &Problem,
    edge: EdgeIx,
    current: &DensePlacement,
    delay: &DelayStats,
    statistic: Statistic,
    target_us: f64,
) -> Option<Candidate<Plan>> {
    let crossings = |placement: &DensePlacement| Crossings::resting(problem, edge, placement);
    let tail = Tail::fit(delay, crossings(current));
    let model_us = |placement: &DensePlacement| {
        let result = evaluate(problem, placement, &Shares::resting(problem, placement));
        let of_edge = result.edges.get(edge.position());
        of_edge.map_or(0.0, |edge| edge.delay.as_f64())
    };
    let most_us = delay.mean_us + model_us(&DensePlacement::cloud_only(problem)) - model_us(current);
    let first_us = delay.mean_us - (statistic.of(delay) - target_us);
    plan_for_statistic(
        statistic,
        target_us,
        first_us,
        most_us.max(delay.mean_us),
        |mean_us| {
            let plan = solver::plan(problem, edge, current, Micros::nearest(mean_us));
            let statistic_us = tail.predict(statistic, plan.predicted.as_f64(), &crossings(&plan.placement));
            Candidate {
                statistic_us,
                cost: plan.cost_after.as_f64(),
                plan,
            }
        },
    )
}

impl Planner for MeasuredPlanner {
    fn plan(
        &self,
        _direction: Direction,
        edge: &AreaName,
        snapshot: &Snapshot,
        cluster: &Cluster,
        target_us: f64,
    ) -> Result<PlannedMove, NoPlan> {
        let lacking = |what: String| NoPlan::NotEnoughData { what };
        let Some(Measured::Present { value: delay }) = snapshot.edges.get(edge).map(|edge| &edge.user_delay)
        else {
            return Err(lacking(format!("no user delay of {edge} in the window")));
        };
        let Objective { band, statistic } = self.objectives.get(edge).copied().unwrap_or_default();
        let problem =
            Problem::from_measurements(snapshot, cluster, &self.settings, std::slice::from_ref(edge))
                .map_err(|missing| lacking(missing.to_string()))?;
        let Some(edge) = problem.edge_by_name(edge) else {
            return Err(lacking(format!("{edge} is no edge of the problem")));
        };
        let current = DensePlacement::from_cluster(&problem, cluster);
        let measured_us = statistic.of(delay);
        let Some(Candidate {
            statistic_us: predicted_us,
            plan,
            ..
        }) = choose(&problem, edge, &current, delay, statistic, target_us)
        else {
            return Err(NoPlan::NoBetterPlacement);
        };
        if plan.add.is_empty() && plan.remove.is_empty() {
            return Err(NoPlan::NoBetterPlacement);
        }
        if plan.reach != Reach::NotFound && predicted_us > target_us.max(band.offload_above_us()) {
            return Err(NoPlan::TargetBelowLeak {
                target_us,
                reachable_us: predicted_us,
            });
        }
        let names = |services: &BTreeSet<ServiceIx>| {
            services
                .iter()
                .filter_map(|service| problem.service(*service))
                .map(|service| service.name.clone())
                .collect()
        };
        Ok(PlannedMove {
            add: names(&plan.add),
            remove: names(&plan.remove),
            measured_us,
            predicted_us,
            cost_before: plan.cost_before.as_f64(),
            cost_after: plan.cost_after.as_f64(),
            reasons: reasons(plan.reach, predicted_us, target_us),
        })
    }
}

fn reasons(reach: Reach, predicted_us: f64, target_us: f64) -> String {
    let target = format!("{:.1} ms", target_us / 1_000.0);
    match reach {
        Reach::Met | Reach::NoTarget if predicted_us <= target_us => {
            format!("the cheapest set that meets {target}")
        }
        Reach::Met | Reach::NoTarget => format!("inside the band, though no set found meets {target}"),
        Reach::TargetTooLow => format!("inside the band; no set meets {target}"),
        Reach::Capacity => format!("inside the band; {target} needs more room at the edge"),
        Reach::Pins => format!("inside the band; {target} needs services that are pinned to the cloud"),
        Reach::NotFound => format!("the best that was found; {target} was not reached"),
    }
}
