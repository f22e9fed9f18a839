//! The first stage: rules are such that an instance may be made; instances are made and become Ready, with replicas.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::plan::Decision;
use super::progress::{Pace, Turn};
use super::ramp::{self, Counter};
use super::readiness;
use super::reason::Cause;
use super::stages::Next;
use super::{forms, replicas, routes};
use crate::cluster::Phase as Life;
use crate::ids::{ServiceName, Timestamp};

/// Most characters of what a platform says of an instance: it is kept with the decision.
const PENDING_CHARS: usize = 300;

/// Instances on their way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Start {
    pub(super) since: Timestamp,
    /// Instances that were seen alive.
    alive: BTreeSet<ServiceName>,
    /// Services that somebody at the edge was seen to call.
    pub(super) called: BTreeSet<ServiceName>,
    /// By readiness: requests since the first instance was Ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) counter: Option<Counter>,
}

// === impl Start ===

impl Start {
    pub(super) fn new(now: Timestamp) -> Self {
        Self {
            since: now,
            alive: BTreeSet::new(),
            called: BTreeSet::new(),
            counter: None,
        }
    }

    /// Services that are ramped. Where no caller was seen at all, too little is known to spare any the ramp.
    pub(super) fn frontier<'a>(&'a self, up: &'a BTreeSet<ServiceName>) -> &'a BTreeSet<ServiceName> {
        if self.called.is_empty() { up } else { &self.called }
    }
}

/// Makes the rules of all services of the sequence such that weights decide, and waits for it: with failover a new instance
/// would get everything at once, and one that leaves would lose everything at once.
fn loosen(services: &BTreeSet<ServiceName>, turn: &mut Turn<'_>) -> Option<Cause> {
    let mut bare = BTreeSet::new();
    let mut tight = false;
    for service in services {
        if !routes::has_rule(turn.cluster, service) || turn.adoption.is_watched(service) {
            turn.adopt.insert(service.clone());
            bare.insert(service.clone());
        }
        // By readiness it is so whatever the rule's form.
        if !turn.config.by_readiness() && !forms::is_distribute(turn.in_force, service, &turn.config.cloud) {
            tight = true;
            if routes::share(turn.wanted, service, turn.edge) == 100 {
                let last = turn.config.final_weight(turn.edge);
                routes::set(turn.wanted, service, turn.edge, &turn.config.cloud, last);
            }
        }
    }
    if tight {
        Some(Cause::NotInForce)
    } else if bare.is_empty() {
        None
    } else {
        Some(Cause::NotAdopted { services: bare })
    }
}

/// Loosens the rules, makes instances and waits until all are Ready, with the replicas that the first weights need.
pub(super) fn start(
    up: &BTreeSet<ServiceName>,
    down: &BTreeSet<ServiceName>,
    pace: Pace,
    start: &mut Start,
    turn: &mut Turn<'_>,
    plan: &mut Decision,
) -> Next {
    let since = start.since;
    // What has no instance at the edge and no rule needs none to leave.
    let mut services = up.clone();
    services.extend(down.iter().filter(|s| routes::has_rule(turn.cluster, s)).cloned());
    match loosen(&services, turn) {
        Some(cause) if turn.now.since(since) >= turn.config.ready_within => return Next::Fail(cause),
        Some(_) => return Next::Stay,
        None => {}
    }
    start.called.extend(ramp::frontier(turn.snapshot, turn.edge, up));
    let by_readiness = turn.config.by_readiness();
    if by_readiness
        && pace == Pace::Ramp
        && let Some(cause) = readiness::arriving(up, start, turn, plan)
    {
        return Next::Fail(cause);
    }
    let last = turn.config.final_weight(turn.edge);
    let first = match pace {
        Pace::Ramp if !by_readiness => ramp::first_weight(turn.snapshot, turn.edge, start.frontier(up)),
        Pace::Ramp | Pace::AtOnce => last,
    };
    let Start { alive, .. } = start;
    let (mut missing, mut failed, mut absent) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for service in up {
        match routes::life(turn.cluster, service, turn.edge) {
            Some(Life::Ready) => continue,
            Some(Life::Starting) => {
                alive.insert(service.clone());
            }
            Some(Life::Failed) if alive.contains(service) => {
                failed.insert(service.clone());
            }
            Some(Life::Failed) | None => {
                absent.insert(service.clone());
            }
        }
        missing.insert(service.clone());
    }
    replicas::ensure(&absent, &turn.with_share(up, last), turn);
    let late = turn.now.since(since) >= turn.config.ready_within;
    if !failed.is_empty() {
        return Next::Fail(Cause::InstanceFailed { services: failed });
    }
    if !missing.is_empty() {
        return if late {
            let why = missing.iter().find_map(|service| pending(service, turn));
            Next::Fail(Cause::NotReady {
                services: missing,
                why,
            })
        } else {
            Next::Stay
        };
    }
    let short = replicas::short(up, &turn.with_share(up, first), turn);
    match (short.is_empty(), late, pace) {
        // The way back has nothing better to go to.
        (true, ..) | (false, true, Pace::AtOnce) => Next::Finished,
        (false, true, Pace::Ramp) => Next::Fail(Cause::EdgeNotScaled { services: short }),
        (false, false, _) => Next::Stay,
    }
}

/// Why an instance does not start, as the platform says it.
fn pending(service: &ServiceName, turn: &Turn<'_>) -> Option<String> {
    let mut instances = turn.cluster.instances.iter();
    let instance = instances.find(|one| one.service == *service && one.area == *turn.edge)?;
    let why = instance.reason.as_deref()?;
    Some(why.chars().take(PENDING_CHARS).collect())
}
