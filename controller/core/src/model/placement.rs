//! Which edge runs which service, densely.

use std::collections::BTreeSet;

use super::ix::{AreaIx, EdgeIx, Grid, ServiceIx};
use super::problem::Problem;
use crate::cluster::Placement;

/// Dense form of [`Placement`]; the cloud runs everything.
#[derive(Clone, Debug, PartialEq)]
pub struct DensePlacement {
    at: Grid<bool>,
}

// === impl DensePlacement ===

impl DensePlacement {
    /// Nothing at any edge, not even what is pinned there.
    pub fn empty(problem: &Problem) -> Self {
        Self {
            at: Grid::new(problem.services_len(), problem.edges_len()),
        }
    }

    /// Nothing at any edge but what is pinned there.
    pub fn cloud_only(problem: &Problem) -> Self {
        let mut this = Self::empty(problem);
        for (service, value) in problem.services() {
            if value.pin == super::Pin::Edge {
                problem
                    .edges()
                    .for_each(|(edge, _)| this.set(edge, service, true));
            }
        }
        this
    }

    /// The dense form; names that the problem does not know are left out.
    pub fn from_names(problem: &Problem, placement: &Placement) -> Self {
        let mut this = Self::cloud_only(problem);
        for (edge, services) in placement {
            let Some(edge) = problem.edge_by_name(edge) else {
                continue;
            };
            for service in services.iter().filter_map(|name| problem.service_by_name(name)) {
                this.set(edge, service, true);
            }
        }
        this
    }

    /// The form with names; every edge has an entry.
    pub fn to_names(&self, problem: &Problem) -> Placement {
        let services = |edge| {
            let placed = problem
                .services()
                .filter(|(service, _)| self.contains(edge, *service));
            placed.map(|(_, service)| service.name.clone()).collect()
        };
        problem
            .edges()
            .map(|(edge, value)| (value.area.name.clone(), services(edge)))
            .collect()
    }

    /// Whether a service has an instance at an edge.
    pub fn contains(&self, edge: EdgeIx, service: ServiceIx) -> bool {
        self.at.get(service, AreaIx::Edge(edge))
    }

    /// Whether a service has an instance in an area.
    pub fn runs(&self, service: ServiceIx, area: AreaIx) -> bool {
        match area {
            AreaIx::Cloud => true,
            AreaIx::Edge(edge) => self.contains(edge, service),
        }
    }

    /// Adds or removes an instance.
    pub fn set(&mut self, edge: EdgeIx, service: ServiceIx, there: bool) {
        self.at.set(service, AreaIx::Edge(edge), there);
    }

    /// The services of an edge.
    pub fn at_edge(&self, problem: &Problem, edge: EdgeIx) -> BTreeSet<ServiceIx> {
        problem
            .services()
            .map(|(service, _)| service)
            .filter(|&service| self.contains(edge, service))
            .collect()
    }

    /// The same with other services at one edge.
    #[must_use]
    pub fn with_edge(&self, problem: &Problem, edge: EdgeIx, services: &BTreeSet<ServiceIx>) -> Self {
        let mut this = self.clone();
        for (service, _) in problem.services() {
            this.set(edge, service, services.contains(&service));
        }
        this
    }
}
