//! Bodies of the rule writer on a real API server and a real istiod's webhook: ownership, validity, and what is left when
//! they are taken back.

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use gma_core::cluster::Unroutable;
use gma_k8s::locality::{AreaMap, Locality};
use gma_k8s::rule::Held;
use gma_tests::kube::{Stage, Web, all_ok};
use gma_tests::rig::{Cluster, Suite};
use kube::api::DeleteParams;
use serde_json::{Value, json};
use tokio::time::sleep;

/// Of the figure: writes that shift, the time each has, and users' requests a second.
const SHIFTS: usize = 40;
const PAUSE: Duration = Duration::from_millis(600);
const RATE: u32 = 200;
/// Longest that a write may take to be in force.
const MOST: Duration = Duration::from_secs(2);

fn main() -> ExitCode {
    Suite::default()
        .test(
            "a_rule_is_created_changed_and_deleted",
            a_rule_is_created_changed_and_deleted,
        )
        .test(
            "a_users_rule_is_shared_and_restored",
            a_users_rule_is_shared_and_restored,
        )
        .test(
            "a_replaced_rule_is_written_again",
            a_replaced_rule_is_written_again,
        )
        .test("another_owner_holds_the_service", another_owner_holds_the_service)
        .test(
            "fixes_are_accepted_and_end_what_is_held",
            fixes_are_accepted_and_end_what_is_held,
        )
        .test(
            "zones_without_regions_are_accepted",
            zones_without_regions_are_accepted,
        )
        .test("weights_are_soon_in_force", weights_are_soon_in_force)
        .run()
}

// === What they share ===

/// The service `cart` of a namespace.
async fn stage<'a>(cluster: &'a Cluster, namespace: &str) -> anyhow::Result<Stage<'a>> {
    let areas: [(&str, &[&str]); 2] = [("cloud", &["eu"]), ("edge-1", &["lab"])];
    Stage::new(cluster, namespace, "cart", &areas, &["eu/a", "eu/b"]).await
}

fn weights(spec: &Value) -> Option<&Value> {
    spec.pointer("/trafficPolicy/loadBalancer/localityLbSetting/distribute/1/to")
}

// === Tests ===

async fn a_rule_is_created_changed_and_deleted(cluster: &Cluster) -> anyhow::Result<()> {
    let stage = stage(cluster, "created").await?;
    for edge in [0, 1, 25, 50, 99] {
        stage.step(edge).await?;
        let spec = stage.spec("gma-cart").await?;
        let to = weights(&spec).with_context(|| spec.to_string())?;
        ensure!(
            to.get("lab").and_then(Value::as_u64).unwrap_or(0) == u64::from(edge),
            "{to}"
        );
    }
    stage.step(100).await?;
    let setting = stage.spec("gma-cart").await?;
    let setting = setting.pointer("/trafficPolicy/loadBalancer/localityLbSetting");
    ensure!(
        setting == Some(&json!({"enabled": true, "failover": [{"from": "lab", "to": "eu"}]})),
        "{setting:?}"
    );
    stage.step(99).await?;
    stage.release().await?;
    ensure!(stage.mesh().await?.rules.is_empty(), "a rule is left");
    Ok(())
}

async fn a_users_rule_is_shared_and_restored(cluster: &Cluster) -> anyhow::Result<()> {
    let stage = stage(cluster, "shared").await?;
    let spec = stage.spec_with(&json!({
        "connectionPool": {"tcp": {"maxConnections": 100}},
        "loadBalancer": {"simple": "LEAST_REQUEST"},
        "outlierDetection": {"consecutive5xxErrors": 7, "interval": "30s", "baseEjectionTime": "30s"},
    }));
    stage.create("cart", spec.clone()).await?;
    stage.step(1).await?;
    stage.step(99).await?;
    let now = stage.spec("cart").await?;
    for (pointer, value) in [
        ("/trafficPolicy/connectionPool/tcp/maxConnections", json!(100)),
        ("/trafficPolicy/loadBalancer/simple", json!("LEAST_REQUEST")),
        ("/trafficPolicy/outlierDetection/consecutive5xxErrors", json!(7)),
        ("/trafficPolicy/outlierDetection/minHealthPercent", json!(1)),
    ] {
        ensure!(now.pointer(pointer) == Some(&value), "{pointer}: {now}");
    }
    stage.release().await?;
    ensure!(stage.spec("cart").await? == spec, "{}", stage.spec("cart").await?);
    Ok(())
}

async fn a_replaced_rule_is_written_again(cluster: &Cluster) -> anyhow::Result<()> {
    let stage = stage(cluster, "replaced").await?;
    let spec = stage.spec_with(&json!({"tls": {"mode": "DISABLE"}}));
    stage.create("cart", spec.clone()).await?;
    stage.step(99).await?;
    stage.kubectl_replace("cart", &spec).await?;
    ensure!(
        weights(&stage.spec("cart").await?).is_none(),
        "replacing left the weights"
    );
    stage.step(99).await?;
    ensure!(weights(&stage.spec("cart").await?).is_some(), "no weights");
    stage.release().await?;
    ensure!(stage.spec("cart").await? == spec, "{}", stage.spec("cart").await?);
    Ok(())
}

