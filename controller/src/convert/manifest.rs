//! The few fields of Kubernetes objects that a placement needs: what a pod requests and how its replicas follow the load.

use serde_norway::Value;

use super::node::{Findings, Node};
use super::quantity::quantity;

/// A kind of workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WorkloadKind {
    Deployment,
    StatefulSet,
    DaemonSet,
}

/// A workload: a pod template and its replicas.
#[derive(Clone, Debug)]
pub(super) struct Workload {
    pub(super) kind: WorkloadKind,
    pub(super) name: String,
    /// Where it was found.
    pub(super) at: String,
    /// `spec.replicas`; Kubernetes' default where absent.
    pub(super) replicas: u32,
    /// Cores that a pod requests; none where no container requests any.
    pub(super) cpu: Option<f64>,
    /// Bytes that a pod requests; none where no container requests any.
    pub(super) memory: Option<f64>,
    /// Containers without a CPU request, of all that run all the time.
    pub(super) without_cpu: Vec<String>,
    /// Containers whose request is their limit, because they have no request.
    pub(super) from_limit: Vec<String>,
    /// The pods' `app` label.
    pub(super) app: Option<String>,
}

/// A HorizontalPodAutoscaler.
#[derive(Clone, Debug)]
pub(super) struct Autoscaler {
    pub(super) name: String,
    pub(super) at: String,
    pub(super) min: u32,
    pub(super) max: Option<u32>,
    pub(super) target: Target,
    /// Name of the workload that it scales.
    pub(super) scales: Option<String>,
}

/// At which CPU use an autoscaler adds replicas.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Target {
    /// Use over request.
    Utilization(f64),
    /// Cores in use a pod.
    CoresPerPod(f64),
    /// The object names no metric: Kubernetes takes 80 % of the CPU request.
    KubernetesDefault,
    /// It scales on other metrics than CPU.
    NotCpu,
}

/// What an object is to a conversion.
#[derive(Debug)]
pub(super) enum Object {
    Workload(Workload),
    Autoscaler(Autoscaler),
    /// Another kind, e.g. a Service.
    Other(String),
}

/// Reads an object. Nothing where it is broken: then the findings say so.
pub(super) fn read(node: &Node<'_>, findings: &mut Findings) -> Option<Object> {
    let kind_node = node.key("kind");
    let Some(kind) = kind_node.scalar() else {
        findings.error(&kind_node, "is missing: only Kubernetes objects may be listed");
        return None;
    };
    let workload = |kind| (kind, findings_name(node));
    let (kind, name) = match kind.as_str() {
        "Deployment" => workload(WorkloadKind::Deployment),
        "StatefulSet" => workload(WorkloadKind::StatefulSet),
        "DaemonSet" => workload(WorkloadKind::DaemonSet),
        "HorizontalPodAutoscaler" => {
            return read_autoscaler(node, findings).map(Object::Autoscaler);
        }
        _ => return Some(Object::Other(kind)),
    };
    read_workload(node, kind, name, findings).map(Object::Workload)
}

fn findings_name(node: &Node<'_>) -> Option<String> {
    node.keys(&["metadata", "name"]).scalar()
}

fn require_name(node: &Node<'_>, name: Option<String>, findings: &mut Findings) -> Option<String> {
    if name.is_none() {
        findings.error(node.keys(&["metadata", "name"]), "is missing: name the object");
    }
    name
}

fn read_workload(
    node: &Node<'_>,
    kind: WorkloadKind,
    name: Option<String>,
    findings: &mut Findings,
) -> Option<Workload> {
    let name = require_name(node, name, findings)?;
    let spec = node.key("spec");
    let pod = spec.keys(&["template", "spec"]);
    let containers_node = pod.key("containers");
    let mut containers = containers_node.list(findings);
    if containers.is_empty() {
        findings.error(&containers_node, "has no entry: a pod has at least one container");
        return None;
    }
    // An init container that always restarts runs beside the others and counts like them.
    let sidecars = pod.key("initContainers").items().into_iter();
    containers.extend(
        sidecars.filter(|container| container.key("restartPolicy").scalar().as_deref() == Some("Always")),
    );
    let mut workload = Workload {
        kind,
        name,
        at: node.to_string(),
        replicas: spec.key("replicas").count(findings).unwrap_or(1),
        cpu: None,
        memory: None,
        without_cpu: Vec::new(),
        from_limit: Vec::new(),
        app: spec.keys(&["template", "metadata", "labels", "app"]).scalar(),
    };
    for (position, container) in containers.iter().enumerate() {
        let name = container
            .key("name")
            .scalar()
            .unwrap_or_else(|| format!("#{position}"));
        let cpu = request(container, "cpu", &name, &mut workload.from_limit, findings);
        if cpu.is_none() {
            workload.without_cpu.push(name.clone());
        }
        add(&mut workload.cpu, cpu);
        let memory = request(container, "memory", &name, &mut workload.from_limit, findings);
        add(&mut workload.memory, memory);
    }
    Some(workload)
}

