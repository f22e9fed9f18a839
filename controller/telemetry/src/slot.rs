//! Requests of one key in a stretch of time, and how a window is laid over several such stretches.

use gma_report::Series;
use gma_report::histogram::{highest_us, lowest_us};

/// Requests of one key. Merging is associative and commutative; sums saturate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Data {
    pub(crate) count: u64,
    pub(crate) long_count: u64,
    pub(crate) sum_us: u64,
    pub(crate) response_bytes: u64,
    /// Histogram buckets that are not empty, ascending. 16 and 32 bits hold any bucket and count of
    /// `gma_report::histogram`; a dense histogram would be 10 KB a slot.
    pub(crate) buckets: Vec<(u16, u32)>,
}

/// Requests of one key, where no quantile is asked for: a tenth of the memory of [`Data`].
///
/// Packed: aligned as its 128 bits ask for, a slot would be a quarter larger.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, packed(8))]
pub(crate) struct Sums {
    pub(crate) count: u64,
    pub(crate) long_count: u64,
    pub(crate) sum_us: u64,
    pub(crate) response_bytes: u64,
    /// Of the durations, doubled, by the middles of their buckets: whole numbers, so that the order of reports does
    /// not matter.
    pub(crate) doubled: u64,
    /// Sum of the squares of the same.
    pub(crate) doubled_squares: u128,
}

/// A part of a window's time: up to `until` (µs from the window's start). `slot` is none for the part
/// that is too old to be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) slot: Option<i64>,
    pub(crate) until: u64,
}

// === impl Sums ===

impl Sums {
    pub(crate) fn of(data: &Data) -> Self {
        let terms = data.buckets.iter().map(|(bucket, n)| {
            let bucket = usize::from(*bucket);
            let doubled = lowest_us(bucket) + highest_us(bucket);
            let n = u64::from(*n);
            (doubled * n, u128::from(doubled * doubled) * u128::from(n))
        });
        let (doubled, doubled_squares) = terms.fold((0, 0), |sum: (u64, u128), term| {
            (sum.0.saturating_add(term.0), sum.1.saturating_add(term.1))
        });
        Self {
            count: data.count,
            long_count: data.long_count,
            sum_us: data.sum_us,
            response_bytes: data.response_bytes,
            doubled,
            doubled_squares,
        }
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        self.count = self.count.saturating_add(other.count);
        self.long_count = self.long_count.saturating_add(other.long_count);
        self.sum_us = self.sum_us.saturating_add(other.sum_us);
        self.response_bytes = self.response_bytes.saturating_add(other.response_bytes);
        self.doubled = self.doubled.saturating_add(other.doubled);
        self.doubled_squares = self.doubled_squares.saturating_add(other.doubled_squares);
    }

    /// The part of these requests that falls in each segment, laid evenly; the parts sum to the whole, counts and
    /// sums exactly.
    pub(crate) fn spread(self, segments: &[Segment]) -> Vec<Self> {
        if segments.len() <= 1 {
            return vec![self];
        }
        let mut parts = vec![Self::default(); segments.len()];
        let ends: Vec<u64> = segments.iter().map(|segment| segment.until).collect();
        lay(self.count, HALF, &ends, |at, n| {
            if let Some(part) = parts.get_mut(at) {
                part.count = n;
            }
        });
        lay(self.long_count, HALF, &ends, |at, n| {
            if let Some(part) = parts.get_mut(at) {
                part.long_count = n;
            }
        });
        let counts: Vec<u64> = parts.iter().map(|part| part.count).collect();
        let shares = |whole| divide(whole, &counts);
        let (times, bytes) = (shares(self.sum_us.into()), shares(self.response_bytes.into()));
        let (sums, squares) = (shares(self.doubled.into()), shares(self.doubled_squares));
        let shares = times.into_iter().zip(bytes).zip(sums.into_iter().zip(squares));
        for (part, ((sum_us, bytes), (sum, squares))) in parts.iter_mut().zip(shares) {
            // Each is a part of a number that fits.
            (part.sum_us, part.response_bytes) = (sum_us as u64, bytes as u64);
            (part.doubled, part.doubled_squares) = (sum as u64, squares);
        }
        parts
    }
}

// === impl Data ===

impl Data {
    pub(crate) fn of(series: &Series) -> Self {
        let buckets = series.histogram().map(|histogram| {
            histogram
                .buckets()
                .map(|(bucket, count)| (bucket as u16, count))
                .collect()
        });
        Self {
            count: series.count,
            long_count: series.long_count,
            sum_us: series.sum_us,
            response_bytes: series.response_bytes,
            buckets: buckets.unwrap_or_default(),
        }
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        self.count = self.count.saturating_add(other.count);
        self.long_count = self.long_count.saturating_add(other.long_count);
        self.sum_us = self.sum_us.saturating_add(other.sum_us);
        self.response_bytes = self.response_bytes.saturating_add(other.response_bytes);
        if self.buckets.is_empty() {
            self.buckets.clone_from(&other.buckets);
        } else if !other.buckets.is_empty() {
            self.buckets = merged(&self.buckets, &other.buckets);
        }
    }

