//! What a step of weights should do to the user delay, and whether it does worse.
//!
//! The test is one-sided at 1 %, and made once a step, when the step could be left by its requests: H0, the statistic is
//! at most what was predicted for the step's weights, and what a prediction may be wrong by. The mean by slots of 0.5 s
//! since the weights are followed: a ratio estimate's standard error (Cochran, Sampling Techniques, 6.4) and Student's
//! t. A quantile by the order statistic that lies below it with probability 99 % (David and Nagaraja, Order Statistics,
//! 7.1; normal approximation).

use std::collections::BTreeMap;
use std::time::Duration;

use statrs::distribution::{ContinuousCDF, StudentsT};

use super::config::Statistic;
use super::evidence::ratio;
use crate::ids::Timestamp;
use crate::snapshot::{DELAY_SLOT, DelaySlot, EdgeSnapshot};

/// Slots without which a step is not judged by its delay: 2 s.
pub(super) const LEAST_SLOTS: usize = 4;
/// What a prediction may be wrong by, as a share of it: the project's goal for predictions of the delay.
const ALLOWED: f64 = 0.1;
/// Level of the lower bounds.
const LEVEL: f64 = 0.99;
/// The same point of the normal distribution.
const Z: f64 = 2.326;

/// The statistic since a moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Since {
    pub(super) slots: usize,
    pub(super) value_us: f64,
    /// It is above this with 99 %.
    pub(super) low_us: f64,
}

impl Since {
    /// Of the whole slots since `from`; none where there is no request in them.
    pub(super) fn read(edge: &EdgeSnapshot, statistic: Statistic, from: Timestamp) -> Option<Self> {
        let slots = whole_slots(edge.slots_end.since(from)).min(edge.slots.len());
        let read = edge.slots.get(edge.slots.len() - slots..)?;
        let (value_us, low_us) = match statistic.share() {
            None => mean(read)?,
            Some(share) => quantile(read, share)?,
        };
        Some(Self {
            slots,
            value_us,
            low_us,
        })
    }

    /// Whether it is certainly above what was predicted.
    pub(super) fn is_worse_than(&self, predicted_us: f64) -> bool {
        self.slots >= LEAST_SLOTS && self.low_us > predicted_us * (1.0 + ALLOWED)
    }
}

fn whole_slots(time: Duration) -> usize {
    usize::try_from(time.as_micros() / DELAY_SLOT.as_micros()).unwrap_or(usize::MAX)
}

/// Mean and lower bound.
fn mean(slots: &[DelaySlot]) -> Option<(f64, f64)> {
    let count: u64 = slots.iter().map(|slot| slot.count).sum();
    let sum_us: u64 = slots.iter().map(|slot| slot.sum_us).sum();
    if count == 0 {
        return None;
    }
    let mean_us = ratio(sum_us, count);
    let filled = slots.iter().filter(|slot| slot.count > 0).count();
    let freedom = u64::try_from(filled).unwrap_or(u64::MAX).saturating_sub(1);
    let Ok(students) = StudentsT::new(0.0, 1.0, ratio(freedom, 1)) else {
        return Some((mean_us, 0.0));
    };
    let t = students.inverse_cdf(LEVEL);
    let k = ratio(u64::try_from(filled).unwrap_or(u64::MAX), 1);
    let squares: f64 = slots
        .iter()
        .map(|slot| (ratio(slot.sum_us, 1) - ratio(slot.count, 1) * mean_us).powi(2))
        .sum();
    let error = (k / (k - 1.0) * squares).sqrt() / ratio(count, 1);
    Some((mean_us, mean_us - t * error))
}

/// Quantile and lower bound.
fn quantile(slots: &[DelaySlot], share: f64) -> Option<(f64, f64)> {
    let mut buckets: BTreeMap<u32, u64> = BTreeMap::new();
    for (middle_us, count) in slots.iter().flat_map(|slot| slot.buckets.iter()) {
        *buckets.entry(*middle_us).or_default() += u64::from(*count);
    }
    let count: u64 = buckets.values().sum();
    let n = ratio(count, 1);
    let at = |rank: f64| {
        let mut below = 0.0;
        buckets
            .iter()
            .find(|(_, count)| {
                below += ratio(**count, 1);
                below >= rank
            })
            .map(|(middle_us, _)| f64::from(*middle_us))
    };
    let low = n * share - Z * (n * share * (1.0 - share)).sqrt();
    let low_us = if low < 1.0 { Some(0.0) } else { at(low.floor()) };
    Some((at((n * share).ceil().max(1.0))?, low_us?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(count: u64, mean_us: u64) -> DelaySlot {
        DelaySlot {
            count,
            sum_us: count * mean_us,
            buckets: vec![(u32::try_from(mean_us).unwrap(), u32::try_from(count).unwrap())].into(),
        }
    }

    #[test]
    fn the_lower_bound_of_a_mean_is_students() {
        // 90, 100, 110 ms, equally many: s / √3 = 5.774 ms, t(2) = 6.96456.
        let slots = [slot(10, 90_000), slot(10, 100_000), slot(10, 110_000)];
        let (value, low) = mean(&slots).unwrap();
        assert!((value - 100_000.0).abs() < 1e-6);
        assert!((low - (100_000.0 - 6.964_557 * 5_773.503)).abs() < 1.0, "{low}");
        assert_eq!(
            mean(&slots[..1]),
            Some((90_000.0, 0.0)),
            "one slot bounds nothing"
        );
        assert_eq!(mean(&[DelaySlot::default()]), None);
    }

    #[test]
    fn the_lower_bound_of_a_quantile_is_an_order_statistic() {
        // 1 … 1000 ms, one each: the 95th is 950; 950 − 2.326 · √47.5 = 933.97.
        let buckets: Vec<(u32, u32)> = (1..=1_000).map(|ms| (ms * 1_000, 1)).collect();
        let slot = DelaySlot {
            count: 1_000,
            sum_us: 0,
            buckets: buckets.into(),
        };
        assert_eq!(quantile(&[slot], 0.95), Some((950_000.0, 933_000.0)));
        assert_eq!(quantile(&[], 0.95), None);
    }

    #[test]
    fn worse_is_certain_and_beyond_what_a_prediction_may_err() {
        let read = |slots, low_us| Since {
            slots,
            value_us: low_us + 1.0,
            low_us,
        };
        assert!(read(LEAST_SLOTS, 111.0).is_worse_than(100.0));
        assert!(!read(LEAST_SLOTS, 109.0).is_worse_than(100.0));
        assert!(!read(LEAST_SLOTS - 1, 200.0).is_worse_than(100.0));
    }
}
