//! What measurements cannot say.

use std::collections::BTreeMap;

use super::learned::Learned;
use crate::ids::{AreaName, ServiceName};
use crate::model::{Area, Capacity, Pin, Prices, Standby};
use crate::units::{BitsPerSecond, CpuCores, Gigabytes, Money, Ratio};

/// What measurements cannot say.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The cloud.
    pub cloud: Area,
    /// The edges.
    pub edges: Vec<EdgeSettings>,
    /// Services that differ from `default_service`.
    pub services: BTreeMap<ServiceName, ServiceSettings>,
    /// All other services.
    pub default_service: ServiceSettings,
    /// What an edge's callers leave on the cloud.
    pub standby: Standby,
    /// CPU in use by each service over all areas, cores; services without are taken at their requests.
    pub cpu_cores: BTreeMap<ServiceName, CpuCores>,
    /// What earlier windows taught of overlaps: see [`Learned::observe`].
    pub learned: Learned,
}

/// An edge.
#[derive(Clone, Debug, PartialEq)]
pub struct EdgeSettings {
    /// Name, prices, localities.
    pub area: Area,
    /// From the cloud to the edge; none: never a limit.
    pub bandwidth: Option<BitsPerSecond>,
    /// A GB from the cloud to the edge.
    pub traffic_gb: Money,
    /// What may run there.
    pub capacity: Capacity,
}

/// A service's template.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ServiceSettings {
    /// CPU request of a replica.
    pub cpu_request: CpuCores,
    /// Memory request of a replica.
    pub memory_request: Gigabytes,
    /// Use over request at which replicas are added.
    pub threshold: Ratio,
    /// Replicas that run even without load.
    pub min_replicas: u32,
    /// Whether it may move.
    pub pin: Pin,
}

// === impl Settings ===

impl Settings {
    /// Areas of one locality each with the prices of the µPlacer simulators (per core·h and GB·h: cloud 0.0208 and
    /// 0.0104, edge 0.028 and 0.014; per GB of traffic 0.02): what matters for a choice is that an edge is dearer. No limit
    /// of bandwidth or capacity.
    pub fn new(cloud: AreaName, edges: impl IntoIterator<Item = AreaName>) -> Self {
        let area = |name, cpu: f64, memory: f64| Area {
            name,
            prices: Prices {
                cpu_core_hour: Money::nearest(cpu),
                memory_gb_hour: Money::nearest(memory),
            },
            localities: 1,
        };
        let edge = |name| EdgeSettings {
            area: area(name, 0.028, 0.014),
            bandwidth: None,
            traffic_gb: Money::nearest(0.02),
            capacity: Capacity::default(),
        };
        Self {
            cloud: area(cloud, 0.0208, 0.0104),
            edges: edges.into_iter().map(edge).collect(),
            services: BTreeMap::new(),
            default_service: ServiceSettings::default(),
            standby: Standby::default(),
            cpu_cores: BTreeMap::new(),
            learned: Learned::default(),
        }
    }

    pub(super) fn of(&self, service: &ServiceName) -> ServiceSettings {
        self.services
            .get(service)
            .copied()
            .unwrap_or(self.default_service)
    }

    pub(super) fn area_names(&self) -> impl Iterator<Item = &AreaName> {
        std::iter::once(&self.cloud.name).chain(self.edges.iter().map(|edge| &edge.area.name))
    }
}

// === impl ServiceSettings ===

impl Default for ServiceSettings {
    /// One core and 1 GB a replica, the autoscaler's threshold of the µPlacer papers (0.6), one replica, free to move.
    fn default() -> Self {
        Self {
            cpu_request: CpuCores::nearest(1.0),
            memory_request: Gigabytes::nearest(1.0),
            threshold: Ratio::nearest(0.6),
            min_replicas: 1,
            pin: Pin::Free,
        }
    }
}
