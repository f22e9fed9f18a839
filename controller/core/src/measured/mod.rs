//! A problem from what was measured.
//!
//! Predictions are anchored: predicted = measured now + model(after) − model(now), so that what the model leaves out and no
//! move changes cancels (the correction of a model's output by its error, as in internal model control; Garcia and Morari,
//! 1982). The model says 100 ms for the example of [`crate::model`] and 20 ms with all of it at the edge and no standby. Where
//! 130 ms are measured, 50 ms are predicted:
//!
//! ```
//! use gma_core::model::{DensePlacement, Problem, Standby};
//! use gma_core::solver::{Budget, solve};
//! use gma_core::units::Micros;
//! # let mut spec = gma_core::example::problem().spec().clone();
//! spec.standby = Standby::Failover;
//! spec.edges[0].bandwidth = None;
//! spec.edges[0].measured = Some(Micros::try_new(130_000.0).unwrap());
//! spec.edges[0].target = Some(Micros::try_new(60_000.0).unwrap());
//! let problem = Problem::try_new(spec).unwrap();
//! let solution = solve(&problem, &DensePlacement::cloud_only(&problem), Budget::default());
//! assert!((solution.edges[0].predicted.as_f64() - 50_000.0).abs() < 1e-6);
//! ```
//!
//! The call graph, sizes, own times and hops come from a [`Snapshot`]; what cannot be measured (prices, requests, pins,
//! bandwidth) from [`Settings`]. What is missing is an error that names it, never a 0. Formulas: the crate's README,
//! "From measurements".

mod learned;
mod quantile;
mod settings;
mod sums;
mod times;

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use crate::cluster::{Cluster, Phase};
use crate::ids::{AreaName, ServiceName};
use crate::model::{
    AreaIx, Call, DensePlacement, Edge, EdgeIx, Problem, ProblemError, Service, ServiceIx, Site, Spec,
    overlap,
};
use crate::snapshot::{Caller, EdgeSnapshot, Measured, Snapshot};
use crate::units::{Bytes, CallsPerRequest, CpuSeconds, Micros, Ratio, Rps};

pub use learned::{Learned, MAX_LEARNED};
pub use quantile::{Candidate, MEAN_TARGETS, Tail, plan_for_statistic};
pub use settings::{EdgeSettings, ServiceSettings, Settings};

use sums::Sums;
use times::Times;

/// What a problem needs and was not measured.
#[derive(Clone, Debug, PartialEq)]
pub enum NotMeasured {
    /// The settings have no such edge.
    UnknownEdge(AreaName),
    /// No user delay at the edge in the window.
    UserDelay(AreaName),
    /// No round trip between the edge and the cloud in the window.
    Rtt(AreaName),
    /// The edge's gateway called no service in the window.
    UserCalls(AreaName),
    /// The service is called and reported nothing that it received.
    Received(ServiceName),
    /// A measured number is not finite or out of range.
    OutOfRange {
        /// Which.
        what: String,
        /// The number.
        value: f64,
    },
    /// The measured call graph can't be evaluated.
    Graph(ProblemError),
}

impl fmt::Display for NotMeasured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownEdge(edge) => write!(f, "{edge} is no edge of the settings"),
            Self::UserDelay(edge) => write!(f, "no user delay of {edge} in the window"),
            Self::Rtt(edge) => write!(f, "no round trip between {edge} and the cloud in the window"),
            Self::UserCalls(edge) => write!(f, "the gateway of {edge} called no service in the window"),
            Self::Received(service) => {
                write!(
                    f,
                    "{service} is called, and its proxies reported no request that they received"
                )
            }
            Self::OutOfRange { what, value } => write!(f, "{what} is {value}"),
            Self::Graph(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for NotMeasured {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Graph(error) => Some(error),
            _ => None,
        }
    }
}

// === impl Problem ===

