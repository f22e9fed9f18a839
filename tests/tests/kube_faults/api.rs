//! The API server's own limits: it takes no more requests, and it no longer knows what a watch goes on from.

use std::time::Instant;

use anyhow::{Context, ensure};
use gma_tests::kube::{CLOUD_DEPLOYMENT, Controller, DERIVED_DEPLOYMENT, NAMESPACE, OBJECT, install, until};
use gma_tests::rig::{Cluster, Component};
use hyper::Request;
use k8s_openapi::api::flowcontrol::v1::{FlowSchema, PriorityLevelConfiguration};
use kube::api::DeleteParams;
use kube::client::Body;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use serde_json::Value;
use tokio_util::task::AbortOnDropHandle;

use super::gate::Gate;
use super::scene::{SOON, Scene, is_sound};

/// The controller's account has a level of its own, in which one request is served at a time, and none waits.
const FULL: &str = "
apiVersion: flowcontrol.apiserver.k8s.io/v1
kind: PriorityLevelConfiguration
metadata: {name: rig-full}
spec:
  type: Limited
  limited: {nominalConcurrencyShares: 0, lendablePercent: 0, borrowingLimitPercent: 0, limitResponse: {type: Reject}}
---
apiVersion: flowcontrol.apiserver.k8s.io/v1
kind: FlowSchema
metadata: {name: rig-full}
spec:
  priorityLevelConfiguration: {name: rig-full}
  matchingPrecedence: 2
  rules:
    - subjects:
        - {kind: ServiceAccount, serviceAccount: {name: gma, namespace: gma-system}}
      resourceRules:
        - {verbs: ['*'], apiGroups: ['*'], resources: ['*'], namespaces: ['*'], clusterScope: true}
";

const LEVEL: &str = "rig-full";

/// Bytes for a handshake and the head of a request, and not for a body of 1 MiB.
const ROOM: u64 = 64 << 10;

/// Requests a second to an API server that takes none, at most: one object's rounds, its status, the lease and the watches.
const MOST_REQUESTS: f64 = 6.0;

/// A move meets both. While requests are refused it stands, and ends with the lease; then it goes on. What happened while the watches
/// were away is seen.
pub(crate) async fn an_api_server_that_refuses_and_forgets(cluster: &Cluster) -> anyhow::Result<()> {
    install(cluster).await?;
    let gate = Gate::open(cluster, 18512).await?;
    let controller = Controller::start_with(cluster, "api", 18511, &gate.kubeconfig)?;
    let scene = Scene::start(cluster, &controller, "api", &["edge-1"]).await?;
    scene.app.hide_edges(true);
    scene.app.place(cluster).await?;
    scene.until_in_a_shift().await?;
    that_takes_no_more(&scene).await?;
    that_forgets(&scene, &gate).await?;
    is_sound(&controller)
}

async fn that_takes_no_more(scene: &Scene<'_>) -> anyhow::Result<()> {
    let Scene {
        cluster, controller, ..
    } = scene;
    let before = scene.share().await?;
    let full = fill(cluster).await?;
    let begin = Instant::now();
    scene.app.hide_edges(false);
    controller
        .until_says(
            "it says what is wrong",
            SOON,
            "see which FlowSchema limits this account",
        )
        .await?;
    controller
        .until_says("it leads no longer", SOON, "no longer leading")
        .await?;
    scene
        .until("reports are answered as busy", SOON, async || {
            Ok(if scene.app.is_answered_busy() {
                Ok(())
            } else {
                Err("they are taken".to_owned())
            })
        })
        .await?;
    let (took, round, share) = (begin.elapsed(), controller.round().await?, scene.share().await?);
    let refused = refused(cluster)?;
    drop(full);
    flows(cluster).delete(LEVEL, &DeleteParams::default()).await?;
    let levels: Api<PriorityLevelConfiguration> = Api::all(cluster.client.clone());
    levels.delete(LEVEL, &DeleteParams::default()).await?;
    ensure!(round.is_null(), "it steers without the lease: {round}");
    ensure!(share == before, "{share} % instead of {before} %");
    let rate = f64::from(refused) / took.as_secs_f64();
    println!(
        "{refused} requests were refused in {:.1} s, {rate:.1} a second",
        took.as_secs_f64()
    );
    ensure!(refused > 0 && rate <= MOST_REQUESTS, "{rate} requests a second");
    scene.until_share(99).await?;
    scene.until_kept().await?;
    let log = controller.process.log();
    ensure!(
        log.contains("goes on: offload"),
        "it did not go on: {}",
        controller.log()
    );
    ensure!(
        scene.outcomes().await? == ["Kept"],
        "{:?}",
        scene.outcomes().await?
    );
    Ok(())
}

