//! From reports to snapshots.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests, and what helps them"
)]

mod common;

use std::time::Duration;

use common::{
    CART, FRONT, GATEWAY, at, find, inbound, instance, mk_telemetry, outbound, report, series, user,
};
use gma_core::snapshot::{EdgeSnapshot, Measured, OutcomeCounts};
use gma_report::v1::{self, Outcome};
use gma_telemetry::Telemetry;
use hdrhistogram::Histogram;

const WINDOW: Duration = Duration::from_secs(4);

fn edge(telemetry: &Telemetry, now_ms: u64) -> EdgeSnapshot {
    telemetry.snapshot(at(now_ms), WINDOW).edges[&"edge-1".into()].clone()
}

fn present<T: std::fmt::Debug>(measured: Measured<T>) -> T {
    match measured {
        Measured::Present { value } => value,
        other => panic!("{other:?}"),
    }
}

/// Numbers without a pattern, the same at each run (Knuth's MMIX generator).
fn noise(n: usize) -> Vec<u64> {
    let mut state = 7u64;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        state >> 33
    };
    (0..n).map(|_| 1_000 + next() % 300_000).collect()
}

#[test]
fn silence_is_never_zero() {
    let mut telemetry = mk_telemetry();
    let nothing = edge(&telemetry, 10_000);
    assert_eq!(
        (&nothing.user_delay, &nothing.rtt),
        (&Measured::NotYet, &Measured::NotYet)
    );
    assert_eq!(nothing.report_age, Measured::NotYet);
    report(1, 1, GATEWAY, vec![]).store(&mut telemetry, at(10_000));
    assert_eq!(edge(&telemetry, 11_000).user_delay, Measured::Idle);
    assert_eq!(
        edge(&telemetry, 11_000).report_age,
        Measured::Present {
            value: Duration::from_secs(1)
        }
    );
    // Without requests it only sends heartbeats: the next within 30 s, and one may be late.
    assert_eq!(edge(&telemetry, 55_000).user_delay, Measured::Idle);
    let age = Duration::from_secs(46);
    assert_eq!(edge(&telemetry, 56_000).user_delay, Measured::Stale { age });
    assert_eq!(edge(&telemetry, 56_000).report_age, Measured::Stale { age });
}

#[test]
fn user_delay_is_ok_and_client_errors_of_known_services() {
    let mut telemetry = mk_telemetry();
    let gateway = vec![
        series(outbound("front", Outcome::Ok), &[10_000, 20_000]),
        series(outbound("cart", Outcome::ClientError), &[30_000]),
        series(outbound("front", Outcome::ServerError), &[1_000_000]),
        series(outbound("front", Outcome::NoResponse), &[2_000_000]),
        series(outbound("front", Outcome::Cancelled), &[3_000_000]),
        v1::Series {
            long_count: 2,
            ..series(outbound("cart", Outcome::Ok), &[])
        },
        series(outbound("example.com", Outcome::Ok), &[40_000_000]),
    ];
    report(1, 1, GATEWAY, gateway).store(&mut telemetry, at(10_000));
    let edge = edge(&telemetry, 10_000);
    let delay = present(edge.user_delay);
    assert_eq!((delay.count, delay.mean_us), (3, 20_000.0));
    let outcomes = OutcomeCounts {
        ok: 2,
        client_error: 1,
        server_error: 1,
        no_response: 1,
        cancelled: 1,
        long: 2,
    };
    assert_eq!(edge.outcomes, outcomes);
    // 8 requests in the half second that was reported on.
    assert_eq!(edge.rate_rps, 16.0);
}

#[test]
fn quantiles_are_within_1_percent_and_the_mean_is_exact() {
    let mut telemetry = mk_telemetry();
    let durations = noise(4_000);
    for (n, chunk) in durations.chunks(500).enumerate() {
        let sent = report(
            1,
            n as u64 + 1,
            GATEWAY,
            vec![series(outbound("front", Outcome::Ok), chunk)],
        );
        sent.store(&mut telemetry, at(500 * (n as u64 + 1)));
    }
    let delay = present(edge(&telemetry, 4_000 - 1).user_delay);
    let mut exact = Histogram::<u64>::new(5).expect("5 digits are allowed");
    durations
        .iter()
        .for_each(|us| exact.record(*us).expect("it grows"));
    for (found, percent) in [
        (delay.p50_us, 50.0),
        (delay.p90_us, 90.0),
        (delay.p95_us, 95.0),
        (delay.p99_us, 99.0),
    ] {
        let expected = exact.value_at_percentile(percent) as f64;
        assert!(
            (found as f64 - expected).abs() <= 0.01 * expected,
            "p{percent}: {found}, {expected}"
        );
    }
    assert_eq!(delay.count, 4_000);
    assert_eq!(delay.mean_us, durations.iter().sum::<u64>() as f64 / 4_000.0);
}

