//! From the model's problem to a document, for what makes problems: the converter and the simulator.

use std::collections::BTreeMap;

use gma_core::model::{Area, DensePlacement, EdgeIx, Problem, Service, Site};
use gma_core::units::{CpuCores, Gigabytes};

use super::file::{
    self, ApiVersion, Call, Capacity, Cloud, EdgePrices, Hops, InArea, Kind, Metadata, PlacementProblem,
    Prices, Requests, UserCall,
};
use super::text::Text;

// === impl PlacementProblem ===

impl PlacementProblem {
    /// The document of a problem and its present placement. Building it again gives an equal problem.
    pub fn from_problem(problem: &Problem, current: &DensePlacement) -> Self {
        let spec = problem.spec();
        let name_of = |ix| problem.service(ix).map_or_else(String::new, name);
        Self {
            api_version: ApiVersion::default(),
            kind: Kind::default(),
            metadata: Metadata::default(),
            currency: None,
            cloud: Cloud {
                name: spec.cloud.name.to_string(),
                prices: Prices {
                    cpu_core_hour: spec.cloud.prices.cpu_core_hour.into(),
                    memory_gb_hour: spec.cloud.prices.memory_gb_hour.into(),
                },
                localities: spec.cloud.localities,
            },
            edges: problem
                .edges()
                .filter_map(|(edge, _)| edge_of(problem, edge, current))
                .collect(),
            services: problem
                .services()
                .map(|(_, service)| service_of(problem, service))
                .collect(),
            calls: spec
                .calls
                .iter()
                .map(|call| Call {
                    from: name_of(call.caller),
                    to: name_of(call.callee),
                    per_request: call.per_request,
                })
                .collect(),
            standby: spec.standby.into(),
        }
    }
}

fn name(service: &Service) -> String {
    service.name.to_string()
}

fn edge_of(problem: &Problem, ix: EdgeIx, current: &DensePlacement) -> Option<file::Edge> {
    let edge = problem.edge(ix)?;
    let user_calls = edge.user_calls.iter().filter_map(|(service, per_request)| {
        Some(UserCall {
            to: name(problem.service(*service)?),
            per_request: *per_request,
        })
    });
    Some(file::Edge {
        name: edge.area.name.to_string(),
        prices: EdgePrices {
            cpu_core_hour: edge.area.prices.cpu_core_hour.into(),
            memory_gb_hour: edge.area.prices.memory_gb_hour.into(),
            traffic_gb: edge.traffic_gb.into(),
        },
        localities: edge.area.localities,
        rtt: Text(edge.rtt),
        bandwidth: edge.bandwidth.map(Text),
        user_requests_per_second: edge.rate,
        user_calls: user_calls.collect(),
        capacity: Capacity {
            cpu: edge.capacity.cpu.map(Text),
            memory: edge.capacity.memory.map(Text),
            pods: edge.capacity.pods,
        },
        measured_delay: edge.measured.map(Text),
        target_delay: edge.target.map(Text),
        placement: problem
            .services()
            .filter(|(service, _)| current.contains(ix, *service))
            .map(|(_, service)| name(service))
            .collect(),
    })
}

/// The service as it is in the cloud, and what differs at the edges.
fn service_of(problem: &Problem, service: &Service) -> file::Service {
    let spec = problem.spec();
    let mut sites = service.sites.iter();
    let none = Site {
        own: gma_core::units::Micros::ZERO,
        cpu_request: CpuCores::ZERO,
        memory_request: Gigabytes::ZERO,
        threshold: gma_core::units::Ratio::nearest(1.0),
        min_replicas: 0,
    };
    let base = sites.next().copied().unwrap_or(none);
    let edges = spec.edges.iter().map(|edge| &edge.area);
    let areas: BTreeMap<String, InArea> = edges
        .zip(sites)
        .filter_map(|(area, site)| difference(area, &base, site))
        .collect();
    let request = |base: f64| base > 0.0;
    file::Service {
        overlap: service.overlap,
        cpu_per_request: Some(Text(service.cpu_per_request)),
        requests: Requests {
            cpu: request(base.cpu_request.as_f64()).then_some(Text(base.cpu_request)),
            memory: request(base.memory_request.as_f64()).then_some(Text(base.memory_request)),
        },
        autoscaler_threshold: base.threshold,
        min_replicas: base.min_replicas,
        pin: service.pin.into(),
        hops: Hops {
            local: Text(service.hop_local),
            remote: Text(service.hop_remote),
        },
        areas,
        ..file::Service::new(service.name.as_str(), service.response, base.own)
    }
}

fn difference(area: &Area, base: &Site, site: &Site) -> Option<(String, InArea)> {
    let cpu = (site.cpu_request != base.cpu_request).then_some(Text(site.cpu_request));
    let memory = (site.memory_request != base.memory_request).then_some(Text(site.memory_request));
    let here = InArea {
        own_time: (site.own != base.own).then_some(Text(site.own)),
        requests: (cpu.is_some() || memory.is_some()).then_some(Requests { cpu, memory }),
        autoscaler_threshold: (site.threshold != base.threshold).then_some(site.threshold),
        min_replicas: (site.min_replicas != base.min_replicas).then_some(site.min_replicas),
    };
    (here != InArea::default()).then(|| (area.name.to_string(), here))
}
