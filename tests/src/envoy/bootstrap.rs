//! Envoy's configuration in the form that istiod gives it: cluster names, localities, no route timeout,
//! HTTP/1.1 and HTTP/2 upstream as the caller speaks, the filter by ECDS.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

/// Name of the filter in listeners and in ECDS.
const FILTER: &str = "gma";

/// The controller's cluster.
pub(super) const CONTROLLER_CLUSTER: &str = "outbound|8080||gma.gma-system.svc.cluster.local";

/// An endpoint, its locality (region, zone) and that locality's weight.
#[derive(Clone, Copy, Debug)]
pub(super) struct Endpoint {
    pub(super) address: SocketAddr,
    pub(super) locality: (&'static str, &'static str),
    pub(super) weight: u32,
}

/// An HTTP listener; its port is the kernel's choice.
#[derive(Clone, Debug)]
pub(super) struct Listener {
    pub(super) name: &'static str,
    pub(super) is_inbound: bool,
    /// Host and cluster; `*` is every host.
    pub(super) routes: Vec<(&'static str, String)>,
}

/// What one Envoy is told.
#[derive(Clone, Debug)]
pub(super) struct Bootstrap {
    pub(super) node: &'static str,
    pub(super) workload: &'static str,
    pub(super) locality: (&'static str, &'static str),
    pub(super) listeners: Vec<Listener>,
    pub(super) clusters: Vec<(String, Vec<Endpoint>)>,
}

pub(super) fn outbound(host: &str) -> String {
    format!("outbound|80||{host}")
}

pub(super) fn inbound(port: u16) -> String {
    format!("inbound|{port}||")
}

// === impl Bootstrap ===

impl Bootstrap {
    /// The whole; the filter is read from `ecds`.
    pub(super) fn to_json(&self, ecds: &Path) -> Value {
        let (region, zone) = self.locality;
        json!({
            "node": {
                "id": self.node,
                "cluster": format!("{}.shop", self.workload),
                "locality": {"region": region, "zone": zone},
                "metadata": {
                    "NAMESPACE": "shop", "WORKLOAD_NAME": self.workload, "CLUSTER_ID": "Kubernetes",
                    "LABELS": {"app": self.workload, "version": "v1"},
                },
            },
            "admin": {"address": address("127.0.0.1", 0)},
            "static_resources": {
                "listeners": self.listeners.iter().map(|listener| listener.to_json(ecds)).collect::<Vec<_>>(),
                "clusters": self.clusters.iter().map(|(name, endpoints)| cluster(name, endpoints)).collect::<Vec<_>>(),
            },
        })
    }
}

impl Listener {
    fn to_json(&self, ecds: &Path) -> Value {
        let hosts: Vec<_> = self
            .routes
            .iter()
            .map(|(host, cluster)| {
                json!({
                    "name": host, "domains": [host],
                    "routes": [{"match": {"prefix": "/"}, "route": {"cluster": cluster, "timeout": "0s"}}],
                })
            })
            .collect();
        json!({
            "name": self.name,
            "traffic_direction": if self.is_inbound { "INBOUND" } else { "OUTBOUND" },
            "address": address("127.0.0.1", 0),
            "filter_chains": [{"filters": [{
                "name": "envoy.filters.network.http_connection_manager",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
                    "stat_prefix": self.name,
                    "route_config": {"name": self.name, "virtual_hosts": hosts},
                    "http_filters": [discovered_filter(ecds), router()],
                    "access_log": [durations(&durations_file(ecds, self.name))],
                },
            }]}],
        })
    }
}

/// Where a listener's durations are written, a line each.
pub(super) fn durations_file(ecds: &Path, listener: &str) -> PathBuf {
    ecds.with_file_name(format!("{listener}.durations"))
}

/// Envoy's own measurement: from the first byte of the request to the last of the answer, microseconds.
fn durations(path: &Path) -> Value {
    json!({
        "name": "envoy.access_loggers.file",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog",
            "path": path,
            "log_format": {"text_format_source": {
                "inline_string": "%COMMON_DURATION(DS_RX_BEG:DS_TX_END:us)%\n",
            }},
        },
    })
}

fn discovered_filter(ecds: &Path) -> Value {
    json!({
        "name": FILTER,
        "config_discovery": {
            "config_source": {
                "path_config_source": {"path": ecds, "watched_directory": {"path": ecds.parent()}},
                "resource_api_version": "V3",
            },
            "type_urls": ["type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm"],
        },
    })
}

fn router() -> Value {
    json!({
        "name": "envoy.filters.http.router",
        "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
    })
}

/// The ECDS answer: what istiod makes of a `WasmPlugin` with this configuration.
pub(super) fn ecds(module: &Path, configuration: &str, version: u64) -> Value {
    json!({
        "version_info": version.to_string(),
        "resources": [{
            "@type": "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig",
            "name": FILTER,
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm",
                "config": {
                    "name": FILTER,
                    "root_id": FILTER,
                    "failure_policy": "FAIL_OPEN",
                    "configuration": {
                        "@type": "type.googleapis.com/google.protobuf.StringValue",
                        "value": configuration,
                    },
                    "vm_config": {
                        "runtime": "envoy.wasm.runtime.v8",
                        "code": {"local": {"filename": module}},
                    },
                },
            },
        }],
    })
}

fn cluster(name: &str, endpoints: &[Endpoint]) -> Value {
    let localities: Vec<_> = endpoints
        .iter()
        .map(|endpoint| {
            let (region, zone) = endpoint.locality;
            json!({
                "locality": {"region": region, "zone": zone},
                "load_balancing_weight": endpoint.weight,
                "lb_endpoints": [{"endpoint": {
                    "address": address(&endpoint.address.ip().to_string(), endpoint.address.port()),
                }}],
            })
        })
        .collect();
    json!({
        "name": name,
        "type": "STATIC",
        "connect_timeout": "5s",
        "load_assignment": {"cluster_name": name, "endpoints": localities},
        "common_lb_config": {"locality_weighted_lb_config": {}, "healthy_panic_threshold": {}},
        // As istiod: no thresholds that a test could meet.
        "circuit_breakers": {"thresholds": [{
            "max_connections": 100_000, "max_pending_requests": 100_000, "max_requests": 100_000,
        }]},
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "use_downstream_protocol_config": {"http_protocol_options": {}, "http2_protocol_options": {}},
            },
        },
    })
}

fn address(ip: &str, port: u16) -> Value {
    json!({"socket_address": {"address": ip, "port_value": port}})
}
