//! Listeners as istiod writes them: a sidecar's inbound and outbound, a gateway's.

use std::net::SocketAddr;
use std::path::Path;

use serde_json::{Value, json};

use super::cluster::host_parts;
use super::{CONTROLLER_CLUSTER, SERVICE_PORT, outbound_cluster, socket_address};

/// A sidecar's listener for callers: everything to the cell.
pub(super) fn inbound(address: SocketAddr, filter: Option<&Path>) -> Value {
    let cluster = format!("inbound|{SERVICE_PORT}||");
    // istiod's inbound policy: what the cell did not see may be sent again.
    let retry = json!({"retry_on": "reset-before-request", "num_retries": 2});
    let route = json!({
        "name": "default",
        "match": {"prefix": "/"},
        "route": {"cluster": cluster, "timeout": "0s", "max_stream_duration": no_limit(), "retry_policy": retry},
    });
    let hosts = json!([{"name": "inbound|http|8080", "domains": ["*"], "routes": [route]}]);
    listener(
        "inbound",
        "INBOUND",
        address,
        &connection_manager("inbound_8080", false, &hosts, filter),
    )
}

/// A sidecar's listener for its cell's calls: each host to its cluster, others refused (REGISTRY_ONLY).
pub(super) fn outbound<'a>(
    address: SocketAddr,
    hosts: impl Iterator<Item = &'a str>,
    filter: Option<&Path>,
) -> Value {
    let mut hosts: Vec<Value> = hosts.map(virtual_host).collect();
    hosts.push(json!({
        "name": "block_all",
        "domains": ["*"],
        "routes": [{"name": "block_all", "match": {"prefix": "/"}, "direct_response": {"status": 502}}],
    }));
    listener(
        "outbound",
        "OUTBOUND",
        address,
        &connection_manager("outbound_8080", false, &hosts.into(), filter),
    )
}

/// A gateway's listener for users: everything to `ingress`.
pub(super) fn gateway(address: SocketAddr, ingress: &str, filter: Option<&Path>) -> Value {
    let hosts = json!([{
        "name": "*:8080",
        "domains": ["*"],
        "include_request_attempt_count": true,
        "routes": [{"match": {"prefix": "/"}, "route": route_to(ingress)}],
    }]);
    listener(
        "gateway",
        "OUTBOUND",
        address,
        &connection_manager("outbound_0.0.0.0_8080", true, &hosts, filter),
    )
}

fn virtual_host(host: &str) -> Value {
    let (name, namespace) = host_parts(host);
    let names = [
        host.to_owned(),
        name.to_owned(),
        format!("{name}.{namespace}"),
        format!("{name}.{namespace}.svc"),
    ];
    let domains: Vec<String> = names
        .into_iter()
        .flat_map(|name| [format!("{name}:{SERVICE_PORT}"), name])
        .collect();
    json!({
        "name": format!("{host}:{SERVICE_PORT}"),
        "domains": domains,
        "include_request_attempt_count": true,
        "routes": [{"name": "default", "match": {"prefix": "/"}, "route": route_to(host)}],
    })
}

/// istiod's default route: no timeout, two retries on hosts not yet tried.
fn route_to(host: &str) -> Value {
    json!({
        "cluster": outbound_cluster(host),
        "timeout": "0s",
        "max_stream_duration": no_limit(),
        "retry_policy": {
            // Since Istio 1.24 no status code is in the list, so an answered 503 is not sent again.
            "retry_on": "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes",
            "num_retries": 2,
            "retry_host_predicate": [{
                "name": "envoy.retry_host_predicates.previous_hosts",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate",
                },
            }],
            "host_selection_retry_max_attempts": 5,
        },
    })
}

fn no_limit() -> Value {
    json!({"max_stream_duration": "0s", "grpc_timeout_header_max": "0s"})
}

fn listener(name: &str, direction: &str, address: SocketAddr, connection_manager: &Value) -> Value {
    json!({
        "name": name,
        "address": socket_address(address),
        "traffic_direction": direction,
        "filter_chains": [{"filters": [{
            "name": "envoy.filters.network.http_connection_manager",
            "typed_config": connection_manager,
        }]}],
    })
}

