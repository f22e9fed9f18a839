//! What becomes of a report, and what is answered.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests, and what helps them"
)]

mod common;

use std::time::Duration;

use common::{
    CART, FRONT, GATEWAY, at, inbound, mk_directory, mk_locality, mk_telemetry, outbound, report, series,
    total,
};
use gma_report::{Verdict, v1};
use gma_telemetry::{Busy, Config, Directory, Event, Refusal, Telemetry};

fn ok(service: &str) -> v1::Key {
    outbound(service, v1::Outcome::Ok)
}

#[test]
fn stored_report_is_acked_with_the_pace_of_its_proxy() {
    let mut telemetry = mk_telemetry();
    let gateway = report(1, 1, GATEWAY, vec![series(ok("front"), &[5_000])]);
    let ack = gateway.store(&mut telemetry, at(1_000));
    assert_eq!(
        (ack.verdict, ack.next_ms, ack.resync),
        (Verdict::Stored, 500, false)
    );
    let sidecar = report(2, 1, FRONT, vec![series(inbound(8080), &[4_000])]);
    assert_eq!(sidecar.store(&mut telemetry, at(1_000)).next_ms, 1_000);
    let late = report(3, 1, FRONT, vec![]);
    let ingested = telemetry.ingest(&late.body(), at(1_000), at(1_003));
    assert_eq!(late.ack(&ingested).served_us, 3_000);
}

#[test]
fn duplicates_never_count_twice() {
    let mut telemetry = mk_telemetry();
    let sent = report(1, 1, GATEWAY, vec![series(ok("front"), &[5_000, 6_000])]);
    sent.store(&mut telemetry, at(1_000));
    let (snapshot, accounting) = (
        telemetry.snapshot(at(3_000), Duration::from_secs(4)),
        telemetry.accounting(),
    );
    for delay in 1..4 {
        let mut again = sent.clone();
        again.age_ms = 500 * delay;
        let ingested = again.ingest(&mut telemetry, at(1_000 + 500 * delay));
        assert_eq!(ingested.event, Event::Duplicate);
        assert_eq!(again.ack(&ingested).verdict, Verdict::Duplicate);
    }
    assert_eq!(telemetry.snapshot(at(3_000), Duration::from_secs(4)), snapshot);
    let mut after = telemetry.accounting();
    // It was heard again, and nothing was counted.
    for (node, before) in after.nodes.iter_mut().zip(&accounting.nodes) {
        assert!(node.heard > before.heard, "{node:?}");
        node.heard = before.heard;
    }
    assert_eq!(after, accounting);
    assert_eq!(
        telemetry.exported().map(|series| series.counts[15]).sum::<u64>(),
        2
    );
    assert_eq!(
        (telemetry.counters().stored, telemetry.counters().duplicate),
        (1, 3)
    );
}

#[test]
fn unknown_node_is_busy_until_the_directory_knows_it() {
    let mut telemetry = Telemetry::new(Config::default());
    let sent = report(1, 1, GATEWAY, vec![series(ok("front"), &[5_000])]);
    for is_first in [true, false] {
        let ingested = sent.ingest(&mut telemetry, at(1_000));
        assert_eq!(
            ingested.event,
            Event::Busy(Busy::UnknownNode {
                node: GATEWAY.into(),
                is_first
            })
        );
        assert_eq!(sent.ack(&ingested).verdict, Verdict::Busy);
    }
    telemetry.set_directory(&mk_directory(), at(0));
    sent.store(&mut telemetry, at(2_000));
    assert_eq!(
        (total(&telemetry), telemetry.counters().busy_unknown_node),
        (1, 2)
    );
}

