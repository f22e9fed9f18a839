//! The objects of the application whose proxies are played, on nodes with regions or without.

use serde_json::{Value, json};

use super::app::{CLOUD_DEPLOYMENT, EDGE, EDGE_DEPLOYMENT, OBJECT};

/// The area that is no edge.
pub(super) const CLOUD: &str = "cloud";

/// What applications differ by.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    /// Names of its edges.
    pub(super) edges: Vec<String>,
    /// The edge's Deployment is left to the controller.
    pub(super) is_derived: bool,
    /// Its nodes have a zone label only.
    pub(super) is_zoned: bool,
}

// === impl Layout ===

impl Default for Layout {
    fn default() -> Self {
        Self {
            edges: vec![EDGE.to_owned()],
            is_derived: false,
            is_zoned: false,
        }
    }
}

impl Layout {
    /// Its areas.
    pub(super) fn places(&self) -> impl Iterator<Item = &str> {
        self.edges.iter().map(String::as_str).chain([CLOUD])
    }

    /// The node of an area.
    pub(super) fn node(&self, area: &str) -> String {
        match (self.is_zoned, area == CLOUD) {
            (true, _) => format!("{}-zone", region(area)),
            (false, true) => "cloud-1".to_owned(),
            (false, false) => area.to_owned(),
        }
    }

    /// Region and zone of an area's endpoints.
    pub(super) fn locality(&self, area: &str) -> [String; 2] {
        let region = if self.is_zoned { "" } else { region(area) };
        [region.to_owned(), self.node(area)]
    }

    /// How the object names places: the field, and its value for an area.
    fn named(&self) -> (&'static str, fn(&Self, &str) -> String) {
        if self.is_zoned {
            ("zones", Self::node)
        } else {
            ("localities", |_, area| region(area).to_owned())
        }
    }
}

/// The region of an area's nodes.
pub(super) fn region(area: &str) -> &str {
    if area == EDGE { "edge" } else { area }
}

/// The Deployment of an edge's gateway.
pub(super) fn gateway(edge: &str) -> String {
    format!("gateway-{edge}")
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
pub(super) fn objects(namespace: &str, layout: &Layout) -> String {
    let web = json!({"app": "web"});
    let mut objects = vec![
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}),
        json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": "web", "namespace": namespace},
            "spec": {"selector": web, "ports": [{"name": "http", "port": 80, "targetPort": 8080}]},
        }),
        deployment(namespace, CLOUD_DEPLOYMENT, &web, &layout.node(CLOUD), 1),
    ];
    for edge in &layout.edges {
        let (name, node) = (gateway(edge), layout.node(edge));
        objects.push(deployment(namespace, &name, &json!({"istio": name}), &node, 1));
    }
    if !layout.is_derived {
        objects.push(deployment(
            namespace,
            EDGE_DEPLOYMENT,
            &web,
            &layout.node(EDGE),
            0,
        ));
    }
    objects.iter().map(|object| format!("---\n{object}\n")).collect()
}

/// The `EdgePlacement`.
pub(super) fn object(namespace: &str, layout: &Layout) -> Value {
    let existing =
        json!([{"name": "web", "edge": {"deployments": [{"edge": EDGE, "name": EDGE_DEPLOYMENT}]}}]);
    let (kind, of) = layout.named();
    let edges = layout.edges.iter().map(|edge| {
        json!({
            "name": edge, kind: [of(layout, edge)],
            "gateway": {"namespace": namespace, "matchLabels": {"istio": gateway(edge)}},
            "objective": {"offloadAbove": "80ms", "unoffloadBelow": "10ms"},
        })
    });
    json!({
        "apiVersion": "gma.dev/v1alpha1", "kind": "EdgePlacement",
        "metadata": {"name": OBJECT, "namespace": namespace},
        "spec": {
            "areas": {"cloud": {kind: [of(layout, CLOUD)]}, "edges": edges.collect::<Vec<_>>()},
            "services": if layout.is_derived { json!([]) } else { existing },
            "policy": {"mode": "Enforce", "ramp": {"verifyAtLeast": "5s", "verifyAtMost": "20s", "coolDown": "2s"}},
        },
    })
}
