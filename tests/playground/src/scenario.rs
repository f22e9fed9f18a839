//! The scenario: in the band, WAN slow, offload, WAN fast, unoffload.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use gma_cell::load::{self, Arrivals, Handle, Target};
use gma_cell::workmodel::{Params, generate};
use gma_core::cluster::RoutingPlan;
use gma_core::decide::{Band, Decision, Direction, Outcome};
use gma_local::{App, Client, Topology, World};
use tempfile::TempDir;

use crate::Args;
use crate::controller::{self, Controller, View};
use crate::counts;
use crate::plan;
use crate::report::{Move, Report, Requests};
use crate::timeline::Timeline;

const EDGE: &str = "edge-1";
const SERVICES: usize = 10;
/// Sleeps of the application; Envoys, timers and work add about 15 ms.
const APPLICATION_MS: f64 = 32.0;
const CONNECTIONS: usize = 256;
const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);
/// Connections and caches warm up, then the delay is measured.
const WARM_UP: Duration = Duration::from_secs(5);
const MEASURE: Duration = Duration::from_secs(5);
/// A move that takes longer has failed the playground.
const MOVE_LIMIT: Duration = Duration::from_secs(75);
/// From the first request to the end of the last move.
const TOTAL_LIMIT: Duration = Duration::from_secs(170);
const POLL: Duration = Duration::from_millis(250);

struct Playground {
    client: Client,
    controller: Controller,
    load: Handle,
    timeline: Timeline,
    band: Band,
}

/// A move that ended well, with what is needed to tell of it later.
struct Done {
    decision: Decision,
    view: View,
    stepped: Instant,
    routing: RoutingPlan,
}

/// Runs it all: whether the report has no complaint, and what still runs.
pub(crate) async fn run(args: &Args) -> anyhow::Result<(bool, Option<Standing>)> {
    let folder = tempfile::Builder::new().prefix("gma-playground-").tempdir()?;
    let mut timeline = Timeline::new();
    timeline.event(format!(
        "starting {SERVICES} services, their Envoys and the gateway of {EDGE}"
    ));
    let first_rtt = plan::first_rtt(args.seed);
    let address = controller::free_address().await?;
    let topology = topology(folder.path(), args.seed, first_rtt, address)?;
    let topology_file = folder.path().join("topology.json");
    std::fs::write(&topology_file, serde_json::to_vec_pretty(&topology)?)?;
    let world = World::start(topology, Some(&folder.path().join("world"))).await?;
    let client = world.client();
    let controller = Controller::start(folder.path(), &topology_file, world.socket(), address).await?;

    let gateway = client
        .state()
        .await?
        .gateways
        .get(&EDGE.into())
        .and_then(|gateway| gateway.address);
    let url = format!("http://{}/api/v1", gateway.context("the gateway does not serve")?);
    let load_config = load::Config {
        target: Target::new(&url, Some("shop.example"), &[])?,
        rate_per_sec: args.rate,
        arrivals: Arrivals::Poisson,
        duration: None,
        connections: CONNECTIONS,
        timeout: REQUEST_TIMEOUT,
        seed: args.seed,
    };
    let load = start_load(load_config.clone()).await?;
    timeline.event(format!(
        "users send {} requests/s to {url}; WAN {first_rtt:?}",
        args.rate
    ));
    let objective = controller::defaults(EDGE);
    let band = objective
        .edges
        .get(&EDGE.into())
        .map(|edge| edge.band)
        .unwrap_or_default();
    let mut playground = Playground {
        client,
        controller,
        load,
        timeline,
        band,
    };
    let done = playground.both_moves(first_rtt).await;

    let Playground {
        client,
        mut controller,
        load,
        timeline,
        band,
    } = playground;
    let load_began = load.started();
    let load = tokio::task::spawn_blocking(move || load.stop()).await?;
    let counts = counts::settle(load.sent, &client.state().await?, EDGE, &mut controller).await;
    let events = timeline.finish();

    let (done, failure) = done;
    let report = Report {
        seed: args.seed,
        band_ms: [
            band.unoffload_below_us() / 1_000.0,
            band.offload_above_us() / 1_000.0,
        ],
        requests: Requests {
            sent: load.sent,
            failed: load.failed_total(),
        },
        counts: counts?,
        moves: done
            .iter()
            .map(|done| {
                Move::new(
                    &done.decision,
                    &done.view,
                    done.stepped,
                    load_began,
                    &load,
                    &done.routing,
                )
            })
            .collect(),
        timeline: events,
    };
    report.print();
    if let Some(path) = &args.json {
        let text = serde_json::to_string_pretty(&report)?;
        std::fs::write(path, text + "\n").with_context(|| format!("cannot write {}", path.display()))?;
    }
    let mut complaints = report.complaints(band);
    complaints.extend(failure.map(|failure| format!("{failure:#}")));
    for complaint in &complaints {
        println!("NOT WELL: {complaint}");
    }
    if !load.failed.is_empty() {
        println!("failures by kind: {:?}", load.failed);
    }
    let well = complaints.is_empty();
    if args.stay {
        println!("\nstaying, under load; the state is at http://{address}/api/v1/state, Ctrl-C ends");
        let load = start_load(load_config).await?;
        return Ok((
            well,
            Some(Standing {
                world,
                controller,
                load,
                folder,
            }),
        ));
    }
    controller.stop().await;
    world.stop().await;
    if !well {
        println!("logs are kept in {}", folder.keep().display());
    }
    Ok((well, None))
}

