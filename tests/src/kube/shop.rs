//! Three services of cells with their sidecars, in the cloud and at an edge, a gateway at the edge, and a WAN between.
//!
//! ```text
//! users -> gateway -> s0 -> s1 -> s2         each in the cloud; at the edge from zero, by the controller
//! ```
//!
//! The WAN is the local platform's relay: it listens on the address of each pod in the cloud, the controller's too, and takes
//! its time with callers whose address is an edge's. Whatever listens in such a pod has another address behind it.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use futures_util::StreamExt;
use gma_core::decide::Decision;
use gma_k8s::api::EdgePlacement;
use gma_local::{Direction, Hop, Link, LinkSettings, Relay};
use k8s_openapi::api::apps::v1::Deployment;
use kube::Api;
use kube::api::{DynamicObject, ListParams};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, watcher};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::task::JoinSet;

use super::app::{OBJECT, rules, share_of};
use super::controller::round;
use super::mesh::{module, plugin, run_controller};
use crate::local::Users;
use crate::rig::Cluster;
use crate::rig::manifests::{self, Injected, PORT, SIDECAR_PORT};

/// Its services, each of which calls the next.
pub const SERVICES: [&str; 3] = ["s0", "s1", "s2"];
/// What users ask for.
pub const PATH: &str = "/api/v1";
/// What takes little time.
pub const LIGHT_PATH: &str = "/api/v1?bid=light";

const NAMESPACE: &str = "loop";
const EDGE_NET: [u8; 3] = [10, 244, 250];
const CLOUD_NET: [u8; 3] = [10, 244, 251];
/// What is behind the addresses of the cloud's pods.
const BEHIND_NET: [u8; 3] = [10, 244, 252];
const GATEWAY: u8 = 9;
const CONTROLLER: u8 = 8;
const CONTROLLER_PORT: u16 = 8080;

/// A write of a rule: when its event came, its name, and the edge's share of the edge's calls by it.
pub type Written = (Instant, String, u64);

/// Everything that runs.
pub struct Shop {
    client: kube::Client,
    link: Arc<Link>,
    writes: Arc<Mutex<Vec<Written>>>,
    _relays: Vec<Relay>,
    _tasks: JoinSet<()>,
}

// === impl Shop ===

impl std::fmt::Debug for Shop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Shop").field(&self.link).finish()
    }
}

impl Shop {
    /// Starts the application with everything in the cloud, and the controller; the object is yet to come.
    ///
    /// # Errors
    /// Something does not start.
    pub async fn start(cluster: &Cluster, rtt: Duration) -> anyhow::Result<Self> {
        cluster.add_node("edge-1", "edge/edge-1").await?;
        cluster.add_node("cloud-1", "cloud/cloud-1").await?;
        let link = Arc::new(Link::new(LinkSettings::default()));
        let mut tasks = JoinSet::new();
        let mut relays = Vec::new();
        let hosts = (10..).take(SERVICES.len()).map(|host| (host, SIDECAR_PORT));
        for (host, port) in hosts.chain([(CONTROLLER, CONTROLLER_PORT)]) {
            let [outside, inside] = [CLOUD_NET, BEHIND_NET].map(|net| SocketAddr::new(at(net, host), port));
            relays.push(Relay::listen(outside, inside, paths(&link), &mut tasks).await?);
        }
        let writes = Arc::new(Mutex::new(Vec::new()));
        tasks.spawn(watch(cluster.client.clone(), Arc::clone(&writes)));
        let shop = Self {
            client: cluster.client.clone(),
            link,
            writes,
            _relays: relays,
            _tasks: tasks,
        };
        shop.set_rtt(rtt);
        cluster
            .apply(&manifests::application(
                cluster.folder(),
                NAMESPACE,
                &workmodel(),
            )?)
            .await?;
        let controller = at(CLOUD_NET, CONTROLLER).to_string();
        run_controller(cluster, &controller, shop.controller()).await?;
        cluster
            .apply(&plugin(cluster, NAMESPACE, &module()?)?.to_string())
            .await?;
        cluster.apply(&pods(cluster)).await?;
        for service in SERVICES {
            cluster
                .until_ready(NAMESPACE, &format!("app={service}"), 1)
                .await?;
        }
        cluster.until_ready(NAMESPACE, "istio=gateway-edge-1", 1).await?;
        Ok(shop)
    }

