//! The laws of `gma_core::interval`: the true value is missed as rarely as α says, and a step is seen in time.
//!
//! Slots are drawn, not requests: the sum of n log-normal delays is normal enough for n of 50 to 100, and their
//! histogram is that of the distribution itself. What is measured is printed with `--nocapture`.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "tests"
)]

use gma_core::interval::{Interval, LEAST_SLOTS, LONGEST_US, Window};
use gma_core::snapshot::DelaySlot;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

/// Steps of the level in a slot: 0.1 s each.
const STEPS: usize = 5;
/// Of log-normal delays.
const SIGMA: f64 = 0.5;
/// Buckets of a drawn histogram: each holds as many requests as the others, on average.
const BUCKETS: usize = 40;
const MEAN_US: f64 = 100_000.0;

/// How delays come about.
#[derive(Clone, Copy, Debug)]
struct Noise {
    rps: f64,
    /// Of the level, from 0.1 s to 0.1 s.
    phi: f64,
    /// Standard deviation of the level.
    sd: f64,
    /// Once a minute a second at twice the delay.
    spikes: bool,
}

const INDEPENDENT: Noise = Noise {
    rps: 200.0,
    phi: 0.0,
    sd: 0.0,
    spikes: false,
};

/// The noise that GMA promises not to act upon.
const PROMISED: Noise = Noise {
    rps: 200.0,
    phi: 0.9,
    sd: 0.03,
    spikes: false,
};

struct Source {
    random: ChaCha8Rng,
    spare: Option<f64>,
    noise: Noise,
    level: f64,
    /// Delays in each of the equally likely buckets, relative to the mean.
    shape: Vec<f64>,
    at: usize,
    spike: usize,
}

impl Source {
    fn new(noise: Noise, seed: u64) -> Self {
        let mut source = Self {
            random: ChaCha8Rng::seed_from_u64(seed),
            spare: None,
            noise,
            level: 0.0,
            shape: shape(),
            at: 0,
            spike: 0,
        };
        source.level = source.normal();
        source
    }