/// What a container requests: where only a limit is given, the API server makes it the request. A request of 0 is none.
fn request(
    container: &Node<'_>,
    resource: &str,
    name: &str,
    from_limit: &mut Vec<String>,
    findings: &mut Findings,
) -> Option<f64> {
    let resources = container.key("resources");
    let request = resources.keys(&["requests", resource]);
    let limit = resources.keys(&["limits", resource]);
    let node = if request.value().is_some() {
        request
    } else {
        if limit.value().is_some() {
            from_limit.push(format!("{name} ({resource})"));
        }
        limit
    };
    let value = node.value()?;
    findings
        .take(&node, quantity(value))
        .filter(|amount| *amount > 0.0)
}

fn add(sum: &mut Option<f64>, amount: Option<f64>) {
    if let Some(amount) = amount {
        *sum = Some(sum.unwrap_or(0.0) + amount);
    }
}

fn read_autoscaler(node: &Node<'_>, findings: &mut Findings) -> Option<Autoscaler> {
    let name = require_name(node, findings_name(node), findings)?;
    let spec = node.key("spec");
    let max_node = spec.key("maxReplicas");
    let max = max_node.count(findings);
    if max_node.value().is_none() {
        findings.warn(
            &max_node,
            "is missing, which neither Kubernetes nor muPlacer accepts",
        );
    }
    let min = spec.key("minReplicas").count(findings).unwrap_or(1);
    if let Some(max) = max
        && min > max
    {
        findings.error(
            spec.key("minReplicas"),
            format!("is {min}, above maxReplicas, {max}: lower it"),
        );
    }
    Some(Autoscaler {
        name,
        at: node.to_string(),
        min,
        max,
        target: target(&spec, findings)?,
        scales: spec.keys(&["scaleTargetRef", "name"]).scalar(),
    })
}

fn target(spec: &Node<'_>, findings: &mut Findings) -> Option<Target> {
    let v1 = spec.key("targetCPUUtilizationPercentage");
    if v1.value().is_some() {
        return utilization(&v1, findings);
    }
    let metrics = spec.key("metrics").list(findings);
    if metrics.is_empty() {
        return Some(Target::KubernetesDefault);
    }
    let Some((position, resource)) = metrics
        .iter()
        .enumerate()
        .find_map(|(position, metric)| Some((position, of_cpu(metric)?)))
    else {
        return Some(Target::NotCpu);
    };
    if position > 0 {
        findings.warn(
            &resource,
            "is not the first metric: muPlacer reads the first one, whatever it measures; this one is used here",
        );
    }
    let target = resource.key("target");
    let (utilized, average) = (target.key("averageUtilization"), target.key("averageValue"));
    if utilized.value().is_some() {
        return utilization(&utilized, findings);
    }
    match average.value() {
        Some(value) => findings
            .take(&average, cores_per_pod(value))
            .map(Target::CoresPerPod),
        None => {
            findings.error(
                &target,
                "has neither averageUtilization nor averageValue: add one",
            );
            None
        }
    }
}

/// What a metric says of the CPU, of the pod or of one container; nothing where it measures something else.
fn of_cpu<'a>(metric: &Node<'a>) -> Option<Node<'a>> {
    ["resource", "containerResource"]
        .into_iter()
        .map(|kind| metric.key(kind))
        .find(|resource| resource.key("name").scalar().as_deref() == Some("cpu"))
}

fn utilization(node: &Node<'_>, findings: &mut Findings) -> Option<Target> {
    let percent = node.count(findings)?;
    if percent == 0 || percent > 1000 {
        findings.error(
            node,
            format!("is {percent}; a percentage from 1 to 1000 belongs here"),
        );
        return None;
    }
    Some(Target::Utilization(f64::from(percent) / 100.0))
}

fn cores_per_pod(value: &Value) -> Result<f64, String> {
    let cores = quantity(value)?;
    if cores > 0.0 {
        Ok(cores)
    } else {
        Err("is 0; a number of cores above 0 belongs here".to_owned())
    }
}

// === impl WorkloadKind ===

