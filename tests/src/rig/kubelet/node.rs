//! Nodes: their status, and the heartbeats without which the node controller takes their pods out of service.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::jiff::Timestamp;
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;

use super::super::apply::apply;

/// As the real one. After 50 s without, a node is not ready.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// Label of the nodes whose pods are processes here.
pub(super) const LABEL: &str = "gma-rig/node";

/// A node with this annotation gives no heartbeat, as one that is cut off.
pub const SILENT_ANNOTATION: &str = "gma-rig/silent";

/// Adds a node at a locality `region/zone`; room for 110 pods, 64 cores.
pub(in super::super) async fn add(client: &Client, name: &str, locality: &str) -> anyhow::Result<()> {
    let (region, zone) = locality.split_once('/').unwrap_or((locality, ""));
    let mut labels = json!({LABEL: "process", "kubernetes.io/hostname": name, "kubernetes.io/os": "linux"});
    for (key, value) in [
        ("topology.kubernetes.io/region", region),
        ("topology.kubernetes.io/zone", zone),
    ] {
        if !value.is_empty() {
            labels[key] = value.into();
        }
    }
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}});
    apply(client, &node.to_string()).await?;
    beat(client, name).await?;
    let room = json!({"cpu": "64", "memory": "64Gi", "pods": "110"});
    let status = json!({"status": {
        "capacity": room,
        "allocatable": room,
        "addresses": [{"type": "InternalIP", "address": "192.0.2.1"}],
        "conditions": [{
            "type": "Ready",
            "status": "True",
            "reason": "KubeletReady",
            "lastHeartbeatTime": Timestamp::now(),
            "lastTransitionTime": Timestamp::now(),
        }],
    }});
    let api: Api<Node> = Api::all(client.clone());
    api.patch_status(name, &PatchParams::default(), &Patch::Merge(status))
        .await?;
    Ok(())
}

/// Renews the leases of all nodes, for ever.
pub(super) async fn heartbeats(client: Client, log: super::Log) {
    let api: Api<Node> = Api::all(client.clone());
    let ours = ListParams::default().labels(LABEL);
    let mut ticks = tokio::time::interval(HEARTBEAT);
    loop {
        ticks.tick().await;
        let nodes = match api.list_metadata(&ours).await {
            Ok(nodes) => nodes.items,
            Err(error) => {
                log.line(&format!("nodes: {error}"));
                continue;
            }
        };
        for node in nodes {
            let is_silent = node
                .metadata
                .annotations
                .is_some_and(|annotations| annotations.contains_key(SILENT_ANNOTATION));
            let name = node.metadata.name.unwrap_or_default();
            if is_silent {
                continue;
            }
            if let Err(error) = beat(&client, &name).await {
                log.line(&format!("heartbeat of {name}: {error:#}"));
            }
        }
    }
}

async fn beat(client: &Client, node: &str) -> anyhow::Result<()> {
    let api: Api<Lease> = Api::namespaced(client.clone(), "kube-node-lease");
    let lease = json!({
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": node},
        "spec": {
            "holderIdentity": node,
            "leaseDurationSeconds": 40,
            "renewTime": format!("{:.6}", Timestamp::now()),
        },
    });
    let parameters = PatchParams::apply("rig-kubelet").force();
    api.patch(node, &parameters, &Patch::Apply(lease)).await?;
    Ok(())
}
