//! The controller ends while it acts, on real Envoys under load; the next one goes on.
//!
//! First in this process, with a platform that lets it end at chosen saves and effects of an offload; then as the
//! `gma` command, by SIGKILL while an unoffload's weights move. That every point of both sequences ends well is shown
//! against a mesh in memory (the controller's own tests); here, that the mesh serves meanwhile.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails where it stands"
)]

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use gma::control::ControlLoop;
use gma::memory::wall_unix_ms;
use gma::platform::file::StateFile;
use gma::platform::local::LocalPlatform;
use gma::platform::{EffectError, Loaded, Observation, Platform};
use gma::shared::Shared;
use gma_core::decide::{Band, Config, Effect, Mode};
use gma_local::{App, Client, State, Topology};
use gma_telemetry::Telemetry;
use gma_tests::local::{Users, built, gateway, host, instance, start};
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

const EDGE: &str = "edge-1";
const SERVICES: [&str; 2] = ["s0", "s1"];
const RATE: u32 = 60;
/// Added between edge and cloud; without it a request takes some 15 ms.
const RTT: Duration = Duration::from_millis(60);
/// Longest wait for a move on a slow machine.
const PATIENCE: Duration = Duration::from_secs(150);
const POLL: Duration = Duration::from_millis(50);
/// Without a controller.
const AWAY: Duration = Duration::from_secs(1);

/// Saves and effects of all controllers so far, and those at which one ends.
#[derive(Debug)]
struct Steps {
    done: AtomicUsize,
    /// Before the step is done, or after it.
    ends: Vec<(usize, bool)>,
    /// The present controller has come to one.
    ended: AtomicBool,
}

/// The world, through a controller that ends.
#[derive(Debug)]
struct Mortal {
    inner: LocalPlatform,
    steps: Arc<Steps>,
}

/// A controller in this process. Its runtime ends as a process does: nothing of it goes on.
struct Controller {
    runtime: Runtime,
    shared: Arc<Shared>,
}

// === impl Steps ===

impl Steps {
    async fn end_at(&self, number: usize, is_after: bool) {
        if self.ends.contains(&(number, is_after)) {
            self.ended.store(true, Ordering::SeqCst);
            std::future::pending::<()>().await;
        }
    }
}

// === impl Mortal ===

impl Platform for Mortal {
    async fn observe(&mut self) -> anyhow::Result<Observation> {
        self.inner.observe().await
    }

    async fn perform(&mut self, effect: &Effect) -> Result<(), EffectError> {
        let number = self.steps.done.fetch_add(1, Ordering::SeqCst);
        self.steps.end_at(number, false).await;
        let done = self.inner.perform(effect).await;
        self.steps.end_at(number, true).await;
        done
    }

    async fn load(&mut self) -> anyhow::Result<Loaded> {
        self.inner.load().await
    }

    async fn save(&mut self, memory: Vec<u8>) -> anyhow::Result<()> {
        let number = self.steps.done.fetch_add(1, Ordering::SeqCst);
        self.steps.end_at(number, false).await;
        let saved = self.inner.save(memory).await;
        self.steps.end_at(number, true).await;
        saved
    }
}

// === impl Controller ===

impl Controller {
    fn start(address: SocketAddr, socket: &Path, config: Config, steps: &Arc<Steps>) -> Self {
        steps.ended.store(false, Ordering::SeqCst);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let file = StateFile::open(&socket.with_file_name("controller.json")).unwrap();
        let mut platform = Mortal {
            inner: LocalPlatform::new(Client::new(socket), file),
            steps: Arc::clone(steps),
        };
        let (sender, receiver) = std::sync::mpsc::channel();
        runtime.spawn(async move {
            let memory = match platform.load().await.unwrap() {
                Loaded::Memory(memory) => memory.resume(wall_unix_ms()),
                Loaded::Nothing => Default::default(),
                Loaded::SetAside { why, .. } => panic!("{why}"),
            };
            let telemetry = Telemetry::new(gma_telemetry::Config::default());
            let shared = Arc::new(Shared::new(telemetry, memory.0.at));
            sender.send(Arc::clone(&shared)).unwrap();
            let listener = tokio::net::TcpListener::bind(address).await.unwrap();
            let shutdown = CancellationToken::new();
            let server = gma::http::serve(listener, Arc::clone(&shared), shutdown.clone());
            let control = ControlLoop::new(shared, platform, config, memory);
            let (_, ended) = tokio::join!(server, control.run(shutdown));
            ended.unwrap();
        });
        let shared = receiver.recv_timeout(PATIENCE).unwrap();
        Self { runtime, shared }
    }

