//! What a controller makes of input that is wrong: a clear error, a count where it is remote, and nothing
//! else breaks.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails where it stands"
)]

use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use gma_report::histogram::{bucket_of, encode_buckets};
use gma_report::v1::{self, Reason};
use gma_report::{EnvelopeHead, PATH, Verdict, decode_ack, encode_envelope};
use gma_tests::envoy::hosts::CART;
use gma_tests::envoy::{Answer, Controller, Mesh, Topology, free_address, post, run_to_end};
use prost::Message;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const VM: u64 = 0x5eed;

/// One request of 20 ms that a gateway saw.
fn window(node: &str) -> v1::Window {
    let mut histogram = Vec::new();
    encode_buckets([(bucket_of(20_000), 1)], &mut histogram);
    let key = v1::Key {
        direction: v1::Direction::Outbound.into(),
        service: CART.to_owned(),
        port: 80,
        outcome: v1::Outcome::Ok.into(),
        ..v1::Key::default()
    };
    let series = v1::Series {
        key: Some(key),
        count: 1,
        sum_us: 20_000,
        histogram,
        ..v1::Series::default()
    };
    v1::Window {
        node_id: node.to_owned(),
        duration_ms: 500,
        series: vec![series],
        totals: Some(v1::Totals::default()),
        ..v1::Window::default()
    }
}

fn body(vm: u64, seq: u64, window: &v1::Window) -> Vec<u8> {
    let head = EnvelopeHead {
        vm,
        seq,
        module: "test",
        config_hash: 0,
        age_ms: 0,
        round_trip_us: None,
    };
    encode_envelope(&head, &window.encode_to_vec())
}

/// A report with one series, changed.
fn with(seq: u64, change: impl FnOnce(&mut v1::Series)) -> Vec<u8> {
    let mut window = window(Mesh::GATEWAY);
    change(&mut window.series[0]);
    body(VM, seq, &window)
}

async fn send(controller: &Controller, body: Vec<u8>) -> Answer {
    post(controller.address, PATH, Bytes::from(body)).await.unwrap()
}

/// The next report of the VM is counted: whatever came before has broken nothing.
async fn takes(controller: &Controller, seq: u64) {
    let answer = send(controller, with(seq, |_| ())).await;
    let ack = decode_ack(&answer.body, VM, seq).unwrap();
    assert_eq!((answer.status.as_u16(), ack.verdict), (200, Verdict::Stored));
}

async fn refuses(controller: &Controller, body: Vec<u8>, seq: u64, reason: Reason) {
    let label = format!("reason=\"{}\"", reason.as_str_name());
    let before = controller.metric("gma_reports_refused_total", &label).await;
    let answer = send(controller, body).await;
    let ack = decode_ack(&answer.body, VM, seq).unwrap();
    assert_eq!(ack.verdict, Verdict::Refused(reason));
    assert_eq!(
        controller.metric("gma_reports_refused_total", &label).await,
        before + 1.0,
        "{label}"
    );
}

