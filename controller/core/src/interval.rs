//! Confidence intervals of the mean and of quantiles of autocorrelated delays.
//!
//! Delays are correlated: while a database is busy, all requests are slow. Taking requests as independent makes
//! intervals too narrow, so their error is estimated from how batches of neighbouring slots differ (batch means;
//! Law, Simulation Modeling and Analysis, 9.5.3). Of k slots with nᵢ requests and a sum Sᵢ each:
//!
//! ```text
//!  batches    m = min(k, 16) of neighbouring slots, as equal as may be: Nⱼ requests, sum Sⱼ
//!  mean       x = ΣSⱼ / ΣNⱼ                               a ratio estimate: slots differ in requests
//!  between    B = m / (m − 1) · Σ(Sⱼ − x·Nⱼ)² / (ΣN)²     Cochran, Sampling Techniques, 6.4
//!  within     W = σ² / ΣN, σ² that of the histogram       what independent requests would have
//!  variance   V = max(B, W)
//!  freedom    ν = (m − 1) · (V / (V − W))²                Satterthwaite, Biometrics 1946: W is known well, only
//!                                                         the rest has m − 1 degrees of freedom
//!  lag 1      ρ = that of Sⱼ − x·Nⱼ, taken as 1/3 … 0.8   effective size m·(1 − ρ)/(1 + ρ)
//!  half       h = t(ν, 1 − α/2) · √(V · (1 + ρ)/(1 − ρ))
//! ```
//!
//! Two things are not in the textbook, and both were measured (`laws` in the tests). The lag-1 autocorrelation of 8 to
//! 16 batches has a standard error of 1/4 to 1/3 and is biased towards 0; taken as it is, an interval of α = 1e-4
//! missed 3e-4 to 1e-3 of the time when delays follow a level that is AR(1), φ = 0.9 from 0.1 s to 0.1 s. So it is
//! taken as at least 1/3. And with m − 1 degrees of freedom alone, t(7) = 7.9 makes short windows useless although
//! most of the error is that of independent requests, whose size the histogram tells.
//!
//! A slot that is far slower than the others makes the whole interval wide, and says nothing against "at least so slow". So
//! the lower end of a mean is also computed with such slots cut down to three standard deviations above the median (of
//! the slots' means, by their median absolute deviation, at least what independent requests have), and the higher one
//! counts: what is cut down has a mean that is not above the true one (winsorizing; Huber, Robust Statistics, 1.7).
//!
//! What is promised: α, for levels that forget within a tenth of the window, or whose swing is small against the
//! error of independent requests. A level that wanders more slowly than the window is long cannot be told from a
//! change of the mean in that window by anybody.
//!
//! A quantile q of share p: the same for the indicator "≤ q", whose variance within is p(1 − p)/N. The effective count
//! n* = p(1 − p) / h² · z² gives the ranks by the binomial distribution (Clopper and Pearson, Biometrika 1934; with an
//! effective count: Korn and Graubard, Survey Methodology 1998), and the delays at these shares of the requests are
//! the interval's ends (Woodruff, JASA 1952).

use statrs::distribution::{Beta, ContinuousCDF, Normal, StudentsT};

use crate::snapshot::DelaySlot;

/// Fewest slots: 4 s, below which batch means say next to nothing.
pub const LEAST_SLOTS: usize = 8;

/// Fewest requests: the sum of that many log-normal delays (σ 0.5) is near enough to a normal one.
pub const LEAST_REQUESTS: u64 = 50;

/// More than 16 batches gain little (t(15) is within 35 % of the normal), and longer batches are less correlated.
const MOST_BATCHES: usize = 16;

/// A slot is far slower than most from so many standard deviations above their median.
const FAR: f64 = 3.0;

/// Standard deviation of a normal distribution by its median absolute deviation.
const MAD_OF_NORMAL: f64 = 1.4826;

/// Bounds of the lag-1 autocorrelation that is believed.
const LAG_1: (f64, f64) = (1.0 / 3.0, 0.8);

/// Longest delay that is in a histogram, microseconds: the end of an interval that the requests don't bound.
pub const LONGEST_US: f64 = 60e6;

/// A statistic and the interval that holds the true one with probability 1 − α.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    /// The statistic, microseconds.
    pub value_us: f64,
    /// Lower end, microseconds; at least 0.
    pub low_us: f64,
    /// Upper end, microseconds; [`LONGEST_US`] where too few requests lie above a quantile.
    pub high_us: f64,
    /// Independent requests that would tell as much.
    pub effective: f64,
}

