//! Traps of rules on a real istiod with real traffic: what a mesh may have in it already, what users do meanwhile, and what breaks.
//! 200 requests a second go through a stock Envoy all the time, and none fails but where a test says which and why.
//!
//! Rules that are held (a wildcard host with tls, the root namespace, subsets and ports with a policy of their own, `failover` that is set,
//! another owner of the weights) are never written, so they need no traffic: `kube_rule` shows that they are held, and that istiod takes
//! the fix; the rule writer's unit tests have the other shapes.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use gma_core::cluster::Unroutable;
use gma_k8s::locality::Locality;
use gma_k8s::rule::Held;
use gma_tests::envoy;
use gma_tests::kube::{Stage, Web, all_ok, until};
use gma_tests::local::Users;
use gma_tests::rig::{Cluster, Suite, manifests};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use serde_json::{Value, json};

/// Requests a second.
const RATE: u32 = 200;
const PATH: &str = "/api/v1";
const FAILING_PATH: &str = "/api/v1?bid=route";

/// Longest wait for something that takes a second on an idle machine.
const SOON: Duration = Duration::from_secs(60);

const EDGE: (&str, &str) = ("edge", "edge-1");
const CLOUD: (&str, &str) = ("cloud", "cloud-1");

fn main() -> ExitCode {
    Suite::default()
        .test("users_rules_carry_the_weights", users_rules_carry_the_weights)
        .test(
            "what_users_do_meanwhile_fails_nothing",
            what_users_do_meanwhile_fails_nothing,
        )
        .test("two_rules_and_two_winners", two_rules_and_two_winners)
        .test("the_form_changes_under_load", the_form_changes_under_load)
        .test("an_edge_that_is_killed_is_left", an_edge_that_is_killed_is_left)
        .test(
            "a_route_that_fails_takes_no_other_with_it",
            a_route_that_fails_takes_no_other_with_it,
        )
        .test(
            "a_region_that_is_lost_is_held_and_comes_back",
            a_region_that_is_lost_is_held_and_comes_back,
        )
        .test(
            "a_cloud_of_three_zones_keeps_three_shares",
            a_cloud_of_three_zones_keeps_three_shares,
        )
        .test(
            "zones_without_regions_move_by_readiness",
            zones_without_regions_move_by_readiness,
        )
        .run()
}

// === What they share ===

/// Fields that a user may have set.
fn other_fields() -> Value {
    json!({
        "connectionPool": {"tcp": {"maxConnections": 1000}},
        "loadBalancer": {"simple": "LEAST_REQUEST"},
    })
}

/// The policy that the project's first manifests came with.
fn seeds() -> Value {
    json!({"outlierDetection": {"consecutive5xxErrors": 7, "interval": "30s", "baseEjectionTime": "30s"}})
}

async fn delete(stage: &Stage<'_>, name: &str) -> anyhow::Result<()> {
    stage.api().delete(name, &DeleteParams::default()).await?;
    Ok(())
}

async fn scale(cluster: &Cluster, namespace: &str, name: &str, replicas: u32) -> anyhow::Result<()> {
    let api: Api<Deployment> = Api::namespaced(cluster.client.clone(), namespace);
    let patch = Patch::Merge(json!({"spec": {"replicas": replicas}}));
    api.patch_scale(name, &PatchParams::default(), &patch).await?;
    Ok(())
}

// === Tests ===

/// No rule yet, and rules of users: the weights come and go, and what the user wrote is as it was.
async fn users_rules_carry_the_weights(cluster: &Cluster) -> anyhow::Result<()> {
    let web = Web::start(cluster, "carried", "10.244.249.1", &[EDGE, CLOUD]).await?;
    let load = web.users.load(RATE, &[PATH]);
    for policy in [None, Some(other_fields()), Some(seeds())] {
        let spec = policy.as_ref().map(|policy| web.stage.spec_with(policy));
        if let Some(spec) = &spec {
            web.stage.create("web", spec.clone()).await?;
        }
        for share in [0, 25, 99] {
            web.shift(share).await.with_context(|| format!("{policy:?}"))?;
        }
        web.stage.release().await?;
        match spec {
            None => ensure!(web.stage.mesh().await?.rules.is_empty(), "a rule is left"),
            Some(spec) => {
                ensure!(
                    web.stage.spec("web").await? == spec,
                    "not restored: {}",
                    web.stage.spec("web").await?
                );
                delete(&web.stage, "web").await?;
            }
        }
    }
    // Istio takes it from the Service where no rule says anything; the weights must win.
    let services: Api<Service> = Api::namespaced(cluster.client.clone(), &web.stage.namespace);
    let patch = Patch::Merge(json!({"spec": {"trafficDistribution": "PreferSameZone"}}));
    services.patch("web", &PatchParams::default(), &patch).await?;
    web.until_share(100).await.context("trafficDistribution alone")?;
    web.shift(25).await.context("trafficDistribution")?;
    web.stage.release().await?;
    web.until_share(100).await.context("trafficDistribution again")?;
    let sent = load.end().await;
    println!("{} requests over 10 shifts", sent.len());
    all_ok(&sent)
}

