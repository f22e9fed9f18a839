//! Worlds of `gma-local` with a cell that does what the path says, and a load that writes down what became of each
//! request.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "only tests use this: to fail where they stand is what they are for"
)]

mod load;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use gma_core::cluster::{Instance, Phase, RoutingPlan, Weights};
use gma_core::ids::{AreaName, ServiceName};
use gma_local::{Client, State, Topology, World};
use serde_json::json;
use tempfile::TempDir;

pub use load::{Load, Sent, Users};

/// Longest wait for something that a loaded machine does in a second.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A topology with the services `s0 … s{services-1}`, each of which may call all others, one edge, and `cloud_zones` localities in the cloud.
pub fn topology(folder: &Path, cell: &str, services: usize, cloud_zones: usize) -> Topology {
    let names: Vec<String> = (0..services).map(|i| format!("s{i}")).collect();
    let calls = json!({"external_services": [{"services": names}]});
    let model: serde_json::Map<String, serde_json::Value> =
        names.iter().map(|name| (name.clone(), calls.clone())).collect();
    let workmodel = folder.join("given-workmodel.json");
    std::fs::write(&workmodel, serde_json::to_vec(&model).unwrap()).unwrap();
    let zones: Vec<String> = (0..cloud_zones)
        .map(|i| format!("region-cloud/zone-{i}"))
        .collect();
    let text = json!({
        "areas": {
            "cloud": {"localities": zones},
            "edges": [{"name": "edge-1", "localities": ["region-edge/zone-edge"]}],
        },
        "app": {"workmodel": workmodel, "cell": cell},
        // Nobody listens there: the proxies must not need a controller.
        "controller": {"address": "127.0.0.1:9"},
        "envoy": envoy(),
    });
    Topology::parse("test", &text.to_string()).unwrap()
}

/// Envoy's binary.
pub fn envoy() -> PathBuf {
    built("GMA_ENVOY", ".tools/envoy/envoy/_bin/envoy")
}

/// A file that `make` builds or installs: `$variable`, or `default` under the workspace's root.
pub fn built(variable: &str, default: &str) -> PathBuf {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    let path = std::env::var_os(variable).map_or_else(|| root.join(default), PathBuf::from);
    assert!(
        path.is_file(),
        "{} is missing: run `make build`, or set {variable}",
        path.display()
    );
    path
}

/// Host of a service.
pub fn host(service: &str) -> ServiceName {
    ServiceName::new(format!("{service}.shop.svc.cluster.local"))
}

/// Weights of one service for callers at edge-1; callers in the cloud stay there.
pub fn split(service: &str, edge: u32) -> RoutingPlan {
    let weights = |edge: u32| -> Weights {
        [("edge-1", edge), ("cloud", 100 - edge)]
            .into_iter()
            .filter(|(_, weight)| *weight > 0)
            .map(|(area, weight)| (area.into(), weight))
            .collect()
    };
    let rule = [("edge-1".into(), weights(edge)), ("cloud".into(), weights(0))];
    RoutingPlan([(host(service), rule.into())].into())
}

/// Starts a world, and fails with its error as the user sees it.
pub async fn start(topology: Topology, folder: &Path) -> World {
    match World::start(topology, Some(folder)).await {
        Ok(world) => world,
        Err(error) => panic!("{error}"),
    }
}

/// A world of its own folder; see [`topology`].
pub async fn world(cell: &str, services: usize, cloud_zones: usize) -> (World, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let world = start(
        topology(folder.path(), cell, services, cloud_zones),
        folder.path(),
    )
    .await;
    (world, folder)
}

/// Where the users of edge-1 connect.
pub async fn gateway(client: &Client) -> SocketAddr {
    let state = client.state().await.unwrap();
    state
        .gateways
        .values()
        .find_map(|gateway| gateway.address)
        .expect("a gateway that serves")
}

/// Waits until the state is as `probe` wants it; `probe` says what is missing.
pub async fn until(client: &Client, what: &str, probe: impl Fn(&State) -> bool) -> State {
    let start = Instant::now();
    loop {
        let state = client.state().await.unwrap();
        if probe(&state) {
            return state;
        }
        assert!(
            start.elapsed() < PATIENCE,
            "{what}: not within {PATIENCE:?}: {state:#?}"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// An instance, if there is one.
pub fn instance<'a>(state: &'a State, service: &str, area: &str) -> Option<&'a Instance> {
    let (service, area) = (host(service), AreaName::from(area));
    state
        .cluster
        .instances
        .iter()
        .find(|instance| instance.service == service && instance.area == area)
}

/// Starts an instance at edge-1 and waits until it is ready.
pub async fn ensure_at_edge(client: &Client, service: &str) {
    client.ensure(host(service), "edge-1".into(), 1).await.unwrap();
    until(client, "instance at edge-1 ready", |state| {
        instance(state, service, "edge-1").is_some_and(|instance| instance.phase == Phase::Ready)
    })
    .await;
}

/// Area of the pod whose cell answered with its address.
pub fn area_of(state: &State, pod: &str) -> Option<AreaName> {
    let (_, proxy) = state
        .proxies
        .iter()
        .find(|(node, _)| node.split('~').nth(1) == Some(pod))?;
    Some(proxy.area.clone())
}

/// Ids of every process of a world.
pub fn processes(state: &State) -> Vec<i32> {
    state
        .envoys
        .iter()
        .flat_map(|envoy| [envoy.pid, envoy.cell_pid])
        .flatten()
        .collect()
}

/// Whether a process runs; one that ended and was not waited for does not.
pub fn runs(pid: i32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

/// Waits until none of the processes runs.
pub async fn until_gone(pids: &[i32]) {
    let start = Instant::now();
    while let Some(pid) = pids.iter().find(|pid| runs(**pid)) {
        assert!(start.elapsed() < PATIENCE, "process {pid} still runs");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
