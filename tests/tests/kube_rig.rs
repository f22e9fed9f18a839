//! The rig itself: a control plane that judges and acts, pods that serve, traffic that follows a rule.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use gma_tests::envoy;
use gma_tests::local::{Sent, Users, runs, until_gone};
use gma_tests::rig::{Cluster, Component, Requirements, Rig, Suite, manifests};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Namespace, Node, Pod};
use kube::Api;
use kube::api::{DeleteParams, ListParams};

/// Locality of the node `edge-1`, and of `cloud-1`.
const EDGE: &str = "edge/edge-1";
const CLOUD: &str = "cloud/cloud-1";

/// Path of a cell.
const PATH: &str = "/api/v1";

/// Requests a second while something changes.
const RATE: u32 = 200;

/// Longest wait for something that takes a second on an idle machine.
const SOON: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    Suite::default()
        .test("control_plane_comes_up", control_plane_comes_up)
        .test("webhook_refuses_wrong_weights", webhook_refuses_wrong_weights)
        .test(
            "a_service_account_has_its_rights_only",
            a_service_account_has_its_rights_only,
        )
        .test("pods_serve_through_a_gateway", pods_serve_through_a_gateway)
        .test("weights_split_and_move_traffic", weights_split_and_move_traffic)
        .test("sidecars_carry_calls", sidecars_carry_calls)
        .test("a_deleted_pod_loses_no_request", a_deleted_pod_loses_no_request)
        .test("a_killed_container_starts_again", a_killed_container_starts_again)
        .test("istiod_comes_back", istiod_comes_back)
        .test("api_server_comes_back", api_server_comes_back)
        .test("two_rigs_side_by_side", two_rigs_side_by_side)
        .test("a_killed_rig_leaves_no_process", a_killed_rig_leaves_no_process)
        .run()
}

// === What they share ===

async fn nodes(cluster: &Cluster) -> anyhow::Result<()> {
    cluster.add_node("edge-1", EDGE).await?;
    cluster.add_node("cloud-1", CLOUD).await
}

/// The service `web` with so many cells at the edge and in the cloud, and a gateway at the edge.
async fn web(cluster: &Cluster, namespace: &str, address: &str, cells: [u32; 2]) -> anyhow::Result<Users> {
    let folder = cluster.folder();
    let [edge, cloud] = cells;
    nodes(cluster).await?;
    cluster
        .apply(&manifests::namespace(folder, namespace, &[("web", &[])])?)
        .await?;
    let documents = [
        manifests::cells(folder, namespace, "web", "edge-1", edge),
        manifests::cells(folder, namespace, "web", "cloud-1", cloud),
        manifests::gateway(namespace, "edge-1", address, "web"),
    ];
    let start = Instant::now();
    cluster.apply(&documents.concat()).await?;
    let count = usize::try_from(edge + cloud)?;
    cluster.until_ready(namespace, "app=web", count).await?;
    cluster.until_ready(namespace, "istio=gateway-edge-1", 1).await?;
    println!(
        "{} pods ready after {:.1} s",
        count + 1,
        start.elapsed().as_secs_f64()
    );
    let users = Users::at(SocketAddr::new(address.parse()?, manifests::PORT));
    until_served(&users).await?;
    Ok(users)
}

