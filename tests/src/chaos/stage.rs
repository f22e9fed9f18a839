//! A world under load with a controller that steers it, watched from its start to its end.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use gma_core::cluster::RoutingPlan;
use gma_local::{App, Client, Topology, World, free_address};
use tempfile::TempDir;
use tokio::task::JoinSet;

use super::app::{self, PLACED};
use super::controller::{Controller, Program};
use super::watch::{Look, Watch};
use super::{EDGE, Trial, counts};
use crate::local::{Load, Sent, Users, built, host};

/// Users' requests a second.
pub(super) const RATE: u32 = 50;
/// Longest wait for the world and the controller to be as they were told.
pub(super) const PATIENCE: Duration = Duration::from_secs(90);
/// Load before the fault, with which what follows is compared.
const BEFORE: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(50);

/// How a stage differs from the usual one.
#[derive(Clone, Debug)]
pub(super) struct Setting {
    /// Bounds of the band. The usual ones hold whatever runs where: nothing is to be done.
    pub(super) unoffload_below: Duration,
    pub(super) offload_above: Duration,
    /// Another module for the proxies.
    pub(super) filter: Option<PathBuf>,
    /// Workers of each Envoy.
    pub(super) concurrency: u32,
    /// Round trip between edge and cloud.
    pub(super) rtt: Duration,
    /// What users ask for, in turn.
    pub(super) paths: Vec<&'static str>,
}

/// Everything that runs.
#[derive(Debug)]
pub(super) struct Stage {
    // Dropped in this order: nobody asks, then nobody steers, then nothing runs.
    pub(super) watch: Watch,
    pub(super) load: Load,
    pub(super) controller: Controller,
    pub(super) client: Client,
    users: Users,
    /// Requests beside the load.
    beside: JoinSet<Sent>,
    world: World,
    folder: TempDir,
    /// When the load before the fault began.
    began: Instant,
    offload_above: Duration,
}

// === impl Setting ===

impl Default for Setting {
    fn default() -> Self {
        Self {
            unoffload_below: Duration::from_millis(10),
            offload_above: Duration::from_millis(150),
            filter: None,
            concurrency: 1,
            rtt: Duration::from_millis(30),
            paths: vec![app::PATH],
        }
    }
}

// === impl Stage ===

impl Stage {
    /// Starts all, puts services at the edge, and returns once the controller has watched the load for a while and
    /// wants nothing.
    pub(super) async fn set(setting: Setting) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("gma-chaos-").tempdir()?;
        let address = free_address()?;
        let topology = topology(folder.path(), &setting, address)?;
        let topology_file = folder.path().join("topology.json");
        std::fs::write(&topology_file, serde_json::to_vec_pretty(&topology)?)?;
        let world = World::start(topology, Some(&folder.path().join("world"))).await?;
        let client = world.client();
        place(&client).await?;
        let gateway = client.state().await?.gateways.into_values();
        let gateway = gateway
            .into_iter()
            .find_map(|gateway| gateway.address)
            .context("no gateway serves")?;
        let controller = Controller::start(Program {
            binary: binary("gma")?,
            topology: topology_file,
            world: world.socket().to_owned(),
            address,
            unoffload_below: setting.unoffload_below,
            offload_above: setting.offload_above,
            log: folder.path().join("controller.log"),
        })
        .await?;
        let users = Users::at(gateway);
        let mut stage = Self {
            watch: Watch::start(client.clone(), address),
            load: users.load(RATE, &setting.paths),
            controller,
            client,
            users,
            beside: JoinSet::new(),
            world,
            folder,
            began: Instant::now(),
            offload_above: setting.offload_above,
        };
        stage
            .until("the controller at rest", PATIENCE, is_at_rest)
            .await?;
        stage.began = Instant::now();
        stage.go_on(BEFORE).await?;
        stage
            .until("the controller at rest", PATIENCE, is_at_rest)
            .await?;
        Ok(stage)
    }

    /// Lets time pass.
    pub(super) async fn go_on(&mut self, duration: Duration) -> anyhow::Result<()> {
        let until = Instant::now() + duration;
        while Instant::now() < until {
            self.controller.check()?;
            tokio::time::sleep(POLL.min(until.saturating_duration_since(Instant::now()))).await;
        }
        Ok(())
    }

    /// Waits until a look from now on is as `probe` wants it.
    pub(super) async fn until(
        &mut self,
        what: &str,
        limit: Duration,
        probe: impl Fn(&Look) -> bool,
    ) -> anyhow::Result<Look> {
        let began = Instant::now();
        loop {
            self.controller.check()?;
            let last = self.watch.last().filter(|look| look.at >= began);
            match last {
                Some(look) if probe(&look) => return Ok(look),
                look if began.elapsed() > limit => {
                    bail!("{what}: not within {limit:?}; last seen: {look:?}")
                }
                _ => tokio::time::sleep(POLL).await,
            }
        }
    }

    /// Sends a request beside the load.
    pub(super) fn send(&mut self, path: &'static str) {
        let users = self.users.clone();
        self.beside.spawn(async move { users.send(path).await });
    }

    /// What is there before the fault.
    pub(super) fn now(&self) -> anyhow::Result<Look> {
        self.watch.last().context("nothing was seen yet")
    }

    /// Ends the load, waits until all counts have come, stops everything and judges.
    pub(super) async fn end(self, mut trial: Trial) -> anyhow::Result<Trial> {
        let Self {
            watch,
            load,
            controller,
            client,
            world,
            folder,
            began,
            offload_above,
            beside,
            users: _,
        } = self;
        let mut sent = load.end().await;
        trial.beside = beside.join_all().await;
        sent.extend(trial.beside.iter().cloned());
        let ended = Instant::now();
        trial.looks = watch.between(began, ended);
        trial.counts = Some(counts::settle(sent.len() as u64, &client, controller.address()).await?);
        trial.sent = sent;
        trial.band_us = offload_above.as_micros();
        trial.ended = ended;
        drop(watch);
        controller.stop().await;
        world.stop().await;
        trial.judge();
        if !trial.complaints.is_empty() {
            let kept = folder.keep();
            trial.notes.push(format!("logs are kept in {}", kept.display()));
        }
        Ok(trial)
    }
}

