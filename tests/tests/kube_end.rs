//! The end of objects: `gma uninstall` with a controller and without, and a cluster that has lost what it needs.

#![expect(clippy::indexing_slicing, reason = "of JSON values that are made right there")]

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use gma_k8s::api::EdgePlacement;
use gma_k8s::{FINALIZER, OBJECT_ANNOTATION, REPLICAS_ANNOTATION};
use gma_tests::kube::{Controller, NAMESPACE as OWN, gma, install};
use gma_tests::rig::{Cluster, Suite, apply_with};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Api;
use kube::api::{DeleteParams, DynamicObject, PatchParams};
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::{Value, json};

/// Longest wait for what takes a second on an idle machine.
const SOON: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    Suite::default()
        .test("a_controller_gives_back_and_the_command_waits", with_a_controller)
        .test(
            "without_a_controller_the_command_gives_back",
            without_a_controller,
        )
        .test(
            "a_caller_without_rights_is_told_so",
            a_caller_without_rights_is_told_so,
        )
        .test(
            "without_the_controllers_namespace_too",
            without_the_controllers_namespace_too,
        )
        .test("without_istio_an_object_is_told_so_and_can_go", without_istio)
        .test(
            "without_the_definition_there_is_nothing_to_do",
            without_the_definition,
        )
        .run()
}

// === What a controller would have left ===

fn object(namespace: &str) -> Value {
    json!({
        "apiVersion": "gma.dev/v1alpha1", "kind": "EdgePlacement",
        "metadata": {"name": "shop", "namespace": namespace, "finalizers": [FINALIZER]},
        "spec": {
            "areas": {
                "cloud": {"localities": ["cloud"]},
                "edges": [{
                    "name": "edge-1", "localities": ["edge"],
                    "gateway": {"namespace": namespace, "matchLabels": {"istio": "gateway"}},
                    "objective": {"offloadAbove": "80ms", "unoffloadBelow": "10ms"},
                }],
            },
            "policy": {"mode": "Observe"},
        },
    })
}

fn rules(cluster: &Cluster, namespace: &str) -> Api<DynamicObject> {
    let kind = GroupVersionKind::gvk("networking.istio.io", "v1", "DestinationRule");
    Api::namespaced_with(cluster.client.clone(), namespace, &ApiResource::from_gvk(&kind))
}

/// An object in the middle of a move: a Deployment is scaled, our rule is there, and our fields are in a rule of the user's.
async fn plant(cluster: &Cluster, namespace: &str) -> anyhow::Result<()> {
    let labels = json!({"app": "web"});
    let host = |service: &str| format!("{service}.{namespace}.svc.cluster.local");
    let rule = |name: &str, spec: Value| {
        json!({"apiVersion": "networking.istio.io/v1", "kind": "DestinationRule",
            "metadata": {"name": name, "namespace": namespace}, "spec": spec})
    };
    let policy = json!({"loadBalancer": {"localityLbSetting": {
        "enabled": true, "distribute": [{"from": "edge/*", "to": {"edge/*": 99, "cloud/*": 1}}]}}});
    for mine in [
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}),
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "web-edge", "namespace": namespace,
                "annotations": {OBJECT_ANNOTATION: format!("{namespace}/shop"), REPLICAS_ANNOTATION: "0"}},
            "spec": {"replicas": 2, "selector": {"matchLabels": labels}, "template": {
                "metadata": {"labels": labels}, "spec": {"containers": [{"name": "app", "image": "pause"}]}}},
        }),
        rule(
            "api",
            json!({"host": host("api"), "trafficPolicy": {"tls": {"mode": "DISABLE"}}}),
        ),
    ] {
        cluster.apply(&mine.to_string()).await?;
    }
    let ours = PatchParams::apply("gma");
    for ours_too in [
        rule("gma-web", json!({"host": host("web"), "trafficPolicy": policy})),
        rule("api", json!({"trafficPolicy": policy})),
    ] {
        apply_with(&cluster.client, &ours_too.to_string(), &ours).await?;
    }
    cluster.apply(&object(namespace).to_string()).await?;
    Ok(())
}

