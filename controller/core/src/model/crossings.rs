//! How often a user request crosses the WAN: what tails are made of.

use super::calls::Cell;
use super::delay::serial;
use super::evaluate::{EdgeEvaluation, Evaluation, LONGEST_US, byte_us, evaluate};
use super::ix::{AreaIx, EdgeIx, ServiceIx};
use super::placement::DensePlacement;
use super::problem::Problem;
use super::shares::Shares;
use crate::units::{Micros, Ratio};

/// Crossings of a request that are told apart; more count as this many. Beyond that a delay is a matter of means.
pub const MOST_CROSSINGS: usize = 15;

/// Rounds in which the distributions within a cycle settle: a further round is a further turn of a request, and more
/// than this many turns are rare in a graph whose calls end.
const ROUNDS: usize = 32;

/// Probability of 0, 1, … [`MOST_CROSSINGS`] or more.
type Counts = [f64; MOST_CROSSINGS + 1];

const NONE: Counts = {
    let mut counts = [0.0; MOST_CROSSINGS + 1];
    counts[0] = 1.0;
    counts
};

/// Crossings of the WAN that a user request of one edge waits for.
///
/// The mean delay needs mean calls only. A tail also asks which requests are slow, and between a cloud and an edge these
/// are the ones that cross. From i's calls f_ij and the shares w, with calls independent of each other (⌊f⌋ for sure and
/// one more with probability f − ⌊f⌋):
///
/// | what | formula |
/// |---|---|
/// | crossings below an instance | K_ia = s_i Σ_j A_j + (1 − s_i) max_j A_j as a mixture, A_j over the calls to j |
/// | of one call to j | K_jb, and one more for b ≠ a, with probability w_ajb |
/// | share that crosses | 1 − P(K = 0) |
///
/// With one call after the other and w = 1 − p for every call of a request that makes n, the share is 1 − (1 − p)ⁿ: the
/// leak of a standby of p. Distributions are convolved as probability generating functions (Feller, An Introduction to
/// Probability Theory, vol. 1, ch. XI).
///
/// A service at the edge that makes n calls to others there: with a standby of 1 % the share of requests that cross is
/// 3.0 % with 3 calls in all and 9.6 % with 10; in a cloud of three zones istiod makes 3/102 of that 1 %.
///
/// ```
/// use gma_core::model::{Crossings, DensePlacement, EdgeIx, Problem};
/// use gma_core::units::CallsPerRequest;
/// # let example = gma_core::example::problem();
/// let leak = |calls: f64, zones: u32| {
///     let mut spec = example.spec().clone();
///     // `front` makes all but one of the calls, to `cart`.
///     spec.calls.truncate(1);
///     spec.calls[0].per_request = CallsPerRequest::nearest(calls - 1.0);
///     spec.cloud.localities = zones;
///     let problem = Problem::try_new(spec).unwrap();
///     let all = DensePlacement::from_names(&problem, &[("edge".into(), ["front".into(), "cart".into()].into())].into());
///     let share = Crossings::resting(&problem, EdgeIx(0), &all).share().as_f64();
///     (share * 1e3).round() / 1e3
/// };
/// assert_eq!([3.0, 5.0, 10.0, 20.0].map(|calls| leak(calls, 1)), [0.03, 0.049, 0.096, 0.182]);
/// assert_eq!([1.0, 10.0].map(|calls| leak(calls, 3)), [0.029, 0.258]);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Crossings {
    counts: Counts,
    each: Micros,
    overlooked: Micros,
}

// === impl Crossings ===

impl Crossings {
    /// Of the users of an edge, with the routing that `shares` say.
    pub fn new(problem: &Problem, edge: EdgeIx, placement: &DensePlacement, shares: &Shares) -> Self {
        let result = evaluate(problem, placement, shares);
        let calls: Vec<(ServiceIx, f64)> = problem
            .edge(edge)
            .map(|value| value.user_calls.iter())
            .into_iter()
            .flatten()
            .map(|(service, f)| (*service, f.as_f64()))
            .collect();
        let below = Below::new(problem, edge, shares);
        let of_users = calls
            .iter()
            .map(|call| below.calls(AreaIx::Edge(edge), *call))
            .fold(NONE, |sum, counts| whole(convolve(&sum, &counts)));
        let each = result
            .edges
            .get(edge.position())
            .map_or(0.0, |value| each_us(problem, edge, shares, value, &calls));
        let mut this = Self {
            counts: of_users,
            each: Micros::nearest(each),
            overlooked: Micros::ZERO,
        };
        let network_us = network_us(problem, edge, placement, shares, &result);
        let overlooked = network_us.map_or(0.0, |network_us| this.mean() * each - network_us);
        this.overlooked = Micros::nearest(overlooked.max(0.0));
        this
    }

