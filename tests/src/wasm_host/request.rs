//! Properties of a finished request and of the node, in the host's encoding.

use std::collections::BTreeMap;
use std::time::Duration;

/// A finished request, as properties.
#[derive(Clone, Debug, Default)]
pub struct Request(BTreeMap<String, Vec<u8>>);

impl Request {
    /// A request to a service's port 80, answered with 200 after 10 ms by an endpoint in `r1/edge-1`.
    pub fn outbound(service: &str) -> Self {
        Self::ok(&format!("outbound|80||{service}")).locality("r1", "edge-1")
    }

    /// A request to this proxy's workload, answered with 200 after 10 ms.
    pub fn inbound(port: u16) -> Self {
        Self::ok(&format!("inbound|{port}||"))
    }

    /// A request that went to the cluster of this name.
    pub fn ok(cluster: &str) -> Self {
        Self::default()
            .text("xds.cluster_name", cluster)
            .code(200)
            .duration(Duration::from_millis(10))
            .integer("response.total_size", 300)
            .integer("request.total_size", 200)
            .integer("upstream.request_attempt_count", 1)
            .integer("response.flags", 0)
    }

    /// Sets the response code.
    pub fn code(self, code: i64) -> Self {
        self.integer("response.code", code)
    }

    /// Sets the duration.
    pub fn duration(self, duration: Duration) -> Self {
        self.integer(
            "request.duration",
            i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX),
        )
    }

    /// Sets the endpoint's locality.
    pub fn locality(mut self, region: &str, zone: &str) -> Self {
        let mut bytes = Vec::new();
        for (field, text) in [(1u8, region), (2, zone)] {
            bytes.extend([field << 3 | 2, text.len() as u8]);
            bytes.extend(text.as_bytes());
        }
        self.0.insert("upstream.locality".to_owned(), bytes);
        self
    }

    /// Sets a number.
    pub fn integer(mut self, property: &str, value: i64) -> Self {
        self.0.insert(property.to_owned(), value.to_le_bytes().to_vec());
        self
    }

    /// Sets a text.
    pub fn text(mut self, property: &str, value: &str) -> Self {
        self.0.insert(property.to_owned(), value.as_bytes().to_vec());
        self
    }

    /// Takes a property away.
    pub fn without(mut self, property: &str) -> Self {
        self.0.remove(property);
        self
    }

    pub(super) fn properties(&self) -> &BTreeMap<String, Vec<u8>> {
        &self.0
    }
}

/// A sidecar's node.
pub(super) fn node() -> BTreeMap<String, Vec<u8>> {
    let id = "sidecar~10.0.0.7~shopfront-1.shop~shop.svc.cluster.local";
    let locality = Request::default()
        .locality("r1", "edge-1")
        .0
        .remove("upstream.locality")
        .unwrap_or_default();
    [
        ("xds.node.id", id.as_bytes().to_vec()),
        ("xds.node.metadata.NAMESPACE", b"shop".to_vec()),
        ("xds.node.metadata.WORKLOAD_NAME", b"shopfront".to_vec()),
        ("xds.node.metadata.CLUSTER_ID", b"Kubernetes".to_vec()),
        (
            "xds.node.metadata.LABELS",
            pairs(&[("app", "shopfront"), ("version", "v1")]),
        ),
        ("xds.node.locality", locality),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

/// The ABI's form of a map.
pub fn pairs(map: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = (map.len() as u32).to_le_bytes().to_vec();
    for text in map.iter().flat_map(|(key, value)| [key, value]) {
        bytes.extend((text.len() as u32).to_le_bytes());
    }
    for text in map.iter().flat_map(|(key, value)| [key, value]) {
        bytes.extend(text.as_bytes());
        bytes.push(0);
    }
    bytes
}
