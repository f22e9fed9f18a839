//! One number, counted three times: by the load generator, by Envoy, by the filter.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use gma_core::cluster::ProxyRole;
use gma_local::State;
use serde::Serialize;
use serde_json::Value;

use crate::controller::Controller;
use crate::http;

/// Un-sent counts of a gateway are at most 2 s old; a report that was lost is sent again after up to 30 s.
const SETTLE_LIMIT: Duration = Duration::from_secs(40);
const POLL: Duration = Duration::from_millis(200);

/// User requests at a gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Counts {
    pub(crate) load_generator: u64,
    pub(crate) envoy: u64,
    pub(crate) filter: u64,
}

impl Counts {
    pub(crate) const fn equal(self) -> bool {
        self.load_generator == self.envoy && self.envoy == self.filter
    }
}

/// Reads the counts after the load has ended, and waits until the last report has come.
pub(crate) async fn settle(
    sent: u64,
    state: &State,
    edge: &str,
    controller: &mut Controller,
) -> anyhow::Result<Counts> {
    let (node, admin) = gateway(state, edge)?;
    let began = Instant::now();
    loop {
        let view = controller.view().await?;
        let counts = Counts {
            load_generator: sent,
            envoy: envoy_requests(admin).await?,
            filter: filter_requests(&view.state, &node),
        };
        if counts.equal() || began.elapsed() > SETTLE_LIMIT {
            return Ok(counts);
        }
        tokio::time::sleep(POLL).await;
    }
}

fn gateway(state: &State, edge: &str) -> anyhow::Result<(String, SocketAddr)> {
    state
        .envoys
        .iter()
        .find(|envoy| {
            state
                .proxies
                .get(&envoy.node)
                .is_some_and(|proxy| proxy.area.as_str() == edge && matches!(proxy.role, ProxyRole::Gateway))
        })
        .map(|envoy| (envoy.node.clone(), envoy.admin))
        .with_context(|| format!("the gateway of {edge} is gone"))
}

/// Requests at the gateway's listener for users.
async fn envoy_requests(admin: SocketAddr) -> anyhow::Result<u64> {
    let path = "/stats?format=json&filter=^http\\..*\\.downstream_rq_total$";
    let body: Value = serde_json::from_slice(&http::get(admin, path).await?)?;
    let stats = body
        .get("stats")
        .and_then(Value::as_array)
        .context("Envoy gave no counters")?;
    Ok(stats
        .iter()
        .filter(|stat| {
            stat.get("name")
                .and_then(Value::as_str)
                .is_some_and(|name| !name.contains(".admin."))
        })
        .filter_map(|stat| stat.get("value").and_then(Value::as_u64))
        .sum())
}

fn filter_requests(state: &Value, node: &str) -> u64 {
    let number = |key: &Value, name: &str| key.get(name).and_then(Value::as_u64).unwrap_or(0);
    let keys = state.pointer("/accounting/keys").and_then(Value::as_array);
    keys.into_iter()
        .flatten()
        .filter(|key| key.get("node").and_then(Value::as_str) == Some(node))
        .map(|key| number(key, "count") + number(key, "longCount"))
        .sum()
}
