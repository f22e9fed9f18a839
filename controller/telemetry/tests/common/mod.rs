//! A small mesh, and reports from it.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::expect_used,
    reason = "each test file uses a part"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use gma_core::ids::Timestamp;
use gma_core::snapshot::{CallStats, Caller};
use gma_report::histogram::{bucket_of, encode_buckets};
use gma_report::{Ack, EnvelopeHead, decode_ack, encode_envelope, v1};
use gma_telemetry::{Config, Directory, Event, Ingested, Proxy, ProxyRole, Telemetry};
use prost::Message;

pub const GATEWAY: &str = "router~10.0.0.1~gw.edge~edge.svc";
pub const FRONT: &str = "sidecar~10.0.0.2~front.shop~shop.svc";
pub const CART: &str = "sidecar~10.0.0.3~cart.shop~shop.svc";

pub fn at(ms: u64) -> Timestamp {
    Timestamp::from_start(Duration::from_millis(ms))
}

pub fn mk_directory() -> Directory {
    let sidecar = |area: &str, service: &str| Proxy {
        area: area.into(),
        role: ProxyRole::Sidecar {
            ports: BTreeMap::from([(8080, service.into())]),
        },
        ready: true,
    };
    Directory {
        proxies: BTreeMap::from([
            (
                GATEWAY.to_owned(),
                Proxy {
                    area: "edge-1".into(),
                    role: ProxyRole::Gateway,
                    ready: true,
                },
            ),
            (FRONT.to_owned(), sidecar("cloud", "front")),
            (CART.to_owned(), sidecar("edge-1", "cart")),
        ]),
        areas: BTreeMap::from([
            ("r1".to_owned(), "cloud".into()),
            ("r1/z9".to_owned(), "edge-1".into()),
            ("r2/z1/s1".to_owned(), "edge-2".into()),
        ]),
        services: BTreeSet::from(["front".into(), "cart".into()]),
    }
}

pub fn mk_telemetry() -> Telemetry {
    let mut telemetry = Telemetry::new(Config::default());
    telemetry.set_directory(&mk_directory(), at(0));
    telemetry
}

pub fn mk_locality(region: &str, zone: &str) -> v1::Locality {
    v1::Locality {
        region: region.into(),
        zone: zone.into(),
        sub_zone: String::new(),
    }
}

/// To a service in the cloud.
pub fn outbound(service: &str, outcome: v1::Outcome) -> v1::Key {
    v1::Key {
        direction: v1::Direction::Outbound.into(),
        service: service.into(),
        port: 80,
        destination: Some(mk_locality("r1", "z1")),
        outcome: outcome.into(),
        ..v1::Key::default()
    }
}

pub fn inbound(port: u32) -> v1::Key {
    v1::Key {
        direction: v1::Direction::Inbound.into(),
        port,
        outcome: v1::Outcome::Ok.into(),
        ..v1::Key::default()
    }
}

pub fn series(key: v1::Key, durations_us: &[u64]) -> v1::Series {
    let mut sorted: Vec<_> = durations_us.iter().map(|us| (bucket_of(*us), 1)).collect();
    sorted.sort_unstable();
    let mut histogram = Vec::new();
    if key.outcome != v1::Outcome::Cancelled as i32 && !sorted.is_empty() {
        encode_buckets(sorted, &mut histogram);
    }
    v1::Series {
        key: Some(key),
        count: durations_us.len() as u64,
        sum_us: durations_us.iter().sum(),
        histogram,
        response_bytes: 10 * durations_us.len() as u64,
        ..v1::Series::default()
    }
}

/// A report that can be changed before it is sent.
#[derive(Clone, Debug)]
pub struct Sent {
    pub vm: u64,
    pub seq: u64,
    pub age_ms: u64,
    pub config_hash: u64,
    pub round_trip_us: Option<u32>,
    pub window: v1::Window,
}

pub fn report(vm: u64, seq: u64, node: &str, series: Vec<v1::Series>) -> Sent {
    let window = v1::Window {
        node_id: node.into(),
        duration_ms: 500,
        series,
        ..v1::Window::default()
    };
    Sent {
        vm,
        seq,
        age_ms: 0,
        config_hash: 1,
        round_trip_us: None,
        window,
    }
}

impl Sent {
    pub fn body(&self) -> Vec<u8> {
        let head = EnvelopeHead {
            vm: self.vm,
            seq: self.seq,
            module: "gma-filter test",
            config_hash: self.config_hash,
            age_ms: self.age_ms,
            round_trip_us: self.round_trip_us,
        };
        encode_envelope(&head, &self.window.encode_to_vec())
    }

    pub fn totals(mut self, keys: &[(v1::Key, u64)], retired_count: u64) -> Self {
        let total = |(key, count): &(v1::Key, u64)| v1::Total {
            key: Some(key.clone()),
            count: *count,
            ..v1::Total::default()
        };
        let keys = keys.iter().map(total).collect();
        self.window.totals = Some(v1::Totals {
            keys,
            retired_count,
            ..v1::Totals::default()
        });
        self
    }

    pub fn ingest(&self, telemetry: &mut Telemetry, now: Timestamp) -> Ingested {
        telemetry.ingest(&self.body(), now, now)
    }

    /// Ingests; it must be counted.
    pub fn store(&self, telemetry: &mut Telemetry, now: Timestamp) -> Ack {
        let ingested = self.ingest(telemetry, now);
        assert!(
            matches!(ingested.event, Event::Stored { .. }),
            "{:?}",
            ingested.event
        );
        self.ack(&ingested)
    }

    pub fn ack(&self, ingested: &Ingested) -> Ack {
        let body = ingested.ack.as_ref().expect("a report with a number gets an ack");
        decode_ack(body, self.vm, self.seq).expect("it echoes the report")
    }
}

pub fn user() -> Caller {
    Caller::User {
        edge: "edge-1".into(),
    }
}

pub fn instance(service: &str, area: &str) -> Caller {
    Caller::Instance {
        service: service.into(),
        area: area.into(),
    }
}

pub fn find<'a>(calls: &'a [CallStats], caller: &Caller, callee: &str) -> &'a CallStats {
    let mut found = calls
        .iter()
        .filter(|call| call.caller == *caller && call.callee.as_str() == callee);
    found.next().expect("the call was reported")
}

/// Requests in the totals, with those of evicted keys.
pub fn total(telemetry: &Telemetry) -> u64 {
    let accounting = telemetry.accounting();
    let keys: u64 = accounting.keys.iter().map(|key| key.count).sum();
    keys + accounting.nodes.iter().map(|node| node.retired).sum::<u64>()
}
