//! The objects of the application whose proxies are played, on nodes with regions or without.

use serde_json::{Value, json};

use super::app::{CLOUD_DEPLOYMENT, EDGE_DEPLOYMENT, OBJECT};

/// What applications differ by.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Layout {
    /// The edge's Deployment is left to the controller.
    pub(super) is_derived: bool,
    /// Its nodes have a zone label only.
    pub(super) is_zoned: bool,
}

// === impl Layout ===

impl Layout {
    /// Of an area, `edge` or `cloud`.
    pub(super) fn node(self, area: &str) -> String {
        format!("{area}-{}", if self.is_zoned { "zone" } else { "1" })
    }

    /// Region and zone of its endpoints.
    pub(super) fn locality(self, area: &str) -> [String; 2] {
        let region = if self.is_zoned { "" } else { area };
        [region.to_owned(), self.node(area)]
    }
}

// === The objects ===

fn deployment(namespace: &str, name: &str, app: &Value, node: &str, replicas: u32) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": app.as_object().map(|labels| {
                let mut labels = labels.clone();
                labels.insert("of".to_owned(), name.into());
                labels
            })},
            "template": {
                "metadata": {
                    "labels": app.as_object().map(|labels| {
                        let mut labels = labels.clone();
                        labels.insert("of".to_owned(), name.into());
                        labels
                    }),
                    // As if Istio had injected a proxy; the stand-in for the kubelet starts none.
                    "annotations": {"sidecar.istio.io/status": "{}"},
                },
                "spec": {
                    "nodeSelector": {"kubernetes.io/hostname": node},
                    "terminationGracePeriodSeconds": 1,
                    "containers": [{"name": "app", "image": "pause"}],
                },
            },
        },
    })
}

/// Everything but the `EdgePlacement`.
pub(super) fn objects(namespace: &str, layout: Layout) -> String {
    let web = json!({"app": "web"});
    let [edge, cloud] = ["edge", "cloud"].map(|area| layout.node(area));
    let mut objects = vec![
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}),
        json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": "web", "namespace": namespace},
            "spec": {"selector": web, "ports": [{"name": "http", "port": 80, "targetPort": 8080}]},
        }),
        deployment(namespace, CLOUD_DEPLOYMENT, &web, &cloud, 1),
        deployment(namespace, "gateway", &json!({"istio": "gateway"}), &edge, 1),
    ];
    if !layout.is_derived {
        objects.push(deployment(namespace, EDGE_DEPLOYMENT, &web, &edge, 0));
    }
    objects.iter().map(|object| format!("---\n{object}\n")).collect()
}

/// The `EdgePlacement`.
pub(super) fn object(namespace: &str, layout: Layout) -> Value {
    let existing =
        json!([{"name": "web", "edge": {"deployments": [{"edge": "edge-1", "name": EDGE_DEPLOYMENT}]}}]);
    let mut edge = json!({
        "name": "edge-1",
        "gateway": {"namespace": namespace, "matchLabels": {"istio": "gateway"}},
        "objective": {"offloadAbove": "80ms", "unoffloadBelow": "10ms"},
    });
    let mut cloud = json!({});
    for (area, name) in [(&mut edge, "edge"), (&mut cloud, "cloud")] {
        if layout.is_zoned {
            area["zones"] = json!([layout.node(name)]);
        } else {
            area["localities"] = json!([name]);
        }
    }
    json!({
        "apiVersion": "gma.dev/v1alpha1", "kind": "EdgePlacement",
        "metadata": {"name": OBJECT, "namespace": namespace},
        "spec": {
            "areas": {
                "cloud": cloud,
                "edges": [edge],
            },
            "services": if layout.is_derived { json!([]) } else { existing },
            "policy": {"mode": "Enforce", "ramp": {"verifyAtLeast": "5s", "verifyAtMost": "20s", "coolDown": "2s"}},
        },
    })
}
