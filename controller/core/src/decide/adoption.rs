//! Adoption: the first rule of each managed service.
//!
//! A first rule re-creates the service's cluster in every Envoy that knows it, so it is written apart from moves, when it
//! moves nothing (all to the cloud, where all is), and for services that somebody is seen to call. The first one alone,
//! until it is in force and calls fail no more than before; then one an evaluation, each watched for as long as it takes
//! until the last sidecar has reported. Where calls fail more, the rule is taken away again and adoption rests.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::config::Config;
use super::ramp::{Counter, STEP_DEADLINE, Seen, Tallies, Tally, errors_worse};
use super::reason::Cause;
use super::routes;
use crate::cluster::{Cluster, RoutingPlan};
use crate::ids::{ServiceName, Timestamp};
use crate::snapshot::Snapshot;

/// In force for this long without more failures, the first rule has proven that rules can be written.
const PROOF: Duration = Duration::from_secs(1);
/// A rule is watched for this long: a sidecar may report each 10 s only.
const WATCH: Duration = Duration::from_secs(12);
/// Rules that are watched at a time; at one each half second 24 are.
const MOST_WATCHED: usize = 32;

/// How far adoption is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Adoption {
    /// Rules that were written and are watched.
    watched: BTreeMap<ServiceName, Watch>,
    /// A rule was in force without harm.
    proven: bool,
    /// Rules that were taken away again, newest last.
    #[serde(default)]
    refused: Option<Refused>,
    /// Services that should have a rule and have none, in the newest evaluation.
    left: usize,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Watch {
    written: Timestamp,
    in_force: Option<Timestamp>,
    before: Seen,
    counter: Counter,
}

/// The last rule that did harm.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Refused {
    service: ServiceName,
    cause: Cause,
    until: Timestamp,
    /// In a row.
    count: u32,
}

impl Adoption {
    /// Goes on: `wanted` gets a rule for what is adopted now and loses it where it did harm. `first` are those that a
    /// move waits for. Returns the services whose rule may be written.
    pub(super) fn advance(
        &mut self,
        snapshot: &Snapshot,
        cluster: &Cluster,
        config: &Config,
        now: Timestamp,
        wanted: &mut RoutingPlan,
        first: &BTreeSet<ServiceName>,
    ) -> BTreeSet<ServiceName> {
        self.watch(snapshot, cluster, config, now, wanted);
        let unadopted: BTreeSet<&ServiceName> = candidates(snapshot, cluster, config, first)
            .filter(|service| !self.watched.contains_key(*service) && !routes::has_rule(cluster, service))
            .collect();
        self.left = unadopted.len();
        let may_go_on = self.proven || self.watched.is_empty();
        let rests = self.refused.as_ref().is_some_and(|refused| now < refused.until);
        if may_go_on && !rests && self.watched.len() < MOST_WATCHED {
            let urgent = unadopted.iter().find(|service| first.contains(**service));
            if let Some(service) = urgent.or_else(|| unadopted.first()) {
                let watch = Watch {
                    written: now,
                    in_force: None,
                    before: calls(snapshot, service),
                    counter: Counter::new(snapshot.at),
                };
                self.watched.insert((*service).clone(), watch);
                self.left -= 1;
            }
        }
        let in_force = cluster.routing.0.keys().filter(|s| routes::has_rule(cluster, s));
        in_force.chain(self.watched.keys()).cloned().collect()
    }

    fn watch(
        &mut self,
        snapshot: &Snapshot,
        cluster: &Cluster,
        config: &Config,
        now: Timestamp,
        wanted: &mut RoutingPlan,
    ) {
        let mut done = Vec::new();
        for (service, watch) in &mut self.watched {
            let Some(since) = watch.in_force else {
                if routes::has_rule(cluster, service) {
                    watch.in_force = Some(now);
                    watch.counter = Counter::new(snapshot.at);
                } else if now.since(watch.written) >= STEP_DEADLINE {
                    done.push((service.clone(), Some(Cause::NotInForce)));
                }
                continue;
            };
            let here = Tally::only_new(calls(snapshot, service));
            let tallies = watch
                .counter
                .count(snapshot, Tallies::from([(service.clone(), here)]));
            let after = tallies.get(service).map(|tally| tally.new).unwrap_or_default();
            if let Some(cause) = errors_worse(after, watch.before) {
                done.push((service.clone(), Some(cause)));
            } else if now.since(since) >= WATCH {
                done.push((service.clone(), None));
            }
            if now.since(since) >= PROOF {
                self.proven = true;
            }
        }
        for (service, cause) in done {
            self.watched.remove(&service);
            if let Some(cause) = cause {
                self.refuse(service, cause, config, now, wanted);
            }
        }
    }

    fn refuse(
        &mut self,
        service: ServiceName,
        cause: Cause,
        config: &Config,
        now: Timestamp,
        wanted: &mut RoutingPlan,
    ) {
        // A rule without callers is none.
        wanted.0.insert(service.clone(), BTreeMap::new());
        self.proven = false;
        let count = self
            .refused
            .take()
            .map_or(1, |refused| refused.count.saturating_add(1));
        let until = now.after(config.back_off(count));
        self.refused = Some(Refused {
            service,
            cause,
            until,
            count,
        });
    }

    /// Whether a rule was written and has not proven itself yet.
    pub(super) fn is_watched(&self, service: &ServiceName) -> bool {
        !self.proven && self.watched.contains_key(service)
    }

    /// What it does, in a sentence; none where all is done.
    pub fn sentence(&self, now: Timestamp) -> Option<String> {
        if let Some(refused) = self.refused.as_ref().filter(|refused| now < refused.until) {
            return Some(format!(
                "adoption rests for {:.0} s: the rule of {} was taken away ({})",
                refused.until.since(now).as_secs_f64(),
                refused.service,
                refused.cause
            ));
        }
        let under_way = self
            .watched
            .values()
            .filter(|watch| watch.in_force.is_none())
            .count();
        match under_way + self.left {
            0 => None,
            left => Some(format!("adopting services: {left} without a rule")),
        }
    }
}

/// Services of the cloud that somebody is seen to call, or that a move needs; but for those whose rule can't be written.
fn candidates<'a>(
    snapshot: &'a Snapshot,
    cluster: &'a Cluster,
    config: &'a Config,
    first: &'a BTreeSet<ServiceName>,
) -> impl Iterator<Item = &'a ServiceName> {
    let called = snapshot.calls.iter().filter(|call| call.outcomes.total() > 0);
    called
        .map(|call| &call.callee)
        .chain(first)
        .filter(|service| routes::is_ready(cluster, service, &config.cloud))
        .filter(|service| !cluster.unroutable.contains_key(*service))
}

/// All calls to a service in the window, from everywhere.
fn calls(snapshot: &Snapshot, service: &ServiceName) -> Seen {
    let calls = snapshot.calls.iter().filter(|call| call.callee == *service);
    calls.fold(Seen::default(), |sum, call| sum.plus(Seen::of(&call.outcomes)))
}
