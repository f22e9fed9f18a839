//! A lower bound of an edge's cost, and placements that come near it.
//!
//! A call that arrives at the edge for service j is either cut (it goes to the cloud) or stays; what it costs from there
//! on depends on nothing else as long as costs are linear in calls. So with a price μ on the delay above its limit the
//! cheapest choice for one arriving call is a recursion from callees to callers,
//!
//! v_j = min(cut_j, w·(κ_j + μ·(hop_j + own_j) + Σ_k f_jk·v_k) + (1 − w)·cut_j),  cut_j = L_j·price + μ·(remote_j + L_j·g'),
//!
//! and L(μ) = Σ_j u_j·v_j − μ·(limit − g₀) is below the cost of every placement that keeps the limit (Lagrange; e.g. Fisher
//! 1981). Not linear are
//! - the transfer's slow-down g, which is convex in the traffic: its tangent g₀ + g'·T is below it;
//! - replicas, which come in steps: κ_j is the least cost of a call over all calls that j can still have there. Where they
//!   can have one value only (one way leads to j, or the ways are decided) it is exact;
//! - waiting for the slowest of parallel calls, which is at least any weighting of them: the one of a known placement.
//!
//! The choices that a recursion makes are a placement, and usually a good one.

use std::sync::Arc;

use super::bits::Bits;
use crate::model::{EdgeIx, EdgeRows, LONGEST_US, Layout, Replica, ServiceIx, of_site};

/// Load of the link up to which tangents are laid: their slope at 0.99 is 10⁴ times that of an idle link.
const STEEPEST: f64 = 0.99;
/// Transfers longer than this, µs, are capped by the model at a load below [`STEEPEST`]; such links get no tangent.
const LONG_TRANSFER_US: f64 = 1e7;
/// µs · bit/s that a byte takes at least on a saturated link: 8·10⁶ of an idle one times the model's 10⁶.
const SATURATED_US: f64 = 8e12;
/// Rounds of the recursion on a cycle.
const ROUNDS: usize = 500;

/// What has been decided about a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fix {
    Free,
    In,
    Out,
}

/// A cost and a delay.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pair {
    pub(super) cost: f64,
    pub(super) delay_us: f64,
}

/// An edge, relaxed.
#[derive(Debug)]
pub(super) struct Relaxed<'p> {
    layout: Arc<Layout<'p>>,
    edge: EdgeIx,
    /// Requests a second that the other edges leave to the cloud, and the cloud's replicas for them.
    elsewhere: Vec<f64>,
    cloud: Vec<u32>,
    /// Other edges are decided at the same time: the cloud's replicas are not known exactly.
    joint: bool,
    pub(super) fixed: Vec<Fix>,
    /// Weight of each call in its caller's delay, where some are made at once; by service, in the order of its calls.
    weights: Option<Vec<Vec<f64>>>,
    /// Part of a call's delay that the user waits for at least.
    waited: Vec<f64>,
    /// κ.
    per_call: Vec<f64>,
    /// Cost that no κ can express: savings of the cloud that a first replica at the edge brings.
    savings: f64,
    byte_price: f64,
    tangent: Tangent,
    values: Vec<Pair>,
    stays: Vec<bool>,
    flow: Vec<Flow>,
    /// A cycle's recursion did not come to rest: no bound.
    pub(super) unsettled: bool,
}

/// Calls of a service at the edge per user request, were it there: certain ones, at least where there are any, at most.
#[derive(Clone, Copy, Debug, Default)]
struct Flow {
    sure: f64,
    low: f64,
    high: f64,
}

/// g₀ + g'·bytes, µs.
#[derive(Clone, Copy, Debug, Default)]
struct Tangent {
    at_zero: f64,
    slope: f64,
}

// === impl Pair ===

impl Pair {
    fn plus(self, other: Self, factor: f64) -> Self {
        Self {
            cost: self.cost + factor * other.cost,
            delay_us: self.delay_us + factor * other.delay_us,
        }
    }

    /// μ·delay is left out where only the delay counts.
    fn priced(self, price: f64) -> f64 {
        if price.is_infinite() {
            self.delay_us
        } else {
            self.cost + price * self.delay_us
        }
    }
}

// === impl Relaxed ===

