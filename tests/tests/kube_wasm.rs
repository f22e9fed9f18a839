//! The manifests of filter and controller on a real istiod: what the WasmPlugin loads measures each request once a hop,
//! and its reports reach the controller through the mesh.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use gma_telemetry::{Directory, Proxy, ProxyRole};
use gma_tests::envoy;
use gma_tests::kube::{base, module, plugin, set, yaml};
use gma_tests::local::Users;
use gma_tests::rig::{Cluster, Reports, Suite, apply_with, manifests};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{ListParams, PatchParams, ValidationDirective};
use serde_json::json;

/// Longest wait for what takes a second on an idle machine.
const SOON: Duration = Duration::from_secs(60);

/// Path of a cell.
const PATH: &str = "/api/v1";

/// Port of a cell's sidecar.
const SIDECAR_PORT: u16 = 8081;

fn main() -> ExitCode {
    Suite::default()
        .test("the_manifests_are_accepted", the_manifests_are_accepted)
        .test(
            "each_request_is_measured_once_a_hop",
            each_request_is_measured_once_a_hop,
        )
        .test(
            "two_plugins_on_a_proxy_count_twice",
            two_plugins_on_a_proxy_count_twice,
        )
        .test(
            "a_missing_module_fails_every_request",
            a_missing_module_fails_every_request,
        )
        .run()
}

// === What they share ===

/// Whoever has it may be reached as the controller's leader; its pod is `deploy/base`'s, but that nothing runs in it.
async fn controller(cluster: &Cluster, address: &str) -> anyhow::Result<Reports> {
    let reports = Reports::listen(SocketAddr::new(address.parse()?, 8080)).await?;
    let mut objects = base(cluster, "pause", address)?;
    for object in &mut objects {
        if object.get("kind") == Some(&json!("Deployment")) {
            set(
                object,
                "/spec/template/metadata/labels/gma.dev~1leader",
                "true".into(),
            )?;
        }
    }
    cluster.apply(&yaml(&objects)).await?;
    cluster
        .until_ready("gma-system", "gma.dev/leader=true", 1)
        .await?;
    Ok(reports)
}

/// The proxies of a namespace, as a controller reads them from the pods.
async fn directory(cluster: &Cluster, namespace: &str) -> anyhow::Result<Directory> {
    let api: Api<Pod> = Api::namespaced(cluster.client.clone(), namespace);
    let mut directory = Directory::default();
    for pod in api.list(&ListParams::default()).await?.items {
        let labels = pod.metadata.labels.unwrap_or_default();
        if !labels.contains_key("sidecar.istio.io/inject") {
            continue;
        }
        let name = pod.metadata.name.context("no name")?;
        let ip = pod
            .status
            .and_then(|status| status.pod_ip)
            .context("no address")?;
        let (kind, role) = match labels.get("app") {
            Some(service) => {
                let service = format!("{service}.{namespace}.svc.cluster.local");
                let ports = BTreeMap::from([(SIDECAR_PORT, service.as_str().into())]);
                ("sidecar", ProxyRole::Sidecar { ports })
            }
            None => ("router", ProxyRole::Gateway),
        };
        let node = format!("{kind}~{ip}~{name}.{namespace}~{namespace}.svc.cluster.local");
        let proxy = Proxy {
            area: "edge-1".into(),
            role,
            ready: true,
        };
        directory.proxies.insert(node, proxy);
    }
    Ok(directory)
}

