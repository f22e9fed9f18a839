//! What runs, or may run, of each service in each area, out of the Kubernetes YAMLs that a configuration lists.

use std::collections::BTreeMap;

use super::config::{Application, ServiceKeys};
use super::files::Files;
use super::manifest::{self, Autoscaler, Object, Target, Workload, WorkloadKind};
use super::node::{Findings, Node};

/// Threshold where an autoscaler does not follow CPU: what muPlacer assumes.
const ASSUMED_THRESHOLD: f64 = 0.6;
/// What Kubernetes takes where an autoscaler names no metric.
/// Source: the `metrics` field of HorizontalPodAutoscalerSpec, `autoscaling/v2`.
const KUBERNETES_THRESHOLD: f64 = 0.8;
/// Largest threshold of a problem file.
const MAX_THRESHOLD: f64 = 10.0;

/// A service in an area.
#[derive(Debug)]
pub(super) struct Instance {
    pub(super) workload: Workload,
    pub(super) autoscaler: Option<Autoscaler>,
    /// Use over request at which replicas are added.
    pub(super) threshold: f64,
    /// Replicas that run even without load.
    pub(super) min_replicas: u32,
}

/// A service's instances.
#[derive(Debug)]
pub(super) struct Instances {
    pub(super) cloud: Instance,
    /// None: it has no YAMLs for the edge, so it stays in the cloud.
    pub(super) edge: Option<Instance>,
}

/// Reads the instances of services, counting the objects that say nothing about a placement.
#[derive(Debug)]
pub(super) struct Reader<'f> {
    files: &'f mut Files,
    app: &'f Application,
    /// Objects of other kinds.
    pub(super) others: BTreeMap<String, usize>,
}

/// What was found in the files of a service and area.
#[derive(Default)]
struct Found {
    workload: Option<Workload>,
    autoscaler: Option<Autoscaler>,
}

// === impl Instances ===

impl Instances {
    /// Whether any of them stores what does not move with it.
    pub(super) fn hold_state(&self) -> bool {
        let holds = |instance: &Instance| instance.workload.kind == WorkloadKind::StatefulSet;
        holds(&self.cloud) || self.edge.as_ref().is_some_and(holds)
    }

    /// Whether any of them requests CPU, so that its use decides on replicas.
    pub(super) fn request_cpu(&self) -> bool {
        let requests = |instance: &Instance| instance.workload.cpu.is_some();
        requests(&self.cloud) || self.edge.as_ref().is_some_and(requests)
    }
}

// === impl Reader ===

impl<'f> Reader<'f> {
    /// A reader that has counted nothing.
    pub(super) fn new(files: &'f mut Files, app: &'f Application) -> Self {
        Self {
            files,
            app,
            others: BTreeMap::new(),
        }
    }

    /// A service's instances; nothing where they cannot be told, and then the findings say why.
    pub(super) fn read(&mut self, service: &ServiceKeys, findings: &mut Findings) -> Option<Instances> {
        let errors = findings.errors.len();
        let cloud = self.read_area(service, "cloud-yamls", &service.cloud_yamls, findings);
        let edge = self.read_area(service, "edge-yamls", &service.edge_yamls, findings);
        if cloud.is_none() && service.cloud_yamls.is_empty() {
            findings.error(
                format!("{}.instances.cloud-yamls", service.at),
                "lists no file: the cloud runs every service, so list its workload and its autoscaler",
            );
        }
        if service.edge_yamls.is_empty() {
            findings.warn(
                format!("{}.instances.edge-yamls", service.at),
                format!(
                    "lists no file: `{}` is pinned to the cloud (muPlacer ends here)",
                    service.name
                ),
            );
        }
        if findings.errors.len() > errors {
            return None;
        }
        Some(Instances { cloud: cloud?, edge })
    }

    fn read_area(
        &mut self,
        service: &ServiceKeys,
        key: &str,
        paths: &[String],
        findings: &mut Findings,
    ) -> Option<Instance> {
        let mut found = Found::default();
        let errors = findings.errors.len();
        for (position, path) in paths.iter().enumerate() {
            let at = format!("{}.instances.{key}[{position}]", service.at);
            let Some(full) = findings.take(&at, self.files.find(path)) else {
                continue;
            };
            let documents = self.files.documents(&full).map_err(|error| error.to_string());
            let Some(documents) = findings.take(&at, documents) else {
                continue;
            };
            for (number, value) in documents.iter().enumerate() {
                let file = if documents.len() > 1 {
                    format!("{path} (document {})", number + 1)
                } else {
                    path.clone()
                };
                let root = Node::document(&file, String::new(), value);
                // `kubectl get -o yaml` writes lists.
                let objects = if root.key("kind").scalar().as_deref() == Some("List") {
                    root.key("items").list(findings)
                } else {
                    vec![root]
                };
                for object in &objects {
                    self.take(object, service, key, &mut found, findings);
                }
            }
        }
        let Some(workload) = found.workload else {
            if !paths.is_empty() && findings.errors.len() == errors {
                findings.error(
                    format!("{}.instances.{key}", service.at),
                    "has no Deployment, StatefulSet or DaemonSet in its files: list the one of this service and area",
                );
            }
            return None;
        };
        Some(instance(self.app, service, workload, found.autoscaler, findings))
    }

