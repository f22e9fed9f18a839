//! Instances at an edge that the controller derives from the cloud's Deployment, with the rights of the manifests and
//! nothing more; the proxies are played.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, ensure};
use gma_k8s::OBJECT_ANNOTATION;
use gma_k8s::derive::area_label;
use gma_tests::kube::{App, CLOUD_DEPLOYMENT, Controller, DERIVED_DEPLOYMENT, NAMESPACE, OBJECT, install};
use gma_tests::rig::{Cluster, Suite};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::api::events::v1::Event;
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use serde_json::{Value, json};

/// Longest wait for something that takes a second on an idle machine.
const SOON: Duration = Duration::from_secs(60);
/// Longest wait for a whole move.
const MOVE: Duration = Duration::from_secs(120);

fn main() -> ExitCode {
    Suite::default()
        .test(
            "an_instance_is_derived_follows_and_leaves",
            an_instance_is_derived_follows_and_leaves,
        )
        .test(
            "what_can_t_be_placed_is_said_and_what_stays_pending_goes_back",
            what_can_t_be_placed_is_said_and_what_stays_pending_goes_back,
        )
        .test(
            "two_objects_that_share_an_edge_are_each_served",
            two_objects_that_share_an_edge_are_each_served,
        )
        .run()
}

// === What they share ===

async fn until_share(controller: &Controller, app: &App, wanted: u64) -> anyhow::Result<()> {
    until_share_of(controller, app, "", wanted).await
}

/// Of an object beside others: what is said of it is shown where it takes too long.
async fn until_share_of(controller: &Controller, app: &App, object: &str, wanted: u64) -> anyhow::Result<()> {
    let what = format!("{wanted} % at the edge");
    controller
        .until(&what, MOVE, async || {
            let share = app.share().await?;
            let round = controller.round_of(object).await.unwrap_or_default();
            let said = round.pointer("/edges/edge-1/sentence").map(Value::to_string);
            Ok(if share == Some(wanted) {
                Ok(())
            } else {
                Err(format!("share {share:?}, {said:?}"))
            })
        })
        .await
}

/// Deletes the object; it and every trace of it must go.
async fn delete(controller: &Controller, app: &App) -> anyhow::Result<()> {
    app.delete(controller).await?;
    ensure!(app.share().await?.is_none(), "a rule is left");
    ensure!(
        app.deployments().get_opt(DERIVED_DEPLOYMENT).await?.is_none(),
        "an instance is left"
    );
    Ok(())
}

fn autoscalers(cluster: &Cluster, namespace: &str) -> Api<HorizontalPodAutoscaler> {
    Api::namespaced(cluster.client.clone(), namespace)
}

/// Replicas that it is to have.
fn replicas(deployment: &Deployment) -> Option<i32> {
    deployment.spec.as_ref()?.replicas
}

/// A variable of the application's container.
fn variable(deployment: &Deployment) -> Option<String> {
    let pod = deployment.spec.as_ref()?.template.spec.as_ref()?;
    let variables = pod.containers.first()?.env.as_ref()?;
    variables.first()?.value.clone()
}

// === Tests ===

