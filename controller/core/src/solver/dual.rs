//! The best price of the delay: the highest of the bounds L(μ).

use super::bits::Bits;
use super::relaxed::{Pair, Relaxed};

/// Choices for one price search: each cuts the bracket where two known lines of L meet, which ends after few.
const CHOICES: usize = 12;
/// Tangents that are tried, each where the last search ended.
const TANGENTS: usize = 3;
/// Lines of L nearer than this meet.
const SAME: f64 = 1e-12;

/// What is known about an edge under some decisions.
#[derive(Clone, Debug)]
pub(super) struct Bounded {
    /// No placement that follows the decisions and keeps the limit costs less, the cloud's constant apart.
    pub(super) cost: f64,
    /// Where the search ended.
    pub(super) price: f64,
    pub(super) bytes: f64,
    /// The choice that keeps the (relaxed) limit, and the cheaper one that does not. Both at the best price.
    pub(super) keeps: Option<Bits>,
    pub(super) breaks: Option<Bits>,
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

/// The bound of an edge: infinite where its limit can't be kept. `start` is where a search with other decisions ended.
pub(super) fn bound(relaxed: &mut Relaxed<'_>, limit_us: Option<f64>, start: (f64, f64), enough: f64) -> Bounded {
    relaxed.prepare(limit_us);
    let mut best = Bounded {
        cost: f64::NEG_INFINITY,
        price: start.0,
        bytes: start.1,
        keeps: None,
        breaks: None,
        spent: 0,
    };
    for _ in 0..TANGENTS {
        let (bytes, before) = (best.bytes, best.cost);
        relaxed.lay_tangent(bytes);
        search(relaxed, limit_us, &mut best);
        let moved = (best.bytes - bytes).abs() > 1e-3 * bytes.max(1.0);
        if best.cost >= enough || !moved || best.cost <= before + SAME * before.abs() && before.is_finite() {
            break;
        }
    }
    best
}

fn search(relaxed: &mut Relaxed<'_>, limit_us: Option<f64>, best: &mut Bounded) {
    let free = line(relaxed, limit_us, 0.0, best);
    if free.over_us <= 0.0 {
        let (here, bytes) = relaxed.chosen();
        best.bytes = bytes;
        best.keeps = Some(here);
        best.breaks = None;
        return;
    }
    let fast = line(relaxed, limit_us, f64::INFINITY, best);
    if fast.over_us > 0.0 {
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
        if price == meet && next.cost + meet * next.over_us >= known - SAME * known.abs() {
            break;
        }
        if next.over_us > 0.0 { low = next } else { high = next }
    }
    relaxed.choose(low.price);
    best.breaks = Some(relaxed.chosen().0);
    relaxed.choose(high.price);
    let (here, bytes) = relaxed.chosen();
    best.keeps = Some(here);
    best.bytes = bytes;
    best.spent += 2;
}

fn line(relaxed: &mut Relaxed<'_>, limit_us: Option<f64>, price: f64, best: &mut Bounded) -> Line {
    best.spent += 1;
    let Pair { cost, delay_us } = relaxed.choose(price);
    let over_us = limit_us.map_or(0.0, |limit| delay_us - limit);
    let value = if price == 0.0 { cost } else { cost + price * over_us };
    if price.is_finite() && !relaxed.unsettled && value > best.cost {
        best.cost = value;
        best.price = price;
    }
    Line { price, cost, over_us }
}
