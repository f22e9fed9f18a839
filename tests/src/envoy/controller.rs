//! The controller's binary, and what it says.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use super::hosts::{CART, RPC};
use super::{Mesh, Outcome, Process, eventually, get, root};

/// It listens at once; a machine under load is slow.
const STARTED: Duration = Duration::from_secs(20);

/// The topology of the test mesh.
#[derive(Clone, Debug)]
pub struct Topology(pub Value);

/// A running controller; killed on drop.
#[derive(Debug)]
pub struct Controller {
    /// Its process.
    pub process: Process,
    /// Where it listens.
    pub address: SocketAddr,
}

/// `accounting` of `/api/v1/state`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Accounting {
    /// By node and key.
    pub keys: Vec<KeyAccount>,
    /// By node.
    pub nodes: Vec<NodeAccount>,
}

/// One entry of `accounting.keys`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KeyAccount {
    /// Envoy's node id.
    pub node: String,
    /// `inbound` or `outbound`.
    pub direction: String,
    /// The host; empty inbound.
    pub service: String,
    /// The port.
    pub port: u16,
    /// Locality of the endpoint.
    pub destination: Option<String>,
    /// What became of the requests.
    pub outcome: String,
    /// Requests.
    pub count: u64,
    /// Long ones.
    pub long_count: u64,
}

/// One entry of `accounting.nodes`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeAccount {
    /// Envoy's node id.
    pub node: String,
    /// Requests of evicted keys.
    pub retired: u64,
    /// Requests in no key, by reason.
    pub unmeasured: BTreeMap<String, u64>,
}

// === impl Topology ===

impl Topology {
    /// The test mesh, with a controller at `controller`.
    pub fn of_mesh(controller: SocketAddr) -> Self {
        Self(json!({
            "namespace": "shop",
            "areas": {
                "cloud": {"localities": ["region-cloud/zone-a"]},
                "edges": [{"name": "edge-1", "localities": ["region-edge-1/zone-a"]}],
            },
            "proxies": [
                {"node": Mesh::GATEWAY, "area": "edge-1", "gateway": true},
                {"node": Mesh::SIDECAR, "area": "cloud", "ports": {"8080": CART, "9090": RPC}},
            ],
            "controller": {"address": controller.to_string()},
        }))
    }

    /// Writes it to a file.
    ///
    /// # Panics
    /// Where the folder is gone.
    pub fn write(&self, folder: &Path) -> PathBuf {
        let path = folder.join("topology.json");
        std::fs::write(&path, self.0.to_string()).unwrap();
        path
    }
}

// === impl Controller ===

impl Controller {
    /// Where the binary is: in `$GMA_BIN`, beside the test's own folder, or where `make build` puts it.
    ///
    /// # Panics
    /// Where it was not built.
    pub fn binary() -> PathBuf {
        let test = std::env::current_exe().unwrap();
        let folders = std::env::var_os("GMA_BIN").map_or_else(
            || {
                vec![
                    test.ancestors().nth(2).unwrap().to_owned(),
                    root().join("target/release"),
                ]
            },
            |folder| vec![PathBuf::from(folder)],
        );
        let found = folders
            .iter()
            .map(|folder| folder.join("gma"))
            .find(|path| path.is_file());
        found.unwrap_or_else(|| panic!("no gma in {folders:?}: run `make build`, or set GMA_BIN"))
    }

    /// Starts it and waits until it answers.
    ///
    /// # Panics
    /// Where it does not.
    pub async fn start(folder: &Path, address: SocketAddr) -> Self {
        let topology = Topology::of_mesh(address).write(folder);
        let listen = address.to_string();
        let arguments = [
            "run",
            "--local",
            topology.to_str().unwrap(),
            "--listen",
            &listen,
            "--mode",
            "observe",
        ];
        let process = Process::start("controller", folder, &Self::binary(), &arguments);
        eventually(STARTED, "the controller is ready", async || {
            let answer = get(address, "/ready").await?;
            answer.status.is_success().then_some(()).ok_or(answer.text())
        })
        .await;
        Self { process, address }
    }

    /// `/api/v1/state`.
    ///
    /// # Panics
    /// Where there is no answer.
    pub async fn state(&self) -> Value {
        serde_json::from_slice(&get(self.address, "/api/v1/state").await.unwrap().body).unwrap()
    }

