//! Everything that runs: the world, the controller, the users of each edge; and the steps that scenarios are made of.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use gma_cell::load::{self, Arrivals, Handle, Target};
use gma_cell::workmodel::{Params, generate};
use gma_core::cluster::RoutingPlan;
use gma_core::decide::{Band, Decision};
use gma_core::ids::AreaName;
use gma_local::{Client, State, Topology, World, free_address};
use tempfile::TempDir;

use crate::controller::{self, Controller, Program, View};
use crate::plan;
use crate::timeline::Timeline;

/// The edge to which things happen.
pub(crate) const EDGE: &str = "edge-1";
/// The edge that nothing happens to, with another WAN.
pub(crate) const OTHER: &str = "edge-2";
const EDGES: [&str; 2] = [EDGE, OTHER];
/// The other edge's users send this share of the first's requests, and so many at most: enough for a reading of 4 s at any moment.
const OTHER_SHARE: f64 = 0.4;
const OTHER_MOST_RPS: f64 = 40.0;
const SERVICES: usize = 10;
/// Sleeps of the application; Envoys, timers and work add about 15 ms.
const APPLICATION_MS: f64 = 26.0;
const CONNECTIONS: usize = 256;
const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);
/// Connections and caches warm up, then the delay is measured.
const WARM_UP: Duration = Duration::from_secs(5);
const MEASURE: Duration = Duration::from_secs(5);
/// What takes longer has failed the playground.
pub(crate) const LIMIT: Duration = Duration::from_secs(75);
const POLL: Duration = Duration::from_millis(250);

/// What a scenario starts from.
pub(crate) struct Setting {
    pub(crate) seed: u64,
    pub(crate) rate: f64,
    pub(crate) statistic: &'static str,
    pub(crate) band: Band,
    /// Further arguments of the controller.
    pub(crate) objective: Vec<String>,
}

pub(crate) struct Stage {
    // Dropped in this order: nobody asks, then nobody steers, then nothing runs.
    users: BTreeMap<&'static str, (load::Config, Handle)>,
    pub(crate) controller: Controller,
    pub(crate) client: Client,
    pub(crate) timeline: Timeline,
    pub(crate) setting: Setting,
    first_rtt: Duration,
    /// The first edge's delay with it, everything in the cloud.
    started_with_ms: f64,
    pub(crate) seen: Seen,
    world: World,
    folder: TempDir,
}

/// What is told at the end.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) moves: Vec<Done>,
    /// What was not as it should be.
    pub(crate) complaints: Vec<String>,
    /// Edge and time in which requests may fail, and why.
    pub(crate) excused: Vec<Excuse>,
}

pub(crate) struct Excuse {
    pub(crate) edge: &'static str,
    pub(crate) from: Instant,
    pub(crate) to: Instant,
    pub(crate) why: &'static str,
    /// More than these are too many.
    pub(crate) most: u64,
}

/// A move that ended, with what is needed to tell of it later.
pub(crate) struct Done {
    pub(crate) decision: Decision,
    pub(crate) view: View,
    pub(crate) stepped: Instant,
    pub(crate) routing: RoutingPlan,
}

// === impl Stage ===

impl Stage {
    pub(crate) async fn set(setting: Setting, mut timeline: Timeline) -> anyhow::Result<Self> {
        ensure!(
            std::env::var_os("GMA_FILTER").is_some(),
            "nothing would be measured: GMA_FILTER does not name the filter's module; run `make playground`"
        );
        let folder = tempfile::Builder::new().prefix("gma-playground-").tempdir()?;
        timeline.event(format!(
            "starting {SERVICES} services, their Envoys and the gateways of {}",
            EDGES.join(" and ")
        ));
        let first_rtt = plan::first_rtt(setting.seed);
        let address = free_address()?;
        let topology = topology(folder.path(), setting.seed, first_rtt, address)?;
        let topology_file = folder.path().join("topology.json");
        std::fs::write(&topology_file, serde_json::to_vec_pretty(&topology)?)?;
        let world = World::start(topology, Some(&folder.path().join("world"))).await?;
        let client = world.client();
        let controller = Controller::start(Program {
            topology: topology_file,
            world: world.socket().to_owned(),
            address,
            log: folder.path().join("controller.log"),
            objective: setting.objective.clone(),
        })
        .await?;
        timeline.event(format!("the page is at http://{address}/"));
        let mut stage = Self {
            users: BTreeMap::new(),
            controller,
            client,
            timeline,
            setting,
            first_rtt,
            started_with_ms: 0.0,
            seen: Seen::default(),
            world,
            folder,
        };
        let state = stage.client.state().await?;
        let rate = stage.setting.rate;
        let rates = [rate, (OTHER_SHARE * rate).min(OTHER_MOST_RPS)];
        for (edge, rate) in EDGES.into_iter().zip(rates) {
            stage.start_users(&state, edge, rate).await?;
        }
        Ok(stage)
    }

