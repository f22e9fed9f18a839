//! What Envoy itself counted, read from its admin port.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde_json::Value;

use super::get;

/// Counters of one Envoy at one moment.
#[derive(Clone, Debug)]
pub struct EnvoyStats {
    counters: BTreeMap<String, u64>,
    clusters: Value,
}

// === impl EnvoyStats ===

impl EnvoyStats {
    /// Reads them.
    ///
    /// # Panics
    /// Where Envoy does not answer.
    pub async fn read(admin: SocketAddr) -> Self {
        let stats: Value =
            serde_json::from_slice(&get(admin, "/stats?format=json").await.unwrap().body).unwrap();
        let counters = stats["stats"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|stat| Some((stat["name"].as_str()?.to_owned(), stat["value"].as_u64()?)))
            .collect();
        let clusters =
            serde_json::from_slice(&get(admin, "/clusters?format=json").await.unwrap().body).unwrap();
        Self { counters, clusters }
    }

    /// A counter; 0 where Envoy has not made it yet.
    pub fn counter(&self, name: &str) -> u64 {
        self.counters.get(name).copied().unwrap_or(0)
    }

    /// A counter of a cluster.
    pub fn of_cluster(&self, cluster: &str, name: &str) -> u64 {
        self.counter(&format!("cluster.{cluster}.{name}"))
    }

    /// Requests that a listener's connection manager received.
    pub fn downstream(&self, stat_prefix: &str) -> u64 {
        self.counter(&format!("http.{stat_prefix}.downstream_rq_total"))
    }

    /// `rq_total` of the cluster's endpoints, by locality (`region/zone`).
    ///
    /// # Panics
    /// Where the answer has another shape.
    pub fn requests_by_locality(&self, cluster: &str) -> BTreeMap<String, u64> {
        let all = self.clusters["cluster_statuses"].as_array().unwrap();
        let found = all.iter().find(|status| status["name"] == cluster).unwrap();
        let mut sums = BTreeMap::new();
        for host in found["host_statuses"].as_array().into_iter().flatten() {
            let part = |name: &str| host["locality"][name].as_str().unwrap_or_default().to_owned();
            let stats = host["stats"].as_array().unwrap();
            let total = stats.iter().find(|stat| stat["name"] == "rq_total").unwrap();
            let total = total["value"].as_str().map_or(0, |text| text.parse().unwrap());
            *sums
                .entry(format!("{}/{}", part("region"), part("zone")))
                .or_insert(0) += total;
        }
        sums
    }
}
