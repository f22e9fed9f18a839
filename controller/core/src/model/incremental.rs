//! A placement with the routing at rest that stays evaluated while services come and go.
//!
//! Of an edge's user request, in_j calls reach service j from callers at the edge (its gateway and the instances there),
//! of which w·x_j use the edge's own instance (x_j: it is there). Everything is a sum over services of what in_j and x_j
//! say: n_j = w·x_j·in_j calls at the edge, cut_j = in_j − n_j calls into the cloud,
//!
//! delay = Σ_j cut_j·(remote_j + transfer_j) + n_j·(hop_j + own_j), traffic = 8 λ Σ_j cut_j·L_j,
//!
//! with remote_j the round trip, the hop and j's delay in the cloud, which no placement changes. So a change of x_j is
//! followed through j's descendants only, each recomputed from its callers: a path of changes leaves no trace in them.
//! Where a service waits for less than all of its calls, the delay is the recursion over the edge's instances.

use std::sync::Arc;

use super::cost::of_site;
use super::evaluate::{LONGEST_US, byte_us, evaluate};
use super::ix::{EdgeIx, ServiceIx};
use super::layout::{EdgeRows, Layout};
use super::linear;
use super::placement::DensePlacement;
use super::problem::Problem;
use super::shares::Shares;
use super::spec::Capacity;
use crate::units::{BitsPerSecond, CpuCores, Gigabytes};

/// Changes after which the sums are made anew, so that rounding can't add up.
const RESUM: u32 = 4096;

/// A placement, evaluated.
///
/// ```
/// use gma_core::model::{DensePlacement, EdgeIx, Incremental, ServiceIx};
/// # let problem = gma_core::example::problem();
/// let mut now = Incremental::new(&problem, &DensePlacement::cloud_only(&problem));
/// let before = now.delay_us(EdgeIx(0));
/// // All three services at the edge; a look, and back.
/// let all = now.peek(EdgeIx(0), &[0, 1, 2].map(ServiceIx));
/// assert!(all.delay_us < before / 2.0 && now.delay_us(EdgeIx(0)) == before);
/// ```
#[derive(Clone, Debug)]
pub struct Incremental<'p> {
    layout: Arc<Layout<'p>>,
    edges: Vec<State>,
    cloud_replicas: Vec<u32>,
    cloud_cost: f64,
    changes: u32,
}

/// What a change would lead to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Peek {
    /// Mean user delay of the edge by the model, µs.
    pub delay_us: f64,
    /// Total cost, an hour.
    pub cost: f64,
    /// [`Incremental::overload`]: 0 where the edge has the room.
    pub overload: f64,
}

/// An edge.
#[derive(Clone, Debug)]
struct State {
    /// x, in and n by service.
    here: Vec<bool>,
    arriving: Vec<f64>,
    calls: Vec<f64>,
    replicas: Vec<u32>,
    parts: Vec<Part>,
    sums: Sums,
    /// Ranks of services to recompute, a bit each.
    dirty: Vec<u64>,
    capacity: Capacity,
    /// Scratch: D of the instances at the edge.
    below: Vec<f64>,
}

/// A service's part of the sums.
#[derive(Clone, Copy, Debug, Default)]
struct Part {
    delay_us: f64,
    bytes: f64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    /// Without the transfers.
    delay_us: f64,
    /// Answers from the cloud per user request.
    bytes: f64,
    cost: f64,
    cpu: f64,
    memory: f64,
    pods: u64,
}

// === impl Incremental ===

