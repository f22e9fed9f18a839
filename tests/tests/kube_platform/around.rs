//! What is beside the controller: the metrics API, and its other replica.

use std::time::{Duration, Instant};

use anyhow::ensure;
use gma_tests::kube::{App, Controller, NAMESPACE, OBJECT, install};
use gma_tests::rig::Cluster;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Api;
use kube::api::{DeleteParams, ListParams};
use serde_json::json;

use super::SOON;

/// metrics-server is played by objects of its kind.
pub(super) async fn cpu_in_use_is_asked_of_the_metrics_api(cluster: &Cluster) -> anyhow::Result<()> {
    install(cluster).await?;
    let definitions: Api<CustomResourceDefinition> = Api::all(cluster.client.clone());
    let any = json!({"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}});
    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "pods.metrics.k8s.io", "annotations": {
            "api-approved.kubernetes.io": "unapproved, plays metrics-server in a test",
        }},
        "spec": {"group": "metrics.k8s.io", "scope": "Namespaced",
            "names": {"plural": "pods", "singular": "pod", "kind": "PodMetrics"},
            "versions": [{"name": "v1beta1", "served": true, "storage": true, "schema": any}]},
    });
    cluster.apply(&definition.to_string()).await?;
    let controller = Controller::start(cluster, "measured", 18061).await?;
    let app = App::create(cluster, "measured", controller.address).await?;
    let pods: Api<Pod> = Api::namespaced(cluster.client.clone(), "measured");
    for pod in pods.list_metadata(&ListParams::default()).await?.items {
        let metrics = json!({
            "apiVersion": "metrics.k8s.io/v1beta1", "kind": "PodMetrics",
            "metadata": {"name": pod.metadata.name, "namespace": "measured"},
            "containers": [{"name": "web", "usage": {"cpu": "250m", "memory": "64Mi"}}],
        });
        controller
            .until("the definition is in force", SOON, async || {
                let applied = cluster.apply(&metrics.to_string()).await;
                Ok(applied.map(|_| ()).map_err(|error| format!("{error:#}")))
            })
            .await?;
    }
    app.place(cluster).await?;
    controller
        .until("costs are measured", SOON, async || {
            let conditions = app.api().get(OBJECT).await?.status.unwrap_or_default().conditions;
            let found = conditions.into_iter().find(|one| one.type_ == "CostMeasured");
            Ok(match found {
                Some(one) if one.status == "True" => Ok(()),
                other => Err(format!("{other:?}")),
            })
        })
        .await?;
    app.delete(&controller).await?;
    definitions
        .delete("pods.metrics.k8s.io", &DeleteParams::default())
        .await?;
    Ok(())
}

/// The controller as a Deployment of two: the Service for reports has one endpoint, whoever leads.
pub(super) async fn the_label_follows_the_leader(cluster: &Cluster) -> anyhow::Result<()> {
    install(cluster).await?;
    cluster.add_node("cloud-1", "cloud/cloud-1").await?;
    let kubeconfig = cluster.kubeconfig_of(NAMESPACE, "gma").await?;
    let field =
        |name: &str, path: &str| json!({"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}});
    let labels = json!({"app.kubernetes.io/name": "gma"});
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "gma", "namespace": NAMESPACE},
        "spec": {"replicas": 2, "selector": {"matchLabels": labels}, "template": {
            "metadata": {"labels": labels},
            "spec": {"terminationGracePeriodSeconds": 10, "containers": [{
                "name": "gma", "image": "gma", "args": ["run", "--listen", "$(POD_IP):8080"],
                "ports": [{"containerPort": 8080}],
                "env": [
                    field("POD_NAME", "metadata.name"), field("POD_NAMESPACE", "metadata.namespace"),
                    field("POD_IP", "status.podIP"), {"name": "KUBECONFIG", "value": kubeconfig},
                ],
            }]},
        }},
    });
    cluster.apply(&deployment.to_string()).await?;
    cluster
        .until_ready(NAMESPACE, "app.kubernetes.io/name=gma", 2)
        .await?;
    let pods: Api<Pod> = Api::namespaced(cluster.client.clone(), NAMESPACE);
    let leader = async |but: &str| -> anyhow::Result<String> {
        let end = Instant::now() + SOON;
        loop {
            let labelled = pods
                .list(&ListParams::default().labels(gma_k8s::LEADER_LABEL))
                .await?
                .items;
            let names: Vec<String> = labelled.into_iter().filter_map(|pod| pod.metadata.name).collect();
            match names.as_slice() {
                [one] if one != but => return Ok(one.clone()),
                other => ensure!(Instant::now() < end, "labelled: {other:?}"),
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let first = leader("").await?;
    // A leader that is asked to end gives the lease away, so nobody waits until it has ended.
    let begin = Instant::now();
    pods.delete(&first, &DeleteParams::default()).await?;
    let second = leader(&first).await?;
    println!(
        "the label moved from {first} to {second} after {:.1} s",
        begin.elapsed().as_secs_f64()
    );
    let deployments: Api<Deployment> = Api::namespaced(cluster.client.clone(), NAMESPACE);
    deployments.delete("gma", &DeleteParams::default()).await?;
    cluster
        .until_ready(NAMESPACE, "app.kubernetes.io/name=gma", 0)
        .await?;
    Ok(())
}
