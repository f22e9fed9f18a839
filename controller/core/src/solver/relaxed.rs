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
use super::flow::{Flow, Points};
use super::recursion::{Pair, Recursion, Routed, Row};
use super::rent::Rent;
use crate::model::{EdgeIx, EdgeRows, LONGEST_US, Layout, Replica, ServiceIx, of_site};

/// Load of the link up to which tangents are laid: their slope at 0.99 is 10⁴ times that of an idle link.
const STEEPEST: f64 = 0.99;
/// Transfers longer than this, µs, are capped by the model at a load below [`STEEPEST`]; such links get no tangent.
const LONG_TRANSFER_US: f64 = 1e7;
/// µs · bit/s that a byte takes at least on a saturated link: 8·10⁶ of an idle one times the model's 10⁶.
const SATURATED_US: f64 = 8e12;

/// What has been decided about a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fix {
    Free,
    In,
    Out,
}

/// An edge, relaxed.
#[derive(Debug)]
pub(super) struct Relaxed<'p> {
    layout: Arc<Layout<'p>>,
    edge: EdgeIx,
    /// Requests a second that the other edges leave to the cloud, and the cloud's replicas for them.
    elsewhere: Vec<f64>,
    cloud: Vec<u32>,
    /// Other edges are decided at the same time: what the cloud saves is then known only as a line.
    joint: bool,
    /// Part of a replica by which the cloud's need is rounded up and that an instance here is taken to save, by service.
    credit: Vec<f64>,
    pub(super) fixed: Vec<Fix>,
    /// Weight of each call in its caller's delay, where some are made at once; by service, in the order of its calls.
    weights: Option<Vec<Vec<f64>>>,
    /// Part of a call's delay that the user waits for at least.
    waited: Vec<f64>,
    /// κ.
    per_call: Vec<f64>,
    /// Cost that no κ can express: savings of the cloud that a first replica at the edge brings.
    savings: f64,
    tangent: Tangent,
    flow: Vec<Flow>,
    recursion: Recursion,
    /// Price of a replica at the edge: the area's, and the rent of the room that it takes.
    prices: Vec<f64>,
    /// Rent of all the room.
    rent: f64,
    /// Answers from the cloud per user request with every call cut.
    most_bytes: f64,
}

