//! The delay's recursion, from callees to callers. The formula is [`super::EdgeEvaluation`]'s.

use super::calls::{Cell, block_cells, block_matrix};
use super::evaluate::LONGEST_US;
use super::graph::Block;
use super::ix::{AreaIx, EdgeIx, Grid, ServiceIx};
use super::linear;
use super::problem::Problem;
use super::shares::Shares;
use super::spec::{Edge, Service};

/// Rounds in which a cycle's slowest calls are found; each can only move the result up, and few move it at all.
const ROUNDS: usize = 20;

/// An edge's link under load.
#[derive(Clone, Copy, Debug)]
pub(super) struct Link {
    pub(super) rtt_us: f64,
    pub(super) traffic_bps: f64,
    pub(super) utilisation: f64,
    /// Time of a byte, load spread included, µs.
    pub(super) byte_us: f64,
}

/// Time inside instances and between them, µs.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Spent {
    pub(super) internal: f64,
    pub(super) network: f64,
}

/// D of every instance of a problem under some routing.
pub(super) struct Times<'a> {
    pub(super) problem: &'a Problem,
    pub(super) shares: &'a Shares,
    pub(super) links: &'a [Link],
}

// === impl Spent ===

impl Spent {
    pub(super) fn whole(self) -> f64 {
        self.internal + self.network
    }

    fn add(&mut self, other: Self, factor: f64) {
        self.internal += factor * other.internal;
        self.network += factor * other.network;
    }
}

// === impl Times ===

