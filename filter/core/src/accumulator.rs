//! What is counted under one key: in the present window, and since the key's start.

use gma_report::histogram::{self, DIGITS};
use gma_report::limits::MAX_SUM;
use gma_report::v1::{self, Outcome};
use hdrhistogram::Histogram;

/// One finished request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Observation {
    pub(crate) measured: Measured,
    pub(crate) sample: Option<Sample>,
}

/// What enters the sums.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Measured {
    /// An answer within 60 s.
    Answer { duration_us: u64, response_bytes: u64 },
    /// The client left: counted, in no delay.
    Cancelled,
    /// Over 60 s, or an upgrade: counted apart.
    Long,
}

/// What 1 request in 16 is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sample {
    pub(crate) request_bytes: u64,
    pub(crate) attempts: u64,
}

/// A counter of 32 bits is full: the request is counted as unmeasured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Full;

/// One window of one key. The histogram is made with its first request and grows with the delays that it
/// sees: most keys need a few hundred of the 2,560 buckets.
#[derive(Debug, Default)]
pub(crate) struct Accumulator {
    count: u32,
    long_count: u32,
    sum_us: u64,
    response_bytes: u64,
    sampled: u32,
    sampled_request_bytes: u64,
    sampled_attempts: u64,
    histogram: Option<Histogram<u32>>,
}

/// Since the start of the key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) count: u64,
    pub(crate) long_count: u64,
    pub(crate) sum_us: u64,
}

// === impl Accumulator ===

impl Accumulator {
    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0 && self.long_count == 0
    }

    pub(crate) fn add(&mut self, observation: &Observation) -> Result<(), Full> {
        match observation.measured {
            Measured::Long => self.long_count = self.long_count.checked_add(1).ok_or(Full)?,
            Measured::Cancelled => self.count = self.count.checked_add(1).ok_or(Full)?,
            Measured::Answer {
                duration_us,
                response_bytes,
            } => {
                let count = self.count.checked_add(1).ok_or(Full)?;
                self.record(duration_us)?;
                self.count = count;
                self.sum_us += duration_us;
                self.response_bytes = self.response_bytes.saturating_add(response_bytes).min(MAX_SUM);
            }
        }
        if let Some(Sample {
            request_bytes,
            attempts,
        }) = observation.sample
        {
            self.sampled = self.sampled.saturating_add(1);
            self.sampled_request_bytes = self
                .sampled_request_bytes
                .saturating_add(request_bytes)
                .min(MAX_SUM);
            self.sampled_attempts = self.sampled_attempts.saturating_add(attempts).min(MAX_SUM);
        }
        Ok(())
    }

    fn record(&mut self, duration_us: u64) -> Result<(), Full> {
        // It resizes itself, so it takes every value; were it ever to fail, the request must not be counted.
        let histogram = match &mut self.histogram {
            Some(histogram) => histogram,
            none => none.insert(new_histogram()?),
        };
        histogram.record(duration_us).map_err(|_| Full)
    }

    /// The window as a series; empty afterwards. The histogram keeps its memory.
    pub(crate) fn take(&mut self, key: &v1::Key) -> v1::Series {
        let mut histogram = Vec::new();
        let has_histogram = self.count > 0 && key.outcome != Outcome::Cancelled as i32;
        if let Some(counts) = self.histogram.as_mut().filter(|_| has_histogram) {
            histogram::encode_v2(counts, &mut histogram);
            counts.reset();
        }
        let series = v1::Series {
            key: Some(key.clone()),
            count: self.count.into(),
            sum_us: self.sum_us,
            histogram,
            response_bytes: self.response_bytes,
            long_count: self.long_count.into(),
            sampled: self.sampled.into(),
            sampled_request_bytes: self.sampled_request_bytes,
            sampled_attempts: self.sampled_attempts,
        };
        *self = Self {
            histogram: self.histogram.take(),
            ..Self::default()
        };
        series
    }
}