#[test]
fn late_windows_are_not_fresh() {
    let mut telemetry = mk_telemetry();
    // Sent again for 20 s, until the controller answered.
    let mut sent = report(
        1,
        1,
        GATEWAY,
        vec![series(outbound("front", Outcome::Ok), &[9_000; 100])],
    );
    sent.age_ms = 20_000;
    sent.store(&mut telemetry, at(60_000));
    let edge = edge(&telemetry, 60_000);
    assert_eq!(
        edge.user_delay,
        Measured::Stale {
            age: Duration::from_secs(20)
        }
    );
    assert_eq!((edge.outcomes, edge.rate_rps), (OutcomeCounts::default(), 0.0));
    let whole = telemetry.snapshot(at(60_000), Duration::from_secs(25));
    assert_eq!(whole.edges[&"edge-1".into()].outcomes.ok, 100);
    // Older than what is kept: only in the totals.
    let mut sent = report(
        1,
        2,
        GATEWAY,
        vec![series(outbound("front", Outcome::Ok), &[9_000; 100])],
    );
    sent.age_ms = 400_000;
    sent.store(&mut telemetry, at(60_000));
    let whole = telemetry.snapshot(at(60_000), Duration::from_secs(300));
    assert_eq!(whole.edges[&"edge-1".into()].outcomes.ok, 100);
    assert_eq!(
        (common::total(&telemetry), telemetry.counters().late_windows),
        (200, 1)
    );
}

#[test]
fn long_window_is_laid_over_the_time_that_it_covers() {
    let mut telemetry = mk_telemetry();
    let mut sent = report(
        1,
        1,
        GATEWAY,
        vec![series(outbound("front", Outcome::Ok), &noise(1_000))],
    );
    // 40 s without a controller, then one window.
    sent.window.duration_ms = 40_000;
    sent.store(&mut telemetry, at(99_999));
    for seconds in [4, 10, 20] {
        let snapshot = telemetry.snapshot(at(99_999), Duration::from_secs(seconds));
        let found = snapshot.edges[&"edge-1".into()].outcomes.ok;
        assert!(found.abs_diff(25 * seconds) <= 25, "{found} in {seconds} s");
    }
    let whole = telemetry.snapshot(at(99_999), Duration::from_secs(60));
    assert_eq!(whole.edges[&"edge-1".into()].outcomes.ok, 1_000);
}

#[test]
fn slots_expire() {
    let mut telemetry = mk_telemetry();
    report(1, 1, GATEWAY, vec![series(outbound("front", Outcome::Ok), &[5])])
        .store(&mut telemetry, at(1_000));
    assert_eq!(telemetry.counters().series, 1);
    report(1, 2, GATEWAY, vec![]).store(&mut telemetry, at(302_000));
    assert_eq!(telemetry.counters().series, 0);
    assert_eq!(telemetry.exported().count(), 1);
}

