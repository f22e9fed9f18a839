//! What a placement and its routing bring about: calls, delay, use, replicas, cost.
//!
//! Symbols as in the crate's README: i, j services, a, b areas, f calls per request, w shares, N calls per user request,
//! R requests a second, L bytes of an answer, B bandwidth, ρ utilisation, σ load spread, o overlap, h hop.

use serde::Serialize;

use super::calls::calls_per_user_request;
use super::cost::{self, Cost};
use super::delay::{Link, Spent, Times};
use super::ix::{AreaIx, EdgeIx, Grid, ServiceIx};
use super::placement::DensePlacement;
use super::problem::Problem;
use super::shares::Shares;
use super::spec::Edge;
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

/// Time of a byte on a link, µs: 8·10⁶·σ/B with σ = 1/(1 − T/B), at most 10⁶, below saturation and 10⁶·T/B from there on;
/// 0 without a limit. (The reference has no "at most": there σ falls to 10⁶ where the link becomes saturated.)
pub(crate) fn byte_us(traffic_bps: f64, bandwidth: Option<BitsPerSecond>) -> f64 {
    let Some(bandwidth) = bandwidth else { return 0.0 };
    let load = traffic_bps / bandwidth.as_f64();
    let spread = if load < 1.0 {
        (1.0 / (1.0 - load)).min(SATURATED_SPREAD)
    } else {
        SATURATED_SPREAD * load
    };
    8e6 / bandwidth.as_f64() * spread
}