#[cold]
#[inline(never)]
fn new_histogram() -> Result<Histogram<u32>, Full> {
    Histogram::new(DIGITS).map_err(|_| Full)
}

// === impl Totals ===

impl Totals {
    pub(crate) fn add(&mut self, observation: &Observation) {
        match observation.measured {
            Measured::Long => self.long_count += 1,
            Measured::Cancelled => self.count += 1,
            Measured::Answer { duration_us, .. } => {
                self.count += 1;
                self.sum_us = self.sum_us.saturating_add(duration_us);
            }
        }
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        self.count += other.count;
        self.long_count += other.long_count;
        self.sum_us = self.sum_us.saturating_add(other.sum_us);
    }
}

#[cfg(test)]
mod tests {
    use gma_report::histogram::{HEADER_BYTES, HIGHEST_US, check_v2};
    use proptest::prelude::*;

    use super::*;

    fn answer(duration_us: u64) -> Observation {
        Observation {
            measured: Measured::Answer {
                duration_us,
                response_bytes: 10,
            },
            sample: None,
        }
    }

    fn key(outcome: Outcome) -> v1::Key {
        v1::Key {
            outcome: outcome.into(),
            ..v1::Key::default()
        }
    }

    proptest! {
        /// What comes out is a histogram of the wire's shape with exactly what went in, window after window.
        #[test]
        fn windows_hold_what_was_added(windows in prop::collection::vec(prop::collection::vec(0..=HIGHEST_US, 1..50), 1..4)) {
            let mut accumulator = Accumulator::default();
            for durations in windows {
                for duration in &durations {
                    accumulator.add(&answer(*duration)).unwrap();
                }
                let series = accumulator.take(&key(Outcome::Ok));
                prop_assert!(accumulator.is_empty());
                prop_assert_eq!(series.count, durations.len() as u64);
                prop_assert_eq!(series.sum_us, durations.iter().sum::<u64>());
                prop_assert_eq!(series.response_bytes, 10 * series.count);
                let checked = check_v2(&series.histogram, series.count).unwrap();
                prop_assert!((checked.least_sum_us..=checked.most_sum_us).contains(&series.sum_us));
            }
        }
    }

    #[test]
    fn long_and_cancelled_requests_enter_no_delay() {
        let mut accumulator = Accumulator::default();
        let mut totals = Totals::default();
        for measured in [Measured::Long, Measured::Cancelled] {
            let observation = Observation {
                measured,
                sample: None,
            };
            accumulator.add(&observation).unwrap();
            totals.add(&observation);
        }
        let series = accumulator.take(&key(Outcome::Cancelled));
        assert_eq!((series.count, series.long_count, series.sum_us), (1, 1, 0));
        assert!(series.histogram.is_empty());
        assert_eq!(
            totals,
            Totals {
                count: 1,
                long_count: 1,
                sum_us: 0
            }
        );
    }

    #[test]
    fn a_full_counter_says_so() {
        let mut accumulator = Accumulator {
            count: u32::MAX,
            long_count: u32::MAX,
            ..Accumulator::default()
        };
        assert_eq!(accumulator.add(&answer(1)), Err(Full));
        let long = Observation {
            measured: Measured::Long,
            sample: None,
        };
        assert_eq!(accumulator.add(&long), Err(Full));
        assert_eq!(accumulator.count, u32::MAX);
    }

    #[test]
    fn a_full_histogram_fits_its_bound() {
        let mut accumulator = Accumulator::default();
        for bucket in 0..=histogram::bucket_of(HIGHEST_US) {
            accumulator.add(&answer(histogram::lowest_us(bucket))).unwrap();
        }
        let series = accumulator.take(&key(Outcome::Ok));
        assert_eq!(
            series.histogram.len(),
            HEADER_BYTES + histogram::bucket_of(HIGHEST_US) + 1
        );
    }
}
