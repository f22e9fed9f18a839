//! What evidence stands on: slots, coverage, network times.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests, and what helps them"
)]

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::{
    CART, FRONT, GATEWAY, at, inbound, mk_directory, mk_locality, mk_telemetry, outbound, report, series,
};
use gma_core::snapshot::{Coverage, EdgeSnapshot, Measured, NetworkTime};
use gma_report::v1::{Key, Outcome, Series};
use gma_telemetry::Telemetry;

const WINDOW: Duration = Duration::from_secs(4);

fn edge(telemetry: &Telemetry, now_ms: u64) -> EdgeSnapshot {
    telemetry.snapshot(at(now_ms), WINDOW).edges[&"edge-1".into()].clone()
}

fn users(durations_us: &[u64]) -> Vec<Series> {
    vec![series(outbound("front", Outcome::Ok), durations_us)]
}

/// A busy gateway: a report each 0.5 s from one VM, `requests` of 20 ms in each, the last at `until_ms`.
fn busy(telemetry: &mut Telemetry, requests: usize, from_ms: u64, until_ms: u64) -> u64 {
    let mut seq = 0;
    for now in (from_ms + 500..=until_ms).step_by(500) {
        seq += 1;
        report(1, seq, GATEWAY, users(&vec![20_000; requests])).store(telemetry, at(now));
    }
    seq
}

#[test]
fn slots_are_whole_without_gaps_and_end_at_a_slot() {
    let mut telemetry = mk_telemetry();
    busy(&mut telemetry, 3, 10_000, 20_000);
    let found = edge(&telemetry, 20_100);
    assert_eq!(found.slots_end, at(20_000));
    let counts: Vec<u64> = found.slots.iter().map(|slot| slot.count).collect();
    assert_eq!(counts, [3; 20]);
    let slot = &found.slots[7];
    assert_eq!((slot.sum_us, slot.buckets.len()), (60_000, 1));
    // The middle of the bucket that holds 20 ms, which is 0.64 % wide.
    assert_eq!(*slot.buckets, [(20_031, 3)]);
}

#[test]
fn slots_that_did_not_change_are_not_made_again() {
    let mut telemetry = mk_telemetry();
    let seq = busy(&mut telemetry, 3, 10_000, 20_000);
    let before = edge(&telemetry, 20_100);
    report(1, seq + 1, GATEWAY, users(&[30_000])).store(&mut telemetry, at(20_500));
    let after = edge(&telemetry, 20_600);
    assert_eq!((before.slots.len(), after.slots.len()), (20, 21));
    let same = |at: usize| Arc::ptr_eq(&before.slots[at].buckets, &after.slots[at].buckets);
    assert!((0..20).all(same));
    // A late report changes the slot under it, and no other.
    let mut late = report(1, seq + 2, GATEWAY, users(&[40_000]));
    late.age_ms = 5_000;
    late.store(&mut telemetry, at(20_600));
    let last = edge(&telemetry, 20_700);
    let changed: Vec<usize> = (0..21)
        .filter(|at| !Arc::ptr_eq(&after.slots[*at].buckets, &last.slots[*at].buckets))
        .collect();
    assert_eq!((changed.len(), last.slots[changed[0]].count), (1, 4));
}

#[test]
fn a_slot_waits_for_the_other_gateway_vms() {
    let mut telemetry = mk_telemetry();
    busy(&mut telemetry, 1, 10_000, 19_500);
    report(2, 1, GATEWAY, users(&[20_000])).store(&mut telemetry, at(19_400));
    report(1, 20, GATEWAY, users(&[20_000])).store(&mut telemetry, at(20_000));
    // The other has not told of the slot that ended at 20 s.
    assert_eq!(edge(&telemetry, 20_100).slots_end, at(19_500));
    report(2, 2, GATEWAY, users(&[20_000])).store(&mut telemetry, at(19_900));
    assert_eq!(edge(&telemetry, 20_100).slots_end, at(20_000));
    // One that lags for long has nothing to say.
    for (seq, now) in (21..).zip((20_500..=22_000).step_by(500)) {
        report(1, seq, GATEWAY, users(&[20_000])).store(&mut telemetry, at(now));
    }
    assert_eq!(edge(&telemetry, 22_100).slots_end, at(22_000));
}

