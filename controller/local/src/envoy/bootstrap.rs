//! The bootstrap of a proxy.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use gma_core::ids::ServiceName;
use serde_json::{Value, json};

use super::{cluster, listener, socket_address};
use crate::topology::Locality;

/// What all proxies of an area share.
#[derive(Clone, Debug)]
pub(crate) struct Mesh {
    /// Every host, with the file of its endpoints as this area sees it.
    pub(crate) hosts: BTreeMap<String, PathBuf>,
    /// The controller, or the relay to it.
    pub(crate) controller: SocketAddr,
    /// The filter's module.
    pub(crate) filter: Option<PathBuf>,
}

/// Who a proxy is.
#[derive(Clone, Debug)]
pub(crate) struct NodeSpec {
    pub(crate) ip: IpAddr,
    /// The pod's name.
    pub(crate) name: String,
    pub(crate) namespace: String,
    pub(crate) workload: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) locality: Locality,
}

/// Addresses of a sidecar and its cell.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CellPorts {
    pub(crate) admin: SocketAddr,
    /// For callers.
    pub(crate) inbound: SocketAddr,
    /// For the cell's calls.
    pub(crate) outbound: SocketAddr,
    /// Of the cell itself.
    pub(crate) cell: SocketAddr,
}

// === impl Mesh ===

impl Mesh {
    /// What a proxy that calls `hosts` only needs.
    pub(crate) fn of(&self, hosts: &BTreeSet<ServiceName>) -> Self {
        let own = self
            .hosts
            .iter()
            .filter(|(host, _)| hosts.contains(&ServiceName::new(host.as_str())));
        Self {
            hosts: own.map(|(host, file)| (host.clone(), file.clone())).collect(),
            ..self.clone()
        }
    }
}

// === impl NodeSpec ===

impl NodeSpec {
    /// Istio's node id; `kind` is `sidecar` or `router`.
    pub(crate) fn id(&self, kind: &str) -> String {
        let Self {
            ip, name, namespace, ..
        } = self;
        format!("{kind}~{ip}~{name}.{namespace}~{namespace}.svc.cluster.local")
    }

    fn node(&self, kind: &str) -> Value {
        json!({
            "id": self.id(kind),
            "cluster": format!("{}.{}", self.workload, self.namespace),
            "locality": locality(&self.locality),
            "metadata": {
                "NAME": self.name,
                "NAMESPACE": self.namespace,
                "WORKLOAD_NAME": self.workload,
                "INSTANCE_IPS": self.ip.to_string(),
                // istiod's default.
                "CLUSTER_ID": "Kubernetes",
                "LABELS": self.labels,
            },
        })
    }
}

/// A sidecar's bootstrap.
pub(crate) fn sidecar(node: &NodeSpec, mesh: &Mesh, ports: CellPorts) -> Value {
    let filter = mesh.filter.as_deref();
    let listeners = [
        listener::inbound(ports.inbound, filter),
        listener::outbound(ports.outbound, mesh.hosts.keys().map(String::as_str), filter),
    ];
    let mut clusters = outbound_clusters(mesh);
    clusters.push(cluster::inbound(ports.cell));
    bootstrap(&node.node("sidecar"), ports.admin, &listeners, &clusters)
}

/// A gateway's bootstrap; its users are routed to `ingress`.
pub(crate) fn gateway(
    node: &NodeSpec,
    mesh: &Mesh,
    ingress: &str,
    admin: SocketAddr,
    users: SocketAddr,
) -> Value {
    let listeners = [listener::gateway(users, ingress, mesh.filter.as_deref())];
    bootstrap(&node.node("router"), admin, &listeners, &outbound_clusters(mesh))
}

fn outbound_clusters(mesh: &Mesh) -> Vec<Value> {
    let hosts = mesh.hosts.iter().map(|(host, endpoints): (&String, &PathBuf)| {
        let endpoints: &Path = endpoints;
        cluster::outbound(host, endpoints)
    });
    hosts.chain([cluster::controller(mesh.controller)]).collect()
}

fn bootstrap(node: &Value, admin: SocketAddr, listeners: &[Value], clusters: &[Value]) -> Value {
    json!({
        "node": node,
        "admin": {"address": socket_address(admin)},
        "static_resources": {"listeners": listeners, "clusters": clusters},
    })
}

pub(super) fn locality(locality: &Locality) -> Value {
    let Locality {
        region,
        zone,
        sub_zone,
    } = locality;
    json!({"region": region, "zone": zone, "sub_zone": sub_zone})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_node_is_as_istio_writes_it() {
        let node = NodeSpec {
            ip: "127.9.0.1".parse().unwrap(),
            name: "s1-cloud-1".to_owned(),
            namespace: "shop".to_owned(),
            workload: "s1".to_owned(),
            labels: BTreeMap::from([("app".to_owned(), "s1".to_owned())]),
            locality: "eu/a".parse().unwrap(),
        };
        let node = node.node("sidecar");
        assert_eq!(
            node["id"],
            "sidecar~127.9.0.1~s1-cloud-1.shop~shop.svc.cluster.local"
        );
        assert_eq!(node["metadata"]["LABELS"]["app"], "s1");
        assert_eq!(
            node["locality"],
            json!({"region": "eu", "zone": "a", "sub_zone": ""})
        );
    }
}
