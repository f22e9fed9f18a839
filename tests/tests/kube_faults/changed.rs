//! Another manager takes what the controller has written: it is named, nothing is forced, and all goes on once it lets go.

use std::time::Duration;

use anyhow::{Context, ensure};
use gma_tests::kube::{CLOUD_DEPLOYMENT, DERIVED_DEPLOYMENT, RULE};
use gma_tests::rig::apply_with;
use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use super::scene::{MOVE, SOON, Scene};

/// Who takes it.
const STRANGER: &str = "stranger";
const DISTRIBUTE: &str = "/spec/trafficPolicy/loadBalancer/localityLbSetting/distribute";

/// The service is at the edge.
pub(crate) async fn is_placed(scene: &Scene<'_>) -> anyhow::Result<()> {
    scene.app.place(scene.cluster).await?;
    scene.until_share(99).await?;
    scene.until_kept().await
}

/// First a field of the derived Deployment, then the weights.
pub(crate) async fn by_another_manager(
    scene: &Scene<'_>,
    up: impl Future<Output = anyhow::Result<()>>,
) -> anyhow::Result<()> {
    a_field_of_the_instance(scene).await?;
    up.await?;
    the_weights(scene).await
}

async fn a_field_of_the_instance(scene: &Scene<'_>) -> anyhow::Result<()> {
    let body = |spec: Value| {
        json!({"apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": DERIVED_DEPLOYMENT, "namespace": scene.namespace}, "spec": spec})
    };
    let coloured = |colour: &str| {
        let container = json!({"name": "app", "env": [{"name": "COLOUR", "value": colour}]});
        json!({"spec": {"template": {"spec": {"containers": [container]}}}})
    };
    take(scene, &body(coloured("red")["spec"].clone())).await?;
    scene
        .app
        .deployments()
        .patch(
            CLOUD_DEPLOYMENT,
            &PatchParams::default(),
            &Patch::Strategic(coloured("green")),
        )
        .await?;
    scene
        .until("an event names who has the field", SOON, async || {
            let notes = scene.events("InstanceNotUpdated").await?;
            Ok(if notes.iter().any(|note| note.contains(STRANGER)) {
                Ok(())
            } else {
                Err(format!("{notes:?}"))
            })
        })
        .await?;
    ensure!(colour(scene).await?.as_deref() == Some("red"), "it was forced");
    let mut released = body(Value::Null);
    released.as_object_mut().context("no object")?.remove("spec");
    take(scene, &released).await?;
    scene
        .until("it follows the cloud's again", SOON, async || {
            let colour = colour(scene).await?;
            Ok(if colour.as_deref() == Some("green") {
                Ok(())
            } else {
                Err(format!("{colour:?}"))
            })
        })
        .await
}

/// The service is not to be at the edge any more, and nobody may take its weight away.
async fn the_weights(scene: &Scene<'_>) -> anyhow::Result<()> {
    let rule = scene.app.rules().get(RULE).await?;
    let mut entries = rule.data.pointer(DISTRIBUTE).context("no weights")?.clone();
    let of_edge = entries.as_array_mut().context("no list")?.iter_mut();
    for entry in of_edge.filter(|entry| entry["from"] == "edge") {
        entry["to"] = json!({"edge": 98, "cloud": 2});
    }
    let body = |spec: Value| {
        json!({"apiVersion": "networking.istio.io/v1", "kind": "DestinationRule",
            "metadata": {"name": RULE, "namespace": scene.namespace}, "spec": spec})
    };
    let weights = json!({"localityLbSetting": {"distribute": entries}});
    take(scene, &body(json!({"trafficPolicy": {"loadBalancer": weights}}))).await?;
    scene.until_condition("RoutingApplied", "False", STRANGER).await?;
    scene
        .app
        .set_delays(Duration::from_millis(2), Duration::from_millis(5));
    scene.until_condition("Ready", "False", STRANGER).await?;
    let state = scene.edge_state().await?;
    ensure!(state.as_deref() == Some("Held"), "{state:?}");
    let held = scene.status().await?.held;
    ensure!(
        held.iter()
            .any(|one| one.why.contains(STRANGER) && one.fix.is_some()),
        "{held:?}"
    );
    // Some rounds.
    tokio::time::sleep(Duration::from_secs(3)).await;
    ensure!(scene.share().await? == 98, "{} %", scene.share().await?);
    let made = scene.app.deployments().get(DERIVED_DEPLOYMENT).await?;
    ensure!(replicas(&made) > 0, "the instance went");
    let mut released = body(Value::Null);
    released.as_object_mut().context("no object")?.remove("spec");
    take(scene, &released).await?;
    scene.until_condition("RoutingApplied", "True", "").await?;
    // The weights went with the one who had them: what is left is taken for an unfinished move.
    scene
        .until("the service leaves the edge", MOVE, async || {
            let made = scene.app.deployments().get_opt(DERIVED_DEPLOYMENT).await?;
            Ok(match (scene.share().await?, made) {
                (0, None) => Ok(()),
                (share, _) => Err(format!("{share} %")),
            })
        })
        .await
}

/// Applies a body, by force.
async fn take(scene: &Scene<'_>, body: &Value) -> anyhow::Result<()> {
    let parameters = PatchParams::apply(STRANGER).force();
    apply_with(&scene.cluster.client, &body.to_string(), &parameters).await?;
    Ok(())
}

fn replicas(deployment: &Deployment) -> i32 {
    let spec = deployment.spec.as_ref();
    spec.and_then(|spec| spec.replicas).unwrap_or(0)
}

/// A variable of the container at the edge.
async fn colour(scene: &Scene<'_>) -> anyhow::Result<Option<String>> {
    let made = scene.app.deployments().get(DERIVED_DEPLOYMENT).await?;
    let pod = made.spec.and_then(|spec| spec.template.spec);
    let container = pod.and_then(|pod| pod.containers.into_iter().next());
    let variables = container.and_then(|container| container.env).unwrap_or_default();
    let found = variables.into_iter().find(|one| one.name == "COLOUR");
    Ok(found.and_then(|one| one.value))
}
