//! How large a problem may be. A file that is larger is refused before it costs time.

use gma_core::model::MAX_EDGES;

use super::error::{Fault, Path};
use super::file::PlacementProblem;

/// Services of a file at most. Larger than any application known; an evaluation then takes milliseconds.
pub const MAX_SERVICES: usize = 10_000;
/// Calls of a file at most, the users' included: ten a service at the most services.
pub const MAX_CALLS: usize = 100_000;
/// services · areas² at most: an evaluation holds so many numbers (32 MB), the calls to each instance from each edge.
pub const MAX_CELLS: usize = 4_000_000;

/// Faults of a document that is too large to be answered soon, or has nothing to place.
pub(super) fn check(file: &PlacementProblem) -> Vec<Fault> {
    let (services, edges) = (file.services.len(), file.edges.len());
    let calls = file.calls.len() + file.edges.iter().map(|edge| edge.user_calls.len()).sum::<usize>();
    let mut faults = Vec::new();
    let mut check = |path: &str, wrong: bool, text: String| {
        if wrong {
            faults.push(Fault::new(Path::root(path), text));
        }
    };
    check(
        "services",
        services == 0,
        "empty: add at least one service".into(),
    );
    check(
        "edges",
        edges == 0,
        "empty: add at least one edge, where users enter".into(),
    );
    check(
        "services",
        services > MAX_SERVICES,
        format!("{services} services are more than {MAX_SERVICES}: leave out those that are never called"),
    );
    check(
        "calls",
        calls > MAX_CALLS,
        format!(
            "{calls} calls (with the users') are more than {MAX_CALLS}: leave out those that hardly happen"
        ),
    );
    check(
        "edges",
        edges > MAX_EDGES,
        format!("{edges} edges are more than {MAX_EDGES}: plan fewer at a time"),
    );
    let cells = (edges + 1).saturating_mul(edges + 1).saturating_mul(services);
    check(
        "edges",
        cells > MAX_CELLS,
        format!(
            "{services} services in {} areas are too many to evaluate (services · areas² above {MAX_CELLS}): plan fewer edges at a time",
            edges + 1
        ),
    );
    faults
}
