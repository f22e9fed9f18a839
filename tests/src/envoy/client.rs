//! A client that writes down what it sent and what became of it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::{http1, http2};
use hyper::{Request, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::{Backend, eventually};

/// What became of a request, in the words of `/api/v1/state`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Outcome {
    /// Answered without error.
    Ok,
    /// The client's fault.
    ClientError,
    /// The server's fault.
    ServerError,
    /// Nothing answered.
    NoResponse,
    /// The client left.
    Cancelled,
    /// Took more than 60 s.
    Long,
    /// Had no cluster.
    Unmeasured,
}

/// A request, and what must become of it.
#[derive(Clone, Debug)]
pub struct Ask {
    host: String,
    path: String,
    is_grpc: bool,
    status: u16,
    outcome: Outcome,
}

/// What was sent, by host and outcome.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Requests.
    pub counts: BTreeMap<(String, Outcome), u64>,
    /// Requests that did not get what they must get, and why.
    pub failures: Vec<String>,
}

/// Sends to one listener; keeps its connections.
#[derive(Clone, Debug)]
pub struct Client {
    address: SocketAddr,
    tally: Arc<Mutex<Tally>>,
    idle: Arc<Mutex<Vec<Sender>>>,
}

#[derive(Debug)]
enum Sender {
    Http1(http1::SendRequest<Empty<Bytes>>),
    Http2(http2::SendRequest<Empty<Bytes>>),
}

// === impl Ask ===

impl Ask {
    /// Any path; the answer must have this code.
    pub fn new(host: &str, path: &str, status: u16, outcome: Outcome) -> Self {
        Self {
            host: host.to_owned(),
            path: path.to_owned(),
            is_grpc: false,
            status,
            outcome,
        }
    }

    /// An answer of the application with this code.
    pub fn status(host: &str, status: u16) -> Self {
        let outcome = match status {
            500.. => Outcome::ServerError,
            400.. => Outcome::ClientError,
            _ => Outcome::Ok,
        };
        Self::new(host, &format!("/status/{status}"), status, outcome)
    }

    /// An answer after so many milliseconds.
    pub fn delay(host: &str, ms: u64) -> Self {
        let outcome = if ms > 60_000 { Outcome::Long } else { Outcome::Ok };
        Self::new(host, &format!("/delay/{ms}"), 200, outcome)
    }

    /// A request that is never answered.
    pub fn hang(host: &str) -> Self {
        Self::new(host, "/hang", 0, Outcome::Cancelled)
    }

    /// A gRPC call that is never answered.
    pub fn grpc_hang(host: &str) -> Self {
        Self {
            is_grpc: true,
            ..Self::hang(host)
        }
    }

    /// A gRPC call: over HTTP/2, answered with 200.
    pub fn grpc(host: &str, path: &str, outcome: Outcome) -> Self {
        Self {
            is_grpc: true,
            ..Self::new(host, path, 200, outcome)
        }
    }

    fn request(&self) -> hyper::http::Result<Request<Empty<Bytes>>> {
        let request = if self.is_grpc {
            Request::post(format!("http://{}{}", self.host, self.path))
                .header("content-type", "application/grpc")
                .header("te", "trailers")
        } else {
            Request::get(&self.path).header("host", &self.host)
        };
        request.body(Empty::new())
    }
}

// === impl Tally ===

impl Tally {
    /// Requests to a host with an outcome.
    pub fn count(&self, host: &str, outcome: Outcome) -> u64 {
        self.counts.get(&(host.to_owned(), outcome)).copied().unwrap_or(0)
    }

    /// Requests to a host.
    pub fn sent_to(&self, host: &str) -> u64 {
        self.counts
            .iter()
            .filter(|((to, _), _)| to == host)
            .map(|(_, count)| count)
            .sum()
    }

    /// All requests.
    pub fn sent(&self) -> u64 {
        self.counts.values().sum()
    }
}

// === impl Client ===

impl Client {
    /// A client of a listener.
    pub fn new(address: SocketAddr) -> Self {
        Self {
            address,
            tally: Arc::default(),
            idle: Arc::default(),
        }
    }

