//! The strategies of the µPlacer reference (Detti et al.), by name.
//!
//! They change one edge; others are left as they are. They know neither capacity nor a measured delay: the solver does.
//! A strategy's idea is followed even where a better one is easy to name, because its name stands for it; mistakes of
//! its program are not. Each that changes a result can be repeated ([`Defects`]), so that a difference from a recorded
//! run can be put down to it.
//!
//! | defect | the reference | here |
//! |---|---|---|
//! | S1 | always uses a CPU threshold of 0.6 | the problem's thresholds |
//! | S2 | fails on cycles and self-calls | works; removal never breaks up a cycle, Kahn ranks it last |
//! | [S3](Defect::S3) | orders candidates by their members, or past 256 as the CPU likes | by how often they were drawn, then by members |
//! | [S4](Defect::S4) | unoffload ignores the expanding depth | obeys it |
//! | [S5](Defect::S5) | candidates keep services that the edge does not reach, or lose those that it does | exactly those that it reaches |
//! | [S6](Defect::S6) | removes leaves at a loss | only where it costs nothing |
//! | [S7](Defect::S7) | adds up to the stop condition, removes down to the target | the stop condition for both |
//! | S8, S9, S11, S19 | NaN, infinite or no cost and delay, replicas by rounding | see [`crate::model`] |
//! | S10, S12, S20 | memory, speed, unused arguments | not here |
//! | S13 | a saving is divided by its gain: less gain is better | the same: SBMP's criterion |
//! | S14 | goes on through placements that are slower | the same: else nothing is ever added where the first service must be slower |
//! | [S15](Defect::S15) | IA can't unoffload and fails on a target out of reach | removes the service with least calls to the rest; ends |
//! | S16, S17 | endless loops, failures on empty sets or missing parameters | ends; the goal is one value |
//! | S18 | counts no least replica at an edge | the problem's minimum |
//! | S21 | as many paths as there are | [`Params::max_paths`], the shortest |
//! | S22 | targets of seconds on saturated links | the same |
//!
//! Beyond these: COPAMP can unoffload, all strategies keep locks and pins, IA and TA end where nothing is left that is
//! called.

mod candidates;
mod defects;
mod one_by_one;
mod params;
mod paths;
mod probe;
mod random;
mod sbmp;
mod search;
mod set;
#[cfg(test)]
mod tests;

pub use defects::{Defect, Defects};
pub use params::{Goal, Outcome, Params, Strategy, Traces, UnknownStrategy};

use search::Search;

use crate::model::{DensePlacement, EdgeIx, Problem};

/// Runs a strategy on one edge, from a placement. Pins come first: what is pinned elsewhere leaves the edge, and what is
/// pinned there is added.
///
/// Deterministic: equal arguments give equal results. Time: [`Params::evaluations`] placements at most, beside the work
/// on candidates; a round of SBMP looks at each trace once.
///
/// ```
/// use gma_core::model::{DensePlacement, EdgeIx};
/// use gma_core::strategy::{Goal, Params, Strategy, run};
/// # let problem = gma_core::example::problem();
/// let start = DensePlacement::cloud_only(&problem);
/// let params = Params::new(Goal::Decrease(50_000.0));
/// for strategy in Strategy::ALL {
///     let outcome = run(&problem, EdgeIx(0), &start, strategy, &params);
///     assert!(outcome.met, "{strategy}");
///     assert!(outcome.delay.as_f64() <= outcome.delay_before.as_f64() - 50_000.0);
/// }
/// ```
pub fn run(
    problem: &Problem,
    edge: EdgeIx,
    start: &DensePlacement,
    strategy: Strategy,
    params: &Params,
) -> Outcome {
    let mut search = Search::new(problem, edge, start, params);
    match strategy {
        Strategy::Sbmp | Strategy::Copamp => sbmp::run(&mut search, strategy),
        Strategy::Mfu | Strategy::Ia | Strategy::Kahn | Strategy::Ta => {
            one_by_one::run(&mut search, strategy)
        }
    }
    search.outcome()
}
