//! The two Envoys, and the files that configure them.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::bootstrap::{self, Bootstrap, CONTROLLER_CLUSTER, Endpoint, Listener, inbound, outbound};
use super::hosts::{CART, EMPTY, GONE, RPC, STOCK};
use super::{Backend, EnvoyStats, Process, built, eventually, free_address, get};

/// Envoy loads V8 and the module at its start.
const STARTED: Duration = Duration::from_secs(30);

const CLOUD: (&str, &str) = ("region-cloud", "zone-a");
const EDGE: (&str, &str) = ("region-edge-1", "zone-a");

/// The filter's plugin configuration.
#[derive(Clone, Debug)]
pub struct Filter(pub String);

/// Everything that runs except the controller.
#[derive(Debug)]
pub struct Mesh {
    /// Where users enter.
    pub gateway: Envoy,
    /// Beside cart's and rpc's instance in the cloud.
    pub sidecar: Envoy,
    /// What answers.
    pub backend: Backend,
    /// Where the controller is expected.
    pub controller: SocketAddr,
    /// Logs and configurations.
    pub folder: TempDir,
    module: PathBuf,
    version: u64,
}

/// One Envoy.
#[derive(Debug)]
pub struct Envoy {
    /// Its process.
    pub process: Process,
    /// Its admin port.
    pub admin: SocketAddr,
    listeners: Value,
}

// === impl Filter ===

impl Filter {
    /// What a user writes, and a send that fails fast.
    pub fn good() -> Self {
        Self(json!({"controller": {"cluster": CONTROLLER_CLUSTER, "timeout": "1s"}}).to_string())
    }

    /// The same with another heartbeat: another configuration, of the same meaning for these tests.
    pub fn with_heartbeat(heartbeat: &str) -> Self {
        let controller = json!({"cluster": CONTROLLER_CLUSTER, "timeout": "1s"});
        Self(json!({"controller": controller, "heartbeat": heartbeat}).to_string())
    }

    /// Reports as often as the filter allows.
    pub fn eager() -> Self {
        let controller = json!({"cluster": CONTROLLER_CLUSTER, "timeout": "300ms"});
        Self(json!({"controller": controller, "interval": "250ms", "heartbeat": "1s"}).to_string())
    }
}

// === impl Mesh ===

impl Mesh {
    /// Node id of the gateway.
    pub const GATEWAY: &str = "router~10.0.0.1~gateway.shop~shop.svc.cluster.local";
    /// Node id of the sidecar.
    pub const SIDECAR: &str = "sidecar~10.0.0.2~cart.shop~shop.svc.cluster.local";
    /// Share of cart's requests that stay at the edge, percent.
    const EDGE_WEIGHT: u32 = 25;

    /// Starts it; the controller may come later, to `self.controller`.
    ///
    /// # Panics
    /// Where something does not start.
    pub async fn start(filter: &Filter) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let module = built("GMA_FILTER", "target/gma-filter.wasm")
            .canonicalize()
            .unwrap();
        let backend = Backend::start().await;
        let controller = free_address();
        write(&ecds_file(folder.path()), &bootstrap::ecds(&module, &filter.0, 1));
        let sidecar = Envoy::start(folder.path(), "sidecar", &sidecar(&backend, controller)).await;
        let inbound = (sidecar.listener("inbound-cart"), sidecar.listener("inbound-rpc"));
        let gateway = Envoy::start(folder.path(), "gateway", &gateway(&backend, inbound, controller)).await;
        Self {
            gateway,
            sidecar,
            backend,
            controller,
            folder,
            module,
            version: 1,
        }
    }

    /// Gives both Envoys another plugin configuration, by one atomic replacement.
    ///
    /// # Panics
    /// Durations of the gateway's `count` requests as Envoy measured them, ascending, microseconds.
    ///
    /// # Panics
    /// Where its access log does not come to hold as many.
    pub async fn durations_us(&self, count: u64) -> Vec<u64> {
        let path = bootstrap::durations_file(&ecds_file(self.folder.path()), "gateway");
        eventually(STARTED, "the access log is written", async || {
            let text = std::fs::read_to_string(&path).map_err(|error| error.to_string())?;
            let mut durations: Vec<u64> = text.lines().filter_map(|line| line.parse().ok()).collect();
            durations.sort_unstable();
            (durations.len() as u64 == count)
                .then_some(durations)
                .ok_or(format!("{count} requests, {} lines", text.lines().count()))
        })
        .await
    }

    /// Where the file cannot be written.
    pub fn configure(&mut self, filter: &Filter) {
        self.version += 1;
        write(
            &ecds_file(self.folder.path()),
            &bootstrap::ecds(&self.module, &filter.0, self.version),
        );
    }

    /// Waits until both Envoys have taken the newest plugin configuration.
    ///
    /// # Panics
    /// Where they do not.
    pub async fn configured(&self) {
        for envoy in [&self.gateway, &self.sidecar] {
            eventually(STARTED, "a plugin configuration is taken", async || {
                let stats = EnvoyStats::read(envoy.admin).await;
                let taken = stats.counter("extension_config_discovery.http_filter.gma.config_reload");
                (taken >= self.version)
                    .then_some(())
                    .ok_or(format!("{taken} of {}", self.version))
            })
            .await;
        }
    }

    /// Where users send their requests.
    pub fn entry(&self) -> SocketAddr {
        self.gateway.listener("gateway")
    }

    /// Where the workload beside the sidecar sends its requests.
    pub fn outbound(&self) -> SocketAddr {
        self.sidecar.listener("outbound")
    }
}

