//! What a world and its clients say: one JSON object a line over a Unix socket, a request and its answer.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use gma_core::cluster::{Cluster, Proxy, RoutingPlan};
use gma_core::ids::{AreaName, ServiceName};
use serde::{Deserialize, Serialize};

use crate::topology::{Bandwidth, duration_text};

/// Longest line. The largest request is a routing plan: 500 services and 10 caller areas are about 300 kB.
pub(crate) const MAX_LINE: usize = 4 << 20;

/// What a world is asked. All are idempotent; all but `State` answer once the world has taken them, not once they
/// have effect.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Request {
    /// What is there now.
    State,
    /// Start an instance; restart what failed of it.
    Ensure {
        /// Of this service.
        service: ServiceName,
        /// In this area.
        area: AreaName,
        /// With at least so many replicas; one that has more keeps them.
        replicas: u32,
    },
    /// Have so many replicas of an instance, spread over the area's localities.
    Scale {
        /// Of this service.
        service: ServiceName,
        /// In this area.
        area: AreaName,
        /// How many.
        replicas: u32,
    },
    /// Take an edge's instance out of the endpoints, drain it, stop it.
    Remove {
        /// Of this service.
        service: ServiceName,
        /// At this edge.
        area: AreaName,
    },
    /// Replace the rules of the plan's services; the others keep theirs. A service without callers loses its rule.
    Route(RoutingPlan),
    /// Change a link; what is absent stays.
    SetLink {
        /// The edge.
        edge: AreaName,
        /// Added round trip time.
        #[serde(default, skip_serializing_if = "Option::is_none", with = "optional_duration")]
        rtt: Option<Duration>,
        /// Of each direction; `some(none)` takes the limit away.
        #[serde(default, skip_serializing_if = "Option::is_none", with = "nested_option")]
        bandwidth: Option<Option<Bandwidth>>,
        /// Whether nothing passes.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cut: Option<bool>,
        /// Chunks that come late; `some(none)`: none does.
        #[serde(default, skip_serializing_if = "Option::is_none", with = "nested_option")]
        late: Option<Option<Late>>,
    },
    /// Delay what is sent to the controller, from each area, the cloud too. Its answers are not delayed.
    SetReports {
        /// By so much; 0: not at all. At most a minute.
        #[serde(with = "duration_text")]
        delay: Duration,
    },
    /// SIGKILL the processes of an instance, as a test of what follows.
    Kill {
        /// Of this service.
        service: ServiceName,
        /// In this area.
        area: AreaName,
        /// Which of them.
        #[serde(default)]
        part: Part,
    },
    /// SIGKILL everything in an edge. What nobody removes meanwhile comes back with [`Request::StartArea`].
    KillArea {
        /// The edge.
        area: AreaName,
    },
    /// Start an edge that was killed: its gateway where it was, and its instances.
    StartArea {
        /// The edge.
        area: AreaName,
    },
    /// Make cells of an instance misbehave, those that start later too; the default one mends them.
    SetFault {
        /// Of this service.
        service: ServiceName,
        /// In this area.
        area: AreaName,
        /// What they do.
        fault: CellFault,
    },
    /// Stop everything.
    Shutdown,
}

/// Processes of a pod.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Part {
    /// All of them.
    #[default]
    Pod,
    /// Its Envoy.
    Sidecar,
    /// What is beside it.
    Cell,
}

/// One chunk in so many comes late, and with it what follows on its connection: loss and retransmission, as TCP shows
/// it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Late {
    /// One in so many, at least 1: all.
    pub every: u32,
    /// By so much, at most 10 s.
    #[serde(with = "duration_text")]
    pub by: Duration,
}

/// How a cell misbehaves. The default: not at all.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CellFault {
    /// Requests that it answers with 500.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fail: Option<Fail>,
    /// Share of its one thread's time that goes to nothing, 0 to 0.99.
    #[serde(default)]
    pub busy: f64,
}

/// Requests that fail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Fail {
    /// All.
    All,
    /// Those with this `bid`: one route of the service.
    Bid(String),
}

