//! Random traces.

use super::set::{Distinct, Set};
use crate::model::{Problem, ServiceIx};

/// Draws for all traces together: a dense graph's traces are long, and a cycle's can be endless.
const MAX_DRAWS: u64 = 2_000_000;

/// SplitMix64 (Steele, Lea, Flood 2014): a library's small generators may change with its releases, and the same
/// seed must give the same placement for ever.
struct SplitMix64(u64);

// === impl SplitMix64 ===

impl SplitMix64 {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in [0, 1), 53 bits.
    #[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// Services that one random user request after the other reaches: each call happens with the probability of its mean
/// calls (always from 1 on), and a service that is reached twice calls twice. After `count` requests one that reaches
/// everything, as in the reference.
pub(super) fn traces(problem: &Problem, entries: &[(ServiceIx, f64)], count: usize, seed: u64) -> Distinct {
    let services = problem.services_len();
    let mut random = SplitMix64(seed);
    let mut traces = Distinct::new(services, count + 1);
    let mut open = Vec::new();
    let mut draws = 0;
    for _ in 0..count {
        let mut trace = Set::new(services);
        let mut calls = entries;
        loop {
            for (callee, mean) in calls {
                draws += 1;
                if random.unit() < *mean {
                    trace.insert(*callee);
                    open.push(*callee);
                }
            }
            let Some(next) = open.pop().filter(|_| draws < MAX_DRAWS) else {
                break;
            };
            calls = problem.calls_of(next);
        }
        traces.add(trace.words(), 1);
        if draws >= MAX_DRAWS {
            break;
        }
    }
    let all = Set::of(services, problem.services().map(|(service, _)| service));
    traces.add(all.words(), 1);
    traces
}
