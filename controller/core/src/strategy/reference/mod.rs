//! The strategies of the µPlacer reference, by name. What each does and which defects are not followed: [`super`].

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
            one_by_one::run(&mut search, strategy);
        }
    }
    search.outcome()
}