impl Times<'_> {
    /// D(i,a) = own(i,a) + max_j x_j + s_i·(Σ_j x_j − max_j x_j) with x_j = f_ij Σ_b w[a][j][b]·(net(a,b,j) + D(j,b)).
    pub(super) fn below(&self) -> Grid<Spent> {
        let mut spent = Grid::new(self.problem.services_len(), self.problem.edges_len());
        for block in self.problem.graph().callees_first() {
            if block.cyclic {
                self.solve(block, &mut spent);
                continue;
            }
            for cell in block_cells(self.problem, block) {
                let factors = self.factors(cell, &spent);
                spent.set(cell.0, cell.1, self.own_and_called(cell, &factors, &spent));
            }
        }
        spent
    }

    /// The gateway makes its calls one after the other (and hardly ever more than one).
    pub(super) fn of_user(&self, edge: EdgeIx, value: &Edge, spent: &Grid<Spent>) -> Spent {
        let mut sum = Spent::default();
        for (callee, f) in &value.user_calls {
            sum.add(self.call(AreaIx::Edge(edge), *callee, spent), f.as_f64());
        }
        sum
    }

    /// What each call of an instance counts for: the slowest whole, the others s.
    fn factors(&self, (service, area): Cell, spent: &Grid<Spent>) -> Vec<f64> {
        let calls = self.problem.calls_of(service);
        let others = self
            .problem
            .service(service)
            .map_or(1.0, |value| serial(value.overlap.as_f64(), calls.len()));
        let mut factors = vec![others; calls.len()];
        if others < 1.0 {
            let times = calls
                .iter()
                .map(|(callee, f)| f * self.call(area, *callee, spent).whole());
            let slowest = times.enumerate().max_by(|one, two| one.1.total_cmp(&two.1));
            if let Some(factor) = slowest.and_then(|(at, _)| factors.get_mut(at)) {
                *factor = 1.0;
            }
        }
        factors
    }

    fn own_and_called(&self, (service, area): Cell, factors: &[f64], spent: &Grid<Spent>) -> Spent {
        let own = self
            .problem
            .site(service, area)
            .map_or(0.0, |site| site.own.as_f64());
        let mut sum = Spent {
            internal: own,
            network: 0.0,
        };
        for ((callee, f), factor) in self.problem.calls_of(service).iter().zip(factors) {
            sum.add(self.call(area, *callee, spent), f * factor);
        }
        sum
    }

    /// Σ_b w·(net + D) of one call.
    fn call(&self, from: AreaIx, callee: ServiceIx, spent: &Grid<Spent>) -> Spent {
        let mut sum = Spent::default();
        let Some(service) = self.problem.service(callee) else {
            return sum;
        };
        for to in self.problem.areas() {
            let share = self.shares.get(from, callee, to);
            if share > 0.0 {
                sum.add(spent.get(callee, to), share);
                sum.network += share * self.net(from, to, service);
            }
        }
        sum
    }

    /// net(a,b,j): the hop; between areas also the round trip and the answer's transfer.
    fn net(&self, from: AreaIx, to: AreaIx, callee: &Service) -> f64 {
        if from == to {
            return callee.hop_local.as_f64();
        }
        let link = |area| match area {
            AreaIx::Cloud => None,
            AreaIx::Edge(edge) => self.links.get(edge.position()),
        };
        let rtt: f64 = [from, to]
            .into_iter()
            .filter_map(link)
            .map(|link| link.rtt_us)
            .sum();
        let bytes = callee.response.as_f64();
        let transfer = link(from).map_or(0.0, |link| (link.byte_us * bytes).min(LONGEST_US));
        callee.hop_remote.as_f64() + rtt + transfer
    }

    /// A cycle: linear once it is known which calls are slowest. Starts with all of them counted whole, and goes on from
    /// choice to better choice as long as one changes (policy iteration).
    fn solve(&self, block: &Block, spent: &mut Grid<Spent>) {
        let cells: Vec<Cell> = block_cells(self.problem, block).collect();
        let whole = |cell: &Cell| vec![1.0; self.problem.calls_of(cell.0).len()];
        let mut factors: Vec<Vec<f64>> = cells.iter().map(whole).collect();
        for _ in 0..ROUNDS {
            self.solve_with(block, &cells, &factors, spent);
            let better: Vec<Vec<f64>> = cells.iter().map(|cell| self.factors(*cell, spent)).collect();
            if better == factors {
                break;
            }
            factors = better;
        }
    }

    fn solve_with(&self, block: &Block, cells: &[Cell], factors: &[Vec<f64>], spent: &mut Grid<Spent>) {
        cells
            .iter()
            .for_each(|(service, area)| spent.set(*service, *area, Spent::default()));
        let right: Vec<Spent> = cells
            .iter()
            .zip(factors)
            .map(|(cell, factors)| self.own_and_called(*cell, factors, spent))
            .collect();
        let factor = |caller: Cell, callee: ServiceIx| {
            let row = cells
                .iter()
                .position(|cell| *cell == caller)
                .and_then(|at| factors.get(at));
            let column = self
                .problem
                .calls_of(caller.0)
                .iter()
                .position(|(service, _)| *service == callee);
            row.zip(column)
                .and_then(|(row, column)| row.get(column))
                .copied()
                .unwrap_or(1.0)
        };
        let weight = |caller: Cell, callee: Cell, f: f64| {
            f * factor(caller, callee.0) * self.shares.get(caller.1, callee.0, callee.1)
        };
        let matrix = block_matrix(self.problem, block, weight, false);
        let solve = |part: fn(&Spent) -> f64| {
            let mut values: Vec<f64> = right.iter().map(part).collect();
            linear::solve(&mut matrix.clone(), &mut values);
            values
        };
        let (internal, network) = (solve(|spent| spent.internal), solve(|spent| spent.network));
        for (((service, area), internal), network) in cells.iter().zip(internal).zip(network) {
            spent.set(*service, *area, Spent { internal, network });
        }
    }
}

/// s of a service with overlap o and n callees: (o − 1/n) / (1 − 1/n), so that n calls of one length take o times their
/// sum. o = 1 is 1 (one after the other), o = 1/n is 0 (all at once).
pub(super) fn serial(overlap: f64, callees: usize) -> f64 {
    let callees = f64::from(u32::try_from(callees).unwrap_or(u32::MAX));
    if callees < 2.0 || overlap >= 1.0 {
        return 1.0;
    }
    ((overlap * callees - 1.0) / (callees - 1.0)).clamp(0.0, 1.0)
}

/// The inverse of [`serial`]: o of a service with n callees that waits for s of all calls but the slowest.
pub(crate) fn overlap(serial: f64, callees: usize) -> f64 {
    let callees = f64::from(u32::try_from(callees).unwrap_or(u32::MAX)).max(1.0);
    (serial.clamp(0.0, 1.0) * (callees - 1.0) + 1.0) / callees
}
