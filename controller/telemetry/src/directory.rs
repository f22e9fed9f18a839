//! Which proxy is what, as the platform says; never taken from a report.

use std::collections::{BTreeMap, BTreeSet};

pub use gma_core::cluster::{Proxy, ProxyRole};
use gma_core::ids::{AreaName, ServiceName};
use serde::{Deserialize, Serialize};

/// The platform's view of proxies, areas and services.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Directory {
    /// By Envoy's node id, or by the `POD.NAMESPACE` in it.
    pub proxies: BTreeMap<String, Proxy>,
    /// Area of a locality pattern: `region`, `region/zone` or `region/zone/subzone`. The most
    /// specific pattern that matches counts.
    pub areas: BTreeMap<String, AreaName>,
    /// The services whose calls are measured.
    pub services: BTreeSet<ServiceName>,
}
