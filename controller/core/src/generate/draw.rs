//! Random numbers from a seed.
//!
//! ChaCha keeps its stream of numbers in later versions and on every machine, which `rand`'s default generators do not
//! promise: a published seed must still give the published application.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore as _, SeedableRng as _};

/// What numbers are drawn for. Each has a stream of its own, so that drawing more of one changes no other.
#[derive(Clone, Copy, Debug)]
pub(super) enum Purpose {
    Graph,
    Services,
    Edges,
}

/// A stream of random numbers.
#[derive(Clone, Debug)]
pub(super) struct Draw(ChaCha8Rng);

// === impl Draw ===

impl Draw {
    pub(super) fn new(seed: u64, purpose: Purpose) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(purpose as u64);
        Self(rng)
    }

    /// Uniform in [0, 1): the upper 53 bits, which a float holds exactly.
    pub(super) fn unit(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Uniform between two numbers.
    pub(super) fn between(&mut self, (least, most): (f64, f64)) -> f64 {
        least + (most - least) * self.unit()
    }

    /// Pareto with scale 1: at least 1, above x with probability x^−shape.
    pub(super) fn pareto(&mut self, shape: f64) -> f64 {
        libm::pow(1.0 - self.unit(), -1.0 / shape)
    }

    /// A position, each with a probability in proportion to its weight; none where no weight is above 0.
    pub(super) fn weighted(&mut self, weights: &[f64]) -> Option<usize> {
        let mut rest = self.unit() * weights.iter().sum::<f64>();
        let mut last = None;
        for (position, weight) in weights.iter().enumerate().filter(|(_, weight)| **weight > 0.0) {
            last = Some(position);
            if rest < *weight {
                break;
            }
            rest -= weight;
        }
        last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANY: u32 = 100_000;

    /// Share of draws for which `hit` holds, and four standard errors of a share `expected`.
    fn share(expected: f64, mut hit: impl FnMut(&mut Draw) -> bool) -> (f64, f64) {
        let mut draw = Draw::new(1, Purpose::Graph);
        let hits = (0..MANY).filter(|_| hit(&mut draw)).count();
        let error = (expected * (1.0 - expected) / f64::from(MANY)).sqrt();
        (hits as f64 / f64::from(MANY), 4.0 * error)
    }

    #[test]
    fn the_tail_of_pareto_is_its_formula() {
        for x in [1.1_f64, 1.5, 2.0] {
            let expected = x.powf(-10.0);
            let (found, error) = share(expected, |draw| draw.pareto(10.0) >= x);
            assert!(
                (found - expected).abs() < error,
                "x {x}: {found}, expected {expected}"
            );
        }
    }

    #[test]
    fn a_position_is_drawn_by_its_weight_and_never_without_one() {
        let weights = [1.0, 0.0, 3.0];
        let (found, error) = share(0.25, |draw| draw.weighted(&weights) == Some(0));
        assert!((found - 0.25).abs() < error, "{found}");
        assert_eq!(share(0.0, |draw| draw.weighted(&weights) == Some(1)).0, 0.0);
        assert_eq!(Draw::new(1, Purpose::Graph).weighted(&[0.0]), None);
    }
}