    fn phase(&self) -> Option<String> {
        let view: Value = serde_json::from_str(self.shared.round()?.view.get()).unwrap();
        Some(view["edges"][EDGE]["phase"].as_str()?.to_owned())
    }

    fn end(self) {
        self.runtime.shutdown_timeout(Duration::from_secs(5));
    }
}

fn topology(folder: &Path, controller: SocketAddr) -> Topology {
    let service = |name: &str, calls: Value| {
        json!({
            "url": host(name).as_str(), "path": "/api/v1", "request_method": "rest", "external_services": calls,
            "internal_service": {"loader": {
                "sleep_stress": {"run": true, "sleep_time": 0.004},
                "mean_response_size": 1.0, "mean_bandwidth": 1.0,
            }},
        })
    };
    let model = json!({
        "s0": service("s0", json!([{"seq_len": 1, "services": ["s1"]}])),
        "s1": service("s1", json!([])),
    });
    let workmodel = folder.join("given-workmodel.json");
    std::fs::write(&workmodel, model.to_string()).unwrap();
    let mut topology = Topology::embedded(controller).unwrap();
    topology.app = Some(App {
        workmodel: Some(workmodel),
        ingress: SERVICES[0].to_owned(),
        cell: Some(binary("gma-cell")),
    });
    topology.envoy = Some(gma_tests::local::envoy());
    topology.filter = Some(built("GMA_FILTER", "target/gma-filter.wasm"));
    for link in &mut topology.links {
        link.rtt = RTT;
        link.bandwidth = None;
    }
    topology
}

/// What `make build` built.
fn binary(name: &str) -> PathBuf {
    let folder = std::env::var_os("GMA_BIN").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/release"),
        PathBuf::from,
    );
    let path = folder.join(name);
    assert!(path.exists(), "{} is missing: run `make build`", path.display());
    path
}

fn share(state: &State, service: &str) -> u32 {
    let rule = state.cluster.routing.0.get(&host(service));
    let row = rule.and_then(|callers| callers.get(&EDGE.into()));
    row.and_then(|weights| weights.get(&EDGE.into()))
        .copied()
        .unwrap_or(0)
}

/// Services at the edge, each with the weight of a finished move and the others with none; else `None`.
fn placed(state: &State) -> Option<usize> {
    let mut count = 0;
    for service in SERVICES {
        match (instance(state, service, EDGE).is_some(), share(state, service)) {
            (true, 99) => count += 1,
            (false, 0) => {}
            _ => return None,
        }
    }
    Some(count)
}

/// As fast as the world allows; the shipped times would make a test of minutes.
fn config() -> Config {
    let mut config = Config::new("cloud".into(), [EDGE.into()]);
    config.mode = Mode::Enforce;
    config.verify_least = Duration::from_secs(5);
    config.cool_down = Duration::from_secs(2);
    config.back_off_first = Duration::from_secs(1);
    for objective in config.edges.values_mut() {
        objective.band = Band::try_new(Duration::from_millis(5), Duration::from_millis(45)).unwrap();
    }
    config
}

