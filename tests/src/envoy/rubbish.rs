//! A server where the controller should be, that answers anything but an ack.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

/// What it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rubbish {
    /// 200 and bytes that are no ack.
    Garbage,
    /// 200 and nothing.
    Nothing,
    /// 500.
    Error,
    /// 200 and 16 MiB.
    Huge,
    /// Nothing, ever.
    Silence,
    /// An ack of another report.
    AnotherAck,
}

impl Rubbish {
    /// Every kind.
    pub const ALL: [Self; 6] = [
        Self::Garbage,
        Self::Nothing,
        Self::Error,
        Self::Huge,
        Self::Silence,
        Self::AnotherAck,
    ];
}

/// The server; ends on drop.
#[derive(Debug)]
pub struct RubbishController {
    kind: Arc<Mutex<Rubbish>>,
    received: Arc<AtomicU64>,
    _server: AbortOnDropHandle<()>,
}

// === impl RubbishController ===

impl RubbishController {
    /// Listens where the filters expect the controller.
    ///
    /// # Panics
    /// Where the address is taken.
    pub async fn start(address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let kind = Arc::new(Mutex::new(Rubbish::Garbage));
        let received = Arc::new(AtomicU64::new(0));
        let server = tokio::spawn(serve(listener, Arc::clone(&kind), Arc::clone(&received)));
        Self {
            kind,
            received,
            _server: AbortOnDropHandle::new(server),
        }
    }

    /// Answers this from now on.
    pub fn answer(&self, kind: Rubbish) {
        *self.kind.lock().unwrap_or_else(PoisonError::into_inner) = kind;
    }

    /// Reports that came.
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::SeqCst)
    }
}

async fn serve(listener: TcpListener, kind: Arc<Mutex<Rubbish>>, received: Arc<AtomicU64>) {
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let (kind, received) = (Arc::clone(&kind), Arc::clone(&received));
        let service = service_fn(move |request: Request<Incoming>| {
            let (kind, received) = (Arc::clone(&kind), Arc::clone(&received));
            async move {
                let _ = request.into_body().collect().await;
                received.fetch_add(1, Ordering::SeqCst);
                let kind = *kind.lock().unwrap_or_else(PoisonError::into_inner);
                answer(kind).await
            }
        });
        connections.spawn(
            hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service),
        );
    }
}

async fn answer(kind: Rubbish) -> Result<Response<Full<Bytes>>, Infallible> {
    let another = gma_report::Ack {
        vm: 1,
        seq: 1,
        verdict: gma_report::Verdict::Stored,
        next_ms: 0,
        resync: false,
        served_us: 0,
    };
    let (status, body) = match kind {
        Rubbish::Garbage => (200, vec![0xff; 300]),
        Rubbish::Nothing => (200, vec![]),
        Rubbish::Error => (500, b"out of order".to_vec()),
        Rubbish::Huge => (200, vec![0x0a; 16 << 20]),
        Rubbish::Silence => std::future::pending().await,
        Rubbish::AnotherAck => (200, gma_report::encode_ack(&another)),
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = hyper::StatusCode::from_u16(status).unwrap_or_default();
    Ok(response)
}