    /// With the routing at rest.
    pub fn resting(problem: &Problem, edge: EdgeIx, placement: &DensePlacement) -> Self {
        let shares = Shares::resting(problem, placement);
        Self::new(problem, edge, placement, &shares)
    }

    /// Share of the user requests that cross at least once.
    pub fn share(&self) -> Ratio {
        let [none, ..] = self.counts;
        Ratio::nearest(1.0 - none)
    }

    /// Mean number.
    pub fn mean(&self) -> f64 {
        self.numbered()
            .map(|(count, probability)| count * probability)
            .sum()
    }

    /// What one takes: the round trip and the mean transfer of the answers that cross.
    pub const fn each(&self) -> Micros {
        self.each
    }

    /// What the mean of [`evaluate`] overlooks: of calls at once it takes the largest mean, and a request waits for the
    /// slowest call. Where each of three crosses once in ten requests, that is 0.27 crossings a request, not 0.1: E K · d
    /// less what the network takes of the mean. 0 where all calls come one after the other.
    pub const fn overlooked(&self) -> Micros {
        self.overlooked
    }

    /// Number and probability, from 0 on.
    pub(crate) fn numbered(&self) -> impl Iterator<Item = (f64, f64)> + '_ {
        (0_u32..).map(f64::from).zip(self.counts)
    }
}

/// K of every instance in the cloud and at one edge: the callers of an edge use no other area.
struct Below<'a> {
    problem: &'a Problem,
    shares: &'a Shares,
    areas: [AreaIx; 2],
    counts: [Vec<Counts>; 2],
}

// === impl Below ===

impl<'a> Below<'a> {
    fn new(problem: &'a Problem, edge: EdgeIx, shares: &'a Shares) -> Self {
        let mut this = Self {
            problem,
            shares,
            areas: [AreaIx::Cloud, AreaIx::Edge(edge)],
            counts: [(); 2].map(|()| vec![NONE; problem.services_len()]),
        };
        for block in problem.graph().callees_first() {
            for _ in 0..if block.cyclic { ROUNDS } else { 1 } {
                for service in &block.members {
                    let found = this.areas.map(|area| this.of((*service, area)));
                    for (counts, found) in this.counts.iter_mut().zip(found) {
                        if let Some(counts) = counts.get_mut(service.position()) {
                            *counts = found;
                        }
                    }
                }
            }
        }
        this
    }

    fn of(&self, (service, area): Cell) -> Counts {
        let calls = self.problem.calls_of(service);
        let overlap = self
            .problem
            .service(service)
            .map_or(1.0, |value| value.overlap.as_f64());
        let serial = serial(overlap, calls.len());
        let each = || calls.iter().map(|call| self.calls(area, *call));
        let sum = each().fold(NONE, |sum, counts| convolve(&sum, &counts));
        if serial >= 1.0 {
            return sum;
        }
        let slowest = each().fold(NONE, |most, counts| larger(&most, &counts));
        mix(&sum, &slowest, serial)
    }

    /// All calls of a request to one service: ⌊f⌋, and one more with probability f − ⌊f⌋.
    fn calls(&self, from: AreaIx, (callee, f): (ServiceIx, f64)) -> Counts {
        let mut one = [0.0; MOST_CROSSINGS + 1];
        for (to, counts) in self.areas.iter().zip(&self.counts) {
            let share = self.shares.get(from, callee, *to);
            let below = counts.get(callee.position()).copied().unwrap_or(NONE);
            let arrived = if *to == from {
                below
            } else {
                convolve(&ONCE, &below)
            };
            let parts = one.iter_mut().zip(arrived);
            parts.for_each(|(sum, part)| *sum += share * part);
        }
        if one == NONE {
            return NONE;
        }
        let sure = power(whole(one), f.floor());
        whole(convolve(&sure, &mix(&one, &NONE, f.fract())))
    }
}

