//! YAML of small applications: services of cells, each in several areas, and gateways in front of them.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::ADDRESS_ANNOTATION;

/// Port of services and of gateways.
pub const PORT: u16 = 80;

/// Port of cells.
const CELL_PORT: u16 = 8080;

/// Where a sidecar takes what is meant for its cell.
pub const SIDECAR_PORT: u16 = 8081;

/// A Kubernetes namespace with services, each with those that it calls. Their work model is written to `folder`.
///
/// # Errors
/// The folder cannot be written.
pub fn namespace(folder: &Path, name: &str, services: &[(&str, &[&str])]) -> anyhow::Result<String> {
    let model: serde_json::Map<String, Value> = services
        .iter()
        .map(|(service, calls)| {
            let calls = calls.iter().map(|callee| json!({"services": [callee]}));
            let description = json!({"external_services": calls.collect::<Vec<_>>()});
            ((*service).to_owned(), description)
        })
        .collect();
    application(folder, name, &model)
}

/// A Kubernetes namespace with the services of a work model, which is written to `folder`.
///
/// # Errors
/// The folder cannot be written.
pub fn application(
    folder: &Path,
    name: &str,
    model: &serde_json::Map<String, Value>,
) -> anyhow::Result<String> {
    std::fs::write(workmodel(folder, name), Value::from(model.clone()).to_string())?;
    let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
    let services = model.keys().map(|service| {
        json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": service, "namespace": name},
            "spec": {
                "selector": {"app": service},
                "ports": [{"name": "http", "port": PORT, "targetPort": "http"}],
            },
        })
    });
    Ok(documents(std::iter::once(object).chain(services)))
}

fn workmodel(folder: &Path, namespace: &str) -> PathBuf {
    folder.join(format!("{namespace}.workmodel.json"))
}

/// The file that says how a service's cells misbehave; there is none at first.
pub fn faults(folder: &Path, namespace: &str, service: &str) -> PathBuf {
    folder.join(format!("{namespace}.{service}.faults.json"))
}

/// The Deployment `SERVICE-NODE`: cells without a proxy on one node. Their answers say the node's name in `x-cell-zone`.
pub fn cells(folder: &Path, namespace: &str, service: &str, node: &str, replicas: u32) -> String {
    let mut cell = cell(folder, namespace, service);
    cell["ports"] = json!([{"name": "http", "containerPort": CELL_PORT}]);
    deployment(&Pods {
        namespace,
        name: &format!("{service}-{node}"),
        labels: json!({"app": service, "area": node}),
        annotations: json!({}),
        node,
        replicas,
        container: cell,
    })
}

/// A cell with a sidecar.
#[derive(Clone, Copy, Debug)]
pub struct Injected<'a> {
    /// Where its work model is.
    pub folder: &'a Path,
    /// Its Kubernetes namespace.
    pub namespace: &'a str,
    /// Its service.
    pub service: &'a str,
    /// Its node.
    pub node: &'a str,
    /// Of its pod.
    pub address: &'a str,
    /// Where its sidecar takes calls: the pod's address, or what lies behind whatever takes them there.
    pub inbound: &'a str,
    /// 0 or 1.
    pub replicas: u32,
}

/// The Deployment `SERVICE-NODE` with one cell and its sidecar, at `address`; see [`injected`].
pub fn cell_with_sidecar(folder: &Path, namespace: &str, service: &str, node: &str, address: &str) -> String {
    injected(&Injected {
        folder,
        namespace,
        service,
        node,
        address,
        inbound: address,
        replicas: 1,
    })
}

/// The Deployment `SERVICE-NODE` with a cell and its sidecar. What calls the service reaches the sidecar, and the cell's
/// calls go out through it: it has one listener for each, because nothing redirects.
pub fn injected(pod: &Injected<'_>) -> String {
    let Injected {
        folder,
        namespace,
        service,
        node,
        address,
        inbound,
        replicas,
    } = *pod;
    let name = format!("{service}-{node}");
    let mut cell = cell(folder, namespace, service);
    cell["ports"] = json!([
        {"name": "cell", "containerPort": CELL_PORT},
        {"name": "http", "containerPort": SIDECAR_PORT},
    ]);
    if let Some(arguments) = cell["args"].as_array_mut() {
        let egress = format!("$(POD_IP):{PORT}");
        let suffix = format!(".{namespace}.svc.cluster.local");
        arguments.extend(["--egress", &egress, "--host-suffix", &suffix].map(Value::from));
    }
    let pods = deployment(&Pods {
        namespace,
        name: &name,
        labels: json!({"app": service, "area": node, "sidecar.istio.io/inject": "true"}),
        annotations: json!({ADDRESS_ANNOTATION: json!([address]).to_string()}),
        node,
        replicas,
        container: cell,
    });
    let listeners = json!({
        "apiVersion": "networking.istio.io/v1",
        "kind": "Sidecar",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "workloadSelector": {"labels": {"app": service, "area": node}},
            // 0.0.0.0 is the pod's own address here.
            "ingress": [{
                "port": {"number": SIDECAR_PORT, "name": "http", "protocol": "HTTP"},
                "bind": inbound,
                "captureMode": "NONE",
                "defaultEndpoint": format!("0.0.0.0:{CELL_PORT}"),
            }],
            // A listener has the routes of the services with this very port.
            "egress": [{
                "port": {"number": PORT, "name": "http", "protocol": "HTTP"},
                "bind": address,
                "captureMode": "NONE",
                // Its own namespace, and the controller's, where the filter's reports go.
                "hosts": ["./*", "gma-system/*"],
            }],
        },
    });
    format!("{pods}{}", documents(std::iter::once(listeners)))
}