    fn uniform(&mut self) -> f64 {
        ((self.random.next_u64() >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
    }

    /// Box and Muller, Annals of Mathematical Statistics 1958.
    fn normal(&mut self) -> f64 {
        if let Some(spare) = self.spare.take() {
            return spare;
        }
        let radius = (-2.0 * self.uniform().ln()).sqrt();
        let angle = std::f64::consts::TAU * self.uniform();
        self.spare = Some(radius * angle.sin());
        radius * angle.cos()
    }

    /// The next 0.5 s, at `factor` times the mean.
    fn slot(&mut self, factor: f64) -> DelaySlot {
        let Noise { rps, phi, sd, spikes } = self.noise;
        if spikes && self.at.is_multiple_of(120) {
            self.spike = self.at + (self.uniform() * 118.0) as usize;
        }
        let spike = if spikes && (self.spike..self.spike + 2).contains(&self.at) {
            2.0
        } else {
            1.0
        };
        self.at += 1;
        let mut middles: Vec<u32> = Vec::new();
        let (mut count, mut sum_us) = (0_u64, 0.0);
        for _ in 0..STEPS {
            self.level = phi * self.level + (1.0 - phi * phi).sqrt() * self.normal();
            let scale = MEAN_US * factor * spike * (1.0 + sd * self.level);
            // The rate swings by 30 % within 10 s.
            let phase = self.at as f64 / 20.0 * std::f64::consts::TAU;
            let expected = rps / 10.0 * (1.0 + 0.3 * phase.sin());
            let requests = (expected + expected.sqrt() * self.normal()).round().max(0.0) as u32;
            for _ in 0..requests {
                let part = (self.uniform() * BUCKETS as f64) as usize;
                let relative = self.shape[part];
                middles.push(bucket((scale * relative) as u32));
                sum_us += scale * relative;
                count += 1;
            }
        }
        middles.sort_unstable();
        let buckets = middles
            .chunk_by(PartialEq::eq)
            .map(|same| (same[0], same.len() as u32));
        DelaySlot {
            count,
            sum_us: sum_us as u64,
            buckets: buckets.collect(),
        }
    }

    fn slots(&mut self, count: usize, factor: f64) -> Vec<DelaySlot> {
        (0..count).map(|_| self.slot(factor)).collect()
    }
}

/// Middle of the bucket of a delay: 7 bits of it count, as in a histogram of two digits.
fn bucket(us: u32) -> u32 {
    let shift = (u32::BITS - us.leading_zeros()).saturating_sub(8);
    ((us >> shift) << shift) + (1 << shift) / 2
}

/// Delays at the middles of equally likely parts of a log-normal distribution, their mean 1.
fn shape() -> Vec<f64> {
    let at = |part: usize| (SIGMA * probit((part as f64 + 0.5) / BUCKETS as f64)).exp();
    let delays: Vec<f64> = (0..BUCKETS).map(at).collect();
    let mean = delays.iter().sum::<f64>() / BUCKETS as f64;
    delays.into_iter().map(|delay| delay / mean).collect()
}

/// Inverse of the normal distribution, by bisection of an integral: slow and plain.
fn probit(share: f64) -> f64 {
    let below = |x: f64| {
        let steps = 2_000;
        let width = (x + 8.0) / f64::from(steps);
        let density = |at: f64| (-at * at / 2.0).exp() / std::f64::consts::TAU.sqrt();
        (0..steps)
            .map(|step| density(-8.0 + (f64::from(step) + 0.5) * width) * width)
            .sum::<f64>()
    };
    let (mut low, mut high) = (-6.0, 6.0);
    for _ in 0..50 {
        let middle = f64::midpoint(low, high);
        if below(middle) < share {
            low = middle;
        } else {
            high = middle;
        }
    }
    low
}

/// Of `trials` windows, the share whose interval misses the true mean, for each α.
fn misses(noise: Noise, slots: usize, trials: usize, alphas: [f64; 3]) -> [f64; 3] {
    let mut source = Source::new(noise, slots as u64);
    let mut missed = [0_u32; 3];
    for _ in 0..trials {
        let slots = source.slots(slots, 1.0);
        // Windows far enough apart to be independent.
        source.level = source.normal();
        let window = Window::of(&slots);
        for (alpha, missed) in alphas.iter().zip(&mut missed) {
            let Interval { low_us, high_us, .. } = window.mean(*alpha).unwrap();
            *missed += u32::from(MEAN_US < low_us || MEAN_US > high_us);
        }
    }
    missed.map(|missed| f64::from(missed) / trials as f64)
}

/// What chance adds to a rate over so many trials, at most: four standard deviations, and one event.
fn chance(rate: f64, trials: usize) -> f64 {
    rate + 4.0 * (rate / trials as f64).sqrt() + 1.0 / trials as f64
}

#[test]
fn the_mean_is_missed_no_more_often_than_promised() {
    let alphas = [0.05, 0.01, 1e-4];
    let trials = 1_000;
    for noise in [
        INDEPENDENT,
        PROMISED,
        Noise { phi: 0.5, ..PROMISED },
        Noise { phi: 0.8, ..PROMISED },
        Noise {
            rps: 100.0,
            ..PROMISED
        },
    ] {
        for slots in [8, 12, 20, 40] {
            let missed = misses(noise, slots, trials, alphas);
            println!("mean, {noise:?}, {slots} slots: {missed:?} of {alphas:?}");
            for (missed, alpha) in missed.iter().zip(alphas) {
                assert!(
                    *missed <= chance(alpha, trials),
                    "{noise:?}, {slots} slots, α {alpha}: {missed}"
                );
            }
        }
    }
}

#[test]
fn slow_levels_are_covered_by_windows_that_are_long_against_them() {
    // The level forgets within 1 s (φ 0.9 at a rate where it is nearly all of the noise), 2 s and 5 s.
    for (phi, sd, rps, slots, most) in [
        (0.9, 0.03, 1_000.0, 120, 0.05),
        (0.95, 0.05, 200.0, 240, 0.05),
        (0.98, 0.05, 200.0, 480, 0.06),
    ] {
        let noise = Noise {
            rps,
            phi,
            sd,
            spikes: false,
        };
        let trials = 600;
        let [missed, ..] = misses(noise, slots, trials, [0.05, 0.01, 1e-4]);
        println!("mean, {noise:?}, {slots} slots: {missed} of 0.05");
        assert!(
            missed <= chance(most, trials),
            "{noise:?}, {slots} slots: {missed}"
        );
    }
}

/// The delay that a share of all requests does not exceed: by the same shape, over the level's distribution.
fn true_quantile(share: f64, noise: Noise) -> f64 {
    let mut all: Vec<f64> = (0..BUCKETS * 1_000)
        .map(|at| {
            let level = probit_table()[at % 1_000];
            shape_table()[at / 1_000] * (1.0 + noise.sd * level) * MEAN_US
        })
        .collect();
    all.sort_by(f64::total_cmp);
    all[((share * all.len() as f64).ceil() as usize).max(1) - 1]
}

fn probit_table() -> &'static [f64] {
    static TABLE: std::sync::OnceLock<Vec<f64>> = std::sync::OnceLock::new();
    TABLE.get_or_init(|| (0..1_000).map(|at| probit((f64::from(at) + 0.5) / 1e3)).collect())
}

fn shape_table() -> &'static [f64] {
    static TABLE: std::sync::OnceLock<Vec<f64>> = std::sync::OnceLock::new();
    TABLE.get_or_init(shape)
}

