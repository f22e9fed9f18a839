//! The plain values.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Taint;

use crate::api::EdgePlacement;
use crate::locality::Locality;

/// A node.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Node {
    /// By its labels.
    pub locality: Locality,
    /// Condition Ready, and not cordoned.
    pub is_usable: bool,
    /// Its taints.
    pub taints: Vec<Taint>,
}

/// A pod.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pod {
    /// Its name.
    pub name: String,
    /// Its node, once it is scheduled.
    pub node: Option<String>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Locality by its own label `istio-locality`, which wins over its node's.
    pub locality: Option<Locality>,
    /// Ports of its containers that have a name.
    pub ports: Vec<PodPort>,
    /// Whether a proxy of the mesh is in it.
    pub has_proxy: bool,
    /// Condition Ready.
    pub is_ready: bool,
    /// Being deleted, or its containers ended for good.
    pub is_ending: bool,
    /// Why it does not start, where that is known and time alone does not end it.
    pub failure: Option<String>,
    /// Why it has no node yet, in the scheduler's words.
    pub unschedulable: Option<String>,
    /// What made it.
    pub owner: Option<Owner>,
    /// Whether it holds a volume claim.
    pub has_volume_claim: bool,
    /// CPU that it requests, with what injection added.
    pub cpu_cores: Option<f64>,
    /// Memory that it requests, likewise.
    pub memory_bytes: Option<f64>,
}

/// What a pod uses.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct InUse {
    /// CPU.
    pub cpu_cores: f64,
    /// Memory.
    pub memory_bytes: f64,
}

/// A port of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodPort {
    /// Its name.
    pub name: String,
    /// Its number.
    pub port: u16,
}

/// What made a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owner {
    /// A Deployment, by its name.
    Deployment(String),
    /// Anything else, by its kind.
    Other(String),
}

/// A Service with a selector.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Service {
    /// Labels of its pods; never empty.
    pub selector: BTreeMap<String, String>,
    /// Where its ports lead.
    pub ports: Vec<Port>,
}

/// A port of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// Its number.
    pub port: u16,
    /// Where it leads.
    pub target: Target,
}

/// Where a port leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// To this port of the pod.
    Number(u16),
    /// To the port of the pod with this name.
    Name(String),
}

/// A Deployment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Deployment {
    /// Wanted replicas.
    pub replicas: u32,
    /// CPU that a replica requests, cores; none where no container says.
    pub cpu_cores: Option<f64>,
    /// Memory that a replica requests, bytes; none where no container says.
    pub memory_bytes: Option<f64>,
    /// Its annotation of what is to be restored.
    pub restore: Option<Placed>,
    /// Object on whose behalf it was made or changed, `namespace/name`.
    pub object: Option<String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Labels of its pods.
    pub pod_labels: BTreeMap<String, String>,
    /// Changes with what its pods are made of, and not with its count.
    pub template: u64,
    /// Why its pods can't be copied to an edge, where that is so.
    pub obstacle: Option<String>,
    /// Why no pod can be made, where that is so (e.g. a quota).
    pub failure: Option<String>,
}

/// What is to be restored of a Deployment that is scaled for an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    /// Object, `namespace/name`.
    pub object: String,
    /// Replicas before.
    pub replicas: u32,
}

/// A `HorizontalPodAutoscaler` of a Deployment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Autoscaler {
    /// The Deployment that it owns the count of.
    pub deployment: String,
    /// What it wants now; 0 before it has looked.
    pub desired: u32,
    /// Object on whose behalf it was made, `namespace/name`.
    pub object: Option<String>,
    /// Changes with its spec.
    pub spec: u64,
}

/// An `EdgePlacement` as it is stored; one that an older schema let pass may not be readable.
#[derive(Clone, Debug)]
pub struct StoredObject {
    /// Tells apart two that had the same name.
    pub uid: String,
    /// Version of its spec.
    pub generation: i64,
    /// When it was created, as RFC 3339: sorts by age.
    pub created: String,
    /// Whether it is being deleted.
    pub is_deleted: bool,
    /// Whether our finalizer is on it.
    pub has_finalizer: bool,
    /// The object, or what is wrong with it.
    pub object: Result<Box<EdgePlacement>, String>,
}
