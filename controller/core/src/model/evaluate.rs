//! What a placement and its routing bring about: calls, delay, use, replicas, cost.
//!
//! Symbols as in the crate's README: i, j services, a, b areas, f calls per request, w shares, N calls per user request,
//! R requests a second, L bytes of an answer, B bandwidth, ρ utilisation, σ load spread, o overlap, h hop.

use serde::Serialize;

use super::cost::{self, Cost};
use super::graph::Block;
use super::ix::{AreaIx, EdgeIx, Grid, ServiceIx};
use super::linear;
use super::placement::DensePlacement;
use super::problem::Problem;
use super::shares::Shares;
use super::spec::{Edge, Service};
use crate::units::{BitsPerSecond, Micros, Ratio};

/// Longest delay and longest transfer that are told apart, 1e5 s (the reference's cap): beyond it a link is saturated
/// and the figure has no meaning but "too much".
pub const LONGEST_US: f64 = 1e11;

/// Load spread of a saturated link per unit of T/B (the reference's): finite, steep, and still less for less traffic.
const SATURATED_SPREAD: f64 = 1e6;

/// What a placement and its routing bring about.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Evaluation {
    /// By edge, in the problem's order.
    pub edges: Vec<EdgeEvaluation>,
    /// Requests a second that each instance receives, of all users.
    pub rates: Grid<f64>,
    /// CPU in use by each instance, cores.
    pub cpu_cores: Grid<f64>,
    /// Replicas of each instance.
    pub replicas: Grid<u32>,
    /// Cost by term.
    pub cost: Cost,
}

/// What the users of an edge see, and its link.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EdgeEvaluation {
    /// Mean user delay: internal + network, at most [`LONGEST_US`].
    pub delay: Micros,
    /// Its part inside instances.
    pub internal: Micros,
    /// Its part on hops and between areas.
    pub network: Micros,
    /// Answers from the cloud to the edge, as offered; may exceed the bandwidth.
    pub traffic: BitsPerSecond,
    /// Traffic over bandwidth, at most 1; 0 without a limit.
    pub utilisation: Ratio,
    /// Calls that reach each instance, per user request at this edge.
    pub calls: Grid<f64>,
}

/// An edge's link under load.
#[derive(Clone, Copy, Debug)]
struct Link {
    rtt_us: f64,
    traffic_bps: f64,
    utilisation: f64,
    /// Time of a byte, load spread included, µs.
    byte_us: f64,
}

/// Time inside instances and between them, µs.
#[derive(Clone, Copy, Debug, Default)]
struct Spent {
    internal: f64,
    network: f64,
}

/// Evaluates a placement with the routing that `shares` say. See [`super`] for the formulas.
///
/// The result has no NaN and no infinity for any problem. Time: O(edges · calls · areas²); cycles add the cube of
/// their size.
pub fn evaluate(problem: &Problem, placement: &DensePlacement, shares: &Shares) -> Evaluation {
    let calls: Vec<Grid<f64>> = problem
        .edges()
        .map(|(edge, value)| calls_per_user_request(problem, edge, value, shares))
        .collect();
    let mut rates = Grid::new(problem.services_len(), problem.edges_len());
    for ((_, edge), calls) in problem.edges().zip(&calls) {
        for (service, area) in cells(problem) {
            rates.add(service, area, edge.rate.as_f64() * calls.get(service, area));
        }
    }
    let links: Vec<Link> = problem
        .edges()
        .map(|(edge, value)| link(problem, edge, value, shares, &rates))
        .collect();
    let times = Times {
        problem,
        shares,
        links: &links,
    };
    let spent = times.below();
    let edges = problem
        .edges()
        .zip(calls)
        .zip(&links)
        .map(|(((edge, value), calls), link)| {
            let Spent { internal, network } = times.of_user(edge, value, &spent);
            EdgeEvaluation {
                delay: Micros::nearest((internal + network).min(LONGEST_US)),
                internal: Micros::nearest(internal),
                network: Micros::nearest(network),
                traffic: BitsPerSecond::nearest(link.traffic_bps),
                utilisation: Ratio::nearest(link.utilisation),
                calls,
            }
        })
        .collect();
    let cpu_cores = cost::cpu_cores(problem, &rates);
    let replicas = cost::replicas(problem, placement, &cpu_cores);
    let used = links.iter().zip(problem.edges());
    let used = used
        .map(|(link, (_, edge))| cost::used_bps(link.traffic_bps, edge))
        .collect::<Vec<_>>();
    Evaluation {
        cost: cost::cost(problem, &replicas, &used),
        edges,
        rates,
        cpu_cores,
        replicas,
    }
}

