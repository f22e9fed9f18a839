//! An `EdgePlacement`'s spec as the core's types.
//!
//! The schema has checked it already, unless it was stored under an older one. So everything is parsed and checked again;
//! each fault names its field, and all are found at once.

mod areas;
mod parse;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use gma_core::decide::{Band, Config, Mode, Objective, Statistic};
use gma_core::ids::{AreaName, ServiceName};
use gma_core::measured::{ServiceSettings, Settings};
use gma_core::model::{Capacity, Pin, Standby};
use gma_core::routing::Steering;
use gma_core::units::{BitsPerSecond, CpuCores, Gigabytes, Money};

use crate::api;
use crate::locality::AreaMap;
use parse::Parser;
pub(crate) use parse::quantity;
pub use parse::{Fault, Faults, QUANTITY_SUFFIXES};

/// What is longer enters no histogram of the filter.
const LONGEST_DELAY: Duration = Duration::from_secs(60);

/// What an object wants, as the core's types.
#[derive(Clone, Debug, PartialEq)]
pub struct Wanted {
    /// For the decision machine.
    pub config: Config,
    /// For the model: prices, capacities, pins.
    pub settings: Settings,
    /// Which localities are in which area.
    pub areas: AreaMap,
    /// The gateway and link of each edge.
    pub edges: BTreeMap<AreaName, Edge>,
    /// Services that the spec lists.
    pub services: BTreeMap<ServiceName, Service>,
}

/// An edge's parts that the core does not need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edge {
    /// Namespace of its gateway's pods.
    pub gateway_namespace: String,
    /// Labels of its gateway's pods.
    pub gateway_labels: BTreeMap<String, String>,
    /// Round trip time to the cloud, where it is given.
    pub rtt: Option<Duration>,
    /// Where a prober answers, and how often it is asked.
    pub prober: Option<(String, Duration)>,
}

/// A service that the spec lists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Service {
    /// Where it may run, where the spec says so.
    pub pin: Option<Pin>,
    /// Replicas that run even without load, where the spec says so.
    pub min_replicas: Option<u32>,
    /// Its Deployment in the cloud, where the spec names it.
    pub cloud_deployment: Option<String>,
    /// Deployments at edges that exist and are scaled.
    pub edge_deployments: BTreeMap<AreaName, String>,
}

/// Names of an application's hosts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hosts {
    /// The object's namespace.
    pub namespace: String,
    /// The cluster's domain, usually `cluster.local`.
    pub domain: String,
}

impl Hosts {
    /// The host of a Service.
    pub fn of(&self, service: &str) -> ServiceName {
        ServiceName::new(format!("{service}.{}.svc.{}", self.namespace, self.domain))
    }
}

/// The name of a host's Service.
pub(crate) fn service_name(host: &ServiceName) -> &str {
    host.as_str().split('.').next().unwrap_or_default()
}

/// Converts a spec.
///
/// # Errors
/// Everything that is wrong with it, each with the path of its field.
pub fn convert(spec: &api::EdgePlacementSpec, hosts: &Hosts) -> Result<Wanted, Faults> {
    let mut parser = Parser::default();
    let cloud = AreaName::new(spec.areas.cloud.name.as_str());
    let edge_names: Vec<AreaName> = spec
        .areas
        .edges
        .iter()
        .map(|edge| AreaName::new(edge.name.as_str()))
        .collect();
    names(&cloud, &edge_names, &mut parser);
    let mut config = config(spec, cloud.clone(), &edge_names, &mut parser);
    let settings = Settings::new(cloud, edge_names);
    let areas = areas::areas(&spec.areas, &mut parser);
    match &areas {
        AreaMap::Localities(areas) => areas::regions(areas, &config, &mut parser),
        AreaMap::Zones(_) => by_readiness(&mut config),
    }
    let mut wanted = Wanted {
        edges: edges(spec, &mut parser),
        services: services(spec, hosts, &mut parser),
        config,
        settings,
        areas,
    };
    prices_and_capacities(spec, &mut wanted.settings, &mut parser);
    for (name, service) in &wanted.services {
        let settings = ServiceSettings {
            pin: service.pin.unwrap_or_default(),
            min_replicas: service
                .min_replicas
                .unwrap_or(wanted.settings.default_service.min_replicas),
            ..wanted.settings.default_service
        };
        wanted.settings.services.insert(name.clone(), settings);
    }
    parser.finish(wanted)
}