/// A world's answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Answer {
    /// Taken.
    Done,
    /// To `State`.
    State(Box<State>),
    /// Refused: the request is wrong. Says why and what to do.
    Error(String),
    /// Not done, though the request is right: it may work later.
    Unable(String),
}

/// What a world holds at one moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    /// Instances and the routing in force.
    pub cluster: Cluster,
    /// Every proxy that may report, those that drain included, by node id.
    pub proxies: BTreeMap<String, Proxy>,
    /// Area of each locality, `region/zone/subzone`.
    pub localities: BTreeMap<String, AreaName>,
    /// Services of the application.
    pub services: BTreeSet<ServiceName>,
    /// By edge.
    pub gateways: BTreeMap<AreaName, Gateway>,
    /// Every Envoy that runs, gateways and sidecars.
    pub envoys: Vec<EnvoyAdmin>,
    /// By edge.
    pub links: BTreeMap<AreaName, LinkState>,
    /// `Ensure`, `Scale`, `Remove` and `Route` that were taken since the start.
    #[serde(default)]
    pub orders: u64,
}

/// An edge's gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Gateway {
    /// Where users connect; none while it does not serve.
    pub address: Option<SocketAddr>,
    /// Why it failed, if it did.
    pub reason: Option<String>,
}

/// An Envoy's admin interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EnvoyAdmin {
    /// Its node id.
    pub node: String,
    /// Where its admin interface listens.
    pub admin: SocketAddr,
    /// Its process.
    pub pid: Option<i32>,
    /// Of the cell beside it.
    pub cell_pid: Option<i32>,
}

/// The WAN of an edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LinkState {
    /// Added round trip time.
    #[serde(with = "duration_text")]
    pub rtt: Duration,
    /// Of each direction; none: no limit.
    pub bandwidth: Option<Bandwidth>,
    /// Whether nothing passes.
    pub cut: bool,
    /// Chunks that come late.
    #[serde(default)]
    pub late: Option<Late>,
}

/// A duration that may be absent.
mod optional_duration {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    use super::duration_text;

    pub(super) fn serialize<S: Serializer>(
        value: &Option<Duration>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match value {
            Some(duration) => duration_text::serialize(duration, serializer),
            None => serializer.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Duration>, D::Error> {
        let text = Option::<String>::deserialize(d)?;
        text.map(|text| duration_text::parse(&text))
            .transpose()
            .map_err(serde::de::Error::custom)
    }
}

/// Tells `null` (take it away) from absent (leave it).
mod nested_option {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<T: Serialize, S: Serializer>(
        value: &Option<Option<T>>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        value.serialize(serializer)
    }

    pub(super) fn deserialize<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Option<T>>, D::Error> {
        Option::deserialize(deserializer).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_survive_their_way() {
        let service = || ServiceName::from("s1.shop.svc.cluster.local");
        let requests = [
            Request::State,
            Request::Ensure {
                service: service(),
                area: "edge-1".into(),
                replicas: 2,
            },
            Request::SetLink {
                edge: "edge-1".into(),
                rtt: Some(Duration::from_micros(1500)),
                bandwidth: Some(None),
                cut: None,
                late: None,
            },
            Request::SetLink {
                edge: "edge-1".into(),
                rtt: None,
                bandwidth: None,
                cut: Some(true),
                late: Some(Some(Late {
                    every: 10,
                    by: Duration::from_millis(200),
                })),
            },
            Request::SetReports {
                delay: Duration::from_secs(10),
            },
            Request::Kill {
                service: service(),
                area: "edge-1".into(),
                part: Part::Sidecar,
            },
            Request::SetFault {
                service: service(),
                area: "edge-1".into(),
                fault: CellFault {
                    fail: Some(Fail::Bid("x".to_owned())),
                    busy: 0.5,
                },
            },
            Request::Shutdown,
        ];
        for request in requests {
            let line = serde_json::to_string(&request).unwrap();
            assert_eq!(serde_json::from_str::<Request>(&line).unwrap(), request, "{line}");
        }
    }
}
