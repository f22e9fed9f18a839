//! What concerns all edges: the forms of the rules, first rules, the one write of weights, and the cloud's replicas.

use std::collections::{BTreeMap, BTreeSet};

use super::adoption::Adoption;
use super::capacity::Requests;
use super::config::Config;
use super::forms::Forms;
use super::{Effect, routes};
use crate::cluster::{Cluster, RoutingPlan};
use crate::ids::{AreaName, ServiceName, Timestamp};
use crate::snapshot::Snapshot;

/// One evaluation, after all edges' turns.
pub(super) struct Writes<'a> {
    pub(super) snapshot: &'a Snapshot,
    pub(super) cluster: &'a Cluster,
    pub(super) config: &'a Config,
    pub(super) now: Timestamp,
    pub(super) in_force: &'a RoutingPlan,
    /// Services whose weights or instances change, and where.
    pub(super) moving: &'a BTreeMap<ServiceName, AreaName>,
}

impl Writes<'_> {
    /// The rules to write, if any has to be. `adopt` are services that a move needs a rule of.
    pub(super) fn route(
        &self,
        adoption: &mut Adoption,
        adopt: &BTreeSet<ServiceName>,
        mut wanted: RoutingPlan,
    ) -> Option<Effect> {
        if self.config.by_readiness() {
            // Nothing is ordered: what a stage wanted comes by itself, with its instances.
            routes::set_by_readiness(&mut wanted, self.cluster, self.config);
        } else {
            let forms = Forms {
                config: self.config,
                snapshot: self.snapshot,
                cluster: self.cluster,
                in_force: self.in_force,
            };
            forms.settle(&mut wanted, |service| self.moving.get(service).cloned());
        }
        let (snapshot, cluster, config) = (self.snapshot, self.cluster, self.config);
        let adopted = adoption.advance(snapshot, cluster, config, self.now, &mut wanted, adopt);
        wanted.0.retain(|service, _| adopted.contains(service));
        let shows = |(service, rule): (&ServiceName, &BTreeMap<_, _>)| {
            let has_rule = routes::has_rule(cluster, service);
            if rule.is_empty() {
                !has_rule
            } else {
                has_rule && self.in_force.0.get(service) == Some(rule)
            }
        };
        (!wanted.0.iter().all(shows)).then_some(Effect::Route { plan: wanted })
    }

    /// Replicas that the cloud lacks, or has too many of.
    pub(super) fn scale(&self, requests: &mut Requests) -> Vec<Effect> {
        requests.effects(self.cluster, self.config, |service| {
            self.moving.get(service).cloned()
        })
    }
}