/// Nothing under way, nothing outside the band, the delay known.
pub(super) fn is_at_rest(look: &Look) -> bool {
    look.said
        .as_ref()
        .is_some_and(|said| said.phase == "observing" && said.reads)
}

/// Puts the services at the edge before there is a controller, as a finished move leaves them.
async fn place(client: &Client) -> anyhow::Result<()> {
    let mut plan = RoutingPlan::default();
    for service in PLACED {
        client.ensure(host(service), EDGE.into(), 1).await?;
        plan.0.extend(crate::local::split(service, 99).0);
    }
    let began = Instant::now();
    loop {
        let state = client.state().await?;
        let ready = |service: &str| {
            crate::local::instance(&state, service, EDGE)
                .is_some_and(|instance| instance.phase == gma_core::cluster::Phase::Ready)
        };
        if PLACED.iter().all(|service| ready(service)) {
            break;
        }
        ensure!(
            began.elapsed() < PATIENCE,
            "no instances at the edge after {PATIENCE:?}: {:?}",
            state.cluster.instances
        );
        tokio::time::sleep(POLL).await;
    }
    Ok(client.route(plan).await?)
}

fn topology(folder: &Path, setting: &Setting, controller: std::net::SocketAddr) -> anyhow::Result<Topology> {
    let workmodel = folder.join("workmodel.json");
    std::fs::write(&workmodel, serde_json::to_vec_pretty(&app::workmodel())?)?;
    let mut topology = Topology::embedded(controller)?;
    topology.app = Some(App {
        workmodel: Some(workmodel),
        ingress: "s0".to_owned(),
        cell: Some(binary("gma-cell")?),
    });
    topology.envoy = Some(crate::local::envoy());
    let filter = || built("GMA_FILTER", "target/gma-filter.wasm");
    topology.filter = Some(setting.filter.clone().unwrap_or_else(filter));
    topology.concurrency = setting.concurrency;
    for link in &mut topology.links {
        link.rtt = setting.rtt;
        link.bandwidth = None;
    }
    Ok(topology)
}

/// What `make build` built.
fn binary(name: &str) -> anyhow::Result<PathBuf> {
    let folder = std::env::var_os("GMA_BIN").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/release"),
        PathBuf::from,
    );
    let path = folder.join(name);
    ensure!(
        path.exists(),
        "{} is missing: run `make build`, or set GMA_BIN",
        path.display()
    );
    Ok(path)
}