#[test]
fn quantiles_are_missed_no_more_often_than_promised() {
    let trials = 1_000;
    // Not p99: of the 40 delays that are drawn it lies in the last, so only the level would move it.
    for share in [0.5, 0.9, 0.95] {
        let truth = true_quantile(share, PROMISED);
        for slots in [8, 20, 40] {
            let mut source = Source::new(PROMISED, slots as u64);
            let mut missed = [0_u32; 2];
            for _ in 0..trials {
                let slots = source.slots(slots, 1.0);
                source.level = source.normal();
                let mut window = Window::of(&slots);
                for (alpha, missed) in [0.05, 1e-4].iter().zip(&mut missed) {
                    let Interval { low_us, high_us, .. } = window.quantile(share, *alpha).unwrap();
                    // Ends are buckets: as exact as 0.5 %.
                    *missed += u32::from(truth < low_us * 0.995 || truth > high_us * 1.005);
                }
            }
            let missed = missed.map(|missed| f64::from(missed) / trials as f64);
            println!("p{}, {slots} slots: {missed:?} of [0.05, 1e-4]", share * 100.0);
            for (missed, alpha) in missed.iter().zip([0.05, 1e-4]) {
                assert!(
                    *missed <= chance(alpha, trials),
                    "p{share}, {slots} slots, α {alpha}: {missed}"
                );
            }
        }
    }
}

/// Windows that evidence looks at.
fn lengths() -> Vec<usize> {
    let mut lengths: Vec<usize> = (LEAST_SLOTS..=16).collect();
    while let Some(next) = lengths
        .last()
        .map(|last| (*last as f64 * 1.1) as usize)
        .filter(|next| *next <= 60)
    {
        lengths.push(next);
    }
    lengths
}

/// Slots after a step until three evaluations in a row have an interval wholly above the bound.
fn slots_to_see(noise: Noise, share: Option<f64>, step: f64, seed: u64) -> usize {
    let mut source = Source::new(noise, seed);
    source.at = (source.uniform() * 120.0) as usize;
    let truth = share.map_or(MEAN_US, |share| true_quantile(share, Noise { sd: 0.0, ..noise }));
    let slots = source.slots(60, step);
    let mut row = 0;
    for now in LEAST_SLOTS..=slots.len() {
        let sees = |length: &usize| {
            let mut window = Window::of(&slots[now - length..now]);
            let interval = match share {
                None => window.mean(1e-4),
                Some(share) => window.quantile(share, 1e-4),
            };
            interval.is_some_and(|interval| interval.low_us > truth)
        };
        row = if lengths().iter().filter(|length| **length <= now).any(sees) {
            row + 1
        } else {
            0
        };
        if row == 3 {
            return now;
        }
    }
    slots.len()
}

#[test]
fn a_step_to_one_fifth_above_the_bound_is_seen_in_time() {
    let seeds = 100;
    let hundred = Noise {
        rps: 100.0,
        ..INDEPENDENT
    };
    let spiky = Noise {
        spikes: true,
        ..PROMISED
    };
    // Statistic, noise, and the seconds within which half and 99 % of the seeds see it.
    for (share, noise, half, most) in [
        (None, hundred, 6.0, 12.0),
        (Some(0.5), hundred, 7.5, 15.0),
        (
            Some(0.95),
            Noise {
                rps: 200.0,
                ..hundred
            },
            7.5,
            15.0,
        ),
        (None, spiky, 6.0, 14.0),
    ] {
        let mut seen: Vec<f64> = (0..seeds)
            .map(|seed| slots_to_see(noise, share, 1.2, seed) as f64 / 2.0)
            .collect();
        seen.sort_by(f64::total_cmp);
        let at = |share: f64| seen[(seen.len() as f64 * share) as usize];
        println!(
            "step, share {share:?}, {noise:?}: half {} s, 99 % {} s",
            at(0.5),
            at(0.99)
        );
        assert!(
            at(0.5) <= half && at(0.99) <= most,
            "{share:?}: {} s, {} s",
            at(0.5),
            at(0.99)
        );
    }
}

