//! Nodes: their status, and the heartbeats without which the node controller takes their pods out of service.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::jiff::Timestamp;
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, Client};
use serde_json::{Value, json};

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
        "conditions": [ready("True", "KubeletReady")],
    }});
    let api: Api<Node> = Api::all(client.clone());
    api.patch_status(name, &PatchParams::default(), &Patch::Merge(status))
        .await?;
    Ok(())
}

/// Cuts a node off: it gives no heartbeat, and what the node controller writes after 50 s of that is written at once.
pub(in super::super) async fn lose(client: &Client, name: &str) -> anyhow::Result<()> {
    silence(client, name, "true".into()).await?;
    say(client, name, ready("Unknown", "NodeStatusUnknown")).await?;
    mark_pods(client, name, "True", is_ready("False")).await
}

/// Heard again: it says so itself at once, and its kubelet corrects its pods at its next turn, `turn` later.
pub(in super::super) async fn give_back(client: &Client, name: &str, turn: Duration) -> anyhow::Result<()> {
    silence(client, name, Value::Null).await?;
    beat(client, name).await?;
    say(client, name, ready("True", "KubeletReady")).await?;
    tokio::time::sleep(turn).await;
    mark_pods(client, name, "False", is_ready("True")).await
}

async fn silence(client: &Client, name: &str, value: Value) -> anyhow::Result<()> {
    let api: Api<Node> = Api::all(client.clone());
    let patch = json!({"metadata": {"annotations": {SILENT_ANNOTATION: value}}});
    api.patch_metadata(name, &PatchParams::default(), &Patch::Merge(patch))
        .await?;
    Ok(())
}

async fn say(client: &Client, name: &str, condition: Value) -> anyhow::Result<()> {
    let api: Api<Node> = Api::all(client.clone());
    let status = json!({"status": {"conditions": [condition]}});
    api.patch_status(name, &PatchParams::default(), &Patch::Strategic(status))
        .await?;
    Ok(())
}

/// Says of those of a node's pods that are said to be Ready, or not, what is so now.
async fn mark_pods(client: &Client, node: &str, before: &str, condition: Value) -> anyhow::Result<()> {
    let all: Api<Pod> = Api::all(client.clone());
    let bound = ListParams::default().fields(&format!("spec.nodeName={node}"));
    let status = Patch::Strategic(json!({"status": {"conditions": [condition]}}));
    for pod in all.list(&bound).await?.items {
        let conditions = pod
            .status
            .and_then(|status| status.conditions)
            .unwrap_or_default();
        let is_meant = conditions
            .iter()
            .any(|one| one.type_ == "Ready" && one.status == before);
        let (Some(namespace), Some(name)) = (pod.metadata.namespace, pod.metadata.name) else {
            continue;
        };
        if is_meant {
            let api: Api<Pod> = Api::namespaced(client.clone(), &namespace);
            api.patch_status(&name, &PatchParams::default(), &status).await?;
        }
    }
    Ok(())
}

/// The condition of a pod.
fn is_ready(status: &str) -> Value {
    json!({"type": "Ready", "status": status, "lastTransitionTime": Timestamp::now()})
}

/// The condition of a node.
fn ready(status: &str, reason: &str) -> Value {
    json!({
        "type": "Ready",
        "status": status,
        "reason": reason,
        "lastHeartbeatTime": Timestamp::now(),
        "lastTransitionTime": Timestamp::now(),
    })
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