#[test]
fn broken_report_is_refused_with_its_number_where_it_has_one() {
    let mut telemetry = mk_telemetry();
    let mut sent = report(7, 3, GATEWAY, vec![series(ok("front"), &[5_000])]);
    sent.window.series[0].sum_us = 1;
    let ingested = sent.ingest(&mut telemetry, at(0));
    assert_eq!(
        sent.ack(&ingested).verdict,
        Verdict::Refused(v1::Reason::RefusedMalformed)
    );
    let Event::Refused(refusal) = ingested.event else {
        panic!("{:?}", ingested.event)
    };
    assert!(
        refusal.to_string().starts_with("sum_us is 1, outside"),
        "{refusal}"
    );

    let ingested = telemetry.ingest(b"GET / HTTP/1.1", at(0), at(0));
    assert_eq!(ingested.ack, None);
    assert_eq!(telemetry.counters().refused, [("REFUSED_MALFORMED", 2)].into());
    assert_eq!(telemetry.counters().vms, 0);
}

#[test]
fn vm_cannot_change_its_node() {
    let mut telemetry = mk_telemetry();
    report(1, 1, GATEWAY, vec![]).store(&mut telemetry, at(0));
    let ingested = report(1, 2, CART, vec![]).ingest(&mut telemetry, at(500));
    assert!(
        matches!(ingested.event, Event::Refused(Refusal::NodeChanged { .. })),
        "{:?}",
        ingested.event
    );
}

#[test]
fn full_table_is_busy_until_vms_were_silent_for_long() {
    let mut telemetry = Telemetry::new(Config {
        max_vms: 2,
        ..Config::default()
    });
    telemetry.set_directory(&mk_directory(), at(0));
    report(1, 1, GATEWAY, vec![]).store(&mut telemetry, at(0));
    report(2, 1, GATEWAY, vec![]).store(&mut telemetry, at(600_000));
    let third = report(3, 1, GATEWAY, vec![]);
    let ingested = third.ingest(&mut telemetry, at(600_000));
    assert_eq!(
        (ingested.event.clone(), third.ack(&ingested).verdict),
        (Event::Busy(Busy::Full), Verdict::Busy)
    );
    third.store(&mut telemetry, at(900_000));
    let counters = telemetry.counters();
    assert_eq!(
        (counters.busy_full, counters.vms_forgotten, counters.vms),
        (1, 1, 2)
    );
}

#[test]
fn keys_past_the_limit_are_dropped_and_counted_but_stay_in_the_totals() {
    let mut telemetry = Telemetry::new(Config {
        max_series: 1,
        ..Config::default()
    });
    telemetry.set_directory(&mk_directory(), at(0));
    let both = vec![series(ok("front"), &[5]), series(ok("cart"), &[6, 7])];
    report(1, 1, GATEWAY, both).store(&mut telemetry, at(1_000));
    let counters = telemetry.counters();
    assert_eq!(
        (
            counters.series,
            counters.series_dropped,
            counters.series_dropped_requests
        ),
        (1, 1, 2)
    );
    assert_eq!(total(&telemetry), 3);
}

#[test]
fn resync_is_asked_until_totals_come() {
    let mut telemetry = mk_telemetry();
    let mk = |seq| report(1, seq, GATEWAY, vec![series(ok("front"), &[5_000])]);
    // First seen at its 41st window: what it counted before is not known.
    assert!(mk(41).store(&mut telemetry, at(0)).resync);
    assert!(mk(42).store(&mut telemetry, at(500)).resync);
    assert_eq!(telemetry.accounting().nodes[0].vms_without_totals, 1);
    assert!(
        !mk(43)
            .totals(&[(ok("front"), 100)], 7)
            .store(&mut telemetry, at(1_000))
            .resync
    );
    assert_eq!(total(&telemetry), 107);
    assert!(!mk(44).store(&mut telemetry, at(1_500)).resync);
    assert_eq!(total(&telemetry), 108);
    // 45 was refused.
    assert!(mk(46).store(&mut telemetry, at(2_000)).resync);
    assert_eq!(telemetry.counters().gaps, 1);
}

