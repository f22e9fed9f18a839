//! One service of a work model behind HTTP/1.1.
//!
//! ```text
//! request ─► internal function ─► groups side by side, calls of a group one after the other ─► answer
//!                                        │ GET http://<url><path>, through the egress where one is set
//! ```
//!
//! One thread serves everything: a cell sleeps more than it works, and a machine runs many of them. Only work that
//! needs the CPU, memory or disk leaves that thread.

mod calls;
mod cell;
mod fault;
mod metrics;
mod trace;
mod work;

use std::{
    collections::BTreeMap, future::Future, io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration,
};

use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use crate::workmodel::WorkModel;
use cell::Cell;

/// Connections at a time. A sidecar keeps some tens; past the bound the kernel's backlog waits.
const MAX_CONNECTIONS: usize = 1_024;
/// How long nothing may be in flight before a cell that was told to stop is idle: more than a round trip of its callers.
const IDLE_BEFORE_END: Duration = Duration::from_millis(500);
/// Pause after an accept that failed, e.g. for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What to serve, and where.
#[derive(Debug, Clone)]
pub struct Config {
    /// The application.
    pub model: WorkModel,
    /// Which of its services this cell is.
    pub service: String,
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Where calls go, with the callee's host in the header; `None`: to that host itself.
    pub egress: Option<SocketAddr>,
    /// What completes a host without a dot, e.g. `.shop.svc.cluster.local`.
    pub host_suffix: String,
    /// Label and answer header: where this instance is.
    pub zone: String,
    /// Label: the name of the workload.
    pub app: String,
    /// Of all chance in this cell.
    pub seed: u64,
    /// File that says how to misbehave; looked at while it runs.
    pub faults: Option<PathBuf>,
}

/// Why a cell cannot start. Configuration; not worth a retry, but for an address that is being released.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The model does not know the service.
    #[error("the work model has no service \"{service}\"; give --service one of: {known}")]
    UnknownService {
        /// The name that was asked for.
        service: String,
        /// All there are.
        known: String,
    },
    /// A callee's host with the suffix is no host.
    #[error("service {service}: \"{host}\" is no host; correct its url or --host-suffix")]
    Host {
        /// The callee.
        service: String,
        /// What was built.
        host: String,
    },
    /// The address is taken or not ours.
    #[error(
        "cannot listen on {addr}: {source}; end what uses the port or give --listen another (port 0: any free one)"
    )]
    Listen {
        /// The address.
        addr: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The name does not fit into a header.
    #[error("--zone \"{0}\" does not fit into a header; use printable ASCII")]
    Zone(String),
}

/// A cell that listens and does not serve yet.
#[derive(Debug)]
pub struct Bound {
    listener: TcpListener,
    addr: SocketAddr,
    cell: Arc<Cell>,
    faults: Option<PathBuf>,
}

// === impl Bound ===

impl Bound {
    /// Checks the configuration and listens.
    ///
    /// # Errors
    /// The service is unknown, a host is wrong or the address is taken.
    pub async fn bind(config: Config) -> Result<Self, ServeError> {
        let listen = config.listen;
        let faults = config.faults.clone();
        let cell = Arc::new(Cell::new(config)?);
        let failed = |source| ServeError::Listen { addr: listen, source };
        let listener = TcpListener::bind(listen).await.map_err(failed)?;
        let addr = listener.local_addr().map_err(failed)?;
        Ok(Self {
            listener,
            addr,
            cell,
            faults,
        })
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.addr
    }

    /// Serves until `stop` ends, then until nothing is in flight, for `grace` at most.
    ///
    /// It goes on accepting meanwhile: a proxy in front of it may still open connections for requests that are on
    /// their way. Answers how many requests were cut off at the end.
    pub async fn run(mut self, stop: impl Future<Output = ()>, grace: Duration) -> usize {
        let cell = Arc::clone(&self.cell);
        let faults = self.faults.take();
        tokio::select! {
            () = self.accept() => 0,
            () = fault::follow(cell.fault(), faults) => 0,
            cut = async {
                stop.await;
                wait_until_idle(&cell, grace).await
            } => cut,
        }
    }

    async fn accept(self) {
        let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let mut connections = JoinSet::new();
        loop {
            while connections.try_join_next().is_some() {}
            let Ok(slot) = Arc::clone(&slots).acquire_owned().await else {
                return;
            };
            let stream = match self.listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "accept failed");
                    sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let cell = Arc::clone(&self.cell);
            connections.spawn(async move {
                serve_connection(stream, cell).await;
                drop(slot);
            });
        }
    }
}

async fn serve_connection(stream: TcpStream, cell: Arc<Cell>) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "connection without TCP_NODELAY");
    }
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let cell = Arc::clone(&cell);
        async move { Ok::<_, std::convert::Infallible>(cell.answer(request).await) }
    });
    let connection =
        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    if let Err(error) = connection.await {
        tracing::debug!(%error, "connection ended");
    }
}

async fn wait_until_idle(cell: &Cell, grace: Duration) -> usize {
    let idle = async {
        let mut idle_since = Instant::now();
        while idle_since.elapsed() < IDLE_BEFORE_END {
            sleep(IDLE_BEFORE_END / 10).await;
            if cell.in_flight() > 0 {
                idle_since = Instant::now();
            }
        }
    };
    match timeout(grace, idle).await {
        Ok(()) => 0,
        Err(_) => {
            let cut = cell.in_flight();
            tracing::warn!(in_flight = cut, "grace period over");
            cut
        }
    }
}

/// Names and targets of all callees of a service.
type Targets = BTreeMap<String, calls::Target>;
