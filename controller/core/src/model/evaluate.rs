//! What a placement and its routing bring about: calls, delay, use, replicas, cost.

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
///
/// # Calls
/// N_jb = Σ_i,a N_ia f_ij w_ajb + u_j w_ejb, the traffic equations of an open network of queues (Jackson, Networks of Waiting
/// Lines, 1957). N_jb: calls to j in area b per user request; f_ij: calls of i to j per request received; w_ajb: share of the
/// calls from area a to j that go to b; u_j: calls of the gateway, in area e, to j.
///
/// `front` and `cart` at the edge, each with 1 % of its callers left on the cloud. Who is answered there goes on there.
///
/// ```
/// use gma_core::model::{AreaIx, DensePlacement, EdgeIx, ServiceIx, Shares, evaluate};
/// # let problem = gma_core::example::problem();
/// let (front, cart, edge) = (ServiceIx(0), ServiceIx(1), EdgeIx(0));
/// let mut placement = DensePlacement::cloud_only(&problem);
/// [front, cart].iter().for_each(|service| placement.set(edge, *service, true));
/// let result = evaluate(&problem, &placement, &Shares::resting(&problem, &placement));
/// let calls = |service, area, expected: f64| (result.edges[0].calls.get(service, area) - expected).abs() < 1e-12;
/// assert!(calls(front, AreaIx::Edge(edge), 0.99));
/// assert!(calls(cart, AreaIx::Edge(edge), 0.99 * 0.99));
/// assert!(calls(cart, AreaIx::Cloud, 0.01 + 0.99 * 0.01));
/// ```
///
/// # Delay
/// D_ia = own_ia + max_j x_j + s_i (Σ_j x_j − max_j x_j), x_j = f_ij Σ_b w_ajb (net_abj + D_jb). D_ia: time of a request in i in
/// area a; own_ia: without its calls; net_abj: the hop, and between areas round trip and transfer. s_i, of the overlap o_i of n
/// callees: (o_i n − 1) / (n − 1), so that n calls of one length take o_i times their sum. With s = 1 it is the reference's sum;
/// with s = 0 a request waits for its slowest call alone, as on a project network's critical path (Kelley and Walker, 1959).
///
/// `front` (5 ms) calls `cart` (10 ms) and `users` (5 ms): one after the other, half overlapped, at once.
///
/// ```
/// use gma_core::model::{DensePlacement, Problem, Shares, evaluate};
/// use gma_core::units::Ratio;
/// # let example = gma_core::example::problem();
/// let internal_us = |overlap: f64| {
///     let mut spec = example.spec().clone();
///     spec.services[0].overlap = Ratio::nearest(overlap);
///     let problem = Problem::try_new(spec).unwrap();
///     let placement = DensePlacement::cloud_only(&problem);
///     evaluate(&problem, &placement, &Shares::cloud_only(&problem)).edges[0].internal.as_f64()
/// };
/// assert_eq!([1.0, 0.75, 0.5].map(internal_us), [20_000.0, 17_500.0, 15_000.0]);
/// ```
///
/// # Link
/// T_e = 8 Σ_i R_ie f_ij (1 − w_eje) L_j bit/s (the gateway's calls included) are offered to a bandwidth B;
/// with ρ = T/B a byte takes 8 σ / B, σ = 1/(1 − ρ) below saturation: a queue with processor sharing (Kleinrock, Queueing
/// Systems, vol. 2, ch. 4). From ρ = 1 on σ = 10⁶ T/B, the reference's: no delay, but still less for less traffic, up to
/// [`LONGEST_US`]. R_ie: requests a second of i at e; f_ij: calls of i to j; w_eje: share that stays; L_j: bytes of an answer.
///
/// 100 answers of 10 kB a second, 8 Mbit/s, over links of 1 Gbit/s, 10 Mbit/s and none that matters:
///
/// ```
/// use gma_core::model::{DensePlacement, Problem, Shares, evaluate};
/// use gma_core::units::BitsPerSecond;
/// # let example = gma_core::example::problem();
/// let transfer_us = |bandwidth: Option<f64>| {
///     let mut spec = example.spec().clone();
///     spec.edges[0].bandwidth = bandwidth.map(BitsPerSecond::nearest);
///     let problem = Problem::try_new(spec).unwrap();
///     let placement = DensePlacement::cloud_only(&problem);
///     let edge = evaluate(&problem, &placement, &Shares::cloud_only(&problem)).edges.remove(0);
///     (edge.network.as_f64() - 80_000.0).round()
/// };
/// assert_eq!(transfer_us(Some(1e9)), 81.0); // 80 µs / (1 − 0.008)
/// assert_eq!(transfer_us(Some(1e7)), 40_000.0); // 8 ms / (1 − 0.8)
/// assert_eq!(transfer_us(None), 0.0);
/// ```
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