#[test]
fn totals_of_a_window_in_parts_hold_all_of_its_parts() {
    let one = |service| vec![series(ok(service), &[5_000])];
    for position in 1..=3u32 {
        let mut telemetry = mk_telemetry();
        for seq in 1..=3 {
            let mut part = report(1, seq, GATEWAY, one("front"));
            part.window.parts_left = 3 - seq as u32;
            if seq == u64::from(position) {
                part = part.totals(&[(ok("front"), 3)], 0);
            }
            part.store(&mut telemetry, at(1_000));
        }
        assert_eq!(total(&telemetry), 3, "totals in part {position}");
        report(1, 4, GATEWAY, one("front")).store(&mut telemetry, at(1_500));
        assert_eq!(total(&telemetry), 4);
    }
}

#[test]
fn evicted_key_that_comes_back_starts_anew_and_loses_nothing() {
    let mut telemetry = mk_telemetry();
    report(1, 1, GATEWAY, vec![series(ok("front"), &[1, 2])]).store(&mut telemetry, at(1_000));
    let back = v1::Key {
        generation: 1,
        ..ok("front")
    };
    report(1, 2, GATEWAY, vec![series(back, &[3])]).store(&mut telemetry, at(2_000));
    let accounting = telemetry.accounting();
    assert_eq!((accounting.keys[0].count, accounting.nodes[0].retired), (1, 2));
}

#[test]
fn unmeasured_requests_are_kept_by_reason() {
    let mut telemetry = mk_telemetry();
    let mut sent = report(1, 5, GATEWAY, vec![]);
    sent.window.unmeasured = vec![v1::Unmeasured {
        reason: v1::Reason::NoCluster.into(),
        count: 4,
    }];
    sent = sent.totals(&[], 0);
    sent.window.totals.as_mut().expect("it was just set").unmeasured = 10;
    sent.store(&mut telemetry, at(0));
    let unmeasured = &telemetry.accounting().nodes[0].unmeasured;
    assert_eq!(*unmeasured, [("NO_CLUSTER", 4), ("REASON_UNSPECIFIED", 6)].into());
}

#[test]
fn refused_window_is_in_the_account_once() {
    let mut telemetry = mk_telemetry();
    let mk = |seq| report(1, seq, GATEWAY, vec![series(ok("front"), &[5_000])]);
    mk(1).store(&mut telemetry, at(500));
    // Window 2 was refused; the next one tells of its request.
    let mut next = mk(3);
    next.window.unmeasured = vec![v1::Unmeasured {
        reason: v1::Reason::RefusedMalformed.into(),
        count: 1,
    }];
    assert!(next.store(&mut telemetry, at(1_500)).resync);
    let unmeasured =
        |telemetry: &Telemetry| -> u64 { telemetry.accounting().nodes[0].unmeasured.values().sum() };
    assert_eq!((total(&telemetry), unmeasured(&telemetry)), (2, 1));
    mk(4)
        .totals(&[(ok("front"), 4)], 0)
        .store(&mut telemetry, at(2_000));
    assert_eq!((total(&telemetry), unmeasured(&telemetry)), (4, 0));
}

#[test]
fn series_without_a_place_are_counted_and_accounted() {
    let mut telemetry = mk_telemetry();
    let overflow = v1::Key {
        service: String::new(),
        port: 0,
        overflow: true,
        ..ok("x")
    };
    let nowhere = v1::Key {
        destination: Some(mk_locality("r7", "z1")),
        ..ok("front")
    };
    let gateway = vec![
        series(overflow, &[1]),
        series(ok("example.com"), &[1, 2]),
        series(nowhere, &[1, 2, 3]),
    ];
    report(1, 1, GATEWAY, gateway).store(&mut telemetry, at(1_000));
    report(2, 1, FRONT, vec![series(inbound(9090), &[1, 2, 3, 4])]).store(&mut telemetry, at(1_000));
    let counters = telemetry.counters();
    assert_eq!(counters.overflow_requests, 1);
    assert_eq!(counters.foreign_requests, 2);
    assert_eq!(counters.outside_areas_requests, 3);
    assert_eq!(counters.unknown_port_requests, 4);
    assert_eq!(total(&telemetry), 10);
}