async fn an_instance_is_derived_follows_and_leaves(cluster: &Cluster) -> anyhow::Result<()> {
    install(cluster).await?;
    let namespace = "derived";
    let controller = Controller::start(cluster, "derived", 18101).await?;
    let app = App::create_in_cloud(cluster, namespace, controller.address).await?;
    let autoscaler = json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": CLOUD_DEPLOYMENT, "namespace": namespace},
        "spec": {"maxReplicas": 5, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": CLOUD_DEPLOYMENT}}});
    cluster.apply(&autoscaler.to_string()).await?;
    app.place(cluster).await?;
    until_share(&controller, &app, 99).await?;
    let made = app.deployments().get(DERIVED_DEPLOYMENT).await?;
    let annotations = made.metadata.annotations.clone().unwrap_or_default();
    ensure!(
        annotations.get(OBJECT_ANNOTATION) == Some(&format!("{namespace}/{OBJECT}")),
        "{annotations:?}"
    );
    let labels = format!("{}=edge-1", area_label());
    let count = replicas(&made).context("no count")?;
    let pods = cluster
        .until_ready(namespace, &labels, usize::try_from(count)?)
        .await?;
    let nodes: Vec<_> = pods
        .iter()
        .filter_map(|pod| pod.spec.as_ref()?.node_name.as_deref())
        .collect();
    ensure!(nodes.iter().all(|node| *node == "edge-1"), "{nodes:?}");
    autoscalers(cluster, namespace)
        .get(DERIVED_DEPLOYMENT)
        .await
        .context("no autoscaler at the edge")?;
    let status = app.api().get(OBJECT).await?.status.unwrap_or_default();
    ensure!(status.held.is_empty(), "{:?}", status.held);

    it_follows(cluster, &controller, &app).await?;

    // Another controller finds it by its marks, and has nothing to change.
    let before = app.deployments().get(DERIVED_DEPLOYMENT).await?;
    drop(controller);
    let leases: Api<Lease> = Api::namespaced(cluster.client.clone(), NAMESPACE);
    leases.delete("gma", &DeleteParams::default()).await?;
    let controller = Controller::start(cluster, "derived-second", 18102).await?;
    app.follow(controller.address);
    controller
        .until_says(
            "it looks whether the instance is up to date",
            SOON,
            "may have changed",
        )
        .await?;
    app.set_delays(Duration::from_millis(2), Duration::from_millis(5));
    until_share(&controller, &app, 0).await?;
    if let Some(after) = app.deployments().get_opt(DERIVED_DEPLOYMENT).await? {
        ensure!(after.metadata.uid == before.metadata.uid, "made anew");
        ensure!(
            after.metadata.generation == before.metadata.generation,
            "changed by another controller"
        );
    }
    controller
        .until("the instance goes", MOVE, async || {
            let left = app.deployments().get_opt(DERIVED_DEPLOYMENT).await?;
            let autoscaler = autoscalers(cluster, namespace)
                .get_opt(DERIVED_DEPLOYMENT)
                .await?;
            Ok(if left.is_none() && autoscaler.is_none() {
                Ok(())
            } else {
                Err("it is there".to_owned())
            })
        })
        .await?;
    let cloud = app.deployments().get(CLOUD_DEPLOYMENT).await?;
    ensure!(
        cloud
            .metadata
            .annotations
            .unwrap_or_default()
            .keys()
            .all(|key| !key.starts_with("gma.dev")),
        "the cloud's is marked"
    );
    autoscalers(cluster, namespace)
        .get(CLOUD_DEPLOYMENT)
        .await
        .context("the cloud's autoscaler is gone")?;

    delete(&controller, &app).await
}

/// What is changed in the cloud is changed at the edge, and a count is not.
async fn it_follows(cluster: &Cluster, controller: &Controller, app: &App) -> anyhow::Result<()> {
    let count = replicas(&app.deployments().get(DERIVED_DEPLOYMENT).await?);
    let change = json!({"spec": {"replicas": 3, "template": {"spec": {"containers": [
        {"name": "app", "env": [{"name": "COLOUR", "value": "green"}]}]}}}});
    let parameters = PatchParams {
        field_manager: Some("a-user".to_owned()),
        ..PatchParams::default()
    };
    app.deployments()
        .patch(CLOUD_DEPLOYMENT, &parameters, &Patch::Strategic(change))
        .await?;
    let followed = controller
        .until("the edge has the cloud's template", SOON, async || {
            let made = app.deployments().get(DERIVED_DEPLOYMENT).await?;
            let status = made.status.clone().unwrap_or_default();
            let is_rolled_out = status.observed_generation == made.metadata.generation
                && status.updated_replicas == count
                && status.replicas == count
                && status.ready_replicas == count;
            Ok(if variable(&made).as_deref() == Some("green") && is_rolled_out {
                Ok(made)
            } else {
                Err(format!("{:?}, {status:?}", variable(&made)))
            })
        })
        .await?;
    let namespace = followed.metadata.namespace.clone().context("no namespace")?;
    cluster
        .until_ready(&namespace, &format!("app=web,!{}", area_label()), 3)
        .await?;
    // Six rounds.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let later = app.deployments().get(DERIVED_DEPLOYMENT).await?;
    ensure!(
        later.metadata.generation == followed.metadata.generation,
        "it is written again and again"
    );
    ensure!(replicas(&later) == count, "it has the cloud's count");
    Ok(())
}

/// A StatefulSet that comes while the object is looked after, and an instance that no node of the edge can take.
async fn what_can_t_be_placed_is_said_and_what_stays_pending_goes_back(
    cluster: &Cluster,
) -> anyhow::Result<()> {
    install(cluster).await?;
    let namespace = "pending";
    let controller = Controller::start(cluster, "pending", 18111).await?;
    let app = App::create_in_cloud(cluster, namespace, controller.address).await?;
    // Only the cloud's node has such a disk.
    let nodes: Api<Node> = Api::all(cluster.client.clone());
    let label = json!({"metadata": {"labels": {"disk": "ssd"}}});
    nodes
        .patch("cloud-1", &PatchParams::default(), &Patch::Merge(label))
        .await?;
    let asks = json!({"spec": {"template": {"spec": {"nodeSelector": {"disk": "ssd"}}}}});
    app.deployments()
        .patch(CLOUD_DEPLOYMENT, &PatchParams::default(), &Patch::Merge(asks))
        .await?;
    app.place_with(cluster, &json!({"readyWithin": "20s"})).await?;
    controller
        .until("it waits for the instance", MOVE, async || {
            let made = app.deployments().get_opt(DERIVED_DEPLOYMENT).await?;
            Ok(if made.is_some() {
                Ok(())
            } else {
                Err("no Deployment".to_owned())
            })
        })
        .await?;
    cluster.apply(&stateful(namespace)).await?;
    controller
        .until("the move goes back, and says why", MOVE, async || {
            let status = app.api().get(OBJECT).await?.status.unwrap_or_default();
            let is_said = status.decisions.iter().any(|one| {
                one.outcome.as_deref() == Some("RolledBack") && one.what.contains("nodes are available")
            });
            Ok(if is_said {
                Ok(())
            } else {
                Err(format!("{:?}", status.decisions))
            })
        })
        .await?;
    let events: Api<Event> = Api::namespaced(cluster.client.clone(), namespace);
    controller
        .until("an event says why", SOON, async || {
            let events = events.list(&ListParams::default()).await?.items;
            let of_ours = events
                .iter()
                .filter(|event| event.reason.as_deref() == Some("RolledBack"));
            let notes: Vec<_> = of_ours.filter_map(|event| event.note.clone()).collect();
            Ok(if notes.iter().any(|note| note.contains("nodes are available")) {
                Ok(())
            } else {
                Err(format!("{notes:?}"))
            })
        })
        .await?;
    controller
        .until("what was made is taken back", SOON, async || {
            let left = app.deployments().get_opt(DERIVED_DEPLOYMENT).await?;
            Ok(if left.is_none() {
                Ok(())
            } else {
                Err("it is there".to_owned())
            })
        })
        .await?;
    let share = app.share().await?;
    ensure!(share.unwrap_or(0) == 0, "{share:?} without an instance");
    controller
        .until("the status says what stays in the cloud", SOON, async || {
            let held = app.api().get(OBJECT).await?.status.unwrap_or_default().held;
            let is_said = held
                .iter()
                .any(|one| one.service == "db" && one.why.contains("StatefulSet"));
            Ok(if is_said { Ok(()) } else { Err(format!("{held:?}")) })
        })
        .await?;
    delete(&controller, &app).await
}

/// A database in the cloud.
fn stateful(namespace: &str) -> String {
    let labels = json!({"app": "db"});
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "db", "namespace": namespace},
        "spec": {"selector": labels, "ports": [{"name": "tcp", "port": 5432}]}});
    let set = json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "db", "namespace": namespace},
        "spec": {"serviceName": "db", "selector": {"matchLabels": labels}, "template": {
            "metadata": {"labels": labels},
            "spec": {"nodeSelector": {"kubernetes.io/hostname": "cloud-1"}, "terminationGracePeriodSeconds": 1,
                "containers": [{"name": "db", "image": "pause"}]}}}});
    format!("---\n{service}\n---\n{set}\n")
}

