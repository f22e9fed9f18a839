//! Users: requests at a constant rate, whatever becomes of them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::{Request, StatusCode};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::task::{JoinHandle, JoinSet};

/// What became of a request.
#[derive(Clone, Debug)]
pub struct Sent {
    /// When it was sent.
    pub at: Instant,
    /// Until its answer was whole.
    pub took: Duration,
    /// Its path.
    pub path: String,
    /// The answer's code; none: no answer.
    pub status: Option<StatusCode>,
    /// The answer's body: the address of the pod.
    pub body: String,
    /// `x-cell-zone` of the answer; empty where it has none.
    pub zone: String,
}

/// Users of one gateway.
#[derive(Clone, Debug)]
pub struct Users {
    gateway: SocketAddr,
    client: Client<HttpConnector, Empty<Bytes>>,
}

/// A constant rate that goes on.
#[derive(Debug)]
pub struct Load {
    ends: Arc<AtomicBool>,
    under_way: Arc<AtomicUsize>,
    task: JoinHandle<Vec<Sent>>,
}

// === impl Sent ===

impl Sent {
    /// Whether it was answered with 200.
    pub fn is_ok(&self) -> bool {
        self.status == Some(StatusCode::OK)
    }
}

// === impl Users ===

impl Users {
    /// Users that connect to `gateway`.
    pub fn at(gateway: SocketAddr) -> Self {
        Self {
            gateway,
            client: Client::builder(TokioExecutor::new()).build_http(),
        }
    }

    /// Sends one request.
    pub async fn send(&self, path: &str) -> Sent {
        let at = Instant::now();
        let answer = async {
            let request = Request::get(format!("http://{}{path}", self.gateway))
                .body(Empty::<Bytes>::new())
                .ok()?;
            let response = self.client.request(request).await.ok()?;
            let status = response.status();
            let zone = response.headers().get("x-cell-zone");
            let zone = zone
                .and_then(|zone| zone.to_str().ok())
                .unwrap_or_default()
                .to_owned();
            let body = response.into_body().collect().await.ok()?.to_bytes();
            Some((status, (String::from_utf8_lossy(&body).into_owned(), zone)))
        };
        let (status, answered) = answer.await.unzip();
        let (body, zone) = answered.unwrap_or_default();
        Sent {
            at,
            took: at.elapsed(),
            path: path.to_owned(),
            status,
            body,
            zone,
        }
    }

    /// Sends `count` requests, one after the other.
    pub async fn send_each(&self, path: &str, count: usize) -> Vec<Sent> {
        let mut sent = Vec::with_capacity(count);
        for _ in 0..count {
            sent.push(self.send(path).await);
        }
        sent
    }

    /// Sends `rate` requests a second, taking the paths in turn.
    pub fn load(&self, rate: u32, paths: &[&str]) -> Load {
        let ends = Arc::new(AtomicBool::new(false));
        let under_way = Arc::new(AtomicUsize::new(0));
        let paths: Vec<String> = paths.iter().map(|path| (*path).to_owned()).collect();
        let (users, is_ended, counter) = (self.clone(), Arc::clone(&ends), Arc::clone(&under_way));
        let task = tokio::spawn(async move {
            let mut ticks = tokio::time::interval(Duration::from_secs(1) / rate);
            let mut requests = JoinSet::new();
            for path in paths.iter().cycle() {
                ticks.tick().await;
                if is_ended.load(Ordering::Relaxed) {
                    break;
                }
                let (users, path, counter) = (users.clone(), path.clone(), Arc::clone(&counter));
                requests.spawn(async move {
                    counter.fetch_add(1, Ordering::Relaxed);
                    let sent = users.send(&path).await;
                    counter.fetch_sub(1, Ordering::Relaxed);
                    sent
                });
            }
            let mut sent = requests.join_all().await;
            sent.sort_by_key(|sent| sent.at);
            sent
        });
        Load {
            ends,
            under_way,
            task,
        }
    }
}

// === impl Load ===

impl Load {
    pub fn under_way(&self) -> usize {
        self.under_way.load(Ordering::Relaxed)
    }

    /// Stops, waits for the last answer, and gives all in the order of sending.
    ///
    /// # Panics
    /// Where the load itself failed.
    pub async fn end(self) -> Vec<Sent> {
        self.ends.store(true, Ordering::Relaxed);
        self.task.await.unwrap()
    }
}
