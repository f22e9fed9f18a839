//! Reports to test with.
#![allow(dead_code, unreachable_pub, reason = "each test file uses a part")]

use std::collections::BTreeMap;

use gma_report::histogram::{bucket_of, encode_buckets};
use gma_report::{Direction, EnvelopeHead, Key, Locality, Outcome, Report, encode_envelope, v1};
use prost::Message;

pub const VM: u64 = 0x1122_3344_5566_7788;

pub fn mk_head(seq: u64) -> EnvelopeHead<'static> {
    EnvelopeHead {
        vm: VM,
        seq,
        module: "gma-filter 0.1.0",
        config_hash: 0xfeed_beef,
        age_ms: 12,
        round_trip_us: Some(30_250),
    }
}

pub fn mk_key(service: &str, outcome: v1::Outcome) -> v1::Key {
    v1::Key {
        direction: v1::Direction::Outbound.into(),
        service: service.to_owned(),
        port: 80,
        destination: Some(mk_locality("edge-1")),
        outcome: outcome.into(),
        ..v1::Key::default()
    }
}

pub fn mk_inbound(port: u32) -> v1::Key {
    v1::Key {
        direction: v1::Direction::Inbound.into(),
        port,
        outcome: v1::Outcome::Ok.into(),
        ..v1::Key::default()
    }
}

pub fn mk_locality(zone: &str) -> v1::Locality {
    v1::Locality {
        region: "r1".into(),
        zone: zone.into(),
        sub_zone: String::new(),
    }
}

/// A series of requests that took `durations_us`.
pub fn mk_series(key: v1::Key, durations_us: &[u64]) -> v1::Series {
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
        response_bytes: 100 * durations_us.len() as u64,
        ..v1::Series::default()
    }
}

/// A window that uses every field.
pub fn mk_window() -> v1::Window {
    let cart = mk_key("cart.shop.svc.cluster.local", v1::Outcome::Ok);
    let mut timed = mk_series(cart.clone(), &[0, 1, 255, 256, 20_000, 20_000, 60_000_000]);
    (timed.long_count, timed.sampled) = (2, 3);
    (timed.sampled_request_bytes, timed.sampled_attempts) = (900, 4);
    let subset = v1::Key {
        subset: "v2".into(),
        generation: 1,
        ..mk_inbound(8080)
    };
    let overflow = v1::Key {
        service: String::new(),
        port: 0,
        overflow: true,
        ..cart.clone()
    };
    v1::Window {
        node_id: "sidecar~10.1.2.3~cart-7d4b9c6f5-x2x9z.shop~shop.svc.cluster.local".into(),
        duration_ms: 2_000,
        identity: Some(v1::Identity {
            namespace: "shop".into(),
            workload: "cart".into(),
            cluster_id: "Kubernetes".into(),
            locality: Some(mk_locality("cloud-a")),
            labels: BTreeMap::from([("app".into(), "cart".into()), ("version".into(), "v1".into())]),
        }),
        series: vec![
            timed,
            mk_series(subset, &[1_500]),
            mk_series(
                mk_key("pay.shop.svc.cluster.local", v1::Outcome::Cancelled),
                &[40, 50],
            ),
            mk_series(overflow.clone(), &[7]),
        ],
        totals: Some(v1::Totals {
            keys: vec![
                v1::Total {
                    key: Some(cart),
                    count: 1_007,
                    long_count: 2,
                    sum_us: 70_040_512,
                },
                v1::Total {
                    key: Some(overflow),
                    count: 1,
                    long_count: 0,
                    sum_us: 7,
                },
            ],
            retired_count: 11,
            retired_long_count: 1,
            unmeasured: 6,
        }),
        unmeasured: vec![
            v1::Unmeasured {
                reason: v1::Reason::NoCluster.into(),
                count: 5,
            },
            v1::Unmeasured {
                reason: v1::Reason::RefusedLimit.into(),
                count: 1,
            },
        ],
        parts_left: 1,
    }
}

pub fn mk_body(window: &v1::Window) -> Vec<u8> {
    encode_envelope(&mk_head(1), &window.encode_to_vec())
}

/// The bytes from which a decoded report came, built from what was decoded.
pub fn encode_again(report: &Report) -> Vec<u8> {
    let window = &report.window;
    let raw = v1::Window {
        node_id: window.node_id.clone(),
        duration_ms: window.duration.as_millis() as u32,
        identity: window.identity.as_ref().map(|identity| v1::Identity {
            namespace: identity.namespace.clone(),
            workload: identity.workload.clone(),
            cluster_id: identity.cluster_id.clone(),
            locality: identity.locality.as_ref().map(raw_locality),
            labels: identity.labels.clone(),
        }),
        series: window.series.iter().map(raw_series).collect(),
        totals: window.totals.as_ref().map(|totals| v1::Totals {
            keys: totals.keys.iter().map(raw_total).collect(),
            retired_count: totals.retired_count,
            retired_long_count: totals.retired_long_count,
            unmeasured: totals.unmeasured,
        }),
        unmeasured: window
            .unmeasured
            .iter()
            .map(|(reason, count)| v1::Unmeasured {
                reason: (*reason).into(),
                count: *count,
            })
            .collect(),
        parts_left: window.parts_left,
    };
    let head = EnvelopeHead {
        vm: report.head.vm,
        seq: report.head.seq,
        module: &report.head.module,
        config_hash: report.head.config_hash,
        age_ms: report.head.age.as_millis() as u64,
        round_trip_us: report.head.round_trip.map(|rtt| rtt.as_micros() as u32),
    };
    encode_envelope(&head, &raw.encode_to_vec())
}

fn raw_total(total: &gma_report::Total) -> v1::Total {
    v1::Total {
        key: Some(raw_key(&total.key)),
        count: total.count,
        long_count: total.long_count,
        sum_us: total.sum_us,
    }
}

fn raw_series(series: &gma_report::Series) -> v1::Series {
    let mut histogram = Vec::new();
    if let Some(checked) = series.histogram() {
        encode_buckets(checked.buckets(), &mut histogram);
    }
    v1::Series {
        key: Some(raw_key(&series.key)),
        count: series.count,
        sum_us: series.sum_us,
        histogram,
        response_bytes: series.response_bytes,
        long_count: series.long_count,
        sampled: series.sampled,
        sampled_request_bytes: series.sampled_request_bytes,
        sampled_attempts: series.sampled_attempts,
    }
}

fn raw_key(key: &Key) -> v1::Key {
    let direction = match key.direction {
        Direction::Inbound => v1::Direction::Inbound,
        Direction::Outbound => v1::Direction::Outbound,
    };
    let outcome = match key.outcome {
        Outcome::Ok => v1::Outcome::Ok,
        Outcome::ClientError => v1::Outcome::ClientError,
        Outcome::ServerError => v1::Outcome::ServerError,
        Outcome::NoResponse => v1::Outcome::NoResponse,
        Outcome::Cancelled => v1::Outcome::Cancelled,
    };
    v1::Key {
        direction: direction.into(),
        service: key.service.clone(),
        port: key.port.into(),
        subset: key.subset.clone(),
        destination: key.destination.as_ref().map(raw_locality),
        outcome: outcome.into(),
        overflow: key.overflow,
        generation: key.generation,
    }
}

fn raw_locality(locality: &Locality) -> v1::Locality {
    v1::Locality {
        region: locality.region.clone(),
        zone: locality.zone.clone(),
        sub_zone: locality.sub_zone.clone(),
    }
}
