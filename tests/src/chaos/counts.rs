//! User requests at the gateway, counted three times: by the users, by Envoy, by the filter.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use gma_local::Client;
use serde::Serialize;
use serde_json::Value;

use super::watch::gateway_count;
use crate::envoy::get;

/// Un-sent counts of a gateway are at most 2 s old, but a filter whose report was lost tries again after up to 30 s.
const SETTLE_LIMIT: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(200);

/// User requests at the gateway that runs at the end, and at those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Requests that the users sent.
    pub users: u64,
    /// Requests at the gateway that runs at the end, by its own counter.
    pub envoy: u64,
    /// The same by its filter, as the controller has it.
    pub filter: u64,
    /// Requests of gateways that ended earlier, as the controller has them.
    pub filter_earlier: u64,
}

// === impl Counts ===

impl Counts {
    /// All three the same.
    pub const fn equal(self) -> bool {
        self.users == self.envoy && self.envoy == self.filter + self.filter_earlier
    }
}

/// Reads the counts after the load has ended, and waits until the last reports have come.
pub(super) async fn settle(sent: u64, client: &Client, controller: SocketAddr) -> anyhow::Result<Counts> {
    let began = Instant::now();
    loop {
        let counts = read(sent, client, controller).await?;
        if counts.equal() || counts.envoy == counts.filter && began.elapsed() > SETTLE_LIMIT / 4 {
            return Ok(counts);
        }
        if began.elapsed() > SETTLE_LIMIT {
            return Ok(counts);
        }
        tokio::time::sleep(POLL).await;
    }
}

async fn read(sent: u64, client: &Client, controller: SocketAddr) -> anyhow::Result<Counts> {
    let answer = get(controller, "/api/v1/state")
        .await
        .map_err(anyhow::Error::msg)?;
    let state: Value = serde_json::from_slice(&answer.body).context("the controller's state is no JSON")?;
    let (node, envoy) = gateway_count(&client.state().await?)
        .await
        .context("the gateway is gone")?;
    let keys = state.pointer("/accounting/keys").and_then(Value::as_array);
    let number = |key: &Value, name: &str| key.get(name).and_then(Value::as_u64).unwrap_or(0);
    let (mut filter, mut filter_earlier) = (0, 0);
    for key in keys.into_iter().flatten() {
        let of = key.get("node").and_then(Value::as_str).unwrap_or_default();
        let count = number(key, "count") + number(key, "longCount");
        if of == node {
            filter += count;
        } else if of.starts_with("router~") {
            filter_earlier += count;
        }
    }
    Ok(Counts {
        users: sent,
        envoy,
        filter,
        filter_earlier,
    })
}