fn names(cloud: &AreaName, edges: &[AreaName], parser: &mut Parser) {
    let mut seen = BTreeSet::from([cloud]);
    if edges.is_empty() {
        parser.fault("areas.edges", "is empty: name at least one edge");
    }
    for edge in edges {
        if !seen.insert(edge) {
            parser.fault(
                format!("areas.edges[{edge}].name"),
                "is the name of another area too: rename one",
            );
        }
    }
}

fn config(spec: &api::EdgePlacementSpec, cloud: AreaName, edges: &[AreaName], parser: &mut Parser) -> Config {
    let policy = &spec.policy;
    let mut config = Config::new(cloud, edges.iter().cloned());
    config.mode = match policy.mode {
        api::Mode::Observe => Mode::Observe,
        api::Mode::Recommend => Mode::Recommend,
        api::Mode::Enforce => Mode::Enforce,
    };
    config.suspend = spec.suspend;
    let standby = standby(policy, parser);
    for edge in &spec.areas.edges {
        let path = format!("areas.edges[{}].objective", edge.name);
        if let Some(objective) = objective(&path, &edge.objective, policy, standby, parser) {
            config.edges.insert(AreaName::new(edge.name.as_str()), objective);
        }
    }
    let ramp = policy.ramp.clone().unwrap_or_default();
    let at = |field: &str| format!("policy.ramp.{field}");
    parser.duration(
        &at("readyWithin"),
        ramp.ready_within.as_ref(),
        &mut config.ready_within,
    );
    parser.duration(
        &at("verifyAtLeast"),
        ramp.verify_at_least.as_ref(),
        &mut config.verify_least,
    );
    parser.duration(
        &at("verifyAtMost"),
        ramp.verify_at_most.as_ref(),
        &mut config.verify_most,
    );
    parser.duration(&at("coolDown"), ramp.cool_down.as_ref(), &mut config.cool_down);
    if config.verify_least > config.verify_most {
        parser.fault(
            at("verifyAtLeast"),
            "is above verifyAtMost: lower it, or raise verifyAtMost",
        );
    }
    let back_off = policy.back_off.clone().unwrap_or_default();
    parser.duration(
        "policy.backOff.first",
        back_off.first.as_ref(),
        &mut config.back_off_first,
    );
    parser.duration(
        "policy.backOff.most",
        back_off.most.as_ref(),
        &mut config.back_off_most,
    );
    if config.back_off_first > config.back_off_most {
        parser.fault("policy.backOff.first", "is above most: lower it, or raise most");
    }
    let limits = policy.limits.clone().unwrap_or_default();
    if let Some(moves) = parser.within("policy.limits.movesPerHour", limits.moves_per_hour, 1..=1000) {
        config.moves_per_hour = moves as usize;
    }
    let change = limits.change_per_move_percent;
    if let Some(percent) = parser.within("policy.limits.changePerMovePercent", change, 1..=99) {
        config.most_change = f64::from(percent) / 100.0;
    }
    let reports = spec.telemetry.reports.clone().unwrap_or_default();
    let at = |field: &str| format!("telemetry.reports.{field}");
    let gateways = reports.gateway_coverage_percent;
    if let Some(percent) = parser.within(&at("gatewayCoveragePercent"), gateways, 1..=100) {
        config.gateway_coverage = f64::from(percent) / 100.0;
    }
    let services = reports.service_coverage_percent;
    if let Some(percent) = parser.within(&at("serviceCoveragePercent"), services, 1..=100) {
        config.service_coverage = f64::from(percent) / 100.0;
    }
    if spec.telemetry.prometheus.is_some() {
        parser.fault(
            "telemetry.prometheus",
            "is reserved: leave it out, or use reports: {}",
        );
    }
    config
}

