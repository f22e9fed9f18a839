//! A problem laid out for repeated evaluation: flat rows, callers before callees, everything constant computed once.

use super::calls::calls_per_user_request;
use super::cost;
use super::delay::{Times, serial};
use super::ix::{AreaIx, EdgeIx, ServiceIx};
use super::problem::Problem;
use super::shares::{Shares, edge_share};
use super::spec::Site;
use crate::units::BitsPerSecond;

/// A service that lies on no cycle.
const NONE: u32 = u32::MAX;

/// Constants of a problem under the routing at rest.
#[derive(Clone, Debug)]
pub(crate) struct Layout<'p> {
    pub(crate) problem: &'p Problem,
    /// Services, callers before callees.
    pub(crate) order: Vec<ServiceIx>,
    /// Position in `order`.
    pub(crate) rank: Vec<usize>,
    /// Who calls a service, with f.
    pub(crate) callers: Rows,
    /// Members of the cycles.
    pub(crate) cycles: Vec<Vec<ServiceIx>>,
    cycle_of: Vec<u32>,
    /// s, where some service waits for less than all of its calls.
    pub(crate) serial: Option<Vec<f64>>,
    /// Requests a second of all users that reach a service, wherever it runs.
    pub(crate) rate: Vec<f64>,
    calls: Vec<Vec<f64>>,
    pub(crate) cpu_per_request: Vec<f64>,
    pub(crate) cloud: Vec<Replica>,
    pub(crate) edges: Vec<EdgeRows>,
}

/// A sparse matrix by rows.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rows {
    starts: Vec<usize>,
    cells: Vec<(ServiceIx, f64)>,
}

/// What an instance needs and costs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Replica {
    pub(crate) site: Site,
    /// One replica for an hour.
    pub(crate) price: f64,
}

/// Constants of an edge, by service where they are vectors.
#[derive(Clone, Debug)]
pub(crate) struct EdgeRows {
    /// w: share of its callers that use the edge's own instance.
    pub(crate) share: f64,
    pub(crate) rate: f64,
    pub(crate) bandwidth: Option<BitsPerSecond>,
    /// Price of a bit/s for an hour.
    pub(crate) bps_price: f64,
    /// Calls of a user request.
    pub(crate) user: Vec<f64>,
    /// A call into the cloud, without the transfer: round trip, hop and the callee's delay there, µs.
    pub(crate) remote_us: Vec<f64>,
    /// A call within the edge: hop, µs.
    pub(crate) hop_us: Vec<f64>,
    pub(crate) own_us: Vec<f64>,
    pub(crate) bytes: Vec<f64>,
    pub(crate) largest: f64,
    pub(crate) sites: Vec<Replica>,
}

// === impl Rows ===

impl Rows {
    fn transposed(problem: &Problem) -> Self {
        let mut counts = vec![0; problem.services_len() + 1];
        let all = || {
            problem
                .services()
                .flat_map(|(caller, _)| problem.calls_of(caller).iter().map(move |&(j, f)| (caller, j, f)))
        };
        for (_, callee, _) in all() {
            if let Some(count) = counts.get_mut(callee.position() + 1) {
                *count += 1;
            }
        }
        for at in 1..counts.len() {
            let before = counts.get(at - 1).copied().unwrap_or_default();
            if let Some(count) = counts.get_mut(at) {
                *count += before;
            }
        }
        let mut next = counts.clone();
        let mut cells = vec![(ServiceIx(0), 0.0); counts.last().copied().unwrap_or_default()];
        for (caller, callee, f) in all() {
            if let Some(at) = next.get_mut(callee.position()) {
                if let Some(cell) = cells.get_mut(*at) {
                    *cell = (caller, f);
                }
                *at += 1;
            }
        }
        Self {
            starts: counts,
            cells,
        }
    }

    pub(crate) fn of(&self, service: ServiceIx) -> &[(ServiceIx, f64)] {
        let at = |position: usize| self.starts.get(position).copied().unwrap_or_default();
        let (from, to) = (at(service.position()), at(service.position() + 1));
        self.cells.get(from..to).unwrap_or_default()
    }
}

// === impl Layout ===