impl Problem {
    /// The problem of all edges of the settings together, each with its own users, round trip, bandwidth, prices and
    /// capacity. Everything that is known of an edge is in it; what must be known is what the `asked` edges need. An edge
    /// without its whole user delay, round trip and gateway's calls has no `measured` delay to predict from, and its users
    /// are the load that was seen. No edge has a target: see [`Problem::with_target`].
    ///
    /// # Errors
    /// What the first of the `asked` edges lacks. A later snapshot may have it.
    pub fn from_measurements(
        snapshot: &Snapshot,
        cluster: &Cluster,
        settings: &Settings,
        asked: &[AreaName],
    ) -> Result<Self, NotMeasured> {
        let known = |name: &AreaName| settings.edges.iter().any(|edge| edge.area.name == *name);
        if let Some(unknown) = asked.iter().find(|name| !known(name)) {
            return Err(NotMeasured::UnknownEdge(unknown.clone()));
        }
        let names = services(snapshot, cluster, settings);
        let sums = Sums::of(snapshot, settings, &names);
        let edges = settings.edges.iter().enumerate().map(|(at, value)| {
            let users = Users::of(snapshot, &value.area.name, EdgeIx::at(at), &sums);
            users.edge(value, asked.contains(&value.area.name))
        });
        let edges: Vec<Edge> = edges.collect::<Result<_, _>>()?;
        let of_asked = edges.iter().filter(|edge| asked.contains(&edge.area.name));
        if let Some(silent) = silent(&names, &sums, of_asked) {
            return Err(NotMeasured::Received(silent));
        }
        let times = Times::new(&sums, &edges, snapshot);
        let services = names.iter().enumerate().map(|(at, name)| {
            service(
                name,
                ServiceIx::at(at),
                &Parts {
                    sums: &sums,
                    times: &times,
                    settings,
                    cluster,
                    snapshot,
                },
            )
        });
        let calls = sums.graph().map(|(caller, callee, calls)| Call {
            caller,
            callee,
            per_request: CallsPerRequest::nearest(calls),
        });
        Self::try_new(Spec {
            cloud: settings.cloud.clone(),
            services: services.collect(),
            calls: calls.collect(),
            edges,
            standby: settings.standby,
        })
        .map_err(NotMeasured::Graph)
    }
}

// === impl DensePlacement ===

impl DensePlacement {
    /// What runs and serves: instances that are Ready, and that no rule keeps all callers at their edge away from.
    pub fn from_cluster(problem: &Problem, cluster: &Cluster) -> Self {
        let mut this = Self::cloud_only(problem);
        for instance in cluster
            .instances
            .iter()
            .filter(|instance| instance.phase == Phase::Ready)
        {
            let edge = problem.edge_by_name(&instance.area);
            let service = problem.service_by_name(&instance.service);
            let rule = cluster
                .routing
                .0
                .get(&instance.service)
                .and_then(|callers| callers.get(&instance.area));
            let away = rule.is_some_and(|weights| !weights.contains_key(&instance.area));
            if let (Some(edge), Some(service), false) = (edge, service, away) {
                this.set(edge, service, true);
            }
        }
        this
    }
}

/// Every service that was seen, that runs or that is configured, in order.
fn services(snapshot: &Snapshot, cluster: &Cluster, settings: &Settings) -> Vec<ServiceName> {
    let callers = snapshot.calls.iter().filter_map(|call| match &call.caller {
        Caller::Instance { service, .. } => Some(service),
        Caller::User { .. } => None,
    });
    let names = callers
        .chain(snapshot.calls.iter().map(|call| &call.callee))
        .chain(snapshot.received.iter().map(|received| &received.service))
        .chain(cluster.instances.iter().map(|instance| &instance.service))
        .chain(settings.services.keys());
    names.cloned().collect::<BTreeSet<_>>().into_iter().collect()
}

/// What is known of an edge's users, each with its own reason where it is not.
struct Users {
    delay: Result<Micros, NotMeasured>,
    rtt: Result<Micros, NotMeasured>,
    calls: Result<Vec<(ServiceIx, CallsPerRequest)>, NotMeasured>,
    rate: Result<Rps, NotMeasured>,
}

// === impl Users ===

impl Users {
    fn of(snapshot: &Snapshot, name: &AreaName, edge: EdgeIx, sums: &Sums) -> Self {
        let heard = snapshot.edges.get(name);
        let delay = match heard.map(|edge| &edge.user_delay) {
            Some(Measured::Present { value }) => Micros::try_new(value.mean_us)
                .map_err(|error| out_of_range("mean user delay", name, error.value)),
            _ => Err(NotMeasured::UserDelay(name.clone())),
        };
        let rtt = match heard.map(|edge| &edge.rtt) {
            Some(Measured::Present { value }) => Ok(micros(*value)),
            _ => Err(NotMeasured::Rtt(name.clone())),
        };
        let calls = sums.user_calls(edge);
        let rate = heard.map_or(0.0, |EdgeSnapshot { rate_rps, .. }| *rate_rps);
        Self {
            delay,
            rtt,
            calls: if calls.is_empty() {
                Err(NotMeasured::UserCalls(name.clone()))
            } else {
                Ok(calls)
            },
            rate: Rps::try_new(rate)
                .map_err(|error| out_of_range("rate of user requests", name, error.value)),
        }
    }