/// Zones without regions can't be weighted: no share stays on the cloud, whatever the policy asks for.
fn by_readiness(config: &mut Config) {
    config.steering = Steering::Readiness;
    for objective in config.edges.values_mut() {
        objective.standby = Some(Standby::Failover);
    }
}

/// The form and share that the policy asks for; none: as each edge's statistic needs it.
fn standby(policy: &api::Policy, parser: &mut Parser) -> Option<Standby> {
    let path = "policy.cloudStandbyPercent";
    let percent = parser.within(path, policy.cloud_standby_percent, 1..=49);
    match policy.standby {
        Some(api::StandbyForm::Failover) => {
            if percent.is_some() {
                parser.fault(
                    path,
                    "is of the form distribute: leave it out, or set policy.standby to distribute",
                );
            }
            Some(Standby::Failover)
        }
        Some(api::StandbyForm::Distribute) => Some(Standby::Distribute(percent.unwrap_or(1))),
        None => None,
    }
}

fn objective(
    path: &str,
    objective: &api::Objective,
    policy: &api::Policy,
    standby: Option<Standby>,
    parser: &mut Parser,
) -> Option<Objective> {
    let above = parser.parsed_duration(&format!("{path}.offloadAbove"), &objective.offload_above);
    let below = parser.parsed_duration(&format!("{path}.unoffloadBelow"), &objective.unoffload_below);
    let (below, above) = (below?, above?);
    if above > LONGEST_DELAY {
        parser.fault(
            format!("{path}.offloadAbove"),
            "is above 60s: longer requests are counted apart, their delay is not measured",
        );
    }
    let band = match Band::try_new(below, above) {
        Ok(band) => band,
        Err(error) => {
            parser.fault(path, error.to_string());
            return None;
        }
    };
    let mut wanted = Objective {
        band,
        statistic: match objective.statistic {
            api::Statistic::Mean => Statistic::Mean,
            api::Statistic::P50 => Statistic::P50,
            api::Statistic::P90 => Statistic::P90,
            api::Statistic::P95 => Statistic::P95,
            api::Statistic::P99 => Statistic::P99,
        },
        standby,
    };
    // A share without a form is the share of those edges that distribute.
    if let (Standby::Distribute(_), None, Some(percent)) =
        (wanted.standby(), standby, policy.cloud_standby_percent)
    {
        wanted.standby = Some(Standby::Distribute(percent.clamp(1, 49)));
    }
    Some(wanted)
}

fn edges(spec: &api::EdgePlacementSpec, parser: &mut Parser) -> BTreeMap<AreaName, Edge> {
    let mut edges = BTreeMap::new();
    for edge in &spec.areas.edges {
        let path = format!("areas.edges[{}]", edge.name);
        if edge.kubeconfig_secret_ref.is_some() {
            parser.fault(format!("{path}.kubeconfigSecretRef"), "is reserved: leave it out");
        }
        if edge.gateway.match_labels.is_empty() {
            parser.fault(
                format!("{path}.gateway.matchLabels"),
                "is empty and would select every pod: give a label of the gateway, e.g. istio: ingressgateway",
            );
        }
        let link = edge.link.clone().unwrap_or_default();
        let rtt = link
            .rtt
            .and_then(|rtt| parser.parsed_duration(&format!("{path}.link.rtt"), &rtt));
        let prober = link.prober.map(|prober| {
            let mut every = Duration::from_secs(60);
            parser.duration(
                &format!("{path}.link.prober.every"),
                prober.every.as_ref(),
                &mut every,
            );
            (prober.url.0, every)
        });
        let labels = edge.gateway.match_labels.iter();
        let wanted = Edge {
            gateway_namespace: edge.gateway.namespace.0.clone(),
            gateway_labels: labels
                .map(|(key, value)| (key.clone(), value.0.clone()))
                .collect(),
            rtt,
            prober,
        };
        edges.insert(AreaName::new(edge.name.as_str()), wanted);
    }
    edges
}

