//! From what was read to a placement problem, and to what the report says about each key.

use std::collections::BTreeMap;

use gma_core::units::{
    BitsPerSecond, Bytes, CallsPerRequest, CpuCores, CpuSeconds, Gigabytes, Micros, Money, Ratio, Rps,
};

use super::config::{Config, ServiceKeys};
use super::instances::{Instance, Instances};
use super::link::LinkUsed;
use super::metrics::{Measured, Metrics};
use crate::problem::{
    ApiVersion, Call, Capacity, Cloud, Edge, EdgePrices, InArea, Kind, Metadata, PinTo, PlacementProblem,
    Prices, Requests, Service, StandbyPolicy, Text, UserCall,
};

const BYTES_PER_GB: f64 = 1e9;

/// Everything that a problem is made of.
pub(super) struct Parts<'a> {
    pub(super) name: Option<String>,
    pub(super) config: &'a Config,
    pub(super) instances: &'a [Instances],
    pub(super) metrics: &'a Metrics,
    pub(super) link: &'a LinkUsed,
}

/// The middle of the band, µs.
pub(super) fn target(config: &Config) -> f64 {
    f64::midpoint(
        config.band.offload_above.micros,
        config.band.unoffload_below.micros,
    )
}

/// Builds the problem. What was not measured is 0, nothing, or absent.
pub(super) fn problem(parts: &Parts<'_>) -> PlacementProblem {
    let config = parts.config;
    let services = config.app.services.iter().zip(parts.instances);
    PlacementProblem {
        api_version: ApiVersion::default(),
        kind: Kind::default(),
        metadata: Metadata {
            name: parts.name.clone(),
        },
        currency: None,
        cloud: Cloud {
            name: config.cloud.name.clone(),
            prices: Prices {
                cpu_core_hour: Money::nearest(config.cloud.cpu_core_hour).into(),
                memory_gb_hour: Money::nearest(config.cloud.memory_gb_hour).into(),
            },
            localities: 1,
        },
        edges: vec![edge(parts)],
        services: services
            .map(|(keys, instances)| service(parts, keys, instances))
            .collect(),
        calls: calls(parts.metrics),
        standby: StandbyPolicy::default(),
    }
}

fn edge(parts: &Parts<'_>) -> Edge {
    let (config, users) = (parts.config, &parts.metrics.users);
    let rate = users.requests_per_second.unwrap_or(Rps::ZERO);
    let at_edge = |service: &&ServiceKeys| measured(parts.metrics, service).is_some_and(|m| m.at_edge);
    Edge {
        name: config.edge.name.clone(),
        prices: EdgePrices {
            cpu_core_hour: Money::nearest(config.edge.cpu_core_hour).into(),
            memory_gb_hour: Money::nearest(config.edge.memory_gb_hour).into(),
            traffic_gb: Money::nearest(config.traffic_gb).into(),
        },
        localities: 1,
        rtt: Text(Micros::nearest(parts.link.rtt)),
        bandwidth: Some(Text(BitsPerSecond::nearest(parts.link.bits))),
        user_requests_per_second: rate,
        user_calls: per_request(&users.calls_per_second, rate)
            .map(|(to, per_request)| UserCall { to, per_request })
            .collect(),
        capacity: Capacity::default(),
        measured_delay: users.measured_delay,
        target_delay: Some(Text(Micros::nearest(target(config)))),
        placement: config
            .app
            .services
            .iter()
            .filter(at_edge)
            .map(|service| service.name.clone())
            .collect(),
    }
}

fn measured<'m>(metrics: &'m Metrics, service: &ServiceKeys) -> Option<&'m Measured> {
    metrics.services.get(&service.name)
}

