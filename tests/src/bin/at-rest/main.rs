//! The leader at rest, with 100 services and 1,000 pods in a real API server: its memory, and what it asks of the server.
//!
//! Pods are objects only: nothing runs in them, and the rig's stand-in for the kubelet patches them Ready. No proxy reports, so what the
//! telemetry would hold is not in the figure. Requests are those of its ServiceAccount in the server's audit log.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::ensure;
use futures_util::stream::{StreamExt as _, TryStreamExt as _, iter};
use gma_tests::kube::{Controller, install, until};
use gma_tests::rig::{Cluster, Requirements, Rig};
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::Api;
use kube::api::PostParams;
use serde_json::{Value, json};

const SERVICES: usize = 100;
/// Of each service; two of ten are at the edge.
const PODS: usize = 10;
const NAMESPACE: &str = "shop";
/// Writes under way at a time.
const AT_ONCE: usize = 16;
const SOON: Duration = Duration::from_secs(180);
/// After everything is seen: first writes of the status and events are over.
const SETTLE: Duration = Duration::from_secs(15);
/// What is counted; two renewals of a status, which is told each 30 s.
const WINDOW: Duration = Duration::from_secs(60);

fn main() -> anyhow::Result<()> {
    let requirements = Requirements::find(&[]).map_err(anyhow::Error::msg)?;
    let rig = Rig::start(&requirements)?;
    rig.run(measure)?
}

async fn measure(cluster: &Cluster) -> anyhow::Result<()> {
    install(cluster).await?;
    for (node, locality) in [("cloud-1", "cloud/cloud-1"), ("edge-1", "edge/edge-1")] {
        cluster.add_node(node, locality).await?;
    }
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}});
    cluster.apply(&namespace.to_string()).await?;
    let begin = Instant::now();
    create(cluster).await?;
    println!(
        "{SERVICES} services and {} pods Ready after {:.0} s",
        SERVICES * PODS + 1,
        begin.elapsed().as_secs_f64()
    );
    cluster.apply(&object().to_string()).await?;
    let controller = Controller::start(cluster, "at-rest", 18001).await?;
    controller
        .until("it has seen everything", SOON, async || {
            let round = controller.round().await?;
            Ok(if round.is_null() {
                Err("no round yet".to_owned())
            } else {
                Ok(())
            })
        })
        .await?;
    tokio::time::sleep(SETTLE).await;
    let before = cluster.audited()?.len();
    tokio::time::sleep(WINDOW).await;
    let audited = cluster.audited()?;
    let requests = audited.get(before..).unwrap_or_default();
    let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
    for request in requests {
        *kinds.entry(kind(request)).or_default() += 1;
    }
    let minutes = WINDOW.as_secs_f64() / 60.0;
    println!(
        "{:.1} requests a minute at rest: {kinds:?}",
        requests.len() as f64 / minutes
    );
    println!(
        "{:.1} MiB resident, {:.1} MiB at most",
        mebibytes(controller.process.resident_bytes()),
        mebibytes(controller.process.peak_bytes())
    );
    ensure!(!requests.is_empty(), "the lease was not renewed");
    Ok(())
}

fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// What a request was for.
fn kind(request: &Value) -> String {
    let text = |pointer: &str| {
        request
            .pointer(pointer)
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    let (verb, resource, part) = (
        text("/verb"),
        text("/objectRef/resource"),
        text("/objectRef/subresource"),
    );
    if part.is_empty() {
        format!("{verb} {resource}")
    } else {
        format!("{verb} {resource}/{part}")
    }
}

async fn create(cluster: &Cluster) -> anyhow::Result<()> {
    let parameters = PostParams::default();
    let services: Api<Service> = Api::namespaced(cluster.client.clone(), NAMESPACE);
    let pods: Api<Pod> = Api::namespaced(cluster.client.clone(), NAMESPACE);
    for number in 0..SERVICES {
        services
            .create(&parameters, &serde_json::from_value(service(number))?)
            .await?;
    }
    let all = (0..SERVICES).flat_map(|service| (0..PODS).map(move |index| pod(service, index)));
    let all = all.chain([gateway()]);
    iter(all)
        .map(|pod| async { anyhow::Ok(pods.create(&parameters, &serde_json::from_value(pod)?).await?) })
        .buffer_unordered(AT_ONCE)
        .try_collect::<Vec<_>>()
        .await?;
    until("all pods are Ready", SOON, async || {
        let found = pods.list(&Default::default()).await?.items;
        let ready = found.iter().filter(|pod| is_ready(pod)).count();
        Ok(if ready > SERVICES * PODS {
            Ok(())
        } else {
            Err(format!("{ready} of {}", found.len()))
        })
    })
    .await
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod
        .status
        .iter()
        .filter_map(|status| status.conditions.as_ref())
        .flatten();
    conditions
        .into_iter()
        .any(|one| one.type_ == "Ready" && one.status == "True")
}

fn service(number: usize) -> Value {
    json!({
        "metadata": {"name": format!("s{number}")},
        "spec": {"selector": {"app": format!("s{number}")}, "ports": [{"name": "http", "port": 80, "targetPort": 8080}]},
    })
}

/// As Istio's injection leaves one.
fn pod(service: usize, index: usize) -> Value {
    let node = if index < 2 { "edge-1" } else { "cloud-1" };
    json!({
        "metadata": {
            "name": format!("s{service}-{index}"),
            "labels": {"app": format!("s{service}"), "version": "v1", "service.istio.io/canonical-name": format!("s{service}")},
            "annotations": {"sidecar.istio.io/status": "{}"},
        },
        "spec": {"nodeName": node, "containers": [
            {"name": "app", "image": "pause", "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}}},
            {"name": "istio-proxy", "image": "pause"},
        ]},
    })
}

fn gateway() -> Value {
    json!({
        "metadata": {"name": "gateway", "labels": {"istio": "gateway"}, "annotations": {"sidecar.istio.io/status": "{}"}},
        "spec": {"nodeName": "edge-1", "containers": [{"name": "istio-proxy", "image": "pause"}]},
    })
}

fn object() -> Value {
    json!({
        "apiVersion": "gma.dev/v1alpha1", "kind": "EdgePlacement",
        "metadata": {"name": "shop", "namespace": NAMESPACE},
        "spec": {
            "areas": {
                "cloud": {"localities": ["cloud"]},
                "edges": [{
                    "name": "edge-1", "localities": ["edge"],
                    "gateway": {"namespace": NAMESPACE, "matchLabels": {"istio": "gateway"}},
                    "objective": {"offloadAbove": "80ms", "unoffloadBelow": "10ms"},
                }],
            },
            "policy": {"mode": "Enforce"},
        },
    })
}
