//! The names that Istio gives to Envoy's clusters: `outbound|80|v1|cart.shop.svc.cluster.local`
//! and `inbound|8080||`. They tell direction, port, subset and service without any header or label.

use gma_report::limits::{MAX_SERVICE_BYTES, MAX_SUBSET_BYTES};

/// A cluster, by its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClusterName {
    /// Calls to a service.
    Outbound {
        /// The service's port.
        port: u16,
        /// Subset of the `DestinationRule`; empty where there is none.
        subset: String,
        /// The service's host.
        service: String,
    },
    /// Requests that this proxy's workload serves.
    Inbound {
        /// The container's port.
        port: u16,
    },
}

impl ClusterName {
    /// Reads a cluster's name; none where it is not one of Istio's for a service
    /// (`PassthroughCluster`, `xds-grpc`, names of other control planes).
    pub fn parse(name: &[u8]) -> Option<Self> {
        let name = str::from_utf8(name).ok()?;
        let mut parts = name.splitn(4, '|');
        let (direction, port) = (
            parts.next()?,
            parts.next()?.parse().ok().filter(|port| *port != 0)?,
        );
        let (subset, service) = (parts.next()?, parts.next()?);
        match direction {
            // Releases before 1.8 named the port and the host here: the port number says enough.
            "inbound" => Some(Self::Inbound { port }),
            "outbound"
                if is_name(service, MAX_SERVICE_BYTES)
                    && (subset.is_empty() || is_name(subset, MAX_SUBSET_BYTES)) =>
            {
                Some(Self::Outbound {
                    port,
                    subset: subset.to_owned(),
                    service: service.to_owned(),
                })
            }
            _ => None,
        }
    }
}

/// Whether a text can be a host or a subset: printable ASCII, no separator, at most `most` bytes.
fn is_name(text: &str, most: usize) -> bool {
    (1..=most).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'|')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outbound(port: u16, subset: &str, service: &str) -> Option<ClusterName> {
        Some(ClusterName::Outbound {
            port,
            subset: subset.to_owned(),
            service: service.to_owned(),
        })
    }

    #[test]
    fn reads_istios_names() {
        let cart = "cart.shop.svc.cluster.local";
        assert_eq!(
            ClusterName::parse(b"outbound|80||cart.shop.svc.cluster.local"),
            outbound(80, "", cart)
        );
        assert_eq!(
            ClusterName::parse(b"outbound|9080|v1|cart.shop.svc.cluster.local"),
            outbound(9080, "v1", cart)
        );
        assert_eq!(
            ClusterName::parse(b"inbound|8080||"),
            Some(ClusterName::Inbound { port: 8080 })
        );
        assert_eq!(
            ClusterName::parse(b"inbound|8080|http|cart.shop.svc.cluster.local"),
            Some(ClusterName::Inbound { port: 8080 })
        );
    }

    #[test]
    fn leaves_other_names_alone() {
        let long = format!("outbound|80||{}", "a".repeat(MAX_SERVICE_BYTES + 1));
        let names = [
            "",
            "PassthroughCluster",
            "xds-grpc",
            "outbound|80||",
            "outbound|80|v1",
            "outbound|x||a.b",
            "outbound|65536||a.b",
            "outbound|0||a.b",
            "outbound|80||a b",
            "outbound|80||a|b",
            "inbound|8080",
            "sideways|80||a.b",
            long.as_str(),
        ];
        for name in names {
            assert_eq!(ClusterName::parse(name.as_bytes()), None, "{name}");
        }
        assert_eq!(ClusterName::parse(b"outbound|80||\xff"), None);
    }
}