#[test]
fn a_vm_without_requests_does_not_speak_for_a_busy_one() {
    let mut telemetry = mk_telemetry();
    busy(&mut telemetry, 30, 10_000, 30_000);
    // The worker's reports are late; the main thread's heartbeats come.
    for (seq, now) in (1..).zip([30_000, 34_000, 39_000]) {
        report(2, seq, GATEWAY, Vec::new()).store(&mut telemetry, at(now));
    }
    let found = edge(&telemetry, 40_000);
    let age = Duration::from_secs(10);
    assert_eq!(found.user_delay, Measured::Stale { age });
    assert_eq!(found.slots_end, at(30_000));
    // The gateway was restarted meanwhile: the VM that was busy never comes again.
    report(2, 4, GATEWAY, Vec::new()).store(&mut telemetry, at(61_000));
    assert_eq!(edge(&telemetry, 62_000).user_delay, Measured::Idle);
}

#[test]
fn five_minutes_of_slots_are_kept() {
    let mut telemetry = mk_telemetry();
    busy(&mut telemetry, 1, 10_000, 400_000);
    let found = edge(&telemetry, 400_000);
    assert_eq!((found.slots.len(), found.slots_end), (600, at(400_000)));
}

#[test]
fn rare_requests_are_no_silence_and_many_are() {
    let mut telemetry = mk_telemetry();
    // One request each 5 s: between them nothing is reported.
    for n in 1..=20 {
        report(1, n, GATEWAY, users(&[20_000])).store(&mut telemetry, at(n * 5_000));
    }
    let found = edge(&telemetry, 110_000);
    assert_eq!(found.user_delay, Measured::Idle);
    assert_eq!(found.slots_end, at(108_500));
    assert_eq!(
        found
            .slots
            .iter()
            .rev()
            .take_while(|slot| slot.count == 0)
            .count(),
        17
    );
    // 100 a second and then nothing for 5 s: that is a cut, not chance.
    let mut telemetry = mk_telemetry();
    busy(&mut telemetry, 50, 10_000, 60_000);
    let age = Duration::from_secs(5);
    assert_eq!(edge(&telemetry, 65_000).user_delay, Measured::Stale { age });
    assert_eq!(edge(&telemetry, 65_000).slots_end, at(60_000));
    // Two reports may have been lost; not three.
    assert_eq!(
        edge(&telemetry, 65_000).report_age,
        Measured::Present { value: age }
    );
    let age = Duration::from_millis(12_500);
    assert_eq!(edge(&telemetry, 72_500).report_age, Measured::Stale { age });
    // What was lost comes late, and old as it is, the gateway was heard.
    let mut late = report(1, 101, GATEWAY, users(&[20_000]));
    late.age_ms = 11_000;
    late.store(&mut telemetry, at(72_000));
    let found = edge(&telemetry, 73_000);
    let value = Duration::from_secs(12);
    assert_eq!(found.user_delay, Measured::Stale { age: value });
    assert_eq!(found.report_age, Measured::Present { value });
}

fn gateways(telemetry: &Telemetry, now_ms: u64) -> (u32, u32, u32) {
    let Coverage {
        expected,
        heard,
        blind,
    } = edge(telemetry, now_ms).coverage;
    (expected, heard, blind)
}

#[test]
fn a_proxy_is_expected_when_it_was_ready_for_30_seconds() {
    let mut telemetry = mk_telemetry();
    assert_eq!(gateways(&telemetry, 29_000), (0, 0, 0));
    assert_eq!(gateways(&telemetry, 30_000), (1, 0, 0));
    let mut directory = mk_directory();
    let ready = |telemetry: &mut Telemetry, ready, now| {
        let gateway = directory.proxies.get_mut(GATEWAY).expect("it is listed");
        gateway.ready = ready;
        telemetry.set_directory(&directory, at(now));
    };
    let mut ready = ready;
    ready(&mut telemetry, false, 31_000);
    assert_eq!(gateways(&telemetry, 40_000), (0, 0, 0));
    ready(&mut telemetry, true, 41_000);
    ready(&mut telemetry, true, 60_000);
    assert_eq!(gateways(&telemetry, 70_000), (0, 0, 0));
    assert_eq!(gateways(&telemetry, 71_000), (1, 0, 0));
}

#[test]
fn idle_is_heard_and_silence_is_not() {
    let mut telemetry = mk_telemetry();
    report(1, 1, GATEWAY, vec![]).store(&mut telemetry, at(31_000));
    assert_eq!(gateways(&telemetry, 76_000), (1, 1, 0));
    assert_eq!(gateways(&telemetry, 76_001), (1, 0, 0));
    report(7, 1, CART, vec![]).store(&mut telemetry, at(31_000));
    let rows = telemetry.snapshot(at(60_000), WINDOW).coverage;
    let rows: Vec<_> = rows
        .iter()
        .map(|row| (row.service.as_str(), row.area.as_str(), row.coverage.heard))
        .collect();
    assert_eq!(rows, [("cart", "edge-1", 1), ("front", "cloud", 0)]);
}

