//! The recursion of [`super::relaxed`], from callees to callers, laid out flat: it runs thousands of times.

use std::ops::Range;

use super::bits::Bits;
use super::relaxed::Fix;
use crate::model::{EdgeIx, Layout};

/// Rounds on a cycle.
const ROUNDS: usize = 500;
/// A cycle rests when no value changes by more than this part of it.
const RESTS: f64 = 1e-14;

/// A cost and a delay.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pair {
    pub(super) cost: f64,
    pub(super) delay_us: f64,
}

/// What one call that arrives for a service costs, without the calls that follow.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    pub(super) fix: Fix,
    /// Cut: the traffic's price, the delay without the transfer, and the bytes that are waited for.
    pub(super) cut_cost: f64,
    pub(super) remote_us: f64,
    pub(super) bytes: f64,
    /// Not cut.
    pub(super) in_cost: f64,
    pub(super) in_us: f64,
}

/// Services by rank: callers before callees.
#[derive(Debug)]
pub(super) struct Recursion {
    share: f64,
    /// Ranks that the gateway calls, with u.
    users: Vec<(usize, f64)>,
    /// By rank: the service, its callees' ranks with f, bytes of an answer.
    services: Vec<usize>,
    starts: Vec<usize>,
    cells: Vec<(usize, f64)>,
    answers: Vec<f64>,
    cycles: Vec<Range<usize>>,
    /// Ranks that calls can reach.
    live: Vec<usize>,
    rows: Vec<Row>,
    values: Vec<Pair>,
    stays: Vec<bool>,
    /// A cycle did not come to rest.
    pub(super) unsettled: bool,
}

/// What a choice leads to.
pub(super) struct Routed {
    pub(super) here: Bits,
    /// Calls at the edge per user request, by service.
    pub(super) calls: Vec<f64>,
    /// Bytes that cross per user request.
    pub(super) bytes: f64,
}

// === impl Pair ===

impl Pair {
    fn plus(self, other: Self, factor: f64) -> Self {
        Self {
            cost: self.cost + factor * other.cost,
            delay_us: self.delay_us + factor * other.delay_us,
        }
    }

    fn priced(self, weights: (f64, f64)) -> f64 {
        weights.0 * self.cost + weights.1 * self.delay_us
    }
}

// === impl Recursion ===

#[expect(
    clippy::indexing_slicing,
    reason = "ranks and services are positions of vectors of the problem's size"
)]
impl Recursion {
    pub(super) fn new(layout: &Layout<'_>, edge: EdgeIx) -> Self {
        let rows = &layout.edges[edge.position()];
        let rank = |service: &crate::model::ServiceIx| layout.rank[service.position()];
        let mut starts = vec![0];
        let mut cells = Vec::new();
        for service in &layout.order {
            let calls = layout.problem.calls_of(*service).iter();
            cells.extend(calls.map(|(callee, f)| (rank(callee), *f)));
            starts.push(cells.len());
        }
        let services: Vec<usize> = layout.order.iter().map(|service| service.position()).collect();
        let users = services.iter().map(|j| rows.user[*j]).enumerate();
        let count = services.len();
        let none = Row {
            fix: Fix::Out,
            cut_cost: 0.0,
            remote_us: 0.0,
            bytes: 0.0,
            in_cost: 0.0,
            in_us: 0.0,
        };
        let ends = |members: &Vec<crate::model::ServiceIx>| {
            let from = members.iter().map(rank).min().unwrap_or_default();
            from..from + members.len()
        };
        Self {
            share: rows.share,
            users: users.filter(|(_, u)| *u > 0.0).collect(),
            answers: services.iter().map(|j| rows.bytes[*j]).collect(),
            services,
            starts,
            cells,
            cycles: layout.cycles.iter().map(ends).collect(),
            live: Vec::with_capacity(count),
            rows: vec![none; count],
            values: vec![Pair::default(); count],
            stays: vec![false; count],
            unsettled: false,
        }
    }

    /// Takes the rows of all services that calls can reach.
    pub(super) fn prepare(&mut self, row: impl Fn(usize) -> Option<Row>) {
        self.live.clear();
        for (rank, service) in self.services.iter().enumerate() {
            self.stays[rank] = false;
            if let Some(row) = row(*service) {
                self.rows[rank] = row;
                self.live.push(rank);
            }
        }
    }

