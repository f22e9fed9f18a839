//! What breaks in a world, and what does not break with it.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use gma_core::cluster::Phase;
use gma_local::{Client, Part, World};
use gma_tests::local::{
    Users, area_of, ensure_at_edge, gateway, host, instance, processes, runs, split, start, topology, until,
    until_gone,
};

const CELL: &str = env!("CARGO_BIN_EXE_test-cell");
/// From a change's answer to the first request by it, on a busy machine.
const PROPAGATION: Duration = Duration::from_millis(500);
/// Envoy tells its workers of a second change of endpoints within this time of the first only at its end.
const MERGE_WINDOW: Duration = Duration::from_secs(1);

async fn world(folder: &Path) -> World {
    start(topology(folder, CELL, 1, 1), folder).await
}
/// Three failures eject a host: those that it was serving, or one request's attempt and two retries. Until Envoy's main
/// thread has told its workers, further ones may find it. Measured: 3 ms.
const EJECTION: Duration = Duration::from_millis(50);

#[tokio::test]
async fn an_edge_instance_that_is_killed_takes_only_what_it_was_serving() {
    let folder = tempfile::tempdir().unwrap();
    let mut topology = topology(folder.path(), CELL, 1, 1);
    // The endpoint stays listed, so that retries and outlier detection have to do it.
    topology.failure_notice = Duration::from_secs(6);
    let world = start(topology, folder.path()).await;
    let client = world.client();
    let users = Users::at(gateway(&client).await);
    ensure_at_edge(&client, "s0").await;
    client.route(split("s0", 99)).await.unwrap();
    tokio::time::sleep(MERGE_WINDOW + PROPAGATION).await;

    let load = users.load(200, &["/delay/20"]);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let state = client.state().await.unwrap();
    let envoy = state
        .envoys
        .iter()
        .find(|envoy| envoy.node.contains("s0-edge-1"))
        .unwrap()
        .pid
        .unwrap();
    let ordered = Instant::now();
    client.kill(host("s0"), "edge-1".into(), Part::Pod).await.unwrap();
    while runs(envoy) {
        tokio::task::yield_now().await;
    }
    let dead = Instant::now();
    tokio::time::sleep(Duration::from_secs(4)).await;
    let state = client.state().await.unwrap();
    assert!(
        instance(&state, "s0", "edge-1").unwrap().phase == Phase::Ready,
        "not noticed yet"
    );
    until(&client, "failure noticed", |state| {
        instance(state, "s0", "edge-1").is_some_and(|instance| instance.phase == Phase::Failed)
    })
    .await;
    tokio::time::sleep(PROPAGATION).await;
    let sent = load.end().await;

    let under_way = sent
        .iter()
        .filter(|sent| sent.at <= dead && sent.at + sent.took >= ordered)
        .count();
    let (before, after): (Vec<_>, Vec<_>) = sent
        .iter()
        .filter(|sent| !sent.is_ok())
        .partition(|sent| sent.at <= dead);
    println!(
        "{} sent; {under_way} under way at the kill, of which {} failed; {} failed later: {:?}",
        sent.len(),
        before.len(),
        after.len(),
        after.iter().map(|sent| sent.at - dead).collect::<Vec<_>>()
    );
    assert!(before.len() <= under_way);
    let late: Vec<_> = after.iter().filter(|sent| sent.at > dead + EJECTION).collect();
    assert!(late.is_empty(), "{late:?}");
    let later: Vec<_> = sent.iter().filter(|sent| sent.at > dead + PROPAGATION).collect();
    assert!(later.len() > 800);
    for sent in later {
        assert_eq!(area_of(&state, &sent.body).unwrap().as_str(), "cloud");
    }
    world.stop().await;
}

/// All calls of edge-1 to its own instance.
fn failover() -> gma_core::cluster::RoutingPlan {
    split("s0", 100)
}

