//! The application under the faults: three services, two of them at the edge.
//!
//! ```text
//! users -> gateway -> s0 --+--> s1            s0 and s1 are placed at the edge
//!                          +--> s2, 1 in 10   s2 is in the cloud, so every fault of the WAN is felt
//! ```

use serde_json::{Value, json};

use crate::local::host;

/// Services that are placed at the edge before a fault.
pub(super) const PLACED: [&str; 2] = ["s0", "s1"];
/// What users ask for.
pub(super) const PATH: &str = "/api/v1";
/// The same, but s1 takes 20 s.
pub(super) const SLOW_PATH: &str = "/api/v1?bid=slow";
/// Another route of s1.
pub(super) const ROUTE_PATH: &str = "/api/v1?bid=route";
/// Ends the VM that logs it, where the filter is the one for that.
pub(super) const TRAP_PATH: &str = "/gma-trap";

/// The work model. Without network a request takes some 17 ms.
pub(super) fn workmodel() -> Value {
    let sleeps = |seconds: f64| {
        json!({"loader": {
            "sleep_stress": {"run": true, "sleep_time": seconds}, "mean_response_size": 1.0, "mean_bandwidth": 1.0,
        }})
    };
    let service = |name: &str, seconds: f64, groups: Value| {
        json!({
            "url": host(name).as_str(), "path": PATH, "request_method": "rest",
            "internal_service": sleeps(seconds), "external_services": groups,
        })
    };
    let groups = json!([
        {"seq_len": 1, "services": ["s1"]},
        {"seq_len": 1, "services": ["s2"], "probabilities": {"s2": 0.1}},
    ]);
    let mut s1 = service("s1", 0.010, json!([]));
    if let Some(s1) = s1.as_object_mut() {
        s1.insert(
            "alternative_behaviors".to_owned(),
            json!({"slow": {"internal_service": sleeps(20.0)}}),
        );
    }
    json!({"s0": service("s0", 0.005, groups), "s1": s1, "s2": service("s2", 0.010, json!([]))})
}