impl WorkloadKind {
    /// The kind as Kubernetes writes it.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Deployment => "Deployment",
            Self::StatefulSet => "StatefulSet",
            Self::DaemonSet => "DaemonSet",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(text: &str) -> (Option<Object>, Findings) {
        let value: Value = serde_norway::from_str(text).unwrap();
        let mut findings = Findings::default();
        let object = read(&Node::document("k.yaml", String::new(), &value), &mut findings);
        (object, findings)
    }

    fn workload(containers: &str) -> Workload {
        let text = format!(
            "{{kind: Deployment, metadata: {{name: d}}, spec: {{template: {{spec: {containers}}}}}}}"
        );
        match object(&text) {
            (Some(Object::Workload(workload)), _) => workload,
            other => panic!("{other:?}"),
        }
    }

    fn hpa(spec: &str) -> (Option<Autoscaler>, Findings) {
        let text = format!("{{kind: HorizontalPodAutoscaler, metadata: {{name: h}}, spec: {spec}}}");
        match object(&text) {
            (Some(Object::Autoscaler(autoscaler)), findings) => (Some(autoscaler), findings),
            (None, findings) => (None, findings),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn requests_of_all_containers_that_stay_are_summed() {
        let workload = workload(
            "{containers: [{name: a, resources: {requests: {cpu: 250m, memory: 64Mi}}}, {name: b, resources: {requests: {cpu: 0.5}}}],
              initContainers: [{name: once, resources: {requests: {cpu: 4}}}, {name: mesh, restartPolicy: Always, resources: {requests: {cpu: 100m}}}]}",
        );
        assert!((workload.cpu.unwrap() - 0.85).abs() < 1e-12);
        assert_eq!(workload.memory, Some(67_108_864.0));
        assert_eq!(workload.replicas, 1);
    }

    #[test]
    fn a_limit_stands_for_a_missing_request_and_nothing_for_both() {
        let workload = workload(
            "{containers: [{name: a, resources: {limits: {cpu: 2}}}, {name: b}, {name: c, resources: {requests: {cpu: 0}}}]}",
        );
        assert_eq!(workload.cpu, Some(2.0));
        assert_eq!(workload.from_limit, ["a (cpu)"]);
        assert_eq!(workload.without_cpu, ["b", "c"]);
        assert_eq!(workload.memory, None);
    }

    #[test]
    fn an_autoscaler_says_when_it_adds_replicas() {
        let of = |spec: &str| hpa(spec).0.unwrap().target;
        let v2 = "{minReplicas: 2, maxReplicas: 10, metrics: [{type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 70}}}]}";
        assert_eq!(of(v2), Target::Utilization(0.7));
        assert_eq!(hpa(v2).0.unwrap().min, 2);
        assert_eq!(
            of("{maxReplicas: 3, targetCPUUtilizationPercentage: 50}"),
            Target::Utilization(0.5)
        );
        assert_eq!(of("{maxReplicas: 3}"), Target::KubernetesDefault);
        let average = "{maxReplicas: 3, metrics: [{type: Resource, resource: {name: cpu, target: {averageValue: 300m}}}]}";
        assert_eq!(of(average), Target::CoresPerPod(0.3));
        let memory = "{maxReplicas: 3, metrics: [{type: Resource, resource: {name: memory, target: {averageUtilization: 70}}}]}";
        assert_eq!(of(memory), Target::NotCpu);
    }

    #[test]
    fn broken_objects_are_errors_with_the_path_of_the_key() {
        for (text, at) in [
            ("{metadata: {name: d}}", "k.yaml: kind"),
            ("{kind: Deployment}", "k.yaml: metadata.name"),
            (
                "{kind: Deployment, metadata: {name: d}}",
                "k.yaml: spec.template.spec.containers",
            ),
            (
                "{kind: Deployment, metadata: {name: d}, spec: {template: {spec: {containers: [{resources: {requests: {cpu: lots}}}]}}}}",
                "k.yaml: spec.template.spec.containers[0].resources.requests.cpu",
            ),
            (
                "{kind: HorizontalPodAutoscaler, metadata: {name: h}, spec: {minReplicas: 5, maxReplicas: 3}}",
                "k.yaml: spec.minReplicas",
            ),
            (
                "{kind: HorizontalPodAutoscaler, metadata: {name: h}, spec: {maxReplicas: 3, targetCPUUtilizationPercentage: 0}}",
                "k.yaml: spec.targetCPUUtilizationPercentage",
            ),
        ] {
            let (_, findings) = object(text);
            assert_eq!(findings.errors[0].at, at, "{text}");
        }
    }
}