#[tokio::test]
async fn with_failover_the_edge_serves_all_and_the_cloud_at_once_when_it_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let mut topology = topology(folder.path(), CELL, 1, 1);
    // The endpoint stays listed, so that priorities and outlier detection have to do it.
    topology.failure_notice = Duration::from_secs(6);
    let world = start(topology, folder.path()).await;
    let client = world.client();
    let users = Users::at(gateway(&client).await);
    client.route(split("s0", 0)).await.unwrap();
    ensure_at_edge(&client, "s0").await;
    client.route(failover()).await.unwrap();
    tokio::time::sleep(MERGE_WINDOW + PROPAGATION).await;
    let state = client.state().await.unwrap();
    let sent = users.send_each("/", 1_000).await;
    let at_edge = sent
        .iter()
        .filter(|sent| area_of(&state, &sent.body).is_some_and(|area| area.as_str() == "edge-1"));
    assert_eq!(at_edge.count(), 1_000, "not one in the cloud");

    let load = users.load(200, &["/delay/20"]);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let envoy = state
        .envoys
        .iter()
        .find(|envoy| envoy.node.contains("s0-edge-1"))
        .unwrap()
        .pid
        .unwrap();
    let ordered = Instant::now();
    client.kill(host("s0"), "edge-1".into(), Part::Pod).await.unwrap();
    while runs(envoy) {
        tokio::task::yield_now().await;
    }
    let dead = Instant::now();
    tokio::time::sleep(Duration::from_secs(4)).await;
    let sent = load.end().await;
    let under_way = |sent: &gma_tests::local::Sent| sent.at <= dead && sent.at + sent.took >= ordered;
    let (inside, others): (Vec<_>, Vec<_>) = sent
        .iter()
        .filter(|sent| !sent.is_ok())
        .partition(|sent| under_way(sent));
    println!(
        "{} sent; {} failed that were inside, {} others",
        sent.len(),
        inside.len(),
        others.len()
    );
    let late: Vec<_> = others.iter().filter(|sent| sent.at > dead + EJECTION).collect();
    assert!(late.is_empty(), "{late:?}");
    let later: Vec<_> = sent.iter().filter(|sent| sent.at > dead + PROPAGATION).collect();
    assert!(later.len() > 600);
    for sent in later {
        assert_eq!(area_of(&state, &sent.body).unwrap().as_str(), "cloud");
    }
    world.stop().await;
}

#[tokio::test]
async fn a_route_that_answers_500_takes_no_other_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let world = world(folder.path()).await;
    let client = world.client();
    let users = Users::at(gateway(&client).await);
    ensure_at_edge(&client, "s0").await;
    client.route(split("s0", 99)).await.unwrap();
    tokio::time::sleep(PROPAGATION).await;

    // 60 % of the requests.
    let load = users.load(200, &["/status/500", "/", "/status/500", "/status/500", "/"]);
    tokio::time::sleep(Duration::from_secs(5)).await;
    let sent = load.end().await;
    let (good, bad): (Vec<_>, Vec<_>) = sent.iter().partition(|sent| sent.path == "/");
    assert!(
        good.len() >= 300 && bad.len() >= 500,
        "{} good, {} bad",
        good.len(),
        bad.len()
    );
    let failed: Vec<_> = good.iter().filter(|sent| !sent.is_ok()).collect();
    println!(
        "{} good requests beside {} that get 500: {} failed",
        good.len(),
        bad.len(),
        failed.len()
    );
    assert!(failed.is_empty(), "{failed:?}");
    let not_500 = bad
        .iter()
        .filter(|sent| sent.status.map(|status| status.as_u16()) != Some(500))
        .count();
    assert_eq!(not_500, 0, "the cell's own answer, not Envoy's");
    world.stop().await;
}