const ONCE: Counts = {
    let mut counts = [0.0; MOST_CROSSINGS + 1];
    counts[1] = 1.0;
    counts
};

/// The round trip, and the mean transfer of what crosses.
/// What crossings take of the mean delay of [`evaluate`]: the rest is the delay with the cloud next door.
fn network_us(
    problem: &Problem,
    edge: EdgeIx,
    placement: &DensePlacement,
    shares: &Shares,
    result: &Evaluation,
) -> Option<f64> {
    if problem.is_serial() {
        return None;
    }
    let mut spec = problem.spec().clone();
    let link = spec.edges.get_mut(edge.position())?;
    (link.rtt, link.bandwidth) = (Micros::ZERO, None);
    let next_door = evaluate(&Problem::try_new(spec).ok()?, placement, shares);
    let delay_us = |of: &Evaluation| of.edges.get(edge.position()).map(|edge| edge.delay.as_f64());
    Some(delay_us(result)? - delay_us(&next_door)?)
}

fn each_us(
    problem: &Problem,
    edge: EdgeIx,
    shares: &Shares,
    value: &EdgeEvaluation,
    users: &[(ServiceIx, f64)],
) -> f64 {
    let here = AreaIx::Edge(edge);
    let Some(link) = problem.edge(edge) else {
        return 0.0;
    };
    let (mut crossings, mut bytes) = (0.0, 0.0);
    let mut add = |times: f64, (callee, f): (ServiceIx, f64)| {
        let away = times * f * (1.0 - shares.get(here, callee, here));
        crossings += away;
        bytes += away
            * problem
                .service(callee)
                .map_or(0.0, |callee| callee.response.as_f64());
    };
    users.iter().for_each(|call| add(1.0, *call));
    for (service, _) in problem.services() {
        let times = value.calls.get(service, here);
        if times > 0.0 {
            problem
                .calls_of(service)
                .iter()
                .for_each(|call| add(times, *call));
        }
    }
    let mean = if crossings > 0.0 { bytes / crossings } else { 0.0 };
    link.rtt.as_f64() + (byte_us(value.traffic.as_f64(), link.bandwidth) * mean).min(LONGEST_US)
}

/// Of a sum.
#[expect(
    clippy::indexing_slicing,
    reason = "both indices are below the length, and so is their sum's minimum"
)]
fn convolve(one: &Counts, two: &Counts) -> Counts {
    let mut sum = [0.0; MOST_CROSSINGS + 1];
    for (i, p) in one.iter().enumerate().filter(|(_, p)| **p > 0.0) {
        for (j, q) in two.iter().enumerate() {
            sum[(i + j).min(MOST_CROSSINGS)] += p * q;
        }
    }
    sum
}

/// Of the larger of two.
fn larger(one: &Counts, two: &Counts) -> Counts {
    let (mut below, mut sums) = (0.0, (0.0, 0.0));
    let mut most = [0.0; MOST_CROSSINGS + 1];
    for ((most, p), q) in most.iter_mut().zip(one).zip(two) {
        sums = (sums.0 + p, sums.1 + q);
        *most = (sums.0 * sums.1 - below).max(0.0);
        below = sums.0 * sums.1;
    }
    most
}

/// Of the first with probability `share`, else of the second.
fn mix(one: &Counts, two: &Counts, share: f64) -> Counts {
    let mut mixed = *two;
    mixed
        .iter_mut()
        .zip(one)
        .for_each(|(mixed, one)| *mixed += share * (one - *mixed));
    mixed
}

/// Sums to 1 again: a billion factors add up their rounding.
fn whole(mut counts: Counts) -> Counts {
    let sum: f64 = counts.iter().sum();
    counts.iter_mut().for_each(|count| *count /= sum);
    counts
}

