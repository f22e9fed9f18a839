//! Targets on a quantile, for a model of means.

use std::f64::consts::SQRT_2;

use super::sums::float;
use crate::decide::Statistic;
use crate::model::Crossings;
use crate::snapshot::DelayStats;

/// σ is looked for from here
const LEAST_SIGMA: f64 = 0.01;
/// to here (a p99 of some 70 times the median), in steps of 10 %.
const MOST_SIGMA: f64 = 2.0;
const SIGMA_STEP: f64 = 1.1;
/// Y is at least this part of the mean: a measured mean may be below the crossings that the model sees.
const LEAST_REST: f64 = 0.02;
/// Least part of the requests beyond a quantile, or before it, that may be on the other side of it.
const LEAST_UNSURE: f64 = 0.1;
/// And the most: of more nothing could be said.
const MOST_UNSURE: f64 = 0.5;
/// Standard errors of a share of requests that it may be off by: a plan is asked for again and again, with new requests each
/// time, so one in 4,000 is not too rare.
const UNSURE_ERRORS: f64 = 3.5;
/// Halvings of an interval in which a quantile is looked for: to a millionth of it.
const HALVINGS: usize = 20;
/// Mean targets that are tried for one target on a quantile: the range of means is halved as often.
pub const MEAN_TARGETS: usize = 6;

/// The distribution of the user delay at one edge, fitted to what was measured there.
///
/// A quantile does not move as the mean does: with everything at the edge but a standby of 1 %, the requests that still
/// cross the WAN are few enough to leave the mean and many enough to be the tail. So the user delay is taken for a mixture
/// over the number of crossings K, which the model knows ([`Crossings`]), and one unknown, the spread of the rest:
///
/// | what | formula |
/// |---|---|
/// | user delay | Y + K·d, d what a crossing takes, Y and K independent |
/// | Y | log-normal with mean m − d·E K (m the mean delay) and a σ of its logarithm |
/// | share of requests within t | F(t; m, K) = Σ_k P(K = k) Φ((ln(t − k·d) − ln E Y + σ²/2) / σ) |
/// | quantile by the model | Q_p(m, K): F = p |
/// | σ | least squares of ln(Q_p / measured) over p50, p90, p95, p99, with the present m and K |
/// | predicted | measured + Q_p(m after, K after) − Q_p(m now, K now), anchored as the mean is |
///
/// Source: the law of total probability over K. That Y is log-normal is a choice: a tail to one side from one number that can
/// be fitted. The µPlacer reference moves a quantile by what the mean moves; how far both are off is in the crate's README,
/// "Quantiles".
///
/// Nothing at the edge: every request crosses once, 80 ms, and the rest is 20 ms in the mean. With `front`, `cart` and
/// `users` at the edge and a standby of 1 %, 3 % of the requests cross. That is beyond the p95, which falls by the 80 ms, and
/// within the p99, which keeps them.
///
/// ```
/// use gma_core::decide::Statistic;
/// use gma_core::measured::Tail;
/// use gma_core::model::{Crossings, DensePlacement, EdgeIx, ServiceIx};
/// use gma_core::snapshot::DelayStats;
/// # let problem = gma_core::example::problem();
/// let cloud = DensePlacement::cloud_only(&problem);
/// let mut all = cloud.clone();
/// [0, 1, 2].map(ServiceIx).iter().for_each(|service| all.set(EdgeIx(0), *service, true));
/// let [now, after] = [cloud, all].map(|placement| Crossings::resting(&problem, EdgeIx(0), &placement));
/// let delay = DelayStats {
///     count: 10_000, mean_us: 100_000.0,
///     p50_us: 99_100, p90_us: 107_700, p95_us: 110_900, p99_us: 118_300,
/// };
/// let tail = Tail::fit(&delay, now);
/// let after_us = |statistic| tail.predict(statistic, 22_400.0, &after) / 1e3;
/// assert!((19.0..20.0).contains(&after_us(Statistic::P50)));
/// assert!((30.0..37.0).contains(&after_us(Statistic::P95)));
/// assert!((95.0..108.0).contains(&after_us(Statistic::P99)));
/// ```
#[derive(Clone, Debug)]
pub struct Tail {
    measured: DelayStats,
    now: Crossings,
    sigma: f64,
}

