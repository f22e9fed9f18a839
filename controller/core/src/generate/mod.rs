//! Random applications, drawn from a seed: those of the µPlacer simulators, and variants of them.
//!
//! | what | value | source |
//! |---|---|---|
//! | callers of a service | preferential attachment: power 0.9, zero appeal 3.125, round(Pareto(10)) callers | simulators |
//! | the same, dense | 2 or 3 callers | ours: where a service has several callers, the problem is hard |
//! | calls per request | uniform 0.1 to 0.5; users call service 0 once | simulators |
//! | CPU in use | uniform 5 to 40 cores a service at 10 user requests a second, whatever its share of the calls | simulators |
//! | replica | 1 core, autoscaled at 0.6 of it; at least 1 in the cloud, 0 at the edge | simulators |
//! | time inside | uniform 5 to 10 ms, then all times one factor, so that the delay with everything at the edge is 50 ms | simulators |
//! | answers | uniform 0.5 to 3.5 MB (sweep of size: 0.2 to 2 MB); service 0: 2 MB | simulators |
//! | memory | none (sweep of size: 2 GB a replica) | simulators |
//! | prices | core·h 0.028 at the edge, 0.0208 in the cloud; GB·h 0.014 and 0.0104; GB of traffic 0.02 | simulators |
//! | users, link | 50 requests a second, round trip 80 ms, 1 Gbit/s | simulators |
//! | further edges | rate, round trip and bandwidth each times uniform 0.5 to 1.5 | ours: the simulators know one edge |
//!
//! The simulators: `simulators/` of µPlacer, 2025-07-09. They also charge one cloud replica for the gateway, which no
//! placement changes; here it costs nothing.
//!
//! ```
//! use gma_core::generate::{Recipe, generate};
//! use gma_core::model::{DensePlacement, Problem, Shares, evaluate};
//!
//! let problem = Problem::try_new(generate(&Recipe::sweep(120), 7).unwrap()).unwrap();
//! let cloud_only = evaluate(&problem, &DensePlacement::cloud_only(&problem), &Shares::cloud_only(&problem));
//! // The one call that crosses: 80 ms and 2 MB at 1 Gbit/s, of which 0.8 is in use. The rest is the 50 ms.
//! let expected_ms = 80.0 + 16.0 / (1.0 - 0.8) + 50.0;
//! assert!((cloud_only.edges[0].delay.as_f64() / 1e3 - expected_ms).abs() < 1e-6);
//! ```

mod draw;
mod graph;

use std::fmt;

use crate::model::{Area, Call, Capacity, Edge, Pin, Prices, Service, ServiceIx, Site, Spec, Standby};
use crate::units::{
    BitsPerSecond, Bytes, CallsPerRequest, CpuCores, CpuSeconds, Gigabytes, Micros, Money, Ratio, Rps,
};
use draw::{Draw, Purpose};

/// Services at most: growing a graph takes the square of their number, at this one some seconds.
pub const MAX_SERVICES: usize = 10_000;
/// Edges at most: an instance for each service and edge is drawn.
pub const MAX_EDGES: usize = 64;

/// Cores that a service uses at [`CPU_RATE`] user requests a second.
const CPU_CORES: (f64, f64) = (5.0, 40.0);
const CPU_RATE: f64 = 10.0;
/// Time inside, before all are brought to [`Recipe::all_at_edge`].
const OWN_MS: (f64, f64) = (5.0, 10.0);
/// What a further edge's rate, round trip and bandwidth are multiplied by.
const OTHER_EDGE: (f64, f64) = (0.5, 1.5);