#[tokio::test]
async fn envoy_bad_reports_are_refused_and_counted_and_break_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let controller = Controller::start(folder.path(), free_address()).await;
    takes(&controller, 1).await;

    // Of another version.
    let version = v1::Envelope {
        version: 99,
        ..v1::Envelope::decode(&with(2, |_| ())[..]).unwrap()
    };
    refuses(&controller, version.encode_to_vec(), 2, Reason::RefusedVersion).await;
    takes(&controller, 3).await;

    // Absurd numbers.
    refuses(
        &controller,
        with(4, |series| series.sum_us = u64::MAX),
        4,
        Reason::RefusedMalformed,
    )
    .await;
    refuses(
        &controller,
        with(5, |series| series.count = 1 << 40),
        5,
        Reason::RefusedMalformed,
    )
    .await;
    refuses(
        &controller,
        with(6, |series| series.response_bytes = u64::MAX),
        6,
        Reason::RefusedMalformed,
    )
    .await;

    // A histogram whose header asks for gigabytes: 5 significant digits, up to 2^63.
    let before = controller.process.peak_bytes();
    let greedy = |series: &mut v1::Series| {
        series.histogram[12..16].copy_from_slice(&5u32.to_be_bytes());
        series.histogram[24..32].copy_from_slice(&(1u64 << 63).to_be_bytes());
    };
    for seq in 7..17 {
        refuses(&controller, with(seq, greedy), seq, Reason::RefusedMalformed).await;
    }
    let grown = controller.process.peak_bytes() - before;
    assert!(grown < 16 << 20, "the controller grew by {grown} bytes");
    takes(&controller, 17).await;

    // Cut off where it can still be told which report it was.
    let whole = with(18, |_| ());
    refuses(
        &controller,
        whole[..whole.len() - 1].to_vec(),
        18,
        Reason::RefusedMalformed,
    )
    .await;

    // More than the format allows, within the limit of a body.
    let many = v1::Window {
        series: vec![v1::Series::default(); 600],
        ..window(Mesh::GATEWAY)
    };
    refuses(&controller, body(VM, 19, &many), 19, Reason::RefusedTooLarge).await;
    takes(&controller, 20).await;

    let log = controller.process.log();
    assert!(log.contains("report version 99 is not read here") && log.contains("upgrade the older side"));
}

#[tokio::test]
async fn envoy_what_is_no_report_gets_an_error_and_is_counted() {
    let folder = tempfile::tempdir().unwrap();
    let controller = Controller::start(folder.path(), free_address()).await;
    takes(&controller, 1).await;

    let cases = [
        ("truncated", with(2, |_| ())[..8].to_vec(), 400, "protobuf"),
        ("not protobuf", b"{\"count\": 1}".to_vec(), 400, "protobuf"),
    ];
    for (seq, (what, body, status, text)) in (2..).zip(cases) {
        errs(&controller, what, body, status, text).await;
        takes(&controller, seq).await;
    }
}

async fn errs(controller: &Controller, what: &str, body: Vec<u8>, status: u16, text: &str) {
    let before = controller.metric("gma_reports_refused_total", "").await;
    let answer = send(controller, body).await;
    assert_eq!(answer.status.as_u16(), status, "{what}: {}", answer.text());
    assert!(
        answer.text().contains(text),
        "{what}: {:?} does not name {text}",
        answer.text()
    );
    assert_eq!(
        controller.metric("gma_reports_refused_total", "").await,
        before + 1.0,
        "{what}: counted"
    );
}

#[tokio::test]
async fn envoy_an_unknown_proxy_is_asked_to_wait_and_named() {
    let folder = tempfile::tempdir().unwrap();
    let controller = Controller::start(folder.path(), free_address()).await;
    let node = "sidecar~10.9.9.9~stranger.shop~shop.svc.cluster.local";
    for _ in 0..2 {
        let answer = send(&controller, body(VM, 1, &window(node))).await;
        assert_eq!(decode_ack(&answer.body, VM, 1).unwrap().verdict, Verdict::Busy);
    }
    assert_eq!(controller.metric("gma_reports_unknown_node_total", "").await, 2.0);
    assert_eq!(controller.process.log().matches(node).count(), 1, "named once");
    // The VM's window was not counted, so its proxy can still be heard once it is listed.
    takes(&controller, 1).await;
}

/// `gma run` with this topology and these arguments ends by itself; gives what it says.
fn run(topology: &Path, arguments: &[&str]) -> String {
    let all = [&["run", "--local", topology.to_str().unwrap()], arguments].concat();
    let output = run_to_end(&Controller::binary(), &all, Duration::from_secs(20));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "it must fail: {said}");
    assert!(!said.contains("panicked"), "{said}");
    said
}

fn says(said: &str, texts: &[&str]) {
    for text in texts {
        assert!(said.contains(text), "{text:?} is not in: {said}");
    }
}

