//! What is deleted under the controller in the middle of a move.

use std::time::Duration;

use anyhow::{Context, ensure};
use gma_tests::kube::{CLOUD_DEPLOYMENT, DERIVED_DEPLOYMENT, NAMESPACE, OBJECT, RULE};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::json;

use super::scene::{SOON, Scene};

/// Between two changes by the one that meddles.
const MEDDLES: Duration = Duration::from_millis(300);
const MEDDLED: &str = "Meddled";

/// The object is deleted and made anew at once: what was changed is restored first, nothing is known of it afterwards, and the new
/// one's move is made although somebody changes all that the controller writes all the time.
pub(crate) async fn an_object_that_comes_again(
    scene: &Scene<'_>,
    up: impl Future<Output = anyhow::Result<()>>,
) -> anyhow::Result<()> {
    scene.app.api().delete(OBJECT, &DeleteParams::default()).await?;
    scene
        .until("the object goes", SOON, async || {
            let left = scene.app.api().get_opt(OBJECT).await?;
            Ok(left.map_or(Ok(()), |left| Err(format!("{:?}", left.metadata))))
        })
        .await?;
    let (share, made) = (
        scene.app.share().await?,
        scene.app.deployments().get_opt(DERIVED_DEPLOYMENT).await?,
    );
    scene.app.place(scene.cluster).await?;
    ensure!(share.is_none() && made.is_none(), "left: {share:?}, {made:?}");
    up.await?;
    scene.app.hide_edges(false);
    let moved = async {
        scene.until_share(99).await?;
        scene.until_kept().await
    };
    tokio::select! {
        moved = moved => moved?,
        failed = meddle(scene) => failed?,
    }
    // Of the first one's decision nothing is known.
    ensure!(
        scene.outcomes().await? == ["Kept"],
        "{:?}",
        scene.outcomes().await?
    );
    scene
        .until("the status is its own again", SOON, async || {
            let summary = scene.status().await?.summary.unwrap_or_default();
            Ok(if summary.state == MEDDLED {
                Err(summary.state)
            } else {
                Ok(())
            })
        })
        .await
}

/// Changes the object and its status, its memory, the rule and the derived Deployment, for ever.
async fn meddle(scene: &Scene<'_>) -> anyhow::Result<()> {
    let parameters = PatchParams {
        field_manager: Some("meddler".to_owned()),
        ..PatchParams::default()
    };
    let memories: Api<ConfigMap> = Api::namespaced(scene.cluster.client.clone(), NAMESPACE);
    let memory = format!("gma-memory.{}.{OBJECT}", scene.namespace);
    let (objects, rules, deployments) = (scene.app.api(), scene.app.rules(), scene.app.deployments());
    let status = Patch::Merge(
        json!({"status": {"summary": {"state": MEDDLED, "delay": "-", "target": "-", "placed": "-"}}}),
    );
    for time in 0_u64.. {
        let noted = Patch::Merge(json!({"metadata": {"annotations": {"meddled": time.to_string()}}}));
        let changed = [
            objects.patch(OBJECT, &parameters, &noted).await.map(drop),
            objects.patch_status(OBJECT, &parameters, &status).await.map(drop),
            memories.patch(&memory, &parameters, &noted).await.map(drop),
            rules.patch(RULE, &parameters, &noted).await.map(drop),
            deployments
                .patch(DERIVED_DEPLOYMENT, &parameters, &noted)
                .await
                .map(drop),
        ];
        for changed in changed {
            match changed {
                // It is not there yet, or its owner was faster.
                Err(kube::Error::Api(answer)) if matches!(answer.code, 404 | 409) => {}
                other => other?,
            }
        }
        tokio::time::sleep(MEDDLES).await;
    }
    Ok(())
}

/// Without the cloud's Deployment all calls go to the instance at the edge, which stays; the object says what is missing, and the move
/// goes on when it is there again.
pub(crate) async fn a_cloud_without_its_deployment(
    scene: &Scene<'_>,
    up: impl Future<Output = anyhow::Result<()>>,
) -> anyhow::Result<()> {
    let deployments = scene.app.deployments();
    let former = deployments.get(CLOUD_DEPLOYMENT).await?;
    deployments
        .delete(CLOUD_DEPLOYMENT, &DeleteParams::background())
        .await?;
    let pods = format!("of={CLOUD_DEPLOYMENT}");
    scene.cluster.until_ready(scene.namespace, &pods, 0).await?;
    scene.app.hide_edges(false);
    scene
        .until("it says what is missing", SOON, async || {
            let held = scene.status().await?.held;
            let is_said = held
                .iter()
                .any(|one| one.service == "web" && one.why.contains("no Deployment with pods in the cloud"));
            Ok(if is_said { Ok(()) } else { Err(format!("{held:?}")) })
        })
        .await?;
    for _ in 0..20 {
        let made = deployments.get_opt(DERIVED_DEPLOYMENT).await?;
        let replicas = made.and_then(|made| made.spec?.replicas).unwrap_or(0);
        let share = scene.share().await?;
        ensure!(
            replicas > 0 && share > 0,
            "nobody serves any more: {replicas} replicas, {share} %, {}",
            scene.said().await
        );
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let again = Deployment {
        metadata: ObjectMeta {
            name: former.metadata.name,
            namespace: former.metadata.namespace,
            ..ObjectMeta::default()
        },
        spec: former.spec,
        status: None,
    };
    deployments.create(&PostParams::default(), &again).await?;
    scene.cluster.until_ready(scene.namespace, &pods, 1).await?;
    up.await?;
    scene.until_share(99).await?;
    println!("without the cloud's Deployment: {:?}", scene.outcomes().await?);
    Ok(())
}

/// The namespace goes with everything in it: no finalizer keeps it, and no memory is left.
pub(crate) async fn a_namespace(scene: &Scene<'_>) -> anyhow::Result<()> {
    let namespaces: Api<Namespace> = Api::all(scene.cluster.client.clone());
    namespaces
        .delete(scene.namespace, &DeleteParams::default())
        .await?;
    scene
        .until("the namespace goes", SOON, async || {
            let left = namespaces.get_opt(scene.namespace).await?;
            Ok(left.map_or(Ok(()), |left| Err(format!("{:?}", left.status))))
        })
        .await?;
    let memories: Api<ConfigMap> = Api::namespaced(scene.cluster.client.clone(), NAMESPACE);
    let memory = memories
        .get_opt(&format!("gma-memory.{}.{OBJECT}", scene.namespace))
        .await
        .context("the memory")?;
    ensure!(memory.is_none(), "the memory is left");
    Ok(())
}