/// An application and its edges, before they are drawn.
#[derive(Clone, Debug, PartialEq)]
pub struct Recipe {
    /// Services, 1 to [`MAX_SERVICES`].
    pub services: usize,
    /// Callers of each.
    pub parents: Parents,
    /// Smallest and largest mean answer; uniform between them.
    pub response: (Bytes, Bytes),
    /// Mean answer of service 0, which users call.
    pub entry_response: Bytes,
    /// Memory request of a replica.
    pub memory: Gigabytes,
    /// Mean user delay with everything at the edge.
    pub all_at_edge: Micros,
    /// Edges, 1 to [`MAX_EDGES`].
    pub edges: usize,
    /// User requests a second at the first edge.
    pub rate: Rps,
    /// Round trip of the first edge.
    pub rtt: Micros,
    /// Bandwidth of the first edge; none: no limit.
    pub bandwidth: Option<BitsPerSecond>,
}

/// How many services call a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parents {
    /// The simulators': one, rarely two: nearly a tree.
    Pareto,
    /// Uniform from the first number to the second, as far as there are that many services.
    Between(u8, u8),
}

/// A recipe that can't be followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecipeError {
    /// The number of services.
    Services(usize),
    /// The number of edges.
    Edges(usize),
    /// The numbers of callers.
    Parents(u8, u8),
}

// === impl RecipeError ===

impl fmt::Display for RecipeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Services(count) => {
                write!(f, "{count} services can't be generated: give 1 to {MAX_SERVICES}")
            }
            Self::Edges(count) => write!(f, "{count} edges can't be generated: give 1 to {MAX_EDGES}"),
            Self::Parents(least, most) => write!(
                f,
                "a service can't have {least} to {most} callers: give at least 1, and the smaller number first"
            ),
        }
    }
}

impl std::error::Error for RecipeError {}

// === impl Recipe ===

impl Recipe {
    /// The application of the simulators' sweeps of target delay, round trip, bandwidth and depth (there 120 services).
    pub fn sweep(services: usize) -> Self {
        Self {
            services,
            parents: Parents::Pareto,
            response: (Bytes::nearest(0.5e6), Bytes::nearest(3.5e6)),
            entry_response: Bytes::nearest(2e6),
            memory: Gigabytes::ZERO,
            all_at_edge: Micros::nearest(50e3),
            edges: 1,
            rate: Rps::nearest(50.0),
            rtt: Micros::nearest(80e3),
            bandwidth: Some(BitsPerSecond::nearest(1e9)),
        }
    }

    /// The application of the simulators' sweep of size: smaller answers, replicas with memory.
    pub fn size(services: usize) -> Self {
        Self {
            response: (Bytes::nearest(0.2e6), Bytes::nearest(2e6)),
            memory: Gigabytes::nearest(2.0),
            ..Self::sweep(services)
        }
    }

    /// The same with two or three callers for every service.
    #[must_use]
    pub fn dense(self) -> Self {
        Self {
            parents: Parents::Between(2, 3),
            ..self
        }
    }

    /// The same with further edges.
    #[must_use]
    pub fn with_edges(self, edges: usize) -> Self {
        Self { edges, ..self }
    }

    fn check(&self) -> Result<(), RecipeError> {
        if !(1..=MAX_SERVICES).contains(&self.services) {
            return Err(RecipeError::Services(self.services));
        }
        if !(1..=MAX_EDGES).contains(&self.edges) {
            return Err(RecipeError::Edges(self.edges));
        }
        match self.parents {
            Parents::Between(least, most) if least == 0 || least > most => {
                Err(RecipeError::Parents(least, most))
            }
            Parents::Between(..) | Parents::Pareto => Ok(()),
        }
    }
}

/// Draws the application and the edges of a recipe. The same seed gives the same application, whatever the number of
/// edges, their links and the sizes of answers.
///
/// # Errors
/// The recipe asks for more than the bounds of this module, or for nothing.
pub fn generate(recipe: &Recipe, seed: u64) -> Result<Spec, RecipeError> {
    recipe.check()?;
    let calls = graph::calls(recipe, seed);
    Ok(Spec {
        cloud: area("cloud", 0.0208, 0.0104),
        edges: edges(recipe, seed),
        services: services(recipe, &calls, seed),
        calls,
        standby: Standby::Failover,
    })
}

