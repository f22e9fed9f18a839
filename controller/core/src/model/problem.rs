//! A checked problem.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::delay::serial;
use super::graph::{CallGraph, GraphError, MAX_CALLS, MAX_CYCLE};
use super::ix::{AreaIx, EdgeIx, ServiceIx};
use super::spec::{Area, Edge, Pin, Service, Site, Spec, Standby};
use crate::ids::{AreaName, ServiceName};
use crate::units::Micros;

/// Services of a problem at most: a grid of 8 edges is then 72 MB.
pub const MAX_SERVICES: usize = 1_000_000;
/// Edges of a problem at most.
pub const MAX_EDGES: usize = 256;

/// Parts that fit together: every evaluation of it ends with finite numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct Problem {
    spec: Spec,
    graph: CallGraph,
    by_name: BTreeMap<ServiceName, ServiceIx>,
}

/// Parts that do not fit. The text names the path of the field.
#[derive(Clone, Debug, PartialEq)]
pub enum ProblemError {
    /// More services or edges than can be handled.
    TooLarge {
        /// Services.
        services: usize,
        /// Edges.
        edges: usize,
    },
    /// Two services or areas have one name.
    DuplicateName(String),
    /// A field is wrong.
    Field {
        /// Where, e.g. `services[cart].sites`.
        path: String,
        /// What it must be.
        must: &'static str,
    },
    /// A cycle whose calls have no end: the spectral radius of its calls is 1 or more.
    EndlessCalls(Vec<ServiceName>),
    /// A cycle through more services than can be solved.
    CycleTooLong(usize),
    /// A request of this service makes more than [`MAX_CALLS`].
    TooManyCalls(ServiceName),
}

// === impl ProblemError ===

impl fmt::Display for ProblemError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge { services, edges } => write!(
                f,
                "{services} services and {edges} edges are more than {MAX_SERVICES} and {MAX_EDGES}"
            ),
            Self::DuplicateName(name) => write!(f, "the name {name} is used twice: rename one"),
            Self::Field { path, must } => write!(f, "{path} must be {must}"),
            Self::EndlessCalls(services) => {
                f.write_str("calls have no end (spectral radius of the call graph is 1 or more) among")?;
                services.iter().try_for_each(|name| write!(f, " {name}"))
            }
            Self::CycleTooLong(size) => {
                write!(f, "a cycle runs through {size} services, more than {MAX_CYCLE}")
            }
            Self::TooManyCalls(service) => write!(
                f,
                "a request to {service} makes more than {MAX_CALLS:e} calls through its descendants"
            ),
        }
    }
}

impl std::error::Error for ProblemError {}

// === impl Problem ===

impl Problem {
    /// Checks that the parts fit together.
    ///
    /// # Errors
    /// The first part that does not.
    pub fn try_new(spec: Spec) -> Result<Self, ProblemError> {
        let (services, edges) = (spec.services.len(), spec.edges.len());
        if services > MAX_SERVICES || edges > MAX_EDGES {
            return Err(ProblemError::TooLarge { services, edges });
        }
        let by_name = names(&spec)?;
        check_area("cloud", &spec.cloud)?;
        for edge in &spec.edges {
            check_edge(&spec, edge)?;
        }
        for service in &spec.services {
            check_service(&spec, service)?;
        }
        if let Standby::Distribute(percent) = spec.standby
            && !(1..=99).contains(&percent)
        {
            return Err(field("standby", "a percentage from 1 to 99"));
        }
        let graph = CallGraph::try_new(rows(&spec)?).map_err(|error| {
            let name = |service: ServiceIx| {
                let service = spec.services.get(service.position());
                service.map_or_else(|| ServiceName::from("?"), |service| service.name.clone())
            };
            match error {
                GraphError::Endless(members) => {
                    ProblemError::EndlessCalls(members.into_iter().map(name).collect())
                }
                GraphError::CycleTooLong(size) => ProblemError::CycleTooLong(size),
                GraphError::TooManyCalls(service) => ProblemError::TooManyCalls(name(service)),
            }
        })?;
        Ok(Self { spec, graph, by_name })
    }

    /// The same with a target at one edge and none elsewhere.
    #[must_use]
    pub fn with_target(&self, edge: EdgeIx, target: Micros) -> Self {
        let mut this = self.clone();
        for (at, value) in this.spec.edges.iter_mut().enumerate() {
            value.target = (at == edge.position()).then_some(target);
        }
        this
    }

    /// Whether every service makes its calls one after the other.
    pub fn is_serial(&self) -> bool {
        self.services()
            .all(|(ix, service)| serial(service.overlap.as_f64(), self.calls_of(ix).len()) >= 1.0)
    }

    /// The parts.
    pub const fn spec(&self) -> &Spec {
        &self.spec
    }

    /// Number of services.
    pub fn services_len(&self) -> usize {
        self.spec.services.len()
    }

    /// Number of edges.
    pub fn edges_len(&self) -> usize {
        self.spec.edges.len()
    }

    /// All services, in order.
    pub fn services(&self) -> impl DoubleEndedIterator<Item = (ServiceIx, &Service)> + Clone {
        self.spec
            .services
            .iter()
            .enumerate()
            .map(|(position, service)| (ServiceIx::at(position), service))
    }

    /// All edges, in order.
    pub fn edges(&self) -> impl Iterator<Item = (EdgeIx, &Edge)> + Clone {
        self.spec
            .edges
            .iter()
            .enumerate()
            .map(|(position, edge)| (EdgeIx::at(position), edge))
    }

