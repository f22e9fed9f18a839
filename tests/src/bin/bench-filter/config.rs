//! Envoy's configuration: three listeners in a row, the filter on the first two.

use std::{fmt, net::SocketAddr, path::PathBuf};

use serde_json::{Value, json};

/// The controller's cluster, as istiod names it.
const CONTROLLER: &str = "outbound|8080||gma.gma-system.svc.cluster.local";
/// A sidecar's own pace. Load comes in slices while the pace counts all time, so the cost of reports is rather
/// over-stated.
const INTERVAL: &str = "4s";
/// The cluster that listener A routes to.
const OUTBOUND: &str = "outbound|80||cart.shop.svc.cluster.local";
/// The cluster that listener B routes to.
const INBOUND: &str = "inbound|8080||";

/// What is compared.
#[derive(Debug, Clone)]
pub(crate) struct Variant {
    pub(crate) name: String,
    pub(crate) module: Option<PathBuf>,
    /// In each of the two chains.
    pub(crate) copies: usize,
}

/// Ports of one Envoy.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ports {
    pub(crate) admin: SocketAddr,
    pub(crate) a: SocketAddr,
    pub(crate) b: SocketAddr,
    pub(crate) c: SocketAddr,
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.module.is_none() {
            f.pad(&self.name)
        } else {
            write!(f, "{} x {}", self.name, self.copies)
        }
    }
}

/// The bootstrap of one Envoy.
pub(crate) fn bootstrap(variant: &Variant, ports: Ports, sink: SocketAddr) -> Value {
    let listener = |name: &str, addr, direction, route: Value, filtered: bool| {
        json!({
            "name": name,
            "traffic_direction": direction,
            "address": address(addr),
            "filter_chains": [{"filters": [{
                "name": "envoy.filters.network.http_connection_manager",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
                    "stat_prefix": name,
                    "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
                    "http_filters": filters(variant, filtered),
                },
            }]}],
        })
    };
    let to = |cluster| json!({"match": {"prefix": "/"}, "route": {"cluster": cluster, "timeout": "0s"}});
    let ok = json!({"match": {"prefix": "/"}, "direct_response": {"status": 200, "body": {"inline_string": "ok"}}});
    json!({
        "node": {
            "id": "sidecar~127.0.0.1~cart-0.shop~shop.svc.cluster.local",
            "cluster": "cart.shop",
            "locality": {"region": "r1", "zone": "edge-1"},
            "metadata": {
                "NAMESPACE": "shop", "WORKLOAD_NAME": "cart", "CLUSTER_ID": "Kubernetes", "LABELS": {"app": "cart"},
            },
        },
        "admin": {"address": address(ports.admin)},
        "static_resources": {
            "listeners": [
                listener("a", ports.a, "OUTBOUND", to(OUTBOUND), true),
                listener("b", ports.b, "INBOUND", to(INBOUND), true),
                listener("c", ports.c, "INBOUND", ok, false),
            ],
            "clusters": [cluster(OUTBOUND, ports.b), cluster(INBOUND, ports.c), cluster(CONTROLLER, sink)],
        },
    })
}

fn filters(variant: &Variant, filtered: bool) -> Vec<Value> {
    let copies = if filtered { variant.copies } else { 0 };
    let wasm = variant.module.iter().cycle().take(copies).map(|module| {
        json!({
            "name": "gma",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm",
                "config": {
                    // The same for all copies: one VM serves them.
                    "name": "gma",
                    "root_id": "gma",
                    "failure_policy": "FAIL_OPEN",
                    "configuration": {
                        "@type": "type.googleapis.com/google.protobuf.StringValue",
                        "value": json!({"controller": {"cluster": CONTROLLER}, "interval": INTERVAL}).to_string(),
                    },
                    "vm_config": {"runtime": "envoy.wasm.runtime.v8", "code": {"local": {"filename": module}}},
                },
            },
        })
    });
    let router = json!({
        "name": "envoy.filters.http.router",
        "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
    });
    wasm.chain([router]).collect()
}

fn cluster(name: &str, to: SocketAddr) -> Value {
    json!({
        "name": name,
        "type": "STATIC",
        "connect_timeout": "5s",
        "load_assignment": {"cluster_name": name, "endpoints": [{
            "locality": {"region": "r1", "zone": "edge-1"},
            "lb_endpoints": [{"endpoint": {"address": address(to)}}],
        }]},
    })
}

fn address(addr: SocketAddr) -> Value {
    json!({"socket_address": {"address": addr.ip().to_string(), "port_value": addr.port()}})
}