/// A plan for one mean target.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate<P> {
    /// What the statistic is predicted to be, µs.
    pub statistic_us: f64,
    /// Cost an hour.
    pub cost: f64,
    /// The plan.
    pub plan: P,
}

// === impl Tail ===

impl Tail {
    /// Fits σ to what was measured while requests crossed as `now` says.
    pub fn fit(measured: &DelayStats, now: Crossings) -> Self {
        let mut best = Self {
            measured: measured.clone(),
            now,
            sigma: LEAST_SIGMA,
        };
        let mut least = best.misfit(f64::INFINITY);
        let mut tried = best.clone();
        while tried.sigma < MOST_SIGMA {
            tried.sigma *= SIGMA_STEP;
            let misfit = tried.misfit(least);
            if misfit < least {
                (least, best.sigma) = (misfit, tried.sigma);
            }
        }
        best
    }

    /// The shape for what is asked of it: a mean has no tail, and the search for one is spared.
    pub fn of(statistic: Statistic, measured: &DelayStats, now: Crossings) -> Self {
        if statistic.share().is_some() {
            return Self::fit(measured, now);
        }
        Self {
            measured: measured.clone(),
            now,
            sigma: LEAST_SIGMA,
        }
    }

    /// The statistic, µs, once the model's mean is `mean_us` and requests cross as `after` says. The mean is
    /// that of the model and what it overlooks ([`Crossings::overlooked`]).
    pub fn predict(&self, statistic: Statistic, mean_us: f64, after: &Crossings) -> f64 {
        let Some(share) = statistic.share() else {
            let overlooked_us = after.overlooked().as_f64() - self.now.overlooked().as_f64();
            return (mean_us + overlooked_us).max(0.0);
        };
        let change =
            self.quantile(share, mean_us, after) - self.quantile(share, self.measured.mean_us, &self.now);
        (statistic.of(&self.measured) + change).max(0.0)
    }

    /// The same, where a few requests fewer cross than the model says, and where a few more do. Where the quantile lies at the
    /// edge of a component it is another component's: a median is that of the local requests or that of those that cross,
    /// with nothing between.
    ///
    /// How many: shares of calls are measured from as many requests as the delay. Of n requests a share s is known to
    /// ± √(s (1 − s) / n), the binomial's standard error.
    pub fn range(&self, statistic: Statistic, mean_us: f64, after: &Crossings) -> (f64, f64) {
        let Some(share) = statistic.share() else {
            let predicted_us = self.predict(statistic, mean_us, after);
            return (predicted_us, predicted_us);
        };
        let fewer = share.min(1.0 - share);
        let error = ((1.0 - fewer) / (fewer * float(self.measured.count.max(1)))).sqrt();
        let part = (UNSURE_ERRORS * error).clamp(LEAST_UNSURE, MOST_UNSURE);
        let missed_us = self.missed_us(statistic, share);
        let at = |share: f64| (missed_us + self.quantile(share, mean_us, after)).max(0.0);
        (at(share - part * fewer), at(share + part * fewer))
    }

    /// How far the model is from what was measured now, µs.
    pub fn error_us(&self, statistic: Statistic) -> f64 {
        let share = statistic.share();
        share.map_or(0.0, |share| self.missed_us(statistic, share).abs())
    }

    /// What the model misses of the present quantile, µs.
    fn missed_us(&self, statistic: Statistic, share: f64) -> f64 {
        statistic.of(&self.measured) - self.quantile(share, self.measured.mean_us, &self.now)
    }