#[test]
fn call_graph_has_both_ends() {
    let mut telemetry = mk_telemetry();
    let edge_cart = v1::Key {
        destination: Some(common::mk_locality("r1", "z9")),
        ..outbound("cart", Outcome::Ok)
    };
    let unreached = v1::Key {
        destination: None,
        ..outbound("cart", Outcome::NoResponse)
    };
    let front = vec![
        series(inbound(8080), &[40_000, 50_000]),
        series(outbound("cart", Outcome::Ok), &[10_000, 11_000]),
        series(edge_cart, &[3_000]),
        series(unreached, &[5_000]),
    ];
    report(
        1,
        1,
        GATEWAY,
        vec![series(outbound("front", Outcome::Ok), &[60_000])],
    )
    .store(&mut telemetry, at(9_000));
    report(2, 1, FRONT, front).store(&mut telemetry, at(9_000));
    report(3, 1, CART, vec![series(inbound(8080), &[2_000])]).store(&mut telemetry, at(9_000));
    let snapshot = telemetry.snapshot(at(9_000), WINDOW);
    assert_eq!(find(&snapshot.calls, &user(), "front").sum_us, 60_000);
    let cart = |area: Option<&str>| {
        let area = area.map(Into::into);
        let mut calls = snapshot.calls.iter();
        calls
            .find(|call| call.caller == instance("front", "cloud") && call.callee_area == area)
            .map(|call| {
                (
                    call.timed,
                    call.sum_us,
                    call.response_bytes,
                    call.outcomes.no_response,
                )
            })
    };
    assert_eq!(cart(Some("cloud")), Some((2, 21_000, 20, 0)));
    assert_eq!(cart(Some("edge-1")), Some((1, 3_000, 10, 0)));
    assert_eq!(cart(None), Some((0, 0, 0, 1)));
    let received: Vec<_> = snapshot
        .received
        .iter()
        .map(|r| (r.service.as_str(), r.area.as_str(), r.timed, r.sum_us))
        .collect();
    assert_eq!(
        received,
        [("cart", "edge-1", 1, 2_000), ("front", "cloud", 2, 90_000)]
    );
}

#[test]
fn round_trip_is_the_smallest_of_the_edges_own() {
    let mut telemetry = mk_telemetry();
    let heard = |telemetry: &mut Telemetry, vm: u64, seq: u64, node: &str, us: u32, now: u64| {
        let mut sent = report(vm, seq, node, vec![]);
        sent.round_trip_us = Some(us);
        sent.store(telemetry, at(now));
    };
    // The cloud's own round trips are no edge's.
    heard(&mut telemetry, 1, 1, FRONT, 100, 9_000);
    for seq in 1..=3 {
        let us = 50_000 + 10 * seq as u32;
        heard(&mut telemetry, 2, seq, GATEWAY, us, 10_000 + 600 * seq);
    }
    assert_eq!(edge(&telemetry, 14_200).rtt, Measured::NotYet);
    heard(&mut telemetry, 3, 1, CART, 49_000, 14_200);
    // Three of the four lie within 4 s: the window is grown.
    let us = Duration::from_micros;
    assert_eq!(present(edge(&telemetry, 14_200).rtt), us(49_000));
    for seq in 4..=16 {
        heard(&mut telemetry, 2, seq, GATEWAY, 90_000, 14_200 + 500 * (seq - 3));
    }
    // It was measured when the window that tells it began.
    let mut late = report(3, 2, CART, vec![]);
    (late.round_trip_us, late.window.duration_ms) = (Some(49_000), 5_000);
    late.store(&mut telemetry, at(20_700));
    assert_eq!(present(edge(&telemetry, 20_700).rtt), us(90_000));
    assert!(matches!(edge(&telemetry, 26_700).rtt, Measured::Stale { age } if age >= Duration::from_secs(6)));
}

#[test]
fn exported_histograms_are_cumulative_and_of_calls_only() {
    let mut telemetry = mk_telemetry();
    let durations = [400, 900, 30_000, 59_000_000];
    report(
        1,
        1,
        GATEWAY,
        vec![series(outbound("front", Outcome::Ok), &durations)],
    )
    .store(&mut telemetry, at(1_000));
    report(
        1,
        2,
        GATEWAY,
        vec![series(outbound("front", Outcome::Ok), &[600])],
    )
    .store(&mut telemetry, at(1_500));
    report(2, 1, FRONT, vec![series(inbound(8080), &[1_000])]).store(&mut telemetry, at(1_000));
    let exported: Vec<_> = telemetry.exported().collect();
    assert_eq!(exported.len(), 1);
    let found = &exported[0];
    assert_eq!((&*found.source, &*found.source_area), ("user", "edge-1"));
    assert_eq!(
        (&*found.destination, &*found.destination_area, found.outcome),
        ("front", "cloud", "ok")
    );
    assert_eq!(found.counts, [1, 3, 3, 3, 3, 4, 4, 4, 4, 4, 4, 4, 4, 4, 5, 5]);
    assert_eq!(found.sum_ms, 59_031_900.0 / 1_000.0);
}