#[test]
fn a_vm_that_is_silent_while_others_speak_is_blind() {
    let mut telemetry = mk_telemetry();
    let hear = |telemetry: &mut Telemetry, vm, seq, config, now| {
        let mut sent = report(vm, seq, GATEWAY, vec![]);
        sent.config_hash = config;
        sent.store(telemetry, at(now));
    };
    for vm in [1, 2, 3] {
        hear(&mut telemetry, vm, 1, 1, 30_000);
    }
    // The worker of 3 has trapped.
    for (seq, now) in [(2, 58_000), (3, 86_000)] {
        hear(&mut telemetry, 1, seq, 1, now);
        hear(&mut telemetry, 2, seq, 1, now + 1_000);
    }
    assert_eq!(gateways(&telemetry, 75_000), (1, 1, 0));
    assert_eq!(gateways(&telemetry, 87_000), (1, 1, 1));
    assert_eq!(edge(&telemetry, 87_000).coverage.share(), 0.0);
    // Its place is taken.
    hear(&mut telemetry, 4, 1, 1, 90_000);
    assert_eq!(gateways(&telemetry, 91_000), (1, 1, 0));
    // A new configuration comes to each when it reports; a VM that had the old one is judged no more.
    hear(&mut telemetry, 1, 4, 2, 100_000);
    hear(&mut telemetry, 2, 4, 2, 101_000);
    hear(&mut telemetry, 1, 5, 2, 130_000);
    hear(&mut telemetry, 2, 5, 2, 131_000);
    assert_eq!(gateways(&telemetry, 146_000), (1, 1, 0));
    // A restarted container keeps the node id and has new VMs.
    for vm in [11, 12, 13] {
        hear(&mut telemetry, vm, 1, 2, 150_000);
    }
    for vm in [11, 12, 13] {
        hear(&mut telemetry, vm, 2, 2, 178_000);
    }
    assert_eq!(gateways(&telemetry, 180_000), (1, 1, 0));
}

/// Calls of front (in the cloud) to cart at the edge, and what cart received: mean and count.
fn network(calls: &[(u64, usize)], received: (u64, usize)) -> Vec<NetworkTime> {
    let mut telemetry = mk_telemetry();
    let to_edge = Key {
        destination: Some(mk_locality("r1", "z9")),
        ..outbound("cart", Outcome::Ok)
    };
    for (caller, (us, count)) in calls.iter().enumerate() {
        let node = [FRONT, GATEWAY][caller];
        let sent = report(
            caller as u64 + 1,
            1,
            node,
            vec![series(to_edge.clone(), &vec![*us; *count])],
        );
        sent.store(&mut telemetry, at(9_000));
    }
    let sent = report(
        9,
        1,
        CART,
        vec![series(inbound(8080), &vec![received.0; received.1])],
    );
    sent.store(&mut telemetry, at(9_000));
    telemetry.snapshot(at(9_000), WINDOW).network
}

#[test]
fn network_time_is_the_callers_mean_less_the_callees() {
    let found = network(&[(25_000, 200)], (5_000, 196));
    let [time] = &found[..] else { panic!("{found:?}") };
    assert_eq!(
        (
            time.from.as_str(),
            time.callee.as_str(),
            time.to.as_str(),
            time.calls
        ),
        ("cloud", "cart", "edge-1", 200)
    );
    assert!((time.mean_us - 20_000.0).abs() < 1e-6, "{time:?}");
    // All calls took as long, so only buckets (1 %) are in the error.
    assert!(time.low_us > 19_900.0 && time.high_us < 20_100.0, "{time:?}");
}

#[test]
fn callers_that_do_not_explain_the_callee_allow_no_network_time() {
    assert_eq!(network(&[(25_000, 200)], (5_000, 300)), []);
    assert_eq!(network(&[(25_000, 20)], (5_000, 20)), []);
}

#[test]
fn several_caller_areas_give_an_interval() {
    // 900 calls from the cloud, 100 of the edge's gateway, which took 6 ms.
    let found = network(&[(25_000, 900), (6_000, 100)], (5_000, 1_000));
    let [cloud] = &found[..] else { panic!("{found:?}") };
    // Of the callee's 5 ms, at most 6 · 0.1 ms are the gateway's: the cloud's took 4.9 to 5.6 ms.
    assert_eq!(cloud.from.as_str(), "cloud");
    assert!((19_400.0..19_450.0).contains(&cloud.low_us), "{cloud:?}");
    assert!((20_110.0..20_130.0).contains(&cloud.high_us), "{cloud:?}");
}
