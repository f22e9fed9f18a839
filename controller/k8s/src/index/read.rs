//! Objects of the API as plain values.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use k8s_openapi::api::apps::v1 as apps;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde::Serialize;

use super::objects::{Autoscaler, Deployment, Node, Owner, Placed, Pod, PodPort, Port, Service, Target};
use crate::act::{OBJECT_ANNOTATION, REPLICAS_ANNOTATION};
use crate::derive;
use crate::locality::Locality;
use crate::settings::quantity;

/// Name of the proxy's container.
pub(crate) const PROXY: &str = "istio-proxy";
/// Set by Istio's injection.
pub(crate) const INJECTED: &str = "sidecar.istio.io/status";
/// Reasons of a waiting container that time alone does not end.
const FAILURES: [&str; 6] = [
    "CrashLoopBackOff",
    "CreateContainerConfigError",
    "CreateContainerError",
    "ErrImagePull",
    "ImagePullBackOff",
    "InvalidImageName",
];

pub(crate) fn node(node: core::Node) -> Option<Node> {
    let labels = node.metadata.labels.unwrap_or_default();
    let spec = node.spec.unwrap_or_default();
    let is_cordoned = spec.unschedulable == Some(true);
    let conditions = node
        .status
        .and_then(|status| status.conditions)
        .unwrap_or_default();
    let is_ready = conditions
        .iter()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True");
    Some(Node {
        locality: Locality::of_node(&labels),
        is_usable: is_ready && !is_cordoned,
        taints: spec.taints.unwrap_or_default(),
    })
}

pub(crate) fn pod(pod: core::Pod) -> Option<Pod> {
    let spec = pod.spec?;
    let status = pod.status.unwrap_or_default();
    let owner = owner(&pod.metadata);
    let is_over = matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"));
    let is_ending = pod.metadata.deletion_timestamp.is_some() || is_over;
    let labels = pod.metadata.labels.unwrap_or_default();
    let annotations = pod.metadata.annotations.unwrap_or_default();
    let containers = || {
        spec.containers
            .iter()
            .chain(spec.init_containers.iter().flatten())
    };
    let ports = containers().flat_map(|container| container.ports.iter().flatten());
    let has_claim = |volume: &core::Volume| volume.persistent_volume_claim.is_some();
    let is_ready = status
        .conditions
        .iter()
        .flatten()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True");
    Some(Pod {
        name: pod.metadata.name.unwrap_or_default(),
        cpu_cores: requested(&spec, "cpu"),
        memory_bytes: requested(&spec, "memory"),
        has_proxy: containers().any(|container| container.name == PROXY)
            || annotations.contains_key(INJECTED)
            || labels
                .get("sidecar.istio.io/inject")
                .is_some_and(|value| value == "true"),
        ports: ports
            .filter_map(|port| {
                Some(PodPort {
                    name: port.name.clone()?,
                    port: u16::try_from(port.container_port).ok()?,
                })
            })
            .collect(),
        // Istio writes it with dots, for a label has no slash.
        locality: labels
            .get("istio-locality")
            .map(|label| Locality::parse(&label.replace('.', "/"))),
        has_volume_claim: spec.volumes.iter().flatten().any(has_claim),
        node: spec.node_name,
        labels,
        is_ready,
        is_ending,
        failure: failure(&status),
        unschedulable: unschedulable(&status),
        owner,
    })
}

/// The Deployment is the ReplicaSet's name without the hash that the pod's label gives.
fn owner(metadata: &ObjectMeta) -> Option<Owner> {
    let owners = metadata.owner_references.as_ref()?;
    let owner = owners.iter().find(|owner| owner.controller == Some(true))?;
    if owner.kind != "ReplicaSet" {
        return Some(Owner::Other(owner.kind.clone()));
    }
    let hash = metadata.labels.as_ref()?.get("pod-template-hash")?;
    let name = owner.name.strip_suffix(hash.as_str())?.strip_suffix('-')?;
    Some(Owner::Deployment(name.to_owned()))
}

fn failure(status: &core::PodStatus) -> Option<String> {
    let containers = status.container_statuses.iter().flatten();
    let containers = containers.chain(status.init_container_statuses.iter().flatten());
    let waiting = containers.filter_map(|container| {
        let waiting = container.state.as_ref()?.waiting.as_ref()?;
        let reason = waiting.reason.as_deref()?;
        FAILURES
            .contains(&reason)
            .then(|| format!("container {}: {reason}", container.name))
    });
    waiting.into_iter().next()
}