/// Whether everything is as it was before.
async fn is_restored(cluster: &Cluster, namespace: &str) -> anyhow::Result<()> {
    let objects: Api<EdgePlacement> = Api::namespaced(cluster.client.clone(), namespace);
    ensure!(objects.get_opt("shop").await?.is_none(), "the object is there");
    ensure!(
        rules(cluster, namespace).get_opt("gma-web").await?.is_none(),
        "our rule is there"
    );
    let theirs = rules(cluster, namespace).get("api").await?;
    let expected = json!({"host": format!("api.{namespace}.svc.cluster.local"),
        "trafficPolicy": {"tls": {"mode": "DISABLE"}}});
    ensure!(theirs.data["spec"] == expected, "{}", theirs.data);
    let deployments: Api<Deployment> = Api::namespaced(cluster.client.clone(), namespace);
    let edge = deployments.get("web-edge").await?;
    let replicas = edge.spec.and_then(|spec| spec.replicas);
    let annotations = edge.metadata.annotations.unwrap_or_default();
    ensure!(
        replicas == Some(0) && !annotations.contains_key(REPLICAS_ANNOTATION),
        "{replicas:?}, {annotations:?}"
    );
    Ok(())
}

/// Runs the command as the administrator; it must succeed.
async fn uninstall(cluster: &Cluster, namespace: &str) -> anyhow::Result<()> {
    let begin = Instant::now();
    let ended = gma(&cluster.admin_kubeconfig(), &["uninstall", "-n", namespace]).await?;
    ensure!(
        ended.code == Some(0)
            && ended
                .stdout
                .contains(&format!("EdgePlacement {namespace}/shop: gone after")),
        "{ended:?}"
    );
    print!("{}", ended.stdout);
    ensure!(begin.elapsed() < SOON, "{:?}", begin.elapsed());
    is_restored(cluster, namespace).await
}

// === Tests ===

async fn with_a_controller(cluster: &Cluster) -> anyhow::Result<()> {
    install(cluster).await?;
    plant(cluster, "attended").await?;
    let controller = Controller::start(cluster, "attended", 18101).await?;
    controller
        .until_says("it looks after the object", SOON, "looking after")
        .await?;
    uninstall(cluster, "attended").await?;
    let log = controller.process.log();
    ensure!(log.contains("what was changed is restored"), "{log}");
    Ok(())
}

async fn without_a_controller(cluster: &Cluster) -> anyhow::Result<()> {
    install(cluster).await?;
    plant(cluster, "alone").await?;
    // Somebody who died holds the lease.
    let left = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {"name": "gma", "namespace": OWN},
        "spec": {"holderIdentity": "gma-dead", "leaseDurationSeconds": 15, "leaseTransitions": 1}});
    cluster.apply(&left.to_string()).await?;
    uninstall(cluster, "alone").await?;
    let leases: Api<Lease> = Api::namespaced(cluster.client.clone(), OWN);
    let holder = leases
        .get("gma")
        .await?
        .spec
        .and_then(|spec| spec.holder_identity);
    ensure!(
        holder.as_deref().unwrap_or_default().is_empty(),
        "{holder:?} has the lease"
    );
    // A second time there is nothing to do.
    let ended = gma(&cluster.admin_kubeconfig(), &["uninstall", "-n", "alone"]).await?;
    ensure!(
        ended.code == Some(0) && ended.stdout.contains("there is no EdgePlacement in alone"),
        "{ended:?}"
    );
    Ok(())
}

