//! A test's view of a rig.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use kube::api::{DeleteParams, DynamicObject, ListParams, PostParams};
use kube::{Api, Client};
use rustix::process::{Pid, Signal, kill_process};
use tokio::sync::oneshot;

use super::component::{Component, admin};
use super::control_plane::write_kubeconfig;
use super::{Order, Shared, kubelet};

/// Longest wait for pods of a deployment on a busy machine.
const PODS_LIMIT: Duration = Duration::from_secs(60);

/// A running control plane, as its administrator sees it from a thread inside its network. Processes that a test starts
/// itself are inside too.
pub struct Cluster {
    /// May do everything.
    pub client: Client,
    shared: Arc<Shared>,
}

// === impl Cluster ===

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Cluster").field(&self.folder()).finish()
    }
}

impl Cluster {
    pub(super) async fn connect(shared: Arc<Shared>) -> anyhow::Result<Self> {
        Ok(Self {
            client: super::client(&admin(&shared.places)).await?,
            shared,
        })
    }

    /// The rig's folder; files that are written there go with the rig.
    pub fn folder(&self) -> &Path {
        self.shared.folder.path()
    }

    /// Applies YAML documents; see [`super::apply`].
    ///
    /// # Errors
    /// The first refusal.
    pub async fn apply(&self, yaml: &str) -> anyhow::Result<Vec<DynamicObject>> {
        super::apply(&self.client, yaml).await
    }