/// Slots in a row, grown towards the past.
#[derive(Clone, Debug, Default)]
pub struct Window<'a> {
    /// Newest first.
    slots: Vec<&'a DelaySlot>,
    requests: u64,
    sum_us: u64,
    /// Of the durations by the middles of their buckets, microseconds: sum, and sum of the squares. Whole numbers: the order
    /// in which slots come does not matter.
    moments: (u128, u128),
    /// Requests by the middle of their bucket, microseconds, ascending: of the first `counted` slots, because only a quantile
    /// needs it.
    histogram: Vec<(u32, u64)>,
    counted: usize,
}

/// Where a quantile lies, and how exactly that is known.
struct Ranks {
    /// Middle of its bucket, microseconds.
    value: u32,
    estimate: Estimate,
    effective: f64,
}

/// What the interval of a quantile could be if the error of its share were known exactly: that of [`Window::quantile`] reaches at
/// least as far on both sides. Its ends are not computed, only compared: one value of the Beta distribution for each.
#[derive(Debug)]
pub struct AtBest<'w, 'a> {
    window: &'w Window<'a>,
    value: u32,
    hits: f64,
    others: f64,
    alpha: f64,
}

/// A share or a mean, with its error.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Estimate {
    variance: f64,
    freedom: f64,
}

// === impl Window ===

impl<'a> Window<'a> {
    /// All of these slots, oldest first.
    pub fn of(slots: &'a [DelaySlot]) -> Self {
        let mut window = Self::default();
        slots.iter().rev().for_each(|slot| window.grow(slot));
        window
    }

    /// Adds the slot before the oldest.
    pub fn grow(&mut self, older: &'a DelaySlot) {
        self.slots.push(older);
        self.requests = self.requests.saturating_add(older.count);
        self.sum_us = self.sum_us.saturating_add(older.sum_us);
        for (middle_us, count) in older.buckets.iter() {
            let (us, count) = (u128::from(*middle_us), u128::from(*count));
            self.moments.0 += us * count;
            self.moments.1 += us * us * count;
        }
    }

    /// Brings the histogram up to the slots.
    fn count(&mut self) {
        let mut merged = Vec::new();
        for slot in self.slots.iter().skip(self.counted) {
            merged.reserve(self.histogram.len() + slot.buckets.len());
            let mut known = self.histogram.iter().copied().peekable();
            for &(middle_us, count) in slot.buckets.iter() {
                while let Some(before) = known.next_if(|(us, _)| *us < middle_us) {
                    merged.push(before);
                }
                let same = known.next_if(|(us, _)| *us == middle_us).map_or(0, |(_, n)| n);
                merged.push((middle_us, same + u64::from(count)));
            }
            merged.extend(known);
            std::mem::swap(&mut self.histogram, &mut merged);
            merged.clear();
        }
        self.counted = self.slots.len();
    }

    /// Slots.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether there is no slot.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Requests in the slots.
    pub fn requests(&self) -> u64 {
        self.requests
    }

    /// The mean; none with fewer than [`LEAST_SLOTS`] or [`LEAST_REQUESTS`]. `alpha` lies in 0 … 1.
    pub fn mean(&self, alpha: f64) -> Option<Interval> {
        self.mean_with(|estimate| estimate.t(alpha))
    }

    /// What the mean's interval would be if the error were known exactly: it lies in that of [`Window::mean`], and costs a
    /// tenth.
    pub fn mean_at_best(&self, alpha: f64) -> Option<Interval> {
        self.mean_with(|_| normal(alpha))
    }

    fn mean_with(&self, errors: impl Fn(&Estimate) -> f64) -> Option<Interval> {
        if !self.is_enough() {
            return None;
        }
        let requests = float(self.requests);
        let value_us = float(self.sum_us) / requests;
        let (sum, squares) = self.moments;
        let spread = (wide(squares) / requests - (wide(sum) / requests).powi(2)).max(0.0);
        let slots = self
            .slots
            .iter()
            .map(|slot| (float(slot.count), float(slot.sum_us)));
        let slots: Vec<(f64, f64)> = slots.collect();
        let of = |slots: &[(f64, f64)]| {
            let value_us = slots.iter().map(|(_, sum_us)| sum_us).sum::<f64>() / requests;
            let estimate = Estimate::of(slots.iter().copied(), value_us, spread / requests);
            (value_us, errors(&estimate) * estimate.variance.sqrt(), estimate)
        };
        let (_, half, estimate) = of(&slots);
        let mut low_us = value_us - half;
        if let Some(capped) = capped(&slots, spread) {
            let (value_us, half, _) = of(&capped);
            low_us = low_us.max(value_us - half);
        }
        let interval = Interval {
            value_us,
            low_us: low_us.max(0.0),
            high_us: value_us + half,
            effective: effective(spread, estimate.variance, requests),
        };
        (value_us.is_finite() && half.is_finite()).then_some(interval)
    }

