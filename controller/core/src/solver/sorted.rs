//! A problem with services and edges in the order of their names, so that no answer depends on any other order.

use crate::model::{Call, DensePlacement, EdgeIx, Problem, ServiceIx};

/// A problem and where its parts were.
pub(super) struct Sorted {
    pub(super) problem: Problem,
    /// By sorted position, the number in the original.
    services: Vec<ServiceIx>,
    edges: Vec<EdgeIx>,
}

// === impl Sorted ===

impl Sorted {
    /// None: it is in order already.
    pub(super) fn new(problem: &Problem) -> Option<Self> {
        let spec = problem.spec();
        let ordered = spec.services.is_sorted_by(|one, other| one.name < other.name)
            && spec
                .edges
                .is_sorted_by(|one, other| one.area.name < other.area.name);
        if ordered {
            return None;
        }
        let mut services: Vec<ServiceIx> = problem.services().map(|(service, _)| service).collect();
        services.sort_by_key(|service| problem.service(*service).map(|service| &service.name));
        let mut edges: Vec<EdgeIx> = problem.edges().map(|(edge, _)| edge).collect();
        edges.sort_by_key(|edge| problem.edge(*edge).map(|edge| &edge.area.name));
        let mut place = vec![ServiceIx(0); services.len()];
        for (at, service) in services.iter().enumerate() {
            if let Some(cell) = place.get_mut(service.position()) {
                *cell = ServiceIx::at(at);
            }
        }
        let placed = |service: ServiceIx| place.get(service.position()).copied().unwrap_or(service);
        let mut sorted = spec.clone();
        sorted.edges = edges
            .iter()
            .filter_map(|edge| {
                let mut edge = problem.edge(*edge)?.clone();
                edge.user_calls
                    .iter_mut()
                    .for_each(|(service, _)| *service = placed(*service));
                edge.user_calls.sort_by_key(|(service, _)| *service);
                Some(edge)
            })
            .collect();
        sorted.services = services
            .iter()
            .filter_map(|service| {
                let mut service = problem.service(*service)?.clone();
                let cloud = service.sites.first().copied();
                let there = edges
                    .iter()
                    .filter_map(|edge| service.sites.get(edge.position() + 1).copied());
                service.sites = cloud.into_iter().chain(there).collect();
                Some(service)
            })
            .collect();
        sorted.calls = spec
            .calls
            .iter()
            .map(|call| Call {
                caller: placed(call.caller),
                callee: placed(call.callee),
                per_request: call.per_request,
            })
            .collect();
        // A valid problem stays one in another order.
        let problem = Problem::try_new(sorted).ok()?;
        Some(Self {
            problem,
            services,
            edges,
        })
    }

    pub(super) fn there(&self, placement: &DensePlacement) -> DensePlacement {
        self.map(placement, false)
    }

    pub(super) fn back(&self, placement: &DensePlacement) -> DensePlacement {
        self.map(placement, true)
    }

    /// By original edge, what is by sorted edge.
    pub(super) fn edges_back<T: Clone>(&self, values: &[T]) -> Vec<T> {
        let mut pairs: Vec<(EdgeIx, T)> = self.edges.iter().copied().zip(values.iter().cloned()).collect();
        pairs.sort_by_key(|(edge, _)| *edge);
        pairs.into_iter().map(|(_, value)| value).collect()
    }

    fn map(&self, placement: &DensePlacement, back: bool) -> DensePlacement {
        let mut mapped = DensePlacement::empty(&self.problem);
        for (edge_at, edge) in self.edges.iter().enumerate() {
            for (service_at, service) in self.services.iter().enumerate() {
                let sorted = (EdgeIx::at(edge_at), ServiceIx::at(service_at));
                let (from, to) = if back {
                    (sorted, (*edge, *service))
                } else {
                    ((*edge, *service), sorted)
                };
                mapped.set(to.0, to.1, placement.contains(from.0, from.1));
            }
        }
        mapped
    }
}
