//! Which proxy is what, as the platform says; never taken from a report.

use std::collections::{BTreeMap, BTreeSet};

use gma_core::ids::{AreaName, ServiceName};
use serde::{Deserialize, Serialize};

/// The platform's view of proxies, areas and services.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Directory {
    /// By Envoy's node id.
    pub proxies: BTreeMap<String, Proxy>,
    /// Area of a locality pattern: `region`, `region/zone` or `region/zone/subzone`. The most
    /// specific pattern that matches counts.
    pub areas: BTreeMap<String, AreaName>,
    /// The services whose calls are measured.
    pub services: BTreeSet<ServiceName>,
}

/// What a proxy is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Proxy {
    /// Where it runs.
    pub area: AreaName,
    /// What it serves.
    pub role: ProxyRole,
}

/// What a proxy serves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ProxyRole {
    /// The ingress gateway of an edge: its outbound requests are the users'.
    Gateway,
    /// Beside an instance.
    Sidecar {
        /// Service of each container port. The first service is the caller of outbound requests.
        ports: BTreeMap<u16, ServiceName>,
    },
}