fn area(name: &str, cpu_core_hour: f64, memory_gb_hour: f64) -> Area {
    Area {
        name: name.into(),
        prices: Prices {
            cpu_core_hour: Money::nearest(cpu_core_hour),
            memory_gb_hour: Money::nearest(memory_gb_hour),
        },
        localities: 1,
    }
}

fn edges(recipe: &Recipe, seed: u64) -> Vec<Edge> {
    let mut draw = Draw::new(seed, Purpose::Edges);
    let mut factors = |edge: usize| {
        let drawn = [OTHER_EDGE; 3].map(|range| draw.between(range));
        if edge == 0 { [1.0; 3] } else { drawn }
    };
    (0..recipe.edges)
        .map(|edge| {
            let [rate, rtt, bandwidth] = factors(edge);
            Edge {
                standby: None,
                area: area(&format!("edge-{}", edge + 1), 0.028, 0.014),
                rtt: Micros::nearest(recipe.rtt.as_f64() * rtt),
                bandwidth: recipe
                    .bandwidth
                    .map(|first| BitsPerSecond::nearest(first.as_f64() * bandwidth)),
                traffic_gb: Money::nearest(0.02),
                rate: Rps::nearest(recipe.rate.as_f64() * rate),
                user_calls: vec![(ServiceIx(0), CallsPerRequest::nearest(1.0))],
                measured: None,
                capacity: Capacity::default(),
                target: None,
            }
        })
        .collect()
}

fn services(recipe: &Recipe, calls: &[Call], seed: u64) -> Vec<Service> {
    let mut draw = Draw::new(seed, Purpose::Services);
    let counts = calls_per_user_request(recipe.services, calls);
    let mut services: Vec<Service> = counts
        .iter()
        .enumerate()
        .map(|(position, count)| service(recipe, position, *count, &mut draw))
        .collect();
    let sum_us: f64 = services
        .iter()
        .zip(&counts)
        .flat_map(|(service, count)| service.sites.first().map(|site| count * site.own.as_f64()))
        .sum();
    for site in services.iter_mut().flat_map(|service| &mut service.sites) {
        site.own = Micros::nearest(site.own.as_f64() * recipe.all_at_edge.as_f64() / sum_us);
    }
    services
}

fn service(recipe: &Recipe, position: usize, calls: f64, draw: &mut Draw) -> Service {
    // All three are drawn for every service, used or not: position k of one recipe is position k of another.
    let (cores, own_ms, size) = (draw.between(CPU_CORES), draw.between(OWN_MS), draw.unit());
    let (smallest, largest) = (recipe.response.0.as_f64(), recipe.response.1.as_f64());
    let site = |min_replicas| Site {
        own: Micros::nearest(own_ms * 1e3),
        cpu_request: CpuCores::nearest(1.0),
        memory_request: recipe.memory,
        threshold: Ratio::nearest(0.6),
        min_replicas,
    };
    let at_edges = std::iter::repeat_n(site(0), recipe.edges);
    Service {
        name: format!("s{position}").as_str().into(),
        response: if position == 0 {
            recipe.entry_response
        } else {
            Bytes::nearest((smallest + (largest - smallest) * size).round())
        },
        overlap: Ratio::nearest(1.0),
        hop_local: Micros::ZERO,
        hop_remote: Micros::ZERO,
        cpu_per_request: CpuSeconds::nearest(cores / (CPU_RATE * calls)),
        pin: Pin::Free,
        sites: std::iter::once(site(1)).chain(at_edges).collect(),
    }
}

/// N_j = Σ_i N_i f_ij, 1 for the entry. Callers come before their callees.
fn calls_per_user_request(services: usize, calls: &[Call]) -> Vec<f64> {
    let mut counts = vec![0.0; services];
    if let Some(entry) = counts.first_mut() {
        *entry = 1.0;
    }
    for call in calls {
        let from = counts.get(call.caller.position()).copied().unwrap_or_default();
        if let Some(count) = counts.get_mut(call.callee.position()) {
            *count += from * call.per_request.as_f64();
        }
    }
    counts
}
