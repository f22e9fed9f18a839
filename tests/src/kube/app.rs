//! One service in a namespace of its own, in the cloud and at edges, with a gateway at each edge. Nothing runs in its pods:
//! a task plays their proxies.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context;
use gma_k8s::api::EdgePlacement;
use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{DeleteParams, DynamicObject};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio_util::task::AbortOnDropHandle;

use super::controller::Controller;
use super::layout::{Layout, object, objects, region};
use super::played::{Delays, Script, play};
use crate::rig::Cluster;

/// The rule of its service.
pub const RULE: &str = "gma-web";
/// Name of the `EdgePlacement`.
pub const OBJECT: &str = "shop";
/// The service's Deployment at the edge, where it exists from the beginning.
pub const EDGE_DEPLOYMENT: &str = "web-edge";
/// The one that is derived from [`CLOUD_DEPLOYMENT`], where none exists.
pub const DERIVED_DEPLOYMENT: &str = "web-edge-1";
/// The service's Deployment in the cloud.
pub const CLOUD_DEPLOYMENT: &str = "web-cloud";

/// Longest that a deleted object may stay: what it changed is given back within 50 s.
const GOES: Duration = Duration::from_secs(60);

/// The edge of an application that has only one; its node has the same name.
pub(super) const EDGE: &str = "edge-1";

/// The application, its object, and the task that plays its proxies.
pub struct App {
    client: Client,
    namespace: String,
    layout: Layout,
    script: Arc<Mutex<Script>>,
    _proxies: AbortOnDropHandle<()>,
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
        Self::create_with_edges(cluster, namespace, controller, &[EDGE]).await
    }

    /// As [`Self::create_in_cloud`], with these edges; each has a node of its name.
    ///
    /// # Errors
    /// The API server's.
    pub async fn create_with_edges(
        cluster: &Cluster,
        namespace: &str,
        controller: SocketAddr,
        edges: &[&str],
    ) -> anyhow::Result<Self> {
        let layout = Layout {
            edges: edges.iter().map(|edge| (*edge).to_owned()).collect(),
            is_derived: true,
            is_zoned: false,
        };
        Self::new(cluster, namespace, controller, layout).await
    }

    async fn new(
        cluster: &Cluster,
        namespace: &str,
        controller: SocketAddr,
        layout: Layout,
    ) -> anyhow::Result<Self> {
        for place in layout.places() {
            let [region, node] = layout.locality(place);
            cluster.add_node(&node, &format!("{region}/{node}")).await?;
        }
        cluster.apply(&objects(namespace, &layout)).await?;
        cluster.until_ready(namespace, "app=web", 1).await?;
        cluster
            .until_ready(namespace, "istio", layout.edges.len())
            .await?;
        let script = Arc::new(Mutex::new(Script {
            delays: Delays {
                rtt: Duration::from_millis(100),
                own: Duration::from_millis(15),
            },
            delays_at: BTreeMap::new(),
            cut: BTreeSet::new(),
            hides_edges: false,
            controller,
            is_busy: false,
        }));
        let task = play(
            cluster.client.clone(),
            namespace.to_owned(),
            layout.clone(),
            Arc::clone(&script),
        );
        Ok(Self {
            client: cluster.client.clone(),
            namespace: namespace.to_owned(),
            layout,
            script,
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
        let mut object = object(&self.namespace, &self.layout);
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
        self.script().delays = Delays { rtt, own };
    }

    /// What everything takes for one edge's users.
    pub fn set_delays_at(&self, edge: &str, rtt: Duration, own: Duration) {
        let delays = Delays { rtt, own };
        self.script().delays_at.insert(edge.to_owned(), delays);
    }

    /// Whether the proxies of an edge reach nobody.
    pub fn cut(&self, edge: &str, is_cut: bool) {
        let mut script = self.script();
        if is_cut {
            script.cut.insert(edge.to_owned());
        } else {
            script.cut.remove(edge);
        }
    }

    /// Whether requests go to the cloud whatever the weights: then no step of a shift is left before its time is over.
    pub fn hide_edges(&self, hides: bool) {
        self.script().hides_edges = hides;
    }

    /// Reports go to another controller.
    pub fn follow(&self, controller: SocketAddr) {
        self.script().controller = controller;
    }

    /// Whether the controller answered the last report as busy.
    pub fn is_answered_busy(&self) -> bool {
        self.script().is_busy
    }

    fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Deletes the object; it must go.
    ///
    /// # Errors
    /// The API server's, or it is there a minute later.
    pub async fn delete(&self, controller: &Controller) -> anyhow::Result<()> {
        self.api().delete(OBJECT, &DeleteParams::default()).await?;
        controller
            .until("the object goes", GOES, async || {
                Ok(match self.api().get_opt(OBJECT).await? {
                    None => Ok(()),
                    Some(found) => Err(format!("{:?}", found.metadata)),
                })
            })
            .await
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
        self.share_at(EDGE).await
    }

    /// An edge's share of the calls from there, where there is a rule.
    ///
    /// # Errors
    /// The API server's.
    pub async fn share_at(&self, edge: &str) -> anyhow::Result<Option<u64>> {
        Ok(self.rule().await?.map(|rule| share_of(&rule, region(edge))))
    }

    /// The rule of the service, where there is one.
    ///
    /// # Errors
    /// The API server's.
    pub async fn rule(&self) -> anyhow::Result<Option<DynamicObject>> {
        Ok(self.rules().get_opt(RULE).await?)
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

/// The share of an edge, given by its region, of the calls from there by a rule.
pub(super) fn share_of(rule: &DynamicObject, region: &str) -> u64 {
    let entries = rule
        .data
        .pointer("/spec/trafficPolicy/loadBalancer/localityLbSetting/distribute");
    let entries = entries.and_then(Value::as_array).into_iter().flatten();
    let of_edge = entries
        .into_iter()
        .find(|entry| entry.get("from") == Some(&json!(region)));
    let weight = of_edge.and_then(|entry| entry.get("to")?.get(region)?.as_u64());
    weight.unwrap_or(0)
}
