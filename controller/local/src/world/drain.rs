//! Waits until a sidecar that no caller is told of any more has nothing under way.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::pod::Order;
use crate::envoy::admin::{self, Active};

/// A request may take this long: the longest that the filter measures.
const DRAIN_LIMIT: Duration = Duration::from_secs(60);
/// Idle for this long, its filter has sent its last counts: a controller may ask a sidecar for them each 10 s only.
const REPORT_GRACE: Duration = Duration::from_secs(12);
/// How often Envoy is asked.
const ASK_EVERY: Duration = Duration::from_millis(200);

/// Returns once neither requests nor callers' connections were active for `REPORT_GRACE`, at `DRAIN_LIMIT` at the
/// latest, or when ordered to stop.
pub(super) async fn until_idle(pod: &str, sidecar: SocketAddr, orders: &mut watch::Receiver<Order>) {
    let start = Instant::now();
    let mut busy_at = start;
    while busy_at.elapsed() < REPORT_GRACE {
        match admin::active(sidecar).await {
            Some(active) if active == Active::default() => {}
            Some(active) if start.elapsed() >= DRAIN_LIMIT => {
                tracing::warn!(%pod, ?active, limit = ?DRAIN_LIMIT, "stopped while something was under way");
                return;
            }
            Some(_) => busy_at = Instant::now(),
            None => return,
        }
        tokio::select! {
            () = sleep(ASK_EVERY) => {}
            stop = orders.wait_for(|order| *order == Order::Stop) => {
                tracing::debug!(%pod, world_gone = stop.is_err(), "no longer drained");
                return;
            }
        }
    }
    tracing::debug!(%pod, took = ?start.elapsed(), "drained");
}
