//! The controller in Kubernetes, with the rights of the manifests and nothing more; the proxies are played.

#![expect(clippy::indexing_slicing, reason = "of JSON values that are made right there")]

mod around;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, ensure};
use gma_tests::kube::{App, Controller, NAMESPACE, OBJECT, install, install_rights};
use gma_tests::rig::{Cluster, Component, Suite};
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Api;
use kube::api::{DeleteParams, ListParams};
use serde_json::{Value, json};

/// Longest wait for something that takes a second on an idle machine.
const SOON: Duration = Duration::from_secs(60);
/// Longest wait for a whole move.
const MOVE: Duration = Duration::from_secs(120);

fn main() -> ExitCode {
    // The rig's pods are processes: this is the controller's image.
    let binary = gma_tests::envoy::Controller::binary().display().to_string();
    Suite::default()
        .cell("gma", binary.leak())
        .test("without_the_definition_it_waits", without_the_definition_it_waits)
        .test("without_rights_it_says_which", without_rights_it_says_which)
        .test(
            "a_service_goes_to_the_edge_and_deletion_restores_all",
            a_service_goes_to_the_edge_and_deletion_restores_all,
        )
        .test(
            "between_zones_without_regions_it_moves_by_readiness",
            between_zones_without_regions_it_moves_by_readiness,
        )
        .test("another_leader_goes_on", another_leader_goes_on)
        .test(
            "a_second_object_for_the_same_hosts_is_told_so",
            a_second_object_for_the_same_hosts_is_told_so,
        )
        .test(
            "cpu_in_use_is_asked_of_the_metrics_api",
            around::cpu_in_use_is_asked_of_the_metrics_api,
        )
        .test(
            "the_label_follows_the_leader",
            around::the_label_follows_the_leader,
        )
        .test(
            "an_api_server_that_was_away_is_followed_again",
            an_api_server_that_was_away_is_followed_again,
        )
        .run()
}

// === What they share ===

async fn until_share(
    controller: &Controller,
    app: &App,
    what: &str,
    is: impl Fn(Option<u64>) -> bool,
) -> anyhow::Result<()> {
    controller
        .until(what, MOVE, async || {
            let share = app.share().await?;
            Ok(if is(share) {
                Ok(())
            } else {
                Err(format!("share {share:?}, {}", said(controller).await))
            })
        })
        .await
}

/// What the edge's machine says.
async fn said(controller: &Controller) -> String {
    let round = controller.round().await.unwrap_or_default();
    round
        .pointer("/edges/edge-1/sentence")
        .map(Value::to_string)
        .unwrap_or_default()
}

// === Tests ===

async fn a_service_goes_to_the_edge_and_deletion_restores_all(cluster: &Cluster) -> anyhow::Result<()> {
    install(cluster).await?;
    let controller = Controller::start(cluster, "offload", 18001).await?;
    let app = App::create(cluster, "offload", controller.address).await?;
    app.place(cluster).await?;
    until_share(&controller, &app, "99 % at the edge", |share| share == Some(99)).await?;
    let (replicas, annotations) = app.edge().await?;
    ensure!(replicas >= 1, "{replicas}");
    let noted = annotations.get(gma_k8s::REPLICAS_ANNOTATION).map(String::as_str);
    ensure!(noted == Some("0"), "{annotations:?}");
    controller
        .until("the status says so", SOON, async || {
            let status = app.api().get(OBJECT).await?.status.unwrap_or_default();
            let text = serde_json::to_string(&status)?;
            let placed = status.summary.as_ref().map(|summary| summary.placed.as_str());
            let is_ready = status
                .conditions
                .iter()
                .any(|one| one.type_ == "Ready" && one.status == "True");
            let is_kept = status
                .decisions
                .first()
                .is_some_and(|decision| decision.outcome.as_deref() == Some("Kept"));
            Ok(if placed == Some("1/1") && is_ready && is_kept {
                Ok(())
            } else {
                Err(text)
            })
        })
        .await?;
    let events: Api<Event> = Api::namespaced(cluster.client.clone(), "offload");
    let events = events.list(&ListParams::default()).await?.items;
    for reason in ["Decided", "Done"] {
        ensure!(
            events.iter().any(|event| event.reason.as_deref() == Some(reason)),
            "no event {reason}: {events:?}"
        );
    }

    // The edge is no longer needed: the cloud is near.
    app.set_delays(Duration::from_millis(2), Duration::from_millis(5));
    until_share(&controller, &app, "nothing at the edge", |share| share == Some(0)).await?;
    controller
        .until("the instance goes", MOVE, async || {
            let (replicas, _) = app.edge().await?;
            Ok(if replicas == 0 {
                Ok(())
            } else {
                Err(format!("{replicas} replicas, {}", said(&controller).await))
            })
        })
        .await?;

    let memory: Api<ConfigMap> = Api::namespaced(cluster.client.clone(), NAMESPACE);
    let place = format!("gma-memory.offload.{OBJECT}");
    memory.get_opt(&place).await?.context("no memory")?;
    app.delete(&controller).await?;
    ensure!(app.share().await?.is_none(), "a rule is left");
    ensure!(memory.get_opt(&place).await?.is_none(), "the memory is left");
    let (replicas, annotations) = app.edge().await?;
    ensure!(
        replicas == 0 && !annotations.contains_key(gma_k8s::REPLICAS_ANNOTATION),
        "{annotations:?}"
    );
    Ok(())
}

