//! The user delay of the last ten minutes, and its histogram.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use gma_core::decide::Account;
use gma_core::ids::AreaName;
use gma_core::snapshot::{DELAY_SLOT, DelaySlot, Measured};
use serde::{Deserialize, Serialize};

use super::Seen;

/// What a time line shows: an offload with its verification takes a minute or two.
pub const HISTORY: Duration = Duration::from_secs(600);

/// Distance of points: a point a pixel where a chart is narrow, and few enough to be sent twice a second.
pub const STEP: Duration = Duration::from_secs(2);

/// Points of an edge at most.
const MAX_POINTS: usize = 300;

/// Buckets of a doubling: a bucket is 19 % wide, narrower than a band.
const PER_DOUBLING: f64 = 4.0;

/// A moment of an edge.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Point {
    /// When, milliseconds since the controller's start.
    pub at_ms: u64,
    /// The statistic of the user delay, microseconds; none where nothing was measured.
    pub value_us: Option<u64>,
    /// Lower end of its interval, microseconds; none where the window decides nothing.
    pub low_us: Option<u64>,
    /// Upper end of its interval, microseconds.
    pub high_us: Option<u64>,
    /// User requests a second.
    pub rate_rps: f64,
}

/// Requests of a range of delays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Bucket {
    /// From, microseconds,
    pub low_us: u64,
    /// to, microseconds, exclusive.
    pub high_us: u64,
    /// Requests.
    pub count: u64,
}

/// User delays of a window.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Histogram {
    /// Length of the window, milliseconds.
    pub window_ms: u64,
    /// Requests in it.
    pub count: u64,
    /// Ascending, without gaps from the first with requests to the last.
    pub buckets: Vec<Bucket>,
}

/// Points of every edge.
#[derive(Debug, Default)]
pub(super) struct Histories {
    points: BTreeMap<AreaName, VecDeque<Point>>,
}

// === impl Histories ===

impl Histories {
    /// Takes a round. Edges that are no longer measured are forgotten.
    pub(super) fn record(&mut self, seen: &Seen<'_>, edges: &BTreeMap<&AreaName, Account<'_>>) {
        self.points
            .retain(|edge, _| seen.snapshot.edges.contains_key(edge));
        for edge in seen.snapshot.edges.keys() {
            let point = point(seen, edge, edges.get(edge));
            let points = self.points.entry(edge.clone()).or_default();
            // The newest point is always that of now; it stays once it is a step after the one before.
            let before = points.len().checked_sub(2).and_then(|at| points.get(at));
            let last = points.back();
            let moves = match (before, last) {
                (Some(before), Some(last)) => {
                    Duration::from_millis(last.at_ms.saturating_sub(before.at_ms)) < STEP
                }
                _ => false,
            };
            if moves {
                points.pop_back();
            }
            points.push_back(point);
            let oldest = millis(seen.now.since_start().saturating_sub(HISTORY));
            while points.len() > MAX_POINTS || points.front().is_some_and(|point| point.at_ms < oldest) {
                points.pop_front();
            }
        }
    }

    pub(super) fn of(&self, edge: &AreaName) -> Vec<Point> {
        self.points.get(edge).into_iter().flatten().copied().collect()
    }
}

fn point(seen: &Seen<'_>, edge: &AreaName, account: Option<&Account<'_>>) -> Point {
    let measured = seen.snapshot.edges.get(edge);
    let reading = account.and_then(|account| account.reading);
    let statistic = seen.config.edges.get(edge).map(|objective| objective.statistic);
    let value_us = match (reading, measured.map(|edge| &edge.user_delay), statistic) {
        (Some(reading), _, _) => Some(reading.value_us),
        (None, Some(Measured::Present { value }), Some(statistic)) => Some(statistic.of(value)),
        _ => None,
    };
    Point {
        at_ms: millis(seen.now.since_start()),
        value_us: value_us.map(micros),
        low_us: reading.map(|reading| micros(reading.low_us)),
        high_us: reading.map(|reading| micros(reading.high_us)),
        rate_rps: measured.map_or(0.0, |edge| (edge.rate_rps * 10.0).round() / 10.0),
    }
}

