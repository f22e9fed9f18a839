//! A control plane: etcd, Kubernetes, Istio's resources, istiod and its webhook, started in that order.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use futures_util::future::try_join_all;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde::Deserialize;
use serde_json::Value;

use super::apply::{apply, apply_with};
use super::component::{Component, Places, Unit, admin};
use super::keys;

/// Longest wait for what the API server does by itself within a second.
const SOON: Duration = Duration::from_secs(60);

/// The user that may do everything.
const ADMIN_TOKEN: &str = "rig-admin";

/// No mutual TLS, no telemetry filters, and only hosts that are known.
const MESH: &str = "\
enableAutoMtls: false
defaultProviders: {}
rootNamespace: istio-system
trustDomain: cluster.local
outboundTrafficPolicy: {mode: REGISTRY_ONLY}
";

const ISTIO_SYSTEM: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: istio-system}
";

const PLAIN_TEXT: &str = "
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: istio-system}
spec: {mtls: {mode: DISABLE}}
";

/// It is refused by istiod, whose answer shows that the webhook is in force.
const REFUSED: &str = "
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: refused, namespace: istio-system}
spec:
  host: refused
  trafficPolicy: {loadBalancer: {localityLbSetting: {distribute: [{from: a/b, to: {a/b: 1}}]}}}
";

/// The controller's requests are noted, for [`super::Cluster::audited`]; nobody else's are.
const AUDIT: &str = r#"
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- {level: Metadata, users: ["system:serviceaccount:gma-system:gma"]}
- {level: None}
"#;

/// Everything that runs but pods. Lives on the rig's thread.
#[derive(Debug)]
pub(super) struct ControlPlane {
    places: Places,
    units: Vec<Unit>,
    /// What took how long.
    pub(super) steps: Vec<(&'static str, Duration)>,
}

// === impl ControlPlane ===

impl ControlPlane {
    /// Starts everything; when it returns, istiod serves and judges what is written.
    pub(super) async fn start(places: Places) -> anyhow::Result<Self> {
        prepare(&places)?;
        let units = Component::ALL.map(|component| Unit::new(component, &places));
        let mut plane = Self {
            places,
            units: units.into(),
            steps: Vec::new(),
        };
        match plane.start_all().await {
            Ok(()) => Ok(plane),
            Err(error) => {
                plane.stop_all().await;
                Err(error)
            }
        }
    }

    async fn start_all(&mut self) -> anyhow::Result<()> {
        self.start_one(Component::Etcd).await?;
        self.start_one(Component::ApiServer).await?;
        let client = super::client(&admin(&self.places)).await?;

        let start = Instant::now();
        install_istio(&client, &self.places.programs).await?;
        self.steps.push(("Istio's resources", start.elapsed()));

        let start = Instant::now();
        let places = self.places.clone();
        let rest = self.units.iter_mut().skip(2).map(|unit| unit.start(&places));
        try_join_all(rest).await?;
        self.steps
            .push(("controllers, scheduler, istiod", start.elapsed()));

        let start = Instant::now();
        apply(&client, PLAIN_TEXT).await?;
        register_webhook(&client, &self.places.folder).await?;
        self.steps.push(("webhook", start.elapsed()));
        Ok(())
    }

    async fn start_one(&mut self, component: Component) -> anyhow::Result<()> {
        let start = Instant::now();
        let places = self.places.clone();
        self.unit(component)?.start(&places).await?;
        self.steps.push((component.name(), start.elapsed()));
        Ok(())
    }

    /// Starts a component that was stopped.
    pub(super) async fn restart(&mut self, component: Component) -> anyhow::Result<()> {
        let places = self.places.clone();
        self.unit(component)?.start(&places).await
    }

    /// Ends a component: at once, or as it is ended when a machine shuts down.
    pub(super) async fn stop(&mut self, component: Component, at_once: bool) -> anyhow::Result<()> {
        let unit = self.unit(component)?;
        if at_once {
            unit.kill().await;
        } else {
            unit.stop().await;
        }
        Ok(())
    }

    pub(super) async fn stop_all(&mut self) {
        for unit in self.units.iter_mut().rev() {
            unit.stop().await;
        }
    }