    /// Totals since the start of every VM.
    ///
    /// # Panics
    /// Where the state has another shape.
    pub async fn accounting(&self) -> Accounting {
        serde_json::from_value(self.state().await["accounting"].take()).unwrap()
    }

    /// `/metrics`.
    ///
    /// # Panics
    /// Where there is no answer.
    pub async fn metrics(&self) -> String {
        get(self.address, "/metrics").await.unwrap().text()
    }

    /// The sum of a metric over those of its series whose labels contain `label`.
    ///
    /// # Panics
    /// Where a value is no number.
    pub async fn metric(&self, name: &str, label: &str) -> f64 {
        let metrics = self.metrics().await;
        let lines = metrics.lines().filter_map(|line| line.strip_prefix(name));
        lines
            .filter(|rest| rest.starts_with(['{', ' ']) && rest.contains(label))
            .map(|rest| rest.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
            .sum()
    }

    /// Waits until what `read` makes of the accounting is as expected, and fails with the difference.
    ///
    /// # Panics
    /// Where it does not get there.
    pub async fn accounts<T: PartialEq + std::fmt::Debug>(
        &self,
        limit: Duration,
        expected: &T,
        read: impl Fn(&Accounting) -> T,
    ) -> Accounting {
        eventually(limit, "the controller's totals are the client's", async || {
            let accounting = self.accounting().await;
            let found = read(&accounting);
            if found == *expected {
                Ok(accounting)
            } else {
                Err(format!("found {found:#?}, expected {expected:#?}"))
            }
        })
        .await
    }
}

// === impl Accounting ===

impl Accounting {
    /// What the gateway counted: the same shape as the client's tally.
    pub fn of_gateway(&self) -> BTreeMap<(String, Outcome), u64> {
        self.by_service(Mesh::GATEWAY)
    }

    /// What a node counted outbound, by host and outcome. Unmeasured requests have no host.
    pub fn by_service(&self, node: &str) -> BTreeMap<(String, Outcome), u64> {
        let mut counts = BTreeMap::new();
        for key in self
            .keys
            .iter()
            .filter(|key| key.node == node && key.direction == "outbound")
        {
            add(&mut counts, &key.service, key);
        }
        for (reason, count) in self
            .nodes
            .iter()
            .filter(|account| account.node == node)
            .flat_map(|n| &n.unmeasured)
        {
            counts.insert((reason.clone(), Outcome::Unmeasured), *count);
        }
        counts
    }

    /// What a node counted inbound, by port and outcome.
    pub fn by_port(&self, node: &str) -> BTreeMap<(u16, Outcome), u64> {
        let mut counts = BTreeMap::new();
        for key in self
            .keys
            .iter()
            .filter(|key| key.node == node && key.direction == "inbound")
        {
            add(&mut counts, &key.port, key);
        }
        counts
    }

    /// What a node counted to a host, by locality.
    pub fn by_locality(&self, node: &str, service: &str) -> BTreeMap<String, u64> {
        let mut counts = BTreeMap::new();
        for key in self
            .keys
            .iter()
            .filter(|key| key.node == node && key.service == service)
        {
            let locality = key
                .destination
                .as_deref()
                .unwrap_or_default()
                .trim_end_matches('/');
            *counts.entry(locality.to_owned()).or_default() += key.count + key.long_count;
        }
        counts
    }

    /// Every request that a node's filter saw.
    pub fn seen(&self, node: &str) -> u64 {
        let keys = self
            .keys
            .iter()
            .filter(|key| key.node == node)
            .map(|key| key.count + key.long_count);
        let nodes = self.nodes.iter().filter(|account| account.node == node);
        keys.sum::<u64>()
            + nodes
                .map(|account| account.retired + account.unmeasured.values().sum::<u64>())
                .sum::<u64>()
    }
}

fn add<K: Ord + Clone>(counts: &mut BTreeMap<(K, Outcome), u64>, name: &K, key: &KeyAccount) {
    let outcome = match key.outcome.as_str() {
        "ok" => Outcome::Ok,
        "clientError" => Outcome::ClientError,
        "serverError" => Outcome::ServerError,
        "noResponse" => Outcome::NoResponse,
        "cancelled" => Outcome::Cancelled,
        other => panic!("unknown outcome {other}"),
    };
    for (outcome, count) in [(outcome, key.count), (Outcome::Long, key.long_count)] {
        if count > 0 {
            *counts.entry((name.clone(), outcome)).or_default() += count;
        }
    }
}
