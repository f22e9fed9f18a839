//! What the controller shows of itself: one view a round, for the page, `gma status`, `gma explain` and programs.
//!
//! The view is the round's own data and what only somebody who watched longer can say: the delay of the last ten
//! minutes, its histogram, what the instances cost, and what would end a hold.

mod costs;
mod ends;
mod history;

use std::collections::BTreeMap;

use gma_core::cluster::Cluster;
use gma_core::decide::{self, Account, Config, State};
use gma_core::ids::{AreaName, ServiceName, Timestamp};
use gma_core::measured::Settings;
use gma_core::snapshot::Snapshot;
use serde::Serialize;

pub use costs::{AreaCost, Costs};
pub use history::{Bucket, HISTORY, Histogram, Point, STEP};

use history::Histories;

/// What a round saw and did.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// When.
    pub now: Timestamp,
    /// What the machine is to do.
    pub config: &'a Config,
    /// What it does.
    pub state: &'a State,
    /// What runs where.
    pub cluster: &'a Cluster,
    /// What was measured.
    pub snapshot: &'a Snapshot,
    /// Cores in use by service.
    pub cores: &'a BTreeMap<ServiceName, f64>,
    /// Replicas that the cloud is short of if an edge dies; edges for which it has enough are absent.
    pub short_if_lost: &'a BTreeMap<AreaName, BTreeMap<ServiceName, u32>>,
    /// Prices and requests that the planner counts with.
    pub settings: &'a Settings,
    /// Why the state is not written down, where it is not.
    pub unsaved: Option<&'a str>,
}

/// A round, for people and programs.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct View<'a> {
    /// When.
    pub at: Timestamp,
    /// Version of the controller.
    pub version: &'static str,
    /// What the machine is to do.
    pub config: &'a Config,
    /// Its account of each edge.
    pub edges: BTreeMap<&'a AreaName, Account<'a>>,
    /// What adoption does, which concerns all edges; none where every called service has its rule.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub adoption: Option<String>,
    /// What would have to change for the hold of an edge to end; edges that are not held are absent.
    pub ends: BTreeMap<&'a AreaName, String>,
    /// What runs where, and the weights.
    pub cluster: &'a Cluster,
    /// What was measured.
    pub snapshot: &'a Snapshot,
    /// Cores in use by service.
    pub cpu_cores: &'a BTreeMap<ServiceName, f64>,
    /// Replicas that the cloud is short of if an edge dies; edges for which it has enough are absent.
    pub short_if_lost: &'a BTreeMap<AreaName, BTreeMap<ServiceName, u32>>,
    /// Why the state is not written down, where it is not; then nothing is done.
    pub unsaved: Option<&'a str>,
    /// What runs, times its prices.
    pub costs: Costs,
    /// The delay of the last ten minutes by edge, oldest first.
    pub history: BTreeMap<&'a AreaName, Vec<Point>>,
    /// User delays by edge, of the window that its reading stands on.
    pub histogram: BTreeMap<&'a AreaName, Histogram>,
}

/// Makes views, and remembers what a single round does not know.
#[derive(Debug, Default)]
pub struct Recorder {
    histories: Histories,
}

impl Recorder {
    /// Takes a round, and gives the view of it.
    pub fn view<'a>(&mut self, seen: &Seen<'a>) -> View<'a> {
        let edges = decide::accounts(seen.state, seen.now);
        self.histories.record(seen, &edges);
        let ends = edges
            .iter()
            .filter_map(|(edge, account)| Some((*edge, ends::when(account.held?, seen))))
            .collect();
        let histogram = seen
            .snapshot
            .edges
            .iter()
            .map(|(edge, measured)| {
                let reading = edges.get(edge).and_then(|account| account.reading);
                let window = reading.map_or(seen.snapshot.window, |reading| reading.window);
                (edge, Histogram::of(&measured.slots, window))
            })
            .collect();
        let history = seen
            .snapshot
            .edges
            .keys()
            .map(|edge| (edge, self.histories.of(edge)))
            .collect();
        View {
            at: seen.now,
            version: env!("CARGO_PKG_VERSION"),
            config: seen.config,
            adoption: seen.state.adoption.sentence(seen.now),
            edges,
            ends,
            cluster: seen.cluster,
            snapshot: seen.snapshot,
            cpu_cores: seen.cores,
            short_if_lost: seen.short_if_lost,
            unsaved: seen.unsaved,
            costs: Costs::of(seen),
            history,
            histogram,
        }
    }
}
