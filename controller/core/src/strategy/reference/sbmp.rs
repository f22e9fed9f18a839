//! SBMP and COPAMP: sub-graphs are added by the cheapest gain, then leaves that are not needed are taken away.

use super::candidates::{Candidates, Round, Source, leaves};
use super::defects::Defect;
use super::params::{Goal, Strategy, Traces};
use super::probe::Value;
use super::search::Search;
use super::set::{Distinct, Set, words};
use super::{paths, random};
use crate::model::ServiceIx;

/// Weights nearer than this part are one: then the first candidate wins, as in exact arithmetic.
const SAME: f64 = 1e-9;
/// Words of memory for traces or paths, 32 MiB: with very many services there are fewer of them.
const MAX_WORDS: usize = 4 << 20;
/// A saving of nothing within rounding: money over [`LEAST_RISE_S`].
const NO_LOSS: f64 = -1e-6;
/// Least weight of a removal in the reference.
const SOME_LOSS: f64 = -1.0;
/// Rise of delay that removals are weighed with at least, s (the reference's).
const LEAST_RISE_S: f64 = 1e-3;

/// Changes of delay, µs less than at the start.
#[derive(Clone, Copy)]
struct Limits {
    /// Adding ends here.
    stop_us: f64,
    /// Removing keeps more than this.
    keep_us: f64,
}

/// Runs SBMP or COPAMP.
pub(super) fn run(search: &mut Search<'_>, strategy: Strategy) {
    let params = search.params;
    let stop = |target: f64| params.stop_us.unwrap_or(target);
    let keep = |stop: f64, target: f64| {
        if params.defects.has(Defect::S7) {
            target
        } else {
            stop
        }
    };
    match params.goal {
        Goal::Decrease(target) => {
            let limits = Limits {
                stop_us: stop(target),
                keep_us: keep(stop(target), target),
            };
            offload(search, strategy, params.expanding_depth, limits);
        }
        Goal::Increase(target) => {
            // Builds up again from nothing with what was there.
            let old = search.set.clone();
            search.locked = absent(search, &old);
            search.go(search.pinned.clone());
            let decrease = |increase: f64| (search.now.delay_us - search.before.delay_us - increase).max(0.0);
            let (stop, target) = (decrease(stop(target)), decrease(target));
            let ignored = params.defects.has(Defect::S4);
            let depth = params.expanding_depth.filter(|_| !ignored);
            let limits = Limits {
                stop_us: stop,
                keep_us: keep(stop, target),
            };
            offload(search, strategy, depth, limits);
        }
    }
}

fn absent(search: &Search<'_>, old: &Set) -> Set {
    let services = search.probe.problem.services().map(|(service, _)| service);
    Set::of(
        search.probe.problem.services_len(),
        services.filter(|service| !old.contains(*service)),
    )
}

fn offload(search: &mut Search<'_>, strategy: Strategy, depth: Option<usize>, limits: Limits) {
    let from = search.now;
    let entries: Vec<(ServiceIx, f64)> = search.probe.entries().collect();
    add(search, strategy, depth, &entries, from, limits.stop_us);
    remove(search, from, limits.keep_us);
}

fn add(
    search: &mut Search<'_>,
    strategy: Strategy,
    depth: Option<usize>,
    entries: &[(ServiceIx, f64)],
    from: Value,
    stop_us: f64,
) {
    let mut source: Option<Source> = None;
    while from.delay_us - search.now.delay_us < stop_us && !search.probe.exhausted() {
        let set = search.set.clone();
        let round = Round {
            problem: search.probe.problem,
            entries,
            set: &set,
            locked: &search.locked,
            depth,
            max_sgs: search.params.max_sgs,
            defects: search.params.defects,
        };
        let (of_source, cut) = match source.take() {
            Some(source) => (source, false),
            None => start(search, strategy, &round),
        };
        let candidates = source.insert(of_source).candidates(&round);
        search.truncated |= cut || candidates.truncated;
        let best = cheapest(search, &candidates);
        let mut next = set.clone();
        next.add(best.unwrap_or_default());
        search.go(next);
        if best.is_none() {
            return;
        }
    }
}

