//! Clusters as istiod writes them for a service with our rule.

use std::net::SocketAddr;
use std::path::Path;

use gma_core::routing::OutlierDetection;
use serde_json::{Value, json};

use super::{CONTROLLER_CLUSTER, SERVICE_PORT, lb_endpoint, outbound_cluster};

/// istiod's default for every limit: none.
const UNLIMITED: u32 = u32::MAX;

/// The cluster for calls to `host`, its endpoints in `endpoints`.
pub fn outbound(host: &str, endpoints: &Path) -> Value {
    let name = outbound_cluster(host);
    let (short_name, namespace) = host_parts(host);
    let rule = OutlierDetection::default();
    json!({
        "name": name,
        "type": "EDS",
        "eds_cluster_config": {
            "service_name": name,
            "eds_config": {
                "resource_api_version": "V3",
                "initial_fetch_timeout": "0s",
                "path_config_source": {
                    "path": endpoints,
                    "watched_directory": {"path": endpoints.parent()},
                },
            },
        },
        "connect_timeout": "10s",
        "lb_policy": "LEAST_REQUEST",
        "common_lb_config": {
            "locality_weighted_lb_config": {},
            "healthy_panic_threshold": {"value": rule.min_health_percent},
        },
        "circuit_breakers": circuit_breakers(),
        "outlier_detection": outlier_detection(&rule),
        "metadata": {"filter_metadata": {"istio": {
            "default_original_port": SERVICE_PORT,
            "services": [{"host": host, "name": short_name, "namespace": namespace}],
        }}},
    })
}

/// The cluster of a sidecar's own cell.
pub(super) fn inbound(cell: SocketAddr) -> Value {
    let name = format!("inbound|{SERVICE_PORT}||");
    json!({
        "name": name,
        "type": "STATIC",
        "connect_timeout": "10s",
        "circuit_breakers": circuit_breakers(),
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [lb_endpoint(cell)]}]},
    })
}

/// The cluster of the controller. No outlier detection: a controller that was away is tried again at once.
pub(super) fn controller(address: SocketAddr) -> Value {
    json!({
        "name": CONTROLLER_CLUSTER,
        "type": "STATIC",
        "connect_timeout": "10s",
        "circuit_breakers": circuit_breakers(),
        "load_assignment": {
            "cluster_name": CONTROLLER_CLUSTER,
            "endpoints": [{"lb_endpoints": [lb_endpoint(address)]}],
        },
    })
}

/// istiod turns off what a rule sets to 0, and ejection by success rate always.
fn outlier_detection(rule: &OutlierDetection) -> Value {
    let enforcing = |errors: u32| if errors > 0 { 100 } else { 0 };
    json!({
        "consecutive_gateway_failure": rule.consecutive_gateway_errors,
        "enforcing_consecutive_gateway_failure": enforcing(rule.consecutive_gateway_errors),
        "consecutive_5xx": rule.consecutive_5xx_errors,
        "enforcing_consecutive_5xx": enforcing(rule.consecutive_5xx_errors),
        "enforcing_success_rate": 0,
        "interval": rule.interval,
        "base_ejection_time": rule.base_ejection_time,
        "max_ejection_percent": rule.max_ejection_percent,
    })
}

fn circuit_breakers() -> Value {
    json!({"thresholds": [{
        "max_connections": UNLIMITED,
        "max_pending_requests": UNLIMITED,
        "max_requests": UNLIMITED,
        "max_retries": UNLIMITED,
        "track_remaining": true,
    }]})
}

/// Service and namespace of a host.
pub(super) fn host_parts(host: &str) -> (&str, &str) {
    let mut parts = host.split('.');
    (parts.next().unwrap_or_default(), parts.next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn s1() -> Value {
        outbound(
            "s1.shop.svc.cluster.local",
            Path::new("/eds/cloud/s1/endpoints.json"),
        )
    }

    #[test]
    fn names_are_istios() {
        assert_eq!(s1()["name"], "outbound|8080||s1.shop.svc.cluster.local");
        assert_eq!(inbound("127.0.0.1:1".parse().unwrap())["name"], "inbound|8080||");
    }

    #[test]
    fn weights_take_effect_and_panic_comes_below_one_percent_only() {
        let cluster = s1();
        assert_eq!(cluster["lb_policy"], "LEAST_REQUEST");
        assert_eq!(
            cluster["common_lb_config"]["locality_weighted_lb_config"],
            json!({})
        );
        assert_eq!(cluster["common_lb_config"]["healthy_panic_threshold"]["value"], 1);
    }

    #[test]
    fn only_gateway_errors_eject() {
        let outlier = &s1()["outlier_detection"];
        assert_eq!(outlier["consecutive_gateway_failure"], 3);
        assert_eq!(outlier["enforcing_consecutive_5xx"], 0);
        assert_eq!(outlier["enforcing_success_rate"], 0);
        assert_eq!(outlier["max_ejection_percent"], 100);
    }

    #[test]
    fn endpoints_are_watched_by_their_folder() {
        let source = &s1()["eds_cluster_config"]["eds_config"]["path_config_source"];
        assert_eq!(source["path"], "/eds/cloud/s1/endpoints.json");
        assert_eq!(source["watched_directory"]["path"], "/eds/cloud/s1");
    }
}