/// g₀ + g'·bytes, µs.
#[derive(Clone, Copy, Debug, Default)]
struct Tangent {
    at_zero: f64,
    slope: f64,
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
            credit: Vec::new(),
            fixed: vec![Fix::Free; count],
            weights: None,
            waited: vec![1.0; count],
            per_call: vec![0.0; count],
            savings: 0.0,
            tangent: Tangent::default(),
            flow: vec![Flow::default(); count],
            recursion: Recursion::new(&layout, edge),
            prices: layout.edges[edge.position()]
                .sites
                .iter()
                .map(|replica| replica.price)
                .collect(),
            rent: 0.0,
            most_bytes: layout
                .problem
                .services()
                .zip(&layout.edges[edge.position()].bytes)
                .map(|((service, _), bytes)| layout.calls(edge, service) * bytes)
                .sum(),
            layout,
        };
        this.credit = (0..count).map(|j| this.rounding(j)).collect();
        this.lay_tangent(0.0);
        this
    }

    fn rows(&self) -> &EdgeRows {
        &self.layout.edges[self.edge.position()]
    }

    /// Replicas in the cloud while nothing runs at the edges that are being decided, less the rounding that no instance
    /// is credited with: the constant of the bound.
    pub(super) fn cloud_cost(&self) -> f64 {
        let each = (0..self.cloud.len()).map(|j| {
            let uncredited = self.rounding(j) - self.credit[j];
            self.layout.cloud[j].price * (f64::from(self.cloud[j]) - uncredited)
        });
        each.sum()
    }

    /// Says which services are placed at several of the edges being decided. The rounding of what the cloud needs can be
    /// saved once: it is credited to every instance of a service, or to none and then saved without any. Either is a
    /// bound; the first is tight where at most one edge has an instance, the second where several have.
    pub(super) fn credit(&mut self, several: &Bits) {
        self.credit = (0..self.cloud.len())
            .map(|j| {
                if several.contains(j) {
                    0.0
                } else {
                    self.rounding(j)
                }
            })
            .collect();
    }

    fn rounding(&self, j: usize) -> f64 {
        (f64::from(self.cloud[j]) - self.linear_cloud(j)).max(0.0)
    }

    /// What the cloud can save of a service at most, beside what is saved without any instance.
    fn most_saved(&self, j: usize) -> f64 {
        let cloud = f64::from(self.cloud[j]);
        let least = f64::from(self.layout.cloud[j].site.min_replicas).min(cloud);
        (cloud - least - (self.rounding(j) - self.credit[j])).max(0.0)
    }

    /// Replicas that the cloud needs at least, as a line in what the edges serve, at nothing.
    fn linear_cloud(&self, j: usize) -> f64 {
        let site = &self.layout.cloud[j].site;
        let one = site.threshold.as_f64() * site.cpu_request.as_f64();
        let needed = self.layout.cpu_per_request[j] * self.elsewhere[j] / one;
        let least = f64::from(site.min_replicas);
        if one > 0.0 && needed > least {
            needed
        } else {
            least
        }
    }

    /// Charges rent for room: a price on each core, GB and replica of the edge, and all of it given back. With any rent the
    /// bound stays one, since what fits pays no more than it is given.
    pub(super) fn charge(&mut self, rent: Rent) {
        let Some(edge) = self.layout.problem.edge(self.edge) else {
            return;
        };
        let room = edge.capacity;
        let rows = &self.layout.edges[self.edge.position()];
        for (price, replica) in self.prices.iter_mut().zip(&rows.sites) {
            *price = replica.price
                + rent.core * replica.site.cpu_request.as_f64()
                + rent.gigabyte * replica.site.memory_request.as_f64()
                + rent.pod;
        }
        self.rent = room.cpu.map_or(0.0, |limit| rent.core * limit.as_f64())
            + room.memory.map_or(0.0, |limit| rent.gigabyte * limit.as_f64())
            + room.pods.map_or(0.0, |limit| rent.pod * f64::from(limit));
    }

    /// Weighs parallel calls by a placement: the slowest counts whole, the others s.
    pub(super) fn weigh(&mut self, here: &Bits) {
        let layout = Arc::clone(&self.layout);
        let Some(serial) = &layout.serial else { return };
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
            let slowest = times
                .iter()
                .enumerate()
                .max_by(|a, b| a.1.total_cmp(b.1))
                .map(|(at, _)| at);
            let factor = |at: usize| if Some(at) == slowest { 1.0 } else { serial[i] };
            weights[i] = (0..times.len()).map(factor).collect();
            below[i] = rows.own_us[i]
                + times
                    .iter()
                    .enumerate()
                    .map(|(at, time)| factor(at) * time)
                    .sum::<f64>();
        }
        self.weights = Some(weights);
    }

    /// What the decisions in `fixed` leave possible: calls by service, and so κ.
    /// `saturated`: the link is, so that its whole bandwidth is paid and no less; else it is not.
    pub(super) fn prepare(&mut self, saturated: bool) {
        let layout = Arc::clone(&self.layout);
        let rows = &layout.edges[self.edge.position()];
        self.savings = -self.rent;
        for service in &layout.order {
            let j = service.position();
            let user = rows.user[j];
            let mut arriving = Flow {
                sure: user,
                low: if user > 0.0 { user } else { f64::INFINITY },
                high: user,
                points: Points::default().with(0.0, &[user]),
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
                let certain = self.fixed[i] == Fix::In && from.sure > 0.0;
                if certain {
                    arriving.sure += from.sure * f;
                }
                arriving.points = arriving.points.and(&from.points, *f, certain);
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
                points: arriving.points.scaled(rows.share),
            };
            self.per_call[j] = match flow.points.get() {
                Some(points) => {
                    let called = points.iter().filter(|n| **n > 0.0);
                    let least = called
                        .map(|n| self.cost_of_calls(j, *n) / n)
                        .fold(f64::INFINITY, f64::min);
                    if least.is_finite() { least } else { 0.0 }
                }
                None => self.least_cost_of_a_call(j, flow.low, flow.high),
            };
            self.flow[j] = flow;
        }
        let mut byte_price = 8.0 * rows.rate * rows.bps_price;
        if let (true, Some(bandwidth)) = (saturated, rows.bandwidth) {
            byte_price = 0.0;
            self.savings += rows.bps_price * bandwidth.as_f64();
        }
        self.recursion.prepare(|j| {
            (self.flow[j].high > 0.0).then(|| Row {
                fix: self.fixed[j],
                cut_cost: rows.bytes[j] * byte_price,
                remote_us: self.waited[j] * rows.remote_us[j],
                bytes: self.waited[j] * rows.bytes[j],
                in_cost: self.per_call[j],
                in_us: self.waited[j] * (rows.hop_us[j] + rows.own_us[j]),
            })
        });
    }

    /// Whether the link may be saturated within a limit on the delay. Call it after [`Self::prepare`].
    pub(super) fn may_saturate(&self, limit_us: Option<f64>) -> bool {
        let rows = self.rows();
        let Some(bandwidth) = rows.bandwidth.map(crate::units::BitsPerSecond::as_f64) else {
            return false;
        };
        if 8.0 * rows.rate * self.most_bytes < bandwidth * (1.0 - 1e-9) {
            return false;
        }
        let waited = self.waited.iter().copied().fold(1.0, f64::min);
        let a_byte = (SATURATED_US / bandwidth).min(LONGEST_US / rows.largest.max(1.0));
        let saturated_us = waited * a_byte * bandwidth / (8.0 * rows.rate);
        limit_us.is_none_or(|limit| limit >= saturated_us)
    }

    fn weight(&self, caller: ServiceIx, callee: ServiceIx) -> f64 {
        let Some(weights) = &self.weights else { return 1.0 };
        let calls = self.layout.problem.calls_of(caller);
        let at = calls.iter().position(|(service, _)| *service == callee);
        at.and_then(|at| weights[caller.position()].get(at).copied())
            .unwrap_or(1.0)
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
        let slope = |replica: &Replica| {
            let one = replica.site.threshold.as_f64() * replica.site.cpu_request.as_f64();
            if one > 0.0 { cpu / one } else { 0.0 }
        };
        let (grows, falls) = (slope(edge), slope(cloud));
        let at_least = f64::from(of_site(&edge.site, cpu * low));
        let price = self.prices[j];
        let (credit, most_saved) = (self.credit[j], self.most_saved(j));
        let cost = |n: f64| {
            let replicas = (grows * n - 1e-9).max(at_least);
            let saved = (credit + falls * n).min(most_saved);
            price * replicas - cloud.price * saved
        };
        // The cloud saves no more whole replicas than the edge needs: ⌈a⌉ − ⌈a − x⌉ <= ⌈x⌉.
        let whole = (falls <= grows && cloud.price <= price)
            .then(|| (price - cloud.price) * grows.max(at_least / high));
        let mut base = 0.0;
        if cost(low) < 0.0 {
            if let Some(whole) = whole {
                return whole;
            }
            // A replica in the cloud may be saved by next to no calls: taken as saved, whatever runs here.
            base = cost(low);
            self.savings += base;
        }
        let kinks = [
            low,
            high,
            at_least / grows.max(f64::MIN_POSITIVE),
            (most_saved - credit) / falls.max(f64::MIN_POSITIVE),
        ];
        let inside = kinks.iter().map(|n| n.clamp(low, high)).filter(|n| *n > 0.0);
        let least = inside.map(|n| (cost(n) - base) / n).fold(f64::INFINITY, f64::min);
        least.max(whole.unwrap_or(f64::NEG_INFINITY))
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
            Tangent {
                at_zero: 0.0,
                slope: idle,
            }
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
        let none = Pair {
            cost: self.savings,
            delay_us: self.tangent.at_zero,
        };
        self.recursion.choose(price, self.tangent.slope, none)
    }

    /// What the last choice keeps at the edge and users reach there, and where it sends the calls.
    pub(super) fn chosen(&self) -> Routed {
        let mut flow = self.recursion.flow();
        let fixed = (0..self.fixed.len()).filter(|j| self.fixed[*j] == Fix::In);
        fixed.for_each(|j| flow.here.set(j, true));
        flow
    }

    /// The service whose replicas cost most above κ under a choice, and by how much.
    pub(super) fn loosest(&self, calls: &[f64]) -> Option<(f64, ServiceIx)> {
        let open = (0..calls.len()).filter(|j| calls[*j] > 0.0 && self.flow[*j].low < self.flow[*j].high);
        open.map(|j| {
            (
                self.cost_of_calls(j, calls[j]) - self.per_call[j] * calls[j],
                ServiceIx::at(j),
            )
        })
        .max_by(|one, other| one.0.total_cmp(&other.0).then(other.1.cmp(&one.1)))
    }

    /// The undecided service through which most of the calls to a service may come: itself, or the nearest above it.
    pub(super) fn undecided_above(&self, service: ServiceIx) -> Option<ServiceIx> {
        let mut seen = Bits::new(self.fixed.len());
        let mut ring = vec![service];
        while !ring.is_empty() {
            let free = ring.iter().filter(|j| self.fixed[j.position()] == Fix::Free);
            let most = free.max_by(|one, other| {
                let calls = |j: &ServiceIx| self.flow[j.position()].high;
                calls(one).total_cmp(&calls(other)).then(other.cmp(one))
            });
            if let Some(most) = most {
                return Some(*most);
            }
            ring.iter().for_each(|j| seen.set(j.position(), true));
            let callers = ring.iter().flat_map(|j| self.layout.callers.of(*j));
            let live = callers.map(|(caller, _)| *caller).filter(|j| {
                !seen.contains(j.position())
                    && self.fixed[j.position()] != Fix::Out
                    && self.flow[j.position()].high > 0.0
            });
            ring = live.collect();
            ring.sort_unstable();
            ring.dedup();
        }
        None
    }

    /// Edge replicas less the replicas that the cloud no longer needs, for n calls a user request.
    fn cost_of_calls(&self, j: usize, n: f64) -> f64 {
        let rows = self.rows();
        let (edge, cloud) = (&rows.sites[j], &self.layout.cloud[j]);
        let cpu = self.layout.cpu_per_request[j] * rows.rate * n;
        let rest = (self.layout.cpu_per_request[j] * self.elsewhere[j] - cpu).max(0.0);
        let saved = if self.joint {
            let one = cloud.site.threshold.as_f64() * cloud.site.cpu_request.as_f64();
            let falls = if one > 0.0 { cpu / one } else { 0.0 };
            (self.credit[j] + falls).min(falls.ceil()).min(self.most_saved(j))
        } else {
            f64::from(self.cloud[j]) - f64::from(of_site(&cloud.site, rest))
        };
        self.prices[j] * f64::from(of_site(&edge.site, cpu)) - cloud.price * saved
    }

    /// Whether some services make calls at once, so that weights matter.
    pub(super) const fn weighted(&self) -> bool {
        self.weights.is_some()
    }

    /// Whether a cycle's recursion did not come to rest: then there is no bound.
    pub(super) fn unsettled(&self) -> bool {
        self.recursion.unsettled
    }
}