/// One rule is written, and never again: the instance moves the calls, there and back.
async fn between_zones_without_regions_it_moves_by_readiness(cluster: &Cluster) -> anyhow::Result<()> {
    install(cluster).await?;
    let controller = Controller::start(cluster, "zones", 18051).await?;
    let app = App::create_in_zones(cluster, "zones", controller.address).await?;
    app.place(cluster).await?;
    // What is placed, and what became of the newest decision.
    let until_kept = async |placed: &str, what: &str| {
        controller
            .until(&format!("{what} is kept"), MOVE, async || {
                let status = app.api().get(OBJECT).await?.status.unwrap_or_default();
                let decision = status.decisions.first();
                let is_kept = decision.is_some_and(|decision| {
                    decision.what.starts_with(what) && decision.outcome.as_deref() == Some("Kept")
                });
                let is_placed = status.summary.as_ref().is_some_and(|now| now.placed == placed);
                Ok(if is_kept && is_placed {
                    Ok(status)
                } else {
                    Err(format!(
                        "{}, {}",
                        said(&controller).await,
                        serde_json::to_string(&status)?
                    ))
                })
            })
            .await
    };
    let status = until_kept("1/1", "offload").await?;
    let routing = status.conditions.iter().find(|one| one.type_ == "RoutingApplied");
    ensure!(
        routing.is_some_and(|one| one.reason == "ByReadiness" && one.message.contains("one step")),
        "{routing:?}"
    );
    let rule = app.rule().await?.context("no rule")?;
    let priority = "/spec/trafficPolicy/loadBalancer/localityLbSetting/failoverPriority";
    ensure!(
        rule.data.pointer(priority) == Some(&json!(["topology.kubernetes.io/zone"])),
        "{:?}",
        rule.data
    );
    ensure!(app.edge().await?.0 >= 1, "{:?}", app.edge().await?);

    app.set_delays(Duration::from_millis(2), Duration::from_millis(5));
    until_kept("0/1", "unoffload").await?;
    ensure!(app.edge().await?.0 == 0, "{:?}", app.edge().await?);
    let now = app.rule().await?.context("the rule is gone")?;
    ensure!(
        now.metadata.generation == Some(1) && now.metadata.uid == rule.metadata.uid,
        "it was written again: {:?}",
        now.metadata
    );
    app.delete(&controller).await?;
    ensure!(app.rule().await?.is_none(), "a rule is left");
    Ok(())
}

