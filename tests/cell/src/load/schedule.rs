//! When requests fall due.

use std::time::Duration;

use rand::{SeedableRng, rngs::SmallRng};
use rand_distr::{Distribution, Exp1};

/// The gaps between requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Arrivals {
    /// All alike.
    #[default]
    Constant,
    /// Exponential: a Poisson process, as many independent users make one.
    Poisson,
}

/// Offsets from the start, rising, without end.
#[derive(Debug)]
pub(super) struct Schedule {
    arrivals: Arrivals,
    gap_seconds: f64,
    next_seconds: f64,
    count: u64,
    rng: SmallRng,
}

// === impl Schedule ===

impl Schedule {
    pub(super) fn new(rate_per_sec: f64, arrivals: Arrivals, seed: u64) -> Self {
        Self {
            arrivals,
            gap_seconds: 1.0 / rate_per_sec,
            next_seconds: 0.0,
            count: 0,
            rng: SmallRng::seed_from_u64(seed),
        }
    }
}

impl Iterator for Schedule {
    type Item = Duration;

    #[expect(clippy::cast_precision_loss, reason = "exact below 2^53 requests")]
    fn next(&mut self) -> Option<Duration> {
        let due = self.next_seconds;
        self.count += 1;
        self.next_seconds = match self.arrivals {
            // From the start each time: a sum of gaps would drift.
            Arrivals::Constant => self.gap_seconds * self.count as f64,
            Arrivals::Poisson => {
                let unit: f64 = Exp1.sample(&mut self.rng);
                due + self.gap_seconds * unit
            }
        };
        Some(Duration::from_secs_f64(due))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constant_gaps_do_not_drift() {
        let mut schedule = Schedule::new(3.0, Arrivals::Constant, 0);
        assert_eq!(schedule.next(), Some(Duration::ZERO));
        // The 300,001st request.
        assert_eq!(schedule.nth(299_999).unwrap().as_micros(), 100_000_000_000);
    }

    #[test]
    fn poisson_keeps_the_rate_and_the_seed() {
        let times = |seed| {
            Schedule::new(100.0, Arrivals::Poisson, seed)
                .take(20_001)
                .collect::<Vec<_>>()
        };
        let last = times(1).last().unwrap().as_secs_f64();
        // 20,000 exponential gaps of 10 ms: 200 s with a standard deviation of 1.41 s.
        assert!((last - 200.0).abs() < 4.0 * 1.42, "{last}");
        assert_eq!(times(1), times(1));
        assert_ne!(times(1), times(2));
    }
}