impl<'p> Layout<'p> {
    pub(crate) fn new(problem: &'p Problem) -> Self {
        let count = problem.services_len();
        let blocks = || problem.graph().callees_first().rev();
        let order: Vec<ServiceIx> = blocks().flat_map(|block| block.members.iter().copied()).collect();
        let mut rank = vec![0; count];
        for (at, service) in order.iter().enumerate() {
            if let Some(rank) = rank.get_mut(service.position()) {
                *rank = at;
            }
        }
        let cycles: Vec<Vec<ServiceIx>> = blocks()
            .filter(|block| block.cyclic)
            .map(|block| block.members.clone())
            .collect();
        let mut cycle_of = vec![NONE; count];
        for (at, members) in (0_u32..).zip(&cycles) {
            for member in members {
                if let Some(cycle) = cycle_of.get_mut(member.position()) {
                    *cycle = at;
                }
            }
        }
        let serial: Vec<f64> = problem
            .services()
            .map(|(service, value)| serial(value.overlap.as_f64(), problem.calls_of(service).len()))
            .collect();
        let mut this = Self {
            problem,
            order,
            rank,
            callers: Rows::transposed(problem),
            cycles,
            cycle_of,
            serial: serial.iter().any(|s| *s < 1.0).then_some(serial),
            rate: Vec::new(),
            calls: Vec::new(),
            cpu_per_request: problem
                .services()
                .map(|(_, service)| service.cpu_per_request.as_f64())
                .collect(),
            cloud: replicas(problem, AreaIx::Cloud),
            edges: Vec::new(),
        };
        let below = Times {
            problem,
            shares: &Shares::cloud_only(problem),
            links: &[],
        }
        .below();
        let cloud_us: Vec<f64> = problem
            .services()
            .map(|(service, _)| below.get(service, AreaIx::Cloud).whole())
            .collect();
        this.edges = problem
            .edges()
            .map(|(edge, _)| EdgeRows::new(problem, edge, &cloud_us))
            .collect();
        this.count_calls();
        this
    }

    /// The cycle that a service lies on.
    pub(crate) fn cycle(&self, service: ServiceIx) -> Option<&[ServiceIx]> {
        let at = self.cycle_of.get(service.position()).copied()?;
        self.cycles.get(at as usize).map(Vec::as_slice)
    }

    /// Calls per user request of an edge that reach a service, wherever it runs.
    pub(crate) fn calls(&self, edge: EdgeIx, service: ServiceIx) -> f64 {
        let row = self.calls.get(edge.position());
        row.and_then(|row| row.get(service.position()).copied())
            .unwrap_or_default()
    }

    fn count_calls(&mut self) {
        let problem = self.problem;
        let cloud = Shares::cloud_only(problem);
        self.rate = vec![0.0; problem.services_len()];
        for (edge, value) in problem.edges() {
            let calls = calls_per_user_request(problem, edge, value, &cloud);
            let calls: Vec<f64> = problem
                .services()
                .map(|(service, _)| calls.get(service, AreaIx::Cloud))
                .collect();
            for (rate, calls) in self.rate.iter_mut().zip(&calls) {
                *rate += value.rate.as_f64() * calls;
            }
            self.calls.push(calls);
        }
    }
}

// === impl EdgeRows ===

impl EdgeRows {
    fn new(problem: &Problem, edge: EdgeIx, cloud_us: &[f64]) -> Self {
        let area = AreaIx::Edge(edge);
        let spec = problem.edge(edge);
        let rtt = spec.map_or(0.0, |edge| edge.rtt.as_f64());
        let mut user = vec![0.0; problem.services_len()];
        for (service, calls) in spec.map_or(&[][..], |edge| &edge.user_calls) {
            if let Some(cell) = user.get_mut(service.position()) {
                *cell = calls.as_f64();
            }
        }
        let services = || problem.services().map(|(_, service)| service);
        let bytes: Vec<f64> = services().map(|service| service.response.as_f64()).collect();
        let sites = replicas(problem, area);
        Self {
            share: edge_share(problem, edge),
            rate: spec.map_or(0.0, |edge| edge.rate.as_f64()),
            bandwidth: spec.and_then(|edge| edge.bandwidth),
            bps_price: spec.map_or(0.0, cost::bps_price),
            user,
            remote_us: services()
                .zip(cloud_us)
                .map(|(service, cloud)| rtt + service.hop_remote.as_f64() + cloud)
                .collect(),
            hop_us: services().map(|service| service.hop_local.as_f64()).collect(),
            own_us: sites.iter().map(|replica| replica.site.own.as_f64()).collect(),
            largest: bytes.iter().copied().fold(0.0, f64::max),
            bytes,
            sites,
        }
    }
}

fn replicas(problem: &Problem, area: AreaIx) -> Vec<Replica> {
    problem
        .services()
        .filter_map(|(service, _)| {
            Some(Replica {
                site: *problem.site(service, area)?,
                price: cost::replica_price(problem, service, area),
            })
        })
        .collect()
}
