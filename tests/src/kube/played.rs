//! The played proxies of an application: each half second they report what they would measure under the rules in force.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use gma_report::histogram::{bucket_of, encode_buckets};
use gma_report::{EnvelopeHead, Verdict, decode_ack, encode_envelope, v1};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DynamicObject, ListParams};
use kube::{Api, Client};
use prost::Message;

use super::app::{CLOUD_DEPLOYMENT, EDGE_DEPLOYMENT, RULE, rules, share_of};
use super::layout::{CLOUD, Layout, gateway, region};
use crate::envoy;

/// Requests of an edge's users in half a second.
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

/// What the proxies go by, and what they were answered.
#[derive(Clone, Debug)]
pub(super) struct Script {
    pub(super) delays: Delays,
    /// Where an edge has delays of its own.
    pub(super) delays_at: BTreeMap<String, Delays>,
    /// Edges whose proxies reach nobody.
    pub(super) cut: BTreeSet<String>,
    /// Requests go to the cloud, whatever the weights.
    pub(super) hides_edges: bool,
    /// Where reports go: the Service follows the leader.
    pub(super) controller: SocketAddr,
    /// The last answer.
    pub(super) is_busy: bool,
}

/// Where a proxy is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    Gateway(String),
    Edge(String),
    Cloud,
}

/// A pod that has a proxy.
struct Seen {
    node: String,
    place: Place,
    is_ready: bool,
}

/// A played proxy.
struct Proxy {
    node: String,
    vm: u64,
    seq: u64,
}

/// All of an application.
struct Company {
    namespace: String,
    layout: Layout,
    /// The id of its first VM: ids are random, and do not meet by chance.
    first: u64,
    proxies: BTreeMap<String, Proxy>,
    pods: Vec<Seen>,
    rule: Option<DynamicObject>,
}

/// Plays for ever.
pub(super) async fn play(client: Client, namespace: String, layout: Layout, script: Arc<Mutex<Script>>) {
    let pods: Api<Pod> = Api::namespaced(client.clone(), &namespace);
    let rules = rules(&client, &namespace);
    let bytes = namespace.bytes().map(u64::from);
    let mut company = Company {
        first: bytes.fold(1, |id: u64, byte| id.wrapping_mul(257).wrapping_add(byte)) << 8,
        namespace,
        layout,
        proxies: BTreeMap::new(),
        pods: Vec::new(),
        rule: None,
    };
    let mut ticks = tokio::time::interval(PERIOD);
    loop {
        ticks.tick().await;
        // While the API server is down the mesh goes on as it was.
        if let Ok(found) = pods.list(&ListParams::default()).await {
            company.meet(&found.items);
        }
        if let Ok(found) = rules.get_opt(RULE).await {
            company.rule = found;
        }
        let now = script.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(is_busy) = company.report(&now).await {
            script.lock().unwrap_or_else(PoisonError::into_inner).is_busy = is_busy;
        }
    }
}

// === impl Company ===

impl Company {
    /// Who runs: a proxy that was Ready runs on when its pod is no longer said to be.
    fn meet(&mut self, pods: &[Pod]) {
        let seen = pods.iter().filter_map(|pod| self.seen(pod));
        self.pods = seen.collect();
    }

    fn seen(&self, pod: &Pod) -> Option<Seen> {
        let status = pod.status.as_ref()?;
        let is_ready = status
            .conditions
            .iter()
            .flatten()
            .any(|one| one.type_ == "Ready" && one.status == "True");
        let (name, of) = (
            pod.metadata.name.as_ref()?,
            pod.metadata.labels.as_ref()?.get("of")?,
        );
        let place = self.place(of)?;
        let kind = if matches!(place, Place::Gateway(_)) {
            "router"
        } else {
            "sidecar"
        };
        let namespace = &self.namespace;
        // The address is not the one that the API shows, as behind a peering of clusters.
        let node = format!("{kind}~192.0.2.1~{name}.{namespace}~{namespace}.svc.cluster.local");
        let runs = is_ready || self.proxies.contains_key(&node);
        (runs && pod.metadata.deletion_timestamp.is_none()).then_some(Seen {
            node,
            place,
            is_ready,
        })
    }

    /// By the Deployment of a pod.
    fn place(&self, of: &str) -> Option<Place> {
        if of == CLOUD_DEPLOYMENT {
            return Some(Place::Cloud);
        }
        self.layout.edges.iter().find_map(|edge| {
            if of == gateway(edge) {
                Some(Place::Gateway(edge.clone()))
            } else {
                let is_there = of == EDGE_DEPLOYMENT || of == format!("web-{edge}");
                is_there.then(|| Place::Edge(edge.clone()))
            }
        })
    }

