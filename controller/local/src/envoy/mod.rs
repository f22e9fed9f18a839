//! What istiod would give an Envoy, as files: a bootstrap with listeners and clusters, and endpoints (EDS) that change.
//!
//! Listeners and clusters are static, since an application's services do not change while a world lives; so a change
//! of weights is a change of endpoints and nothing else, as with istiod. The clusters carry from the start what the
//! rule of a managed service sets: locality weights, outlier detection, panic threshold.

pub(crate) mod admin;
mod bootstrap;
mod cluster;
mod eds;
mod listener;

use std::net::SocketAddr;

use serde_json::{Value, json};

pub(crate) use bootstrap::{CellPorts, Mesh, NodeSpec, gateway, sidecar};
pub use cluster::outbound;
pub(crate) use eds::EndpointFiles;
pub use eds::{Endpoint, assignment};

/// Port of every service, and of every cell as the mesh sees it.
pub(crate) const SERVICE_PORT: u16 = 8080;
/// Cluster of the controller, as a mesh would name it.
pub(crate) const CONTROLLER_CLUSTER: &str = "outbound|8080||gma.gma-system.svc.cluster.local";

/// Istio's name of the cluster for calls to a host.
pub(crate) fn outbound_cluster(host: &str) -> String {
    format!("outbound|{SERVICE_PORT}||{host}")
}

fn socket_address(address: SocketAddr) -> Value {
    json!({"socket_address": {"address": address.ip().to_string(), "port_value": address.port()}})
}

fn lb_endpoint(address: SocketAddr) -> Value {
    json!({"endpoint": {"address": socket_address(address)}})
}