// === impl Histogram ===

impl Histogram {
    /// Of the newest slots that make up `window`. A bucket of a slot goes where its middle lies.
    pub(super) fn of(slots: &[DelaySlot], window: Duration) -> Self {
        let wanted = window.as_millis().div_ceil(DELAY_SLOT.as_millis());
        let wanted = usize::try_from(wanted).unwrap_or(usize::MAX).min(slots.len());
        let newest = slots.iter().skip(slots.len() - wanted);
        let mut counts: BTreeMap<u32, u64> = BTreeMap::new();
        for (middle_us, count) in newest.flat_map(|slot| slot.buckets.iter()) {
            *counts.entry(index(*middle_us)).or_default() += u64::from(*count);
        }
        let range = match (counts.first_key_value(), counts.last_key_value()) {
            (Some((first, _)), Some((last, _))) => *first..=*last,
            _ => {
                return Self {
                    window_ms: millis(window),
                    ..Self::default()
                };
            }
        };
        let bucket = |at: u32| Bucket {
            low_us: bound(at),
            high_us: bound(at + 1),
            count: counts.get(&at).copied().unwrap_or(0),
        };
        Self {
            window_ms: millis(window),
            count: counts.values().sum(),
            buckets: range.map(bucket).collect(),
        }
    }
}

/// Bucket of a delay: the last whose lower bound is not above it.
fn index(us: u32) -> u32 {
    let guess = (f64::from(us.max(1)).log2() * PER_DOUBLING).floor().max(0.0);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "0 … 128: the logarithm of a u32"
    )]
    let guess = guess as u32;
    // Bounds are rounded, so a delay at one can be guessed one bucket off.
    if u64::from(us) >= bound(guess + 1) {
        guess + 1
    } else {
        guess
    }
}

/// Lower bound of a bucket, whole microseconds.
fn bound(index: u32) -> u64 {
    micros((f64::from(index) / PER_DOUBLING).exp2().ceil())
}

// === units ===

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "rounded and not below 0; a cast of more than u64 holds saturates"
)]
fn micros(us: f64) -> u64 {
    us.max(0.0).round() as u64
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(buckets: &[(u32, u32)]) -> DelaySlot {
        DelaySlot {
            count: buckets.iter().map(|(_, count)| u64::from(*count)).sum(),
            sum_us: 0,
            buckets: buckets.into(),
        }
    }

    #[test]
    fn every_delay_falls_in_the_bucket_whose_bounds_enclose_it() {
        for us in (1..5_000).chain([59_999_999, 60_000_000, u32::MAX]) {
            let at = index(us);
            assert!(
                bound(at) <= u64::from(us) && u64::from(us) < bound(at + 1),
                "{us} in {at}"
            );
        }
    }

    #[test]
    fn a_histogram_has_the_newest_slots_of_the_window_and_no_gaps() {
        let slots = [slot(&[(7, 1000)]), slot(&[(100, 3)]), slot(&[(100, 2), (900, 5)])];
        let histogram = Histogram::of(&slots, Duration::from_secs(1));
        assert_eq!((histogram.window_ms, histogram.count), (1000, 10));
        for pair in histogram.buckets.windows(2) {
            assert_eq!(pair[0].high_us, pair[1].low_us);
        }
        let counts: Vec<u64> = histogram.buckets.iter().map(|bucket| bucket.count).collect();
        assert_eq!((counts.first(), counts.last()), (Some(&5), Some(&5)));
        assert_eq!(counts.iter().sum::<u64>(), 10);
    }

    #[test]
    fn no_slots_are_no_buckets() {
        let histogram = Histogram::of(&[], Duration::from_secs(4));
        assert_eq!((histogram.count, histogram.buckets.len()), (0, 0));
    }
}
