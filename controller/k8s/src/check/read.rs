//! Nodes and pods as the API server gives them.

use std::collections::BTreeMap;

use gma_core::ids::AreaName;
use k8s_openapi::api::core::v1;

use super::{Node, Pod};
use crate::index::{INJECTED, PROXY};
use crate::locality::{AreaMap, Locality};
use crate::settings::Edge;
use crate::view::selects;

// === impl Node ===

impl Node {
    /// Reads a node.
    pub fn of(node: &v1::Node) -> Self {
        let labels = node.metadata.labels.clone().unwrap_or_default();
        let status = node.status.as_ref();
        let mut conditions = status
            .and_then(|status| status.conditions.as_ref())
            .into_iter()
            .flatten();
        Self {
            name: node.metadata.name.clone().unwrap_or_default(),
            locality: Locality::of_node(&labels),
            is_ready: conditions.any(|condition| condition.type_ == "Ready" && condition.status == "True"),
            is_virtual: labels
                .get("liqo.io/type")
                .is_some_and(|kind| kind == "virtual-node"),
        }
    }
}

// === impl Pod ===

impl Pod {
    /// Reads a pod; `nodes` and the areas say whether it is an edge's gateway: one by its labels counts where it runs.
    pub fn of(pod: &v1::Pod, nodes: &[Node], areas: &AreaMap, edges: &BTreeMap<AreaName, Edge>) -> Self {
        let namespace = pod.metadata.namespace.clone().unwrap_or_default();
        let labels = pod.metadata.labels.clone().unwrap_or_default();
        let spec = pod.spec.as_ref();
        let node = spec.and_then(|spec| spec.node_name.clone());
        let found = nodes.iter().find(|one| Some(&one.name) == node.as_ref());
        let area = found.and_then(|node| areas.area_of(&node.locality));
        let is_gateway =
            |edge: &Edge| edge.gateway_namespace == namespace && selects(&edge.gateway_labels, &labels);
        let gateway_of = area
            .filter(|area| edges.get(*area).is_some_and(is_gateway))
            .cloned();
        let containers = spec.into_iter().flat_map(|spec| {
            spec.containers
                .iter()
                .chain(spec.init_containers.iter().flatten())
        });
        let proxy = containers.into_iter().find(|container| container.name == PROXY);
        let annotations = pod.metadata.annotations.as_ref();
        let is_injected = annotations.is_some_and(|annotations| annotations.contains_key(INJECTED));
        let status = pod.status.as_ref();
        let mut conditions = status
            .and_then(|status| status.conditions.as_ref())
            .into_iter()
            .flatten();
        Self {
            name: pod.metadata.name.clone().unwrap_or_default(),
            is_ready: conditions.any(|condition| condition.type_ == "Ready" && condition.status == "True"),
            has_proxy: is_injected || proxy.is_some(),
            proxy_version: proxy.and_then(|proxy| proxy.image.as_deref()).and_then(version),
            gateway_of,
            namespace,
            labels,
            node,
        }
    }
}

/// Major and minor of an image's tag, as `1.26.2` or `1.27-alpha-distroless`.
fn version(image: &str) -> Option<(u32, u32)> {
    let (_, tag) = image.split('@').next()?.rsplit_once(':')?;
    let mut parts = tag.split(['.', '-']);
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::version;

    #[test]
    fn an_image_says_istios_version_where_its_tag_does() {
        for (image, found) in [
            ("docker.io/istio/proxyv2:1.24.3", Some((1, 24))),
            (
                "registry:5000/istio/proxyv2:1.27-alpha.ab12-distroless",
                Some((1, 27)),
            ),
            ("istio/proxyv2:1.26.0@sha256:00", Some((1, 26))),
            ("istio/proxyv2@sha256:00", None),
            ("registry:5000/istio/proxyv2", None),
            ("auto", None),
            ("istio/proxyv2:latest", None),
        ] {
            assert_eq!(version(image), found, "{image}");
        }
    }
}