async fn what_users_do_meanwhile_fails_nothing(cluster: &Cluster) -> anyhow::Result<()> {
    let web = Web::start(cluster, "meanwhile", "10.244.249.2", &[EDGE, CLOUD]).await?;
    let load = web.users.load(RATE, &[PATH]);
    let before = web.stage.spec_with(&other_fields());
    web.stage.create("web", before.clone()).await?;
    web.shift(99).await?;
    // A later file of the user's, by kubectl apply: his field changes, the weights stay.
    let mut changed = before;
    let limit = changed.pointer_mut("/trafficPolicy/connectionPool/tcp/maxConnections");
    *limit.context("no limit")? = 2000.into();
    web.stage.kubectl_apply("web", &changed).await?;
    let sent = web.users.send_each(PATH, 200).await;
    all_ok(&sent)?;
    ensure!(
        web.stage.spec("web").await?.to_string().contains("distribute"),
        "kubectl apply took the weights"
    );
    web.until_share(99).await?;
    // kubectl replace takes them away: the next round writes them again.
    web.stage.kubectl_replace("web", &changed).await?;
    web.until_share(50)
        .await
        .context("the user's rule has no weights")?;
    web.shift(99).await?;
    web.stage.release().await?;
    let now = web.stage.spec("web").await?;
    ensure!(now == changed, "not restored: {now}");
    let sent = load.end().await;
    println!("{} requests", sent.len());
    all_ok(&sent)
}

/// Of two rules for a host the older wins, and a gateway's namespace may have one of its own.
async fn two_rules_and_two_winners(cluster: &Cluster) -> anyhow::Result<()> {
    let mut web = Web::start(cluster, "winners", "10.244.249.3", &[EDGE, CLOUD]).await?;
    // Another gateway, in a namespace with a rule of its own for the host.
    let (entry, address) = ("winners-entry", "10.244.249.4");
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": entry}});
    let gateway = manifests::gateway(entry, "edge-1", address, "web");
    let gateway = gateway.replace(&format!("web.{entry}.svc"), "web.winners.svc");
    cluster.apply(&format!("{namespace}\n{gateway}")).await?;
    cluster.until_ready(entry, "istio=gateway-edge-1", 1).await?;
    web.stage.callers.insert(entry.to_owned());
    let others = Users::at((address.parse::<std::net::IpAddr>()?, manifests::PORT).into());
    web.until_share_of(&others, 50).await?;
    let loads = [&web.users, &others].map(|users| users.load(RATE / 2, &[PATH]));

    let (spec, own) = (
        web.stage.spec_with(&other_fields()),
        web.stage.spec_with(&seeds()),
    );
    web.stage.create("z-older", spec.clone()).await?;
    // Conditions are of one second's grain: the older must be the older.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    web.stage.create("a-newer", own.clone()).await?;
    web.stage.create_in(entry, "entry", own.clone()).await?;
    for share in [25, 99] {
        web.shift(share).await?;
        web.until_share_of(&others, usize::try_from(share)?).await?;
    }
    ensure!(web.stage.spec("a-newer").await? == own, "the newer was written");
    web.stage.release().await?;
    ensure!(
        web.stage.spec("z-older").await? == spec,
        "the older is not restored"
    );
    let rule = web.stage.rules_of(entry).get("entry").await?;
    ensure!(
        rule.data.get("spec") == Some(&own),
        "the gateway's own is not restored: {:?}",
        rule.data
    );
    for load in loads {
        all_ok(&load.end().await)?;
    }
    Ok(())
}

/// Distribute and failover, each into the other, and the edge's last endpoint goes and comes back in either.
async fn the_form_changes_under_load(cluster: &Cluster) -> anyhow::Result<()> {
    let web = Web::start(cluster, "forms", "10.244.249.5", &[EDGE, CLOUD]).await?;
    let load = web.users.load(RATE, &[PATH]);
    web.shift(50).await?;
    for form in [99, 100, 99, 100] {
        web.shift(form).await?;
    }
    for form in [100, 99] {
        web.shift(form).await?;
        scale(cluster, "forms", "web-edge-1", 0).await?;
        web.until_share(0)
            .await
            .with_context(|| format!("{form} and no endpoint"))?;
        scale(cluster, "forms", "web-edge-1", 1).await?;
        web.until_share(usize::try_from(form)?).await?;
    }
    web.stage.release().await?;
    web.until_share(50).await?;
    let sent = load.end().await;
    println!("{} requests", sent.len());
    all_ok(&sent)
}