fn cells(problem: &Problem) -> impl Iterator<Item = (ServiceIx, AreaIx)> {
    let areas = problem.areas();
    problem
        .services()
        .flat_map(move |(service, _)| areas.clone().map(move |area| (service, area)))
}

/// N = (I − Fᵀ)⁻¹·u with F over instances, F[(i,a)][(j,b)] = f_ij·w[a][j][b]: followed from callers to callees, exactly
/// (no residues where nothing is called), with a small solve for each cycle.
fn calls_per_user_request(problem: &Problem, edge: EdgeIx, value: &Edge, shares: &Shares) -> Grid<f64> {
    let mut calls = Grid::new(problem.services_len(), problem.edges_len());
    for &(service, per_request) in &value.user_calls {
        for area in problem.areas() {
            calls.add(
                service,
                area,
                per_request.as_f64() * shares.get(AreaIx::Edge(edge), service, area),
            );
        }
    }
    for block in problem.graph().callees_first().rev() {
        if block.cyclic {
            let mut right = at_block(problem, block, |service, area| calls.get(service, area));
            let mut matrix = block_matrix(problem, block, shares, Direction::ToCallees);
            linear::solve(&mut matrix, &mut right);
            let solved = block_cells(problem, block).zip(right);
            solved.for_each(|((service, area), value)| calls.set(service, area, value.max(0.0)));
        }
        for (service, area) in block_cells(problem, block) {
            let here = calls.get(service, area);
            if here == 0.0 {
                continue;
            }
            for &(callee, f) in problem.calls_of(service) {
                if block.cyclic && block.members.contains(&callee) {
                    continue;
                }
                for to in problem.areas() {
                    calls.add(callee, to, here * f * shares.get(area, callee, to));
                }
            }
        }
    }
    calls
}

/// T = 8·Σ R(i,e)·f_ij·(1 − w[e][j][e])·L_j over the callers at the edge, its gateway included.
fn link(problem: &Problem, edge: EdgeIx, value: &Edge, shares: &Shares, rates: &Grid<f64>) -> Link {
    let here = AreaIx::Edge(edge);
    let bits = |service: ServiceIx| {
        let away: f64 = problem
            .areas()
            .filter(|area| *area != here)
            .map(|area| shares.get(here, service, area))
            .sum();
        let size = problem
            .service(service)
            .map_or(0.0, |service| service.response.as_f64());
        8.0 * away * size
    };
    let of_users: f64 = value
        .user_calls
        .iter()
        .map(|(service, f)| f.as_f64() * bits(*service))
        .sum();
    let of_services: f64 = problem
        .services()
        .map(|(service, _)| {
            let rate = rates.get(service, here);
            if rate == 0.0 {
                return 0.0;
            }
            rate * problem
                .calls_of(service)
                .iter()
                .map(|&(callee, f)| f * bits(callee))
                .sum::<f64>()
        })
        .sum();
    let traffic_bps = value.rate.as_f64() * of_users + of_services;
    let bandwidth = value.bandwidth;
    let utilisation = bandwidth.map_or(0.0, |bandwidth| (traffic_bps / bandwidth.as_f64()).min(1.0));
    let byte_us = byte_us(traffic_bps, bandwidth);
    Link {
        rtt_us: value.rtt.as_f64(),
        traffic_bps,
        utilisation,
        byte_us,
    }
}

/// Time of a byte on a link, µs: 8·10⁶·σ/B with σ = 1/(1 − T/B) below saturation and 10⁶·T/B from there on; 0 without a
/// limit.
pub(crate) fn byte_us(traffic_bps: f64, bandwidth: Option<BitsPerSecond>) -> f64 {
    let Some(bandwidth) = bandwidth else { return 0.0 };
    let load = traffic_bps / bandwidth.as_f64();
    let spread = if load < 1.0 { 1.0 / (1.0 - load) } else { SATURATED_SPREAD * load };
    8e6 / bandwidth.as_f64() * spread
}

#[derive(Clone, Copy, PartialEq)]
enum Direction {
    ToCallees,
    ToCallers,
}

fn block_cells<'a>(problem: &'a Problem, block: &'a Block) -> impl Iterator<Item = (ServiceIx, AreaIx)> + 'a {
    block
        .members
        .iter()
        .flat_map(|&service| problem.areas().map(move |area| (service, area)))
}

