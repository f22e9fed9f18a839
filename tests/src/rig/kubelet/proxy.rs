//! A stock Envoy as a pod's proxy, told by istiod what to do.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use serde_json::{Value, json};

use super::spec::PodSpec;
use crate::envoy;

/// Port of Envoy's admin interface, on the pod's address.
pub(super) const ADMIN_PORT: u16 = 15000;

/// How long Envoy goes on after SIGTERM, as Istio's agent has it: `terminationDrainDuration`.
pub(super) const DRAIN: Duration = Duration::from_secs(5);

/// What a proxy is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Beside an application.
    Sidecar,
    /// A gateway.
    Router,
}

/// Writes the bootstrap to `path`. Its locality is not in it: istiod takes it from the pod's node.
pub(super) fn write_bootstrap(path: &Path, role: Role, pod: &PodSpec, ip: IpAddr) -> anyhow::Result<()> {
    let text = bootstrap(role, pod, ip).to_string();
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

fn bootstrap(role: Role, pod: &PodSpec, ip: IpAddr) -> Value {
    let kind = match role {
        Role::Sidecar => "sidecar",
        Role::Router => "router",
    };
    let (name, namespace, workload) = (&pod.name, &pod.namespace, &pod.workload);
    json!({
        "node": {
            "id": format!("{kind}~{ip}~{name}.{namespace}~{namespace}.svc.cluster.local"),
            "cluster": format!("{workload}.{namespace}"),
            "metadata": metadata(role, pod, ip),
        },
        "admin": {"address": {"socket_address": {"address": ip.to_string(), "port_value": ADMIN_PORT}}},
        // Pods share one network namespace, where the kernel would take the callee's address as the caller's too.
        "cluster_manager": {"upstream_bind_config": {
            "source_address": {"address": ip.to_string(), "port_value": 0},
        }},
        "dynamic_resources": {
            "ads_config": {
                "api_type": "GRPC",
                "transport_api_version": "V3",
                "set_node_on_first_message_only": true,
                "grpc_services": [{"envoy_grpc": {"cluster_name": "xds-grpc"}}],
            },
            "lds_config": {"ads": {}, "resource_api_version": "V3", "initial_fetch_timeout": "0s"},
            "cds_config": {"ads": {}, "resource_api_version": "V3", "initial_fetch_timeout": "0s"},
        },
        "static_resources": {"clusters": [istiod()]},
    })
}

fn metadata(role: Role, pod: &PodSpec, ip: IpAddr) -> Value {
    let mut metadata: BTreeMap<&str, Value> = BTreeMap::from([
        ("NAME", json!(pod.name)),
        ("NAMESPACE", json!(pod.namespace)),
        ("WORKLOAD_NAME", json!(pod.workload)),
        ("INSTANCE_IPS", json!(ip.to_string())),
        ("CLUSTER_ID", json!("Kubernetes")),
        ("MESH_ID", json!("rig")),
        ("LABELS", json!(pod.labels)),
    ]);
    if role == Role::Sidecar {
        // Pods share one network namespace: there is nothing to redirect, listeners bind their ports.
        metadata.insert("INTERCEPTION_MODE", json!("NONE"));
    }
    json!(metadata)
}

fn istiod() -> Value {
    json!({
        "name": "xds-grpc",
        "type": "STATIC",
        "connect_timeout": "1s",
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {"http2_protocol_options": {}},
            },
        },
        "load_assignment": {"cluster_name": "xds-grpc", "endpoints": [{"lb_endpoints": [{"endpoint": {
            "address": {"socket_address": {"address": "127.0.0.1", "port_value": 15010}},
        }}]}]},
    })
}

/// Whether Envoy has what istiod gave it; else why not.
pub(super) async fn probe(ip: IpAddr) -> Result<(), String> {
    let answer = envoy::get(SocketAddr::new(ip, ADMIN_PORT), "/ready").await?;
    if answer.status.is_success() {
        Ok(())
    } else {
        Err(format!("the proxy is {}", answer.text().trim()))
    }
}

/// Tells clients on kept connections to leave, as Istio's agent does when a pod ends.
pub(super) async fn drain(ip: IpAddr) -> Result<(), String> {
    let path = "/drain_listeners?graceful&skip_exit";
    envoy::post(SocketAddr::new(ip, ADMIN_PORT), path, bytes::Bytes::new())
        .await
        .map(drop)
}