/// Its cell is killed while its endpoint is still listed: what it was serving fails, and nothing that was sent later.
async fn an_edge_that_is_killed_is_left(cluster: &Cluster) -> anyhow::Result<()> {
    let web = Web::start(cluster, "killed", "10.244.249.6", &[EDGE, CLOUD]).await?;
    web.shift(99).await?;
    let pods = cluster.until_ready("killed", "app=web,area=edge-1", 1).await?;
    let name = pods
        .first()
        .and_then(|pod| pod.metadata.name.clone())
        .context("no pod")?;
    // The stand-in starts it again at once the first time, and after 10 s the second.
    cluster.kill_container("killed", &name, "cell")?;
    let api: Api<Pod> = Api::namespaced(cluster.client.clone(), "killed");
    until("it was started again", SOON, async || {
        let status = api.get(&name).await?.status.unwrap_or_default();
        let cell = status.container_statuses.unwrap_or_default().pop();
        let is_so = cell
            .as_ref()
            .is_some_and(|cell| cell.restart_count == 1 && cell.ready);
        Ok(if is_so { Ok(()) } else { Err(format!("{cell:?}")) })
    })
    .await?;
    web.until_share(99).await?;
    let load = web.users.load(RATE, &[PATH]);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let killed = Instant::now();
    cluster.kill_container("killed", &name, "cell")?;
    web.until_share(0).await?;
    web.until_share(99).await?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let sent = load.end().await;
    let failed: Vec<Duration> = sent
        .iter()
        .filter(|sent| !sent.is_ok())
        .map(|sent| sent.at.saturating_duration_since(killed))
        .collect();
    println!(
        "{} requests, failed by the time after the kill: {failed:?}",
        sent.len()
    );
    // Three in a row eject it; each is tried twice more, and most of these find it again.
    ensure!(failed.len() <= 10, "{failed:?}");
    ensure!(
        failed.iter().all(|after| *after < Duration::from_millis(500)),
        "{failed:?}"
    );
    Ok(())
}

/// With our outlier detection, and where the user's own ejects after seven 5xx.
async fn a_route_that_fails_takes_no_other_with_it(cluster: &Cluster) -> anyhow::Result<()> {
    let web = Web::start(cluster, "route", "10.244.249.7", &[EDGE, CLOUD]).await?;
    for policy in [None, Some(seeds())] {
        if let Some(policy) = &policy {
            web.stage.create("web", web.stage.spec_with(policy)).await?;
        }
        web.shift(99).await?;
        let load = web.users.load(RATE, &[PATH, FAILING_PATH, FAILING_PATH]);
        tokio::time::sleep(Duration::from_secs(1)).await;
        web.set_failing(cluster, Some("route"))?;
        tokio::time::sleep(Duration::from_secs(4)).await;
        web.set_failing(cluster, None)?;
        let sent = load.end().await;
        let (bad, good): (Vec<_>, Vec<_>) = sent.iter().partition(|sent| sent.path == FAILING_PATH);
        let failed = bad.iter().filter(|sent| !sent.is_ok()).count();
        println!(
            "{policy:?}: {failed} of the route's {} failed, and of the {} others",
            bad.len(),
            good.len()
        );
        ensure!(failed > 300, "the route did not fail");
        all_ok(good)?;
        web.stage.release().await?;
    }
    Ok(())
}