#[expect(
    clippy::indexing_slicing,
    reason = "all vectors have an entry for each service or edge of the problem, and a stranger's number is refused first"
)]
impl<'p> Incremental<'p> {
    /// Evaluates a placement.
    pub fn new(problem: &'p Problem, placement: &DensePlacement) -> Self {
        let layout = Layout::new(problem);
        let count = problem.services_len();
        let edges = problem.edges().map(|(_, edge)| State {
            here: vec![false; count],
            arriving: vec![0.0; count],
            calls: vec![0.0; count],
            replicas: vec![0; count],
            parts: vec![Part::default(); count],
            sums: Sums::default(),
            dirty: vec![0; count.div_ceil(64)],
            capacity: edge.capacity,
            below: Vec::new(),
        });
        let mut this = Self {
            edges: edges.collect(),
            cloud_replicas: vec![0; count],
            cloud_cost: 0.0,
            changes: 0,
            layout: Arc::new(layout),
        };
        for (edge, _) in problem.edges() {
            for (service, _) in problem.services() {
                this.edges[edge.position()].here[service.position()] = placement.contains(edge, service);
                this.mark(edge, service);
            }
            this.update(edge);
        }
        for (service, _) in problem.services() {
            this.recount_cloud(service);
        }
        this.resum();
        this
    }

