//! A controller that acknowledges every report and keeps none.

use std::{
    convert::Infallible,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use anyhow::{Context, Result};
use bytes::Bytes;
use gma_report::{Ack, Verdict, decode, encode_ack};
use http_body_util::{BodyExt, Full};
use hyper::{Request, Response, StatusCode, body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpListener, runtime::Runtime, task::JoinSet};

use super::cores::Cores;

/// The sink; ends on drop.
#[derive(Debug)]
pub(crate) struct Sink {
    addr: SocketAddr,
    counts: Arc<Counts>,
    _runtime: Runtime,
}

#[derive(Debug, Default)]
struct Counts {
    acked: AtomicU64,
    refused: AtomicU64,
}

// === impl Sink ===

impl Sink {
    /// Listens on a free port of loopback, away from Envoy's core.
    pub(crate) fn start(cores: &Cores) -> Result<Self> {
        cores.leave()?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        let listener = runtime
            .block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))
            .context("loopback has no free port for the sink")?;
        let addr = listener.local_addr()?;
        let counts = Arc::new(Counts::default());
        runtime.spawn(serve(listener, Arc::clone(&counts)));
        Ok(Self {
            addr,
            counts,
            _runtime: runtime,
        })
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub(crate) fn acked(&self) -> u64 {
        self.counts.acked.load(Relaxed)
    }

    pub(crate) fn refused(&self) -> u64 {
        self.counts.refused.load(Relaxed)
    }
}

async fn serve(listener: TcpListener, counts: Arc<Counts>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        let counts = Arc::clone(&counts);
        let service = service_fn(move |request| answer(request, Arc::clone(&counts)));
        connections.spawn(
            hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service),
        );
    }
}

async fn answer(
    request: Request<Incoming>,
    counts: Arc<Counts>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let body = request
        .into_body()
        .collect()
        .await
        .map(http_body_util::Collected::to_bytes)
        .unwrap_or_default();
    let mut response = Response::new(Full::default());
    match decode(&body) {
        Ok(report) => {
            counts.acked.fetch_add(1, Relaxed);
            let ack = Ack {
                vm: report.head.vm,
                seq: report.head.seq,
                verdict: Verdict::Stored,
                next_ms: 0,
                resync: false,
                served_us: 0,
            };
            *response.body_mut() = Full::new(encode_ack(&ack).into());
        }
        Err(_) => {
            counts.refused.fetch_add(1, Relaxed);
            *response.status_mut() = StatusCode::BAD_REQUEST;
        }
    }
    Ok(response)
}