/// Requests that were answered ok, by the proxy's workload, the direction and the service or port.
type Counts = BTreeMap<(String, &'static str, String), u64>;

fn counts(reports: &Reports, namespace: &str) -> Counts {
    let mut counts = Counts::new();
    for key in reports.accounting().keys {
        let pod = key.node.split('~').nth(2).unwrap_or_default();
        let Some(pod) = pod.strip_suffix(&format!(".{namespace}")) else {
            continue;
        };
        // A Deployment's pod: its name, a hash, five characters.
        let workload = pod.rsplitn(3, '-').nth(2).unwrap_or(pod).to_owned();
        let to = if key.direction == "inbound" {
            key.port.to_string()
        } else {
            key.service.split('.').next().unwrap_or_default().to_owned()
        };
        if key.outcome == "ok" {
            *counts.entry((workload, key.direction, to)).or_default() += key.count;
        }
    }
    counts
}

async fn until_counted(reports: &Reports, namespace: &str, expected: &Counts) -> anyhow::Result<()> {
    let end = Instant::now() + SOON;
    loop {
        let found = counts(reports, namespace);
        if found == *expected {
            return Ok(());
        }
        ensure!(
            Instant::now() < end,
            "{found:?} after {SOON:?}, not {expected:?}; heard: {:?}",
            reports.accounting().nodes
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Waits until every proxy of a namespace has reported and no listener is about to be replaced. What was connected before
/// stays without the filter until it is drained.
async fn until_loaded(cluster: &Cluster, reports: &Reports, namespace: &str) -> anyhow::Result<()> {
    let directory = directory(cluster, namespace).await?;
    reports.know(&directory);
    let end = Instant::now() + SOON;
    for node in directory.proxies.keys() {
        let ip = node.split('~').nth(1).context("no address")?;
        while !reports.accounting().nodes.iter().any(|one| one.node == *node) || is_warming(ip).await? {
            ensure!(Instant::now() < end, "{node} is not heard within {SOON:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    Ok(())
}

async fn is_warming(address: &str) -> anyhow::Result<bool> {
    let admin = SocketAddr::new(address.parse()?, 15000);
    let stats = envoy::get(admin, "/stats?filter=total_listeners_warming").await;
    let stats = stats.map_err(anyhow::Error::msg)?.text();
    Ok(!stats.contains("total_listeners_warming: 0"))
}

/// Sends until the first is answered.
async fn until_served(users: &Users) -> anyhow::Result<()> {
    let end = Instant::now() + SOON;
    loop {
        let sent = users.send(PATH).await;
        if sent.is_ok() {
            return Ok(());
        }
        ensure!(Instant::now() < end, "not served within {SOON:?}: {sent:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// New connections each time, until all of them are answered with this.
async fn until_answered(gateway: SocketAddr, status: u16) -> anyhow::Result<()> {
    let end = Instant::now() + SOON;
    loop {
        let sent = Users::at(gateway).send_each(PATH, 10).await;
        if sent
            .iter()
            .all(|one| one.status.is_some_and(|found| found.as_u16() == status))
        {
            return Ok(());
        }
        ensure!(Instant::now() < end, "not {status} within {SOON:?}: {sent:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// What Envoy itself says of a cluster.
async fn completed(address: &str, cluster: &str) -> anyhow::Result<u64> {
    let admin = SocketAddr::new(address.parse()?, 15000);
    let stats = envoy::get(admin, "/stats?filter=upstream_rq_completed").await;
    let stats = stats.map_err(anyhow::Error::msg)?.text();
    let begin = format!("cluster.{cluster}");
    let found = stats.lines().find_map(|line| {
        let rest = line.strip_prefix(&begin)?;
        rest.strip_prefix([';', '.'])?.rsplit(' ').next()?.parse().ok()
    });
    found.with_context(|| format!("{address} has no {cluster}: {stats}"))
}

// === Tests ===

/// As they are, unknown fields refused; by istiod's webhook too.
async fn the_manifests_are_accepted(cluster: &Cluster) -> anyhow::Result<()> {
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "gma-system"}});
    cluster.apply(&namespace.to_string()).await?;
    let mut strict = PatchParams::apply("test").dry_run();
    strict.field_validation = Some(ValidationDirective::Strict);
    for folder in ["deploy/base", "istio-manifests/overlays/mesh"] {
        let objects = cluster.render(folder)?;
        ensure!(!objects.is_empty(), "{folder} is empty");
        apply_with(&cluster.client, &yaml(&objects), &strict)
            .await
            .with_context(|| folder.to_owned())?;
    }
    Ok(())
}

async fn each_request_is_measured_once_a_hop(cluster: &Cluster) -> anyhow::Result<()> {
    let (folder, namespace) = (cluster.folder(), "wasm");
    cluster.add_node("edge-1", "edge/edge-1").await?;
    cluster.add_node("cloud-1", "cloud/cloud-1").await?;
    let reports = controller(cluster, "10.244.253.9").await?;
    let services: [(&str, &[&str]); 2] = [("web", &["db"]), ("db", &[])];
    cluster
        .apply(&manifests::namespace(folder, namespace, &services)?)
        .await?;
    cluster
        .apply(&plugin(cluster, namespace, &module()?)?.to_string())
        .await?;
    let [gateway, web, db] = ["10.244.253.10", "10.244.253.11", "10.244.253.12"];
    let pods = [
        manifests::cell_with_sidecar(folder, namespace, "web", "edge-1", web),
        manifests::cell_with_sidecar(folder, namespace, "db", "cloud-1", db),
        manifests::gateway(namespace, "edge-1", gateway, "web"),
    ];
    cluster.apply(&pods.concat()).await?;
    for labels in ["app=web", "app=db", "istio=gateway-edge-1"] {
        cluster.until_ready(namespace, labels, 1).await?;
    }
    until_loaded(cluster, &reports, namespace).await?;
    let users = Users::at(SocketAddr::new(gateway.parse()?, manifests::PORT));
    until_served(&users).await?;
    let sent = users.send_each(PATH, 300).await;
    ensure!(sent.iter().all(gma_tests::local::Sent::is_ok), "{sent:?}");

    // Those that were answered ok while its callee was not there yet have not reached db: Envoy says how many did.
    let to_db = completed(web, "outbound|80||db.wasm.svc.cluster.local").await?;
    ensure!(to_db >= 301, "{to_db}");
    let key = |workload: &str, direction, to: &str| (workload.to_owned(), direction, to.to_owned());
    let expected = Counts::from([
        (key("gateway-edge-1", "outbound", "web"), 301),
        (key("web-edge-1", "inbound", "8081"), 301),
        (key("web-edge-1", "outbound", "db"), to_db),
        (key("db-cloud-1", "inbound", "8081"), to_db),
    ]);
    until_counted(&reports, namespace, &expected).await?;
    // Nothing is counted late, and nothing again.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let found = counts(&reports, namespace);
    ensure!(found == expected, "{found:?}");
    println!("{found:?}");
    Ok(())
}

/// Why there is one WasmPlugin for a proxy.
async fn two_plugins_on_a_proxy_count_twice(cluster: &Cluster) -> anyhow::Result<()> {
    let (folder, namespace, gateway) = (cluster.folder(), "wasm-twice", "10.244.253.20");
    cluster.add_node("edge-1", "edge/edge-1").await?;
    let reports = controller(cluster, "10.244.253.9").await?;
    cluster
        .apply(&manifests::namespace(folder, namespace, &[("web", &[])])?)
        .await?;
    let first = plugin(cluster, namespace, &module()?)?;
    let mut second = first.clone();
    set(&mut second, "/metadata/name", "second".into())?;
    cluster.apply(&yaml(&[first, second])).await?;
    let pods = [
        manifests::cells(folder, namespace, "web", "edge-1", 1),
        manifests::gateway(namespace, "edge-1", gateway, "web"),
    ];
    cluster.apply(&pods.concat()).await?;
    cluster.until_ready(namespace, "app=web", 1).await?;
    cluster.until_ready(namespace, "istio=gateway-edge-1", 1).await?;
    until_loaded(cluster, &reports, namespace).await?;
    let users = Users::at(SocketAddr::new(gateway.parse()?, manifests::PORT));
    until_served(&users).await?;
    users.send_each(PATH, 99).await;
    let key = ("gateway-edge-1".to_owned(), "outbound", "web".to_owned());
    until_counted(&reports, namespace, &Counts::from([(key, 200)])).await
}

/// FAIL_OPEN does not help a proxy that has no such file: Envoy refuses the filter's configuration, and answers 500.
async fn a_missing_module_fails_every_request(cluster: &Cluster) -> anyhow::Result<()> {
    let (folder, namespace, gateway) = (cluster.folder(), "wasm-missing", "10.244.253.30");
    cluster.add_node("edge-1", "edge/edge-1").await?;
    let documents = [
        manifests::namespace(folder, namespace, &[("web", &[])])?,
        manifests::cells(folder, namespace, "web", "edge-1", 1),
        manifests::gateway(namespace, "edge-1", gateway, "web"),
    ];
    cluster.apply(&documents.concat()).await?;
    cluster.until_ready(namespace, "istio=gateway-edge-1", 1).await?;
    let gateway = SocketAddr::new(gateway.parse()?, manifests::PORT);
    until_answered(gateway, 200).await?;
    cluster
        .apply(&plugin(cluster, namespace, "/nowhere/gma-filter.wasm")?.to_string())
        .await?;
    until_answered(gateway, 500).await?;
    // The right file heals it.
    cluster
        .apply(&plugin(cluster, namespace, &module()?)?.to_string())
        .await?;
    until_answered(gateway, 200).await
}