    /// Users at the edge's gateway.
    pub fn users(&self) -> Users {
        Users::at(SocketAddr::new(at(EDGE_NET, GATEWAY), PORT))
    }

    /// Where the controller listens, on the cloud's side of the WAN.
    pub fn controller(&self) -> SocketAddr {
        SocketAddr::new(at(BEHIND_NET, CONTROLLER), CONTROLLER_PORT)
    }

    /// Round trip between edge and cloud from now on.
    pub fn set_rtt(&self, rtt: Duration) {
        self.link.set(LinkSettings {
            rtt,
            ..LinkSettings::default()
        });
    }

    /// Creates the object: a band for the mean.
    ///
    /// # Errors
    /// It is refused.
    pub async fn place(&self, cluster: &Cluster, above: Duration, below: Duration) -> anyhow::Result<()> {
        cluster.apply(&object(above, below).to_string()).await?;
        Ok(())
    }

    /// `EdgePlacement`s of the application.
    pub fn objects(&self) -> Api<EdgePlacement> {
        Api::namespaced(self.client.clone(), NAMESPACE)
    }

    /// Rules of the application.
    ///
    /// # Errors
    /// The API server's.
    pub async fn rules(&self) -> anyhow::Result<Vec<DynamicObject>> {
        let found = rules(&self.client, NAMESPACE)
            .list(&ListParams::default())
            .await?;
        Ok(found.items)
    }

    /// Replicas of the edge's Deployments, and how many of these have an annotation of ours.
    ///
    /// # Errors
    /// The API server's.
    pub async fn edge(&self) -> anyhow::Result<(i32, usize)> {
        let api: Api<Deployment> = Api::namespaced(self.client.clone(), NAMESPACE);
        let (mut replicas, mut annotated) = (0, 0);
        for service in SERVICES {
            let found = api.get(&format!("{service}-edge-1")).await?;
            replicas += found.spec.and_then(|spec| spec.replicas).unwrap_or(1);
            let annotations = found.metadata.annotations.unwrap_or_default();
            annotated += usize::from(annotations.keys().any(|key| key.starts_with("gma.dev/")));
        }
        Ok((replicas, annotated))
    }

