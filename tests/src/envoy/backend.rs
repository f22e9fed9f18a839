//! A workload that does what the path says. HTTP/1.1 and HTTP/2 without TLS on one port.
//!
//! | path | answer |
//! |---|---|
//! | `/status/CODE` | that code |
//! | `/delay/MS` | 200 after so many milliseconds |
//! | `/size/BYTES` | 200 with so many bytes |
//! | `/close` | the connection is closed without an answer |
//! | `/hang` | none, ever |
//! | `/grpc/STATUS` | 200, a message, then the status in the trailers |
//! | `/grpc-headers/STATUS` | 200 and the status in the headers, nothing else |

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{HeaderMap, Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::AbortOnDropHandle;

type Body = BoxBody<Bytes, std::convert::Infallible>;

/// A running backend; ends on drop.
#[derive(Debug)]
pub struct Backend {
    /// Where it listens.
    pub address: SocketAddr,
    /// Requests that never get an answer and have arrived.
    hanging: Arc<AtomicU64>,
    _server: AbortOnDropHandle<()>,
}

// === impl Backend ===

impl Backend {
    /// Starts one.
    ///
    /// # Panics
    /// Where loopback has no free port.
    pub async fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let hanging = Arc::new(AtomicU64::new(0));
        let server = tokio::spawn(serve(listener, Arc::clone(&hanging)));
        Self {
            address,
            hanging,
            _server: AbortOnDropHandle::new(server),
        }
    }

    /// Requests to `/hang` that have arrived.
    pub fn hanging(&self) -> u64 {
        self.hanging.load(Ordering::SeqCst)
    }
}

async fn serve(listener: TcpListener, hanging: Arc<AtomicU64>) {
    let mut connections = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (stream, _) = accepted.unwrap();
                stream.set_nodelay(true).unwrap();
                connections.spawn(connection(stream, Arc::clone(&hanging)));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn connection(stream: TcpStream, hanging: Arc<AtomicU64>) {
    let service = service_fn(move |request| answer(request, Arc::clone(&hanging)));
    // An error of the service closes the connection: that is what `/close` asks for.
    let _ = auto::Builder::new(TokioExecutor::new())
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

async fn answer(request: Request<Incoming>, hanging: Arc<AtomicU64>) -> Result<Response<Body>, String> {
    let path = request.uri().path().to_owned();
    let _ = request.into_body().collect().await;
    let (kind, number) = path
        .trim_start_matches('/')
        .split_once('/')
        .unwrap_or((&path[1..], "0"));
    let number: u64 = number.parse().map_err(|_| format!("{path}: no number"))?;
    let response = Response::builder();
    match kind {
        "status" => response.status(number as u16).body(full("status")),
        "delay" => {
            tokio::time::sleep(Duration::from_millis(number)).await;
            response.body(full("late"))
        }
        "size" => response.body(full(vec![b'x'; number as usize])),
        "hang" => {
            hanging.fetch_add(1, Ordering::SeqCst);
            std::future::pending().await
        }
        "grpc" => {
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", number.into());
            // A length-prefixed message: not compressed, 2 bytes.
            let message = Full::new(Bytes::from_static(b"\0\0\0\0\x02ok"));
            let body = message.with_trailers(async move { Some(Ok(trailers)) });
            response
                .header("content-type", "application/grpc")
                .body(body.boxed())
        }
        "grpc-headers" => response
            .header("content-type", "application/grpc")
            .header("grpc-status", number)
            .body(full("")),
        _ => return Err(format!("{path}: closed")),
    }
    .map_err(|error| error.to_string())
}

fn full(body: impl Into<Bytes>) -> Body {
    Full::new(body.into()).boxed()
}
