//! Bounds: keys, memory, reports, and what happens past each.
#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

use std::time::Duration;

use gma_report::{Outcome, Report};
use gma_tests::wasm_host::{Host, HttpCall, Reply, Request, report, stored};

const GOOD: &str = r#"{"controller": {"cluster": "gma"}}"#;
const MIB: usize = 1 << 20;

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn host() -> Host {
    let mut host = Host::new().unwrap();
    host.configure(1, GOOD).unwrap();
    host
}

fn service(number: usize) -> Request {
    Request::outbound(&format!("s{number}.shop.svc.cluster.local"))
}

fn reports(calls: &[HttpCall]) -> Vec<Report> {
    calls.iter().map(report).collect()
}

#[test]
fn three_hundred_services_go_through_256_keys_and_overflow() {
    let mut host = host();
    for round in 1..=2 {
        for number in 0..300 {
            host.log(&service(number)).unwrap();
        }
        host.log(&service(299).code(500)).unwrap();
        host.log(&service(299).locality("r2", "z")).unwrap();
        host.log(&Request::inbound(8080)).unwrap();
        let all = reports(&host.run(1, seconds(4), stored).unwrap());
        let series = &all[0].window.series;
        assert_eq!(series.iter().filter(|series| !series.key.overflow).count(), 256);
        assert_eq!(
            series.iter().map(|series| series.count).sum::<u64>(),
            303,
            "round {round}"
        );
        // One for each direction, locality and outcome.
        let overflow: Vec<_> = series.iter().filter(|series| series.key.overflow).collect();
        let mut counts: Vec<_> = overflow.iter().map(|series| series.count).collect();
        counts.sort_unstable();
        assert_eq!(counts, [1, 1, 1, 44]);
        assert!(
            overflow
                .iter()
                .any(|series| series.key.outcome == Outcome::ServerError)
        );
        assert!(
            overflow
                .iter()
                .all(|series| series.key.service.is_empty() && series.key.port == 0)
        );
    }
}

#[test]
fn an_idle_key_makes_place_and_comes_back_as_another() {
    let mut host = host();
    for number in 0..256 {
        host.log(&service(number)).unwrap();
    }
    host.run(1, seconds(8), stored).unwrap();
    // A key in use, and one whose report was never answered, stay.
    host.log(&service(1)).unwrap();
    host.log(&service(300)).unwrap();
    let kept = host.run(1, seconds(4), stored).unwrap();
    assert!(
        reports(&kept)[0]
            .window
            .series
            .iter()
            .any(|series| series.key.overflow)
    );
    host.advance(seconds(595));
    host.log(&service(1)).unwrap();
    host.run(1, seconds(30), stored).unwrap();
    for number in [0, 1, 300] {
        host.log(&service(number)).unwrap();
    }
    let resync = |call: &HttpCall| {
        let mut ack = gma_tests::wasm_host::ack(call);
        ack.resync = true;
        Reply::Body(gma_report::encode_ack(&ack))
    };
    let back = reports(&host.run(1, seconds(5), resync).unwrap()).remove(0);
    let key = |number: usize| {
        let name = format!("s{number}.shop.svc.cluster.local");
        back.window
            .series
            .iter()
            .find(|series| series.key.service == name)
            .map(|series| series.key.generation)
    };
    assert!(key(0).unwrap() > 0, "evicted, so it comes back as another");
    assert_eq!(key(1), Some(0), "never idle for 10 minutes");
    assert!(key(300).is_some(), "there is room for it now");
    // Totals of what was evicted are in `retired`.
    let totals = reports(&host.run(1, seconds(5), stored).unwrap())
        .remove(0)
        .window
        .totals
        .unwrap();
    let alive: u64 = totals.keys.iter().map(|total| total.count).sum();
    assert_eq!(alive + totals.retired_count, 256 + 2 + 1 + 3);
    assert!(totals.retired_count >= 254, "{}", totals.retired_count);
}

#[test]
fn unanswered_counts_are_never_evicted() {
    let mut host = host();
    host.log(&service(1)).unwrap();
    host.run(1, seconds(4), |_| Reply::Failure).unwrap();
    for _ in 0..4 {
        host.advance(seconds(600));
        host.run(1, seconds(20), |_| Reply::Failure).unwrap();
    }
    let all = reports(&host.run(1, seconds(20), stored).unwrap());
    assert_eq!(
        all.iter()
            .flat_map(|report| &report.window.series)
            .map(|series| series.count)
            .sum::<u64>(),
        1
    );
}

/// 256 keys whose histograms are as large as they get, through an outage and after it. (A window over 1 MiB takes
/// millions of requests: its split is tested natively, in gma-filter-core.)
#[test]
fn memory_is_bounded() {
    let mut host = host();
    for _ in 0..2 {
        for number in 0..256 {
            for micros in [1, 10, 300, 5_000, 70_000, 900_000, 12_000_000, 60_000_000] {
                host.log(&service(number).code(201).duration(Duration::from_micros(micros)))
                    .unwrap();
            }
        }
        host.run(1, seconds(8), |_| Reply::Failure).unwrap();
    }
    let calls = host.run(1, seconds(20), stored).unwrap();
    let sent = reports(&calls)
        .into_iter()
        .flat_map(|report| report.window.series);
    assert_eq!(sent.map(|series| series.count).sum::<u64>(), 2 * 256 * 8);
    assert!(host.memory_bytes() <= 8 * MIB, "{} bytes", host.memory_bytes());
    println!("linear memory: {} KiB", host.memory_bytes() >> 10);
}

#[test]
fn memory_stays_flat() {
    let mut host = host();
    let mut sizes = Vec::new();
    for _ in 0..12 {
        for number in 0..500 {
            host.log(&service(number % 20).duration(Duration::from_micros(number as u64 * 200)))
                .unwrap();
        }
        host.run(1, seconds(4), stored).unwrap();
        sizes.push(host.memory_bytes());
    }
    assert_eq!(sizes[3], sizes[11], "{sizes:?}");
}

#[test]
fn reports_are_small() {
    // 10 keys at 1,000 requests a second, 5 s: log-normal delays are gma-report's test; here uniform ones,
    // which need more buckets.
    let mut host = host();
    for number in 0..5000u64 {
        let micros = 5_000 + number * 7_919 % 40_000;
        host.log(
            &service(number as usize % 10)
                .code(201)
                .duration(Duration::from_micros(micros)),
        )
        .unwrap();
    }
    let calls = host.run(1, seconds(4), stored).unwrap();
    assert!(calls[0].body.len() <= 8 << 10, "{} bytes", calls[0].body.len());
}