/// Opens connections, which blocks its thread.
async fn start_load(config: load::Config) -> anyhow::Result<Handle> {
    Ok(tokio::task::spawn_blocking(move || load::start(config)).await??)
}

/// What runs on under `--stay`.
pub(crate) struct Standing {
    world: World,
    controller: Controller,
    load: Handle,
    folder: TempDir,
}

impl Standing {
    pub(crate) async fn stop(self) {
        // Waiting for what is in flight would be for nobody.
        drop(self.load);
        self.controller.stop().await;
        self.world.stop().await;
        drop(self.folder);
    }
}

fn topology(
    folder: &Path,
    seed: u64,
    rtt: Duration,
    controller: std::net::SocketAddr,
) -> anyhow::Result<Topology> {
    let workmodel: PathBuf = folder.join("workmodel.json");
    let params = Params {
        delay_ms: APPLICATION_MS,
        ..Params::default()
    };
    let (_, json) = generate(seed, SERVICES, &params)?;
    std::fs::write(&workmodel, serde_json::to_vec_pretty(&json)?)?;
    let mut topology = Topology::embedded(controller)?;
    let app = topology.app.take();
    topology.app = app.map(|app| App {
        workmodel: Some(workmodel),
        ..app
    });
    for link in &mut topology.links {
        link.rtt = rtt;
    }
    Ok(topology)
}

impl Playground {
    /// What was done, and why it went no further if it did not.
    async fn both_moves(&mut self, first_rtt: Duration) -> (Vec<Done>, Option<anyhow::Error>) {
        let mut done = Vec::new();
        let result = async {
            let (slow, fast) = self.measure(first_rtt).await?;
            done.push(self.step(slow, Direction::Offload).await?);
            done.push(self.step(fast, Direction::Unoffload).await?);
            anyhow::Ok(())
        };
        let failure = result.await.err();
        (done, failure)
    }

    /// Waits until the load runs evenly and gives the round trips that follow.
    async fn measure(&mut self, first_rtt: Duration) -> anyhow::Result<(Duration, Duration)> {
        self.watch(WARM_UP + MEASURE).await?;
        let timeline = self.load.timeline();
        let seconds = timeline.iter().skip(WARM_UP.as_secs() as usize);
        let (count, sum_us) = seconds.fold((0, 0), |(count, sum), second| {
            (count + second.ok, sum + second.latency_sum_us)
        });
        if count == 0 {
            bail!(
                "no request was answered in {MEASURE:?}: {:?}",
                self.load.live().failed
            );
        }
        let measured_ms = sum_us as f64 / count as f64 / 1_000.0;
        let view = self.controller.view(EDGE).await?;
        self.timeline.event(format!("users see {measured_ms:.1} ms"));
        self.timeline.event(format!(
            "controller's defaults: {}",
            controller::parameters(&view)
        ));
        let (lower, upper) = (
            self.band.unoffload_below_us() / 1e3,
            self.band.offload_above_us() / 1e3,
        );
        if !(lower..upper).contains(&measured_ms) {
            bail!(
                "the delay at the start, {measured_ms:.1} ms, is not inside the band: is the machine busy?"
            );
        }
        Ok(plan::later_rtts(first_rtt, measured_ms, self.band))
    }

    async fn watch(&mut self, duration: Duration) -> anyhow::Result<()> {
        let began = Instant::now();
        while began.elapsed() < duration {
            self.look().await?;
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    async fn look(&mut self) -> anyhow::Result<View> {
        let view = self.controller.view(EDGE).await?;
        let live = self.load.live();
        let failed: u64 = live.failed.values().sum();
        let seen = view
            .measured_ms
            .map_or_else(String::new, |ms| format!("{ms:.0} ms, "));
        let text = format!("{seen}{} sent, {failed} failed, {}", live.sent, view.sentence);
        self.timeline.status(&view.phase, &text);
        Ok(view)
    }

    /// Changes the WAN and waits for the move that follows to be verified and over.
    async fn step(&mut self, rtt: Duration, direction: Direction) -> anyhow::Result<Done> {
        let before = self
            .look()
            .await?
            .decisions
            .iter()
            .map(|decision| decision.id)
            .max();
        self.client.set_rtt(EDGE.into(), rtt).await?;
        let stepped = Instant::now();
        self.timeline.event(format!("WAN: {rtt:?}"));
        loop {
            let view = self.look().await?;
            let ended =
                view.decisions.iter().rev().find(|decision| {
                    Some(decision.id) > before && !matches!(decision.outcome, Outcome::Running)
                });
            if let Some(decision) = ended.cloned() {
                self.timeline.event(decision.sentence());
                if decision.direction() != Some(direction) || !matches!(decision.outcome, Outcome::Kept) {
                    bail!(
                        "the controller made another move than was expected: {}",
                        decision.sentence()
                    );
                }
                let routing = self.client.state().await?.cluster.routing;
                self.rest().await?;
                return Ok(Done {
                    decision,
                    view,
                    stepped,
                    routing,
                });
            }
            if self.load.started().elapsed() > TOTAL_LIMIT {
                bail!(
                    "not over after {TOTAL_LIMIT:?}; the controller says: {}",
                    view.sentence
                );
            }
            if stepped.elapsed() > MOVE_LIMIT {
                bail!(
                    "no {direction:?} was finished in {MOVE_LIMIT:?}; the controller says: {}",
                    view.sentence
                );
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Waits for the end of the cool-down.
    async fn rest(&mut self) -> anyhow::Result<()> {
        let began = Instant::now();
        while self.look().await?.phase != "observing" && began.elapsed() < Duration::from_secs(30) {
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }
}