    /// Every write of a rule so far.
    pub fn writes(&self) -> Vec<Written> {
        self.writes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What the controller says of the edge: the phase, a sentence, and its decisions, that under way last.
    ///
    /// # Errors
    /// It does not answer, or looks after nothing.
    pub async fn said(&self) -> anyhow::Result<(String, String, Vec<Decision>)> {
        let round = round(self.controller(), "").await?;
        let edge = round.pointer("/edges/edge-1").context("no round yet")?;
        let text = |key: &str| {
            edge.get(key)
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        let told = edge
            .get("decisions")
            .and_then(Value::as_array)
            .into_iter()
            .flatten();
        let mut decisions: Vec<Decision> = told
            .filter_map(|told| told.get("decision"))
            .map(Decision::deserialize)
            .collect::<Result<_, _>>()?;
        if let Some(plan) = edge.get("plan").filter(|plan| !plan.is_null()) {
            decisions.push(serde_json::from_value(plan.clone())?);
        }
        Ok((text("phase"), text("sentence"), decisions))
    }
}

const fn at(net: [u8; 3], host: u8) -> IpAddr {
    let [a, b, c] = net;
    IpAddr::V4(std::net::Ipv4Addr::new(a, b, c, host))
}

/// The WAN lies before whoever is at the edge.
fn paths(link: &Arc<Link>) -> impl Fn(IpAddr) -> Arc<[Hop]> + Send + Sync + use<> {
    let up: Arc<[Hop]> = Arc::new([Hop {
        link: Arc::clone(link),
        direction: Direction::Up,
    }]);
    let none: Arc<[Hop]> = Arc::new([]);
    move |caller| match caller {
        IpAddr::V4(caller) if caller.octets().starts_with(&EDGE_NET) => Arc::clone(&up),
        _ => Arc::clone(&none),
    }
}

/// Notes each version of the rules.
async fn watch(client: kube::Client, writes: Arc<Mutex<Vec<Written>>>) {
    let api = rules(&client, NAMESPACE);
    let events = watcher(api, watcher::Config::default()).default_backoff();
    let mut rules = std::pin::pin!(events.applied_objects());
    while let Some(rule) = rules.next().await {
        let Ok(rule) = rule else { continue };
        let name = rule.metadata.name.clone().unwrap_or_default();
        let mut writes = writes.lock().unwrap_or_else(PoisonError::into_inner);
        writes.push((Instant::now(), name, share_of(&rule, "edge")));
    }
}

// === The objects ===

/// A request takes 20 ms in each service, a light one 1.
fn workmodel() -> Map<String, Value> {
    let sleeps = |seconds: f64| {
        json!({"loader": {
            "sleep_stress": {"run": true, "sleep_time": seconds}, "mean_response_size": 1.0, "mean_bandwidth": 1.0,
        }})
    };
    let callees = SERVICES.iter().skip(1).map(Some).chain([None]);
    let service = |(name, callee): (&&str, Option<&&str>)| {
        let calls: Vec<Value> = callee
            .iter()
            .map(|callee| json!({"services": [callee]}))
            .collect();
        let description = json!({
            "internal_service": sleeps(0.020),
            "external_services": calls,
            "alternative_behaviors": {"light": {"internal_service": sleeps(0.001)}},
        });
        ((*name).to_owned(), description)
    };
    SERVICES.iter().zip(callees).map(service).collect()
}

fn pods(cluster: &Cluster) -> String {
    let folder = cluster.folder();
    let mut documents = manifests::gateway(NAMESPACE, "edge-1", &at(EDGE_NET, GATEWAY).to_string(), "s0");
    for (service, host) in SERVICES.into_iter().zip(10..) {
        let [edge, cloud, behind] = [EDGE_NET, CLOUD_NET, BEHIND_NET].map(|net| at(net, host).to_string());
        for (node, address, inbound, replicas) in
            [("cloud-1", &cloud, &behind, 1), ("edge-1", &edge, &edge, 0)]
        {
            documents += &manifests::injected(&Injected {
                folder,
                namespace: NAMESPACE,
                service,
                node,
                address,
                inbound,
                replicas,
            });
        }
    }
    documents
}

fn object(above: Duration, below: Duration) -> Value {
    let services = SERVICES.map(|service| {
        json!({"name": service, "edge": {"deployments": [{"edge": "edge-1", "name": format!("{service}-edge-1")}]}})
    });
    let millis = |duration: Duration| format!("{}ms", duration.as_millis());
    json!({
        "apiVersion": "gma.dev/v1alpha1", "kind": "EdgePlacement",
        "metadata": {"name": OBJECT, "namespace": NAMESPACE},
        "spec": {
            "areas": {
                "cloud": {"localities": ["cloud"]},
                "edges": [{
                    "name": "edge-1", "localities": ["edge"],
                    "gateway": {"namespace": NAMESPACE, "matchLabels": {"istio": "gateway-edge-1"}},
                    "objective": {"offloadAbove": millis(above), "unoffloadBelow": millis(below)},
                }],
            },
            "services": services,
            "policy": {"mode": "Enforce", "ramp": {"verifyAtLeast": "5s", "verifyAtMost": "20s", "coolDown": "2s"}},
        },
    })
}
