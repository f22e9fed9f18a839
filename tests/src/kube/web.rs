//! One service of cells in several areas behind a gateway at the edge, with its [`Stage`].

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::ensure;
use gma_k8s::locality::AreaMap;
use serde_json::{Value, json};

use super::controller::until;
use super::stage::Stage;
use crate::local::{Sent, Users};
use crate::rig::{Cluster, manifests};

/// What users ask for.
const PATH: &str = "/api/v1";
/// Longest wait for something that takes a second on an idle machine.
const SOON: Duration = Duration::from_secs(60);
/// Requests that measure a share, and by how many it may be off: others' requests take some of the turns.
const SAMPLE: usize = 100;
const TOLERANCE: usize = 6;

/// The service `web`; its node at the edge is the first.
#[derive(Debug)]
pub struct Web<'a> {
    /// Its rules.
    pub stage: Stage<'a>,
    /// Users at the gateway of edge-1.
    pub users: Users,
    /// The node of its cell at the edge.
    pub edge: String,
}

// === impl Web ===

impl<'a> Web<'a> {
    /// Starts a cell on each node; their localities are `REGION/NODE`, and the gateway's `edge/edge-1`. Where regions are empty,
    /// areas are zones, that at the edge the first, and the gateway is in it. Returns once all answer.
    ///
    /// # Errors
    /// Something does not start.
    pub async fn start(
        cluster: &'a Cluster,
        namespace: &str,
        address: &str,
        nodes: &[(&str, &str)],
    ) -> anyhow::Result<Self> {
        let (region, entry) = match nodes {
            [("", first), ..] => ("", *first),
            _ => ("edge", "edge-1"),
        };
        cluster.add_node(entry, &format!("{region}/{entry}")).await?;
        let folder = cluster.folder();
        let mut documents = manifests::namespace(folder, namespace, &[("web", &[])])?;
        for (region, node) in nodes {
            cluster.add_node(node, &format!("{region}/{node}")).await?;
            documents += &manifests::cells(folder, namespace, "web", node, 1);
        }
        documents += &manifests::gateway(namespace, entry, address, "web");
        cluster.apply(&documents).await?;
        cluster.until_ready(namespace, "app=web", nodes.len()).await?;
        cluster
            .until_ready(namespace, &format!("istio=gateway-{entry}"), 1)
            .await?;
        let areas: [(&str, &[&str]); 2] = [("cloud", &["cloud"]), ("edge-1", &["edge"])];
        let reported: Vec<String> = nodes
            .iter()
            .map(|(region, node)| format!("{region}/{node}"))
            .collect();
        let reported: Vec<&str> = reported.iter().map(String::as_str).collect();
        let mut stage = Stage::new(cluster, namespace, "web", &areas, &reported).await?;
        stage.callers = [namespace.to_owned()].into();
        if region.is_empty() {
            let zone = |(_, node): &(&str, &str)| (*node).to_owned();
            let (edge, cloud) = nodes.split_at(1);
            stage.areas = AreaMap::Zones(BTreeMap::from([
                ("cloud".into(), cloud.iter().map(zone).collect()),
                ("edge-1".into(), edge.iter().map(zone).collect()),
            ]));
        }
        let web = Self {
            stage,
            users: Users::at(SocketAddr::new(address.parse()?, manifests::PORT)),
            edge: nodes
                .first()
                .map(|(_, node)| (*node).to_owned())
                .unwrap_or_default(),
        };
        until("all cells answer", SOON, async || {
            let zones = zones(&web.users.send_each(PATH, 5 * nodes.len()).await);
            Ok(if zones.len() == nodes.len() && !zones.contains_key("") {
                Ok(())
            } else {
                Err(format!("{zones:?}"))
            })
        })
        .await?;
        Ok(web)
    }

    /// Requests by the node that answered them, of `count` one after the other.
    pub async fn split(&self, count: usize) -> BTreeMap<String, usize> {
        zones(&self.users.send_each(PATH, count).await)
    }

    /// Waits until the edge has this percentage of the requests.
    ///
    /// # Errors
    /// It does not come to have it.
    pub async fn until_share(&self, percent: usize) -> anyhow::Result<()> {
        self.until_share_of(&self.users, percent).await
    }

    /// The same of users elsewhere.
    ///
    /// # Errors
    /// It does not come to have it.
    pub async fn until_share_of(&self, users: &Users, percent: usize) -> anyhow::Result<()> {
        until(&format!("{percent} % at the edge"), SOON, async || {
            let zones = zones(&users.send_each(PATH, SAMPLE).await);
            let share = zones.get(&self.edge).copied().unwrap_or(0);
            Ok(if share.abs_diff(percent) <= TOLERANCE {
                Ok(())
            } else {
                Err(format!("{zones:?}"))
            })
        })
        .await
    }

    /// Writes a share and waits until the gateway goes by it.
    ///
    /// # Errors
    /// It is held, or not in force.
    pub async fn shift(&self, percent: u32) -> anyhow::Result<()> {
        self.stage.step(percent).await?;
        self.until_share(usize::try_from(percent)?).await
    }

    /// Requests with `?bid=NAME` are answered with 500 from now on, until `None`.
    ///
    /// # Errors
    /// The file can't be written.
    pub fn set_failing(&self, cluster: &Cluster, bid: Option<&str>) -> anyhow::Result<()> {
        let fault = bid.map_or(json!({}), |bid| json!({"fail": {"bid": bid}}));
        let path = manifests::faults(cluster.folder(), &self.stage.namespace, "web");
        Ok(std::fs::write(path, Value::to_string(&fault))?)
    }
}

/// Requests by the node that answered them.
pub fn zones(sent: &[Sent]) -> BTreeMap<String, usize> {
    let mut zones = BTreeMap::new();
    for sent in sent {
        *zones.entry(sent.zone.clone()).or_default() += 1;
    }
    zones
}

/// None failed.
///
/// # Errors
/// Those that did.
pub fn all_ok<'a>(sent: impl IntoIterator<Item = &'a Sent>) -> anyhow::Result<()> {
    let failed: Vec<_> = sent.into_iter().filter(|sent| !sent.is_ok()).collect();
    ensure!(failed.is_empty(), "{} failed: {failed:#?}", failed.len());
    Ok(())
}