/// Mode, token and namespace are there, and the definition is not: it says so, lives, and begins once it comes.
async fn without_the_definition_it_waits(cluster: &Cluster) -> anyhow::Result<()> {
    install_rights(cluster).await?;
    let definitions: Api<CustomResourceDefinition> = Api::all(cluster.client.clone());
    let name = "edgeplacements.gma.dev";
    if definitions.get_opt(name).await?.is_some() {
        definitions.delete(name, &DeleteParams::default()).await?;
    }
    let controller = Controller::start(cluster, "waits", 18011).await?;
    controller
        .until_says("it says what is missing", SOON, "gma crd | kubectl apply")
        .await?;
    ensure!(!controller.is_ready().await, "ready without the definition");
    install(cluster).await?;
    until_ready(&controller).await
}

async fn until_ready(controller: &Controller) -> anyhow::Result<()> {
    controller
        .until("it is ready", SOON, async || {
            Ok(if controller.is_ready().await {
                Ok(())
            } else {
                Err("not ready".to_owned())
            })
        })
        .await
}

async fn without_rights_it_says_which(cluster: &Cluster) -> anyhow::Result<()> {
    install(cluster).await?;
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount",
        "metadata": {"name": "nobody", "namespace": NAMESPACE}});
    cluster.apply(&account.to_string()).await?;
    let controller = Controller::start_as(cluster, "nobody", 18012, "nobody").await?;
    controller
        .until("it says what it may not", SOON, async || {
            let log = controller.process.log();
            let kinds = [
                "Nodes",
                "Pods",
                "Services",
                "Deployments",
                "DestinationRules",
                "EdgePlacements",
            ];
            let missing: Vec<_> = kinds
                .into_iter()
                .filter(|kind| {
                    !log.contains(&format!("may not list and watch {kind}: apply the ClusterRole"))
                })
                .collect();
            let says_lease = log.contains("the lease can't be taken");
            Ok(if missing.is_empty() && says_lease {
                Ok(())
            } else {
                Err(format!("{missing:?}"))
            })
        })
        .await?;
    ensure!(!controller.is_ready().await, "ready without rights");
    // Rights that come later are enough.
    let subject = json!([{"kind": "ServiceAccount", "name": "nobody", "namespace": NAMESPACE}]);
    let group = "rbac.authorization.k8s.io";
    let binding = |kind: &str, role: &str| {
        json!({"apiVersion": format!("{group}/v1"), "kind": kind, "metadata": {"name": "late", "namespace": NAMESPACE},
            "roleRef": {"apiGroup": group, "kind": role, "name": "gma"}, "subjects": subject})
    };
    let mut of_cluster = binding("ClusterRoleBinding", "ClusterRole");
    of_cluster["metadata"] = json!({"name": "late"});
    cluster.apply(&of_cluster.to_string()).await?;
    cluster.apply(&binding("RoleBinding", "Role").to_string()).await?;
    until_ready(&controller).await
}

async fn another_leader_goes_on(cluster: &Cluster) -> anyhow::Result<()> {
    install(cluster).await?;
    let mut first = Controller::start(cluster, "first", 18021).await?;
    first
        .until("it leads", SOON, async || {
            Ok(if first.process.log().contains("leading") {
                Ok(())
            } else {
                Err(first.process.log())
            })
        })
        .await?;
    let second = Controller::start(cluster, "second", 18022).await?;
    let app = App::create(cluster, "fail-over", first.address).await?;
    app.place(cluster).await?;
    until_ready(&second).await?;
    until_share(&first, &app, "the shift begins", |share| {
        share.is_some_and(|share| (1..99).contains(&share))
    })
    .await?;
    ensure!(second.round().await?.is_null(), "the one that stands by steers");
    first.process.kill();
    let at = app.share().await?;
    // The Service for reports selects the leader.
    app.follow(second.address);
    until_share(&second, &app, "the other finishes the move", |share| {
        share == Some(99)
    })
    .await?;
    let log = second.process.log();
    ensure!(
        log.contains("goes on: offload"),
        "it did not go on from {at:?}: {}",
        second.log()
    );
    // In the middle of everything: what was changed is given back all the same.
    app.delete(&second).await?;
    ensure!(app.share().await?.is_none(), "a rule is left");
    let (replicas, annotations) = app.edge().await?;
    ensure!(
        replicas == 0 && annotations.keys().all(|key| !key.starts_with("gma.dev")),
        "{replicas}, {annotations:?}"
    );
    Ok(())
}