#[test]
fn t_and_binomial_agree_with_the_tables() {
    // 8 slots whose requests all took as long, by slot: no variance within, so 7 degrees of freedom. α = 1e-4:
    // t(7) = 7.885 (Fisher and Yates, table III, gives 5.408 at 1e-3). ρ is taken as 1/3: a factor of 2.
    let delays = [90, 100, 110, 95, 105, 92, 108, 100].map(|ms| ms * 1_000);
    let slots: Vec<DelaySlot> = delays
        .iter()
        .map(|us| DelaySlot {
            count: 1_000,
            sum_us: 1_000 * u64::from(*us),
            buckets: [(*us, 1_000)].into(),
        })
        .collect();
    let window = Window::of(&slots);
    let mean = delays.iter().map(|us| f64::from(*us)).sum::<f64>() / 8.0;
    let squares: f64 = delays.iter().map(|us| (f64::from(*us) - mean).powi(2)).sum();
    let (between, within) = (squares / 7.0 / 8.0, squares / 8.0 / 8_000.0);
    // Satterthwaite raises 7 by (V / (V − W))² = 1.0018.
    assert!((between / (between - within) - 1.0).abs() < 1e-3);
    for (alpha, t) in [(1e-3, 5.408), (1e-4, 7.885)] {
        let half = window.mean(alpha).unwrap().high_us - mean;
        let found = half / (2.0 * between).sqrt();
        assert!((found / t - 1.0).abs() < 3e-3, "t(7) at {alpha}: {found}");
    }
}

#[test]
fn too_little_is_no_interval_and_an_open_end_is_the_longest_delay() {
    let mut source = Source::new(INDEPENDENT, 1);
    let slots = source.slots(LEAST_SLOTS, 1.0);
    assert_eq!(Window::of(&slots[1..]).mean(0.01), None);
    assert_eq!(Window::of(&[]).quantile(0.5, 0.01), None);
    let mut few = Source::new(
        Noise {
            rps: 10.0,
            ..INDEPENDENT
        },
        1,
    )
    .slots(LEAST_SLOTS, 1.0);
    assert!(few.iter().map(|slot| slot.count).sum::<u64>() < 50);
    assert_eq!(Window::of(&few).mean(0.01), None);
    few.iter_mut().for_each(|slot| *slot = DelaySlot::default());
    assert_eq!(Window::of(&few).mean(0.01), None);
    // Of 800 requests none is known to lie above p99 with α = 1e-4.
    let p99 = Window::of(&slots).quantile(0.99, 1e-4).unwrap();
    assert!(p99.high_us >= LONGEST_US && p99.low_us > MEAN_US, "{p99:?}");
    assert!(p99.effective <= 1_000.0);
}

/// What is spared by asking first is never what would have decided.
#[test]
fn no_interval_reaches_further_than_at_best() {
    let noises = [INDEPENDENT, PROMISED, Noise { sd: 0.3, ..PROMISED }];
    let mut compared = 0;
    for (seed, noise) in noises.into_iter().enumerate() {
        for length in [LEAST_SLOTS, 12, 40, 120] {
            let slots = Source::new(noise, seed as u64).slots(length, 1.0);
            let mut window = Window::of(&slots);
            let (mean, best) = (window.mean(1e-4).unwrap(), window.mean_at_best(1e-4).unwrap());
            assert!(mean.low_us <= best.low_us && best.high_us <= mean.high_us);
            for share in [0.5, 0.9, 0.95, 0.99] {
                let found = window.quantile(share, 1e-4).unwrap();
                let best = window.quantile_at_best(share, 1e-4).unwrap();
                assert_eq!(best.value_us(), found.value_us);
                for part in [0.3, 0.8, 0.9, 0.95, 0.999] {
                    let (under_us, over_us) = (found.low_us * part, found.high_us / part);
                    assert!(best.may_exceed(under_us), "{share}, {found:?}: above {under_us}");
                    assert!(
                        best.may_stay_below(over_us),
                        "{share}, {found:?}: below {over_us}"
                    );
                    compared += 1;
                }
                // It spares something: an interval does not lie above its own middle.
                assert!(!best.may_exceed(found.value_us) && !best.may_stay_below(found.value_us));
            }
        }
    }
    assert_eq!(compared, 3 * 4 * 4 * 5);
}
