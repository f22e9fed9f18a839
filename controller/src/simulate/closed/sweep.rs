//! Many seeds, on all cores; the result does not depend on how many there are.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

use super::{Failure, Scenario, Summary, run};

/// Failures that are kept with their stories; all are counted.
const KEPT_FAILURES: usize = 20;

/// What many seeds were like.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Sweep {
    /// The first seed; the others follow it.
    pub first: u64,
    /// Seeds that were run.
    pub seeds: u64,
    /// Seeds in which a rule was broken.
    pub failed: u64,
    /// Seeds that constant inputs did not bring to rest in time, or in which moves turned too often.
    pub restless: u64,
    /// Seeds that came to rest, and later than the others.
    pub late: u64,
    /// User requests.
    pub requests: u64,
    /// Requests that all proxies counted.
    pub counted: u64,
    /// Moves that began because the delay left the band.
    pub moves: usize,
    /// Those that were kept.
    pub kept: usize,
    /// Those that went back.
    pub rolled_back: usize,
    /// Decisions that began, by their kind.
    pub decisions: BTreeMap<&'static str, usize>,
    /// Faults, by their kind.
    pub faults: BTreeMap<&'static str, usize>,
    /// Most changes of direction at one edge under constant inputs.
    pub most_turns: usize,
    /// Longest time of constant inputs after which nothing was written any more, seconds.
    pub longest_rest_after_s: f64,
    /// The first failures.
    #[serde(skip)]
    pub failures: Vec<Failure>,
    /// The first that did not come to rest.
    #[serde(skip)]
    pub restless_stories: Vec<Failure>,
}

// === impl Sweep ===

impl Sweep {
    fn add(&mut self, result: Result<Summary, Box<Failure>>) {
        self.seeds += 1;
        match result {
            Ok(summary) => {
                if let Some(story) = summary.restless {
                    self.restless += 1;
                    keep(&mut self.restless_stories, story);
                } else {
                    self.late += u64::from(summary.is_late);
                }
                self.requests += summary.requests;
                self.counted += summary.counted;
                self.moves += summary.moves;
                self.kept += summary.kept;
                self.rolled_back += summary.rolled_back;
                sum_up(&mut self.decisions, &summary.decisions);
                sum_up(&mut self.faults, &summary.faults);
                self.most_turns = self.most_turns.max(summary.turns);
                self.longest_rest_after_s = self.longest_rest_after_s.max(summary.rest_after_s);
            }
            Err(failure) => {
                self.failed += 1;
                keep(&mut self.failures, *failure);
            }
        }
    }
}

fn sum_up(sums: &mut BTreeMap<&'static str, usize>, more: &BTreeMap<&'static str, usize>) {
    for (kind, count) in more {
        *sums.entry(kind).or_default() += count;
    }
}

/// The first seeds, in order.
fn keep(stories: &mut Vec<Failure>, story: Failure) {
    stories.push(story);
    stories.sort_by_key(|story| story.seed);
    stories.truncate(KEPT_FAILURES);
}

/// Runs `seeds` seeds from `first` on, `threads` at a time; `done` is called after each.
///
/// # Errors
/// A scenario can't be made.
pub fn sweep(first: u64, seeds: u64, threads: usize, done: &(dyn Fn() + Sync)) -> anyhow::Result<Sweep> {
    let next = AtomicU64::new(0);
    let sum = Mutex::new(Ok(Sweep {
        first,
        ..Sweep::default()
    }));
    let work = || {
        loop {
            let taken = next.fetch_add(1, Ordering::Relaxed);
            if taken >= seeds {
                return;
            }
            let result = Scenario::of_seed(first + taken).map(|scenario| run(&scenario));
            let mut sum = sum.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            match (&mut *sum, result) {
                (Ok(sum), Ok(result)) => sum.add(result),
                (Err(_), _) => return,
                (sum, Err(error)) => *sum = Err(anyhow::Error::from(error)),
            }
            drop(sum);
            done();
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(work);
        }
    });
    sum.into_inner()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}