    /// The cheapest choice for every arriving call, summed over the users' calls; `none` is what is there without any.
    pub(super) fn choose(&mut self, price: f64, byte_us: f64, none: Pair) -> Pair {
        let weights = if price.is_infinite() {
            (0.0, 1.0)
        } else {
            (1.0, price)
        };
        self.unsettled = false;
        let mut at = self.live.len();
        while at > 0 {
            at -= 1;
            let rank = self.live[at];
            if self.cycles.is_empty() {
                self.step(rank, weights, byte_us);
                continue;
            }
            match self.cycles.iter().find(|cycle| cycle.contains(&rank)).cloned() {
                None => self.step(rank, weights, byte_us),
                Some(cycle) => {
                    self.settle(cycle.clone(), weights, byte_us);
                    while at > 0 && cycle.contains(&self.live[at - 1]) {
                        at -= 1;
                    }
                }
            }
        }
        self.users
            .iter()
            .fold(none, |sum, (rank, u)| sum.plus(self.values[*rank], *u))
    }

    fn step(&mut self, rank: usize, weights: (f64, f64), byte_us: f64) {
        let row = &self.rows[rank];
        let cut = Pair {
            cost: row.cut_cost,
            delay_us: row.remote_us + row.bytes * byte_us,
        };
        if row.fix == Fix::Out {
            self.values[rank] = cut;
            return;
        }
        let mut inside = Pair {
            cost: row.in_cost,
            delay_us: row.in_us,
        };
        for (callee, f) in &self.cells[self.starts[rank]..self.starts[rank + 1]] {
            inside = inside.plus(self.values[*callee], *f);
        }
        let mixed = Pair::default()
            .plus(inside, self.share)
            .plus(cut, 1.0 - self.share);
        let stays = row.fix == Fix::In || mixed.priced(weights) < cut.priced(weights);
        self.stays[rank] = stays;
        self.values[rank] = if stays { mixed } else { cut };
    }

    /// From "all cut" to the fixed point.
    fn settle(&mut self, cycle: Range<usize>, weights: (f64, f64), byte_us: f64) {
        for rank in cycle.clone() {
            let row = &self.rows[rank];
            self.values[rank] = Pair {
                cost: row.cut_cost,
                delay_us: row.remote_us + row.bytes * byte_us,
            };
        }
        for _ in 0..ROUNDS {
            let mut rests = true;
            for rank in cycle.clone().rev() {
                let before = self.values[rank].priced(weights);
                self.step(rank, weights, byte_us);
                let after = self.values[rank].priced(weights);
                rests &= (before - after).abs() <= RESTS * before.abs();
            }
            if rests {
                return;
            }
        }
        self.unsettled = true;
    }

    /// Where the last choice sends the calls.
    pub(super) fn flow(&self) -> Routed {
        let mut reached = vec![false; self.stays.len()];
        let mut open: Vec<usize> = self.users.iter().map(|(rank, _)| *rank).collect();
        let mut here = Bits::new(self.stays.len());
        while let Some(rank) = open.pop() {
            if self.stays[rank] && !reached[rank] {
                reached[rank] = true;
                here.set(self.services[rank], true);
                open.extend(
                    self.cells[self.starts[rank]..self.starts[rank + 1]]
                        .iter()
                        .map(|(callee, _)| *callee),
                );
            }
        }
        let mut arriving = vec![0.0; self.stays.len()];
        self.users.iter().for_each(|(rank, u)| arriving[*rank] += u);
        let mut calls = vec![0.0; self.stays.len()];
        let mut bytes = 0.0;
        for rank in &self.live {
            let here = if reached[*rank] {
                self.share * arriving[*rank]
            } else {
                0.0
            };
            bytes += (arriving[*rank] - here) * self.answers[*rank];
            if here > 0.0 {
                calls[self.services[*rank]] = here;
                for (callee, f) in &self.cells[self.starts[*rank]..self.starts[rank + 1]] {
                    arriving[*callee] += here * f;
                }
            }
        }
        Routed { here, calls, bytes }
    }
}