#[expect(
    clippy::indexing_slicing,
    reason = "all vectors have an entry for each service of the problem"
)]
impl<'p> Relaxed<'p> {
    /// `elsewhere`: requests a second by service that only the edges being decided could serve, the cloud else.
    pub(super) fn new(layout: Arc<Layout<'p>>, edge: EdgeIx, elsewhere: Vec<f64>, joint: bool) -> Self {
        let count = layout.problem.services_len();
        let cloud = (0..count)
            .map(|j| of_site(&layout.cloud[j].site, layout.cpu_per_request[j] * elsewhere[j]))
            .collect();
        let mut this = Self {
            edge,
            elsewhere,
            cloud,
            joint,
            fixed: vec![Fix::Free; count],
            weights: None,
            waited: vec![1.0; count],
            per_call: vec![0.0; count],
            savings: 0.0,
            byte_price: 0.0,
            tangent: Tangent::default(),
            values: vec![Pair::default(); count],
            stays: vec![false; count],
            flow: vec![Flow::default(); count],
            unsettled: false,
            layout,
        };
        this.lay_tangent(0.0);
        this
    }

    fn rows(&self) -> &EdgeRows {
        &self.layout.edges[self.edge.position()]
    }

    /// Replicas in the cloud while nothing runs at the edges that are being decided: the constant of the bound.
    pub(super) fn cloud_cost(&self) -> f64 {
        (0..self.cloud.len())
            .map(|j| {
                let Replica { price, .. } = self.layout.cloud[j];
                price * if self.joint { self.linear_cloud(j) } else { f64::from(self.cloud[j]) }
            })
            .sum()
    }

    /// Replicas that the cloud needs at least, as a line in what the edges serve, at nothing.
    fn linear_cloud(&self, j: usize) -> f64 {
        let site = &self.layout.cloud[j].site;
        let one = site.threshold.as_f64() * site.cpu_request.as_f64();
        let needed = self.layout.cpu_per_request[j] * self.elsewhere[j] / one;
        let least = f64::from(site.min_replicas);
        if one > 0.0 && needed > least { needed } else { least }
    }