/// The `gma` command with a band that the edge's delay lies below.
fn command(address: SocketAddr, topology: &Path, socket: &Path, log: &Path) -> Child {
    let log = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(log)
        .unwrap();
    Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "--"])
        .arg(binary("gma"))
        .args(["run", "--listen", &address.to_string()])
        .args(["--unoffload-below", "50ms", "--offload-above", "400ms", "--local"])
        .arg(topology)
        .arg("--world")
        .arg(socket)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn envoy_a_controller_that_is_killed_while_it_acts_loses_no_request() {
    let folder = tempfile::tempdir().unwrap();
    let address = gma_local::free_address().unwrap();
    let topology = topology(folder.path(), address);
    let topology_file = folder.path().join("topology.json");
    std::fs::write(&topology_file, serde_json::to_vec(&topology).unwrap()).unwrap();
    let world = start(topology, &folder.path().join("world")).await;
    let client = world.client();
    let load = Users::at(gateway(&client).await).load(RATE, &["/api/v1"]);

    offload_with_many_ends(&client, address, world.socket()).await;
    unoffload_with_a_kill(&client, address, &topology_file, world.socket(), folder.path()).await;

    let sent = load.end().await;
    let failed: Vec<_> = sent.iter().filter(|sent| !sent.is_ok()).collect();
    assert!(
        failed.is_empty(),
        "{} of {} failed: {failed:?}",
        failed.len(),
        sent.len()
    );
    println!("{} requests, none failed", sent.len());
    world.stop().await;
}

async fn offload_with_many_ends(client: &Client, address: SocketAddr, socket: &Path) {
    let steps = Arc::new(Steps {
        done: AtomicUsize::new(0),
        // The first save, the intent and the effects of the instances and of the first weights, those after them.
        ends: vec![
            (1, true),
            (3, false),
            (5, true),
            (7, false),
            (9, true),
            (11, true),
            (14, false),
        ],
        ended: AtomicBool::new(false),
    });
    let began = Instant::now();
    let mut ends = 0;
    let mut controller = Some(Controller::start(address, socket, config(), &steps));
    loop {
        let now = controller.as_ref().unwrap();
        if steps.ended.load(Ordering::SeqCst) {
            let ended = controller.take().unwrap();
            tokio::task::spawn_blocking(|| ended.end()).await.unwrap();
            ends += 1;
            tokio::time::sleep(AWAY).await;
            controller = Some(Controller::start(address, socket, config(), &steps));
            continue;
        }
        let state = client.state().await.unwrap();
        let phase = now.phase();
        if phase.as_deref() == Some("observing") && placed(&state).is_some_and(|count| count > 0) {
            break;
        }
        assert!(
            began.elapsed() < PATIENCE,
            "no offload after {} ends: {phase:?}, {:?}",
            ends,
            state.cluster
        );
        tokio::time::sleep(POLL).await;
    }
    println!(
        "offload: {} s, {} ends in {} steps",
        began.elapsed().as_secs(),
        ends,
        steps.done.load(Ordering::SeqCst)
    );
    assert!(ends >= 5, "it acted in fewer steps than were thought");
    let last = controller.take().unwrap();
    tokio::task::spawn_blocking(|| last.end()).await.unwrap();
}

async fn unoffload_with_a_kill(
    client: &Client,
    address: SocketAddr,
    topology: &Path,
    socket: &Path,
    folder: &Path,
) {
    let began = Instant::now();
    let log = folder.join("controller.log");
    let mut process = command(address, topology, socket, &log);
    let mut is_killed = false;
    loop {
        let state = client.state().await.unwrap();
        if !is_killed && share(&state, SERVICES[0]) < 99 {
            process.kill().unwrap();
            process.wait().unwrap();
            is_killed = true;
            tokio::time::sleep(AWAY).await;
            process = command(address, topology, socket, &log);
        }
        if placed(&state) == Some(0) {
            break;
        }
        assert!(
            began.elapsed() < PATIENCE,
            "no unoffload: {:?}\n{}",
            state.cluster,
            std::fs::read_to_string(&log).unwrap_or_default()
        );
        tokio::time::sleep(POLL).await;
    }
    process.kill().unwrap();
    process.wait().unwrap();
    let log = std::fs::read_to_string(&log).unwrap();
    println!("unoffload: {} s", began.elapsed().as_secs());
    assert!(is_killed && log.contains("goes on: unoffload"), "{log}");
}
