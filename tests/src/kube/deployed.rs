//! The controller as `deploy/base` deploys it, with what a rig's pods need to run.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::ListParams;
use serde_json::{Value, json};

use super::NAMESPACE;
use crate::rig::Cluster;

/// Longest wait for a leader: a lease that somebody left is taken after 15 s.
const LEADS: Duration = Duration::from_secs(60);
const PORT: u16 = 8080;

/// Applies `deploy/base`; gives the leader's address. The image is the rig's `gma`; a pod's processes share the network with
/// all others and have no token of their own, so they listen at the pod's address and are told a kubeconfig.
///
/// # Errors
/// The API server's, or nobody leads.
pub async fn deploy(cluster: &Cluster) -> anyhow::Result<SocketAddr> {
    let objects = cluster.render("deploy/base")?;
    let (deployments, others): (Vec<Value>, Vec<Value>) = objects
        .into_iter()
        .partition(|object| object.pointer("/kind") == Some(&json!("Deployment")));
    for object in others {
        cluster.apply(&object.to_string()).await?;
    }
    let kubeconfig = cluster.kubeconfig_of(NAMESPACE, "gma").await?;
    for mut deployment in deployments {
        let container = deployment
            .pointer_mut("/spec/template/spec/containers/0")
            .context("no container")?;
        let image = container.get_mut("image").context("no image")?;
        *image = json!("gma");
        let environment = container.get_mut("env").and_then(Value::as_array_mut);
        let environment = environment.context("no environment")?;
        environment.retain(|variable| variable.get("name") != Some(&json!("GMA_LISTEN")));
        environment.extend([
            json!({"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}),
            json!({"name": "GMA_LISTEN", "value": format!("$(POD_IP):{PORT}")}),
            json!({"name": "KUBECONFIG", "value": kubeconfig}),
        ]);
        cluster.apply(&deployment.to_string()).await?;
    }
    let pods: Api<Pod> = Api::namespaced(cluster.client.clone(), NAMESPACE);
    let end = Instant::now() + LEADS;
    loop {
        let labelled = ListParams::default().labels(gma_k8s::LEADER_LABEL);
        let leaders = pods.list(&labelled).await?.items;
        let address = leaders
            .iter()
            .find_map(|pod| pod.status.as_ref()?.pod_ip.as_ref());
        if let (1, Some(address)) = (leaders.len(), address) {
            return Ok(SocketAddr::new(address.parse()?, PORT));
        }
        ensure!(Instant::now() < end, "nobody leads: {leaders:#?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
