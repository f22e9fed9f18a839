//! The server: axum's router on hyper's connections, with the limits in time that `axum::serve` does not set.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_io_timeout::TimeoutStream;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::router;
use crate::shared::Shared;

/// The head of a request must be there within this. It also ends an idle connection, so it is longer than two
/// heartbeats of a filter (30 s): a report must not meet a connection that is being closed.
const HEAD_TIMEOUT: Duration = Duration::from_secs(75);

/// A peer that takes nothing of an answer for this long is given up. A page that sleeps comes back by itself.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// Rest after a failed accept: out of file descriptors, as a rule.
const ACCEPT_REST: Duration = Duration::from_millis(200);

/// Serves until `shutdown`, then ends what follows for ever and waits for open requests.
pub async fn serve(listener: TcpListener, shared: Arc<Shared>, shutdown: CancellationToken) {
    let service = TowerToHyperService::new(router(Arc::clone(&shared)));
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            Some(ended) = connections.join_next() => {
                if let Err(error) = ended {
                    warn!(%error, "a connection's task failed");
                }
                continue;
            }
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                let connection = http.serve_connection(TokioIo::new(limited(stream)), service.clone());
                let connection = graceful.watch(connection);
                connections.spawn(async move {
                    // The peer's fault, or its right: it went away, was too slow, or spoke no HTTP.
                    if let Err(error) = connection.await {
                        debug!(%error, "connection ended");
                    }
                });
            }
            Err(error) if is_of_the_peer(&error) => {}
            Err(error) => {
                warn!(%error, "no connection could be accepted; it is tried again");
                tokio::time::sleep(ACCEPT_REST).await;
            }
        }
    }
    drop(listener);
    shared.ending.cancel();
    graceful.shutdown().await;
}

fn limited(stream: TcpStream) -> std::pin::Pin<Box<TimeoutStream<TcpStream>>> {
    // Only costs latency: an event would wait for the ack of the one before.
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%error, "TCP_NODELAY not set");
    }
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(WRITE_TIMEOUT));
    Box::pin(stream)
}

fn is_of_the_peer(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset
    )
}
