//! Takes the filters' reports in the controller's place, as it does: decoded, judged and counted by `gma-telemetry`.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use anyhow::Context;
use bytes::Bytes;
use gma_core::ids::Timestamp;
use gma_telemetry::{Accounting, Config, Directory, MAX_REPORT_BYTES, PATH, Telemetry};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::task::AbortOnDropHandle;

/// A listener for reports; ends on drop.
#[derive(Debug)]
pub struct Reports {
    state: Arc<State>,
    _server: AbortOnDropHandle<()>,
}

#[derive(Debug)]
struct State {
    telemetry: Mutex<Telemetry>,
    start: Instant,
}

// === impl Reports ===

impl Reports {
    /// Listens at an address of the rig's network. Proxies are unknown, and told to wait, until [`Self::know`].
    ///
    /// # Errors
    /// The address is taken.
    pub async fn listen(address: SocketAddr) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(address)
            .await
            .with_context(|| format!("cannot listen on {address}"))?;
        let state = Arc::new(State {
            telemetry: Mutex::new(Telemetry::new(Config::default())),
            start: Instant::now(),
        });
        let server = tokio::spawn(serve(listener, Arc::clone(&state)));
        Ok(Self {
            state,
            _server: AbortOnDropHandle::new(server),
        })
    }

    /// Says which proxies there are.
    pub fn know(&self, directory: &Directory) {
        let now = self.state.now();
        self.state
            .with(|telemetry| telemetry.set_directory(directory, now));
    }

    /// What the proxies have counted since they started.
    pub fn accounting(&self) -> Accounting {
        self.state.with(|telemetry| telemetry.accounting())
    }
}

// === impl State ===

impl State {
    fn now(&self) -> Timestamp {
        Timestamp::from_start(self.start.elapsed())
    }

    fn with<T>(&self, act: impl FnOnce(&mut Telemetry) -> T) -> T {
        act(&mut self.telemetry.lock().unwrap_or_else(PoisonError::into_inner))
    }

    async fn answer(&self, request: Request<Incoming>) -> (StatusCode, Vec<u8>) {
        if request.uri().path() != PATH {
            return (StatusCode::NOT_FOUND, Vec::new());
        }
        let Ok(body) = Limited::new(request.into_body(), MAX_REPORT_BYTES)
            .collect()
            .await
        else {
            return (StatusCode::PAYLOAD_TOO_LARGE, Vec::new());
        };
        let (body, now) = (body.to_bytes(), self.now());
        match self.with(|telemetry| telemetry.ingest(&body, now, now)).ack {
            Some(ack) => (StatusCode::OK, ack),
            None => (StatusCode::BAD_REQUEST, Vec::new()),
        }
    }
}

// === free functions ===

async fn serve(listener: TcpListener, state: Arc<State>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let state = Arc::clone(&state);
        let service = service_fn(move |request| {
            let state = Arc::clone(&state);
            async move {
                let (status, body) = state.answer(request).await;
                let mut response = Response::new(Full::new(Bytes::from(body)));
                *response.status_mut() = status;
                Ok::<_, Infallible>(response)
            }
        });
        let server = hyper::server::conn::http1::Builder::new();
        connections.spawn(server.serve_connection(TokioIo::new(stream), service));
        while connections.try_join_next().is_some() {}
    }
}