/// A gateway is ready when it has what istiod knew then; its listener may come a moment later.
async fn until_served(users: &Users) -> anyhow::Result<()> {
    let end = Instant::now() + SOON;
    loop {
        let sent = users.send(PATH).await;
        if sent.is_ok() {
            return Ok(());
        }
        ensure!(
            Instant::now() < end,
            "the gateway does not serve within {SOON:?}: {sent:?}"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Waits until both nodes' cells answer, as the endpoints of both are known.
async fn until_both_answer(users: &Users) -> anyhow::Result<()> {
    let end = Instant::now() + SOON;
    loop {
        let sent = users.send_each(PATH, 20).await;
        let zones = zones(&sent);
        if zones.len() == 2 {
            return Ok(());
        }
        ensure!(Instant::now() < end, "only {zones:?} answer within {SOON:?}");
    }
}

fn zones(sent: &[Sent]) -> BTreeMap<&str, usize> {
    let mut zones = BTreeMap::new();
    for sent in sent {
        *zones.entry(sent.zone.as_str()).or_default() += 1;
    }
    zones
}

fn all_ok(sent: &[Sent]) -> anyhow::Result<()> {
    let failed: Vec<_> = sent.iter().filter(|sent| !sent.is_ok()).collect();
    ensure!(
        failed.is_empty(),
        "{} of {} failed: {failed:#?}",
        failed.len(),
        sent.len()
    );
    Ok(())
}

// === Tests ===

async fn control_plane_comes_up(cluster: &Cluster) -> anyhow::Result<()> {
    let version = cluster.client.apiserver_version().await?;
    ensure!(version.git_version.starts_with("v1."), "{version:?}");
    nodes(cluster).await?;
    let labels = Api::<Node>::all(cluster.client.clone())
        .get("edge-1")
        .await?
        .metadata
        .labels;
    let region = labels
        .unwrap_or_default()
        .get("topology.kubernetes.io/region")
        .cloned();
    ensure!(region.as_deref() == Some("edge"), "{region:?}");
    Ok(())
}

async fn webhook_refuses_wrong_weights(cluster: &Cluster) -> anyhow::Result<()> {
    let folder = cluster.folder();
    cluster
        .apply(&manifests::namespace(folder, "refused", &[("web", &[])])?)
        .await?;
    let rule = |weights: &[(&str, u32)]| manifests::rule("refused", "web", EDGE, weights);
    for (weights, said) in [
        ([(EDGE, 98), (CLOUD, 1)], "total locality weight 99 != 100"),
        (
            [(EDGE, 100), (CLOUD, 0)],
            "locality weight must be in range [1, 100]",
        ),
    ] {
        let error = match cluster.apply(&rule(&weights)).await {
            Ok(accepted) => anyhow::bail!("{weights:?} was accepted: {accepted:?}"),
            Err(error) => format!("{error:#}"),
        };
        ensure!(
            error.contains("rev.validation.istio.io") && error.contains(said),
            "{weights:?}: {error}"
        );
    }
    cluster.apply(&rule(&[(EDGE, 99), (CLOUD, 1)])).await?;
    Ok(())
}

async fn a_service_account_has_its_rights_only(cluster: &Cluster) -> anyhow::Result<()> {
    let objects = r#"
apiVersion: v1
kind: Namespace
metadata: {name: rights}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: reader, namespace: rights}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: reader, namespace: rights}
rules: [{apiGroups: [""], resources: [pods], verbs: [list]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: reader, namespace: rights}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: reader}
subjects: [{kind: ServiceAccount, name: reader, namespace: rights}]
"#;
    cluster.apply(objects).await?;
    let reader = cluster.client_of("rights", "reader").await?;
    let all = ListParams::default();
    let pods: Api<Pod> = Api::namespaced(reader.clone(), "rights");
    let end = Instant::now() + SOON;
    // The authorizer learns of a new role from a watch of its own.
    while let Err(error) = pods.list(&all).await {
        ensure!(
            Instant::now() < end,
            "the role is not in force within {SOON:?}: {error}"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let deployments: Api<Deployment> = Api::namespaced(reader, "rights");
    let error = deployments
        .list(&all)
        .await
        .err()
        .context("it may list Deployments")?;
    let text = error.to_string();
    ensure!(
        text.contains("system:serviceaccount:rights:reader") && text.contains("forbidden"),
        "{text}"
    );
    Ok(())
}

async fn pods_serve_through_a_gateway(cluster: &Cluster) -> anyhow::Result<()> {
    let users = web(cluster, "serve", "10.244.254.1", [2, 2]).await?;
    until_both_answer(&users).await?;
    let sent = users.send_each(PATH, 400).await;
    all_ok(&sent)?;
    let zones = zones(&sent);
    println!("without a rule: {zones:?}");
    ensure!(zones.len() == 2, "{zones:?}");
    Ok(())
}

async fn weights_split_and_move_traffic(cluster: &Cluster) -> anyhow::Result<()> {
    let users = web(cluster, "weights", "10.244.254.2", [1, 1]).await?;
    until_both_answer(&users).await?;
    let rule = |edge: u32| manifests::rule("weights", "web", EDGE, &[(EDGE, edge), (CLOUD, 100 - edge)]);
    cluster.apply(&rule(90)).await?;
    let end = Instant::now() + SOON;
    while zones(&users.send_each(PATH, 20).await) != BTreeMap::from([("cloud-1", 2), ("edge-1", 18)]) {
        ensure!(Instant::now() < end, "the rule is not in force within {SOON:?}");
    }
    let sent = users.send_each(PATH, 400).await;
    all_ok(&sent)?;
    let split = zones(&sent);
    println!("90/10: {split:?}");
    ensure!(
        split == BTreeMap::from([("cloud-1", 40), ("edge-1", 360)]),
        "{split:?}"
    );

    let load = users.load(RATE, &[PATH]);
    let mut writes = Vec::new();
    for edge in [1, 99, 1, 99, 1] {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let begin = Instant::now();
        cluster.apply(&rule(edge)).await?;
        writes.push((
            begin,
            Instant::now(),
            if edge == 1 { "cloud-1" } else { "edge-1" },
        ));
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let sent = load.end().await;
    all_ok(&sent)?;
    for (begin, written, zone) in writes {
        // Under the weights before, the other area answers 1 in 100: two in a row are the new ones.
        let later: Vec<_> = sent.iter().filter(|sent| sent.at >= begin).collect();
        let moved = later
            .windows(2)
            .find(|pair| pair.iter().all(|sent| sent.zone == zone))
            .and_then(|pair| pair.first().copied())
            .with_context(|| format!("{zone} did not get the traffic"))?;
        println!(
            "99 to {zone}: the write took {:.0} ms, the first request by it was sent {:.0} ms after it began",
            (written - begin).as_secs_f64() * 1e3,
            (moved.at - begin).as_secs_f64() * 1e3,
        );
    }
    println!("{} requests, none failed", sent.len());
    Ok(())
}

/// The gateway calls web's sidecar, web calls db through it, and db's sidecar takes the call.
async fn sidecars_carry_calls(cluster: &Cluster) -> anyhow::Result<()> {
    let (folder, namespace) = (cluster.folder(), "sidecars");
    nodes(cluster).await?;
    let services: [(&str, &[&str]); 2] = [("web", &["db"]), ("db", &[])];
    cluster
        .apply(&manifests::namespace(folder, namespace, &services)?)
        .await?;
    let documents = [
        manifests::cell_with_sidecar(folder, namespace, "web", "edge-1", "10.244.254.11"),
        manifests::cell_with_sidecar(folder, namespace, "db", "cloud-1", "10.244.254.12"),
        manifests::gateway(namespace, "edge-1", "10.244.254.10", "web"),
    ];
    cluster.apply(&documents.concat()).await?;
    for labels in ["app=web", "app=db", "istio=gateway-edge-1"] {
        cluster.until_ready(namespace, labels, 1).await?;
    }
    let users = Users::at(SocketAddr::new("10.244.254.10".parse()?, manifests::PORT));
    until_served(&users).await?;
    all_ok(&users.send_each(PATH, 100).await)?;
    for (address, listener) in [
        ("10.244.254.11", "http.inbound_10.244.254.11_8081"),
        ("10.244.254.11", "http.outbound_10.244.254.11_80"),
        ("10.244.254.12", "http.inbound_10.244.254.12_8081"),
    ] {
        let admin = SocketAddr::new(address.parse()?, 15000);
        let stats = envoy::get(admin, "/stats?filter=downstream_rq_2xx").await;
        let stats = stats.map_err(anyhow::Error::msg)?.text();
        let seen = stats
            .lines()
            .find_map(|line| line.strip_prefix(listener)?.strip_prefix(";.downstream_rq_2xx: "))
            .with_context(|| format!("{address} has no {listener}: {stats}"))?
            .parse::<u64>()?;
        ensure!(seen >= 100, "{listener} saw {seen}");
    }
    Ok(())
}

async fn a_deleted_pod_loses_no_request(cluster: &Cluster) -> anyhow::Result<()> {
    let users = web(cluster, "deleted", "10.244.254.3", [2, 0]).await?;
    let load = users.load(RATE, &[PATH]);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let api: Api<Pod> = Api::namespaced(cluster.client.clone(), "deleted");
    let pods = cluster.until_ready("deleted", "app=web", 2).await?;
    let name = pods
        .first()
        .and_then(|pod| pod.metadata.name.clone())
        .context("no pod")?;
    let start = Instant::now();
    api.delete(&name, &DeleteParams::default()).await?;
    while api.get_opt(&name).await?.is_some() {
        ensure!(start.elapsed() < SOON, "{name} is still there after {SOON:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    println!("the pod was gone after {:.1} s", start.elapsed().as_secs_f64());
    cluster.until_ready("deleted", "app=web", 2).await?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let sent = load.end().await;
    println!("{} requests", sent.len());
    all_ok(&sent)
}

async fn a_killed_container_starts_again(cluster: &Cluster) -> anyhow::Result<()> {
    let users = web(cluster, "killed", "10.244.254.4", [1, 0]).await?;
    let pods = cluster.until_ready("killed", "app=web", 1).await?;
    let name = pods
        .first()
        .and_then(|pod| pod.metadata.name.clone())
        .context("no pod")?;
    cluster.kill_container("killed", &name, "cell")?;
    let api: Api<Pod> = Api::namespaced(cluster.client.clone(), "killed");
    let end = Instant::now() + SOON;
    loop {
        let status = api.get(&name).await?.status.unwrap_or_default();
        let restarts = status.container_statuses.unwrap_or_default();
        if restarts
            .iter()
            .any(|container| container.restart_count == 1 && container.ready)
        {
            break;
        }
        ensure!(
            Instant::now() < end,
            "not started again within {SOON:?}: {restarts:?}"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    until_served(&users).await
}

async fn istiod_comes_back(cluster: &Cluster) -> anyhow::Result<()> {
    let users = web(cluster, "istiod", "10.244.254.5", [1, 1]).await?;
    until_both_answer(&users).await?;
    let load = users.load(50, &[PATH]);
    cluster.kill(Component::Istiod).await?;
    let rule = manifests::rule("istiod", "web", EDGE, &[(EDGE, 99), (CLOUD, 1)]);
    let refused = cluster
        .apply(&rule)
        .await
        .err()
        .context("a write without its judge was accepted")?;
    ensure!(
        format!("{refused:#}").contains("failed calling webhook"),
        "{refused:#}"
    );
    let start = Instant::now();
    cluster.start(Component::Istiod).await?;
    cluster.apply(&rule).await?;
    let end = Instant::now() + SOON;
    while zones(&users.send_each(PATH, 10).await).len() > 1 {
        ensure!(Instant::now() < end, "the rule is not in force within {SOON:?}");
    }
    println!(
        "in force {:.1} s after istiod was started again",
        start.elapsed().as_secs_f64()
    );
    let sent = load.end().await;
    all_ok(&sent)
}

async fn api_server_comes_back(cluster: &Cluster) -> anyhow::Result<()> {
    let users = web(cluster, "restarted", "10.244.254.6", [1, 0]).await?;
    let load = users.load(50, &[PATH]);
    cluster.stop(Component::ApiServer).await?;
    let start = Instant::now();
    cluster.start(Component::ApiServer).await?;
    println!(
        "the API server was back after {:.1} s",
        start.elapsed().as_secs_f64()
    );
    let more = manifests::cells(cluster.folder(), "restarted", "web", "edge-1", 2);
    cluster.apply(&more).await?;
    cluster.until_ready("restarted", "app=web", 2).await?;
    println!("a new pod was ready after {:.1} s", start.elapsed().as_secs_f64());
    all_ok(&load.end().await)
}

async fn two_rigs_side_by_side(cluster: &Cluster) -> anyhow::Result<()> {
    let requirements = Requirements::find(&[]).map_err(anyhow::Error::msg)?;
    let second = tokio::task::spawn_blocking(move || Rig::start(&requirements)).await??;
    let name = "second-only";
    let object = format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}}}");
    let (second, applied) = tokio::task::spawn_blocking(move || {
        let applied = second.run(async |cluster| cluster.apply(&object).await.map(drop));
        (second, applied)
    })
    .await?;
    applied??;
    let here = Api::<Namespace>::all(cluster.client.clone())
        .get_opt(name)
        .await?;
    ensure!(here.is_none(), "both rigs have the namespace");
    let ids: Vec<i32> = second.processes().iter().map(|(_, id)| *id).collect();
    let folder = second.folder().to_owned();
    ensure!(ids.len() == 5 && ids.iter().all(|id| runs(*id)), "{ids:?}");
    tokio::task::spawn_blocking(move || drop(second)).await?;
    ensure!(
        !ids.iter().any(|id| runs(*id)),
        "processes outlive their rig: {ids:?}"
    );
    ensure!(!folder.exists(), "{} is still there", folder.display());
    Ok(())
}

async fn a_killed_rig_leaves_no_process(_cluster: &Cluster) -> anyhow::Result<()> {
    let mut rig = Command::new(env!("CARGO_BIN_EXE_rig"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let output = rig.stdout.take().context("no output")?;
    let (ids, folder) = tokio::task::spawn_blocking(move || read_rig(BufReader::new(output))).await??;
    let ran = ids.iter().all(|id| runs(*id));
    rig.kill()?;
    rig.wait()?;
    until_gone(&ids).await;
    std::fs::remove_dir_all(&folder)?;
    ensure!(ran && ids.len() == 5, "{ids:?}");
    Ok(())
}

/// Ids of the processes and the folder of a rig that another process has.
fn read_rig(output: impl BufRead) -> anyhow::Result<(Vec<i32>, PathBuf)> {
    let mut ids = Vec::new();
    let mut folder = None;
    for line in output.lines() {
        let line = line?;
        let words: Vec<&str> = line.split(' ').collect();
        match words.as_slice() {
            ["process", _, id] => ids.push(id.parse()?),
            ["folder", path] => folder = Some(Path::new(path).to_owned()),
            ["kubeconfig", _] => break,
            _ => {}
        }
    }
    Ok((ids, folder.context("the rig did not start")?))
}
