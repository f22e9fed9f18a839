//! Answers the decision machine's question with the core's model and strategy.

use std::collections::{BTreeMap, BTreeSet};

use gma_core::cluster::Cluster;
use gma_core::decide::{Config, Direction, NoPlan, Objective, PlannedMove, Planner};
use gma_core::ids::{AreaName, ServiceName};
use gma_core::measured::Settings;
use gma_core::model::{DensePlacement, Problem, ServiceIx};
use gma_core::snapshot::{Measured, Snapshot};
use gma_core::strategy::{self, Reach};
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
        Self {
            settings: Settings::new(config.cloud.clone(), config.edges.keys().cloned()),
            objectives: config.edges.clone(),
        }
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
        // The model predicts means; a quantile is taken to move by as much as its mean does.
        let above_mean_us = statistic.of(delay) - delay.mean_us;
        let problem =
            Problem::from_measurements(snapshot, cluster, &self.settings, std::slice::from_ref(edge))
                .map_err(|missing| lacking(missing.to_string()))?;
        let Some(edge) = problem.edge_by_name(edge) else {
            return Err(lacking(format!("{edge} is no edge of the problem")));
        };
        let target = Micros::nearest(target_us - above_mean_us);
        let current = DensePlacement::from_cluster(&problem, cluster);
        let plan = strategy::plan(&problem, edge, &current, target);
        if plan.add.is_empty() && plan.remove.is_empty() {
            return Err(NoPlan::NoBetterPlacement);
        }
        let predicted_us = plan.predicted.as_f64() + above_mean_us;
        if let Reach::TargetTooLow { .. } = plan.reach
            && predicted_us > band.offload_above_us()
        {
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
            measured_us: plan.now.as_f64() + above_mean_us,
            predicted_us,
            cost_before: plan.cost_before.as_f64(),
            cost_after: plan.cost_after.as_f64(),
            reasons: match plan.reach {
                Reach::Met => format!("the cheapest set found that meets {:.1} ms", target_us / 1_000.0),
                Reach::TargetTooLow { all_at_edge } => format!(
                    "inside the band, though not at {:.1} ms; everything at the edge gives a mean of {all_at_edge}",
                    target_us / 1_000.0
                ),
                Reach::NoBetterPlacement => "nothing better was found".to_owned(),
                Reach::OutOfEvaluations => "the best found within the budget".to_owned(),
            },
        })
    }
}
