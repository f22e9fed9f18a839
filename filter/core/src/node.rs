//! Who this proxy is: what the host says in `xds.node`. Only a cross-check for the controller, so what is
//! too long or malformed is left out rather than refused.

use std::collections::BTreeMap;

use gma_report::{limits, v1};
use prost::Message;

/// This proxy, as it was told at its start.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Node {
    /// Envoy's node id: `sidecar~10.0.0.7~cart-1.shop~shop.svc.cluster.local`.
    pub id: String,
    /// What a report says on request.
    pub identity: v1::Identity,
}

/// What the host returns for the node; none where it has no such property.
#[derive(Clone, Debug, Default)]
pub struct RawNode {
    /// `xds.node.id`
    pub id: Option<Vec<u8>>,
    /// `xds.node.metadata.NAMESPACE`
    pub namespace: Option<Vec<u8>>,
    /// `xds.node.metadata.WORKLOAD_NAME`
    pub workload: Option<Vec<u8>>,
    /// `xds.node.metadata.CLUSTER_ID`
    pub cluster_id: Option<Vec<u8>>,
    /// `xds.node.metadata.LABELS`, the ABI's form of a map
    pub labels: Option<Vec<u8>>,
    /// `xds.node.locality`, a serialized Locality
    pub locality: Option<Vec<u8>>,
}

/// Why the node cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NodeError {
    /// Reports without a node id cannot be placed.
    #[error("the proxy has no node id: start Envoy with --service-node or `node.id` in its bootstrap")]
    NoId,
    /// Longer than a report can hold.
    #[error("the proxy's node id has {0} bytes, at most {limit} are supported", limit = limits::MAX_NODE_ID_BYTES)]
    LongId(usize),
}

impl Node {
    /// Reads what the host returned.
    ///
    /// # Errors
    /// Where the id is missing, no text or too long.
    pub fn read(raw: RawNode) -> Result<Self, NodeError> {
        let id = raw
            .id
            .and_then(|id| String::from_utf8(id).ok())
            .filter(|id| !id.is_empty());
        let id = id.ok_or(NodeError::NoId)?;
        if id.len() > limits::MAX_NODE_ID_BYTES {
            return Err(NodeError::LongId(id.len()));
        }
        let identity = v1::Identity {
            namespace: name(raw.namespace),
            workload: name(raw.workload),
            cluster_id: name(raw.cluster_id),
            locality: raw.locality.as_deref().and_then(locality),
            labels: raw.labels.as_deref().and_then(pairs).unwrap_or_default(),
        };
        Ok(Self { id, identity })
    }

    /// Whether users enter here: Istio's node ids of gateways begin with `router~`.
    pub fn is_gateway(&self) -> bool {
        self.id.starts_with("router~")
    }
}

/// Reads Envoy's Locality. The report's has the same field numbers: region 1, zone 2, sub-zone 3.
/// None where it is malformed or longer than a report can hold.
pub(crate) fn locality(bytes: &[u8]) -> Option<v1::Locality> {
    let locality = v1::Locality::decode(bytes).ok()?;
    let parts = [&locality.region, &locality.zone, &locality.sub_zone];
    parts
        .iter()
        .all(|part| part.len() <= limits::MAX_LOCALITY_PART_BYTES)
        .then_some(locality)
}

fn name(bytes: Option<Vec<u8>>) -> String {
    let text = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
    text.filter(|text| text.len() <= limits::MAX_NAME_BYTES)
        .unwrap_or_default()
}

/// Reads the ABI's form of a map: the number of pairs, their lengths (key, value), then each key and value
/// with a NUL after it; numbers are little-endian, 32 bits. Keeps the first pairs that a report can hold.
fn pairs(bytes: &[u8]) -> Option<BTreeMap<String, String>> {
    let (count, rest) = bytes.split_first_chunk()?;
    let count = usize::try_from(u32::from_le_bytes(*count)).ok()?;
    let (lengths, mut texts) = rest.split_at_checked(count.checked_mul(8)?)?;
    let (lengths, _) = lengths.as_chunks::<4>();
    let mut lengths = lengths.iter().map(|length| u32::from_le_bytes(*length) as usize);
    let mut next = || {
        let (text, rest) = texts.split_at_checked(lengths.next()?)?;
        texts = rest.strip_prefix(b"\0")?;
        Some(str::from_utf8(text))
    };
    let mut map = BTreeMap::new();
    for _ in 0..count {
        if let (Ok(key), Ok(value)) = (next()?, next()?)
            && (1..=limits::MAX_LABEL_KEY_BYTES).contains(&key.len())
            && value.len() <= limits::MAX_LABEL_VALUE_BYTES
            && map.len() < limits::MAX_LABELS
        {
            map.insert(key.to_owned(), value.to_owned());
        }
    }
    Some(map)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn raw_pairs(map: &[(&str, &str)]) -> Vec<u8> {
        let mut bytes = (map.len() as u32).to_le_bytes().to_vec();
        for (key, value) in map {
            bytes.extend((key.len() as u32).to_le_bytes());
            bytes.extend((value.len() as u32).to_le_bytes());
        }
        for (key, value) in map {
            bytes.extend([key.as_bytes(), b"\0", value.as_bytes(), b"\0"].concat());
        }
        bytes
    }

    #[test]
    fn reads_what_istio_sets() {
        let raw = RawNode {
            id: Some(b"router~10.0.0.7~gw.istio-system~istio-system.svc.cluster.local".to_vec()),
            namespace: Some(b"istio-system".to_vec()),
            labels: Some(raw_pairs(&[("app", "gw"), ("topology.istio.io/network", "")])),
            locality: Some(b"\x0a\x02r1\x12\x06edge-1".to_vec()),
            ..RawNode::default()
        };
        let node = Node::read(raw).unwrap();
        assert!(node.is_gateway());
        assert_eq!(node.identity.namespace, "istio-system");
        assert_eq!(node.identity.labels.len(), 2);
        assert_eq!(node.identity.labels["app"], "gw");
        let locality = node.identity.locality.unwrap();
        assert_eq!(
            (locality.region.as_str(), locality.zone.as_str()),
            ("r1", "edge-1")
        );
    }

    #[test]
    fn a_node_needs_an_id() {
        assert_eq!(Node::read(RawNode::default()), Err(NodeError::NoId));
        let raw = RawNode {
            id: Some(vec![b'a'; 513]),
            ..RawNode::default()
        };
        assert_eq!(Node::read(raw), Err(NodeError::LongId(513)));
    }

    #[test]
    fn what_is_too_long_is_left_out() {
        let long = "v".repeat(limits::MAX_LABEL_VALUE_BYTES + 1);
        let map = pairs(&raw_pairs(&[("a", &long), ("b", "1")])).unwrap();
        assert_eq!(map.into_keys().collect::<Vec<_>>(), ["b"]);
        assert_eq!(locality(&[&[0x0a, 127][..], &[b'r'; 127]].concat()), None);
    }

    proptest! {
        #[test]
        fn arbitrary_pairs_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = pairs(&bytes);
        }
    }
}
