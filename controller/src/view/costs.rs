//! What runs, times the prices that the planner counts with.
//!
//! Not the planner's cost of a placement: that has the replicas which the model expects, this has those which run.

use std::collections::BTreeMap;

use gma_core::cluster::Phase;
use gma_core::ids::AreaName;
use gma_core::model::Area;
use gma_core::snapshot::{CallStats, Caller};
use serde::{Deserialize, Serialize};

use super::Seen;

/// Bytes of a GB, as traffic is charged.
const GIGABYTE: f64 = 1e9;

/// An hour of an area, in the currency of the prices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AreaCost {
    /// Replicas that run.
    pub replicas: u32,
    /// Their requests of CPU and memory at the area's prices.
    pub instances_per_hour: f64,
    /// Answers that came from the cloud in the window, at the price of a GB; 0 for the cloud.
    pub traffic_per_hour: f64,
}

/// An hour of everything.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Costs {
    /// By area.
    pub areas: BTreeMap<AreaName, AreaCost>,
    /// All areas.
    pub per_hour: f64,
}

impl Costs {
    pub(super) fn of(seen: &Seen<'_>) -> Self {
        let settings = seen.settings;
        let areas = std::iter::once(&settings.cloud).chain(settings.edges.iter().map(|edge| &edge.area));
        let mut areas: BTreeMap<AreaName, AreaCost> = areas
            .map(|area| (area.name.clone(), instances(seen, area)))
            .collect();
        let hours = seen.snapshot.window.as_secs_f64() / 3_600.0;
        for edge in &settings.edges {
            if let Some(cost) = areas.get_mut(&edge.area.name).filter(|_| hours > 0.0) {
                let bytes = bytes_from(&seen.snapshot.calls, &settings.cloud.name, &edge.area.name);
                cost.traffic_per_hour = bytes / GIGABYTE / hours * edge.traffic_gb.as_f64();
            }
        }
        let per_hour = areas
            .values()
            .map(|cost| cost.instances_per_hour + cost.traffic_per_hour)
            .sum();
        Self { areas, per_hour }
    }
}

fn instances(seen: &Seen<'_>, area: &Area) -> AreaCost {
    let mut cost = AreaCost::default();
    for instance in &seen.cluster.instances {
        if instance.area != area.name || instance.phase == Phase::Failed {
            continue;
        }
        let service = seen
            .settings
            .services
            .get(&instance.service)
            .unwrap_or(&seen.settings.default_service);
        let replica = service.cpu_request.as_f64() * area.prices.cpu_core_hour.as_f64()
            + service.memory_request.as_f64() * area.prices.memory_gb_hour.as_f64();
        cost.replicas += instance.replicas;
        cost.instances_per_hour += f64::from(instance.replicas) * replica;
    }
    cost
}

/// Bytes of answers from `from` to callers in `to`, in the window.
#[expect(
    clippy::cast_precision_loss,
    reason = "bytes of one window are far below 2^52"
)]
fn bytes_from(calls: &[CallStats], from: &AreaName, to: &AreaName) -> f64 {
    let crosses = |call: &&CallStats| {
        let caller = match &call.caller {
            Caller::User { edge } => edge,
            Caller::Instance { area, .. } => area,
        };
        caller == to && call.callee_area.as_ref() == Some(from)
    };
    calls
        .iter()
        .filter(crosses)
        .map(|call| call.response_bytes as f64)
        .sum()
}