fn start(search: &Search<'_>, strategy: Strategy, round: &Round<'_>) -> (Source, bool) {
    let problem = round.problem;
    let services = problem.services_len();
    let most = MAX_WORDS / words(services).max(1);
    if strategy == Strategy::Copamp {
        let (paths, complete) = paths::simple(problem, round.entries, search.params.max_paths.min(most));
        return (Source::paths(round, &paths), !complete);
    }
    let (traces, wanted) = match &search.params.traces {
        Traces::Drawn { count, seed } => {
            let traces = random::traces(problem, round.entries, (*count).min(most), *seed);
            (traces, *count)
        }
        Traces::Given(given) => {
            let mut traces = Distinct::new(services, given.len().min(most));
            for trace in given {
                let known = trace
                    .iter()
                    .copied()
                    .filter(|service| service.position() < services);
                traces.add(Set::of(services, known).words(), 1);
            }
            (traces, given.len())
        }
    };
    (Source::traces(services, traces), wanted > most)
}

/// The candidate with the least price of a gain.
fn cheapest<'a>(search: &mut Search<'_>, candidates: &Candidates<'a>) -> Option<&'a [u64]> {
    let mut values: Vec<Option<Value>> = vec![None; candidates.sets.len()];
    let mut set = search.set.clone();
    for at in candidates.by_members() {
        if search.probe.exhausted() {
            break;
        }
        set.become_of(search.set.words());
        set.add(candidates.sets.get(at).copied().unwrap_or_default());
        let value = search.probe.go(set.words());
        search.probe.spent += 1;
        if let Some(known) = values.get_mut(at) {
            *known = Some(value);
        }
    }
    let mut best: Option<(&[u64], f64)> = None;
    let mut gained = false;
    for (added, value) in candidates.sets.iter().zip(values) {
        let Some(value) = value else { continue };
        let gain_s = value.gain_s(search.now);
        if gained && gain_s < 0.0 {
            continue;
        }
        gained |= gain_s > 0.0;
        let price = price(value.more_than(search.now), gain_s);
        if best.is_none_or(|(_, least)| least - price > SAME * least.abs().max(price.abs())) {
            best = Some((added, price));
        }
    }
    best.map(|(added, _)| added)
}

/// Cost of a gain, an hour and ms; what gains nothing is a last resort (both the reference's).
fn price(more: f64, gain_s: f64) -> f64 {
    if gain_s > 0.0 {
        more / (1e3 * gain_s).clamp(1e-3, 1e9)
    } else {
        1e6 + more * 1e3 * gain_s.abs()
    }
}

/// Takes leaves away, the one that saves most for its delay first, while more than `keep_us` is gained.
fn remove(search: &mut Search<'_>, from: Value, keep_us: f64) {
    let least = if search.params.defects.has(Defect::S6) {
        SOME_LOSS
    } else {
        NO_LOSS
    };
    loop {
        let mut best: Option<(Set, f64)> = None;
        let leaves: Vec<ServiceIx> = leaves(search.probe.problem, &search.set)
            .filter(|leaf| !search.pinned.contains(*leaf))
            .collect();
        for leaf in leaves {
            if search.probe.exhausted() {
                break;
            }
            let mut set = search.set.clone();
            set.remove(leaf);
            let value = search.probe.value(set.words());
            if from.delay_us - value.delay_us <= keep_us {
                continue;
            }
            let saved = search.now.more_than(value) / search.now.gain_s(value).max(LEAST_RISE_S);
            let most = best.as_ref().map_or(least, |(_, most)| *most);
            if saved - most > SAME * saved.abs().max(most.abs()) {
                best = Some((set, saved));
            }
        }
        let Some((set, _)) = best else { return };
        search.go(set);
    }
}