    /// The part of these requests that falls in each segment; the parts sum to the whole, exactly.
    ///
    /// Requests of a bucket are laid evenly over the window. Each bucket starts at its own phase:
    /// otherwise all buckets of one request would land in the same segment.
    pub(crate) fn spread(self, segments: &[Segment]) -> Vec<Self> {
        if segments.len() <= 1 {
            return vec![self];
        }
        let mut parts = vec![Self::default(); segments.len()];
        let ends: Vec<u64> = segments.iter().map(|segment| segment.until).collect();
        for (bucket, count) in &self.buckets {
            lay(u64::from(*count), phase(*bucket), &ends, |at, n| {
                if let Some(part) = parts.get_mut(at) {
                    part.buckets.push((*bucket, n as u32));
                }
            });
        }
        if self.buckets.is_empty() {
            lay(self.count, HALF, &ends, |at, n| {
                add(&mut parts, at, |part| &mut part.count, n);
            });
        } else {
            for part in &mut parts {
                part.count = part.buckets.iter().map(|(_, n)| u64::from(*n)).sum();
            }
        }
        lay(self.long_count, HALF, &ends, |at, n| {
            add(&mut parts, at, |part| &mut part.long_count, n);
        });
        let likely: Vec<u64> = parts.iter().map(likely_sum_us).collect();
        for (part, share) in parts.iter_mut().zip(divide(self.sum_us.into(), &likely)) {
            part.sum_us = share as u64;
        }
        let counts: Vec<u64> = parts.iter().map(|part| part.count).collect();
        for (part, share) in parts.iter_mut().zip(divide(self.response_bytes.into(), &counts)) {
            part.response_bytes = share as u64;
        }
        parts
    }
}

/// Phases are fractions of 2^16.
const PHASES: u64 = 1 << 16;
const HALF: u64 = PHASES / 2;

/// Multiples of the golden ratio leave the phases of neighbouring buckets far apart.
const fn phase(bucket: u16) -> u64 {
    (bucket as u64 * 40_503) % PHASES
}

/// Lays `count` requests evenly over segments that end at `ends`; calls `put` once with each segment
/// that gets some, ascending, and how many. Costs at most as many steps as there are requests or segments.
fn lay(count: u64, phase: u64, ends: &[u64], mut put: impl FnMut(usize, u64)) {
    let Some(whole) = ends.last().copied().filter(|whole| *whole > 0) else {
        return put(0, count);
    };
    if count < ends.len() as u64 {
        let mut held = (0, 0);
        for i in 0..count {
            // Request i lies where floor(count * x + phase) reaches i + 1.
            let at = (u128::from(i + 1) * u128::from(PHASES) - u128::from(phase)) * u128::from(whole);
            let at = at.div_ceil(u128::from(count) * u128::from(PHASES));
            let segment = ends.partition_point(|end| u128::from(*end) < at);
            if segment != held.0 && held.1 > 0 {
                put(held.0, held.1);
                held.1 = 0;
            }
            held = (segment, held.1 + 1);
        }
        if held.1 > 0 {
            put(held.0, held.1);
        }
        return;
    }
    let mut before = 0;
    for (segment, end) in ends.iter().enumerate() {
        let scaled = u128::from(count) * u128::from(*end) * u128::from(PHASES) / u128::from(whole);
        let after = ((scaled + u128::from(phase)) / u128::from(PHASES)) as u64;
        if after > before {
            put(segment, after - before);
        }
        before = after;
    }
}

fn add(parts: &mut [Data], at: usize, field: impl Fn(&mut Data) -> &mut u64, n: u64) {
    if let Some(part) = parts.get_mut(at) {
        *field(part) += n;
    }
}

/// Sum of the durations by the middle of each bucket; a share where there is no histogram.
fn likely_sum_us(part: &Data) -> u64 {
    if part.buckets.is_empty() {
        return part.count;
    }
    let middle = |bucket: u16| {
        (lowest_us(bucket.into()) + highest_us(bucket.into()))
            .div_ceil(2)
            .max(1)
    };
    part.buckets
        .iter()
        .map(|(bucket, n)| middle(*bucket).saturating_mul((*n).into()))
        .fold(0, u64::saturating_add)
}

