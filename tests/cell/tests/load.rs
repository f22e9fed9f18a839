//! The load generator against cells and against servers that misbehave.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "also in the servers that stand beside the tests"
)]

mod common;

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use common::{cell, load};
use gma_cell::{
    load::{self, Report, Target, closed},
    workmodel::WorkModel,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

fn model(sleep_ms: u32) -> WorkModel {
    format!(
        r#"{{"s0": {{"internal_service": {{"loader": {{"sleep_stress": {{"run": true, "sleep_time": {}}}}}}}}}}}"#,
        f64::from(sleep_ms) / 1_000.0
    )
    .parse()
    .unwrap()
}

async fn wait(handle: load::Handle) -> Report {
    tokio::task::spawn_blocking(|| handle.wait()).await.unwrap()
}

/// Answers each connection by `serve`, given the ordinal of the connection.
async fn server<F>(serve: fn(TcpStream, usize) -> F) -> SocketAddr
where
    F: Future<Output = std::io::Result<()>> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        for ordinal in 0.. {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(serve(stream, ordinal));
        }
    });
    addr
}

async fn read_request(stream: &mut TcpStream) -> std::io::Result<bool> {
    let mut buffer = [0; 1024];
    Ok(stream.read(&mut buffer).await? > 0)
}

#[tokio::test]
async fn every_request_of_the_schedule_is_sent_and_counted() {
    let s0 = cell(&model(5), "s0", None).await;
    let handle = load::start(load(s0.addr, 200.0, Duration::from_secs(1))).unwrap();
    let report = wait(handle).await;
    assert_eq!(
        (report.sent, report.ok, report.unsent, report.failed_total()),
        (200, 200, 0, 0)
    );
    assert_eq!(report.statuses, [(200, 200)].into());
    assert_eq!(report.latency_ms.count, 200);
    assert!(report.latency_ms.min >= 5.0, "{:?}", report.latency_ms);
    assert!(report.latency_ms.mean >= report.service_time_ms.mean);
    assert_eq!(report.timeline.iter().map(|second| second.ok).sum::<u64>(), 200);
    assert!((report.seconds - 1.0).abs() < 0.01, "{}", report.seconds);
}

#[tokio::test]
async fn a_stall_is_in_the_latency_of_all_that_were_due_meanwhile() {
    // One connection, whose first answer takes 500 ms: 50 requests fall due behind it.
    let addr = server(|mut stream, _| async move {
        let mut first = true;
        while read_request(&mut stream).await? {
            if std::mem::take(&mut first) {
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
            stream
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
                .await?;
        }
        Ok(())
    })
    .await;
    let config = load::Config {
        connections: 1,
        ..load(addr, 100.0, Duration::from_secs(1))
    };
    let report = wait(load::start(config).unwrap()).await;
    assert_eq!(report.ok, 100);
    // 500, 490, ... 10 ms: a sum of at least 12.75 s. From the send, only the first one is slow.
    assert!(
        report.latency_ms.mean * 100.0 >= 12_750.0,
        "{:?}",
        report.latency_ms
    );
    assert!(report.service_time_ms.p90 < 100.0, "{:?}", report.service_time_ms);
}

#[tokio::test]
async fn failures_are_told_apart() {
    let addr = server(|mut stream, ordinal| async move {
        // By connection: reset, garbage, silence, 503 and close, then 200.
        while read_request(&mut stream).await? {
            match ordinal {
                0 => return Ok(()),
                1 => stream.write_all(b"SSH-2.0-x\r\n\r\n").await?,
                2 => std::future::pending().await,
                3 => {
                    stream
                        .write_all(b"HTTP/1.1 503 X\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
                        .await?;
                }
                _ => {
                    stream
                        .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
                        .await?;
                }
            }
        }
        Ok(())
    })
    .await;
    let config = load::Config {
        connections: 1,
        timeout: Duration::from_millis(300),
        ..load(addr, 10.0, Duration::from_secs(1))
    };
    let report = wait(load::start(config).unwrap()).await;
    let failed: Vec<(&str, u64)> = report
        .failed
        .iter()
        .map(|(kind, count)| (kind.as_str(), *count))
        .collect();
    assert_eq!(
        failed,
        [("malformed", 1), ("reset", 1), ("status_503", 1), ("timeout", 1)]
    );
    assert_eq!((report.ok, report.sent, report.reconnects), (6, 10, 4));

    let gone = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    let report = wait(load::start(load(gone, 50.0, Duration::from_millis(100))).unwrap()).await;
    assert_eq!(report.failed, [("connect".to_owned(), 5)].into());
}

#[tokio::test]
async fn a_connection_that_was_closed_while_idle_costs_no_request() {
    // Closes after each answer without saying so.
    let addr = server(|mut stream, _| async move {
        read_request(&mut stream).await?;
        stream
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
            .await
    })
    .await;
    let config = load::Config {
        connections: 1,
        ..load(addr, 20.0, Duration::from_secs(1))
    };
    let report = wait(load::start(config).unwrap()).await;
    assert_eq!((report.ok, report.failed_total(), report.reconnects), (20, 0, 19));
}

#[tokio::test]
async fn stopping_waits_for_what_is_in_flight() {
    let s0 = cell(&model(300), "s0", None).await;
    let config = load::Config {
        duration: None,
        ..load(s0.addr, 20.0, Duration::ZERO)
    };
    let handle = load::start(config).unwrap();
    while handle.live().sent < 3 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let before = handle.live();
    assert!(
        before.in_flight >= 1 && before.in_flight == before.sent - before.ok,
        "{before:?}"
    );
    let asked = Instant::now();
    let report = tokio::task::spawn_blocking(|| handle.stop()).await.unwrap();
    assert!(asked.elapsed() < Duration::from_secs(2));
    assert_eq!(report.failed_total(), 0);
    assert!(report.sent >= before.sent && report.ok == report.sent);
}

#[tokio::test]
async fn numbers_out_of_range_are_refused() {
    let addr = "127.0.0.1:1".parse().unwrap();
    let error = |config: load::Config| load::start(config).unwrap_err().to_string();
    let good = || load(addr, 1.0, Duration::ZERO);
    assert_eq!(
        error(load::Config {
            rate_per_sec: f64::NAN,
            ..good()
        }),
        "the rate is NaN; give more than 0, at most 100000"
    );
    assert_eq!(
        error(load::Config {
            connections: 0,
            ..good()
        }),
        "connections is 0; give 1 to 4096"
    );
    assert_eq!(
        error(load::Config {
            timeout: Duration::ZERO,
            ..good()
        }),
        "the timeout is 0; give a time such as 60s"
    );
}

#[tokio::test]
async fn a_closed_loop_keeps_the_server_busy() {
    let s0 = cell(&"{\"s0\": {}}".parse().unwrap(), "s0", None).await;
    let target = Target::new(&format!("http://{}/api/v1", s0.addr), None, &[]).unwrap();
    let counters = Arc::new(closed::Counters::default());
    let report = closed::run(target, 4, Some(Duration::from_millis(300)), Arc::clone(&counters)).await;
    assert_eq!((report.failed, report.completed), (0, counters.completed()));
    assert!(report.completed > 100, "{report:?}");
    assert_eq!(report.service_time_ms.count, report.completed);
}
