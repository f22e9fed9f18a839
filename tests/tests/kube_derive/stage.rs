//! A namespace with what is derived from, on the rig.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use gma_core::ids::AreaName;
use gma_core::routing::LocalityPattern;
use gma_k8s::derive::{Derived, Edge, Source, Wish, area_label, derive, name_at};
use gma_k8s::locality::AreaMap;
use gma_k8s::rule::MANAGER;
use gma_tests::rig::{Cluster, apply_with};
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::{Node, Pod, Taint};
use kube::Api;
use kube::api::{DynamicObject, ListParams, Patch, PatchParams};
use kube::core::{ApiResource, GroupVersionKind};
use serde::Deserialize;
use serde_json::{Value, json};

/// Longest wait for what takes a second on an idle machine.
pub(super) const SOON: Duration = Duration::from_secs(60);

/// A namespace with what is derived from, a cloud and an edge.
pub(super) struct Stage<'a> {
    pub(super) cluster: &'a Cluster,
    pub(super) namespace: &'static str,
    pub(super) cloud: AreaName,
    pub(super) edge: AreaName,
    pub(super) map: AreaMap,
    pub(super) taints: Vec<Taint>,
}

impl<'a> Stage<'a> {
    /// Nodes `cloud-1` and `edge-1`, which are areas of their own.
    pub(super) async fn new(cluster: &'a Cluster, namespace: &'static str) -> anyhow::Result<Self> {
        cluster.add_node("cloud-1", "eu/a").await?;
        cluster.add_node("edge-1", "lab/x").await?;
        label(
            cluster,
            "edge-1",
            &[("disk", "ssd"), ("kubernetes.io/arch", "amd64")],
        )
        .await?;
        let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
        cluster.apply(&object.to_string()).await?;
        Self::with(cluster, namespace, "edge-1", "lab")
    }

    pub(super) fn with(
        cluster: &'a Cluster,
        namespace: &'static str,
        edge: &str,
        region: &str,
    ) -> anyhow::Result<Self> {
        let pattern = |text| {
            let pattern = LocalityPattern::try_from(text);
            pattern
                .map(|one| vec![one])
                .map_err(|error| anyhow::anyhow!("{error}"))
        };
        let patterns = BTreeMap::from([
            ("cloud-1".into(), pattern("eu")?),
            (edge.into(), pattern(region)?),
        ]);
        Ok(Self {
            cluster,
            namespace,
            cloud: "cloud-1".into(),
            edge: edge.into(),
            map: AreaMap::Localities(patterns),
            taints: Vec::new(),
        })
    }