async fn another_owner_holds_the_service(cluster: &Cluster) -> anyhow::Result<()> {
    let stage = stage(cluster, "owned").await?;
    let spec = stage.spec_with(&json!({
        "loadBalancer": {"localityLbSetting": {"failover": [{"from": "eu", "to": "lab"}]}},
        "outlierDetection": {"minHealthPercent": 30},
    }));
    stage.create("cart", spec).await?;
    match stage.write(99).await? {
        Err(Held {
            why: Unroutable::RuleOwned { by },
            ..
        }) => {
            for part in [
                "kubectl-client-side-apply",
                "localityLbSetting.failover",
                "minHealthPercent",
            ] {
                ensure!(by.contains(part), "{part}: {by}");
            }
            Ok(())
        }
        other => bail!("{other:?}"),
    }
}

async fn fixes_are_accepted_and_end_what_is_held(cluster: &Cluster) -> anyhow::Result<()> {
    let stage = stage(cluster, "fixed").await?;
    let subset = json!([{"name": "v1", "labels": {"version": "v1"},
        "trafficPolicy": {"loadBalancer": {"simple": "RANDOM"}}}]);
    for spec in [
        json!({"host": "*.fixed.svc.cluster.local", "trafficPolicy": {"tls": {"mode": "DISABLE"}}}),
        json!({"host": "cart", "subsets": subset}),
        json!({"host": "cart", "exportTo": ["."]}),
        stage.spec_with(&json!({"portLevelSettings": [
            {"port": {"number": 80}, "connectionPool": {"tcp": {"maxConnections": 3}}}]})),
        stage.spec_with(&json!({"outlierDetection": {"minHealthPercent": 50}})),
    ] {
        stage.create("cart", spec.clone()).await?;
        let Err(held) = stage.write(99).await? else {
            bail!("not held: {spec}")
        };
        // The user applies it under the name that it has; where that is the held rule's own, he replaces it.
        let fix: Value = serde_norway::from_str(&held.fix)?;
        let name = fix
            .pointer("/metadata/name")
            .and_then(Value::as_str)
            .context("no name")?;
        if name == "cart" {
            stage.api().delete("cart", &DeleteParams::default()).await?;
        }
        stage
            .create(name, fix.get("spec").cloned().unwrap_or_default())
            .await?;
        stage.step(99).await.with_context(|| held.fix.clone())?;
        for rule in stage.mesh().await?.rules {
            stage.api().delete(&rule.name, &DeleteParams::default()).await?;
        }
    }
    Ok(())
}

async fn zones_without_regions_are_accepted(cluster: &Cluster) -> anyhow::Result<()> {
    let mut stage = stage(cluster, "zones").await?;
    let zone = |name: &str| BTreeSet::from([name.to_owned()]);
    stage.areas = AreaMap::Zones([("cloud".into(), zone("cloud")), ("edge-1".into(), zone("edge1"))].into());
    stage.reported = [Locality::parse("/cloud")].into();
    stage.step(99).await?;
    let spec = stage.spec("gma-cart").await?;
    let form = spec.pointer("/trafficPolicy/loadBalancer/localityLbSetting/failoverPriority");
    ensure!(form == Some(&json!(["topology.kubernetes.io/zone"])), "{spec}");
    stage.release().await
}

/// The figure: from a write to the API to the first of 200 requests a second that goes by it.
async fn weights_are_soon_in_force(cluster: &Cluster) -> anyhow::Result<()> {
    let nodes = [("edge", "edge-1"), ("cloud", "cloud-1")];
    let web = Web::start(cluster, "soon", "10.244.248.1", &nodes).await?;
    web.shift(0).await?;
    let load = web.users.load(RATE, &["/api/v1"]);
    let mut written = Vec::new();
    for _ in 0..SHIFTS {
        sleep(PAUSE).await;
        written.push(Instant::now());
        web.stage.step(50).await?;
        sleep(PAUSE).await;
        web.stage.step(0).await?;
    }
    let sent = load.end().await;
    let mut took = Vec::new();
    for at in written {
        let mut at_edge = sent.iter().filter(|sent| sent.zone == "edge-1");
        let before = at_edge
            .clone()
            .any(|sent| (at - PAUSE / 4..at).contains(&sent.at));
        ensure!(
            !before,
            "the weights before were not in force {PAUSE:?} after they were written"
        );
        let first = at_edge
            .find(|sent| sent.at >= at)
            .context("no request at the edge")?;
        took.push(first.at - at);
    }
    took.sort();
    let of = |share: f64| took.get((share * (SHIFTS - 1) as f64).round() as usize);
    let (Some(p50), Some(p99)) = (of(0.5), of(0.99)) else {
        bail!("nothing measured")
    };
    println!(
        "{} requests; from {SHIFTS} writes to the first request that went by each: p50 {} ms, p99 {} ms",
        sent.len(),
        p50.as_millis(),
        p99.as_millis()
    );
    ensure!(*p99 <= MOST, "{took:?}");
    web.stage.release().await?;
    all_ok(&sent)
}