#[test]
fn identity_is_only_a_cross_check() {
    let mut telemetry = mk_telemetry();
    let identity = |locality| {
        Some(v1::Identity {
            locality: Some(locality),
            ..v1::Identity::default()
        })
    };
    let mut sent = report(1, 1, GATEWAY, vec![]);
    sent.window.identity = identity(mk_locality("r1", "z9"));
    assert_eq!(
        sent.ingest(&mut telemetry, at(0)).event,
        Event::Stored { mismatch: None }
    );
    let mut sent = report(1, 2, GATEWAY, vec![]);
    sent.window.identity = identity(mk_locality("r1", "z1"));
    let Event::Stored {
        mismatch: Some(mismatch),
    } = sent.ingest(&mut telemetry, at(0)).event
    else {
        panic!("the cloud's locality at an edge's gateway");
    };
    assert_eq!(
        (mismatch.reported, mismatch.expected),
        (Some("cloud".into()), Some("edge-1".into()))
    );
    assert_eq!(telemetry.counters().identity_mismatches, 1);
}

#[test]
fn directory_is_readable_json() {
    let text = serde_json::to_string(&mk_directory()).expect("it can be written");
    assert!(
        text.contains(r#""role":{"sidecar":{"ports":{"8080":"cart"}}}"#),
        "{text}"
    );
    assert!(text.contains(r#""role":"gateway""#), "{text}");
    assert_eq!(
        serde_json::from_str::<Directory>(&text).expect("it can be read"),
        mk_directory()
    );
    let config = serde_json::to_string(&Config::default()).expect("it can be written");
    assert_eq!(
        serde_json::from_str::<Config>(&config).expect("it can be read"),
        Config::default()
    );
}

#[test]
fn largest_numbers_saturate() {
    let mut telemetry = mk_telemetry();
    let mut histogram = Vec::new();
    gma_report::histogram::encode_buckets([(2_532, u32::MAX)], &mut histogram);
    let count = u64::from(u32::MAX);
    let largest = v1::Series {
        count,
        sum_us: count * 59_900_000,
        histogram,
        response_bytes: 1 << 60,
        long_count: count,
        ..series(ok("front"), &[])
    };
    for seq in 1..20 {
        let mut sent = report(1, seq, GATEWAY, vec![largest.clone(); 20]);
        sent.window.duration_ms = if seq % 2 == 0 { u32::MAX } else { 0 };
        sent.store(&mut telemetry, at(1_000));
    }
    let snapshot = telemetry.snapshot(at(1_000), Duration::from_secs(300));
    assert!(snapshot.edges[&"edge-1".into()].rate_rps.is_finite());
    assert_eq!(telemetry.exported().count(), 1);
}

#[test]
fn a_proxy_may_be_listed_by_its_pods_name_whatever_its_address_is() {
    let mut directory = mk_directory();
    let gateway = directory.proxies.remove(GATEWAY).unwrap();
    directory.proxies.insert("gw.edge".to_owned(), gateway);
    let mut telemetry = Telemetry::new(Config::default());
    telemetry.set_directory(&directory, at(0));
    let calls = vec![series(outbound("cart", v1::Outcome::Ok), &[1000, 2000])];
    report(1, 1, "router~192.0.2.7~gw.edge~edge.svc", calls).store(&mut telemetry, at(1000));
    // Another pod of that name is in another namespace.
    let other = report(2, 1, "router~192.0.2.7~gw.edge-2~edge-2.svc", Vec::new());
    assert!(matches!(
        other.ingest(&mut telemetry, at(1000)).event,
        Event::Busy(_)
    ));

    let seen = telemetry.sightings(Duration::from_secs(600), at(2000));
    let cart = &seen[&"cart".into()];
    assert_eq!(cart.callers, ["edge".to_owned()].into());
    assert_eq!(cart.localities, ["r1/z1/".to_owned()].into());
    assert!(
        telemetry
            .sightings(Duration::from_secs(600), at(700_000))
            .is_empty()
    );
}
