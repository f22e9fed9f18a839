//! One service in a namespace of its own, in the cloud and at an edge, with a gateway at the edge. Nothing runs in its pods:
//! a task plays their proxies.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use gma_k8s::api::EdgePlacement;
use gma_report::histogram::{bucket_of, encode_buckets};
use gma_report::{EnvelopeHead, Verdict, decode_ack, encode_envelope, v1};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DynamicObject, ListParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Api, Client};
use prost::Message;
use serde_json::{Value, json};
use tokio_util::task::AbortOnDropHandle;

use super::layout::{Layout, object, objects};
use crate::envoy;
use crate::rig::Cluster;

/// Name of the `EdgePlacement`.
pub const OBJECT: &str = "shop";
/// The service's Deployment at the edge, where it exists from the beginning.
pub const EDGE_DEPLOYMENT: &str = "web-edge";
/// The one that is derived from [`CLOUD_DEPLOYMENT`], where none exists.
pub const DERIVED_DEPLOYMENT: &str = "web-edge-1";
/// The service's Deployment in the cloud.
pub const CLOUD_DEPLOYMENT: &str = "web-cloud";

/// Requests in half a second.
const REQUESTS: u32 = 100;
const PERIOD: Duration = Duration::from_millis(500);

/// What the network and the service take now.
#[derive(Clone, Copy, Debug)]
pub struct Delays {
    /// Between the edge and the cloud and back.
    pub rtt: Duration,
    /// Inside the service.
    pub own: Duration,
}

/// The application, its object, and the task that plays its proxies.
pub struct App {
    client: Client,
    namespace: String,
    layout: Layout,
    delays: Arc<Mutex<Delays>>,
    /// Where reports go: the Service follows the leader.
    controller: Arc<Mutex<SocketAddr>>,
    _proxies: AbortOnDropHandle<()>,
}

/// A played proxy.
struct Proxy {
    node: String,
    vm: u64,
    seq: u64,
}

// === impl App ===

impl std::fmt::Debug for App {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("App").field(&self.namespace).finish()
    }
}

impl App {
    /// Creates everything but the object; its pods are Ready when this returns.
    ///
    /// # Errors
    /// The API server's.
    pub async fn create(cluster: &Cluster, namespace: &str, controller: SocketAddr) -> anyhow::Result<Self> {
        Self::new(cluster, namespace, controller, Layout::default()).await
    }

    /// As [`Self::create`], on nodes with a zone label and no region.
    ///
    /// # Errors
    /// The API server's.
    pub async fn create_in_zones(
        cluster: &Cluster,
        namespace: &str,
        controller: SocketAddr,
    ) -> anyhow::Result<Self> {
        let layout = Layout {
            is_zoned: true,
            ..Layout::default()
        };
        Self::new(cluster, namespace, controller, layout).await
    }

    /// As [`Self::create`], without a Deployment for the edge.
    ///
    /// # Errors
    /// The API server's.
    pub async fn create_in_cloud(
        cluster: &Cluster,
        namespace: &str,
        controller: SocketAddr,
    ) -> anyhow::Result<Self> {
        let layout = Layout {
            is_derived: true,
            ..Layout::default()
        };
        Self::new(cluster, namespace, controller, layout).await
    }

    async fn new(
        cluster: &Cluster,
        namespace: &str,
        controller: SocketAddr,
        layout: Layout,
    ) -> anyhow::Result<Self> {
        for area in ["edge", "cloud"] {
            let locality = layout.locality(area).join("/");
            cluster.add_node(&layout.node(area), &locality).await?;
        }
        cluster.apply(&objects(namespace, layout)).await?;
        cluster.until_ready(namespace, "app=web", 1).await?;
        cluster.until_ready(namespace, "istio=gateway", 1).await?;
        let delays = Arc::new(Mutex::new(Delays {
            rtt: Duration::from_millis(100),
            own: Duration::from_millis(15),
        }));
        let controller = Arc::new(Mutex::new(controller));
        let task = play(
            cluster.client.clone(),
            (namespace.to_owned(), layout),
            Arc::clone(&delays),
            Arc::clone(&controller),
        );
        Ok(Self {
            client: cluster.client.clone(),
            namespace: namespace.to_owned(),
            layout,
            delays,
            controller,
            _proxies: AbortOnDropHandle::new(tokio::spawn(task)),
        })
    }

    /// Creates the object.
    ///
    /// # Errors
    /// The API server's.
    pub async fn place(&self, cluster: &Cluster) -> anyhow::Result<()> {
        self.place_with(cluster, &json!({})).await
    }