async fn a_caller_without_rights_is_told_so(cluster: &Cluster) -> anyhow::Result<()> {
    install(cluster).await?;
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount",
        "metadata": {"name": "nobody", "namespace": OWN}});
    cluster.apply(&account.to_string()).await?;
    let nobody = cluster.kubeconfig_of(OWN, "nobody").await?;
    let ended = gma(&nobody, &["uninstall", "-n", "alone"]).await?;
    ensure!(
        ended.code == Some(1) && ended.stderr.contains("may not list and watch EdgePlacements"),
        "{ended:?}"
    );
    Ok(())
}

async fn without_the_controllers_namespace_too(cluster: &Cluster) -> anyhow::Result<()> {
    install(cluster).await?;
    plant(cluster, "bereft").await?;
    let namespaces: Api<Namespace> = Api::all(cluster.client.clone());
    namespaces.delete(OWN, &DeleteParams::default()).await?;
    let end = Instant::now() + SOON;
    while namespaces.get_opt(OWN).await?.is_some() {
        ensure!(Instant::now() < end, "the namespace does not go");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    uninstall(cluster, "bereft").await?;
    let leases: Api<Lease> = Api::namespaced(cluster.client.clone(), "default");
    ensure!(leases.get_opt("gma").await?.is_none(), "a lease is left");
    Ok(())
}

/// Istio's definitions are taken away and not put back.
async fn without_istio(cluster: &Cluster) -> anyhow::Result<()> {
    install(cluster).await?;
    plant(cluster, "bare").await?;
    let definitions: Api<CustomResourceDefinition> = Api::all(cluster.client.clone());
    let name = "destinationrules.networking.istio.io";
    definitions.delete(name, &DeleteParams::default()).await?;
    let end = Instant::now() + SOON;
    while definitions.get_opt(name).await?.is_some() {
        ensure!(Instant::now() < end, "the definition does not go");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let controller = Controller::start(cluster, "bare", 18102).await?;
    let objects: Api<EdgePlacement> = Api::namespaced(cluster.client.clone(), "bare");
    controller
        .until("the object is told", SOON, async || {
            let status = objects.get("shop").await?.status.unwrap_or_default();
            let ready = status.conditions.into_iter().find(|one| one.type_ == "Ready");
            let ready = ready.context("no condition")?;
            let is_told = ready.reason == "ClusterIncomplete" && ready.message.contains("install Istio 1.26");
            Ok(if is_told {
                Ok(())
            } else {
                Err(format!("{ready:?}"))
            })
        })
        .await?;
    ensure!(!controller.is_ready().await, "ready without Istio");
    let begin = Instant::now();
    objects.delete("shop", &DeleteParams::default()).await?;
    controller
        .until("the object goes", SOON, async || {
            Ok(if objects.get_opt("shop").await?.is_none() {
                Ok(())
            } else {
                Err("it is there".to_owned())
            })
        })
        .await?;
    println!(
        "without Istio it went after {:.1} s",
        begin.elapsed().as_secs_f64()
    );
    let deployments: Api<Deployment> = Api::namespaced(cluster.client.clone(), "bare");
    let replicas = deployments
        .get("web-edge")
        .await?
        .spec
        .and_then(|spec| spec.replicas);
    ensure!(replicas == Some(0), "{replicas:?}");
    Ok(())
}

async fn without_the_definition(cluster: &Cluster) -> anyhow::Result<()> {
    let definitions: Api<CustomResourceDefinition> = Api::all(cluster.client.clone());
    let name = "edgeplacements.gma.dev";
    if definitions.get_opt(name).await?.is_some() {
        definitions.delete(name, &DeleteParams::default()).await?;
    }
    let end = Instant::now() + SOON;
    while definitions.get_opt(name).await?.is_some() {
        ensure!(Instant::now() < end, "the definition does not go");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let ended = gma(&cluster.admin_kubeconfig(), &["uninstall", "--all"]).await?;
    ensure!(
        ended.code == Some(0) && ended.stdout.contains("EdgePlacement is not installed"),
        "{ended:?}"
    );
    Ok(())
}