#[test]
fn envoy_a_port_in_use_is_named_with_the_flag() {
    let folder = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let topology = Topology::of_mesh(taken.local_addr().unwrap()).write(folder.path());
    says(
        &run(&topology, &["--listen", &address]),
        &[&address, "in use", "--listen"],
    );
}

#[test]
fn envoy_a_wrong_topology_is_named_with_the_key_and_the_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let listen = ["--listen", "127.0.0.1:0"];
    let missing = folder.path().join("no-such.yaml");
    says(&run(&missing, &listen), &["no-such.yaml", "give the path"]);

    let good = Topology::of_mesh(free_address());
    let mut misspelt = good.clone();
    misspelt.0["proxeis"] = json!([]);
    says(
        &run(&misspelt.write(folder.path()), &listen),
        &["topology.json", "proxeis", "proxies"],
    );
    let mut elsewhere = good;
    elsewhere.0["proxies"][1]["area"] = json!("moon");
    says(
        &run(&elsewhere.write(folder.path()), &listen),
        &["proxies[1].area", "moon", "edge-1"],
    );
}

#[test]
fn envoy_a_missing_envoy_or_module_is_named_with_the_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let listen = ["--listen", "127.0.0.1:0"];
    let mut topology = Topology::of_mesh(free_address());
    topology.0["app"] = json!({});
    topology.0["proxies"] = json!([]);
    topology.0["envoy"] = json!("no/such/envoy");
    says(
        &run(&topology.write(folder.path()), &listen),
        &["no/such/envoy", "make tools"],
    );
    topology.0["envoy"].take();
    topology.0["filter"] = json!("no/such.wasm");
    says(
        &run(&topology.write(folder.path()), &listen),
        &["no/such.wasm", "make build"],
    );
}

#[test]
fn envoy_a_wrong_flag_is_named_with_an_example() {
    let folder = tempfile::tempdir().unwrap();
    let topology = Topology::of_mesh(free_address()).write(folder.path());
    says(
        &run(&topology, &["--offload-above", "120"]),
        &["--offload-above", "needs a unit", "120ms"],
    );
    let band = ["--offload-above", "50ms", "--unoffload-below", "60ms"];
    says(
        &run(&topology, &band),
        &["50ms", "60ms", "--offload-above", "--unoffload-below"],
    );
}

#[tokio::test]
async fn envoy_a_report_that_is_too_large_is_refused_with_the_limit_and_counted() {
    let folder = tempfile::tempdir().unwrap();
    let controller = Controller::start(folder.path(), free_address()).await;
    let body = vec![0; gma_report::limits::MAX_REPORT_BYTES + 1];
    errs(&controller, "too large", body, 413, "2097152").await;
    takes(&controller, 1).await;
}

/// Whoever sends half a report and falls silent is told so after 10 s, and holds nothing.
#[tokio::test]
async fn envoy_a_report_that_never_ends_is_answered_with_408() {
    let folder = tempfile::tempdir().unwrap();
    let controller = Controller::start(folder.path(), free_address()).await;
    let whole = with(1, |_| ());
    let mut slow = TcpStream::connect(controller.address).await.unwrap();
    let head = format!(
        "POST {PATH} HTTP/1.1\r\nhost: gma\r\ncontent-length: {}\r\n\r\n",
        whole.len()
    );
    slow.write_all(head.as_bytes()).await.unwrap();
    slow.write_all(&whole[..whole.len() / 2]).await.unwrap();
    let mut answer = [0; 64];
    let read = tokio::time::timeout(Duration::from_secs(20), slow.read(&mut answer)).await;
    let text = String::from_utf8_lossy(&answer[..read.unwrap().unwrap()]).into_owned();
    assert!(text.starts_with("HTTP/1.1 408 "), "{text}");
    // Nothing of it was taken.
    takes(&controller, 1).await;
}
