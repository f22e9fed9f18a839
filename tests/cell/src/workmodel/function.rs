//! Internal functions: what a service does itself for each request.

use rand::Rng;
use rand_distr::{Distribution, Exp1, StandardNormal};
use std::time::Duration;

/// Answers above this are cut: a mean of 1 MB reaches it once in nine million draws.
pub const MAX_RESPONSE_BYTES: usize = 16_000_000;

/// A service's own work.
#[derive(Debug, Clone, PartialEq)]
pub enum Function {
    /// Digits of pi, their number uniform in the closed range.
    ComputePi {
        /// Fewest and most digits.
        digits: (u32, u32),
    },
    /// Any of CPU, memory, disk and sleep, in this order.
    Loader(Loader),
    /// Nothing: muBench's banner of text.
    Colosseum,
}

/// Parameters of muBench's `loader`; an absent part does not run.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Loader {
    /// `cpu_stress`.
    pub cpu: Option<Cpu>,
    /// `memory_stress`.
    pub memory: Option<Memory>,
    /// `disk_stress`.
    pub disk: Option<Disk>,
    /// `sleep_stress`.
    pub sleep: Option<Duration>,
}

/// Digits of pi, several times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cpu {
    /// Fewest and most digits.
    pub digits: (u32, u32),
    /// Threads that do the same.
    pub threads: u32,
    /// Repetitions on each thread.
    pub trials: u32,
}

/// Memory that is allocated and touched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// Blocks of 1,000 bytes.
    pub kilobytes: u32,
    /// Reads and writes.
    pub accesses: u32,
}

/// A file that is written, flushed and read again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Disk {
    /// Number of blocks.
    pub blocks: u32,
    /// Bytes of a block.
    pub block_bytes: u32,
}

/// How large answers are.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Sizes {
    /// Exponential with this mean in bytes.
    Exponential(f64),
    /// Always so many bytes.
    Fixed(usize),
}

/// A delay without work: log-normal, or fixed where sigma is 0.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Delay {
    /// Mean of the delay itself, not of its logarithm.
    pub mean: Duration,
    /// Standard deviation of the logarithm.
    pub sigma: f64,
}

// === impl Sizes ===

impl Sizes {
    /// Size of one answer: 1 … [`MAX_RESPONSE_BYTES`].
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a cast of a float saturates, and the clamp follows"
    )]
    pub fn draw(&self, rng: &mut impl Rng) -> usize {
        let bytes = match *self {
            Self::Fixed(bytes) => bytes,
            Self::Exponential(mean) => {
                let unit: f64 = Exp1.sample(rng);
                (mean * unit) as usize
            }
        };
        bytes.clamp(1, MAX_RESPONSE_BYTES)
    }
}

// === impl Delay ===

impl Delay {
    /// Longest delay that is drawn; the tail of a log-normal has no end.
    const MAX: Duration = Duration::from_secs(600);

    /// One delay. With mean `m` the logarithm's mean is `ln m − σ²/2`, so that the draws average to `m`.
    pub fn draw(&self, rng: &mut impl Rng) -> Duration {
        if self.sigma == 0.0 {
            return self.mean.min(Self::MAX);
        }
        let normal: f64 = StandardNormal.sample(rng);
        let factor = (self.sigma * normal - self.sigma * self.sigma / 2.0).exp();
        let seconds = self.mean.as_secs_f64() * factor;
        Duration::from_secs_f64(seconds.clamp(0.0, Self::MAX.as_secs_f64()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{SeedableRng, rngs::SmallRng};

    #[test]
    fn sizes_average_to_their_mean() {
        let mut rng = SmallRng::seed_from_u64(1);
        let sizes = Sizes::Exponential(5_000.0);
        let sum: usize = (0..20_000).map(|_| sizes.draw(&mut rng)).sum();
        let mean = sum as f64 / 20_000.0;
        // Standard error: 5,000 / sqrt(20,000) = 35.
        assert!((mean - 5_000.0).abs() < 4.0 * 36.0, "{mean}");
        assert_eq!(Sizes::Fixed(7).draw(&mut rng), 7);
        assert_eq!(Sizes::Fixed(usize::MAX).draw(&mut rng), MAX_RESPONSE_BYTES);
    }

    #[test]
    fn delays_average_to_their_mean() {
        let mut rng = SmallRng::seed_from_u64(1);
        let delay = Delay {
            mean: Duration::from_millis(10),
            sigma: 0.5,
        };
        let sum: f64 = (0..20_000).map(|_| delay.draw(&mut rng).as_secs_f64()).sum();
        let mean_ms = sum / 20.0;
        // Coefficient of variation sqrt(e^0.25 - 1) = 0.53; standard error 10 * 0.53 / 141 = 0.038 ms.
        assert!((mean_ms - 10.0).abs() < 4.0 * 0.038, "{mean_ms}");
        let fixed = Delay {
            mean: Duration::from_millis(3),
            sigma: 0.0,
        };
        assert_eq!(fixed.draw(&mut rng), Duration::from_millis(3));
    }
}
