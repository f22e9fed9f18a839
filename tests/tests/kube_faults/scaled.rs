//! An autoscaler that changes its count while the delay is too high: it is waited for, and then the move is made.

use std::time::{Duration, Instant};

use anyhow::ensure;
use gma_tests::kube::CLOUD_DEPLOYMENT;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use super::scene::{SOON, Scene};

/// An autoscaler that changed its count within this is at work.
const QUIET: Duration = Duration::from_secs(15);

/// Its users are well, and the autoscaler has its count.
pub(crate) async fn is_watched(scene: &Scene<'_>) -> anyhow::Result<()> {
    let autoscaler = json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": CLOUD_DEPLOYMENT, "namespace": scene.namespace},
        "spec": {"minReplicas": 2, "maxReplicas": 9,
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": CLOUD_DEPLOYMENT}}});
    scene.cluster.apply(&autoscaler.to_string()).await?;
    scene
        .app
        .set_delays(Duration::from_millis(20), Duration::from_millis(15));
    scene.app.place(scene.cluster).await?;
    until_desired(scene, 2).await?;
    scene.until_condition("WithinBand", "True", "").await?;
    scene.until_condition("AutoscalersIdle", "True", "").await?;
    scene
        .until("it has its rule", SOON, async || {
            Ok(match scene.app.share().await? {
                Some(0) => Ok(()),
                other => Err(format!("{other:?}")),
            })
        })
        .await
}

/// Held as long as it changes, and for a while after.
pub(crate) async fn during_an_alarm(scene: &Scene<'_>) -> anyhow::Result<()> {
    scene
        .app
        .set_delays(Duration::from_millis(100), Duration::from_millis(15));
    set_least(scene, 3).await?;
    scene
        .until_condition("AutoscalersIdle", "False", "it wants 3 replicas")
        .await?;
    ensure!(
        scene.edge_state().await?.as_deref() == Some("Held"),
        "{}",
        scene.said().await
    );
    let changed = Instant::now();
    set_least(scene, 4).await?;
    scene
        .until("it waits for that, too", SOON, async || {
            let said = scene.said().await;
            Ok(if said.contains("it wants 4 replicas") {
                Ok(())
            } else {
                Err(said)
            })
        })
        .await?;
    scene.until_in_a_shift().await?;
    let waited = changed.elapsed();
    println!(
        "the shift began {:.1} s after the autoscaler's last change",
        waited.as_secs_f64()
    );
    ensure!(waited >= QUIET, "it was not waited for: {waited:?}");
    scene.until_condition("AutoscalersIdle", "True", "").await?;
    scene.until_share(99).await?;
    scene.until_kept().await
}

async fn set_least(scene: &Scene<'_>, replicas: i32) -> anyhow::Result<()> {
    let patch = json!({"spec": {"minReplicas": replicas}});
    autoscalers(scene)
        .patch(CLOUD_DEPLOYMENT, &PatchParams::default(), &Patch::Merge(patch))
        .await?;
    until_desired(scene, replicas).await
}

async fn until_desired(scene: &Scene<'_>, replicas: i32) -> anyhow::Result<()> {
    scene
        .until(&format!("{replicas} replicas are desired"), SOON, async || {
            let status = autoscalers(scene).get(CLOUD_DEPLOYMENT).await?.status;
            let desired = status.map(|status| status.desired_replicas);
            Ok(if desired == Some(replicas) {
                Ok(())
            } else {
                Err(format!("{desired:?}"))
            })
        })
        .await
}

fn autoscalers(scene: &Scene<'_>) -> Api<HorizontalPodAutoscaler> {
    Api::namespaced(scene.cluster.client.clone(), scene.namespace)
}
