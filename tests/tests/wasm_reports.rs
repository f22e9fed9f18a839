//! The conversation with the controller: pacing, acks of each verdict, loss, and what is never lost or double.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails where it stands")]

use std::time::Duration;

use gma_report::v1::{self, Reason};
use gma_report::{Ack, Verdict, encode_ack};
use gma_tests::wasm_host::{
    BAD_ARGUMENT, Host, HttpCall, INTERNAL_FAILURE, Reply, Request, ack, report, stored,
};
use prost::Message;

const CLUSTER: &str = "outbound|8080||gma.gma-system.svc.cluster.local";
const CART: &str = "cart.shop.svc.cluster.local";

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn host() -> Host {
    let mut host = Host::new().unwrap();
    host.configure(1, &format!(r#"{{"controller": {{"cluster": "{CLUSTER}"}}}}"#))
        .unwrap();
    host
}

/// A host that has made itself known, so that what follows is only what the test does.
fn known() -> Host {
    let mut host = host();
    assert_eq!(host.run(1, seconds(4), stored).unwrap().len(), 1);
    host
}

fn log(host: &mut Host, requests: usize) {
    for _ in 0..requests {
        host.log(&Request::outbound(CART)).unwrap();
    }
}

fn requests(calls: &[HttpCall]) -> u64 {
    calls
        .iter()
        .flat_map(|call| report(call).window.series)
        .map(|series| series.count)
        .sum()
}

fn altered(call: &HttpCall, alter: impl Fn(&mut Ack)) -> Reply {
    let mut ack = ack(call);
    alter(&mut ack);
    Reply::Body(encode_ack(&ack))
}

/// The one call that is made within `time`, not answered.
fn one_call(host: &mut Host, time: Duration) -> HttpCall {
    let calls = host.run(1, time, |_| Reply::Never).unwrap();
    let [call] = calls.as_slice() else {
        panic!("{} calls", calls.len())
    };
    call.clone()
}

#[test]
fn the_first_report_says_who_it_is() {
    let mut host = host();
    log(&mut host, 3);
    let calls = host.run(1, seconds(4), stored).unwrap();
    let [call] = calls.as_slice() else {
        panic!("{calls:?}")
    };
    assert_eq!(call.cluster, CLUSTER);
    assert_eq!(call.headers[":method"], "POST");
    assert_eq!(call.headers[":path"], "/v1/reports");
    assert_eq!(call.headers[":authority"], "gma.gma-system.svc.cluster.local");
    assert_eq!(call.timeout_ms, 5000);
    let report = report(call);
    assert_eq!(report.head.seq, 1);
    assert!(report.head.module.starts_with("gma-filter "));
    assert_eq!(
        report.window.node_id,
        "sidecar~10.0.0.7~shopfront-1.shop~shop.svc.cluster.local"
    );
    let identity = report.window.identity.unwrap();
    assert_eq!(
        (identity.namespace.as_str(), identity.workload.as_str()),
        ("shop", "shopfront")
    );
    assert_eq!(identity.cluster_id, "Kubernetes");
    assert_eq!(identity.labels["version"], "v1");
    assert_eq!(identity.locality.unwrap().zone, "edge-1");
    let totals = report.window.totals.unwrap();
    assert_eq!(
        (totals.keys.len(), totals.keys[0].count, totals.keys[0].sum_us),
        (1, 3, 30_000)
    );
}

#[test]
fn a_quiet_vm_sends_a_small_heartbeat() {
    let mut host = known();
    let calls = host.run(1, seconds(300), stored).unwrap();
    assert!((10..=12).contains(&calls.len()), "{} in 300 s", calls.len());
    for call in calls {
        assert!(call.body.len() < 200, "{} bytes", call.body.len());
        let report = report(&call);
        assert!(report.window.identity.is_none() && report.window.series.is_empty());
    }
}

#[test]
fn counts_wait_4_s_in_a_sidecar_and_2_s_at_a_gateway() {
    for (id, most) in [("sidecar~1.2.3.4~a.b~b.svc", 4), ("router~1.2.3.4~a.b~b.svc", 2)] {
        let mut host = Host::new().unwrap();
        host.set_node_id(id);
        host.configure(1, r#"{"controller": {"cluster": "gma"}}"#)
            .unwrap();
        let mut oldest = None;
        let mut age = Duration::ZERO;
        for _ in 0..400 {
            log(&mut host, 1);
            let logged = *oldest.get_or_insert(host.now());
            if !host
                .run(1, Duration::from_millis(250), stored)
                .unwrap()
                .is_empty()
            {
                age = age.max(host.now() - logged);
                oldest = None;
            }
        }
        assert!(age <= seconds(most) && age > seconds(most) / 2, "{id}: {age:?}");
    }
}

#[test]
fn the_ack_paces() {
    let mut host = known();
    let pace = |ms| move |call: &HttpCall| altered(call, |ack| ack.next_ms = ms);
    for (ms, expected) in [(500, 2 * 10), (10_000, 1)] {
        // The pace holds from the ack on: one report at the old pace first.
        log(&mut host, 1);
        host.run(1, seconds(10), pace(ms)).unwrap();
        let mut calls = 0;
        for _ in 0..40 {
            log(&mut host, 1);
            calls += host.run(1, Duration::from_millis(250), pace(ms)).unwrap().len();
        }
        assert!(
            (expected..=expected + 1).contains(&calls),
            "{ms} ms: {calls} reports in 10 s"
        );
    }
    // 0: its own pace again.
    log(&mut host, 1);
    host.run(1, seconds(10), stored).unwrap();
    log(&mut host, 1);
    assert_eq!(host.run(1, seconds(4), stored).unwrap().len(), 1);
}

#[test]
fn a_lost_report_is_sent_again_byte_for_byte() {
    let mut host = known();
    log(&mut host, 5);
    let first = one_call(&mut host, seconds(4));
    // The host says that no answer came; meanwhile the next window has begun.
    log(&mut host, 7);
    host.answer(1, first.token, &Reply::Failure).unwrap();
    let second = one_call(&mut host, seconds(1));
    assert_ne!(first.token, second.token);
    assert_eq!(envelope(&first).window, envelope(&second).window);
    assert_eq!(
        (envelope(&first).vm, envelope(&first).seq),
        (envelope(&second).vm, envelope(&second).seq)
    );
    assert!(
        envelope(&second).age_ms > envelope(&first).age_ms,
        "the age is told anew at each send"
    );
    assert_eq!(requests(std::slice::from_ref(&second)), 5);
    // It had been stored the first time.
    let duplicate = altered(&second, |ack| ack.verdict = Verdict::Duplicate);
    host.answer(1, second.token, &duplicate).unwrap();
    let mut calls = Vec::from_iter(host.take_call());
    calls.extend(host.run(1, seconds(4), stored).unwrap());
    assert_eq!(
        (requests(&calls), envelope(&calls[0]).seq),
        (7, envelope(&second).seq + 1)
    );
}

fn envelope(call: &HttpCall) -> v1::Envelope {
    v1::Envelope::decode(call.body.as_slice()).unwrap()
}

#[test]
fn an_outage_loses_nothing_and_is_told_once() {
    let mut host = known();
    let mut failed = Vec::new();
    for _ in 0..60 {
        log(&mut host, 2);
        failed.extend(host.run(1, seconds(1), |_| Reply::Failure).unwrap());
    }
    // 0.5 s, 1 s, 2 s, 4 s, then each 8 s.
    assert!((8..=14).contains(&failed.len()), "{} sends", failed.len());
    let window = envelope(&failed[0]).window;
    assert!(failed.iter().all(|call| envelope(call).window == window));
    let calls = host.run(1, seconds(20), stored).unwrap();
    assert_eq!(requests(&calls), 120);
    assert_eq!(envelope(&calls[0]).window, window);
    let warnings: Vec<_> = host.lines().iter().filter(|(level, _)| *level == 3).collect();
    let [(_, lost), (_, back)] = warnings.as_slice() else {
        panic!("{warnings:?}")
    };
    assert!(
        lost.contains("counts are kept") && lost.contains("no answer"),
        "{lost}"
    );
    assert!(back.contains("answers again"), "{back}");
}

#[test]
fn a_call_that_is_never_answered_is_given_up() {
    let mut host = known();
    log(&mut host, 5);
    one_call(&mut host, seconds(4));
    assert!(
        host.run(1, seconds(5), stored).unwrap().is_empty(),
        "one report in flight"
    );
    assert_eq!(requests(&host.run(1, seconds(8), stored).unwrap()), 5);
}

#[test]
fn an_answer_that_is_no_ack_counts_as_none() {
    let rubbish: [&dyn Fn(&HttpCall) -> Reply; 6] = [
        &|_| Reply::Body(b"<html>not found</html>".to_vec()),
        &|_| Reply::Body(Vec::new()),
        &|_| Reply::Body(vec![0; 100_000]),
        &|call| altered(call, |ack| ack.seq += 1),
        &|call| altered(call, |ack| ack.vm ^= 1),
        &|call| {
            let mut raw = v1::Ack::decode(encode_ack(&ack(call)).as_slice()).unwrap();
            raw.verdict = 99;
            Reply::Body(raw.encode_to_vec())
        },
    ];
    for (number, rubbish) in rubbish.into_iter().enumerate() {
        let mut host = known();
        log(&mut host, 5);
        let calls = host.run(1, seconds(6), rubbish).unwrap();
        assert!(calls.len() >= 2, "{number}");
        assert!(
            calls
                .iter()
                .all(|call| envelope(call).window == envelope(&calls[0]).window),
            "{number}"
        );
        assert_eq!(
            requests(&host.run(1, seconds(20), stored).unwrap()),
            5,
            "{number}"
        );
    }
}

#[test]
fn a_refused_report_blocks_nothing_and_is_counted() {
    let mut host = known();
    log(&mut host, 5);
    host.log(&Request::outbound(CART).without("xds.cluster_name"))
        .unwrap();
    let refuse = |call: &HttpCall| {
        altered(call, |ack| {
            ack.verdict = Verdict::Refused(Reason::RefusedUnknownNode);
        })
    };
    let refused = host.run(1, seconds(4), refuse).unwrap();
    assert_eq!(requests(&refused), 5);
    log(&mut host, 2);
    let calls = host.run(1, seconds(8), stored).unwrap();
    assert_eq!(requests(&calls), 2);
    let mut told: Vec<_> = calls
        .iter()
        .flat_map(|call| report(call).window.unmeasured)
        .collect();
    told.sort_unstable_by_key(|(_, count)| *count);
    assert_eq!(told, [(Reason::NoCluster, 1), (Reason::RefusedUnknownNode, 5)]);
    let (_, line) = host.lines().iter().find(|(level, _)| *level == 3).unwrap();
    assert!(
        line.contains("refused a report of 5 requests: REFUSED_UNKNOWN_NODE"),
        "{line}"
    );
}

#[test]
fn a_busy_controller_is_asked_again_later() {
    let mut host = known();
    log(&mut host, 5);
    let busy = |next_ms| {
        move |call: &HttpCall| {
            altered(call, |ack| {
                (ack.verdict, ack.next_ms) = (Verdict::Busy, next_ms);
            })
        }
    };
    let calls = host.run(1, seconds(4), busy(0)).unwrap();
    assert!((1..=3).contains(&calls.len()), "{}", calls.len());
    // It may say when.
    let calls = host.run(1, seconds(30), busy(20_000)).unwrap();
    assert!((1..=2).contains(&calls.len()), "{}", calls.len());
    assert_eq!(requests(&host.run(1, seconds(30), stored).unwrap()), 5);
}

#[test]
fn a_missing_cluster_is_named_and_costs_no_count() {
    for (status, text) in [
        (BAD_ARGUMENT, "does not know the cluster"),
        (INTERNAL_FAILURE, "status 10"),
        (77, "status 77"),
    ] {
        let mut host = known();
        host.refuse_calls(Some(status));
        log(&mut host, 5);
        assert!(host.run(1, seconds(30), stored).unwrap().is_empty());
        let warnings: Vec<_> = host.lines().iter().filter(|(level, _)| *level >= 3).collect();
        let [(_, line)] = warnings.as_slice() else {
            panic!("{warnings:?}")
        };
        assert!(line.contains(text), "{line}");
        host.refuse_calls(None);
        assert_eq!(requests(&host.run(1, seconds(20), stored).unwrap()), 5);
    }
}

#[test]
fn resync_brings_identity_and_totals() {
    let mut host = known();
    log(&mut host, 5);
    host.run(1, seconds(4), |call| altered(call, |ack| ack.resync = true))
        .unwrap();
    // Asked for, they come at the usual pace although nothing else happened.
    let calls = host.run(1, seconds(4), stored).unwrap();
    let window = report(&calls[0]).window;
    assert!(window.identity.is_some() && window.series.is_empty());
    let totals = window.totals.unwrap();
    assert_eq!((totals.keys.len(), totals.keys[0].count), (1, 5));
    let quiet = host.run(1, seconds(20), stored).unwrap();
    assert!(quiet.is_empty(), "once is enough");
}

#[test]
fn the_round_trip_is_told_without_the_controllers_time() {
    let mut host = known();
    log(&mut host, 1);
    let call = loop {
        host.advance(Duration::from_millis(250));
        host.tick(1).unwrap();
        if let Some(call) = host.take_call() {
            break call;
        }
    };
    host.advance(Duration::from_millis(80));
    host.answer(1, call.token, &altered(&call, |ack| ack.served_us = 30_000))
        .unwrap();
    log(&mut host, 1);
    let calls = host.run(1, seconds(4), stored).unwrap();
    assert_eq!(report(&calls[0]).head.round_trip, Some(Duration::from_millis(50)));
}
