//! Cells that answer and call, over real sockets. The egress is a server that writes down what it is asked.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "also in the servers that stand beside the tests"
)]

mod common;

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use common::{cell, config, get, raw};
use gma_cell::{serve::Bound, workmodel::WorkModel};
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

/// One call as it arrived: Host, method, path with query, body, and when it came and went.
#[derive(Debug, Clone)]
struct Seen {
    host: String,
    line: String,
    body: String,
    headers: http::HeaderMap,
    came: std::time::Instant,
    went: std::time::Instant,
}

/// Answers each host after a delay with a status.
async fn egress(answer: fn(&str) -> (Duration, u16)) -> (SocketAddr, Arc<Mutex<Vec<Seen>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let all = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&all);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let seen = Arc::clone(&seen);
            let service = service_fn(move |request: Request<Incoming>| {
                let seen = Arc::clone(&seen);
                async move { record(request, answer, &seen).await }
            });
            tokio::spawn(
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service),
            );
        }
    });
    (addr, all)
}

async fn record(
    request: Request<Incoming>,
    answer: fn(&str) -> (Duration, u16),
    seen: &Mutex<Vec<Seen>>,
) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let came = std::time::Instant::now();
    let host = request.headers()["host"].to_str().unwrap().to_owned();
    let line = format!("{} {}", request.method(), request.uri());
    let headers = request.headers().clone();
    let body = String::from_utf8(request.into_body().collect().await?.to_bytes().to_vec()).unwrap();
    let (delay, status) = answer(&host);
    tokio::time::sleep(delay).await;
    let went = std::time::Instant::now();
    seen.lock().unwrap().push(Seen {
        host,
        line,
        body,
        headers,
        came,
        went,
    });
    Ok(Response::builder()
        .status(status)
        .body(Full::from("child"))
        .unwrap())
}

fn model() -> WorkModel {
    r#"{"s0": {"internal_service": {"compute_pi": {"range_complexity": [5, 5]}},
               "request_parameters": {"response_dist": "const", "response_size": 70},
               "external_services": [{"services": ["s1", "s2"]}, {"services": ["s3"]}],
               "alternative_behaviors": {"alone": {"external_services": []}}},
        "s1": {}, "s2": {"url": "s2.other.svc:81", "path": "/two"}, "s3": {}, "s4": {}}"#
        .parse()
        .unwrap()
}

fn hosts(seen: &Mutex<Vec<Seen>>) -> Vec<String> {
    let mut hosts: Vec<String> = seen
        .lock()
        .unwrap()
        .iter()
        .map(|seen| seen.host.clone())
        .collect();
    hosts.sort();
    hosts
}

#[tokio::test]
async fn groups_run_side_by_side_and_calls_one_after_the_other() {
    let (egress, seen) = egress(|_| (Duration::from_millis(100), 200)).await;
    let s0 = cell(&model(), "s0", Some(egress)).await;
    let answer = get(s0.addr, "/api/v1").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer:.200}");
    assert!(answer.contains("\r\nx-cell-zone: cloud\r\n"));
    assert!(answer.contains("\r\ncontent-length: 70000\r\n"));
    let seen = seen.lock().unwrap();
    let of = |host: &str| seen.iter().find(|seen| seen.host == host).unwrap();
    let (s1, s2, s3) = (of("s1.shop.svc"), of("s2.other.svc:81"), of("s3.shop.svc"));
    assert_eq!((s1.line.as_str(), s2.line.as_str()), ("GET /api/v1", "GET /two"));
    assert!(s2.came >= s1.went, "s2 follows s1");
    assert!(s3.came < s1.went && s1.came < s3.went, "s3 overlaps s1");
}

#[tokio::test]
async fn only_tracing_headers_go_on_and_come_back() {
    let (egress, seen) = egress(|_| (Duration::ZERO, 200)).await;
    let s0 = cell(&model(), "s0", Some(egress)).await;
    let request = "GET /api/v1?bid=unknown&x=1 HTTP/1.1\r\nhost: x\r\nconnection: close\r\nX-Request-Id: r1\r\n\
                   x-b3-traceid: b1\r\ntraceparent: t1\r\nx-gma: no\r\ncookie: no\r\n\r\n";
    let answer = raw(s0.addr, request).await;
    assert!(answer.contains("\r\nx-request-id: r1\r\n"), "{answer:.300}");
    for seen in seen.lock().unwrap().iter() {
        let value = |name| seen.headers.get(name).map(|value| value.to_str().unwrap());
        assert_eq!(
            (value("x-request-id"), value("x-b3-traceid"), value("traceparent")),
            (Some("r1"), Some("b1"), Some("t1"))
        );
        assert_eq!((value("x-gma"), value("cookie")), (None, None));
        assert!(seen.line.ends_with("?bid=unknown&x=1"), "{}", seen.line);
    }
    assert_eq!(hosts(&seen).len(), 3);
}

#[tokio::test]
async fn bid_selects_another_behaviour() {
    let (egress, seen) = egress(|_| (Duration::ZERO, 200)).await;
    let s0 = cell(&model(), "s0", Some(egress)).await;
    assert!(
        get(s0.addr, "/api/v1?bid=alone")
            .await
            .starts_with("HTTP/1.1 200")
    );
    assert_eq!(hosts(&seen), [""; 0]);
}

