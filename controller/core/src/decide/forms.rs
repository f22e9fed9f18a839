//! The form of each service's rule: distribute while its weights move anywhere, and else as the edges that have it want it.
//!
//! A rule serves the callers of all edges, so its form is the whole machine's affair. With failover an endpoint gets
//! everything as soon as it is Ready, whatever a weight says; so wherever an instance exists that has not its final
//! weight (it is ramped, drained, or left over), the rule stays distribute.

use super::config::Config;
use super::evidence::silence;
use super::routes;
use crate::cluster::{Cluster, RoutingPlan};
use crate::ids::{AreaName, ServiceName};
use crate::model::Standby;
use crate::routing::{Form, form};
use crate::snapshot::Snapshot;

/// What forms depend on.
pub(super) struct Forms<'a> {
    pub(super) config: &'a Config,
    pub(super) snapshot: &'a Snapshot,
    pub(super) cluster: &'a Cluster,
    pub(super) in_force: &'a RoutingPlan,
}

impl Forms<'_> {
    /// Gives every service of `wanted` its form. A service of which `moves` is true keeps the form that its move has
    /// chosen: failover where the move's edge has 100.
    ///
    /// Nothing is written for a silent edge: where that would be needed, the form in force stays.
    pub(super) fn settle(&self, wanted: &mut RoutingPlan, moving: impl Fn(&ServiceName) -> Option<AreaName>) {
        let services: Vec<ServiceName> = wanted.0.keys().cloned().collect();
        for service in services {
            let there = self.edges_with(wanted, &service);
            let goal = self.goal(wanted, &service, &there, moving(&service).as_ref());
            let changed: Vec<(&AreaName, u32)> = there
                .iter()
                .filter_map(|(edge, share)| {
                    let settled = match goal {
                        Form::Failover => 100,
                        Form::Distribute if *share == 100 => self.config.final_weight(edge),
                        Form::Distribute => *share,
                    };
                    (settled != *share).then_some((*edge, settled))
                })
                .collect();
            if changed.iter().any(|(edge, _)| self.is_silent(edge)) {
                self.keep_form(wanted, &service, &there);
                continue;
            }
            for (edge, share) in changed {
                routes::set(wanted, &service, edge, &self.config.cloud, share);
            }
        }
    }

    /// Edges with weight or an instance, and the weight.
    fn edges_with<'a>(&'a self, wanted: &RoutingPlan, service: &ServiceName) -> Vec<(&'a AreaName, u32)> {
        let edges = self.config.edges.keys();
        let shares = edges.map(|edge| (edge, routes::share(wanted, service, edge)));
        shares
            .filter(|(edge, share)| *share > 0 || routes::life(self.cluster, service, edge).is_some())
            .collect()
    }

    fn goal(
        &self,
        wanted: &RoutingPlan,
        service: &ServiceName,
        there: &[(&AreaName, u32)],
        mover: Option<&AreaName>,
    ) -> Form {
        let all_final = there
            .iter()
            .all(|(edge, share)| *share >= self.config.final_weight(edge));
        let wants = match mover {
            Some(edge) => routes::share(wanted, service, edge) == 100,
            None => there
                .iter()
                .any(|(edge, _)| self.config.standby(edge) == Standby::Failover),
        };
        if all_final && wants {
            Form::Failover
        } else {
            Form::Distribute
        }
    }

    /// A form that can't be changed for all can't be changed: shares that don't fit it go back to what is in force.
    fn keep_form(&self, wanted: &mut RoutingPlan, service: &ServiceName, there: &[(&AreaName, u32)]) {
        let rule = self.in_force.0.get(service);
        let kept = rule.map_or(Form::Distribute, |rule| form(rule, &self.config.cloud));
        for (edge, share) in there {
            let before = routes::share(self.in_force, service, edge);
            let fits = match kept {
                Form::Failover => matches!(share, 0 | 100),
                Form::Distribute => *share < 100,
            };
            if !fits {
                routes::set(wanted, service, edge, &self.config.cloud, before);
            }
        }
    }

    fn is_silent(&self, edge: &AreaName) -> bool {
        silence(self.snapshot.edges.get(edge)).is_some()
    }
}

/// Whether the rule of `service` splits by weights, so that an instance may be made or lose its share.
pub(super) fn is_distribute(plan: &RoutingPlan, service: &ServiceName, cloud: &AreaName) -> bool {
    plan.0
        .get(service)
        .is_none_or(|rule| form(rule, cloud) == Form::Distribute)
}
