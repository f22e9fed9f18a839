//! Small dense systems whose matrix is a non-singular M-matrix (I less a matrix of calls).

/// Solves `matrix · x = right` in place (row-major) and returns the smallest pivot; with one that is not positive the
/// right side is left half-way.
///
/// Gauss without exchange of rows: for a non-singular M-matrix all pivots are positive and the elimination is stable,
/// and conversely a pivot <= 0 says that the matrix is none (Fiedler and Pták 1962).
#[expect(clippy::indexing_slicing, reason = "all indices are below the size")]
pub(super) fn solve(matrix: &mut [f64], right: &mut [f64]) -> f64 {
    let size = right.len();
    debug_assert_eq!(matrix.len(), size * size);
    let mut smallest = f64::INFINITY;
    for k in 0..size {
        let pivot = matrix[k * size + k];
        smallest = smallest.min(pivot);
        if pivot.is_nan() || pivot <= 0.0 {
            return smallest.min(0.0);
        }
        for i in k + 1..size {
            let factor = matrix[i * size + k] / pivot;
            if factor != 0.0 {
                for j in k..size {
                    matrix[i * size + j] -= factor * matrix[k * size + j];
                }
                right[i] -= factor * right[k];
            }
        }
    }
    for k in (0..size).rev() {
        let known: f64 = (k + 1..size).map(|j| matrix[k * size + j] * right[j]).sum();
        right[k] = (right[k] - known) / matrix[k * size + k];
    }
    smallest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn solves_a_cycle() {
        // x0 = 1 + 0.5·x1, x1 = 2 + 0.4·x0.
        let mut right = [1.0, 2.0];
        let smallest = solve(&mut [1.0, -0.5, -0.4, 1.0], &mut right);
        assert!((smallest - 0.8).abs() < 1e-15);
        assert!(
            (right[0] - 2.5).abs() < 1e-12 && (right[1] - 3.0).abs() < 1e-12,
            "{right:?}"
        );
    }

    #[test]
    fn says_that_there_is_no_solution() {
        assert!(solve(&mut [1.0, -2.0, -1.0, 1.0], &mut [1.0, 1.0]) <= 0.0);
    }
}