    /// The problem.
    pub fn problem(&self) -> &'p Problem {
        self.layout.problem
    }

    pub(crate) fn layout(&self) -> Arc<Layout<'p>> {
        Arc::clone(&self.layout)
    }

    /// Whether a service has an instance at an edge.
    pub fn contains(&self, edge: EdgeIx, service: ServiceIx) -> bool {
        let state = self.edges.get(edge.position());
        state.is_some_and(|state| state.here.get(service.position()).copied().unwrap_or_default())
    }

    /// Calls per user request that reach a service from callers at the edge.
    pub fn arriving(&self, edge: EdgeIx, service: ServiceIx) -> f64 {
        self.edges[edge.position()].arriving[service.position()]
    }

    /// Adds a service to an edge, or takes it away.
    pub fn flip(&mut self, edge: EdgeIx, service: ServiceIx) {
        self.flip_all(edge, &[service]);
    }

    /// [`Self::flip`] for several services of an edge at once.
    pub fn flip_all(&mut self, edge: EdgeIx, services: &[ServiceIx]) {
        let count = self.layout.problem.services_len();
        if edge.position() >= self.edges.len() {
            return;
        }
        for service in services.iter().filter(|service| service.position() < count) {
            let here = &mut self.edges[edge.position()].here[service.position()];
            *here = !*here;
            self.mark(edge, *service);
        }
        self.update(edge);
        self.changes += 1;
        if self.changes >= RESUM {
            self.resum();
        }
    }

    /// Becomes what [`Self::new`] would make of another placement.
    pub(crate) fn go_to(&mut self, placement: &DensePlacement) {
        let problem = self.layout.problem;
        for (edge, _) in problem.edges() {
            let differs =
                |service: &ServiceIx| placement.contains(edge, *service) != self.contains(edge, *service);
            let services = problem.services().map(|(service, _)| service);
            let flips: Vec<ServiceIx> = services.filter(differs).collect();
            self.flip_all(edge, &flips);
        }
        self.resum();
    }

    /// What [`Self::flip_all`] would lead to, at that edge. Nothing is changed.
    pub fn peek(&mut self, edge: EdgeIx, services: &[ServiceIx]) -> Peek {
        let at = edge.position().min(self.edges.len().saturating_sub(1));
        let (sums, cloud) = (self.edges[at].sums, self.cloud_cost);
        self.flip_all(edge, services);
        let peek = self.look(edge);
        self.flip_all(edge, services);
        self.edges[at].sums = sums;
        self.cloud_cost = cloud;
        peek
    }

    /// The present state, seen from an edge.
    pub fn look(&mut self, edge: EdgeIx) -> Peek {
        Peek {
            delay_us: self.delay_us(edge),
            cost: self.cost(),
            overload: self.overload(edge),
        }
    }

    /// The model's mean user delay, µs.
    pub fn delay_us(&mut self, edge: EdgeIx) -> f64 {
        let (layout, rows) = (&*self.layout, &self.layout.edges[edge.position()]);
        let state = &mut self.edges[edge.position()];
        let byte_us = byte_us(state.traffic_bps(rows), rows.bandwidth);
        let delay = match &layout.serial {
            None => state.sums.delay_us + state.transfers_us(rows, byte_us),
            Some(serial) if layout.cycles.is_empty() => state.waits_us(layout, rows, serial, byte_us),
            Some(_) => {
                let placement = self.placement();
                let shares = Shares::resting(self.layout.problem, &placement);
                let result = evaluate(self.layout.problem, &placement, &shares);
                result.edges[edge.position()].delay.as_f64()
            }
        };
        delay.clamp(0.0, LONGEST_US)
    }

    /// Total cost, an hour.
    pub fn cost(&self) -> f64 {
        let edges = self.layout.problem.edges().map(|(edge, _)| self.edge_cost(edge));
        self.cloud_cost + edges.sum::<f64>()
    }

    /// An edge's replicas and its traffic, an hour.
    pub(crate) fn edge_cost(&self, edge: EdgeIx) -> f64 {
        let (state, rows) = (&self.edges[edge.position()], &self.layout.edges[edge.position()]);
        let traffic = state.traffic_bps(rows);
        let bandwidth = rows.bandwidth.map(BitsPerSecond::as_f64);
        state.sums.cost + rows.bps_price * bandwidth.map_or(traffic, |bandwidth| traffic.min(bandwidth))
    }

    /// Requests a second of a service that no instance at these edges serves.
    pub(crate) fn rate_elsewhere(&self, service: ServiceIx, edges: &[EdgeIx]) -> f64 {
        let here = |edge: &EdgeIx| {
            let rate = self.layout.edges[edge.position()].rate;
            rate * self.edges[edge.position()].calls[service.position()]
        };
        let rest = (0..self.edges.len())
            .map(EdgeIx::at)
            .filter(|edge| !edges.contains(edge));
        (self.layout.rate[service.position()] - rest.map(|edge| here(&edge)).sum::<f64>()).max(0.0)
    }

    /// Whether every edge has room for its replicas.
    pub fn fits(&self) -> bool {
        self.edges.iter().all(|state| state.overload() <= 0.0)
    }

    /// Parts by which an edge's limits are exceeded, added up; 0 where everything fits.
    pub fn overload(&self, edge: EdgeIx) -> f64 {
        self.edges[edge.position()].overload()
    }

    /// The placement.
    pub fn placement(&self) -> DensePlacement {
        let mut placement = DensePlacement::empty(self.layout.problem);
        for (edge, _) in self.layout.problem.edges() {
            for (service, _) in self.layout.problem.services() {
                if self.edges[edge.position()].here[service.position()] {
                    placement.set(edge, service, true);
                }
            }
        }
        placement
    }

    fn mark(&mut self, edge: EdgeIx, service: ServiceIx) {
        let rank = self.layout.rank[service.position()];
        self.edges[edge.position()].dirty[rank / 64] |= 1 << (rank % 64);
    }

    /// Recomputes what is marked, callers before callees.
    fn update(&mut self, edge: EdgeIx) {
        let at = edge.position();
        for word in 0..self.edges[at].dirty.len() {
            while self.edges[at].dirty[word] != 0 {
                let bit = self.edges[at].dirty[word].trailing_zeros() as usize;
                self.edges[at].dirty[word] &= !(1 << bit);
                let service = self.layout.order[word * 64 + bit];
                match self.layout.cycle(service) {
                    None => {
                        let arriving = self.arrivals(at, service);
                        self.settle(edge, service, arriving);
                    }
                    Some(members) => {
                        let members = members.to_vec();
                        let arriving = self.arrivals_on_cycle(at, &members);
                        for (member, arriving) in members.iter().zip(arriving) {
                            self.settle(edge, *member, arriving);
                        }
                        for member in &members {
                            let rank = self.layout.rank[member.position()];
                            self.edges[at].dirty[rank / 64] &= !(1 << (rank % 64));
                        }
                    }
                }
            }
        }
    }

    /// in_j = u_j + Σ_i n_i·f_ij.
    fn arrivals(&self, at: usize, service: ServiceIx) -> f64 {
        let calls = &self.edges[at].calls;
        let callers = self.layout.callers.of(service).iter();
        let sum: f64 = callers.map(|(caller, f)| calls[caller.position()] * f).sum();
        self.layout.edges[at].user[service.position()] + sum
    }

    /// The same where callees call back: a small system over the cycle's members.
    fn arrivals_on_cycle(&self, at: usize, members: &[ServiceIx]) -> Vec<f64> {
        let (state, share) = (&self.edges[at], self.layout.edges[at].share);
        let size = members.len();
        let mut matrix = vec![0.0; size * size];
        let mut right = Vec::with_capacity(size);
        for (row, member) in members.iter().enumerate() {
            matrix[row * size + row] = 1.0;
            let mut outside = self.layout.edges[at].user[member.position()];
            for (caller, f) in self.layout.callers.of(*member) {
                match members.binary_search(caller) {
                    Ok(column) if state.here[caller.position()] => {
                        matrix[row * size + column] -= share * f;
                    }
                    Ok(_) => {}
                    Err(_) => outside += state.calls[caller.position()] * f,
                }
            }
            right.push(outside);
        }
        linear::solve(&mut matrix, &mut right);
        right.iter_mut().for_each(|value| *value = value.max(0.0));
        right
    }

    /// Takes over how many calls arrive, and marks the callees where that changes what they get.
    fn settle(&mut self, edge: EdgeIx, service: ServiceIx, arriving: f64) {
        let (at, j) = (edge.position(), service.position());
        let rows = &self.layout.edges[at];
        let state = &mut self.edges[at];
        let here = state.here[j];
        let calls = if here { rows.share * arriving } else { 0.0 };
        let cut = (arriving - calls).max(0.0);
        let part = Part {
            delay_us: cut * rows.remote_us[j] + calls * (rows.hop_us[j] + rows.own_us[j]),
            bytes: cut * rows.bytes[j],
        };
        let old = std::mem::replace(&mut state.parts[j], part);
        state.sums.delay_us += part.delay_us - old.delay_us;
        state.sums.bytes += part.bytes - old.bytes;
        state.arriving[j] = arriving;
        let changed = state.calls[j] != calls;
        state.calls[j] = calls;
        let replica = &rows.sites[j];
        let replicas = if here {
            of_site(&replica.site, self.layout.cpu_per_request[j] * rows.rate * calls)
        } else {
            0
        };
        state.sums.count(replica, state.replicas[j], -1.0);
        state.sums.count(replica, replicas, 1.0);
        state.sums.pods = state.sums.pods - u64::from(state.replicas[j]) + u64::from(replicas);
        state.replicas[j] = replicas;
        if changed {
            self.recount_cloud(service);
            for at in 0..self.layout.problem.calls_of(service).len() {
                let callee = self.layout.problem.calls_of(service)[at].0;
                self.mark(edge, callee);
            }
        }
    }

    fn recount_cloud(&mut self, service: ServiceIx) {
        let j = service.position();
        let away: f64 = self
            .edges
            .iter()
            .zip(&self.layout.edges)
            .map(|(state, rows)| rows.rate * state.calls[j])
            .sum();
        let rate = (self.layout.rate[j] - away).max(0.0);
        let replica = &self.layout.cloud[j];
        let replicas = of_site(&replica.site, self.layout.cpu_per_request[j] * rate);
        self.cloud_cost += replica.price * (f64::from(replicas) - f64::from(self.cloud_replicas[j]));
        self.cloud_replicas[j] = replicas;
    }

    fn resum(&mut self) {
        self.changes = 0;
        for (state, rows) in self.edges.iter_mut().zip(&self.layout.edges) {
            state.sums = Sums {
                delay_us: state.parts.iter().map(|part| part.delay_us).sum(),
                bytes: state.parts.iter().map(|part| part.bytes).sum(),
                pods: state.replicas.iter().map(|replicas| u64::from(*replicas)).sum(),
                ..Sums::default()
            };
            for (replica, replicas) in rows.sites.iter().zip(&state.replicas) {
                state.sums.count(replica, *replicas, 1.0);
            }
        }
        let cloud = self.layout.cloud.iter().zip(&self.cloud_replicas);
        self.cloud_cost = cloud
            .map(|(replica, replicas)| replica.price * f64::from(*replicas))
            .sum();
    }
}