    async fn start_users(&mut self, state: &State, edge: &'static str, rate: f64) -> anyhow::Result<()> {
        let gateway = state
            .gateways
            .get(&edge.into())
            .and_then(|gateway| gateway.address);
        let gateway = gateway.with_context(|| format!("the gateway of {edge} does not serve"))?;
        let url = format!("http://{gateway}/api/v1");
        let config = load::Config {
            target: Target::new(&url, Some("shop.example"), &[])?,
            rate_per_sec: rate,
            arrivals: Arrivals::Poisson,
            duration: None,
            connections: CONNECTIONS,
            timeout: REQUEST_TIMEOUT,
            seed: self.setting.seed,
        };
        let handle = start(config.clone()).await?;
        let rtt = state
            .links
            .get(&edge.into())
            .map(|link| link.rtt)
            .unwrap_or_default();
        self.timeline.event(format!(
            "{edge}: users send {rate} requests/s to {url}; WAN {rtt:?}"
        ));
        self.users.insert(edge, (config, handle));
        Ok(())
    }

    /// Waits until the load runs evenly, checks that both edges are in the band, and gives the round trips that take the
    /// first out of it: above, and back below once services are there.
    pub(crate) async fn measure(&mut self) -> anyhow::Result<(Duration, Duration)> {
        self.watch(WARM_UP + MEASURE).await?;
        let view = self.look().await?;
        self.timeline.event(format!(
            "controller's defaults: {}",
            controller::parameters(&view)
        ));
        let band = self.setting.band;
        let (lower, upper) = (band.unoffload_below_us() / 1e3, band.offload_above_us() / 1e3);
        for edge in EDGES {
            let measured_ms = match self.setting.statistic {
                "mean" => self.mean_ms(edge),
                _ => view.edge(edge)?.measured_ms,
            };
            let Some(measured_ms) = measured_ms else {
                bail!("{edge}: no delay was measured: {}", view.edge(edge)?.sentence);
            };
            self.timeline.event(format!(
                "{edge}: users see {measured_ms:.1} ms ({})",
                self.setting.statistic
            ));
            if !(lower..upper).contains(&measured_ms) {
                bail!(
                    "{edge}: the delay at the start, {measured_ms:.1} ms, is not inside the band: is the machine busy?"
                );
            }
            if edge == EDGE {
                self.started_with_ms = measured_ms;
            }
        }
        Ok(plan::later_rtts(self.first_rtt, self.started_with_ms, band))
    }

    /// Mean of what users saw since the load runs evenly.
    fn mean_ms(&self, edge: &str) -> Option<f64> {
        let (_, handle) = self.users.get(edge)?;
        let timeline = handle.timeline();
        let seconds = timeline.iter().skip(WARM_UP.as_secs() as usize);
        let (count, sum_us) = seconds.fold((0, 0), |(count, sum), second| {
            (count + second.ok, sum + second.latency_sum_us)
        });
        (count > 0).then(|| sum_us as f64 / count as f64 / 1_000.0)
    }

