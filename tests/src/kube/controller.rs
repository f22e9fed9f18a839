//! The controller as its own ServiceAccount, with the rights of the manifests.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use gma_k8s::api::{EdgePlacement, crd_yaml};
use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use kube::api::DeleteParams;
use serde_json::{Value, json};

use crate::envoy::{self, Process};
use crate::rig::Cluster;

/// Namespace of the controller.
pub const NAMESPACE: &str = "gma-system";

/// Longest wait for something that takes a second on an idle machine.
const SOON: Duration = Duration::from_secs(60);

/// A running controller; killed on drop.
#[derive(Debug)]
pub struct Controller {
    /// Its process.
    pub process: Process,
    /// Where it listens.
    pub address: SocketAddr,
}

/// Installs the definition, the namespace and the rights, and frees the lease of a test before.
///
/// # Errors
/// The API server's.
pub async fn install(cluster: &Cluster) -> anyhow::Result<()> {
    cluster.apply(&crd_yaml()?).await?;
    install_rights(cluster).await?;
    let objects: Api<EdgePlacement> = Api::all(cluster.client.clone());
    let end = Instant::now() + SOON;
    while let Err(error) = objects.list(&Default::default()).await {
        ensure!(Instant::now() < end, "the definition is not served: {error}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

/// The namespace and the rights alone.
///
/// # Errors
/// The API server's.
pub async fn install_rights(cluster: &Cluster) -> anyhow::Result<()> {
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}});
    cluster.apply(&namespace.to_string()).await?;
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/base/rbac.yaml");
    let rights = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    cluster.apply(&rights).await?;
    let leases: Api<Lease> = Api::namespaced(cluster.client.clone(), NAMESPACE);
    if leases.get_opt("gma").await?.is_some() {
        leases.delete("gma", &DeleteParams::default()).await?;
    }
    Ok(())
}

impl Controller {
    /// Starts one with the token of its account. Ports of a rig are a test's own: each controller of a test has another.
    ///
    /// # Errors
    /// There is no such account.
    pub async fn start(cluster: &Cluster, name: &str, port: u16) -> anyhow::Result<Self> {
        Self::start_as(cluster, name, port, "gma").await
    }

    /// As another account of its namespace.
    ///
    /// # Errors
    /// There is no such account.
    pub async fn start_as(cluster: &Cluster, name: &str, port: u16, account: &str) -> anyhow::Result<Self> {
        let kubeconfig = cluster.kubeconfig_of(NAMESPACE, account).await?;
        Self::start_with(cluster, name, port, &kubeconfig)
    }

    /// As whoever a kubeconfig is for, where it says.
    ///
    /// # Errors
    /// The path of the program is no text.
    pub fn start_with(cluster: &Cluster, name: &str, port: u16, kubeconfig: &Path) -> anyhow::Result<Self> {
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let binary = envoy::Controller::binary();
        let (kubeconfig, listen) = (
            format!("KUBECONFIG={}", kubeconfig.display()),
            address.to_string(),
        );
        let binary = binary.to_str().context("the path of gma is no text")?;
        let arguments = [
            &kubeconfig,
            binary,
            "run",
            "--listen",
            &listen,
            "--namespace",
            NAMESPACE,
            "--log-filter",
            "gma=debug,gma_k8s=debug,info",
        ];
        let process = Process::start(name, cluster.folder(), Path::new("/usr/bin/env"), &arguments);
        Ok(Self { process, address })
    }

    /// See [`round`].
    ///
    /// # Errors
    /// It does not answer.
    pub async fn round(&self) -> anyhow::Result<Value> {
        self.round_of("").await
    }

    /// Of the object `namespace/name`; of the oldest where that is empty.
    ///
    /// # Errors
    /// It does not answer, or looks after no such object.
    pub async fn round_of(&self, object: &str) -> anyhow::Result<Value> {
        round(self.address, object).await
    }

    /// Whether `/ready` says so.
    pub async fn is_ready(&self) -> bool {
        envoy::get(self.address, "/ready")
            .await
            .is_ok_and(|answer| answer.status.is_success())
    }

    /// The end of its log.
    pub fn log(&self) -> String {
        let log = self.process.log();
        let lines: Vec<&str> = log.lines().collect();
        let from = lines.len().saturating_sub(60);
        lines.get(from..).unwrap_or_default().join("\n")
    }

    /// Waits until something is so; the failure shows what was found last and the controller's log.
    ///
    /// # Errors
    /// Not within `limit`.
    pub async fn until<T>(
        &self,
        what: &str,
        limit: Duration,
        look: impl AsyncFnMut() -> anyhow::Result<Result<T, String>>,
    ) -> anyhow::Result<T> {
        until(what, limit, look)
            .await
            .map_err(|error| error.context(format!("--- the controller's log ---\n{}", self.log())))
    }

    /// Waits until its log has a text.
    ///
    /// # Errors
    /// Not within `limit`.
    pub async fn until_says(&self, what: &str, limit: Duration, text: &str) -> anyhow::Result<()> {
        self.until(what, limit, async || {
            let log = self.process.log();
            Ok(if log.contains(text) { Ok(()) } else { Err(log) })
        })
        .await
    }
}

/// What the controller at `address` says of its last round of the object `namespace/name` (of the oldest where that is empty);
/// null where there was none.
///
/// # Errors
/// It does not answer.
pub async fn round(address: SocketAddr, object: &str) -> anyhow::Result<Value> {
    let path = if object.is_empty() {
        "/api/v1/state".to_owned()
    } else {
        format!("/api/v1/state?object={object}")
    };
    let answer = envoy::get(address, &path).await.map_err(anyhow::Error::msg)?;
    let mut state: Value = serde_json::from_slice(&answer.body)?;
    Ok(state.get_mut("round").map(Value::take).unwrap_or_default())
}

/// Waits until something is so; the failure shows what was found last.
///
/// # Errors
/// Not within `limit`.
pub async fn until<T>(
    what: &str,
    limit: Duration,
    mut look: impl AsyncFnMut() -> anyhow::Result<Result<T, String>>,
) -> anyhow::Result<T> {
    let end = Instant::now() + limit;
    loop {
        let found = match look().await {
            Ok(Ok(found)) => return Ok(found),
            Ok(Err(found)) => found,
            Err(error) => format!("{error:#}"),
        };
        ensure!(
            Instant::now() < end,
            "not within {limit:?}: {what}; found {found}"
        );
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
