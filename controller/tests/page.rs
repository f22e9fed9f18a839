//! The page's files and events, over HTTP as a browser asks for them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails where it stands"
)]

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, Request, Response, StatusCode, header};
use gma::http::router;
use gma::shared::{MAX_FOLLOWERS, Round, Shared};
use gma_core::ids::Timestamp;
use gma_telemetry::Telemetry;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

fn shared() -> Arc<Shared> {
    Arc::new(Shared::new(
        Telemetry::new(gma_telemetry::Config::default()),
        Timestamp::default(),
    ))
}

async fn get(shared: &Arc<Shared>, path: &str, headers: HeaderMap) -> Response<Body> {
    let mut request = Request::get(path).body(Body::empty()).unwrap();
    *request.headers_mut() = headers;
    router(Arc::clone(shared)).oneshot(request).await.unwrap()
}

async fn text(response: Response<Body>) -> String {
    let body = response.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(body.to_vec()).unwrap()
}

fn publish(shared: &Shared, number: u64) {
    let at = Timestamp::from_start(Duration::from_secs(number));
    shared.publish(Round::new(at, &json!({ "number": number })).unwrap());
}

/// The next event's number; comments are passed over.
async fn number(body: &mut Body) -> Value {
    loop {
        let frame: Bytes = body.frame().await.unwrap().unwrap().into_data().unwrap();
        let text = String::from_utf8(frame.to_vec()).unwrap();
        if let Some(data) = text.strip_prefix("data: ") {
            let event: Value = serde_json::from_str(data.trim_end()).unwrap();
            return event["round"]["number"].clone();
        }
    }
}

#[tokio::test]
async fn every_file_that_the_page_names_is_there_with_type_tag_and_policy() {
    let shared = shared();
    let index = text(get(&shared, "/", HeaderMap::new()).await).await;
    let mut names: Vec<String> = Vec::new();
    let mut sources = vec![index];
    while let Some(source) = sources.pop() {
        // href="page/…", src="page/…", from "./…"
        for (mark, end) in [("\"page/", '"'), ("from \"./", '"')] {
            for rest in source.split(mark).skip(1) {
                let name = rest.split(end).next().unwrap().to_owned();
                if names.contains(&name) {
                    continue;
                }
                let response = get(&shared, &format!("/page/{name}"), HeaderMap::new()).await;
                assert_eq!(response.status(), StatusCode::OK, "{name}");
                let kind = response.headers()[header::CONTENT_TYPE]
                    .to_str()
                    .unwrap()
                    .to_owned();
                let expected = match name.rsplit('.').next() {
                    Some("js") => "text/javascript; charset=utf-8",
                    Some("css") => "text/css; charset=utf-8",
                    _ => "image/svg+xml",
                };
                assert_eq!(kind, expected, "{name}");
                names.push(name);
                sources.push(text(response).await);
            }
        }
    }
    assert!(names.len() >= 10, "{names:?}");
}

#[tokio::test]
async fn a_page_runs_nothing_but_its_own_files_and_is_asked_for_only_when_changed() {
    let shared = shared();
    let first = get(&shared, "/", HeaderMap::new()).await;
    let policy = first.headers()[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
    assert!(policy.contains("default-src 'none'") && policy.contains("script-src 'self'"));
    assert!(!policy.contains("unsafe"));
    assert_eq!(first.headers()[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
    assert_eq!(first.headers()[header::CACHE_CONTROL], "no-cache");
    let tag = first.headers()[header::ETAG].clone();
    let html = text(first).await;
    assert!(!html.contains("<style") && !html.contains(" style=") && !html.contains(" onclick="));

    for (known, status) in [
        (tag.to_str().unwrap().to_owned(), StatusCode::NOT_MODIFIED),
        (
            format!("\"other\", W/{}", tag.to_str().unwrap()),
            StatusCode::NOT_MODIFIED,
        ),
        ("\"other\"".to_owned(), StatusCode::OK),
    ] {
        let asked = HeaderMap::from_iter([(header::IF_NONE_MATCH, known.parse().unwrap())]);
        assert_eq!(get(&shared, "/", asked).await.status(), status, "{known}");
    }
    let missing = get(&shared, "/page/..%2fmod.rs", HeaderMap::new()).await;
    assert_eq!(missing.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn events_are_the_state_at_most_twice_a_second_and_only_when_there_is_news() {
    let shared = shared();
    publish(&shared, 1);
    let response = get(&shared, "/api/v1/events", HeaderMap::new()).await;
    assert_eq!(response.headers()[header::CONTENT_TYPE], "text/event-stream");
    let mut body = response.into_body();
    assert_eq!(number(&mut body).await, 1);

    let begin = Instant::now();
    publish(&shared, 2);
    publish(&shared, 3);
    assert_eq!(number(&mut body).await, 3, "who is slow gets the newest");
    assert!(begin.elapsed() >= Duration::from_millis(500));

    let silent = tokio::time::timeout(Duration::from_millis(1_100), number(&mut body)).await;
    assert!(silent.is_err(), "an event without news");
    publish(&shared, 4);
    assert_eq!(number(&mut body).await, 4);

    let state: Value =
        serde_json::from_str(&text(get(&shared, "/api/v1/state", HeaderMap::new()).await).await).unwrap();
    assert_eq!(state["round"]["number"], 4);
}

#[tokio::test]
async fn only_so_many_follow_and_a_place_is_free_again() {
    let shared = shared();
    let mut following = Vec::new();
    for _ in 0..MAX_FOLLOWERS {
        let response = get(&shared, "/api/v1/events", HeaderMap::new()).await;
        assert_eq!(response.status(), StatusCode::OK);
        following.push(response);
    }
    let refused = get(&shared, "/api/v1/events", HeaderMap::new()).await;
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(refused.headers()[header::RETRY_AFTER], "5");
    assert!(text(refused).await.contains("close one"));
    following.pop();
    let taken = get(&shared, "/api/v1/events", HeaderMap::new()).await;
    assert_eq!(taken.status(), StatusCode::OK);
}

#[tokio::test]
async fn the_server_ends_although_somebody_follows() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let shared = shared();
    let shutdown = CancellationToken::new();
    let server = tokio::spawn(gma::http::serve(listener, Arc::clone(&shared), shutdown.clone()));
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let ask = b"GET /api/v1/events HTTP/1.1\r\nhost: gma\r\n\r\n";
    tokio::io::AsyncWriteExt::write_all(&mut stream, ask)
        .await
        .unwrap();
    // The head comes at once, before there is any round.
    let mut head = [0; 15];
    tokio::io::AsyncReadExt::read_exact(&mut stream, &mut head)
        .await
        .unwrap();
    assert_eq!(&head, b"HTTP/1.1 200 OK");
    shutdown.cancel();
    tokio::time::timeout(Duration::from_secs(30), server)
        .await
        .unwrap()
        .unwrap();
}