    fn take(
        &mut self,
        node: &Node<'_>,
        service: &ServiceKeys,
        key: &str,
        found: &mut Found,
        findings: &mut Findings,
    ) {
        let second = |name: &str, first: &str| {
            format!(
                "`{name}` is a second one for service `{}` in its {key}, after `{first}`: keep one, or make two services \
                 of it (muPlacer ends here)",
                service.name
            )
        };
        match manifest::read(node, findings) {
            Some(Object::Workload(workload)) => match &found.workload {
                Some(first) => findings.error(node, second(&workload.name, &first.name)),
                None => found.workload = Some(workload),
            },
            Some(Object::Autoscaler(autoscaler)) => match &found.autoscaler {
                Some(first) => findings.error(node, second(&autoscaler.name, &first.name)),
                None => found.autoscaler = Some(autoscaler),
            },
            Some(Object::Other(kind)) => *self.others.entry(kind).or_default() += 1,
            None => {}
        }
    }
}

// === free functions ===

fn instance(
    app: &Application,
    service: &ServiceKeys,
    workload: Workload,
    autoscaler: Option<Autoscaler>,
    findings: &mut Findings,
) -> Instance {
    if workload.app.as_deref().is_some_and(|app| app != service.name) {
        findings.warn(
            &workload.at,
            format!(
                "labels its pods app: {}, not app: {}: muPlacer's queries find a service by that label",
                workload.app.as_deref().unwrap_or_default(),
                service.name
            ),
        );
    }
    if !workload.from_limit.is_empty() {
        findings.warn(
            &workload.at,
            format!(
                "{}: no request, so the limit is taken, as Kubernetes does; muPlacer takes 0",
                workload.from_limit.join(", ")
            ),
        );
    }
    match workload.kind {
        WorkloadKind::Deployment => {}
        WorkloadKind::StatefulSet if app.is_locked(&service.name) => {}
        WorkloadKind::StatefulSet => findings.warn(
            &workload.at,
            "is a StatefulSet: pinned to the cloud, because what it stores does not move with it. If it may run at the \
             edge, set the service's `pin: free` (muPlacer starts it there, but scales it in vain, as a Deployment)",
        ),
        WorkloadKind::DaemonSet => findings.warn(
            &workload.at,
            "is a DaemonSet, which has a pod on each node whatever the load: set `minReplicas` to the number of nodes",
        ),
    }
    let (threshold, min_replicas) = match &autoscaler {
        Some(autoscaler) => (threshold(autoscaler, &workload, findings), autoscaler.min),
        None => {
            findings.warn(
                &workload.at,
                format!(
                    "has no HorizontalPodAutoscaler in the list (muPlacer ends here): taken as {} replicas, and more only \
                     where the load exceeds what they request",
                    workload.replicas
                ),
            );
            (1.0, workload.replicas)
        }
    };
    Instance {
        workload,
        autoscaler,
        threshold,
        min_replicas,
    }
}

fn threshold(autoscaler: &Autoscaler, workload: &Workload, findings: &mut Findings) -> f64 {
    if let Some(scales) = &autoscaler.scales
        && *scales != workload.name
    {
        findings.warn(
            &autoscaler.at,
            format!(
                "scales `{scales}`, not `{}`, the workload listed with it",
                workload.name
            ),
        );
    }
    match autoscaler.target {
        Target::Utilization(threshold) => threshold,
        Target::CoresPerPod(cores) => match workload.cpu {
            Some(request) => (cores / request).min(MAX_THRESHOLD),
            None => {
                findings.warn(
                    &autoscaler.at,
                    "has a target in cores; without a CPU request, 60 % are taken",
                );
                ASSUMED_THRESHOLD
            }
        },
        Target::KubernetesDefault => {
            findings.warn(
                &autoscaler.at,
                "names no metric: 80 % of the CPU request are taken, as Kubernetes does; muPlacer takes 60 %",
            );
            KUBERNETES_THRESHOLD
        }
        Target::NotCpu => {
            findings.warn(
                &autoscaler.at,
                "does not scale on CPU, which is all that the model follows: 60 % of the CPU request are taken",
            );
            ASSUMED_THRESHOLD
        }
    }
}