    /// An edge that is asked for must have all; another one takes part with what it has.
    fn edge(self, settings: &EdgeSettings, asked: bool) -> Result<Edge, NotMeasured> {
        let Self {
            delay,
            rtt,
            calls,
            rate,
        } = self;
        let whole = rtt.is_ok() && calls.is_ok() && rate.is_ok();
        let known = |part: Result<Micros, NotMeasured>| if asked { part.map(Some) } else { Ok(part.ok()) };
        let (delay, rtt) = (known(delay)?, known(rtt)?);
        let (user_calls, rate) = if asked {
            (calls?, rate?)
        } else {
            (calls.unwrap_or_default(), rate.unwrap_or_default())
        };
        Ok(Edge {
            standby: None,
            area: settings.area.clone(),
            rtt: rtt.unwrap_or_default(),
            bandwidth: settings.bandwidth,
            traffic_gb: settings.traffic_gb,
            rate,
            user_calls,
            measured: delay.filter(|_| whole),
            capacity: settings.capacity,
            target: None,
        })
    }
}

fn out_of_range(what: &str, edge: &AreaName, value: f64) -> NotMeasured {
    NotMeasured::OutOfRange {
        what: format!("{what} of {edge}"),
        value,
    }
}

fn micros(duration: Duration) -> Micros {
    Micros::nearest(duration.as_secs_f64() * 1e6)
}

/// A service on the path of these edges' users that never said what it received.
fn silent<'a>(
    names: &[ServiceName],
    sums: &Sums,
    edges: impl Iterator<Item = &'a Edge>,
) -> Option<ServiceName> {
    let users = edges.flat_map(|edge| edge.user_calls.iter().map(|(service, _)| *service));
    let mut open: Vec<ServiceIx> = users.collect();
    let mut found = BTreeSet::new();
    while let Some(service) = open.pop() {
        if found.insert(service) {
            open.extend(sums.callees(service));
        }
    }
    let silent = found
        .into_iter()
        .find(|service| sums.received(*service).timed == 0.0)?;
    names.get(silent.position()).cloned()
}

struct Parts<'a> {
    sums: &'a Sums,
    times: &'a Times<'a>,
    settings: &'a Settings,
    cluster: &'a Cluster,
    snapshot: &'a Snapshot,
}

fn service(name: &ServiceName, service: ServiceIx, parts: &Parts<'_>) -> Service {
    let Parts {
        sums,
        times,
        settings,
        ..
    } = parts;
    let own = settings.of(name);
    let callees = sums.callees(service).count();
    let serial = times.serial(name, service, &settings.learned);
    let site = |area| Site {
        own: Micros::nearest(times.own(service, area, serial)),
        cpu_request: own.cpu_request,
        memory_request: own.memory_request,
        threshold: own.threshold,
        min_replicas: own.min_replicas,
    };
    let received = sums.received(service);
    Service {
        name: name.clone(),
        response: Bytes::nearest(if received.timed > 0.0 {
            received.bytes / received.timed
        } else {
            0.0
        }),
        overlap: Ratio::nearest(overlap(serial, callees)),
        hop_local: Micros::nearest(times.hop_local(service)),
        hop_remote: Micros::nearest(times.hop_remote(service)),
        cpu_per_request: CpuSeconds::nearest(cpu_per_request(name, service, &own, parts)),
        pin: own.pin,
        sites: AreaIx::all(settings.edges.len()).map(site).collect(),
    }
}

/// Cores in use over requests a second. Without metrics the replicas of an area are taken to use what an autoscaler rests
/// with their count at: n of them with more than n − 1 and at most n times threshold · request, so n − ½ times. It is weighted by
/// the requests that the area receives: a standby counts little.
fn cpu_per_request(name: &ServiceName, service: ServiceIx, own: &ServiceSettings, parts: &Parts<'_>) -> f64 {
    let seconds = parts.snapshot.window.as_secs_f64();
    let requests = parts.sums.received(service).requests;
    if requests <= 0.0 || seconds <= 0.0 {
        return 0.0;
    }
    let rate = requests / seconds;
    if let Some(cores) = parts.settings.cpu_cores.get(name) {
        return cores.as_f64() / rate;
    }
    let replicas = |area: &AreaName| {
        let of_area =
            |instance: &&crate::cluster::Instance| instance.service == *name && instance.area == *area;
        let running = parts
            .cluster
            .instances
            .iter()
            .filter(of_area)
            .map(|instance| instance.replicas);
        f64::from(running.fold(0_u32, u32::saturating_add).max(1)) - 0.5
    };
    let areas = parts
        .settings
        .area_names()
        .zip(AreaIx::all(parts.settings.edges.len()));
    let weighted: f64 = areas
        .map(|(name, area)| replicas(name) * parts.sums.received_at(service, area).requests / requests)
        .sum();
    weighted * own.threshold.as_f64() * own.cpu_request.as_f64() / rate
}