fn sidecar(backend: &Backend, controller: SocketAddr) -> Bootstrap {
    let local = at(backend.address, CLOUD, 1);
    Bootstrap {
        node: Mesh::SIDECAR,
        workload: "cart",
        locality: CLOUD,
        listeners: vec![
            Listener {
                name: "inbound-cart",
                is_inbound: true,
                routes: vec![("*", inbound(8080))],
            },
            Listener {
                name: "inbound-rpc",
                is_inbound: true,
                routes: vec![("*", inbound(9090))],
            },
            Listener {
                name: "outbound",
                is_inbound: false,
                routes: vec![(STOCK, outbound(STOCK))],
            },
        ],
        clusters: vec![
            (inbound(8080), vec![local]),
            (inbound(9090), vec![local]),
            (outbound(STOCK), vec![local]),
            (CONTROLLER_CLUSTER.to_owned(), vec![at(controller, CLOUD, 1)]),
        ],
    }
}

fn gateway(backend: &Backend, inbound: (SocketAddr, SocketAddr), controller: SocketAddr) -> Bootstrap {
    let hosts = [CART, RPC, STOCK, GONE, EMPTY];
    let cart = vec![
        at(inbound.0, CLOUD, 100 - Mesh::EDGE_WEIGHT),
        at(backend.address, EDGE, Mesh::EDGE_WEIGHT),
    ];
    Bootstrap {
        node: Mesh::GATEWAY,
        workload: "gateway",
        locality: EDGE,
        listeners: vec![Listener {
            name: "gateway",
            is_inbound: false,
            routes: hosts.map(|host| (host, outbound(host))).to_vec(),
        }],
        clusters: vec![
            (outbound(CART), cart),
            (outbound(RPC), vec![at(inbound.1, CLOUD, 1)]),
            (outbound(STOCK), vec![at(backend.address, CLOUD, 1)]),
            (outbound(GONE), vec![at(free_address(), CLOUD, 1)]),
            (outbound(EMPTY), vec![]),
            (CONTROLLER_CLUSTER.to_owned(), vec![at(controller, CLOUD, 1)]),
        ],
    }
}

const fn at(address: SocketAddr, locality: (&'static str, &'static str), weight: u32) -> Endpoint {
    Endpoint {
        address,
        locality,
        weight,
    }
}

// === impl Envoy ===

impl Envoy {
    /// Worker threads, so that several VMs share each listener.
    const CONCURRENCY: &str = "2";

    async fn start(folder: &Path, name: &str, bootstrap: &Bootstrap) -> Self {
        let config = folder.join(format!("{name}.json"));
        let admin = folder.join(format!("{name}.admin"));
        write(&config, &bootstrap.to_json(&ecds_file(folder)));
        let program = built("GMA_ENVOY", ".tools/envoy/envoy/_bin/envoy");
        let (config, admin_file) = (text(&config), text(&admin));
        let files = ["-c", config, "--admin-address-path", admin_file];
        let run = ["--concurrency", Self::CONCURRENCY, "--disable-hot-restart"];
        let log = [
            "--log-level",
            "warning",
            "--component-log-level",
            "wasm:info",
            "--file-flush-interval-msec",
            "100",
        ];
        let process = Process::start(name, folder, &program, &[&files[..], &run, &log].concat());
        let address = eventually(STARTED, "Envoy writes its admin address", async || {
            let address = std::fs::read_to_string(&admin).map_err(|error| error.to_string())?;
            address
                .trim()
                .parse()
                .map_err(|_| format!("{address:?} is no address"))
        })
        .await;
        eventually(STARTED, "Envoy is ready", async || {
            let answer = get(address, "/ready").await?;
            answer.status.is_success().then_some(()).ok_or(answer.text())
        })
        .await;
        let listeners = get(address, "/listeners?format=json").await.unwrap();
        Self {
            process,
            admin: address,
            listeners: serde_json::from_slice(&listeners.body).unwrap(),
        }
    }

    /// Where one of its listeners listens.
    ///
    /// # Panics
    /// Where it has no such listener.
    pub fn listener(&self, name: &str) -> SocketAddr {
        let all = self.listeners["listener_statuses"].as_array().unwrap();
        let found = all.iter().find(|status| status["name"] == name).unwrap();
        let address = &found["local_address"]["socket_address"];
        format!(
            "{}:{}",
            address["address"].as_str().unwrap(),
            address["port_value"]
        )
        .parse()
        .unwrap()
    }

    /// What it has counted.
    pub async fn stats(&self) -> EnvoyStats {
        EnvoyStats::read(self.admin).await
    }
}

fn ecds_file(folder: &Path) -> PathBuf {
    folder.join("ecds.json")
}

fn write(path: &Path, value: &Value) {
    let next = path.with_extension("next");
    std::fs::write(&next, value.to_string()).unwrap();
    std::fs::rename(&next, path).unwrap();
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}