fn services(
    spec: &api::EdgePlacementSpec,
    hosts: &Hosts,
    parser: &mut Parser,
) -> BTreeMap<ServiceName, Service> {
    let mut services = BTreeMap::new();
    for service in &spec.services {
        let path = format!("services[{}]", service.name);
        let deployments = service.edge.iter().flat_map(|edge| &edge.deployments);
        let mut edge_deployments = BTreeMap::new();
        for deployment in deployments {
            if !spec.areas.edges.iter().any(|edge| edge.name == deployment.edge) {
                parser.fault(
                    format!("{path}.edge.deployments[{}].edge", deployment.edge),
                    "is no name of areas.edges",
                );
            }
            edge_deployments.insert(AreaName::new(deployment.edge.as_str()), deployment.name.0.clone());
        }
        let wanted = Service {
            pin: service.pin.map(|pin| match pin {
                api::Pin::Free => Pin::Free,
                api::Pin::Cloud => Pin::Cloud,
                api::Pin::Edge => Pin::Edge,
            }),
            min_replicas: parser.within(&format!("{path}.minReplicas"), service.min_replicas, 1..=1000),
            cloud_deployment: service
                .cloud
                .as_ref()
                .and_then(|cloud| cloud.deployment.as_ref())
                .map(|name| name.0.clone()),
            edge_deployments,
        };
        if services.insert(hosts.of(service.name.as_str()), wanted).is_some() {
            parser.fault(path, "is listed twice: keep one entry");
        }
    }
    services
}

fn prices_and_capacities(spec: &api::EdgePlacementSpec, settings: &mut Settings, parser: &mut Parser) {
    let count = |localities: &Option<Vec<_>>| {
        u32::try_from(localities.as_ref().map_or(1, Vec::len).max(1)).unwrap_or(u32::MAX)
    };
    settings.cloud.localities = count(&spec.areas.cloud.localities);
    if let Some(prices) = &spec.areas.cloud.prices {
        let target = &mut settings.cloud.prices;
        parser.price(
            "areas.cloud.prices.cpuCoreHour",
            &prices.cpu_core_hour,
            &mut target.cpu_core_hour,
        );
        parser.price(
            "areas.cloud.prices.memoryGBHour",
            &prices.memory_gb_hour,
            &mut target.memory_gb_hour,
        );
    }
    for (edge, target) in spec.areas.edges.iter().zip(&mut settings.edges) {
        let path = format!("areas.edges[{}]", edge.name);
        target.area.localities = count(&edge.localities);
        if let Some(prices) = &edge.prices {
            let to = &mut target.area.prices;
            parser.price(
                &format!("{path}.prices.cpuCoreHour"),
                &prices.cpu_core_hour,
                &mut to.cpu_core_hour,
            );
            parser.price(
                &format!("{path}.prices.memoryGBHour"),
                &prices.memory_gb_hour,
                &mut to.memory_gb_hour,
            );
            target.traffic_gb = Money::ZERO;
            if let Some(traffic) = &prices.traffic_gb {
                parser.price(
                    &format!("{path}.prices.trafficGB"),
                    traffic,
                    &mut target.traffic_gb,
                );
            }
        }
        let bandwidth = edge.link.as_ref().and_then(|link| link.bandwidth.as_ref());
        target.bandwidth = bandwidth.and_then(|text| {
            let bits = parser.bandwidth(&format!("{path}.link.bandwidth"), text)?;
            Some(BitsPerSecond::nearest(bits))
        });
        if let Some(capacity) = &edge.capacity {
            let at = |field: &str| format!("{path}.capacity.{field}");
            let cpu = capacity
                .cpu
                .as_ref()
                .and_then(|amount| parser.amount(&at("cpu"), amount));
            let memory = capacity.memory.as_ref();
            let memory = memory.and_then(|amount| parser.amount(&at("memory"), amount));
            target.capacity = Capacity {
                cpu: cpu.map(CpuCores::nearest),
                memory: memory.map(|bytes| Gigabytes::nearest(bytes / 1e9)),
                pods: capacity.pods,
            };
        }
    }
}
