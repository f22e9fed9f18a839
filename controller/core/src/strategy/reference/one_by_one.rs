//! The strategies that add or remove one service (IA: one pair) at a time.

use super::defects::Defect;
use super::params::{Goal, Strategy};
use super::search::Search;
use super::set::Set;
use crate::model::ServiceIx;

/// Part by which one criterion must exceed another to be the larger: less is rounding.
const SAME: f64 = 1e-12;

/// Runs MFU, IA, Kahn or TA.
pub(super) fn run(search: &mut Search<'_>, strategy: Strategy) {
    let calls = search.probe.calls();
    match (strategy, search.params.goal) {
        (Strategy::Ia, Goal::Decrease(target)) => {
            let pairs = pairs(search, &calls);
            offload(search, target, |search| best_pair(search, &pairs));
        }
        (Strategy::Ia, Goal::Increase(_)) if search.params.defects.has(Defect::S15) => {}
        (Strategy::Ia, Goal::Increase(target)) => {
            let pairs = pairs(search, &calls);
            unoffload(search, target, |search| least_called(search, &pairs));
        }
        (Strategy::Kahn, Goal::Decrease(target)) => {
            let ranks = ranks(search);
            offload(search, target, |search| {
                largest(addable(search).map(|service| (service, -of(&ranks, service))))
                    .into_iter()
                    .collect()
            });
        }
        (Strategy::Kahn, Goal::Increase(target)) => {
            let ranks = ranks(search);
            unoffload(search, target, |search| {
                largest(removable(search).map(|service| (service, of(&ranks, service))))
            });
        }
        (Strategy::Ta, Goal::Decrease(target)) => offload(search, target, |search| {
            let traffic = traffic(search, &calls);
            let traffic = addable(search).map(|service| (service, of(&traffic, service)));
            largest(traffic.filter(|(_, bytes)| *bytes > 0.0))
                .into_iter()
                .collect()
        }),
        (Strategy::Ta, Goal::Increase(target)) => unoffload(search, target, |search| {
            let traffic = traffic(search, &calls);
            largest(removable(search).map(|service| (service, -of(&traffic, service))))
        }),
        (_, Goal::Decrease(target)) => offload(search, target, |search| {
            largest(addable(search).map(|service| (service, of(&calls, service))))
                .into_iter()
                .collect()
        }),
        (_, Goal::Increase(target)) => unoffload(search, target, |search| {
            largest(removable(search).map(|service| (service, -of(&calls, service))))
        }),
    }
}

/// Adds what `next` says until the target is reached or it has nothing more to say.
fn offload(search: &mut Search<'_>, target: f64, mut next: impl FnMut(&Search<'_>) -> Vec<ServiceIx>) {
    while target > search.decrease_us(search.now) && !search.probe.exhausted() {
        let added = next(search);
        if added.is_empty() {
            return;
        }
        let mut set = search.set.clone();
        added.into_iter().for_each(|service| set.insert(service));
        search.probe.spent += 1;
        search.go(set);
    }
}

/// Removes what `next` says as long as the delay rises by no more than the target.
fn unoffload(search: &mut Search<'_>, target: f64, mut next: impl FnMut(&Search<'_>) -> Option<ServiceIx>) {
    while let Some(removed) = next(search).filter(|_| !search.probe.exhausted()) {
        let mut smaller = search.set.clone();
        smaller.remove(removed);
        let value = search.probe.value(smaller.words());
        if -search.decrease_us(value) > target {
            return;
        }
        search.go(smaller);
    }
}

fn addable<'a>(search: &'a Search<'_>) -> impl Iterator<Item = ServiceIx> + 'a {
    let services = search.probe.problem.services().map(|(service, _)| service);
    services.filter(|service| !search.set.contains(*service) && !search.locked.contains(*service))
}

fn removable<'a>(search: &'a Search<'_>) -> impl Iterator<Item = ServiceIx> + 'a {
    search
        .set
        .iter()
        .filter(|service| !search.pinned.contains(*service))
}

fn of(values: &[f64], service: ServiceIx) -> f64 {
    values.get(service.position()).copied().unwrap_or_default()
}

/// The first of the largest.
fn largest<T>(values: impl Iterator<Item = (T, f64)>) -> Option<T> {
    let first_of_both = |best: (T, f64), next: (T, f64)| {
        if next.1 - best.1 > SAME * next.1.abs().max(best.1.abs()) {
            next
        } else {
            best
        }
    };
    values.reduce(first_of_both).map(|(value, _)| value)
}

/// Two services, or a service and the gateway, and their calls to each other per user request; ordered by service, the
/// gateway last.
struct Pair {
    one: ServiceIx,
    other: Option<ServiceIx>,
    calls: f64,
}

// === impl Pair ===

impl Pair {
    /// Without the gateway.
    fn members(&self) -> impl Iterator<Item = ServiceIx> + use<> {
        [Some(self.one), self.other].into_iter().flatten()
    }
}