    /// As `kubectl delete` does: each object in its order; returns once all are gone.
    ///
    /// # Errors
    /// The first refusal, or what is left after `limit`.
    pub async fn delete(&self, objects: &[serde_json::Value], limit: Duration) -> anyhow::Result<()> {
        let objects: Vec<DynamicObject> = objects
            .iter()
            .map(|object| serde_json::from_value(object.clone()))
            .collect::<Result<_, _>>()?;
        // Whatever their kinds' definitions become.
        let mut apis = Vec::new();
        for object in &objects {
            apis.push(super::apply::api_of(&self.client, object).await?);
        }
        for (name, api) in &apis {
            if api.get_opt(name).await?.is_some() {
                api.delete(name, &DeleteParams::default()).await?;
            }
        }
        let end = Instant::now() + limit;
        for (name, api) in &apis {
            while let Some(left) = api.get_opt(name).await? {
                ensure!(Instant::now() < end, "left after {limit:?}: {left:?}");
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
        Ok(())
    }

    /// The objects of a kustomization, a folder under the repository's root, as kustomize renders them.
    ///
    /// # Errors
    /// What kustomize says; a warning is one.
    pub fn render(&self, folder: &str) -> anyhow::Result<Vec<serde_json::Value>> {
        super::render::render(&self.shared.places.programs, folder)
    }

    /// Adds a node whose pods are processes, at a locality `region/zone`, or without labels where that is empty.
    ///
    /// # Errors
    /// The API server's.
    pub async fn add_node(&self, name: &str, locality: &str) -> anyhow::Result<()> {
        kubelet::add_node(&self.client, name, locality).await
    }

    /// Cuts a node off, as the API shows it once the node controller has noticed: the node and its pods are not Ready. They run on.
    ///
    /// # Errors
    /// The API server's.
    pub async fn lose_node(&self, name: &str) -> anyhow::Result<()> {
        kubelet::lose_node(&self.client, name).await
    }

    /// A node that was cut off is heard again, its pods only when its kubelet's turn comes; returns then.
    ///
    /// # Errors
    /// The API server's.
    pub async fn give_node_back(&self, name: &str, turn: Duration) -> anyhow::Result<()> {
        kubelet::give_node_back(&self.client, name, turn).await
    }

    /// The administrator's kubeconfig; its server is only there inside the rig's network.
    pub fn admin_kubeconfig(&self) -> PathBuf {
        admin(&self.shared.places)
    }

    /// A kubeconfig with a fresh token of a service account, good for an hour: whoever has it may do what its roles
    /// say, and nothing else.
    ///
    /// # Errors
    /// There is no such account.
    pub async fn kubeconfig_of(&self, namespace: &str, account: &str) -> anyhow::Result<PathBuf> {
        let request = TokenRequest {
            spec: TokenRequestSpec {
                audiences: vec!["https://kubernetes.default.svc".to_owned()],
                expiration_seconds: Some(3600),
                bound_object_ref: None,
            },
            ..TokenRequest::default()
        };
        let api: Api<ServiceAccount> = Api::namespaced(self.client.clone(), namespace);
        let answer = api
            .create_token_request(account, &PostParams::default(), &request)
            .await
            .with_context(|| format!("a token of {namespace}/{account}"))?;
        let token = answer.status.context("no token in the answer")?.token;
        let path = self.folder().join(format!("{namespace}.{account}.kubeconfig"));
        write_kubeconfig(self.folder(), &path, &token)?;
        Ok(path)
    }

    /// A client with such a token.
    ///
    /// # Errors
    /// As [`Self::kubeconfig_of`].
    pub async fn client_of(&self, namespace: &str, account: &str) -> anyhow::Result<Client> {
        super::client(&self.kubeconfig_of(namespace, account).await?).await
    }

    /// Every answer to a request of the controller's ServiceAccount so far, as the API server's audit log has it; a watch counts when
    /// it begins and when it ends.
    ///
    /// # Errors
    /// The log can't be read.
    pub fn audited(&self) -> anyhow::Result<Vec<serde_json::Value>> {
        let text = std::fs::read_to_string(self.folder().join("audit.log"))?;
        let (lines, _half) = text.rsplit_once('\n').unwrap_or_default();
        lines
            .lines()
            .map(|line| Ok(serde_json::from_str(line)?))
            .collect()
    }

    /// Waits until exactly `count` pods with the labels are there, each ready and none ending.
    ///
    /// # Errors
    /// Not within a minute; the pods as they are.
    pub async fn until_ready(&self, namespace: &str, labels: &str, count: usize) -> anyhow::Result<Vec<Pod>> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        let end = Instant::now() + PODS_LIMIT;
        loop {
            let pods = api.list(&ListParams::default().labels(labels)).await?.items;
            if pods.len() == count && pods.iter().all(is_ready) {
                return Ok(pods);
            }
            if Instant::now() > end {
                let statuses: Vec<_> = pods.iter().map(|pod| (&pod.metadata.name, &pod.status)).collect();
                bail!("not {count} ready pods with {labels} within {PODS_LIMIT:?}: {statuses:#?}");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Ends a container's process at once, as a crash would.
    ///
    /// # Errors
    /// It does not run.
    pub fn kill_container(&self, namespace: &str, pod: &str, container: &str) -> anyhow::Result<()> {
        let key = (namespace.to_owned(), pod.to_owned(), container.to_owned());
        let pids = self.shared.pids.lock().unwrap_or_else(PoisonError::into_inner);
        let pid = pids.get(&key).and_then(|pid| Pid::from_raw(*pid));
        let pid = pid.with_context(|| format!("{namespace}/{pod} has no process {container}"))?;
        Ok(kill_process(pid, Signal::KILL)?)
    }

    /// Ends a component of the control plane, as a shutdown does.
    ///
    /// # Errors
    /// The rig is ending.
    pub async fn stop(&self, component: Component) -> anyhow::Result<()> {
        self.end(component, false).await
    }

    /// Ends a component of the control plane at once, as a crash does.
    ///
    /// # Errors
    /// The rig is ending.
    pub async fn kill(&self, component: Component) -> anyhow::Result<()> {
        self.end(component, true).await
    }

    async fn end(&self, component: Component, at_once: bool) -> anyhow::Result<()> {
        self.order(|done| Order::Stop {
            component,
            at_once,
            done,
        })
        .await
    }

    /// Starts a component that was stopped or killed; returns when it serves.
    ///
    /// # Errors
    /// It does not start.
    pub async fn start(&self, component: Component) -> anyhow::Result<()> {
        self.order(|done| Order::Start { component, done }).await
    }

    async fn order(
        &self,
        order: impl FnOnce(oneshot::Sender<anyhow::Result<()>>) -> Order,
    ) -> anyhow::Result<()> {
        let (done, is_done) = oneshot::channel();
        self.shared
            .orders
            .send(order(done))
            .await
            .context("the rig is ending")?;
        is_done.await.context("the rig is ending")?
    }
}

fn is_ready(pod: &Pod) -> bool {
    let status = pod.status.as_ref();
    let conditions = status.and_then(|status| status.conditions.as_ref());
    pod.metadata.deletion_timestamp.is_none()
        && conditions
            .into_iter()
            .flatten()
            .any(|condition| condition.type_ == "Ready" && condition.status == "True")
}