async fn an_api_server_that_was_away_is_followed_again(cluster: &Cluster) -> anyhow::Result<()> {
    install(cluster).await?;
    let controller = Controller::start(cluster, "away", 18031).await?;
    let app = App::create(cluster, "away", controller.address).await?;
    app.place(cluster).await?;
    until_share(&controller, &app, "the shift begins", |share| {
        share.is_some_and(|share| share > 0)
    })
    .await?;
    cluster.kill(Component::ApiServer).await?;
    // Longer than a leader may go on without its lease.
    tokio::time::sleep(Duration::from_secs(12)).await;
    let (log, round) = (controller.process.log(), controller.round().await);
    // Whatever is found: the tests after this one need it.
    cluster.start(Component::ApiServer).await?;
    ensure!(log.contains("no longer leading"), "it still leads: {log}");
    ensure!(round?.is_null(), "it steers without the lease");
    until_share(&controller, &app, "99 % at the edge", |share| share == Some(99)).await?;
    let log = controller.process.log();
    let has_expired = log.contains("410") || log.contains("too old resource version");
    println!("a watch had expired: {has_expired}");
    app.delete(&controller).await
}

async fn a_second_object_for_the_same_hosts_is_told_so(cluster: &Cluster) -> anyhow::Result<()> {
    install(cluster).await?;
    let controller = Controller::start(cluster, "told", 18041).await?;
    let app = App::create(cluster, "told", controller.address).await?;
    app.place(cluster).await?;
    let mut second = serde_json::to_value(app.api().get(OBJECT).await?)?;
    second["metadata"] = json!({"name": "second", "namespace": "told"});
    second["status"] = Value::Null;
    // Times of creation are of one second's grain: the older must be the older.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    cluster.apply(&second.to_string()).await?;
    let ready = async || -> anyhow::Result<Option<(String, String)>> {
        let status = app.api().get("second").await?.status.unwrap_or_default();
        let mut conditions = status.conditions.into_iter();
        let ready = conditions.find(|one| one.type_ == "Ready");
        Ok(ready.map(|one| (one.reason, one.message)))
    };
    controller
        .until("the younger is told", SOON, async || {
            let ready = ready().await?;
            let is_told = ready.as_ref().is_some_and(|(reason, message)| {
                reason == "HostsClaimed" && message.contains(&format!("told/{OBJECT}"))
            });
            Ok(if is_told {
                Ok(())
            } else {
                Err(format!("{ready:?}"))
            })
        })
        .await?;
    let finalizers = app
        .api()
        .get("second")
        .await?
        .metadata
        .finalizers
        .unwrap_or_default();
    ensure!(
        finalizers.is_empty(),
        "nothing is done for it, and it is held: {finalizers:?}"
    );
    // Once the older is gone, the hosts are free.
    app.delete(&controller).await?;
    controller
        .until("the younger is looked after", SOON, async || {
            let ready = ready().await?;
            let is_free = ready.as_ref().is_some_and(|(reason, _)| reason != "HostsClaimed");
            Ok(if is_free {
                Ok(())
            } else {
                Err(format!("{ready:?}"))
            })
        })
        .await?;
    app.api().delete("second", &DeleteParams::default()).await?;
    controller
        .until("the younger goes", SOON, async || {
            let left = app.api().get_opt("second").await?;
            Ok(if left.is_none() {
                Ok(())
            } else {
                Err(format!("{left:?}"))
            })
        })
        .await?;
    // Outside a pod nobody has the label.
    let pods: Api<Pod> = Api::namespaced(cluster.client.clone(), NAMESPACE);
    let labelled = pods
        .list(&ListParams::default().labels(gma_k8s::LEADER_LABEL))
        .await?
        .items;
    ensure!(labelled.is_empty(), "{labelled:?}");
    Ok(())
}