    fn ready(&self, place: &Place) -> u32 {
        let ready = self.pods.iter().filter(|pod| pod.is_ready && pod.place == *place);
        u32::try_from(ready.count()).unwrap_or(u32::MAX)
    }

    /// Percentage of an edge's calls that it serves itself: a weight is of no use where nothing is Ready.
    fn share(&self, edge: &str, script: &Script) -> u32 {
        let rule = self.rule.as_ref();
        // Between zones without regions a rule has no weights, and an endpoint of one's own zone has everything.
        let of = |rule| {
            if self.layout.is_zoned {
                100
            } else {
                share_of(rule, region(edge))
            }
        };
        let weight = rule.map_or(0, of);
        let weight = u32::try_from(weight).unwrap_or(0);
        if weight == 0 || script.hides_edges || self.ready(&Place::Edge(edge.to_owned())) == 0 {
            0
        } else if self.ready(&Place::Cloud) == 0 {
            100
        } else {
            weight
        }
    }

    /// Whether the last answer was that the controller is busy; none where nobody answered.
    async fn report(&mut self, script: &Script) -> Option<bool> {
        let mut last = None;
        let reports: Vec<_> = self
            .pods
            .iter()
            .filter_map(|pod| {
                self.of(pod, script)
                    .map(|(series, trip)| (pod.node.clone(), series, trip))
            })
            .collect();
        for (node, series, trip) in reports {
            let vm = self.first.wrapping_add(self.proxies.len() as u64);
            let proxy = self
                .proxies
                .entry(node.clone())
                .or_insert(Proxy { node, vm, seq: 0 });
            let verdict = proxy.report(script.controller, series, trip).await;
            last = verdict.map(|verdict| verdict == Verdict::Busy).or(last);
        }
        last
    }

    /// What a proxy measured, and its round trip to the controller; none where it reaches nobody.
    fn of(&self, pod: &Seen, script: &Script) -> Option<(Vec<v1::Series>, Duration)> {
        let host = format!("web.{}.svc.cluster.local", self.namespace);
        let delays = |edge: &str| script.delays_at.get(edge).copied().unwrap_or(script.delays);
        // Of one pod of several.
        let part = |requests: u32, place: &Place| {
            let is_one = u32::from(pod.is_ready);
            requests.checked_div(self.ready(place)).unwrap_or(0) * is_one
        };
        let (series, trip) = match &pod.place {
            Place::Gateway(edge) | Place::Edge(edge) if script.cut.contains(edge) => return None,
            Place::Gateway(edge) => {
                let (share, now) = (self.share(edge, script), delays(edge));
                let to_cloud = outbound(
                    &host,
                    self.layout.locality(CLOUD),
                    REQUESTS * (100 - share) / 100,
                    now.own + now.rtt,
                );
                let to_edge = outbound(&host, self.layout.locality(edge), REQUESTS * share / 100, now.own);
                (vec![to_cloud, to_edge], now.rtt)
            }
            Place::Edge(edge) => {
                let (share, now) = (self.share(edge, script), delays(edge));
                let requests = part(REQUESTS * share / 100, &pod.place);
                (vec![inbound(requests, now.own)], now.rtt)
            }
            Place::Cloud => {
                let heard = self
                    .layout
                    .edges
                    .iter()
                    .filter(|edge| !script.cut.contains(*edge));
                let requests = heard.map(|edge| REQUESTS * (100 - self.share(edge, script)) / 100);
                let requests = part(requests.sum(), &pod.place);
                (
                    vec![inbound(requests, script.delays.own)],
                    Duration::from_micros(500),
                )
            }
        };
        Some((series.into_iter().flatten().collect(), trip))
    }
}

// === What is reported ===

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
    /// Sends a window; one that is not stored is lost here, which a real filter's is not. None: there was no answer.
    async fn report(
        &mut self,
        address: SocketAddr,
        series: Vec<v1::Series>,
        round_trip: Duration,
    ) -> Option<Verdict> {
        let window = v1::Window {
            node_id: self.node.clone(),
            duration_ms: 500,
            series,
            ..v1::Window::default()
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
        let answer = envoy::post(address, "/v1/reports", body.into()).await.ok()?;
        let ack = decode_ack(&answer.body, self.vm, self.seq + 1).ok()?;
        if matches!(ack.verdict, Verdict::Stored | Verdict::Duplicate) {
            self.seq += 1;
        }
        Some(ack.verdict)
    }
}