    /// The delay that a `share` (in 0 … 1) of the requests does not exceed; none with fewer than [`LEAST_SLOTS`] or
    /// [`LEAST_REQUESTS`]. As exact as the buckets: 0.5 %. `alpha` lies in 0 … 1.
    pub fn quantile(&mut self, share: f64, alpha: f64) -> Option<Interval> {
        if !self.is_enough() {
            return None;
        }
        let Ranks {
            value,
            estimate,
            effective,
        } = self.ranks(share)?;
        let requests = float(self.requests);
        let ratio = normal(alpha) / estimate.t(alpha);
        let size = effective * ratio * ratio;
        let (hits, others) = (share * size, (1.0 - share) * size);
        let low = Beta::new(hits, others + 1.0).ok()?.inverse_cdf(alpha / 2.0);
        let high = Beta::new(hits + 1.0, others).ok()?.inverse_cdf(1.0 - alpha / 2.0);
        // No request lies above the rank: then nothing bounds the quantile from above.
        let is_open = high * requests > requests - 1.0;
        Some(Interval {
            value_us: f64::from(value),
            low_us: f64::from(self.at(low)?),
            high_us: if is_open {
                LONGEST_US
            } else {
                f64::from(self.at(high)?)
            },
            effective,
        })
    }

    /// What the ends of [`Window::quantile`]'s interval can't exceed; at a tenth of its cost.
    pub fn quantile_at_best(&mut self, share: f64, alpha: f64) -> Option<AtBest<'_, 'a>> {
        if !self.is_enough() {
            return None;
        }
        let Ranks { value, effective, .. } = self.ranks(share)?;
        Some(AtBest {
            window: self,
            value,
            hits: share * effective,
            others: (1.0 - share) * effective,
            alpha,
        })
    }

    /// The histogram is up to the slots after this.
    fn ranks(&mut self, share: f64) -> Option<Ranks> {
        self.count();
        let requests = float(self.requests);
        let value = self.at(share)?;
        let below = self.slots.iter().map(|slot| {
            let upto = slot.buckets.partition_point(|(middle_us, _)| *middle_us <= value);
            let counts = slot.buckets.iter().take(upto);
            (float(slot.count), counts.map(|(_, n)| f64::from(*n)).sum::<f64>())
        });
        let below: Vec<(f64, f64)> = below.collect();
        // Of the requests, this share is at or below the bucket: a little more than asked for.
        let found = below.iter().map(|(_, n)| n).sum::<f64>() / requests;
        let spread = share * (1.0 - share);
        let estimate = Estimate::of(below.into_iter(), found, spread / requests);
        let effective = effective(spread, estimate.variance, requests);
        Some(Ranks {
            value,
            estimate,
            effective,
        })
    }

    /// Share of the requests whose bucket's middle is at most `us`.
    fn share_until(&self, us: f64) -> f64 {
        let below = self
            .histogram
            .iter()
            .take_while(|(middle_us, _)| f64::from(*middle_us) <= us);
        below.map(|(_, count)| float(*count)).sum::<f64>() / float(self.requests)
    }

    fn is_enough(&self) -> bool {
        self.slots.len() >= LEAST_SLOTS && self.requests >= LEAST_REQUESTS
    }

    /// Middle of the first bucket with at least this share of the requests at or below it.
    fn at(&self, share: f64) -> Option<u32> {
        let wanted = share * float(self.requests);
        let mut below = 0.0;
        let reached = self.histogram.iter().find(|(_, count)| {
            below += float(*count);
            // A relative 1e-12 of rounding must not move the rank.
            below >= wanted * (1.0 - 1e-12)
        });
        reached.or(self.histogram.last()).map(|(middle_us, _)| *middle_us)
    }
}

// === impl AtBest ===

/// Quantiles of the Beta distribution are found to fewer digits than this.
const SLACK: f64 = 1.01;

impl AtBest<'_, '_> {
    /// The quantile, microseconds.
    pub fn value_us(&self) -> f64 {
        f64::from(self.value)
    }

    /// Whether the lower end may lie above `us`, microseconds.
    pub fn may_exceed(&self, us: f64) -> bool {
        let until = self.window.share_until(us);
        let least = Beta::new(self.hits, self.others + 1.0);
        self.value_us() > us && least.is_ok_and(|least| least.cdf(until) <= SLACK * self.alpha / 2.0)
    }

