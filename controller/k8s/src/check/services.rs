//! Services: their ports, rules, instances and autoscalers.

use gma_core::cluster::Unroutable;
use serde_json::Value;

use super::{Finding, Inputs, text};
use crate::derive::Note;

/// Beginnings of a port's name, or its `appProtocol`, by which istiod takes it for HTTP.
const HTTP: [&str; 8] = [
    "http",
    "http2",
    "grpc",
    "grpc-web",
    "kubernetes.io/h2c",
    "kubernetes.io/ws",
    "kubernetes.io/wss",
    "h2c",
];

/// What is no HTTP, so that nothing of it is measured, by intent.
const OTHERS: [&str; 9] = [
    "tcp",
    "tls",
    "https",
    "mongo",
    "mysql",
    "redis",
    "udp",
    "postgres",
    "kubernetes.io/tls",
];

pub(super) fn check(inputs: &Inputs<'_>) -> Vec<Finding> {
    let mut findings: Vec<Finding> = inputs.services.iter().flat_map(ports).collect();
    findings.extend(inputs.held.iter().map(|(service, held)| {
        Finding::error(format!("service {service}"), why(&held.why), held.fix.as_str())
    }));
    // The sentence of a refusal ends with what to do.
    findings.extend(inputs.refused.iter().map(|((service, edge), refused)| {
        let sentence = refused.to_string();
        let (what, fix) = sentence.split_once("; ").unwrap_or((&sentence, "correct it"));
        Finding::warning(format!("service {service} at {edge}"), what, fix)
    }));
    for ((service, edge), notes) in inputs.notes {
        findings.extend(
            notes
                .iter()
                .map(|note| of_note(&format!("service {service} at {edge}"), note)),
        );
    }
    findings.extend(autoscalers(inputs));
    findings
}

fn why(why: &Unroutable) -> String {
    match why {
        Unroutable::RuleOwned { by } => format!("its rule is held: fields belong to {by}"),
        Unroutable::RuleShape { what } => format!("its rule is held: {what}"),
        Unroutable::LocalityUnproven { locality } => {
            format!("its rule is held: no proxy has reported an endpoint in {locality}")
        }
        Unroutable::EndpointOutsideAreas { locality } => {
            format!("its rule is held: an endpoint is in {locality:?}, which is in no area")
        }
    }
}

/// istiod must know that a port speaks HTTP: what it takes for TCP has no requests.
fn ports(service: &Value) -> Vec<Finding> {
    let name = text(service, "/metadata/name").unwrap_or_default();
    let ports = service.pointer("/spec/ports").and_then(Value::as_array);
    let unknown = ports.into_iter().flatten().filter(|port| !is_known(port));
    unknown
        .map(|port| {
            let number = port.get("port").and_then(Value::as_u64).unwrap_or_default();
            Finding::warning(
                format!("Service {name}"),
                format!("port {number} does not say its protocol: Istio guesses, and may take it for TCP, which has no requests"),
                "name the port http, http2 or grpc (http-…), or set its appProtocol",
            )
        })
        .collect()
}

fn is_known(port: &Value) -> bool {
    let transport = text(port, "/protocol").unwrap_or("TCP");
    if transport != "TCP" {
        return true;
    }
    let known = |word: &str| {
        let word = word.to_ascii_lowercase();
        HTTP.contains(&word.as_str()) || OTHERS.contains(&word.as_str())
    };
    if let Some(protocol) = text(port, "/appProtocol") {
        return known(protocol);
    }
    let name = text(port, "/name").unwrap_or_default();
    known(name) || name.split_once('-').is_some_and(|(begin, _)| known(begin)) || name.starts_with("grpc-web")
}

fn of_note(object: &str, note: &Note) -> Finding {
    let sentence = note.to_string();
    match note {
        Note::SharedSelector { fix, .. } | Note::AutoscalersStopped { fix } | Note::NotConfined { fix } => {
            let what = sentence.strip_suffix(&format!("; {fix}")).unwrap_or(&sentence);
            Finding::warning(object, what, fix.as_str())
        }
        Note::MetricsLeftOut(_) | Note::NoMetricLeft => Finding::info(
            object,
            sentence,
            "nothing needs to be done; an existing Deployment with an autoscaler of your own can be listed in \
             spec.services[].edge.deployments",
        ),
        Note::NodeLabelsKept(_) => Finding::info(
            object,
            sentence,
            "compare them with `kubectl get nodes --show-labels`",
        ),
    }
}

/// Autoscalers that do nothing, by what Kubernetes says of them.
fn autoscalers(inputs: &Inputs<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    if !inputs.has_metrics {
        let (object, fix) = ("cluster", "install metrics-server");
        findings.push(if inputs.autoscalers.is_empty() {
            let what = "metrics.k8s.io does not answer: costs are those of the requests in the templates";
            Finding::info(object, what, fix)
        } else {
            let what = "metrics.k8s.io does not answer: costs are those of the requests in the templates, and autoscalers by CPU stand still";
            Finding::warning(object, what, fix)
        });
    }
    for autoscaler in inputs.autoscalers {
        let name = text(autoscaler, "/metadata/name").unwrap_or_default();
        let conditions = autoscaler.pointer("/status/conditions").and_then(Value::as_array);
        let stopped = conditions.into_iter().flatten().find(|condition| {
            text(condition, "/type") == Some("ScalingActive") && text(condition, "/status") == Some("False")
        });
        let Some(condition) = stopped else { continue };
        let object = format!("HorizontalPodAutoscaler {name}");
        match text(condition, "/reason").unwrap_or_default() {
            // An instance at rest has no pods.
            "ScalingDisabled" => {}
            "AmbiguousSelector" => findings.push(Finding::error(
                object,
                "another autoscaler selects the same pods: Kubernetes has stopped both",
                "give their Deployments selectors that do not match each other's pods",
            )),
            // One finding for the cluster says it.
            _ if !inputs.has_metrics => {}
            reason => findings.push(Finding::warning(
                object,
                format!(
                    "it does not scale: {reason}, {}",
                    text(condition, "/message").unwrap_or_default()
                ),
                "`kubectl describe hpa` says since when; until then the count of replicas is fixed",
            )),
        }
    }
    findings
}