fn service(parts: &Parts<'_>, keys: &ServiceKeys, instances: &Instances) -> Service {
    let none = Measured::default();
    let measured = measured(parts.metrics, keys).unwrap_or(&none);
    let response = measured.response_size.map_or(Bytes::ZERO, |size| size.0);
    let own = measured.own_time.map_or(Micros::ZERO, |time| time.0);
    let locked = parts.config.app.is_locked(&keys.name);
    let rate = measured.requests_per_second.filter(|rate| *rate > Rps::ZERO);
    let (cpu_per_request, cpu_use) = match (measured.cpu_use, rate) {
        (Some(cores), Some(rate)) => {
            let seconds = rounded(cores.0.as_f64() / rate.as_f64());
            (Some(Text(CpuSeconds::nearest(seconds))), None)
        }
        // The reader divides by the rate that follows from the calls.
        (Some(cores), None) => (None, Some(cores)),
        (None, _) => (None, instances.request_cpu().then(Text::default)),
    };
    let base = in_area(&instances.cloud);
    Service {
        cpu_per_request,
        cpu_use,
        requests: base.requests.unwrap_or_default(),
        autoscaler_threshold: Ratio::nearest(instances.cloud.threshold),
        min_replicas: instances.cloud.min_replicas,
        pin: if locked || instances.edge.is_none() || instances.hold_state() {
            PinTo::Cloud
        } else {
            PinTo::Free
        },
        areas: difference(parts, instances),
        ..Service::new(keys.name.clone(), response, own)
    }
}

/// An instance's values, all of them.
fn in_area(instance: &Instance) -> InArea {
    let cpu = instance.workload.cpu.map(|cores| Text(CpuCores::nearest(cores)));
    let memory = instance
        .workload
        .memory
        .map(|bytes| Text(Gigabytes::nearest(bytes / BYTES_PER_GB)));
    InArea {
        own_time: None,
        requests: Some(Requests { cpu, memory }),
        autoscaler_threshold: Some(Ratio::nearest(instance.threshold)),
        min_replicas: Some(instance.min_replicas),
    }
}

/// What differs at the edge from the cloud.
fn difference(parts: &Parts<'_>, instances: &Instances) -> BTreeMap<String, InArea> {
    let Some(edge) = &instances.edge else {
        return BTreeMap::new();
    };
    let (cloud, edge) = (in_area(&instances.cloud), in_area(edge));
    let (base, own) = (
        cloud.requests.unwrap_or_default(),
        edge.requests.unwrap_or_default(),
    );
    // A request that is absent means the cloud's: one that does not exist is written as 0.
    let requests = Requests {
        cpu: (own.cpu != base.cpu).then(|| own.cpu.unwrap_or_default()),
        memory: (own.memory != base.memory).then(|| own.memory.unwrap_or_default()),
    };
    let here = InArea {
        own_time: None,
        requests: (requests != Requests::default()).then_some(requests),
        autoscaler_threshold: edge
            .autoscaler_threshold
            .filter(|_| edge.autoscaler_threshold != cloud.autoscaler_threshold),
        min_replicas: edge
            .min_replicas
            .filter(|_| edge.min_replicas != cloud.min_replicas),
    };
    if here == InArea::default() {
        BTreeMap::new()
    } else {
        BTreeMap::from([(parts.config.edge.name.clone(), here)])
    }
}

fn calls(metrics: &Metrics) -> Vec<Call> {
    let mut calls = Vec::new();
    for (from, measured) in &metrics.services {
        let rate = measured.requests_per_second.unwrap_or(Rps::ZERO);
        calls.extend(
            per_request(&measured.calls_per_second, rate).map(|(to, per_request)| Call {
                from: from.clone(),
                to,
                per_request,
            }),
        );
    }
    calls
}

/// Calls per request of the caller; none of 0.
fn per_request(calls: &BTreeMap<String, Rps>, rate: Rps) -> impl Iterator<Item = (String, CallsPerRequest)> {
    let rate = rate.as_f64();
    calls
        .iter()
        .filter(move |(_, calls)| calls.as_f64() > 0.0 && rate > 0.0)
        .map(move |(to, calls)| {
            (
                to.clone(),
                CallsPerRequest::nearest(rounded(calls.as_f64() / rate)),
            )
        })
}

/// Six significant digits: more than any measurement has, and readable.
fn rounded(number: f64) -> f64 {
    format!("{number:.5e}").parse().unwrap_or(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotients_are_readable() {
        assert_eq!(rounded(100.0 / 3.0), 33.3333);
        assert_eq!(rounded(0.1 + 0.2), 0.3);
        assert_eq!(rounded(0.0), 0.0);
        assert_eq!(rounded(1.23456789e-9), 1.23457e-9);
    }
}