    /// The cloud, then the edges.
    pub fn areas(&self) -> impl Iterator<Item = AreaIx> + Clone + use<> {
        AreaIx::all(self.edges_len())
    }

    /// A service, where there is one of that number.
    pub fn service(&self, service: ServiceIx) -> Option<&Service> {
        self.spec.services.get(service.position())
    }

    /// An edge, where there is one of that number.
    pub fn edge(&self, edge: EdgeIx) -> Option<&Edge> {
        self.spec.edges.get(edge.position())
    }

    /// An area, where there is one of that number.
    pub fn area(&self, area: AreaIx) -> Option<&Area> {
        match area {
            AreaIx::Cloud => Some(&self.spec.cloud),
            AreaIx::Edge(edge) => self.edge(edge).map(|edge| &edge.area),
        }
    }

    /// An instance, where the problem has it.
    pub fn site(&self, service: ServiceIx, area: AreaIx) -> Option<&Site> {
        self.service(service)?.sites.get(area.position())
    }

    /// Callees of a service and the calls per request that it receives.
    pub fn calls_of(&self, service: ServiceIx) -> &[(ServiceIx, f64)] {
        self.graph.row(service)
    }

    /// A service by its name.
    pub fn service_by_name(&self, name: &ServiceName) -> Option<ServiceIx> {
        self.by_name.get(name).copied()
    }

    /// An edge by its name.
    pub fn edge_by_name(&self, name: &AreaName) -> Option<EdgeIx> {
        self.edges()
            .find(|(_, edge)| edge.area.name == *name)
            .map(|(edge, _)| edge)
    }

    /// An area by its name.
    pub fn area_by_name(&self, name: &AreaName) -> Option<AreaIx> {
        if self.spec.cloud.name == *name {
            return Some(AreaIx::Cloud);
        }
        self.edge_by_name(name).map(AreaIx::Edge)
    }

    /// Whether a service may have an instance at an edge.
    pub(crate) fn may_run_at_edge(&self, service: ServiceIx) -> bool {
        self.service(service)
            .is_some_and(|service| service.pin != Pin::Cloud)
    }

    pub(super) const fn graph(&self) -> &CallGraph {
        &self.graph
    }
}

fn field(path: impl Into<String>, must: &'static str) -> ProblemError {
    ProblemError::Field {
        path: path.into(),
        must,
    }
}

fn names(spec: &Spec) -> Result<BTreeMap<ServiceName, ServiceIx>, ProblemError> {
    let mut areas = BTreeSet::from([&spec.cloud.name]);
    for edge in &spec.edges {
        if !areas.insert(&edge.area.name) {
            return Err(ProblemError::DuplicateName(edge.area.name.to_string()));
        }
    }
    let mut by_name = BTreeMap::new();
    for (position, service) in spec.services.iter().enumerate() {
        if by_name
            .insert(service.name.clone(), ServiceIx::at(position))
            .is_some()
        {
            return Err(ProblemError::DuplicateName(service.name.to_string()));
        }
    }
    Ok(by_name)
}

fn check_area(path: &str, area: &Area) -> Result<(), ProblemError> {
    if area.localities == 0 {
        return Err(field(format!("{path}.localities"), "at least 1"));
    }
    Ok(())
}

fn check_edge(spec: &Spec, edge: &Edge) -> Result<(), ProblemError> {
    let path = format!("edges[{}]", edge.area.name);
    check_area(&path, &edge.area)?;
    if edge.bandwidth.is_some_and(|bandwidth| bandwidth.as_f64() < 1.0) {
        return Err(field(
            format!("{path}.bandwidth"),
            "at least 1 bit/s, or absent for no limit",
        ));
    }
    let mut called = BTreeSet::new();
    for (service, calls) in &edge.user_calls {
        if service.position() >= spec.services.len() || !called.insert(service) {
            return Err(field(
                format!("{path}.userCalls"),
                "existing services, each at most once",
            ));
        }
        if calls.as_f64() > MAX_CALLS {
            return Err(field(format!("{path}.userCalls"), "at most 1e9 calls a request"));
        }
    }
    Ok(())
}

fn check_service(spec: &Spec, service: &Service) -> Result<(), ProblemError> {
    let path = format!("services[{}]", service.name);
    if service.sites.len() != spec.edges.len() + 1 {
        return Err(field(
            format!("{path}.sites"),
            "one for the cloud and one for each edge",
        ));
    }
    let overlap = service.overlap.as_f64();
    if !(overlap > 0.0 && overlap <= 1.0) {
        return Err(field(format!("{path}.overlap"), "above 0 and at most 1"));
    }
    if service.sites.iter().any(|site| site.threshold.as_f64() <= 0.0) {
        return Err(field(format!("{path}.sites.threshold"), "above 0"));
    }
    Ok(())
}

fn rows(spec: &Spec) -> Result<Vec<Vec<(ServiceIx, f64)>>, ProblemError> {
    let count = spec.services.len();
    let mut rows = vec![BTreeMap::new(); count];
    for call in &spec.calls {
        let row = rows
            .get_mut(call.caller.position())
            .filter(|_| call.callee.position() < count);
        let Some(row) = row else {
            return Err(field("calls", "between services of the problem"));
        };
        if row.insert(call.callee, call.per_request.as_f64()).is_some() {
            return Err(field("calls", "one entry for each caller and callee"));
        }
    }
    let called = |row: BTreeMap<ServiceIx, f64>| row.into_iter().filter(|(_, calls)| *calls > 0.0).collect();
    Ok(rows.into_iter().map(called).collect())
}