/// Where the gateway's Envoy says that the service's endpoints are.
async fn localities(gateway: &str, namespace: &str) -> anyhow::Result<Vec<Locality>> {
    let address = std::net::SocketAddr::new(gateway.parse()?, 15000);
    let answer = envoy::get(address, "/clusters?format=json")
        .await
        .map_err(anyhow::Error::msg)?;
    let clusters: Value = serde_json::from_slice(&answer.body)?;
    let name = format!("outbound|80||web.{namespace}.svc.cluster.local");
    let all = clusters
        .get("cluster_statuses")
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    let hosts = all
        .filter(|cluster| cluster.get("name") == Some(&json!(name)))
        .filter_map(|cluster| cluster.get("host_statuses")?.as_array());
    let text = |host: &Value, part: &str| {
        host.pointer(&format!("/locality/{part}"))
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    let found = hosts
        .flatten()
        .map(|host| Locality::parse(&format!("{}/{}", text(host, "region"), text(host, "zone"))));
    Ok(found.collect())
}

/// Changes the pods' labels and the EndpointSlices: then istiod looks at the nodes' labels again.
async fn touch(cluster: &Cluster, namespace: &str, value: &str) -> anyhow::Result<()> {
    let pods: Api<Pod> = Api::namespaced(cluster.client.clone(), namespace);
    let slices: Api<EndpointSlice> = Api::namespaced(cluster.client.clone(), namespace);
    let patch = Patch::Merge(json!({"metadata": {"labels": {"touched": value}}}));
    let parameters = PatchParams::default();
    for pod in pods.list(&ListParams::default().labels("app=web")).await?.items {
        let name = pod.metadata.name.context("no name")?;
        pods.patch(&name, &parameters, &patch).await?;
    }
    for slice in slices.list(&ListParams::default()).await?.items {
        let name = slice.metadata.name.context("no name")?;
        slices.patch(&name, &parameters, &patch).await?;
    }
    Ok(())
}

/// istiod learns of a node's label when a pod or an EndpointSlice changes. An edge without its region is in no area: it is left by its own, and held.
async fn a_region_that_is_lost_is_held_and_comes_back(cluster: &Cluster) -> anyhow::Result<()> {
    let (namespace, gateway, node) = ("lost", "10.244.249.8", "edge-lost");
    let mut web = Web::start(cluster, namespace, gateway, &[("edge", node), CLOUD]).await?;
    web.shift(99).await?;
    let load = web.users.load(RATE, &[PATH]);
    let nodes: Api<Node> = Api::all(cluster.client.clone());
    for (region, place, share) in [(None, "/edge-lost", 0), (Some("edge"), "edge/edge-lost", 99)] {
        let patch = json!({"metadata": {"labels": {"topology.kubernetes.io/region": region}}});
        nodes
            .patch(node, &PatchParams::default(), &Patch::Merge(patch))
            .await?;
        touch(cluster, namespace, region.unwrap_or("none")).await?;
        web.until_share(share)
            .await
            .with_context(|| format!("{region:?}"))?;
        // Without a weight it has no endpoint in Envoy: then a proxy reports nothing of it, and the pod's node says where it is.
        web.stage.reported = localities(gateway, namespace).await?.into_iter().collect();
        web.stage.reported.insert(Locality::parse(place));
        let held = web.stage.write(99).await?.err();
        let is_held = matches!(
            &held,
            Some(Held { why: Unroutable::EndpointOutsideAreas { locality }, .. }) if locality == place
        );
        ensure!(is_held == region.is_none(), "{region:?}: {held:?}");
    }
    let sent = load.end().await;
    println!("{} requests", sent.len());
    all_ok(&sent)
}

/// istiod rounds each zone's part of the standby up: 3 of 102 instead of 1 of 100.
async fn a_cloud_of_three_zones_keeps_three_shares(cluster: &Cluster) -> anyhow::Result<()> {
    let zones = [EDGE, CLOUD, ("cloud", "cloud-2"), ("cloud", "cloud-3")];
    let web = Web::start(cluster, "zones", "10.244.249.9", &zones).await?;
    web.shift(0).await?;
    web.shift(99).await?;
    let split = web.split(408).await;
    println!("{split:?}");
    let edge = split.get("edge-1").copied().unwrap_or(0);
    ensure!((395..=397).contains(&edge) && split.len() == 4, "{split:?}");
    Ok(())
}

/// The seeds' labels: no weight can name a zone, so one rule for all times, and calls follow what is Ready.
async fn zones_without_regions_move_by_readiness(cluster: &Cluster) -> anyhow::Result<()> {
    let (namespace, nodes) = ("bare", [("", "edge-bare"), ("", "cloud-bare")]);
    let web = Web::start(cluster, namespace, "10.244.249.10", &nodes).await?;
    scale(cluster, namespace, "web-edge-bare", 0).await?;
    web.until_share(0).await.context("no endpoint at the edge")?;
    let load = web.users.load(RATE, &[PATH]);
    // What adoption writes; what an offload would write is the same.
    web.shift(0).await?;
    let written = web.stage.spec("gma-web").await?;
    for _ in 0..3 {
        for (replicas, share) in [(1, 100), (0, 0)] {
            scale(cluster, namespace, "web-edge-bare", replicas).await?;
            web.until_share(share)
                .await
                .with_context(|| format!("{replicas} at the edge"))?;
            web.stage.step(u32::try_from(share)?).await?;
        }
    }
    ensure!(web.stage.spec("gma-web").await? == written, "another rule");
    web.stage.release().await?;
    let sent = load.end().await;
    println!("{} requests over 6 moves", sent.len());
    all_ok(&sent)
}