    pub(super) fn edge(&self) -> Edge<'_> {
        Edge {
            name: &self.edge,
            cloud: &self.cloud,
            map: &self.map,
            taints: &self.taints,
        }
    }

    /// An object as the server gives it.
    pub(super) async fn get(&self, kind: &str, name: &str) -> anyhow::Result<Option<Value>> {
        let (group, version) = match kind {
            "Deployment" => ("apps", "v1"),
            "HorizontalPodAutoscaler" => ("autoscaling", "v2"),
            _ => ("", "v1"),
        };
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
        let api: Api<DynamicObject> =
            Api::namespaced_with(self.cluster.client.clone(), self.namespace, &resource);
        Ok(api.get_opt(name).await?.map(serde_json::to_value).transpose()?)
    }

    /// The edge's instance, from what the server has.
    pub(super) async fn derive(&self, deployment: &str, service: &str) -> anyhow::Result<Derived> {
        let workload = self
            .get("Deployment", deployment)
            .await?
            .context("no Deployment")?;
        let service = self.get("Service", service).await?.context("no Service")?;
        let autoscaler = self.get("HorizontalPodAutoscaler", deployment).await?;
        let found = name_at(deployment, &self.cloud, &self.edge);
        let found = self.get("Deployment", &found).await?;
        let source = Source {
            workload: &workload,
            service: &service,
            autoscaler: autoscaler.as_ref(),
            found: found.as_ref(),
        };
        let wish = Wish {
            object: "shop/shop",
            replicas: 2,
            min_replicas: None,
            drain: Duration::from_secs(60),
        };
        Ok(derive(&source, self.edge(), &wish)?)
    }

    /// As the controller will: a dry run first, never forced. What the server has then.
    pub(super) async fn put(&self, derived: &Derived) -> anyhow::Result<Vec<DynamicObject>> {
        let mut stored = Vec::new();
        for body in std::iter::once(&derived.deployment).chain(&derived.autoscaler) {
            let parameters = PatchParams::apply(MANAGER);
            let dry = parameters.clone().dry_run();
            apply_with(&self.cluster.client, &body.to_string(), &dry).await?;
            stored.extend(apply_with(&self.cluster.client, &body.to_string(), &parameters).await?);
        }
        Ok(stored)
    }

    pub(super) async fn scale(&self, name: &str, count: u32) -> anyhow::Result<()> {
        let parameters = PatchParams {
            field_manager: Some(MANAGER.to_owned()),
            ..PatchParams::default()
        };
        let patch = Patch::Merge(json!({"spec": {"replicas": count}}));
        self.deployments().patch_scale(name, &parameters, &patch).await?;
        Ok(())
    }

    pub(super) fn deployments(&self) -> Api<Deployment> {
        Api::namespaced(self.cluster.client.clone(), self.namespace)
    }

    /// Waits until the edge has so many ready pods, all on its node.
    pub(super) async fn until_at_edge(&self, count: usize) -> anyhow::Result<()> {
        let labels = format!("{}={}", area_label(), self.edge);
        for pod in self.cluster.until_ready(self.namespace, &labels, count).await? {
            let node = pod.spec.and_then(|spec| spec.node_name);
            ensure!(node.as_deref() == Some(self.edge.as_str()), "on {node:?}");
        }
        Ok(())
    }

    /// Each pod's Deployment, by its ReplicaSet.
    pub(super) async fn owners(&self) -> anyhow::Result<BTreeMap<String, String>> {
        let sets: Api<ReplicaSet> = Api::namespaced(self.cluster.client.clone(), self.namespace);
        let sets = sets.list(&ListParams::default()).await?.items;
        let sets: BTreeMap<String, String> = sets
            .into_iter()
            .filter_map(|set| Some((set.metadata.name.clone()?, controller(&set.metadata)?)))
            .collect();
        let pods: Api<Pod> = Api::namespaced(self.cluster.client.clone(), self.namespace);
        let pods = pods.list(&ListParams::default()).await?.items;
        pods.into_iter()
            .map(|pod| {
                let set = controller(&pod.metadata).context("a pod without an owner")?;
                let owner = sets.get(&set).with_context(|| format!("no ReplicaSet {set}"))?;
                Ok((pod.metadata.name.unwrap_or_default(), owner.clone()))
            })
            .collect()
    }

    /// Waits until the autoscaler's controller has looked at it since now; the reason of `ScalingActive`.
    pub(super) async fn scaling_reason(&self, name: &str, expected: &str) -> anyhow::Result<()> {
        let api: Api<HorizontalPodAutoscaler> = Api::namespaced(self.cluster.client.clone(), self.namespace);
        let end = Instant::now() + SOON;
        loop {
            let status = api.get(name).await?.status.unwrap_or_default();
            let conditions = status.conditions.unwrap_or_default();
            let found = conditions
                .iter()
                .find(|condition| condition.type_ == "ScalingActive");
            let reason = found.and_then(|condition| condition.reason.as_deref());
            if reason == Some(expected) {
                return Ok(());
            }
            ensure!(Instant::now() < end, "{name}: {reason:?}, not {expected}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

fn controller(metadata: &kube::core::ObjectMeta) -> Option<String> {
    let owners = metadata.owner_references.as_ref()?;
    let owner = owners.iter().find(|owner| owner.controller == Some(true))?;
    Some(owner.name.clone())
}

pub(super) async fn label(cluster: &Cluster, node: &str, labels: &[(&str, &str)]) -> anyhow::Result<()> {
    let labels: BTreeMap<_, _> = labels.iter().copied().collect();
    let api: Api<Node> = Api::all(cluster.client.clone());
    let patch = Patch::Merge(json!({"metadata": {"labels": labels}}));
    api.patch(node, &PatchParams::default(), &patch).await?;
    Ok(())
}

/// A file of the derivation's own tests, as pods that the rig can run: nothing in them listens.
pub(super) fn shape(file: &str, namespace: &str) -> anyhow::Result<Vec<Value>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../controller/k8s/testdata/derive");
    let text = fs::read_to_string(folder.join(file))?;
    let mut objects = Vec::new();
    for document in serde_norway::Deserializer::from_str(&text) {
        let mut object = Value::deserialize(document)?;
        if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.insert("namespace".to_owned(), namespace.into());
        }
        if let Some(spec) = object
            .pointer_mut("/spec/template/spec")
            .and_then(Value::as_object_mut)
        {
            // This server does not know it.
            spec.remove("aFieldOfANewerServer");
            let containers = spec.get_mut("containers").and_then(Value::as_array_mut);
            for container in containers.into_iter().flatten().filter_map(Value::as_object_mut) {
                container.insert("image".to_owned(), "pause".into());
                container.remove("ports");
            }
        }
        objects.push(object);
    }
    Ok(objects)
}

pub(super) fn yaml(objects: &[Value]) -> String {
    objects.iter().map(|object| format!("---\n{object}\n")).collect()
}