    /// Weighs parallel calls by a placement: the slowest counts whole, the others s.
    pub(super) fn weigh(&mut self, here: &Bits) {
        let Some(serial) = self.layout.serial.clone() else { return };
        let layout = Arc::clone(&self.layout);
        let rows = &layout.edges[self.edge.position()];
        let mut below = vec![0.0; serial.len()];
        let mut weights = vec![Vec::new(); serial.len()];
        for service in layout.order.iter().rev() {
            let i = service.position();
            let calls = layout.problem.calls_of(*service);
            let times: Vec<f64> = calls
                .iter()
                .map(|(callee, f)| {
                    let j = callee.position();
                    let remote = rows.remote_us[j];
                    let stays = rows.share * (rows.hop_us[j] + below[j]) + (1.0 - rows.share) * remote;
                    f * if here.contains(j) { stays } else { remote }
                })
                .collect();
            let slowest = times.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).map(|(at, _)| at);
            let factor = |at: usize| if Some(at) == slowest { 1.0 } else { serial[i] };
            weights[i] = (0..times.len()).map(factor).collect();
            below[i] = rows.own_us[i] + times.iter().enumerate().map(|(at, time)| factor(at) * time).sum::<f64>();
        }
        self.weights = Some(weights);
    }

    /// What the decisions in `fixed` leave possible: calls by service, and so κ.
    pub(super) fn prepare(&mut self, limit_us: Option<f64>) {
        let layout = Arc::clone(&self.layout);
        let rows = &layout.edges[self.edge.position()];
        self.savings = 0.0;
        for service in &layout.order {
            let j = service.position();
            let user = rows.user[j];
            let mut arriving = Flow {
                sure: user,
                low: if user > 0.0 { user } else { f64::INFINITY },
                high: user,
            };
            let mut waited = if user > 0.0 { 1.0 } else { f64::INFINITY };
            for (caller, f) in layout.callers.of(*service) {
                let i = caller.position();
                let from = self.flow[i];
                if self.fixed[i] == Fix::Out || from.high <= 0.0 {
                    continue;
                }
                arriving.low = arriving.low.min(from.low * f);
                arriving.high += from.high * f;
                if self.fixed[i] == Fix::In {
                    arriving.sure += from.sure * f;
                }
                waited = waited.min(self.waited[i] * self.weight(*caller, *service));
            }
            arriving.low = arriving.low.max(arriving.sure).min(arriving.high);
            if layout.cycle(*service).is_some() {
                arriving = Flow {
                    high: layout.calls(self.edge, *service),
                    ..Flow::default()
                };
                waited = if self.weights.is_some() { 0.0 } else { 1.0 };
            }
            self.waited[j] = if waited.is_finite() { waited } else { 1.0 };
            let flow = Flow {
                sure: rows.share * arriving.sure,
                low: rows.share * arriving.low,
                high: rows.share * arriving.high,
            };
            self.flow[j] = flow;
            self.per_call[j] = self.least_cost_of_a_call(j, flow.low, flow.high);
        }
        self.byte_price = 8.0 * rows.rate * rows.bps_price * self.paid(limit_us);
    }

    /// Traffic is paid up to the bandwidth. Where the limit on the delay rules a saturated link out, that is all of it;
    /// else the chord from nothing to the most there can be is below it.
    fn paid(&self, limit_us: Option<f64>) -> f64 {
        let rows = self.rows();
        let Some(bandwidth) = rows.bandwidth.map(crate::units::BitsPerSecond::as_f64) else {
            return 1.0;
        };
        let waited = self.waited.iter().copied().fold(1.0, f64::min);
        let a_byte = (SATURATED_US / bandwidth).min(LONGEST_US / rows.largest.max(1.0));
        let saturated_us = waited * a_byte * bandwidth / (8.0 * rows.rate);
        if limit_us.is_some_and(|limit| limit < saturated_us) {
            return 1.0;
        }
        let calls = self.layout.problem.services().map(|(j, _)| self.layout.calls(self.edge, j));
        let most_bytes: f64 = calls.zip(&rows.bytes).map(|(calls, bytes)| calls * bytes).sum();
        (bandwidth / (8.0 * rows.rate * most_bytes)).min(1.0)
    }

    fn weight(&self, caller: ServiceIx, callee: ServiceIx) -> f64 {
        let Some(weights) = &self.weights else { return 1.0 };
        let calls = self.layout.problem.calls_of(caller);
        let at = calls.iter().position(|(service, _)| *service == callee);
        at.and_then(|at| weights[caller.position()].get(at).copied()).unwrap_or(1.0)
    }

    /// κ over n in [low, high]: (edge replicas − replicas that the cloud no longer needs) / n.
    fn least_cost_of_a_call(&mut self, j: usize, low: f64, high: f64) -> f64 {
        if high <= 0.0 {
            return 0.0;
        }
        let layout = Arc::clone(&self.layout);
        let rows = &layout.edges[self.edge.position()];
        let (edge, cloud) = (&rows.sites[j], &layout.cloud[j]);
        let cpu = layout.cpu_per_request[j] * rows.rate;
        if low == high && !self.joint {
            let rest = (layout.cpu_per_request[j] * self.elsewhere[j] - cpu * low).max(0.0);
            let saved = f64::from(self.cloud[j]) - f64::from(of_site(&cloud.site, rest));
            return (edge.price * f64::from(of_site(&edge.site, cpu * low)) - cloud.price * saved) / low;
        }
        let slope = |replica: &Replica| {
            let one = replica.site.threshold.as_f64() * replica.site.cpu_request.as_f64();
            if one > 0.0 { cpu / one } else { 0.0 }
        };
        let (grows, falls) = (slope(edge), slope(cloud));
        let at_least = f64::from(of_site(&edge.site, cpu * low));
        let linear = self.linear_cloud(j);
        let before = if self.joint { linear } else { f64::from(self.cloud[j]) };
        let most_saved = before - f64::from(cloud.site.min_replicas).min(before);
        let cost = |n: f64| {
            let replicas = if low == high {
                f64::from(of_site(&edge.site, cpu * n))
            } else {
                (grows * n - 1e-9).max(at_least)
            };
            let saved = (before - linear + falls * n).min(most_saved);
            edge.price * replicas - cloud.price * saved
        };
        let first = cost(low.max(0.0));
        let mut base = 0.0;
        if low <= 0.0 && first < 0.0 {
            base = first;
            self.savings += first;
        }
        let kinks = [
            low,
            high,
            at_least / grows.max(f64::MIN_POSITIVE),
            (most_saved - before + linear) / falls.max(f64::MIN_POSITIVE),
        ];
        let inside = kinks.iter().map(|n| n.clamp(low, high)).filter(|n| *n > 0.0);
        inside.map(|n| (cost(n) - base) / n).fold(f64::INFINITY, f64::min)
    }

    /// Lays the tangent of the transfers at so many bytes a request.
    pub(super) fn lay_tangent(&mut self, bytes: f64) {
        let rows = self.rows();
        let Some(bandwidth) = rows.bandwidth.map(crate::units::BitsPerSecond::as_f64) else {
            self.tangent = Tangent::default();
            return;
        };
        let idle = 8e6 / bandwidth;
        let load = (8.0 * rows.rate * bytes / bandwidth).min(STEEPEST);
        let far = 1.0 / (1.0 - load);
        self.tangent = if idle * rows.largest > LONG_TRANSFER_US {
            Tangent::default()
        } else if self.layout.serial.is_some() || rows.rate <= 0.0 {
            Tangent { at_zero: 0.0, slope: idle }
        } else {
            let bytes = load * bandwidth / (8.0 * rows.rate);
            Tangent {
                at_zero: -idle * bytes * load * far * far,
                slope: idle * far * far,
            }
        };
    }

    /// The cheapest choice at a price of the delay, an infinite one included: cost without the cloud's constant, and delay.
    pub(super) fn choose(&mut self, price: f64) -> Pair {
        self.unsettled = false;
        let layout = Arc::clone(&self.layout);
        let mut at = layout.order.len();
        while at > 0 {
            let service = layout.order[at - 1];
            match layout.cycle(service) {
                None => {
                    self.step(service, price);
                    at -= 1;
                }
                Some(members) => {
                    self.cycle(members, price);
                    at -= members.len();
                }
            }
        }
        let rows = &layout.edges[self.edge.position()];
        let none = Pair {
            cost: self.savings,
            delay_us: self.tangent.at_zero,
        };
        let users = rows.user.iter().zip(&self.values).filter(|(u, _)| **u > 0.0);
        users.fold(none, |sum, (u, value)| sum.plus(*value, *u))
    }

    fn cut(&self, j: usize) -> Pair {
        let rows = self.rows();
        Pair {
            cost: rows.bytes[j] * self.byte_price,
            delay_us: self.waited[j] * (rows.remote_us[j] + rows.bytes[j] * self.tangent.slope),
        }
    }

    fn step(&mut self, service: ServiceIx, price: f64) {
        let j = service.position();
        let cut = self.cut(j);
        let rows = &self.layout.edges[self.edge.position()];
        let mut inside = Pair {
            cost: self.per_call[j],
            delay_us: self.waited[j] * (rows.hop_us[j] + rows.own_us[j]),
        };
        for (callee, f) in self.layout.problem.calls_of(service) {
            inside = inside.plus(self.values[callee.position()], *f);
        }
        let mixed = Pair::default().plus(inside, rows.share).plus(cut, 1.0 - rows.share);
        let stays = match self.fixed[j] {
            Fix::In => true,
            Fix::Out => false,
            Fix::Free => mixed.priced(price) < cut.priced(price),
        };
        self.stays[j] = stays;
        self.values[j] = if stays { mixed } else { cut };
    }

    /// Down from "all cut", which is above the fixed point: what is left is taken off with room to spare.
    fn cycle(&mut self, members: &[ServiceIx], price: f64) {
        for member in members {
            self.values[member.position()] = self.cut(member.position());
        }
        let mut change = 0.0_f64;
        for _ in 0..ROUNDS {
            change = 0.0;
            for member in members {
                let before = self.values[member.position()].priced(price);
                self.step(*member, price);
                let after = self.values[member.position()].priced(price);
                change = change.max((before - after).abs() / before.abs().max(f64::MIN_POSITIVE));
            }
            if change < 1e-14 {
                break;
            }
        }
        self.unsettled |= change >= 1e-14;
    }

    /// The services that the last choice keeps at the edge and that users reach there, and the bytes that cross.
    pub(super) fn chosen(&self) -> (Bits, f64) {
        let layout = &self.layout;
        let rows = self.rows();
        let mut here = Bits::new(self.stays.len());
        let users = (0..self.stays.len()).filter(|j| rows.user[*j] > 0.0 && self.stays[*j]);
        let mut open: Vec<usize> = users.collect();
        while let Some(j) = open.pop() {
            if !here.contains(j) {
                here.set(j, true);
                let callees = layout.problem.calls_of(ServiceIx::at(j)).iter();
                open.extend(callees.map(|(callee, _)| callee.position()).filter(|j| self.stays[*j]));
            }
        }
        let mut calls = vec![0.0; self.stays.len()];
        let mut bytes = 0.0;
        for service in &layout.order {
            let j = service.position();
            let callers = layout.callers.of(*service).iter();
            let arriving = rows.user[j] + callers.map(|(caller, f)| calls[caller.position()] * f).sum::<f64>();
            if here.contains(j) {
                calls[j] = rows.share * arriving;
            } else if self.fixed[j] == Fix::In {
                here.set(j, true);
            }
            bytes += (arriving - calls[j]) * rows.bytes[j];
        }
        (here, bytes)
    }
}