    /// What it did so far.
    pub fn tally(&self) -> Tally {
        self.lock().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends one request and reads its answer.
    pub async fn ask(&self, ask: &Ask) {
        let result = self.exchange(ask).await;
        let mut tally = self.lock();
        *tally.counts.entry((ask.host.clone(), ask.outcome)).or_default() += 1;
        match result {
            Ok(status) if status == ask.status => {}
            Ok(status) => tally.failures.push(format!("{}{}: {status}", ask.host, ask.path)),
            Err(error) => tally.failures.push(format!("{}{}: {error}", ask.host, ask.path)),
        }
    }

    /// Sends the same request several times, one after the other.
    pub async fn ask_times(&self, times: usize, ask: &Ask) {
        for _ in 0..times {
            self.ask(ask).await;
        }
    }

    /// Sends a request that gets no answer, and leaves once the backend has it: closes the connection,
    /// or resets the stream where it is a gRPC call.
    ///
    /// # Panics
    /// Where the backend never gets it.
    pub async fn ask_and_leave(&self, ask: &Ask, backend: &Backend) {
        let before = backend.hanging();
        let arrived = eventually(
            Duration::from_secs(10),
            "a request that hangs arrives",
            async || {
                (backend.hanging() > before)
                    .then_some(())
                    .ok_or_else(|| "not seen".to_owned())
            },
        );
        let answered = tokio::select! {
            () = arrived => None,
            result = self.exchange(ask) => Some(result),
        };
        let mut tally = self.lock();
        *tally.counts.entry((ask.host.clone(), ask.outcome)).or_default() += 1;
        tally
            .failures
            .extend(answered.map(|result| format!("{}{}: {result:?}", ask.host, ask.path)));
    }

    /// Sends from `connections` at once, each one request after the other with a pause between them.
    pub fn load(&self, connections: usize, pause: Duration, asks: Vec<Ask>) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let asks = Arc::new(asks);
        let mut tasks = JoinSet::new();
        for first in 0..connections {
            let (client, stop, asks) = (self.clone(), Arc::clone(&stop), Arc::clone(&asks));
            tasks.spawn(async move {
                for ask in asks.iter().cycle().skip(first) {
                    if stop.load(Ordering::SeqCst) {
                        break;
                    }
                    client.ask(ask).await;
                    tokio::time::sleep(pause).await;
                }
            });
        }
        Load { stop, tasks }
    }

    async fn exchange(&self, ask: &Ask) -> Result<u16, String> {
        let mut sender = self.sender(ask.is_grpc).await?;
        let request = ask.request().map_err(|error| error.to_string())?;
        let answer = sender.send(request).await.map_err(|error| error.to_string())?;
        let status = StatusCode::as_u16(&answer.status());
        answer
            .into_body()
            .collect()
            .await
            .map_err(|error| error.to_string())?;
        self.idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(sender);
        Ok(status)
    }

    /// A connection that is not in use, or a new one.
    async fn sender(&self, is_http2: bool) -> Result<Sender, String> {
        loop {
            let idle = {
                let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
                let at = idle
                    .iter()
                    .position(|sender| matches!(sender, Sender::Http2(_)) == is_http2);
                at.map(|at| idle.swap_remove(at))
            };
            let Some(mut sender) = idle else { break };
            if sender.ready().await {
                return Ok(sender);
            }
        }
        let stream = TcpStream::connect(self.address)
            .await
            .map_err(|error| error.to_string())?;
        stream.set_nodelay(true).map_err(|error| error.to_string())?;
        let io = TokioIo::new(stream);
        if is_http2 {
            let (sender, connection) = http2::handshake(TokioExecutor::new(), io)
                .await
                .map_err(|error| error.to_string())?;
            tokio::spawn(connection);
            return Ok(Sender::Http2(sender));
        }
        let (sender, connection) = http1::handshake(io).await.map_err(|error| error.to_string())?;
        tokio::spawn(connection);
        Ok(Sender::Http1(sender))
    }
}

impl Sender {
    async fn ready(&mut self) -> bool {
        match self {
            Self::Http1(sender) => sender.ready().await.is_ok(),
            Self::Http2(sender) => sender.ready().await.is_ok(),
        }
    }

    async fn send(
        &mut self,
        request: Request<Empty<Bytes>>,
    ) -> hyper::Result<hyper::Response<hyper::body::Incoming>> {
        match self {
            Self::Http1(sender) => sender.send_request(request).await,
            Self::Http2(sender) => sender.send_request(request).await,
        }
    }
}

/// Requests that go on until it is ended.
#[derive(Debug)]
pub struct Load {
    stop: Arc<AtomicBool>,
    tasks: JoinSet<()>,
}

impl Load {
    /// Sends no more, and waits for the answers to what was sent.
    ///
    /// # Panics
    /// Where a sender panicked.
    pub async fn end(mut self) {
        self.stop.store(true, Ordering::SeqCst);
        while let Some(ended) = self.tasks.join_next().await {
            ended.unwrap();
        }
    }
}