#[tokio::test]
async fn a_failed_child_is_500_and_the_others_are_still_called() {
    let (egress, seen) =
        egress(|host| (Duration::ZERO, if host.starts_with("s1") { 503 } else { 200 })).await;
    let s0 = cell(&model(), "s0", Some(egress)).await;
    let answer = get(s0.addr, "/api/v1").await;
    assert!(answer.starts_with("HTTP/1.1 500 "), "{answer}");
    assert!(answer.ends_with("{\"message\":\"Error in external services request\"}"));
    assert_eq!(hosts(&seen), ["s1.shop.svc", "s2.other.svc:81", "s3.shop.svc"]);
    let metrics = get(s0.addr, "/metrics").await;
    assert!(metrics.contains(
        "gma_cell_failed_calls_total{zone=\"cloud\",app_name=\"s0\",endpoint=\"/api/v1\",callee=\"s1\"} 1\n"
    ));
    assert!(metrics.contains("mub_response_size_count{zone=\"cloud\",app_name=\"s0\",endpoint=\"/api/v1\",method=\"GET\",kubernetes_service=\"s0\"} 0\n"));

    // Nobody listens there: taken from a listener that is gone.
    let gone = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    let s0 = cell(&model(), "s0", Some(gone)).await;
    assert!(get(s0.addr, "/api/v1").await.starts_with("HTTP/1.1 500 "));
}

#[tokio::test]
async fn a_trace_drives_the_calls() {
    let (egress, seen) = egress(|_| (Duration::ZERO, 200)).await;
    let s0 = cell(&model(), "s0", Some(egress)).await;
    let post = |body: &str| {
        let length = body.len();
        format!(
            "POST /api/v1 HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
        )
    };
    let answer = raw(
        s0.addr,
        &post(r#"{"s0__1": [{"s4__7": [{"s2__1": [{}]}], "s3__2": [{}]}]}"#),
    )
    .await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer:.300}");
    let calls: Vec<(String, String, String)> = seen
        .lock()
        .unwrap()
        .iter()
        .map(|s| (s.host.clone(), s.line.clone(), s.body.clone()))
        .collect();
    let call = |host: &str, body: &str| (host.to_owned(), "POST /api/v1".to_owned(), body.to_owned());
    let expected = [
        call("s4.shop.svc", r#"{"s4__7":[{"s2__1":[{}]}]}"#),
        call("s3.shop.svc", r#"{"s3__2":[{}]}"#),
    ];
    assert_eq!(calls, expected);

    for (body, message) in [
        (
            r#"{"s9__1": []}"#,
            "the trace is for s9, this is s0; send it to that service",
        ),
        (
            r#"{"s0__1": [{"s9__1": [{}]}]}"#,
            "the trace calls s9, which the work model lacks",
        ),
        ("no json", "the body is no trace"),
    ] {
        let answer = raw(s0.addr, &post(body)).await;
        assert!(
            answer.starts_with("HTTP/1.1 400 ") && answer.contains(message),
            "{answer}"
        );
    }
}

#[tokio::test]
async fn health_and_unknown_routes() {
    let s4 = cell(&model(), "s4", None).await;
    assert!(get(s4.addr, "/healthz").await.ends_with("\r\n\r\nok\n"));
    let answer = get(s4.addr, "/other").await;
    assert!(
        answer.starts_with("HTTP/1.1 404")
            && answer.ends_with("{\"message\":\"no such route; the service answers on /api/v1\"}")
    );
    assert!(
        raw(
            s4.addr,
            "DELETE /api/v1 HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
        )
        .await
        .starts_with("HTTP/1.1 405")
    );
}

#[tokio::test]
async fn stopping_cuts_no_request_off() {
    let (egress, _) = egress(|_| (Duration::from_millis(700), 200)).await;
    let s0 = cell(&model(), "s0", Some(egress)).await;
    let addr = s0.addr;
    let (sent, was_sent) = tokio::sync::oneshot::channel();
    let request = tokio::spawn(async move {
        let mut stream = tokio::net::TcpStream::connect(addr).await.unwrap();
        let text = b"GET /api/v1 HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
        tokio::io::AsyncWriteExt::write_all(&mut stream, text)
            .await
            .unwrap();
        sent.send(()).unwrap();
        let mut answer = Vec::new();
        tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut answer)
            .await
            .unwrap();
        String::from_utf8(answer).unwrap()
    });
    was_sent.await.unwrap();
    assert_eq!(s0.stop().await, 0);
    assert!(request.await.unwrap().starts_with("HTTP/1.1 200"));
    assert!(
        tokio::net::TcpStream::connect(addr).await.is_err(),
        "nobody listens any more"
    );
}

#[tokio::test]
async fn a_cell_that_cannot_start_says_why() {
    let error = Bound::bind(config(&model(), "s9", None))
        .await
        .unwrap_err()
        .to_string();
    assert_eq!(
        error,
        "the work model has no service \"s9\"; give --service one of: s0, s1, s2, s3, s4"
    );
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let listen = taken.local_addr().unwrap();
    let mut config = config(&model(), "s0", None);
    config.listen = listen;
    let error = Bound::bind(config).await.unwrap_err().to_string();
    assert!(
        error.starts_with(&format!("cannot listen on {listen}: ")),
        "{error}"
    );
}
