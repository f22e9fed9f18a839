//! What the controller says of itself and what the world holds, a few times a second.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use gma_core::cluster::{Phase, ProxyRole, RoutingPlan};
use gma_core::ids::{AreaName, ServiceName};
use gma_local::{Client, State};
use serde_json::Value;
use tokio_util::task::AbortOnDropHandle;

use super::EDGE;
use crate::envoy::get;

/// How often is looked: twice as often as the controller evaluates.
const EVERY: Duration = Duration::from_millis(250);
/// A controller that does not answer within this says nothing.
const ANSWER: Duration = Duration::from_millis(1500);

/// One look.
#[derive(Clone, Debug)]
pub(super) struct Look {
    pub(super) at: Instant,
    /// None: the controller did not answer, or has made no round yet.
    pub(super) said: Option<Said>,
    /// Ready at the edge.
    pub(super) ready: BTreeSet<ServiceName>,
    /// Listed at the edge, ready or not.
    pub(super) placed: BTreeSet<ServiceName>,
    pub(super) routing: RoutingPlan,
    /// Changes that the world was asked for so far.
    pub(super) orders: u64,
    /// Requests that the edge's gateway has counted; none while there is none.
    pub(super) gateway: Option<u64>,
}

/// The controller's account of the edge.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Said {
    pub(super) phase: String,
    /// Kind of the hold reason.
    pub(super) held: Option<String>,
    pub(super) sentence: String,
    /// It has a reading of the delay.
    pub(super) reads: bool,
    /// Decisions by id: kind of the trigger, and the sentence as it was last.
    pub(super) decisions: BTreeMap<u64, (String, String)>,
}

/// All looks so far; ends when dropped.
#[derive(Debug)]
pub(super) struct Watch {
    looks: Arc<Mutex<Vec<Look>>>,
    _task: AbortOnDropHandle<()>,
}

// === impl Watch ===

impl Watch {
    pub(super) fn start(client: Client, controller: SocketAddr) -> Self {
        let looks = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&looks);
        let task = tokio::spawn(async move {
            let mut ticks = tokio::time::interval(EVERY);
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
            loop {
                ticks.tick().await;
                if let Some(look) = look(&client, controller).await {
                    lock(&seen).push(look);
                }
            }
        });
        Self {
            looks,
            _task: AbortOnDropHandle::new(task),
        }
    }

    pub(super) fn last(&self) -> Option<Look> {
        lock(&self.looks).last().cloned()
    }

    /// Looks between two moments, oldest first.
    pub(super) fn between(&self, from: Instant, to: Instant) -> Vec<Look> {
        let looks = lock(&self.looks);
        let within = looks.iter().filter(|look| look.at >= from && look.at <= to);
        within.cloned().collect()
    }
}

fn lock(looks: &Mutex<Vec<Look>>) -> MutexGuard<'_, Vec<Look>> {
    looks.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn look(client: &Client, controller: SocketAddr) -> Option<Look> {
    // The controller may be dead or stopped: it must not keep the world from being seen.
    let asked = tokio::time::timeout(ANSWER, get(controller, "/api/v1/state"));
    let (answer, state) = tokio::join!(asked, client.state());
    let state = state.ok()?;
    let answer = answer.ok().and_then(Result::ok);
    let said = answer.and_then(|answer| said(&serde_json::from_slice(&answer.body).ok()?));
    let edge = AreaName::from(EDGE);
    let at_edge = || {
        let instances = state.cluster.instances.iter();
        instances.filter(|instance| instance.area == edge)
    };
    Some(Look {
        at: Instant::now(),
        said,
        ready: at_edge()
            .filter(|instance| instance.phase == Phase::Ready)
            .map(|instance| instance.service.clone())
            .collect(),
        placed: at_edge().map(|instance| instance.service.clone()).collect(),
        gateway: gateway_count(&state).await.map(|(_, count)| count),
        orders: state.orders,
        routing: state.cluster.routing,
    })
}

fn said(state: &Value) -> Option<Said> {
    let account = state.pointer("/round/edges")?.get(EDGE)?;
    let text = |value: &Value, pointer: &str| Some(value.pointer(pointer)?.as_str()?.to_owned());
    let told = account.get("decisions").and_then(Value::as_array);
    let told = told
        .into_iter()
        .flatten()
        .filter_map(|told| Some((told.get("decision")?, text(told, "/sentence")?)));
    let running = account
        .get("plan")
        .filter(|plan| !plan.is_null())
        .map(|plan| (plan, text(account, "/sentence").unwrap_or_default()));
    let decisions = told.chain(running).filter_map(|(decision, sentence)| {
        let kind = text(decision, "/trigger/kind")?;
        Some((decision.get("id")?.as_u64()?, (kind, sentence)))
    });
    Some(Said {
        phase: text(account, "/phase")?,
        held: text(account, "/held/kind"),
        sentence: text(account, "/sentence")?,
        reads: account.get("reading").is_some_and(|reading| !reading.is_null()),
        decisions: decisions.collect(),
    })
}

/// The gateway's node and its admin interface.
pub(super) fn gateway(state: &State) -> Option<(String, SocketAddr)> {
    let envoy = state.envoys.iter().find(|envoy| {
        state
            .proxies
            .get(&envoy.node)
            .is_some_and(|proxy| proxy.area.as_str() == EDGE && proxy.role == ProxyRole::Gateway)
    })?;
    Some((envoy.node.clone(), envoy.admin))
}

/// Requests at the gateway's listener for users.
pub(super) async fn gateway_count(state: &State) -> Option<(String, u64)> {
    let (node, admin) = gateway(state)?;
    let path = "/stats?format=json&filter=^http.outbound_0.0.0.0_8080.downstream_rq_total$";
    let answer = get(admin, path).await.ok()?;
    let stats: Value = serde_json::from_slice(&answer.body).ok()?;
    let values = stats.get("stats")?.as_array()?.iter();
    Some((
        node,
        values
            .filter_map(|stat| stat.get("value").and_then(Value::as_u64))
            .sum(),
    ))
}