    /// Whether the upper end may lie below `us`, microseconds.
    pub fn may_stay_below(&self, us: f64) -> bool {
        let until = self.window.share_until(us);
        let most = Beta::new(self.hits + 1.0, self.others);
        self.value_us() < us && most.is_ok_and(|most| most.sf(until) <= SLACK * self.alpha / 2.0)
    }
}

// === impl Estimate ===

impl Estimate {
    /// Of Σhits / Σrequests = `value`, from the slots' requests and hits; `within`: its variance if requests were
    /// independent. There is at least one slot, and one request.
    fn of(slots: impl ExactSizeIterator<Item = (f64, f64)>, value: f64, within: f64) -> Self {
        let residuals = batched(slots, value);
        let batches = float(residuals.len() as u64);
        let squares: f64 = residuals.iter().map(|(_, left)| left * left).sum();
        let requests: f64 = residuals.iter().map(|(requests, _)| requests).sum();
        let between = batches / (batches - 1.0) * squares / (requests * requests);
        let neighbours = residuals.iter().zip(residuals.iter().skip(1));
        let products: f64 = neighbours.map(|((_, left), (_, right))| left * right).sum();
        let lag_1 = if squares > 0.0 { products / squares } else { 0.0 };
        let lag_1 = lag_1.clamp(LAG_1.0, LAG_1.1);
        let variance = between.max(within);
        let excess = (between - within).max(0.0);
        let freedom = if excess > 0.0 {
            (batches - 1.0) * (variance / excess).powi(2)
        } else {
            f64::INFINITY
        };
        Self {
            variance: variance * (1.0 + lag_1) / (1.0 - lag_1),
            freedom,
        }
    }

    fn t(self, alpha: f64) -> f64 {
        /// From here on t and the normal distribution differ by less than 1e-3, relatively.
        const AS_NORMAL: f64 = 10_000.0;
        if self.freedom >= AS_NORMAL {
            return normal(alpha);
        }
        StudentsT::new(0.0, 1.0, self.freedom).map_or(f64::INFINITY, |t| t.inverse_cdf(1.0 - alpha / 2.0))
    }
}

/// Requests, and hits less those expected, of [`MOST_BATCHES`] batches or of each slot.
fn batched(slots: impl ExactSizeIterator<Item = (f64, f64)>, value: f64) -> Vec<(f64, f64)> {
    let count = slots.len();
    let batches = count.min(MOST_BATCHES);
    let mut sums = vec![(0.0, 0.0); batches];
    for (at, (requests, hits)) in slots.enumerate() {
        // Slot i of k belongs to the batch j with j·k/m <= i < (j + 1)·k/m.
        let batch = ((at + 1) * batches).div_ceil(count) - 1;
        if let Some(sum) = sums.get_mut(batch) {
            sum.0 += requests;
            sum.1 += hits - value * requests;
        }
    }
    sums
}

/// The slots' requests and sums, with the sums of slots that are far slower than most cut down to what is merely slow;
/// none where there is no such slot. `spread` is the variance of a request.
fn capped(slots: &[(f64, f64)], spread: f64) -> Option<Vec<(f64, f64)>> {
    let middle = |mut values: Vec<f64>| {
        values.sort_unstable_by(f64::total_cmp);
        values.get(values.len() / 2).copied()
    };
    let means = || slots.iter().filter(|(n, _)| *n > 0.0).map(|(n, sum)| sum / n);
    let median = middle(means().collect())?;
    let usual = middle(means().map(|mean| (mean - median).abs()).collect())? * MAD_OF_NORMAL;
    let most = |n: f64| median + FAR * usual.max((spread / n).sqrt());
    let is_far = |(n, sum): &(f64, f64)| *n > 0.0 && sum / n > most(*n);
    if !slots.iter().any(is_far) {
        return None;
    }
    let cap = |slot: &(f64, f64)| {
        if is_far(slot) {
            (slot.0, slot.0 * most(slot.0))
        } else {
            *slot
        }
    };
    Some(slots.iter().map(cap).collect())
}

fn normal(alpha: f64) -> f64 {
    Normal::standard().inverse_cdf(1.0 - alpha / 2.0)
}

/// Independent requests with this spread that would have this variance; at most as many as there are.
fn effective(spread: f64, variance: f64, requests: f64) -> f64 {
    if variance > 0.0 {
        (spread / variance).min(requests)
    } else {
        requests
    }
}

#[expect(clippy::cast_precision_loss, reason = "a relative 1e-16 of a count or sum")]
fn float(count: u64) -> f64 {
    count as f64
}

#[expect(clippy::cast_precision_loss, reason = "a relative 1e-16 of a sum")]
fn wide(sum: u128) -> f64 {
    sum as f64
}