    /// Creates the object, with other timings than the usual: fields of `policy.ramp`.
    ///
    /// # Errors
    /// The API server's.
    pub async fn place_with(&self, cluster: &Cluster, ramp: &Value) -> anyhow::Result<()> {
        let mut object = object(&self.namespace, self.layout);
        let usual = object
            .pointer_mut("/spec/policy/ramp")
            .and_then(Value::as_object_mut);
        let usual = usual.context("no ramp")?;
        for (field, value) in ramp.as_object().into_iter().flatten() {
            usual.insert(field.clone(), value.clone());
        }
        cluster.apply(&object.to_string()).await?;
        Ok(())
    }

    /// What everything takes from now on.
    pub fn set_delays(&self, rtt: Duration, own: Duration) {
        *self.delays.lock().unwrap_or_else(PoisonError::into_inner) = Delays { rtt, own };
    }

    /// Reports go to another controller.
    pub fn follow(&self, controller: SocketAddr) {
        *self.controller.lock().unwrap_or_else(PoisonError::into_inner) = controller;
    }

    /// `EdgePlacement`s of the namespace.
    pub fn api(&self) -> Api<EdgePlacement> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Rules of the namespace.
    pub fn rules(&self) -> Api<DynamicObject> {
        rules(&self.client, &self.namespace)
    }

    /// The edge's share of the calls from the edge, where there is a rule.
    ///
    /// # Errors
    /// The API server's.
    pub async fn share(&self) -> anyhow::Result<Option<u64>> {
        share(&self.rules()).await
    }

    /// The rule of the service, where there is one.
    ///
    /// # Errors
    /// The API server's.
    pub async fn rule(&self) -> anyhow::Result<Option<DynamicObject>> {
        Ok(self.rules().get_opt("gma-web").await?)
    }

    /// Deployments of the namespace.
    pub fn deployments(&self) -> Api<Deployment> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Replicas that the Deployment at the edge is to have, and its annotations.
    ///
    /// # Errors
    /// The API server's.
    pub async fn edge(&self) -> anyhow::Result<(i32, BTreeMap<String, String>)> {
        let found = self.deployments().get(EDGE_DEPLOYMENT).await?;
        let replicas = found.spec.and_then(|spec| spec.replicas).context("no replicas")?;
        Ok((replicas, found.metadata.annotations.unwrap_or_default()))
    }
}

pub(super) fn rules(client: &Client, namespace: &str) -> Api<DynamicObject> {
    let kind = GroupVersionKind::gvk("networking.istio.io", "v1", "DestinationRule");
    Api::namespaced_with(client.clone(), namespace, &ApiResource::from_gvk(&kind))
}

async fn share(rules: &Api<DynamicObject>) -> anyhow::Result<Option<u64>> {
    Ok(rules.get_opt("gma-web").await?.map(|rule| share_of(&rule)))
}

/// The edge's share of the calls from the edge by a rule.
pub(super) fn share_of(rule: &DynamicObject) -> u64 {
    let entries = rule
        .data
        .pointer("/spec/trafficPolicy/loadBalancer/localityLbSetting/distribute");
    let entries = entries.and_then(Value::as_array).into_iter().flatten();
    let of_edge = entries
        .into_iter()
        .find(|entry| entry.get("from") == Some(&json!("edge")));
    let weight = of_edge.and_then(|entry| entry.pointer("/to/edge")?.as_u64());
    weight.unwrap_or(0)
}

// === The played proxies ===

async fn play(
    client: Client,
    (namespace, layout): (String, Layout),
    delays: Arc<Mutex<Delays>>,
    controller: Arc<Mutex<SocketAddr>>,
) {
    let pods: Api<Pod> = Api::namespaced(client.clone(), &namespace);
    let rules = rules(&client, &namespace);
    let mut proxies: BTreeMap<String, Proxy> = BTreeMap::new();
    let mut ticks = tokio::time::interval(PERIOD);
    let (mut known, mut last) = (Vec::new(), 0);
    // Ids of VMs are random, and do not meet by chance.
    let bytes = namespace.bytes().map(u64::from);
    let first = bytes.fold(1, |id: u64, byte| id.wrapping_mul(257).wrapping_add(byte)) << 8;
    loop {
        ticks.tick().await;
        // While the API server is down the mesh goes on as it was.
        if let Ok(found) = pods.list(&ListParams::default()).await {
            known = found
                .items
                .iter()
                .filter_map(|pod| ready(pod, &namespace))
                .collect();
        }
        if let Ok(share) = share(&rules).await {
            // Between zones without regions a rule has no weights, and an endpoint of one's own zone has everything.
            last = share.map_or(0, |share| if layout.is_zoned { 100 } else { share });
        }
        let has_edge = known.iter().any(|(_, name, _)| is_at_edge(name));
        let share = if has_edge {
            u32::try_from(last).unwrap_or(0)
        } else {
            0
        };
        let now = *delays.lock().unwrap_or_else(PoisonError::into_inner);
        let address = *controller.lock().unwrap_or_else(PoisonError::into_inner);
        for (node, name, _) in &known {
            let host = format!("web.{namespace}.svc.cluster.local");
            let series = match name.as_str() {
                "gateway" => vec![
                    outbound(
                        &host,
                        layout.locality("cloud"),
                        REQUESTS * (100 - share) / 100,
                        now.own + now.rtt,
                    ),
                    outbound(&host, layout.locality("edge"), REQUESTS * share / 100, now.own),
                ],
                name if is_at_edge(name) => vec![inbound(REQUESTS * share / 100, now.own)],
                _ => vec![inbound(REQUESTS * (100 - share) / 100, now.own)],
            };
            let count = proxies.len() as u64;
            let proxy = proxies.entry(node.clone()).or_insert_with(|| Proxy {
                node: node.clone(),
                vm: first.wrapping_add(count),
                seq: 0,
            });
            proxy
                .report(address, series.into_iter().flatten().collect(), now)
                .await;
        }
    }
}

