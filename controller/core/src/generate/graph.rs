//! Call graphs that grow by preferential attachment.

use std::collections::BTreeSet;

use super::draw::{Draw, Purpose};
use super::{Parents, Recipe};
use crate::model::{Call, ServiceIx};
use crate::units::CallsPerRequest;

/// Exponent of the out-degree in a service's attraction (the simulators' `power`).
const POWER: f64 = 0.9;
/// Attraction of a service that calls nobody yet (the simulators' `zero_appeal`).
const ZERO_APPEAL: f64 = 3.125;
/// Shape of the distribution of the number of callers (the simulators').
const PARETO_SHAPE: f64 = 10.0;
/// Calls per request of each pair (the simulators').
const CALLS_PER_REQUEST: (f64, f64) = (0.1, 0.5);

/// Calls between services, callers before callees: service 0 is the entry, every other service has a caller with a
/// lower number.
///
/// A new service attaches below services that exist with probabilities in proportion to out-degree^0.9 + 3.125. It
/// has round(Pareto(10)) callers, one nearly always (1.5^−10 = 1.7 % have more), or the number that the recipe says.
pub(super) fn calls(recipe: &Recipe, seed: u64) -> Vec<Call> {
    let mut draw = Draw::new(seed, Purpose::Graph);
    let mut out_degrees = vec![0_u32; 1];
    let mut calls = Vec::new();
    for callee in 1..recipe.services {
        let wanted = match recipe.parents {
            Parents::Pareto => draw.pareto(PARETO_SHAPE).round(),
            Parents::Between(least, most) => draw.between((f64::from(least), f64::from(most) + 1.0)).floor(),
        };
        for caller in callers(&mut draw, &out_degrees, wanted) {
            if let Some(degree) = out_degrees.get_mut(caller) {
                *degree += 1;
            }
            calls.push(Call {
                caller: ServiceIx::at(caller),
                callee: ServiceIx::at(callee),
                per_request: CallsPerRequest::nearest(draw.between(CALLS_PER_REQUEST)),
            });
        }
        out_degrees.push(0);
    }
    calls
}

/// As many different callers as are wanted and there.
fn callers(draw: &mut Draw, out_degrees: &[u32], wanted: f64) -> BTreeSet<usize> {
    let mut weights: Vec<f64> = out_degrees
        .iter()
        .map(|degree| libm::pow(f64::from(*degree), POWER) + ZERO_APPEAL)
        .collect();
    let mut chosen = BTreeSet::new();
    let mut missing = wanted;
    while missing >= 1.0 {
        let Some(caller) = draw.weighted(&weights) else {
            break;
        };
        if let Some(weight) = weights.get_mut(caller) {
            *weight = 0.0;
        }
        chosen.insert(caller);
        missing -= 1.0;
    }
    chosen
}