/// Whole numbers in proportion to `shares` that sum to `whole`.
fn divide(whole: u128, shares: &[u64]) -> Vec<u128> {
    let all: u128 = shares.iter().map(|share| u128::from(*share)).sum();
    let (mut seen, mut given) = (0u128, 0u128);
    let last = shares.len().saturating_sub(1);
    let share_of = |(at, share): (usize, &u64)| {
        seen += u128::from(*share);
        let until = if at == last || all == 0 {
            whole
        } else {
            whole.saturating_mul(seen) / all
        };
        let part = until - given;
        given = until;
        part
    };
    shares.iter().enumerate().map(share_of).collect()
}

fn merged(left: &[(u16, u32)], right: &[(u16, u32)]) -> Vec<(u16, u32)> {
    let mut out = Vec::with_capacity(left.len() + right.len());
    let (mut left, mut right) = (left.iter().copied().peekable(), right.iter().copied().peekable());
    loop {
        match (left.peek(), right.peek()) {
            (Some((a, n)), Some((b, m))) if a == b => {
                out.push((*a, n.saturating_add(*m)));
                left.next();
                right.next();
            }
            (Some((a, _)), Some((b, _))) if a < b => out.extend(left.next()),
            (_, Some(_)) => out.extend(right.next()),
            (Some(_), None) => out.extend(left.next()),
            (None, None) => return out,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn data() -> impl Strategy<Value = Data> {
        let buckets = proptest::collection::btree_map(0..2_500u16, 1..2_000u32, 0..40);
        (buckets, 0..4u64, 0..1u64 << 40, 0..1u64 << 40).prop_map(
            |(buckets, long_count, sum_us, response_bytes)| {
                let count: u64 = buckets.values().map(|n| u64::from(*n)).sum();
                let buckets: Vec<_> = buckets.into_iter().collect();
                Data {
                    count,
                    long_count,
                    sum_us: if count == 0 { 0 } else { sum_us },
                    response_bytes: if count == 0 { 0 } else { response_bytes },
                    buckets,
                }
            },
        )
    }

    fn segments() -> impl Strategy<Value = Vec<Segment>> {
        proptest::collection::vec(1..1_000_000u64, 1..50).prop_map(|lengths| {
            let mut until = 0;
            let slots = lengths.into_iter().enumerate();
            slots
                .map(|(slot, length)| {
                    until += length;
                    Segment {
                        slot: Some(slot as i64),
                        until,
                    }
                })
                .collect()
        })
    }

    proptest! {
        #[test]
        fn merging_is_associative_and_commutative(a in data(), b in data(), c in data()) {
            let merge = |x: &Data, y: &Data| {
                let mut sum = x.clone();
                sum.merge(y);
                sum
            };
            prop_assert_eq!(merge(&merge(&a, &b), &c), merge(&a, &merge(&b, &c)));
            prop_assert_eq!(merge(&a, &b), merge(&b, &a));
        }

        #[test]
        fn spreading_conserves_everything(data in data(), segments in segments()) {
            let parts = data.clone().spread(&segments);
            prop_assert_eq!(parts.len(), segments.len());
            let mut sum = Data::default();
            for part in &parts {
                let counted: u64 = part.buckets.iter().map(|(_, n)| u64::from(*n)).sum();
                prop_assert_eq!(counted, part.count);
                sum.merge(part);
            }
            prop_assert_eq!(sum, data);
        }

        #[test]
        fn spreading_sums_conserves_them(data in data(), segments in segments()) {
            let whole = Sums::of(&data);
            let mut sum = Sums::default();
            for part in whole.spread(&segments) {
                sum.merge(&part);
            }
            prop_assert_eq!(sum, whole);
        }

        #[test]
        fn spreading_is_even(count in 1_000..100_000u32, segments in 2..40usize) {
            let ends: Vec<_> = (1..=segments as u64).map(|n| Segment { slot: None, until: n * 500 }).collect();
            let data = Data { count: count.into(), buckets: vec![(7, count)], ..Data::default() };
            for part in data.spread(&ends) {
                prop_assert!(part.count.abs_diff(u64::from(count) / segments as u64) <= 1);
            }
        }
    }

    #[test]
    fn single_requests_of_many_buckets_do_not_pile_up() {
        let buckets: Vec<_> = (0..1_000).map(|bucket| (bucket, 1)).collect();
        let data = Data {
            count: 1_000,
            sum_us: 500_000,
            buckets,
            ..Data::default()
        };
        let ends: Vec<_> = (1..=10).map(|n| Segment { slot: None, until: n }).collect();
        for part in data.spread(&ends) {
            assert!((90..=110).contains(&part.count), "{}", part.count);
        }
    }
}
