//! Instances at an edge, as they are derived: on a real API server, scheduler and controllers.

#![expect(clippy::indexing_slicing, reason = "of JSON values that are made right there")]

mod stage;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use gma_k8s::derive::{Derived, Source, area_label, existing, shared_taints};
use gma_k8s::rule::MANAGER;
use gma_tests::local::Users;
use gma_tests::rig::{Cluster, Suite, manifests};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PropagationPolicy};
use serde_json::{Value, json};

use stage::{SOON, Stage, shape, yaml};

fn main() -> ExitCode {
    Suite::default()
        .test("each_shape_runs_at_the_edge", each_shape_runs_at_the_edge)
        .test("users_reach_a_derived_instance", users_reach_a_derived_instance)
        .test(
            "autoscalers_do_not_stop_each_other",
            autoscalers_do_not_stop_each_other,
        )
        .test(
            "taints_of_the_edge_are_tolerated",
            taints_of_the_edge_are_tolerated,
        )
        .test(
            "an_existing_deployment_is_scaled_from_zero",
            an_existing_deployment_is_scaled_from_zero,
        )
        .run()
}

// === Tests ===

async fn each_shape_runs_at_the_edge(cluster: &Cluster) -> anyhow::Result<()> {
    let class = json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass",
        "metadata": {"name": "high"}, "value": 1000});
    cluster.apply(&class.to_string()).await?;
    for (file, namespace, deployment, service, in_cloud, count) in [
        ("plain.yaml", "derive-plain", "web", "web", 3, 2),
        ("shared-selector.yaml", "derive-shared", "cart", "cart", 2, 2),
        // No node has the zone of the seeds' cloud.
        ("mubench.yaml", "derive-mubench", "s0-cloud", "s0", 0, 2),
        // Paused; made with 2, and raised by its autoscaler, whose minimum is 4.
        ("everything.yaml", "derive-everything", "api", "api", 0, 4),
    ] {
        let mut stage = Stage::new(cluster, namespace).await?;
        if file == "mubench.yaml" {
            stage.cloud = "cloud".into();
        }
        cluster.apply(&yaml(&shape(file, namespace)?)).await?;
        let cloud_only = format!("!{}", area_label());
        if in_cloud > 0 {
            cluster.until_ready(namespace, &cloud_only, in_cloud).await?;
        }
        let before = stage.owners().await?;

        let derived = stage.derive(deployment, service).await?;
        stage.put(&derived).await.context(file)?;
        stage.until_at_edge(usize::try_from(count)?).await.context(file)?;

        // The cloud's pods are its own as before, the edge's are those of its Deployment.
        let owners = stage.owners().await?;
        let edge = owners.values().filter(|owner| **owner == derived.name).count();
        ensure!(edge == usize::try_from(count)?, "{file}: {owners:?}");
        ensure!(
            before.iter().all(|one| owners.contains_key(one.0)),
            "{file}: {before:?} {owners:?}"
        );
        ensure!(
            owners.len() == before.len() + edge,
            "{file}: {before:?} {owners:?}"
        );
        let cloud = stage
            .deployments()
            .get(deployment)
            .await?
            .status
            .unwrap_or_default();
        ensure!(
            cloud.replicas.unwrap_or(0) == i32::try_from(before.len())?,
            "{file}: {cloud:?}"
        );

        // Once more, from what the server has now: nothing changes.
        let first = generations(&stage, &derived).await?;
        stage.put(&stage.derive(deployment, service).await?).await?;
        let second = generations(&stage, &derived).await?;
        ensure!(second == first, "{file}: {first:?} {second:?}");
        let stored = stage
            .get("Deployment", &derived.name)
            .await?
            .context("not stored")?;
        ensure!(
            stored.pointer("/spec/replicas") == Some(&json!(count)),
            "{stored}"
        );
        println!("{file}: {count} pods at the edge, notes {:?}", derived.notes);
    }
    Ok(())
}