#[tokio::test]
async fn a_crash_is_reported_and_mended_by_ensure() {
    let folder = tempfile::tempdir().unwrap();
    let world = world(folder.path()).await;
    let client = world.client();
    ensure_at_edge(&client, "s0").await;
    let state = client.state().await.unwrap();
    let edge_cell = state
        .envoys
        .iter()
        .find(|envoy| envoy.node.contains("s0-edge-1"))
        .unwrap()
        .cell_pid
        .unwrap();
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(edge_cell).unwrap(),
        rustix::process::Signal::ABORT,
    )
    .unwrap();
    let is_failed = |state: &gma_local::State| {
        instance(state, "s0", "edge-1").is_some_and(|instance| instance.phase == Phase::Failed)
    };
    let state = until(&client, "crash reported", is_failed).await;
    let reason = instance(&state, "s0", "edge-1").unwrap().reason.clone().unwrap();
    assert!(
        reason.contains("cell s0") && reason.contains("signal 6"),
        "{reason}"
    );
    assert!(
        !state.envoys.iter().any(|envoy| envoy.node.contains("s0-edge-1")),
        "its Envoy was ended, too"
    );

    ensure_at_edge(&client, "s0").await;
    let state = client.state().await.unwrap();
    let usage = instance(&state, "s0", "edge-1").unwrap();
    assert!(usage.cpu_seconds.is_some() && usage.memory_bytes.unwrap() > 100_000);
    world.stop().await;
}

#[tokio::test]
async fn a_cut_link_stops_the_cloud_and_not_the_edge() {
    let folder = tempfile::tempdir().unwrap();
    let world = world(folder.path()).await;
    let client = world.client();
    let users = Users::at(gateway(&client).await);
    assert!(users.send("/").await.is_ok());
    client.set_cut("edge-1".into(), true).await.unwrap();
    let stalled = {
        let users = users.clone();
        tokio::spawn(async move { users.send("/").await })
    };
    tokio::time::sleep(PROPAGATION).await;
    assert!(!stalled.is_finished(), "passed a cut link");
    ensure_at_edge(&client, "s0").await;
    client.route(split("s0", 99)).await.unwrap();
    tokio::time::sleep(MERGE_WINDOW + PROPAGATION).await;
    assert!(users.send("/").await.is_ok(), "the edge serves on");
    client.set_cut("edge-1".into(), false).await.unwrap();
    assert!(stalled.await.unwrap().is_ok(), "what waited arrives");
    world.stop().await;
}

#[tokio::test]
async fn nothing_runs_after_stop_drop_and_shutdown() {
    for how in ["stop", "drop", "shutdown"] {
        let folder = tempfile::tempdir().unwrap();
        let mut world = world(folder.path()).await;
        let client = world.client();
        let pids = processes(&client.state().await.unwrap());
        assert_eq!(pids.len(), 3, "a gateway, a cell and its Envoy");
        match how {
            "stop" => world.stop().await,
            "drop" => drop(world),
            _ => {
                client.shutdown().await.unwrap();
                world.ended().await;
            }
        }
        until_gone(&pids).await;
    }
}

/// Run in a process of its own by the test below.
#[tokio::test]
#[ignore = "is a part of nothing_runs_after_the_world_is_killed"]
async fn a_world_in_its_own_process() {
    let Some(folder) = std::env::var_os("GMA_TEST_FOLDER") else {
        return;
    };
    let mut world = world(Path::new(&folder)).await;
    world.ended().await;
}

#[tokio::test]
async fn nothing_runs_after_the_world_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let mut process = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_world_in_its_own_process", "--ignored"])
        .env("GMA_TEST_FOLDER", folder.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let client = Client::new(&folder.path().join("world.sock"));
    let start = Instant::now();
    let pids = loop {
        match client.state().await {
            Ok(state) if !state.gateways.is_empty() && processes(&state).len() == 3 => {
                break processes(&state);
            }
            _ => assert!(
                start.elapsed() < Duration::from_secs(60),
                "the world does not start"
            ),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert!(pids.iter().all(|pid| runs(*pid)));
    process.kill().unwrap();
    process.wait().unwrap();
    until_gone(&pids).await;
}

#[tokio::test]
async fn two_worlds_run_side_by_side() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (first, second) = tokio::join!(world(one.path()), world(two.path()));
    let users = Users::at(gateway(&first.client()).await);
    assert!(users.send("/").await.is_ok());
    second.stop().await;
    assert!(users.send("/").await.is_ok());
    first.stop().await;
}

#[tokio::test]
async fn a_cell_that_does_not_start_is_shown_with_its_log() {
    let folder = tempfile::tempdir().unwrap();
    let topology = topology(folder.path(), "/bin/false", 1, 1);
    let error = World::start(topology, Some(folder.path()))
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("cell s0 ended with exit code 1") && error.contains("cell.log"),
        "{error}"
    );
}