fn pairs(search: &Search<'_>, calls: &[f64]) -> Vec<Pair> {
    let problem = search.probe.problem;
    let mut pairs: Vec<Pair> = Vec::new();
    for (caller, _) in problem.services() {
        for &(callee, f) in problem
            .calls_of(caller)
            .iter()
            .filter(|(callee, _)| *callee != caller)
        {
            pairs.push(Pair {
                one: caller.min(callee),
                other: Some(caller.max(callee)),
                calls: of(calls, caller) * f,
            });
        }
    }
    let gateway = search.probe.entries().map(|(one, calls)| Pair {
        one,
        other: None,
        calls,
    });
    pairs.extend(gateway);
    let key = |pair: &Pair| (pair.one, pair.other.map_or(u32::MAX, |other| other.0));
    pairs.sort_by_key(key);
    // Both may call each other.
    pairs.dedup_by(|next, pair| {
        let same = key(next) == key(pair);
        if same {
            pair.calls += next.calls;
        }
        same
    });
    pairs
}

/// The first of the pairs that call each other most and are not both at the edge. What nobody calls is in no pair.
fn best_pair(search: &Search<'_>, pairs: &[Pair]) -> Vec<ServiceIx> {
    let absent = |service: &ServiceIx| !search.set.contains(*service);
    let open = pairs.iter().filter(|pair| {
        let mut added = pair.members().filter(absent).peekable();
        pair.calls > 0.0 && added.peek().is_some() && added.all(|service| !search.locked.contains(service))
    });
    let best = largest(open.map(|pair| (pair, pair.calls)));
    best.map_or_else(Vec::new, |pair| pair.members().filter(absent).collect())
}

/// The first of the edge's services that have least calls with the rest of it.
fn least_called(search: &Search<'_>, pairs: &[Pair]) -> Option<ServiceIx> {
    let mut calls = vec![0.0; search.probe.problem.services_len()];
    let there = |pair: &&Pair| {
        search.set.contains(pair.one) && pair.other.is_none_or(|other| search.set.contains(other))
    };
    for pair in pairs.iter().filter(there) {
        for service in pair.members() {
            if let Some(sum) = calls.get_mut(service.position()) {
                *sum += pair.calls;
            }
        }
    }
    largest(removable(search).map(|service| (service, -of(&calls, service))))
}

/// Bytes that each service exchanges with what is at the edge, its gateway included, per user request.
fn traffic(search: &Search<'_>, calls: &[f64]) -> Vec<f64> {
    let problem = search.probe.problem;
    let mut traffic = vec![0.0; problem.services_len()];
    let mut add = |service: ServiceIx, bytes: f64| {
        if let Some(sum) = traffic.get_mut(service.position()) {
            *sum += bytes;
        }
    };
    let size = |service| {
        problem
            .service(service)
            .map_or(0.0, |service| service.response.as_f64())
    };
    for (callee, f) in search.probe.entries() {
        add(callee, f * size(callee));
    }
    for (caller, _) in problem.services() {
        for &(callee, f) in problem
            .calls_of(caller)
            .iter()
            .filter(|(callee, _)| *callee != caller)
        {
            let bytes = of(calls, caller) * f * size(callee);
            if search.set.contains(callee) {
                add(caller, bytes);
            }
            if search.set.contains(caller) {
                add(callee, bytes);
            }
        }
    }
    traffic
}

/// Position of each service in Kahn's topological order; those on a cycle and below it come last.
fn ranks(search: &Search<'_>) -> Vec<f64> {
    let problem = search.probe.problem;
    let mut callers = vec![0_usize; problem.services_len()];
    let services = || problem.services().map(|(service, _)| service);
    let callees = |service: ServiceIx| {
        let calls = problem.calls_of(service).iter().map(|(callee, _)| *callee);
        calls.filter(move |callee| *callee != service)
    };
    let entries: Set = Set::of(
        problem.services_len(),
        search.probe.entries().map(|(entry, _)| entry),
    );
    for callee in services().flat_map(callees).chain(entries.iter()) {
        if let Some(count) = callers.get_mut(callee.position()) {
            *count += 1;
        }
    }
    let mut order: Vec<ServiceIx> = services()
        .filter(|service| callers.get(service.position()) == Some(&0))
        .collect();
    let mut freed = |callee: ServiceIx, order: &mut Vec<ServiceIx>| {
        if let Some(count) = callers.get_mut(callee.position()) {
            *count -= 1;
            if *count == 0 {
                order.push(callee);
            }
        }
    };
    // The gateway has the highest number of those that nobody calls, so it comes after them.
    let (mut next, uncalled) = (0, order.len());
    while next <= order.len() {
        if next == uncalled {
            entries.iter().for_each(|entry| freed(entry, &mut order));
        }
        let Some(&service) = order.get(next) else { break };
        callees(service).for_each(|callee| freed(callee, &mut order));
        next += 1;
    }
    let mut ranks = vec![f64::from(u32::MAX); problem.services_len()];
    for (rank, service) in (0_u32..).zip(order) {
        if let Some(value) = ranks.get_mut(service.position()) {
            *value = f64::from(rank);
        }
    }
    ranks
}
