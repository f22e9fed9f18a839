//! Paths through the call graph.

use super::set::{Distinct, Set};
use crate::model::{Problem, ServiceIx};

/// Steps of the enumeration for each path that is wanted: a graph's paths may all end in services seen before.
const STEPS_A_PATH: usize = 16;

/// Services on each simple path from the gateway, the shortest paths first, at most `limit` of them: a dense graph has
/// more of them than anybody can wait for. Also whether there are more.
pub(super) fn simple(problem: &Problem, entries: &[(ServiceIx, f64)], limit: usize) -> (Distinct, bool) {
    let services = problem.services_len();
    let mut paths = Distinct::new(services, limit);
    let mut ends: Vec<(Set, ServiceIx)> = Vec::new();
    let (mut steps, mut complete) = (0, true);
    let mut found = |set: Set, end: ServiceIx, ends: &mut Vec<(Set, ServiceIx)>| {
        steps += 1;
        let room = paths.len() < limit && steps <= limit.saturating_mul(STEPS_A_PATH);
        if room {
            paths.add(set.words(), 1);
            ends.push((set, end));
        }
        complete &= room;
        room
    };
    for (entry, _) in entries {
        found(Set::of(services, [*entry]), *entry, &mut ends);
    }
    'levels: while !ends.is_empty() {
        for (set, end) in std::mem::take(&mut ends) {
            for (callee, _) in problem
                .calls_of(end)
                .iter()
                .filter(|(callee, _)| !set.contains(*callee))
            {
                let mut longer = set.clone();
                longer.insert(*callee);
                if !found(longer, *callee, &mut ends) {
                    break 'levels;
                }
            }
        }
    }
    (paths, complete)
}