// === impl Sums ===

impl Sums {
    fn count(&mut self, replica: &super::layout::Replica, replicas: u32, sign: f64) {
        let replicas = sign * f64::from(replicas);
        self.cost += replicas * replica.price;
        self.cpu += replicas * replica.site.cpu_request.as_f64();
        self.memory += replicas * replica.site.memory_request.as_f64();
    }
}

// === impl State ===

#[expect(clippy::indexing_slicing, reason = "an entry for each service of the problem")]
impl State {
    fn traffic_bps(&self, rows: &EdgeRows) -> f64 {
        8.0 * rows.rate * self.sums.bytes.max(0.0)
    }

    fn transfers_us(&self, rows: &EdgeRows, byte_us: f64) -> f64 {
        if byte_us * rows.largest <= LONGEST_US {
            return byte_us * self.sums.bytes.max(0.0);
        }
        let each = self
            .parts
            .iter()
            .zip(&rows.bytes)
            .filter(|(_, bytes)| **bytes > 0.0);
        each.map(|(part, bytes)| part.bytes / bytes * (byte_us * bytes).min(LONGEST_US))
            .sum()
    }

    /// The recursion of the delay over the instances at the edge, callees first; the cloud's are known.
    fn waits_us(&mut self, layout: &Layout<'_>, rows: &EdgeRows, serial: &[f64], byte_us: f64) -> f64 {
        self.below.resize(self.here.len(), 0.0);
        for service in layout.order.iter().rev() {
            let i = service.position();
            if !self.here[i] {
                continue;
            }
            let (mut sum, mut slowest) = (0.0, 0.0_f64);
            for (callee, f) in layout.problem.calls_of(*service) {
                let call = f * self.call_us(rows, callee.position(), byte_us);
                sum += call;
                slowest = slowest.max(call);
            }
            self.below[i] = rows.own_us[i] + slowest + serial[i] * (sum - slowest);
        }
        let users = layout.problem.services().map(|(service, _)| service.position());
        users
            .filter(|j| rows.user[*j] > 0.0)
            .map(|j| rows.user[j] * self.call_us(rows, j, byte_us))
            .sum()
    }

    fn call_us(&self, rows: &EdgeRows, j: usize, byte_us: f64) -> f64 {
        let remote = rows.remote_us[j] + (byte_us * rows.bytes[j]).min(LONGEST_US);
        if self.here[j] {
            rows.share * (rows.hop_us[j] + self.below[j]) + (1.0 - rows.share) * remote
        } else {
            remote
        }
    }

    /// Parts by which limits are exceeded, added up; rounding in the sums never makes what fits exactly not fit.
    fn overload(&self) -> f64 {
        let Capacity { cpu, memory, pods } = self.capacity;
        let over = |used: f64, limit: Option<f64>| {
            let over = limit.map_or(0.0, |limit| (used - limit) / limit.max(1.0));
            if over <= 1e-9 { 0.0 } else { over }
        };
        #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^53 replicas")]
        let used_pods = self.sums.pods as f64;
        over(self.sums.cpu, cpu.map(CpuCores::as_f64))
            + over(self.sums.memory, memory.map(Gigabytes::as_f64))
            + over(used_pods, pods.map(f64::from))
    }
}
