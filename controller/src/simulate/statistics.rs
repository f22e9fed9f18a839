//! Means over trials.

use serde::Serialize;

/// Two-sided 95 % quantiles of Student's t for 1 to 30 degrees of freedom; beyond, the normal distribution's.
const T_95: [f64; 30] = [
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
    2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
];
const NORMAL_95: f64 = 1.960;

/// A mean and how sure it is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Mean {
    pub(super) mean: f64,
    /// Half the width of the 95 % confidence interval; none for a single value.
    pub(super) ci95: Option<f64>,
}

// === impl Mean ===

impl Mean {
    /// None of no value.
    pub(super) fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let values: Vec<f64> = values.into_iter().collect();
        let count = values.len() as f64;
        if values.is_empty() {
            return None;
        }
        let mean = values.iter().sum::<f64>() / count;
        let freedom = values.len() - 1;
        let ci95 = freedom.checked_sub(1).map(|position| {
            let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
            let t = T_95.get(position).copied().unwrap_or(NORMAL_95);
            t * (squares / freedom as f64 / count).sqrt()
        });
        Some(Self { mean, ci95 })
    }
}

/// The middle value, and the largest.
pub(super) fn median_and_largest(values: impl IntoIterator<Item = f64>) -> Option<(f64, f64)> {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_unstable_by(f64::total_cmp);
    let middle = |position: usize| values.get(position).copied();
    let (low, high) = (
        middle(values.len().checked_sub(1)? / 2)?,
        middle(values.len() / 2)?,
    );
    Some(((low + high) / 2.0, *values.last()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mean_and_its_interval() {
        // Sample variance 1, standard error 1/√3, t of two degrees of freedom.
        let mean = Mean::of([1.0, 2.0, 3.0]).unwrap();
        assert!((mean.mean - 2.0).abs() < 1e-12 && (mean.ci95.unwrap() - 4.303 / 3_f64.sqrt()).abs() < 1e-12);
        assert_eq!(
            Mean::of([7.0]),
            Some(Mean {
                mean: 7.0,
                ci95: None
            })
        );
        assert_eq!(Mean::of([]), None);
    }

    #[test]
    fn a_median_lies_in_the_middle() {
        assert_eq!(median_and_largest([3.0, 1.0, 2.0]), Some((2.0, 3.0)));
        assert_eq!(median_and_largest([4.0, 1.0, 2.0, 3.0]), Some((2.5, 4.0)));
        assert_eq!(median_and_largest([]), None);
    }
}