fn cell(folder: &Path, namespace: &str, service: &str) -> Value {
    let field =
        |name: &str, path: &str| json!({"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}});
    json!({
        "name": "cell",
        "image": "gma-cell",
        "args": ["serve", "--listen", format!("$(POD_IP):{CELL_PORT}")],
        "env": [
            field("POD_IP", "status.podIP"),
            field("ZONE", "spec.nodeName"),
            {"name": "APP", "value": service},
            {"name": "GMA_CELL_WORKMODEL", "value": workmodel(folder, namespace)},
            {"name": "GMA_CELL_FAULTS", "value": faults(folder, namespace, service)},
        ],
        // Callers on a busy machine learn late that it leaves.
        "lifecycle": {"preStop": {"sleep": {"seconds": 1}}},
    })
}

/// The Deployment `gateway-NODE` with one pod at `address`, which sends everything to one service.
pub fn gateway(namespace: &str, node: &str, address: &str, service: &str) -> String {
    let name = format!("gateway-{node}");
    // A `Gateway` selects pods of all namespaces: with one label only, those of several tests would share their
    // addresses.
    let labels = json!({"istio": name, "gma-rig/namespace": namespace});
    let mut pod_labels = labels.clone();
    pod_labels["sidecar.istio.io/inject"] = "true".into();
    let pods = deployment(&Pods {
        namespace,
        name: &name,
        labels: pod_labels,
        annotations: json!({
            "inject.istio.io/templates": "gateway",
            ADDRESS_ANNOTATION: json!([address]).to_string(),
        }),
        node,
        replicas: 1,
        container: json!({"name": "istio-proxy", "image": "auto"}),
    });
    let listener = json!({
        "apiVersion": "networking.istio.io/v1",
        "kind": "Gateway",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "selector": labels,
            "servers": [{
                "port": {"number": PORT, "name": "http", "protocol": "HTTP"},
                "bind": address,
                "hosts": ["*"],
            }],
        },
    });
    let host = format!("{service}.{namespace}.svc.cluster.local");
    let routes = json!({
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "hosts": ["*"],
            "gateways": [name],
            "http": [{"route": [{"destination": {"host": host, "port": {"number": PORT}}}]}],
        },
    });
    format!("{pods}{}", documents([listener, routes].into_iter()))
}

/// The rule of a service for callers at `from`: weights of localities.
pub fn rule(namespace: &str, service: &str, from: &str, to: &[(&str, u32)]) -> String {
    let weights: serde_json::Map<String, Value> = to
        .iter()
        .map(|(locality, weight)| ((*locality).to_owned(), json!(weight)))
        .collect();
    let object = json!({
        "apiVersion": "networking.istio.io/v1",
        "kind": "DestinationRule",
        "metadata": {"name": service, "namespace": namespace},
        "spec": {
            "host": format!("{service}.{namespace}.svc.cluster.local"),
            "trafficPolicy": {
                "loadBalancer": {"localityLbSetting": {
                    "enabled": true,
                    "distribute": [{"from": from, "to": weights}],
                }},
                "outlierDetection": {
                    "consecutiveGatewayErrors": 3,
                    "consecutive5xxErrors": 0,
                    "interval": "1s",
                    "baseEjectionTime": "30s",
                    "maxEjectionPercent": 100,
                    "minHealthPercent": 1,
                },
            },
        },
    });
    documents(std::iter::once(object))
}

/// What a Deployment is made of.
struct Pods<'a> {
    namespace: &'a str,
    name: &'a str,
    labels: Value,
    annotations: Value,
    node: &'a str,
    replicas: u32,
    container: Value,
}

fn deployment(pods: &Pods<'_>) -> String {
    let object = json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": pods.name, "namespace": pods.namespace, "labels": pods.labels},
        "spec": {
            "replicas": pods.replicas,
            "selector": {"matchLabels": pods.labels},
            "template": {
                "metadata": {"labels": pods.labels, "annotations": pods.annotations},
                "spec": {
                    "nodeSelector": {"kubernetes.io/hostname": pods.node},
                    "terminationGracePeriodSeconds": 30,
                    "containers": [pods.container],
                },
            },
        },
    });
    documents(std::iter::once(object))
}

/// JSON is YAML; each document begins with a line of dashes.
fn documents(objects: impl Iterator<Item = Value>) -> String {
    objects.map(|object| format!("---\n{object}\n")).collect()
}
