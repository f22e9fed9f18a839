//! Laws that hold for any traffic, order, loss and restart.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests, and what helps them"
)]

mod common;

use std::collections::BTreeMap;
use std::time::Duration;

use common::{FRONT, GATEWAY, Sent, at, inbound, mk_telemetry, outbound, report, series, total};
use gma_core::snapshot::Snapshot;
use gma_report::v1;
use gma_telemetry::{Event, Telemetry};
use proptest::prelude::*;

const NOW_MS: u64 = 400_000;

/// Windows of some VMs: (VM, end, length, durations of requests), ends ascending per VM.
type Traffic = Vec<(u64, u64, u32, Vec<u64>)>;

fn traffic() -> impl Strategy<Value = Traffic> {
    let window = (
        1..5u64,
        1..20_000u64,
        0..30_000u32,
        proptest::collection::vec(0..5_000_000u64, 0..20),
    );
    proptest::collection::vec(window, 1..40)
}

fn key(vm: u64) -> (&'static str, v1::Key) {
    if vm.is_multiple_of(2) {
        (GATEWAY, outbound("front", v1::Outcome::Ok))
    } else {
        (FRONT, inbound(8080))
    }
}

fn reports(traffic: &Traffic) -> Vec<Sent> {
    let mut seqs: BTreeMap<u64, u64> = BTreeMap::new();
    let mk = |(vm, back_ms, duration_ms, durations): &(u64, u64, u32, Vec<u64>)| {
        let seq = seqs.entry(*vm).or_default();
        *seq += 1;
        let (node, key) = key(*vm);
        let mut sent = report(*vm, *seq, node, vec![series(key, durations)]);
        (sent.age_ms, sent.window.duration_ms) = (*back_ms, *duration_ms);
        sent
    };
    traffic.iter().map(mk).collect()
}

fn store_all(reports: &[Sent]) -> Telemetry {
    let mut telemetry = mk_telemetry();
    for sent in reports {
        sent.store(&mut telemetry, at(NOW_MS));
    }
    telemetry
}

fn snapshot(telemetry: &Telemetry) -> Snapshot {
    telemetry.snapshot(at(NOW_MS), Duration::from_secs(300))
}

fn counted(snapshot: &Snapshot) -> (u64, u64) {
    let calls = snapshot.calls.iter().map(|call| (call.timed, call.sum_us));
    let received = snapshot
        .received
        .iter()
        .map(|received| (received.timed, received.sum_us));
    calls
        .chain(received)
        .fold((0, 0), |(count, sum), (timed, sum_us)| {
            (count + timed, sum + sum_us)
        })
}

proptest! {
    #[test]
    fn windows_conserve_counts_and_sums(traffic in traffic()) {
        let expected = traffic.iter().fold((0, 0), |(count, sum), (_, _, _, durations)| {
            (count + durations.len() as u64, sum + durations.iter().sum::<u64>())
        });
        let telemetry = store_all(&reports(&traffic));
        prop_assert_eq!(counted(&snapshot(&telemetry)), expected);
        prop_assert_eq!(total(&telemetry), expected.0);
        let gateways: usize = traffic.iter().filter(|w| w.0.is_multiple_of(2)).map(|w| w.3.len()).sum();
        let exported: u64 = telemetry.exported().map(|series| series.counts[15]).sum();
        prop_assert_eq!(exported, gateways as u64);
    }

    #[test]
    fn order_between_vms_does_not_matter(traffic in traffic()) {
        let reports = reports(&traffic);
        let mut grouped = reports.clone();
        // Stable: each VM keeps its own order.
        grouped.sort_by_key(|sent| sent.vm);
        let (left, right) = (store_all(&reports), store_all(&grouped));
        prop_assert_eq!(snapshot(&left), snapshot(&right));
        prop_assert_eq!(left.accounting(), right.accounting());
    }

    #[test]
    fn parts_count_as_the_whole(traffic in traffic(), cut in 0..20usize) {
        let whole = store_all(&reports(&traffic));
        let split: Traffic = traffic
            .iter()
            .flat_map(|(vm, back, length, durations)| {
                let (first, second) = durations.split_at(cut.min(durations.len()));
                [(*vm, *back, *length, first.to_vec()), (*vm, *back, *length, second.to_vec())]
            })
            .collect();
        let parts = store_all(&reports(&split));
        prop_assert_eq!(counted(&snapshot(&whole)), counted(&snapshot(&parts)));
        prop_assert_eq!(total(&whole), total(&parts));
    }

    #[test]
    fn lost_answers_change_nothing(traffic in traffic(), repeats in proptest::collection::vec(1..4usize, 40)) {
        let reports = reports(&traffic);
        let mut telemetry = mk_telemetry();
        for (sent, times) in reports.iter().zip(repeats) {
            sent.store(&mut telemetry, at(NOW_MS));
            for _ in 1..times {
                prop_assert_eq!(sent.ingest(&mut telemetry, at(NOW_MS)).event, Event::Duplicate);
            }
        }
        let once = store_all(&reports);
        prop_assert_eq!(snapshot(&telemetry), snapshot(&once));
        prop_assert_eq!(telemetry.accounting(), once.accounting());
    }

    /// A new controller, which may also have stored a window whose answer was lost before: after one
    /// window of each VM that was asked for totals, it knows what the old one would.
    #[test]
    fn restart_gives_exact_totals_after_one_round(
        traffic in traffic(),
        restart in 0..40usize,
        retired in 0..5u64,
    ) {
        let reports = reports(&traffic);
        let restart = restart.min(reports.len());
        let mut sent_by: BTreeMap<u64, u64> = BTreeMap::new();
        let mut wants: BTreeMap<u64, bool> = BTreeMap::new();
        let mut telemetry = mk_telemetry();
        let mut heard = BTreeMap::new();
        for (n, sent) in reports.iter().enumerate() {
            if n == restart {
                telemetry = mk_telemetry();
                heard.clear();
            }
            let counted = sent_by.entry(sent.vm).or_default();
            *counted += sent.window.series[0].count;
            let mut sent = sent.clone();
            if wants.get(&sent.vm) == Some(&true) {
                let evicted = retired.min(*counted);
                let key = key(sent.vm).1;
                sent = sent.totals(&[(key, *counted - evicted)], evicted);
            }
            let ack = sent.store(&mut telemetry, at(NOW_MS));
            wants.insert(sent.vm, ack.resync);
            heard.insert(sent.vm, *counted);
        }
        // The round: one more, empty window of each VM that was heard since.
        for (vm, counted) in &heard {
            let seq = reports.iter().filter(|sent| sent.vm == *vm).count() as u64 + 1;
            let mut sent = report(*vm, seq, key(*vm).0, vec![]);
            if wants.get(vm) == Some(&true) {
                sent = sent.totals(&[(key(*vm).1, *counted)], 0);
            }
            prop_assert!(!sent.store(&mut telemetry, at(NOW_MS)).resync);
        }
        prop_assert_eq!(total(&telemetry), heard.values().sum::<u64>());
    }

    #[test]
    fn arbitrary_bodies_never_panic(body in proptest::collection::vec(any::<u8>(), 0..300)) {
        let mut telemetry = mk_telemetry();
        let ingested = telemetry.ingest(&body, at(0), at(0));
        prop_assert!(matches!(ingested.event, Event::Refused(_)));
    }
}
