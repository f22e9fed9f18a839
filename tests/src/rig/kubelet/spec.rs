//! What of a pod's definition the stand-in reads.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, EnvVar, Pod};

use super::proxy::{DRAIN, Role};

/// Asks for an address, as with Calico: a `Gateway` or `Sidecar` can name it before the pod is there.
pub const ADDRESS_ANNOTATION: &str = "cni.projectcalico.org/ipAddrs";

/// Name of the proxy's container.
pub(super) const PROXY: &str = "istio-proxy";

/// A pod, read once: it does not change but for its status.
#[derive(Clone, Debug)]
pub(super) struct PodSpec {
    pub(super) uid: String,
    pub(super) name: String,
    pub(super) namespace: String,
    pub(super) node: String,
    /// Its Deployment, or itself.
    pub(super) workload: String,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) containers: Vec<Container>,
    /// The proxy that Istio would inject.
    pub(super) proxy: Option<Role>,
    /// How long the proxy goes on when the pod ends.
    pub(super) drain: Duration,
    pub(super) wanted_address: Option<IpAddr>,
    service_account: String,
}

// === impl PodSpec ===

impl PodSpec {
    /// None: bound to no node, or it has ended.
    pub(super) fn of(pod: &Pod) -> Option<Self> {
        let spec = pod.spec.as_ref()?;
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        if matches!(phase, Some("Succeeded" | "Failed")) {
            return None;
        }
        let labels = pod.metadata.labels.clone().unwrap_or_default();
        let annotations = pod.metadata.annotations.clone().unwrap_or_default();
        let name = pod.metadata.name.clone()?;
        Some(Self {
            uid: pod.metadata.uid.clone()?,
            namespace: pod.metadata.namespace.clone()?,
            node: spec.node_name.clone()?,
            workload: workload(pod, &name, &labels),
            proxy: proxy(&labels, &annotations),
            drain: drain(&annotations).unwrap_or(DRAIN),
            wanted_address: annotations
                .get(ADDRESS_ANNOTATION)
                .and_then(|list| serde_json::from_str::<Vec<IpAddr>>(list).ok()?.first().copied()),
            containers: spec.containers.clone(),
            service_account: spec.service_account_name.clone().unwrap_or_default(),
            name,
            labels,
        })
    }

    /// How long a container sleeps before SIGTERM.
    pub(super) fn pre_stop(&self, container: &str) -> Duration {
        let found = self.containers.iter().find(|found| found.name == container);
        let hook = found.and_then(|found| found.lifecycle.as_ref()?.pre_stop.as_ref());
        let seconds = hook.and_then(|hook| Some(hook.sleep.as_ref()?.seconds));
        Duration::from_secs(seconds.unwrap_or_default().try_into().unwrap_or_default())
    }

    /// A container's environment; fields that it may refer to are the pod's.
    pub(super) fn environment(&self, container: &Container, ip: IpAddr) -> Vec<(String, String)> {
        let variables = container.env.iter().flatten();
        variables
            .map(|variable| (variable.name.clone(), self.value(variable, ip)))
            .collect()
    }

    fn value(&self, variable: &EnvVar, ip: IpAddr) -> String {
        let source = variable.value_from.as_ref();
        let Some(field) = source.and_then(|source| source.field_ref.as_ref()) else {
            let value = variable.value.clone().unwrap_or_default();
            // A variable of the same pod, as Kubernetes expands it.
            return value.replace("$(POD_IP)", &ip.to_string());
        };
        match field.field_path.as_str() {
            "metadata.name" => self.name.clone(),
            "metadata.namespace" => self.namespace.clone(),
            "spec.nodeName" => self.node.clone(),
            "spec.serviceAccountName" => self.service_account.clone(),
            "status.podIP" => ip.to_string(),
            _ => String::new(),
        }
    }
}

/// Replaces `$(NAME)` by the value of a container's environment.
pub(super) fn expand(argument: &str, environment: &[(String, String)]) -> String {
    environment
        .iter()
        .fold(argument.to_owned(), |text, (name, value)| {
            text.replace(&format!("$({name})"), value)
        })
}

/// Istio calls a workload by its Deployment: the name of the pod's ReplicaSet without the hash.
fn workload(pod: &Pod, name: &str, labels: &BTreeMap<String, String>) -> String {
    let owners = pod.metadata.owner_references.iter().flatten();
    let set = owners.into_iter().find(|owner| owner.kind == "ReplicaSet");
    let hash = labels.get("pod-template-hash");
    match (set, hash) {
        (Some(set), Some(hash)) => set.name.trim_end_matches(&format!("-{hash}")).to_owned(),
        _ => name.to_owned(),
    }
}

/// The proxy that Istio's injection would add.
fn proxy(labels: &BTreeMap<String, String>, annotations: &BTreeMap<String, String>) -> Option<Role> {
    let is_injected = labels
        .get("sidecar.istio.io/inject")
        .is_some_and(|value| value == "true");
    let template = annotations.get("inject.istio.io/templates").map(String::as_str);
    is_injected.then_some(match template {
        Some("gateway") => Role::Router,
        _ => Role::Sidecar,
    })
}

/// `terminationDrainDuration` of the proxy's configuration, in whole seconds as `60s`.
fn drain(annotations: &BTreeMap<String, String>) -> Option<Duration> {
    let text = annotations.get("proxy.istio.io/config")?;
    let config: serde_json::Value = serde_norway::from_str(text).ok()?;
    let seconds = config.get("terminationDrainDuration")?.as_str()?;
    Some(Duration::from_secs(seconds.trim_end_matches('s').parse().ok()?))
}
