//! Sets of services that may go to an edge together.
//!
//! One service at a time is not enough: an entry service whose children stay in the cloud calls each of them over the
//! WAN, and the delay rises. So a candidate is a service that the edge calls already with its most-called descendants,
//! cut at several depths and several shares of its calls.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{EdgeIx, Problem, ServiceIx};

/// Depths below the entry at which a candidate ends.
const DEPTHS: [usize; 5] = [0, 1, 2, 3, usize::MAX];
/// Least share of the entry's requests that reach a descendant.
const LEAST_SHARES: [f64; 6] = [0.9, 0.5, 0.25, 0.1, 0.03, 0.0];

/// Services that an edge's gateway calls itself.
pub(super) fn entries(problem: &Problem, edge: EdgeIx) -> impl Iterator<Item = ServiceIx> {
    let calls = problem
        .edge(edge)
        .map_or(&[][..], |edge| edge.user_calls.as_slice());
    calls
        .iter()
        .filter(|(_, calls)| calls.as_f64() > 0.0)
        .map(|(service, _)| *service)
}

/// Members of `set` that users reach through members of it.
pub(super) fn connected(problem: &Problem, edge: EdgeIx, set: &BTreeSet<ServiceIx>) -> BTreeSet<ServiceIx> {
    let mut found = BTreeSet::new();
    let mut open: Vec<ServiceIx> = entries(problem, edge)
        .filter(|service| set.contains(service))
        .collect();
    while let Some(service) = open.pop() {
        if found.insert(service) {
            let callees = problem.calls_of(service).iter().map(|(callee, _)| *callee);
            open.extend(callees.filter(|callee| set.contains(callee)));
        }
    }
    found
}

/// Connected sets that may be added to `present`, each once, in order. `allowed` says which services may be added.
pub(super) fn candidates(
    problem: &Problem,
    edge: EdgeIx,
    present: &BTreeSet<ServiceIx>,
    allowed: &BTreeSet<ServiceIx>,
) -> BTreeSet<BTreeSet<ServiceIx>> {
    let may_add = |service: &ServiceIx| allowed.contains(service) && !present.contains(service);
    let called = present
        .iter()
        .flat_map(|service| problem.calls_of(*service))
        .map(|(callee, _)| *callee);
    let frontier: BTreeSet<ServiceIx> = entries(problem, edge).chain(called).filter(may_add).collect();
    let mut sets = BTreeSet::new();
    for depth in DEPTHS {
        let mut together = vec![BTreeSet::new(); LEAST_SHARES.len()];
        for &entry in &frontier {
            let reached = reached(problem, entry, depth, &may_add);
            for (all, least) in together.iter_mut().zip(LEAST_SHARES) {
                let members = reached.iter().filter(|(_, share)| **share >= least);
                let members: BTreeSet<ServiceIx> = members.map(|(service, _)| *service).collect();
                all.extend(&members);
                sets.insert(members);
            }
        }
        sets.extend(together);
    }
    sets.remove(&BTreeSet::new());
    sets
}

/// Descendants of `entry` within `depth` calls and, for each, the largest product of min(calls, 1) on a way to it: it
/// falls along every way, so that each cut leaves a connected set.
fn reached(
    problem: &Problem,
    entry: ServiceIx,
    depth: usize,
    may_add: &impl Fn(&ServiceIx) -> bool,
) -> BTreeMap<ServiceIx, f64> {
    let mut shares = BTreeMap::from([(entry, 1.0)]);
    let mut changed = BTreeSet::from([entry]);
    for _ in 0..depth.min(problem.services_len()) {
        let mut next = BTreeSet::new();
        for service in &changed {
            let share = shares.get(service).copied().unwrap_or_default();
            for (callee, calls) in problem
                .calls_of(*service)
                .iter()
                .filter(|(callee, _)| may_add(callee))
            {
                let through = share * calls.min(1.0);
                let known = shares.entry(*callee).or_default();
                if through > *known {
                    *known = through;
                    next.insert(*callee);
                }
            }
        }
        if next.is_empty() {
            break;
        }
        changed = next;
    }
    shares
}