/// Two applications at the same edge, in namespaces of their own, by one controller.
async fn two_objects_that_share_an_edge_are_each_served(cluster: &Cluster) -> anyhow::Result<()> {
    install(cluster).await?;
    let controller = Controller::start(cluster, "two", 18121).await?;
    let one = App::create_in_cloud(cluster, "two-a", controller.address).await?;
    let two = App::create_in_cloud(cluster, "two-b", controller.address).await?;
    one.place(cluster).await?;
    // Times of creation are of one second's grain.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    two.place(cluster).await?;
    // Users of the second are near the cloud already: it must not be moved for the first's sake.
    two.set_delays(Duration::from_millis(20), Duration::from_millis(15));
    until_share(&controller, &one, 99).await?;
    ensure!(
        two.deployments().get_opt(DERIVED_DEPLOYMENT).await?.is_none()
            && two.share().await?.unwrap_or(0) == 0,
        "the other's application was moved"
    );
    // Each delay is of its own users; without a name the older is shown.
    let delay = async |object: &str| -> anyhow::Result<Option<f64>> {
        let round = controller.round_of(object).await?;
        Ok(round
            .pointer("/edges/edge-1/reading/valueUs")
            .and_then(Value::as_f64))
    };
    let within = |us: Option<f64>, from: f64, to: f64| us.is_some_and(|us| (from..to).contains(&us));
    controller
        .until("each delay is that of its own users", SOON, async || {
            let (first, second) = (delay("").await?, delay("two-b/shop").await?);
            Ok(if within(first, 10e3, 25e3) && within(second, 30e3, 40e3) {
                Ok(())
            } else {
                Err(format!("{first:?} and {second:?} us"))
            })
        })
        .await?;
    ensure!(
        delay("two-a/nobody").await.is_err(),
        "an object that is not there has a state"
    );
    two.set_delays(Duration::from_millis(100), Duration::from_millis(15));
    until_share_of(&controller, &two, "two-b/shop", 99).await?;
    delete(&controller, &one).await?;
    ensure!(two.share().await? == Some(99), "it went with the other");
    delete(&controller, &two).await
}
