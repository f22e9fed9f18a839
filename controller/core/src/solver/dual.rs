//! The best price of the delay: the highest of the bounds L(μ).

use super::bits::Bits;
use super::recursion::Pair;
use super::relaxed::Relaxed;
use crate::model::ServiceIx;

/// Choices for one price search: each cuts the bracket where two known lines of L meet, which ends after few.
const CHOICES: usize = 12;
/// Tangents that are tried, each where the last search ended.
const TANGENTS: usize = 3;
/// Lines of L nearer than this meet.
const SAME: f64 = 1e-9;

/// What is known about an edge under some decisions.
#[derive(Clone, Debug)]
pub(super) struct Bounded {
    /// No placement that follows the decisions and keeps the limit costs less, the cloud's constant apart.
    pub(super) cost: f64,
    /// Where the search ended.
    pub(super) price: f64,
    pub(super) bytes: f64,
    /// The choice that keeps the (relaxed) limit, or the fastest where none does, and the cheaper one that does not. Both at the best price.
    pub(super) keeps: Option<Bits>,
    pub(super) breaks: Option<Bits>,
    /// What the bound gives away to the one price of the delay, and where it gives most away to steps of replicas.
    pub(super) split: (f64, Option<(f64, ServiceIx)>),
    /// Choices made.
    pub(super) spent: u64,
}

/// A choice: a line of L over μ.
#[derive(Clone, Copy)]
struct Line {
    price: f64,
    cost: f64,
    /// Delay above the limit, µs.
    over_us: f64,
}

/// The bound of an edge: infinite where its limit can't be kept. `start` is where a search with other decisions ended;
/// past `enough` it need not be higher.
pub(super) fn bound(
    relaxed: &mut Relaxed<'_>,
    limit_us: Option<f64>,
    start: (f64, f64),
    enough: f64,
) -> Bounded {
    let idle = with_link(relaxed, false, limit_us, start, enough);
    if !relaxed.may_saturate(limit_us) {
        return idle;
    }
    // Traffic is paid up to the bandwidth, which is not convex: one bound below it, one above.
    let full = with_link(relaxed, true, limit_us, start, enough);
    let spent = idle.spent + full.spent;
    let lower = if full.cost < idle.cost { full } else { idle };
    Bounded { spent, ..lower }
}

fn with_link(
    relaxed: &mut Relaxed<'_>,
    saturated: bool,
    limit_us: Option<f64>,
    start: (f64, f64),
    enough: f64,
) -> Bounded {
    relaxed.prepare(saturated);
    let mut best = Bounded {
        cost: f64::NEG_INFINITY,
        price: start.0,
        bytes: start.1,
        keeps: None,
        breaks: None,
        split: (0.0, None),
        spent: 0,
    };
    if start.0 > 0.0 {
        relaxed.lay_tangent(start.1);
        line(relaxed, limit_us, start.0, &mut best);
        if best.cost >= enough {
            return best;
        }
    }
    for _ in 0..TANGENTS {
        let (bytes, before) = (best.bytes, best.cost);
        relaxed.lay_tangent(bytes);
        search(relaxed, limit_us, enough, &mut best);
        let moved = (best.bytes - bytes).abs() > 1e-3 * bytes.max(1.0);
        if best.cost >= enough || !moved || best.cost <= before + SAME * before.abs() && before.is_finite() {
            break;
        }
    }
    best
}

fn search(relaxed: &mut Relaxed<'_>, limit_us: Option<f64>, enough: f64, best: &mut Bounded) {
    let free = line(relaxed, limit_us, 0.0, best);
    if free.over_us <= 0.0 {
        let routed = relaxed.chosen();
        best.bytes = routed.bytes;
        best.split = (0.0, relaxed.loosest(&routed.calls));
        best.keeps = Some(routed.here);
        best.breaks = None;
        return;
    }
    let fast = line(relaxed, limit_us, f64::INFINITY, best);
    if fast.over_us > 0.0 {
        best.keeps = Some(relaxed.chosen().here);
        best.cost = f64::INFINITY;
        return;
    }
    let (mut low, mut high) = (free, fast);
    let mut first = (best.price > 0.0).then_some(best.price);
    for _ in 0..CHOICES {
        let meet = (high.cost - low.cost) / (low.over_us - high.over_us);
        if !meet.is_finite() || meet <= 0.0 {
            break;
        }
        let price = first.take().unwrap_or(meet);
        let next = line(relaxed, limit_us, price, best);
        let known = low.cost + meet * low.over_us;
        let met = price == meet && next.cost + meet * next.over_us >= known - SAME * known.abs();
        if met || best.cost >= enough {
            break;
        }
        if next.over_us > 0.0 {
            low = next;
        } else {
            high = next;
        }
    }
    relaxed.choose(low.price);
    best.breaks = Some(relaxed.chosen().here);
    relaxed.choose(high.price);
    let routed = relaxed.chosen();
    best.bytes = routed.bytes;
    best.split = (high.cost - best.cost, relaxed.loosest(&routed.calls));
    best.keeps = Some(routed.here);
    best.spent += 2;
}

fn line(relaxed: &mut Relaxed<'_>, limit_us: Option<f64>, price: f64, best: &mut Bounded) -> Line {
    best.spent += 1;
    let Pair { cost, delay_us } = relaxed.choose(price);
    let over_us = limit_us.map_or(0.0, |limit| delay_us - limit);
    let value = if price == 0.0 {
        cost
    } else {
        cost + price * over_us
    };
    if price.is_finite() && !relaxed.unsettled() && value > best.cost {
        best.cost = value;
        best.price = price;
    }
    Line { price, cost, over_us }
}