/// Whether a Deployment is the service's at the edge.
fn is_at_edge(deployment: &str) -> bool {
    [EDGE_DEPLOYMENT, DERIVED_DEPLOYMENT].contains(&deployment)
}

/// Node id, Deployment and name of a pod that is Ready.
fn ready(pod: &Pod, namespace: &str) -> Option<(String, String, String)> {
    let status = pod.status.as_ref()?;
    let is_ready = status
        .conditions
        .iter()
        .flatten()
        .any(|one| one.type_ == "Ready" && one.status == "True");
    if !is_ready || pod.metadata.deletion_timestamp.is_some() {
        return None;
    }
    let (name, of) = (
        pod.metadata.name.clone()?,
        pod.metadata.labels.as_ref()?.get("of")?.clone(),
    );
    let kind = if of == "gateway" { "router" } else { "sidecar" };
    // The address is not the one that the API shows, as behind a peering of clusters.
    Some((
        format!("{kind}~192.0.2.1~{name}.{namespace}~{namespace}.svc.cluster.local"),
        of,
        name,
    ))
}

fn outbound(host: &str, [region, zone]: [String; 2], requests: u32, delay: Duration) -> Option<v1::Series> {
    let key = v1::Key {
        direction: v1::Direction::Outbound.into(),
        service: host.to_owned(),
        port: 80,
        destination: Some(v1::Locality {
            region,
            zone,
            sub_zone: String::new(),
        }),
        outcome: v1::Outcome::Ok.into(),
        ..v1::Key::default()
    };
    series(key, requests, delay)
}

fn inbound(requests: u32, delay: Duration) -> Option<v1::Series> {
    let key = v1::Key {
        direction: v1::Direction::Inbound.into(),
        port: 8080,
        outcome: v1::Outcome::Ok.into(),
        ..v1::Key::default()
    };
    series(key, requests, delay)
}

/// Delays of one to ten percent about the given.
fn series(key: v1::Key, requests: u32, delay: Duration) -> Option<v1::Series> {
    if requests == 0 {
        return None;
    }
    let us = |number: u32| u64::try_from(delay.as_micros()).unwrap_or(0) * u64::from(95 + number % 11) / 100;
    let delays: Vec<u64> = (0..requests).map(us).collect();
    let mut buckets: Vec<_> = delays.iter().map(|us| (bucket_of(*us), 1)).collect();
    buckets.sort_unstable();
    let mut histogram = Vec::new();
    encode_buckets(buckets, &mut histogram);
    Some(v1::Series {
        key: Some(key),
        count: u64::from(requests),
        sum_us: delays.iter().sum(),
        histogram,
        response_bytes: u64::from(requests) * 100,
        ..v1::Series::default()
    })
}

impl Proxy {
    /// Sends a window; one that is not stored is lost here, which a real filter's is not.
    async fn report(&mut self, address: SocketAddr, series: Vec<v1::Series>, delays: Delays) {
        let window = v1::Window {
            node_id: self.node.clone(),
            duration_ms: 500,
            series,
            ..v1::Window::default()
        };
        let is_at_edge = self.node.starts_with("router") || self.node.contains(EDGE_DEPLOYMENT);
        let round_trip = if is_at_edge {
            delays.rtt
        } else {
            Duration::from_micros(500)
        };
        let head = EnvelopeHead {
            vm: self.vm,
            seq: self.seq + 1,
            module: "gma-filter test",
            config_hash: 1,
            age_ms: 0,
            round_trip_us: u32::try_from(round_trip.as_micros()).ok(),
        };
        let body = encode_envelope(&head, &window.encode_to_vec());
        let Ok(answer) = envoy::post(address, "/v1/reports", body.into()).await else {
            return;
        };
        let ack = decode_ack(&answer.body, self.vm, self.seq + 1);
        if ack.is_ok_and(|ack| matches!(ack.verdict, Verdict::Stored | Verdict::Duplicate)) {
            self.seq += 1;
        }
    }
}