/// Of `times` of them, a whole number; by squaring, since a request may make a billion calls.
fn power(mut base: Counts, mut times: f64) -> Counts {
    let mut result = NONE;
    while times >= 1.0 {
        if times % 2.0 >= 1.0 {
            result = convolve(&result, &base);
        }
        base = whole(convolve(&base, &base));
        times = (times / 2.0).floor();
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::example;
    use crate::model::{Spec, Standby};
    use crate::units::{Bytes, CallsPerRequest};

    fn counts(values: &[f64]) -> Counts {
        let mut counts = [0.0; MOST_CROSSINGS + 1];
        counts[..values.len()].copy_from_slice(values);
        counts
    }

    fn near(one: &Counts, two: &Counts) -> bool {
        one.iter().zip(two).all(|(one, two)| (one - two).abs() < 1e-12)
    }

    /// Of the example, changed, with these services at the edge.
    fn crossings(change: impl FnOnce(&mut Spec), here: &[u32]) -> Crossings {
        let mut spec = example::problem().spec().clone();
        change(&mut spec);
        let problem = Problem::try_new(spec).unwrap();
        let mut placement = DensePlacement::cloud_only(&problem);
        here.iter()
            .for_each(|service| placement.set(EdgeIx(0), ServiceIx(*service), true));
        Crossings::resting(&problem, EdgeIx(0), &placement)
    }

    /// `front` alone at the edge makes two calls that cross: two round trips one after the other, one at once.
    #[test]
    fn calls_at_once_are_one_round_trip() {
        let mean = |overlap| {
            let change = |spec: &mut Spec| {
                spec.standby = Standby::Failover;
                spec.services[0].overlap = Ratio::nearest(overlap);
            };
            crossings(change, &[0]).mean()
        };
        assert_eq!([1.0, 0.75, 0.5].map(mean), [2.0, 1.5, 1.0]);
    }

    /// Two calls at once that cross in one request of ten each: 0.19 crossings a request, and the mean of means has 0.1. The
    /// same one after the other: 0.2, and so has the mean.
    #[test]
    fn the_mean_of_calls_at_once_overlooks_crossings() {
        let overlooked = |overlap| {
            let change = |spec: &mut Spec| {
                spec.standby = Standby::Failover;
                spec.services[0].overlap = Ratio::nearest(overlap);
                spec.calls
                    .iter_mut()
                    .filter(|call| call.caller == ServiceIx(0))
                    .for_each(|call| call.per_request = CallsPerRequest::nearest(0.1));
            };
            let crossings = crossings(change, &[0]);
            (
                crossings.mean(),
                crossings.overlooked().as_f64() / crossings.each().as_f64(),
            )
        };
        let (mean, share) = overlooked(0.5);
        assert!((mean - 0.19).abs() < 1e-9, "{mean}");
        assert!((share - 0.09).abs() < 1e-3, "{share}");
        assert_eq!(overlooked(1.0).1, 0.0);
    }

    /// z, that a call and all below it stay, is 0.99·(½ + ½·z).
    #[test]
    fn a_self_call_leaks_at_each_turn() {
        let change = |spec: &mut Spec| {
            spec.calls.truncate(1);
            spec.calls[0].callee = ServiceIx(0);
            spec.calls[0].per_request = CallsPerRequest::nearest(0.5);
        };
        let stays = 0.99 * 0.5 / (1.0 - 0.99 * 0.5);
        let share = crossings(change, &[0]).share().as_f64();
        assert!((share - (1.0 - stays)).abs() < 1e-9, "{share}");
    }

    /// 80 ms, and of 30 kB on average 240 µs at ρ = 0.048: `cart` answers 50 kB, `users` 10.
    #[test]
    fn a_crossing_takes_the_round_trip_and_the_mean_transfer() {
        let change = |spec: &mut Spec| {
            spec.standby = Standby::Failover;
            spec.services[1].response = Bytes::nearest(50_000.0);
        };
        let each = crossings(change, &[0]).each().as_f64();
        assert!((each - (80_000.0 + 240.0 / (1.0 - 0.048))).abs() < 1e-6, "{each}");
    }

    #[test]
    fn sums_maxima_and_powers_of_coins() {
        let coin = counts(&[0.5, 0.5]);
        assert!(near(&convolve(&coin, &coin), &counts(&[0.25, 0.5, 0.25])));
        assert!(near(&larger(&coin, &coin), &counts(&[0.25, 0.75])));
        assert!(near(&power(coin, 3.0), &counts(&[0.125, 0.375, 0.375, 0.125])));
        assert!(near(&power(coin, 0.0), &NONE));
        // A billion coins: more than can be told apart, for sure.
        assert!((power(coin, 1e9)[MOST_CROSSINGS] - 1.0).abs() < 1e-9);
    }
}
