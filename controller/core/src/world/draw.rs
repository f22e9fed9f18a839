//! Random numbers from a seed: ChaCha, whose stream is the same in every version and on every machine.

use std::sync::LazyLock;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore as _, SeedableRng as _};

/// A stream of random numbers. Streams of one seed are independent: drawing more of one changes no other.
#[derive(Clone, Debug)]
pub struct Draw(ChaCha8Rng);

// === impl Draw ===

impl Draw {
    /// Stream `stream` of `seed`.
    pub fn new(seed: u64, stream: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(stream);
        Self(rng)
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// Uniform in [0, 1).
    pub fn unit(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Uniform between two numbers.
    pub fn between(&mut self, least: f64, most: f64) -> f64 {
        least + (most - least) * self.unit()
    }

    /// Uniform below `bound`; 0 where that is 0.
    pub fn below(&mut self, bound: usize) -> usize {
        // The product's upper half: biased by less than bound / 2^64.
        ((u128::from(self.0.next_u64()) * bound as u128) >> 64) as usize
    }

    /// True with this probability.
    pub fn chance(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// Standard normal (Box and Muller, 1958; one of the pair).
    pub fn normal(&mut self) -> f64 {
        let radius = libm::sqrt(-2.0 * libm::log(1.0 - self.unit()));
        radius * libm::cos(std::f64::consts::TAU * self.unit())
    }

    /// Poisson: by products of uniforms up to a mean of 30 (Knuth, TAOCP 2, 3.4.1), by the normal above.
    pub fn poisson(&mut self, mean: f64) -> u32 {
        if mean <= 0.0 {
            return 0;
        }
        if mean > 30.0 {
            return (mean + libm::sqrt(mean) * self.normal()).round().max(0.0) as u32;
        }
        let limit = libm::exp(-mean);
        let (mut count, mut product) = (0, self.unit());
        while product > limit {
            count += 1;
            product *= self.unit();
        }
        count
    }
}

/// Draws of a log-normal with mean 1 from a table of its quantiles: a few nanoseconds each.
#[derive(Clone, Debug)]
pub struct LogNormal(Vec<f64>);

/// Quantiles in the table: the largest is that of 1 - 1/2048.
const QUANTILES: usize = 1024;

// === impl LogNormal ===

impl LogNormal {
    /// `sigma` of the logarithm.
    pub fn new(sigma: f64) -> Self {
        static NORMAL: LazyLock<Vec<f64>> = LazyLock::new(|| {
            let share = |k: usize| (k as f64 + 0.5) / QUANTILES as f64;
            (0..QUANTILES).map(|k| normal_quantile(share(k))).collect()
        });
        let mut table: Vec<f64> = NORMAL.iter().map(|z| libm::exp(sigma * z)).collect();
        let mean = table.iter().sum::<f64>() / QUANTILES as f64;
        table.iter_mut().for_each(|value| *value /= mean);
        Self(table)
    }

    /// One value.
    pub fn draw(&self, draw: &mut Draw) -> f64 {
        self.0.get(draw.below(QUANTILES)).copied().unwrap_or(1.0)
    }
}

/// Quantile of the standard normal, by bisection of its distribution function: for the table, once a process.
fn normal_quantile(p: f64) -> f64 {
    let (mut low, mut high) = (-8.0, 8.0);
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        if 0.5 * libm::erfc(-middle / std::f64::consts::SQRT_2) < p {
            low = middle;
        } else {
            high = middle;
        }
    }
    f64::midpoint(low, high)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_have_their_means() {
        let mut draw = Draw::new(7, 0);
        let table = LogNormal::new(0.5);
        let n = 200_000;
        let mean = |value: &mut dyn FnMut() -> f64| (0..n).map(|_| value()).sum::<f64>() / f64::from(n);
        assert!((mean(&mut || table.draw(&mut draw)) - 1.0).abs() < 0.01);
        for rate in [0.3, 12.0, 125.0] {
            let found = mean(&mut || f64::from(draw.poisson(rate)));
            assert!((found / rate - 1.0).abs() < 0.01, "{found} of {rate}");
        }
        assert!(mean(&mut || draw.normal()).abs() < 0.01);
        assert!((normal_quantile(0.975) - 1.959_964).abs() < 1e-5);
    }
}