    /// Lets time pass; the controller is looked at if it runs.
    pub(crate) async fn watch(&mut self, duration: Duration) -> anyhow::Result<()> {
        let began = Instant::now();
        while began.elapsed() < duration {
            if self.controller.is_running() {
                self.look().await?;
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    /// What the controller says now; shown, too.
    pub(crate) async fn look(&mut self) -> anyhow::Result<View> {
        let view = self.controller.view().await?;
        let mut texts = Vec::new();
        for edge in EDGES {
            let said = view.edge(edge)?;
            let live = self.users.get(edge).map(|(_, handle)| handle.live());
            let (sent, failed) = live.map_or((0, 0), |live| (live.sent, live.failed.values().sum::<u64>()));
            let seen = said
                .measured_ms
                .map_or_else(String::new, |ms| format!("{ms:.0} ms, "));
            let text = format!("{edge}: {seen}{sent} sent, {failed} failed, {}", said.sentence);
            self.timeline.phase(edge, &said.phase, &text);
            texts.push(text);
        }
        self.timeline.status(&texts.join(" | "));
        Ok(view)
    }

    /// Waits until the controller says what `probe` wants of the first edge.
    pub(crate) async fn until(
        &mut self,
        what: &str,
        limit: Duration,
        probe: impl Fn(&View) -> anyhow::Result<bool>,
    ) -> anyhow::Result<View> {
        let began = Instant::now();
        loop {
            let view = self.look().await?;
            if probe(&view)? {
                return Ok(view);
            }
            if began.elapsed() > limit {
                bail!(
                    "{what}: not within {limit:?}; the controller says: {}",
                    view.edge(EDGE)?.sentence
                );
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Changes the round trip of the first edge.
    pub(crate) async fn set_wan(&mut self, rtt: Duration) -> anyhow::Result<Instant> {
        self.client.set_rtt(EDGE.into(), rtt).await?;
        self.timeline.event(format!("{EDGE}: WAN {rtt:?}"));
        Ok(Instant::now())
    }

    /// The round trip with which the cloud alone would keep the delay inside the band, near its upper bound.
    pub(crate) fn wan_inside(&self) -> Duration {
        plan::inside(self.first_rtt, self.started_with_ms, self.setting.band)
    }

    /// Waits until a move of the first edge after `before` has ended and the edge rests again; it is told at the end.
    pub(crate) async fn next_move(&mut self, before: Option<u64>, stepped: Instant) -> anyhow::Result<()> {
        let ended = |view: &View| Ok(view.edge(EDGE)?.ended(before).is_some());
        let view = self.until("a move", LIMIT, ended).await?;
        let decision = view.edge(EDGE)?.ended(before).cloned().context("no move")?;
        self.timeline.event(format!("{EDGE}: {}", decision.sentence()));
        let routing = self.client.state().await?.cluster.routing;
        self.seen.moves.push(Done {
            decision,
            view,
            stepped,
            routing,
        });
        let rests = |view: &View| Ok(["observing", "held"].contains(&view.edge(EDGE)?.phase.as_str()));
        self.until("rest", LIMIT, rests).await?;
        Ok(())
    }

    /// Changes the WAN and waits for the move that follows.
    pub(crate) async fn step(&mut self, rtt: Duration) -> anyhow::Result<()> {
        let before = self.look().await?.edge(EDGE)?.newest();
        let stepped = self.set_wan(rtt).await?;
        self.next_move(before, stepped).await
    }

    pub(crate) fn complain(&mut self, what: impl Into<String>) {
        self.seen.complaints.push(what.into());
    }

    /// Ends the users: what each edge's sent. Their gateways and the controller go on.
    pub(crate) async fn end_users(&mut self) -> anyhow::Result<BTreeMap<&'static str, Ended>> {
        let mut ended = BTreeMap::new();
        for (edge, (config, handle)) in std::mem::take(&mut self.users) {
            let began = handle.started();
            let report = tokio::task::spawn_blocking(move || handle.stop()).await?;
            ended.insert(
                edge,
                Ended {
                    config,
                    began,
                    report,
                },
            );
        }
        Ok(ended)
    }

    /// Lets users come back, for who stays and looks.
    pub(crate) async fn resume_users(&mut self, ended: BTreeMap<&'static str, Ended>) -> anyhow::Result<()> {
        for (edge, Ended { config, .. }) in ended {
            let handle = start(config.clone()).await?;
            self.users.insert(edge, (config, handle));
        }
        Ok(())
    }

    pub(crate) async fn stop(self) {
        // Waiting for what is in flight would be for nobody.
        drop(self.users);
        self.controller.stop().await;
        self.world.stop().await;
        drop(self.folder);
    }
}

/// Users of an edge that have ended.
pub(crate) struct Ended {
    config: load::Config,
    pub(crate) began: Instant,
    pub(crate) report: load::Report,
}

async fn start(config: load::Config) -> anyhow::Result<Handle> {
    Ok(tokio::task::spawn_blocking(move || load::start(config)).await??)
}

/// The embedded topology with two edges: the round trip of the second is a quarter longer.
fn topology(
    folder: &Path,
    seed: u64,
    rtt: Duration,
    controller: std::net::SocketAddr,
) -> anyhow::Result<Topology> {
    let workmodel = folder.join("workmodel.json");
    let params = Params {
        delay_ms: APPLICATION_MS,
        ..Params::default()
    };
    let (_, json) = generate(seed, SERVICES, &params)?;
    std::fs::write(&workmodel, serde_json::to_vec_pretty(&json)?)?;
    let edge =
        |name: &&str| serde_json::json!({"name": name, "localities": [format!("region-{name}/zone-{name}")]});
    let link = |(name, rtt): (&str, Duration)| serde_json::json!({"edge": name, "rtt": format!("{}ms", rtt.as_millis()), "bandwidth": "1Gbps"});
    let text = serde_json::json!({
        "namespace": "shop",
        "areas": {
            "cloud": {"localities": ["region-cloud/zone-cloud"]},
            "edges": EDGES.iter().map(edge).collect::<Vec<_>>(),
        },
        "links": EDGES.into_iter().zip([rtt, rtt * 5 / 4]).map(link).collect::<Vec<_>>(),
        "app": {"ingress": "s0", "workmodel": workmodel},
        "controller": {"address": controller.to_string()},
    });
    Ok(Topology::parse("playground", &text.to_string())?)
}

/// Percent to the edge's own instances, by service, where it is not 0.
pub(crate) fn weights(routing: &RoutingPlan, edge: &AreaName) -> Vec<(String, u32)> {
    let of = |(service, callers): (&gma_core::ids::ServiceName, &BTreeMap<AreaName, _>)| {
        let row: &gma_core::cluster::Weights = callers.get(edge)?;
        Some((short(service.as_str()), *row.get(edge)?))
    };
    routing.0.iter().filter_map(of).collect()
}

/// A host by its service's name.
pub(crate) fn short(host: &str) -> String {
    host.split('.').next().unwrap_or_default().to_owned()
}