fn unschedulable(status: &core::PodStatus) -> Option<String> {
    let mut conditions = status.conditions.iter().flatten();
    let condition = conditions.find(|one| one.type_ == "PodScheduled" && one.status == "False")?;
    let reason = condition.reason.as_deref().unwrap_or("it has no node");
    let message = condition.message.as_deref().filter(|message| !message.is_empty());
    Some(message.map_or_else(|| reason.to_owned(), |message| format!("{reason}: {message}")))
}

/// A Service without a selector has no pods of its own: nothing of it can be moved.
pub(crate) fn service(service: core::Service) -> Option<Service> {
    let spec = service.spec?;
    let selector = spec.selector.filter(|selector| !selector.is_empty())?;
    let ports = spec.ports.unwrap_or_default();
    Some(Service {
        selector,
        ports: ports.into_iter().filter_map(port).collect(),
    })
}

fn port(port: core::ServicePort) -> Option<Port> {
    let number = u16::try_from(port.port).ok()?;
    let target = match port.target_port {
        Some(IntOrString::Int(target)) if target > 0 => Target::Number(u16::try_from(target).ok()?),
        Some(IntOrString::String(name)) => Target::Name(name),
        Some(IntOrString::Int(_)) | None => Target::Number(number),
    };
    Some(Port { port: number, target })
}

pub(crate) fn deployment(deployment: apps::Deployment) -> Option<Deployment> {
    let name = deployment.metadata.name.unwrap_or_default();
    let annotations = deployment.metadata.annotations.unwrap_or_default();
    let mut spec = deployment.spec.unwrap_or_default();
    let replicas = spec.replicas.take().unwrap_or(1);
    let template = fingerprint(&spec);
    let obstacle = serde_json::to_value(&spec.template)
        .ok()
        .and_then(|template| derive::obstacle(&name, &template));
    let pod_labels = spec.template.metadata.and_then(|metadata| metadata.labels);
    let pod = spec.template.spec.unwrap_or_default();
    let conditions = deployment.status.and_then(|status| status.conditions);
    let failed = conditions
        .into_iter()
        .flatten()
        .find(|condition| condition.type_ == "ReplicaFailure" && condition.status == "True");
    Some(Deployment {
        replicas: u32::try_from(replicas).unwrap_or_default(),
        cpu_cores: requested(&pod, "cpu"),
        memory_bytes: requested(&pod, "memory"),
        restore: restore(&annotations),
        object: annotations.get(OBJECT_ANNOTATION).cloned(),
        labels: deployment.metadata.labels.unwrap_or_default(),
        pod_labels: pod_labels.unwrap_or_default(),
        template,
        obstacle: obstacle.map(|refused| refused.to_string()),
        failure: failed.and_then(|condition| condition.message),
    })
}

/// Tells two values of one process apart.
fn fingerprint(value: &impl Serialize) -> u64 {
    let mut hasher = DefaultHasher::new();
    serde_json::to_vec(value).unwrap_or_default().hash(&mut hasher);
    hasher.finish()
}

/// What the containers of a pod request of a resource, in its base unit: those that run as long as the pod does, native
/// sidecars among them, as an autoscaler counts.
fn requested(pod: &core::PodSpec, resource: &str) -> Option<f64> {
    let sidecars = pod.init_containers.iter().flatten();
    let sidecars = sidecars.filter(|container| container.restart_policy.as_deref() == Some("Always"));
    let requests = pod
        .containers
        .iter()
        .chain(sidecars)
        .filter_map(|container| container.resources.as_ref()?.requests.as_ref());
    let amounts = requests.filter_map(|requests| quantity(&requests.get(resource)?.0));
    amounts.reduce(|sum, amount| sum + amount)
}

fn restore(annotations: &BTreeMap<String, String>) -> Option<Placed> {
    Some(Placed {
        object: annotations.get(OBJECT_ANNOTATION)?.clone(),
        replicas: annotations.get(REPLICAS_ANNOTATION)?.parse().ok()?,
    })
}