/// `from_users`: whether callers are users, whose addresses taken from their connections.
fn connection_manager(stat_prefix: &str, from_users: bool, hosts: &Value, filter: Option<&Path>) -> Value {
    let mut filters: Vec<Value> = filter.map(wasm).into_iter().collect();
    filters.push(json!({
        "name": "envoy.filters.http.router",
        "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
    }));
    json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": stat_prefix,
        "server_name": "istio-envoy",
        "use_remote_address": from_users,
        "stream_idle_timeout": "0s",
        "normalize_path": true,
        "upgrade_configs": [{"upgrade_type": "websocket"}],
        "route_config": {"name": SERVICE_PORT.to_string(), "validate_clusters": false, "virtual_hosts": hosts},
        "http_filters": filters,
    })
}

/// The filter as a WasmPlugin gives it, with `failStrategy: FAIL_OPEN`: a filter that fails measures nothing and
/// refuses nothing.
fn wasm(module: &Path) -> Value {
    let configuration = json!({"controller": {"cluster": CONTROLLER_CLUSTER}}).to_string();
    json!({
        "name": "gma",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm",
            "config": {
                "name": "gma",
                "root_id": "gma",
                "failure_policy": "FAIL_OPEN",
                "configuration": {
                    "@type": "type.googleapis.com/google.protobuf.StringValue",
                    "value": configuration,
                },
                "vm_config": {"runtime": "envoy.wasm.runtime.v8", "code": {"local": {"filename": module}}},
            },
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const S1: &str = "s1.shop.svc.cluster.local";

    fn routes(listener: &Value) -> &Value {
        &listener["filter_chains"][0]["filters"][0]["typed_config"]["route_config"]["virtual_hosts"]
    }

    fn sidecar_outbound(filter: Option<&Path>) -> Value {
        outbound("127.0.0.1:1".parse().unwrap(), [S1].into_iter(), filter)
    }

    #[test]
    fn retries_are_two_on_other_hosts_and_never_for_an_answered_503() {
        let listener = sidecar_outbound(None);
        let retry = &routes(&listener)[0]["routes"][0]["route"]["retry_policy"];
        assert_eq!(retry["num_retries"], 2);
        assert_eq!(
            retry["retry_host_predicate"][0]["name"],
            "envoy.retry_host_predicates.previous_hosts"
        );
        assert_eq!(retry["host_selection_retry_max_attempts"], 5);
        assert_eq!(retry["retriable_status_codes"], Value::Null);
    }

    #[test]
    fn a_host_is_reached_by_all_names_of_its_service() {
        let listener = sidecar_outbound(None);
        let domains = routes(&listener)[0]["domains"].as_array().unwrap();
        for name in [
            S1,
            "s1.shop.svc.cluster.local:8080",
            "s1",
            "s1.shop",
            "s1.shop.svc:8080",
        ] {
            assert!(domains.contains(&name.into()), "{name}");
        }
    }

    #[test]
    fn an_unknown_host_is_refused() {
        let listener = sidecar_outbound(None);
        assert_eq!(
            routes(&listener)[1]["routes"][0]["direct_response"]["status"],
            502
        );
    }

    #[test]
    fn no_request_times_out_in_the_mesh() {
        let listener = inbound("127.0.0.1:1".parse().unwrap(), None);
        assert_eq!(routes(&listener)[0]["routes"][0]["route"]["timeout"], "0s");
        let listener = gateway("127.0.0.1:1".parse().unwrap(), S1, None);
        assert_eq!(routes(&listener)[0]["routes"][0]["route"]["timeout"], "0s");
    }

    #[test]
    fn the_filter_comes_first_and_fails_open() {
        let listener = sidecar_outbound(Some(Path::new("/f.wasm")));
        let filters = &listener["filter_chains"][0]["filters"][0]["typed_config"]["http_filters"];
        assert_eq!(
            filters[0]["typed_config"]["config"]["failure_policy"],
            "FAIL_OPEN"
        );
        assert_eq!(filters[1]["name"], "envoy.filters.http.router");
    }
}