fn at_block(problem: &Problem, block: &Block, value: impl Fn(ServiceIx, AreaIx) -> f64) -> Vec<f64> {
    block_cells(problem, block)
        .map(|(service, area)| value(service, area))
        .collect()
}

/// I − Fᵀ (calls) or I − o·F (delay) over the instances of a cycle.
fn block_matrix(problem: &Problem, block: &Block, shares: &Shares, direction: Direction) -> Vec<f64> {
    let f = |caller: (ServiceIx, AreaIx), callee: (ServiceIx, AreaIx)| {
        let row = problem.calls_of(caller.0);
        let calls = row
            .iter()
            .find(|(service, _)| *service == callee.0)
            .map_or(0.0, |(_, f)| *f);
        calls * shares.get(caller.1, callee.0, callee.1)
    };
    let mut matrix = Vec::new();
    for row in block_cells(problem, block) {
        for column in block_cells(problem, block) {
            let off = match direction {
                Direction::ToCallees => f(column, row),
                Direction::ToCallers => overlap(problem, row.0) * f(row, column),
            };
            matrix.push(if row == column { 1.0 - off } else { -off });
        }
    }
    matrix
}

fn overlap(problem: &Problem, service: ServiceIx) -> f64 {
    problem
        .service(service)
        .map_or(1.0, |service| service.overlap.as_f64())
}

/// The delay's recursion from callees to callers.
struct Times<'a> {
    problem: &'a Problem,
    shares: &'a Shares,
    links: &'a [Link],
}

// === impl Times ===

impl Times<'_> {
    /// D(i,a) = own(i,a) + o_i·Σ_j f_ij Σ_b w[a][j][b]·(net(a,b,j) + D(j,b)), of every instance.
    fn below(&self) -> Grid<Spent> {
        let mut spent = Grid::new(self.problem.services_len(), self.problem.edges_len());
        for block in self.problem.graph().callees_first() {
            let here: Vec<Spent> = block_cells(self.problem, block)
                .map(|(service, area)| {
                    let called = self.called(area, self.problem.calls_of(service).iter().copied(), &spent);
                    let overlap = overlap(self.problem, service);
                    let own = self
                        .problem
                        .site(service, area)
                        .map_or(0.0, |site| site.own.as_f64());
                    Spent {
                        internal: own + overlap * called.internal,
                        network: overlap * called.network,
                    }
                })
                .collect();
            let here = if block.cyclic {
                self.solved(block, &here)
            } else {
                here
            };
            for ((service, area), value) in block_cells(self.problem, block).zip(here) {
                spent.set(service, area, value);
            }
        }
        spent
    }

    fn of_user(&self, edge: EdgeIx, value: &Edge, spent: &Grid<Spent>) -> Spent {
        let calls = value.user_calls.iter().map(|(service, f)| (*service, f.as_f64()));
        self.called(AreaIx::Edge(edge), calls, spent)
    }

    /// Σ_j f_j Σ_b w·(net + D). Services of a block that is being worked on have D = 0 still.
    fn called(
        &self,
        from: AreaIx,
        calls: impl Iterator<Item = (ServiceIx, f64)>,
        spent: &Grid<Spent>,
    ) -> Spent {
        let mut sum = Spent::default();
        for (callee, f) in calls {
            let Some(service) = self.problem.service(callee) else {
                continue;
            };
            for to in self.problem.areas() {
                let share = f * self.shares.get(from, callee, to);
                if share > 0.0 {
                    let below = spent.get(callee, to);
                    sum.internal += share * below.internal;
                    sum.network += share * (self.net(from, to, service) + below.network);
                }
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
        let transfer = link(from).map_or(0.0, |link| {
            (link.byte_us * callee.response.as_f64()).min(LONGEST_US)
        });
        callee.hop_remote.as_f64() + rtt + transfer
    }

    fn solved(&self, block: &Block, right: &[Spent]) -> Vec<Spent> {
        let matrix = block_matrix(self.problem, block, self.shares, Direction::ToCallers);
        let solve = |part: fn(&Spent) -> f64| {
            let mut values: Vec<f64> = right.iter().map(part).collect();
            linear::solve(&mut matrix.clone(), &mut values);
            values
        };
        let (internal, network) = (solve(|spent| spent.internal), solve(|spent| spent.network));
        internal
            .into_iter()
            .zip(network)
            .map(|(internal, network)| Spent { internal, network })
            .collect()
    }
}