/// Generation of what was made, and our fields of it: both change where an apply changes something.
async fn generations(stage: &Stage<'_>, derived: &Derived) -> anyhow::Result<Vec<Value>> {
    let mut all = Vec::new();
    for kind in ["Deployment", "HorizontalPodAutoscaler"] {
        let Some(object) = stage.get(kind, &derived.name).await? else {
            continue;
        };
        let entries = object
            .pointer("/metadata/managedFields")
            .and_then(Value::as_array);
        let ours = entries.into_iter().flatten().filter(|entry| {
            entry.get("manager").and_then(Value::as_str) == Some(MANAGER)
                && entry.get("operation").and_then(Value::as_str) == Some("Apply")
        });
        all.push(
            object
                .pointer("/metadata/generation")
                .cloned()
                .unwrap_or_default(),
        );
        // Its time, too.
        all.extend(ours.cloned());
        all.push(object.get("spec").cloned().unwrap_or_default());
    }
    Ok(all)
}

/// Cells that serve: the Service has the derived pods, and the gateway's users reach them.
async fn users_reach_a_derived_instance(cluster: &Cluster) -> anyhow::Result<()> {
    let (folder, namespace, address) = (cluster.folder(), "derive-users", "10.244.253.1");
    let stage = Stage::new(cluster, namespace).await?;
    let documents = [
        manifests::namespace(folder, namespace, &[("web", &[])])?,
        manifests::cells(folder, namespace, "web", "cloud-1", 1),
        manifests::gateway(namespace, "edge-1", address, "web"),
    ];
    cluster.apply(&documents.concat()).await?;
    cluster.until_ready(namespace, "app=web", 1).await?;
    cluster.until_ready(namespace, "istio=gateway-edge-1", 1).await?;
    let derived = stage.derive("web-cloud-1", "web").await?;
    ensure!(derived.name == "web-edge-1", "{}", derived.name);
    stage.put(&derived).await?;
    stage.until_at_edge(2).await?;
    let users = Users::at(SocketAddr::new(address.parse()?, manifests::PORT));
    let end = Instant::now() + SOON;
    loop {
        let sent = users.send_each("/api/v1", 20).await;
        let zones: BTreeSet<&str> = sent
            .iter()
            .filter(|one| one.is_ok())
            .map(|one| one.zone.as_str())
            .collect();
        if zones == BTreeSet::from(["cloud-1", "edge-1"]) {
            return Ok(());
        }
        ensure!(Instant::now() < end, "only {zones:?} answer within {SOON:?}");
    }
}