pub(crate) fn autoscaler(autoscaler: HorizontalPodAutoscaler) -> Option<Autoscaler> {
    let spec = autoscaler.spec?;
    let annotations = autoscaler.metadata.annotations.unwrap_or_default();
    let desired = autoscaler.status.map_or(0, |status| status.desired_replicas);
    (spec.scale_target_ref.kind == "Deployment").then(|| Autoscaler {
        spec: fingerprint(&spec),
        object: annotations.get(OBJECT_ANNOTATION).cloned(),
        deployment: spec.scale_target_ref.name,
        desired: u32::try_from(desired).unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pod_is_read_with_its_owner_and_what_keeps_it_from_starting() {
        let object = json!({
            "metadata": {
                "name": "cart-cloud-5d8-x", "namespace": "shop",
                "labels": {"app": "cart", "pod-template-hash": "5d8", "istio-locality": "eu.a"},
                "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "cart-cloud-5d8",
                    "uid": "1", "controller": true}],
            },
            "spec": {
                "nodeName": "n1",
                "containers": [{"name": "app", "ports": [{"name": "http", "containerPort": 8080}]}, {"name": "istio-proxy"}],
                "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}],
            },
            "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "False"}],
                "containerStatuses": [{"name": "app", "image": "", "imageID": "", "ready": false, "restartCount": 3,
                    "state": {"waiting": {"reason": "CrashLoopBackOff"}}}]},
        });
        let pod = pod(serde_json::from_value(object).unwrap()).unwrap();
        assert_eq!(pod.owner, Some(Owner::Deployment("cart-cloud".to_owned())));
        assert_eq!(pod.failure.as_deref(), Some("container app: CrashLoopBackOff"));
        assert_eq!(pod.locality, Some(Locality::parse("eu/a")));
        assert!(pod.has_proxy && pod.has_volume_claim && !pod.is_ready && !pod.is_ending);
        assert_eq!(
            pod.ports,
            [PodPort {
                name: "http".to_owned(),
                port: 8080
            }]
        );
    }

    #[test]
    fn a_service_without_selector_has_no_pods() {
        let read = |spec| service(serde_json::from_value(json!({"metadata": {}, "spec": spec})).unwrap());
        assert_eq!(read(json!({"ports": [{"port": 80}]})), None);
        let ports = json!([
            {"port": 80, "targetPort": "http"}, {"port": 81, "targetPort": 8081}, {"port": 82},
        ]);
        let service = read(json!({"selector": {"app": "cart"}, "ports": ports})).unwrap();
        let targets: Vec<Target> = service.ports.into_iter().map(|port| port.target).collect();
        assert_eq!(
            targets,
            [
                Target::Name("http".to_owned()),
                Target::Number(8081),
                Target::Number(82)
            ]
        );
    }

    #[test]
    fn a_deployment_without_a_count_has_one_and_an_annotation_that_is_no_number_restores_nothing() {
        let read = |annotations| {
            let containers = json!([
                {"name": "a", "resources": {"requests": {"cpu": "250m", "memory": "1Gi"}}},
                {"name": "b", "resources": {"requests": {"cpu": "1"}}}, {"name": "c"},
            ]);
            let first = json!([
                {"name": "proxy", "restartPolicy": "Always", "resources": {"requests": {"cpu": "100m"}}},
                {"name": "copy", "resources": {"requests": {"cpu": "8"}}},
            ]);
            let object = json!({"metadata": {"annotations": annotations},
                "spec": {"selector": {}, "template": {"spec": {"containers": containers, "initContainers": first}}}});
            deployment(serde_json::from_value(object).unwrap()).unwrap()
        };
        let plain = read(json!({}));
        assert_eq!(
            (plain.cpu_cores, plain.memory_bytes),
            (Some(1.35), Some(1_073_741_824.0))
        );
        assert_eq!((plain.replicas, plain.restore), (1, None));
        let bad = read(json!({OBJECT_ANNOTATION: "shop/shop", REPLICAS_ANNOTATION: "many"}));
        assert_eq!(bad.restore, None);
        let good = read(json!({OBJECT_ANNOTATION: "shop/shop", REPLICAS_ANNOTATION: "0"}));
        assert_eq!(good.restore.map(|placed| placed.replicas), Some(0));
    }
}
