//! Version 1 as it was shipped: these bytes must be read, and written, for ever.
//!
//! A test that finds other bytes leaves them in the target's tmp folder. Golden files of a version
//! that was shipped are never changed: fields are only added, under a new file.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests, and what helps them"
)]

mod common;

use std::fs;
use std::path::Path;

use common::{VM, encode_again, mk_body, mk_window};
use gma_report::{Ack, Outcome, Verdict, decode, decode_ack, encode_ack, v1};

fn golden(name: &str, written: &[u8]) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(name);
    let found = fs::read(&path).unwrap_or_default();
    if found != written {
        let ours = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::write(&ours, written).expect("the target folder can be written");
        panic!(
            "{} differs from what is written now: {}",
            path.display(),
            ours.display()
        );
    }
    found
}

#[test]
fn report_with_every_field() {
    let bytes = golden("report_v1.bin", &mk_body(&mk_window()));
    let report = decode(&bytes).expect("version 1 is read");
    assert_eq!(encode_again(&report), bytes);
    assert_eq!((report.head.vm, report.head.seq), (VM, 1));
    let first = &report.window.series[0];
    assert_eq!(
        (first.count, first.long_count, first.key.outcome),
        (7, 2, Outcome::Ok)
    );
    let buckets: Vec<_> = first.histogram().expect("it has one").buckets().collect();
    assert_eq!(
        buckets,
        [(0, 1), (1, 1), (255, 1), (256, 1), (1052, 2), (2532, 1)]
    );
}

#[test]
fn heartbeat_is_small() {
    let window = v1::Window {
        node_id: "sidecar~10.1.2.3~cart-7d4b9c6f5-x2x9z.shop~shop.svc.cluster.local".into(),
        duration_ms: 30_000,
        ..v1::Window::default()
    };
    let bytes = golden("heartbeat_v1.bin", &mk_body(&window));
    assert!(bytes.len() < 200, "{} bytes", bytes.len());
    assert_eq!(encode_again(&decode(&bytes).expect("version 1 is read")), bytes);
}

#[test]
fn acks() {
    let ack = Ack {
        vm: VM,
        seq: 7,
        verdict: Verdict::Refused(v1::Reason::RefusedLimit),
        next_ms: 500,
        resync: true,
        served_us: 41,
    };
    let bytes = golden("ack_v1.bin", &encode_ack(&ack));
    assert_eq!(decode_ack(&bytes, VM, 7), Ok(ack));
}