/// Two autoscalers that select a pod are both stopped. So there is none at the edge where the cloud's selector matches
/// its pods, and with the selector that the note asks for there is one.
async fn autoscalers_do_not_stop_each_other(cluster: &Cluster) -> anyhow::Result<()> {
    let namespace = "derive-scaled";
    let stage = Stage::new(cluster, namespace).await?;
    let mut objects = shape("shared-selector.yaml", namespace)?;
    cluster.apply(&yaml(&objects)).await?;
    cluster.until_ready(namespace, "app=cart", 2).await?;
    let derived = stage.derive("cart", "cart").await?;
    ensure!(
        derived.autoscaler.is_none() && derived.notes.len() == 1,
        "{derived:?}"
    );
    stage.put(&derived).await?;
    stage.until_at_edge(2).await?;
    // It works, but for the metrics that nobody serves here.
    stage.scaling_reason("cart", "FailedGetResourceMetric").await?;

    // What it would be with one.
    let mut second = objects.last().context("no autoscaler")?.clone();
    second["metadata"]["name"] = "second".into();
    second["spec"]["scaleTargetRef"]["name"] = derived.name.clone().into();
    cluster.apply(&second.to_string()).await?;
    stage.scaling_reason("cart", "AmbiguousSelector").await?;
    let autoscalers: Api<HorizontalPodAutoscaler> = Api::namespaced(cluster.client.clone(), namespace);
    autoscalers.delete("second", &DeleteParams::default()).await?;

    // The note's fix: the pods go on.
    let pods = cluster
        .until_ready(namespace, &format!("!{}", area_label()), 2)
        .await?;
    let orphan = DeleteParams {
        propagation_policy: Some(PropagationPolicy::Orphan),
        ..DeleteParams::default()
    };
    stage.deployments().delete("cart", &orphan).await?;
    let end = Instant::now() + SOON;
    while stage.deployments().get_opt("cart").await?.is_some() {
        ensure!(
            Instant::now() < end,
            "the Deployment is not deleted within {SOON:?}"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let deployment = objects.first_mut().context("no Deployment")?;
    deployment["spec"]["selector"]["matchExpressions"] =
        json!([{"key": area_label(), "operator": "DoesNotExist"}]);
    deployment["spec"]["replicas"] = 2.into();
    cluster.apply(&yaml(&objects)).await?;
    let derived = stage.derive("cart", "cart").await?;
    ensure!(
        derived.autoscaler.is_some() && derived.notes.is_empty(),
        "{derived:?}"
    );
    stage.put(&derived).await?;
    stage
        .scaling_reason(&derived.name, "FailedGetResourceMetric")
        .await?;
    stage.scaling_reason("cart", "FailedGetResourceMetric").await?;
    let now = cluster
        .until_ready(namespace, &format!("!{}", area_label()), 2)
        .await?;
    let ids = |pods: &[Pod]| {
        pods.iter()
            .map(|pod| pod.metadata.uid.clone())
            .collect::<BTreeSet<_>>()
    };
    ensure!(ids(&pods) == ids(&now), "the pods were replaced");
    Ok(())
}

async fn taints_of_the_edge_are_tolerated(cluster: &Cluster) -> anyhow::Result<()> {
    let namespace = "derive-tainted";
    Stage::new(cluster, namespace).await?;
    cluster.add_node("edge-2", "fenced/x").await?;
    let nodes: Api<Node> = Api::all(cluster.client.clone());
    let taints = json!({"spec": {"taints": [{"key": "edge", "value": "true", "effect": "NoSchedule"}]}});
    nodes
        .patch("edge-2", &PatchParams::default(), &Patch::Merge(taints))
        .await?;
    let mut stage = Stage::with(cluster, namespace, "edge-2", "fenced")?;
    cluster.apply(&yaml(&shape("plain.yaml", namespace)?)).await?;
    let node = nodes.get("edge-2").await?;
    let taints = node.spec.and_then(|spec| spec.taints).unwrap_or_default();
    stage.taints = shared_taints([taints.as_slice()]);
    ensure!(stage.taints.len() == 1, "{:?}", stage.taints);
    stage.put(&stage.derive("web", "web").await?).await?;
    stage.until_at_edge(2).await
}

async fn an_existing_deployment_is_scaled_from_zero(cluster: &Cluster) -> anyhow::Result<()> {
    let namespace = "derive-existing";
    let stage = Stage::new(cluster, namespace).await?;
    let objects = shape("mubench.yaml", namespace)?;
    let mut edge = objects.first().context("no Deployment")?.clone();
    edge["metadata"]["name"] = "s0-own".into();
    edge["spec"]["replicas"] = 0.into();
    for labels in ["/spec/selector/matchLabels", "/spec/template/metadata/labels"] {
        let labels = edge
            .pointer_mut(labels)
            .and_then(Value::as_object_mut)
            .context("no labels")?;
        labels.insert("app-t".to_owned(), "s0-own".into());
    }
    edge["spec"]["template"]["spec"]["affinity"] = Value::Null;
    edge["spec"]["template"]["spec"]["nodeSelector"] = json!({"topology.kubernetes.io/region": "lab"});
    cluster.apply(&yaml(&objects)).await?;
    cluster.apply(&edge.to_string()).await?;

    let get = async |kind, name| anyhow::Ok(stage.get(kind, name).await?.context("missing"));
    let workload = get("Deployment", "s0-cloud").await??;
    let service = get("Service", "s0").await??;
    let cloud = Source {
        workload: &workload,
        service: &service,
        autoscaler: None,
        found: None,
    };
    let found = existing(&get("Deployment", "s0-own").await??, None, &cloud, stage.edge())?;
    ensure!(found.replicas == 0 && found.notes.is_empty(), "{found:?}");
    stage.scale("s0-own", 1).await?;
    for pod in cluster.until_ready(namespace, "app-t=s0-own", 1).await? {
        let node = pod.spec.and_then(|spec| spec.node_name);
        ensure!(node.as_deref() == Some("edge-1"), "on {node:?}");
    }
    stage.scale("s0-own", 0).await?;
    cluster.until_ready(namespace, "app-t=s0-own", 0).await?;
    Ok(())
}