/// Takes the one place of the level, with a request that gets stuck.
async fn fill(cluster: &Cluster) -> anyhow::Result<AbortOnDropHandle<()>> {
    cluster.apply(FULL).await?;
    let uid = flows(cluster).get(LEVEL).await?.metadata.uid.context("no uid")?;
    let client = cluster.client_of(NAMESPACE, "gma").await?;
    let path = format!("/api/v1/namespaces/{NAMESPACE}/configmaps");
    until("the level is in force", SOON, async || {
        let request = Request::get(format!("{path}/any")).body(Body::empty())?;
        let answer = client.send(request).await?;
        let flow = answer.headers().get("x-kubernetes-pf-flowschema-uid");
        Ok(if flow.is_some_and(|flow| flow == uid.as_str()) {
            Ok(())
        } else {
            Err(format!("{flow:?}"))
        })
    })
    .await?;
    let narrow = Gate::with_room(cluster, 18513, ROOM).await?;
    let file = Kubeconfig::read_from(&narrow.kubeconfig)?;
    let client =
        Client::try_from(Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?)?;
    let request = Request::post(format!("{path}?dryRun=All"))
        .header("content-type", "application/json")
        .body(vec![b' '; 1 << 20].into())?;
    Ok(AbortOnDropHandle::new(tokio::spawn(async move {
        let _never = client.send(request).await;
        drop(narrow);
    })))
}

fn flows(cluster: &Cluster) -> Api<FlowSchema> {
    Api::all(cluster.client.clone())
}

/// Requests of the controller that were answered with 429.
fn refused(cluster: &Cluster) -> anyhow::Result<u32> {
    let code = |answer: &Value| answer.pointer("/responseStatus/code").and_then(Value::as_u64);
    let answers = cluster.audited()?;
    let refused = answers.iter().filter(|answer| code(answer) == Some(429));
    Ok(u32::try_from(refused.count())?)
}

/// An API server that was started anew knows nothing of what was before: each watch is answered with 410, and all is listed again.
async fn that_forgets(scene: &Scene<'_>, gate: &Gate) -> anyhow::Result<()> {
    let Scene {
        cluster, controller, ..
    } = scene;
    gate.set_open(false);
    cluster.kill(Component::ApiServer).await?;
    cluster.start(Component::ApiServer).await?;
    let known = controller.process.log().len();
    // Nobody tells the controller of these.
    scene
        .app
        .deployments()
        .delete(CLOUD_DEPLOYMENT, &DeleteParams::background())
        .await?;
    scene.app.api().delete(OBJECT, &DeleteParams::default()).await?;
    gate.set_open(true);
    scene
        .until(
            "what was changed is restored, and the object goes",
            SOON,
            async || {
                let left = scene.app.api().get_opt(OBJECT).await?;
                Ok(left.map_or(Ok(()), |left| Err(format!("{:?}", left.metadata))))
            },
        )
        .await?;
    ensure!(scene.app.share().await?.is_none(), "a rule is left");
    let left = scene.app.deployments().get_opt(DERIVED_DEPLOYMENT).await?;
    ensure!(left.is_none(), "an instance is left");
    let log = controller.process.log();
    let since = log.get(known..).unwrap_or_default();
    let expired = since.matches("too old resource version").count();
    println!("{expired} watches had expired");
    ensure!(expired > 0, "no watch had expired: {since}");
    Ok(())
}
