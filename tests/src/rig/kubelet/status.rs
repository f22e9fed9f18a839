//! What a pod's status says.

use std::net::IpAddr;

use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use super::spec::PodSpec;

/// How far a pod is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Bound, and cannot run: why.
    Waiting(String),
    /// Its processes run; `ready`: they serve.
    Running { ready: bool },
}

/// The whole status; `restarts`: how often its processes were started again.
pub(super) fn status(pod: &PodSpec, ip: IpAddr, stage: &Stage, restarts: u32, started: Timestamp) -> Value {
    let now = Timestamp::now();
    let is_ready = *stage == Stage::Running { ready: true };
    let condition = |kind: &str, holds: bool| {
        json!({
            "type": kind,
            "status": if holds { "True" } else { "False" },
            "lastTransitionTime": now,
        })
    };
    let (phase, state) = match stage {
        Stage::Waiting(why) => (
            "Pending",
            json!({"waiting": {"reason": "CreateContainerError", "message": why}}),
        ),
        Stage::Running { .. } => ("Running", json!({"running": {"startedAt": started}})),
    };
    let containers = pod.containers.iter().map(|container| {
        json!({
            "name": container.name,
            "image": container.image.clone().unwrap_or_default(),
            "imageID": "",
            "ready": is_ready,
            "started": is_ready,
            "restartCount": restarts,
            "state": state,
        })
    });
    json!({"status": {
        "phase": phase,
        "hostIP": "192.0.2.1",
        "podIP": ip.to_string(),
        "podIPs": [{"ip": ip.to_string()}],
        "startTime": started,
        "conditions": [
            condition("PodScheduled", true),
            condition("Initialized", true),
            condition("ContainersReady", is_ready),
            condition("Ready", is_ready),
        ],
        "containerStatuses": containers.collect::<Vec<_>>(),
    }})
}