    /// Sum of squares; not summed up to its end where it is `enough` before.
    fn misfit(&self, enough: f64) -> f64 {
        let statistics = [Statistic::P50, Statistic::P90, Statistic::P95, Statistic::P99];
        let measured = statistics
            .into_iter()
            .filter_map(|statistic| Some((statistic.share()?, statistic.of(&self.measured))));
        let mut sum = 0.0;
        for (share, measured) in measured.filter(|(_, measured)| *measured > 0.0) {
            let model = self.quantile(share, self.measured.mean_us, &self.now);
            sum += (model / measured).ln().powi(2);
            if sum >= enough {
                break;
            }
        }
        sum
    }

    /// Q_p(m, K), µs, by halving an interval that holds it.
    fn quantile(&self, share: f64, mean_us: f64, crossings: &Crossings) -> f64 {
        let each_us = crossings.each().as_f64();
        let rest_us = (mean_us - each_us * crossings.mean()).max(LEAST_REST * mean_us);
        // Whether the share lies within; the sum is done once it does.
        let within = |t_us: f64| {
            let mut sum = 0.0;
            let mut terms = crossings.numbered().filter(|(_, probability)| *probability > 0.0);
            terms.any(|(count, probability)| {
                sum += probability * self.rest_within(t_us - count * each_us, rest_us);
                sum >= share
            })
        };
        let (mut low, mut high) = (0.0, mean_us.max(1.0));
        while !within(high) && high < f64::MAX / 4.0 {
            (low, high) = (high, 2.0 * high);
        }
        for _ in 0..HALVINGS {
            let middle = f64::midpoint(low, high);
            if within(middle) {
                high = middle;
            } else {
                low = middle;
            }
        }
        high
    }

    /// P(Y ≤ y) of a log-normal with mean `mean_us`.
    fn rest_within(&self, y_us: f64, mean_us: f64) -> f64 {
        if y_us <= 0.0 || mean_us <= 0.0 {
            return f64::from(u8::from(y_us > 0.0));
        }
        let z = ((y_us / mean_us).ln() + self.sigma * self.sigma / 2.0) / self.sigma;
        0.5 * libm::erfc(-z / SQRT_2)
    }
}

