//! A planner that tries all placements of the small world.

use std::collections::{BTreeMap, BTreeSet};

use super::users::SERVICES;
use super::world::World;
use crate::cluster::{Cluster, RoutingPlan};
use crate::decide::{Ask, Direction, NoPlan, PlannedMove, Planner, Replicas, routes};
use crate::ids::{AreaName, ServiceName};
use crate::snapshot::{DelayStats, Measured, Snapshot};

/// Knows the world's delay model, the edges' round trips, and nothing of what is wrong.
pub(super) struct Exhaustive<'a>(pub(super) &'a World);

impl Planner for Exhaustive<'_> {
    fn plan(
        &self,
        asks: &[Ask],
        snapshot: &Snapshot,
        cluster: &Cluster,
    ) -> BTreeMap<AreaName, Result<PlannedMove, NoPlan>> {
        self.0.asked.borrow_mut().push(asks.to_vec());
        let answer = |ask: &Ask| (ask.edge.clone(), self.one(ask, snapshot, cluster));
        asks.iter().map(answer).collect()
    }

    fn change_us(
        &self,
        edge: &AreaName,
        from: &RoutingPlan,
        to: &RoutingPlan,
        _: Option<&DelayStats>,
        _: &Snapshot,
        _: &Cluster,
    ) -> Option<f64> {
        let world = &self.0.edges[edge];
        let model = |plan: &RoutingPlan| {
            let share = |s: &str| f64::from(routes::share(plan, &s.into(), edge)) / 100.0;
            world.model_ms(share, 0.0) * 1e3
        };
        Some(model(to) - model(from))
    }

    fn replicas(
        &self,
        edge: &AreaName,
        routing: &RoutingPlan,
        _: &Snapshot,
        _: &Cluster,
    ) -> BTreeMap<ServiceName, Replicas> {
        let needs = SERVICES.into_iter().map(|service| {
            let service = ServiceName::from(service);
            let share = routes::share(routing, &service, edge);
            let wanted = (self.0.edge_needs * share).div_ceil(100).max(1);
            let least = wanted.saturating_sub(1).max(1);
            (service, Replicas { wanted, least })
        });
        needs.collect()
    }
}

impl Exhaustive<'_> {
    fn one(&self, ask: &Ask, snapshot: &Snapshot, cluster: &Cluster) -> Result<PlannedMove, NoPlan> {
        let Ask {
            edge,
            direction,
            target_us,
            fixed,
        } = ask;
        let target_us = *target_us;
        if let Some(why) = &self.0.no_plan {
            return Err(why.clone());
        }
        let world = &self.0.edges[edge];
        let now: BTreeSet<&str> = SERVICES
            .into_iter()
            .filter(|s| routes::is_ready(cluster, &(*s).into(), edge))
            .collect();
        let model = |placed: &BTreeSet<&str>| {
            world.model_ms(|s| if placed.contains(s) { 0.99 } else { 0.0 }, 0.0) * 1e3
        };
        let Measured::Present { value } = &snapshot.edges[edge].user_delay else {
            return Err(NoPlan::NotEnoughData {
                what: "delay".to_owned(),
            });
        };
        let measured_us = value.mean_us;
        if let Some(add) = self.0.script.get(edge) {
            return Ok(PlannedMove {
                cloud_replicas: BTreeMap::new(),
                add: add.clone(),
                remove: BTreeSet::new(),
                measured_us,
                delay: None,
                predicted_us: target_us,
                cost_before: 0.0,
                cost_after: 1.0,
                reasons: String::new(),
                search: None,
            });
        }
        if self.0.swaps && *direction == Direction::Unoffload {
            let free = |s: &&str| !fixed.contains(&ServiceName::from(*s));
            let find = |there: bool| {
                let mut services = SERVICES.into_iter().filter(free);
                let found = services.find(|s| now.contains(s) == there);
                found.map(|s| BTreeSet::from([s.into()]))
            };
            let (Some(add), Some(remove)) = (find(false), find(true)) else {
                return Err(NoPlan::NoBetterPlacement);
            };
            return Ok(PlannedMove {
                cloud_replicas: BTreeMap::new(),
                add,
                remove,
                measured_us,
                delay: None,
                predicted_us: if self.0.lowers {
                    measured_us / 2.0
                } else {
                    target_us
                },
                cost_before: 1.0,
                cost_after: 0.9,
                reasons: String::new(),
                search: None,
            });
        }
        let candidates = (0..16_u32).map(|bits| -> (BTreeSet<&str>, f64) {
            let placed = SERVICES
                .into_iter()
                .enumerate()
                .filter(|(i, _)| bits & (1 << i) != 0);
            let placed = placed.map(|(_, s)| s).collect();
            let predicted = measured_us + model(&placed) - model(&now);
            (placed, predicted)
        });
        let moves = |placed: &BTreeSet<&str>| -> BTreeSet<ServiceName> {
            placed.symmetric_difference(&now).map(|s| (*s).into()).collect()
        };
        let candidates = candidates.filter(|(placed, _)| moves(placed).is_disjoint(fixed));
        let fits = candidates
            .clone()
            .filter(|(_, predicted)| *predicted <= target_us);
        let dearest_delay = |a: f64, b: f64| b.total_cmp(&a);
        let cheapest = fits.min_by(|a, b| a.0.len().cmp(&b.0.len()).then(dearest_delay(a.1, b.1)));
        let best = || candidates.min_by(|a, b| a.1.total_cmp(&b.1));
        let (placed, predicted_us) = match direction {
            Direction::Offload => cheapest.or_else(best),
            Direction::Unoffload => cheapest.filter(|(placed, _)| placed.len() < now.len()),
        }
        .ok_or(NoPlan::NoBetterPlacement)?;
        let reachable_us = predicted_us;
        if target_us.max(self.0.config.edges[edge].band.offload_above_us()) < reachable_us {
            return Err(NoPlan::TargetBelowLeak {
                target_us,
                reachable_us,
            });
        }
        let minus = |a: &BTreeSet<&str>, b: &BTreeSet<&str>| a.difference(b).map(|s| (*s).into()).collect();
        Ok(PlannedMove {
            add: minus(&placed, &now),
            remove: minus(&now, &placed),
            measured_us,
            delay: None,
            predicted_us,
            cost_before: f64::from(u32::try_from(now.len()).unwrap()),
            cost_after: f64::from(u32::try_from(placed.len()).unwrap()),
            reasons: "the fewest services that reach the target".to_owned(),
            cloud_replicas: self.0.cloud_replicas.clone(),
            search: None,
        })
    }
}