    /// Names and ids of its processes.
    pub(super) fn processes(&self) -> Vec<(&'static str, i32)> {
        let id = |unit: &Unit| Some((unit.component().name(), unit.id()?));
        self.units.iter().filter_map(id).collect()
    }

    fn unit(&mut self, component: Component) -> anyhow::Result<&mut Unit> {
        let found = self.units.iter_mut().find(|unit| unit.component() == component);
        found.context("no such component")
    }
}

/// Writes what the programs read.
fn prepare(places: &Places) -> anyhow::Result<()> {
    let folder = &places.folder;
    std::fs::create_dir_all(&places.logs)?;
    keys::write_token_key(folder)?;
    keys::write_webhook_certificate(folder)?;
    std::fs::write(folder.join("mesh.yaml"), MESH)?;
    std::fs::write(folder.join("audit.yaml"), AUDIT)?;
    let line = format!("{ADMIN_TOKEN},admin,admin,\"system:masters\"\n");
    std::fs::write(folder.join("tokens.csv"), line)?;
    write_kubeconfig(folder, &admin(places), ADMIN_TOKEN)
}

/// Writes a kubeconfig for whoever has this token.
pub(super) fn write_kubeconfig(folder: &Path, path: &Path, token: &str) -> anyhow::Result<()> {
    let text = serde_json::json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "rig", "cluster": {
            "server": "https://127.0.0.1:6443",
            "certificate-authority": folder.join("apiserver/apiserver.crt"),
        }}],
        "users": [{"name": "user", "user": {"token": token}}],
        "contexts": [{"name": "rig", "context": {"cluster": "rig", "user": "user"}}],
        "current-context": "rig",
    });
    std::fs::write(path, text.to_string()).with_context(|| format!("cannot write {}", path.display()))
}

/// Istio's custom resources, and its namespace.
async fn install_istio(client: &Client, programs: &Path) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(programs.join("istio-crds.yaml"))?;
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    let documents = serde_norway::Deserializer::from_str(&text);
    let resources = documents.map(Value::deserialize).collect::<Result<Vec<_>, _>>()?;
    let install = |resource: Value| {
        let api = api.clone();
        async move {
            let name = resource
                .pointer("/metadata/name")
                .and_then(Value::as_str)
                .context("a resource without a name")?;
            api.patch(name, &PatchParams::apply("rig"), &Patch::Apply(&resource))
                .await?;
            let established = kube::runtime::conditions::is_crd_established();
            let wait = kube::runtime::wait::await_condition(api.clone(), name, established);
            tokio::time::timeout(SOON, wait)
                .await
                .with_context(|| format!("{name} is not established within {SOON:?}"))??;
            anyhow::Ok(())
        }
    };
    try_join_all(
        resources
            .into_iter()
            .filter(|resource| !resource.is_null())
            .map(install),
    )
    .await?;
    apply(client, ISTIO_SYSTEM).await?;
    Ok(())
}

/// Registers istiod's judgement, as its chart does, and waits until it is in force.
async fn register_webhook(client: &Client, folder: &Path) -> anyhow::Result<()> {
    use k8s_openapi::ByteString;
    let certificate = std::fs::read(folder.join("webhook.crt"))?;
    let configuration = serde_json::json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": "istio-validator-istio-system"},
        "webhooks": [{
            "name": "rev.validation.istio.io",
            "clientConfig": {"url": "https://127.0.0.1:15017/validate", "caBundle": ByteString(certificate)},
            "rules": [{
                "operations": ["CREATE", "UPDATE"],
                "apiGroups": ["security.istio.io", "networking.istio.io", "telemetry.istio.io", "extensions.istio.io"],
                "apiVersions": ["*"],
                "resources": ["*"],
            }],
            "failurePolicy": "Fail",
            "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
        }],
    });
    apply(client, &configuration.to_string()).await?;
    let end = Instant::now() + SOON;
    // Until the webhook is in force the object is accepted; until istiod has its certificate the webhook fails.
    loop {
        let answer = apply_with(client, REFUSED, &PatchParams::apply("rig").dry_run()).await;
        if answer
            .as_ref()
            .is_err_and(|error| format!("{error:#}").contains("total locality weight"))
        {
            return Ok(());
        }
        if Instant::now() > end {
            bail!("istiod's webhook does not refuse a wrong rule within {SOON:?}: {answer:?}");
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