/// The cheapest plan whose statistic is predicted to meet `target_us`, of those made for [`MEAN_TARGETS`] mean targets; where
/// none meets it, the one with the lowest statistic. `plan` makes a plan for a mean target, µs.
///
/// The first is `first_mean_us`, and from there on what is left of 0 to `most_mean_us` is halved: the higher a mean target, the cheaper the plan, as long as the statistic
/// meets its own. (Plans are few and a quantile jumps, so it may not do so for every mean target between two that do.)
///
/// ```
/// use gma_core::measured::{Candidate, plan_for_statistic};
/// // A p95 that is 1.5 times the mean: 150 ms are met by the plan for a mean of 100 ms.
/// let plan = |mean_us: f64| Candidate { statistic_us: 1.5 * mean_us, cost: 1e6 / mean_us, plan: mean_us };
/// let best = plan_for_statistic(150_000.0, 120_000.0, 200_000.0, plan).unwrap();
/// assert!((96_000.0..=100_000.0).contains(&best.plan));
/// ```
pub fn plan_for_statistic<P>(
    target_us: f64,
    first_mean_us: f64,
    most_mean_us: f64,
    mut plan: impl FnMut(f64) -> Candidate<P>,
) -> Option<Candidate<P>> {
    let (mut low, mut high) = (0.0, most_mean_us.max(0.0));
    let mut mean_us = first_mean_us.clamp(low, high);
    let mut best: Option<Candidate<P>> = None;
    for _ in 0..MEAN_TARGETS {
        let candidate = plan(mean_us);
        let meets = candidate.statistic_us <= target_us;
        if meets {
            low = mean_us;
        } else {
            high = mean_us;
        }
        mean_us = f64::midpoint(low, high);
        let better = best
            .as_ref()
            .is_none_or(|best| match (meets, best.statistic_us <= target_us) {
                (true, true) => candidate.cost < best.cost,
                (false, false) => candidate.statistic_us < best.statistic_us,
                (meets, _) => meets,
            });
        if better {
            best = Some(candidate);
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::example;
    use crate::model::{DensePlacement, EdgeIx, ServiceIx};

    const ALL: [Statistic; 5] = [
        Statistic::Mean,
        Statistic::P50,
        Statistic::P90,
        Statistic::P95,
        Statistic::P99,
    ];

    fn crossings(bits: u32) -> Crossings {
        let problem = example::problem();
        let mut placement = DensePlacement::cloud_only(&problem);
        for service in 0..3 {
            placement.set(EdgeIx(0), ServiceIx(service), bits >> service & 1 == 1);
        }
        Crossings::resting(&problem, EdgeIx(0), &placement)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Whatever was measured, even nonsense: staying is predicted as measured, quantiles are in order, and no
        /// number is NaN or infinite.
        #[test]
        fn predictions_are_finite_ordered_and_anchored(
            mut quantiles in [0..60_000_000_u64, 0..60_000_000_u64, 0..60_000_000_u64, 0..60_000_000_u64],
            mean_us in 0.0..6e7_f64,
            after_us in 0.0..6e7_f64,
            (now, after) in (0..8_u32, 0..8_u32),
        ) {
            quantiles.sort_unstable();
            let [p50_us, p90_us, p95_us, p99_us] = quantiles;
            let measured = DelayStats { count: 1_000, mean_us, p50_us, p90_us, p95_us, p99_us };
            let tail = Tail::fit(&measured, crossings(now));
            for statistic in ALL {
                prop_assert_eq!(tail.predict(statistic, mean_us, &crossings(now)), statistic.of(&measured));
                let predicted = tail.predict(statistic, after_us, &crossings(after));
                prop_assert!(predicted.is_finite() && predicted >= 0.0, "{}", predicted);
            }
            let shares = [0.5, 0.9, 0.95, 0.99].map(|share| tail.quantile(share, after_us, &crossings(after)));
            prop_assert!(shares.is_sorted(), "{:?}", shares);
        }
    }

    /// Every request crosses, 80 ms, and takes 20 ms besides.
    fn from_afar(count: u64, p50_us: u64) -> Tail {
        let measured = DelayStats {
            count,
            mean_us: 100_000.0,
            p50_us,
            p90_us: 107_700,
            p95_us: 110_900,
            p99_us: 118_300,
        };
        Tail::fit(&measured, crossings(0))
    }

    /// 3 % cross, and the p95 is the local requests': 10,000 requests prove it and 1,000 do not.
    #[test]
    fn few_requests_leave_open_on_which_side_of_a_jump_a_quantile_is() {
        let range = |count, statistic| from_afar(count, 99_100).range(statistic, 22_400.0, &crossings(7));
        let high_us = |count| range(count, Statistic::P95).1;
        assert!(high_us(10_000) < 40_000.0, "{}", high_us(10_000));
        assert!(high_us(1_000) > 80_000.0, "{}", high_us(1_000));
        let (low_us, high_us) = range(1, Statistic::Mean);
        assert_eq!(low_us, high_us, "a mean does not jump");
    }

    /// Of requests that all cross half are as fast as if they did not: the model can't explain their median.
    #[test]
    fn what_the_mixture_does_not_explain_is_its_error() {
        let error_us = |p50_us| from_afar(1_000, p50_us).error_us(Statistic::P50);
        assert!(error_us(99_100) < 2_000.0, "{}", error_us(99_100));
        assert!(error_us(20_000) > 60_000.0, "{}", error_us(20_000));
    }

    #[test]
    fn a_target_that_no_mean_meets_gives_the_lowest() {
        let plan = |mean_us: f64| Candidate {
            statistic_us: mean_us.max(50.0),
            cost: -mean_us,
            plan: (),
        };
        let best = plan_for_statistic(40.0, 90.0, 100.0, plan).unwrap();
        assert!(best.statistic_us < 51.0, "{best:?}");
        let best = plan_for_statistic(60.0, 60.0, 100.0, plan).unwrap();
        assert_eq!(best.statistic_us, 60.0);
    }
}
