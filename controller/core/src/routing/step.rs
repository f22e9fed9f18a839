//! Steps in which weights are shifted.

/// Candidates for the first step, percent.
pub const FIRST_STEPS: [u32; 4] = [1, 5, 10, 25];
/// The step after the first.
pub const SECOND_STEP: u32 = 50;
/// Requests a second that the first step must bring to the new area.
const FIRST_STEP_RPS: f64 = 5.0;

/// The smallest first step that brings 5 requests a second to the new area, else the largest. `rate_rps` is the rate of
/// the calls that are shifted.
///
/// ```
/// use gma_core::routing::first_step;
/// assert_eq!([1000.0, 200.0, 50.0, 20.0, 3.0].map(first_step), [1, 5, 10, 25, 25]);
/// ```
pub fn first_step(rate_rps: f64) -> u32 {
    let [.., largest] = FIRST_STEPS;
    let enough = |weight: &u32| rate_rps * f64::from(*weight) / 100.0 >= FIRST_STEP_RPS;
    FIRST_STEPS.into_iter().find(enough).unwrap_or(largest)
}
