//! The scenarios: what each changes in the world, and what should come of it.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::ensure;
use clap::ValueEnum;
use gma_core::decide::{Band, Direction, Outcome, Trigger};
use gma_core::ids::{AreaName, ServiceName};
use gma_local::{CellFault, Fail, State};

use crate::Args;
use crate::controller::{Edge, View};
use crate::counts;
use crate::judge::{self, Expected};
use crate::report::Report;
use crate::stage::{EDGE, Excuse, LIMIT, Setting, Stage, weights};
use crate::timeline::Timeline;

/// Requests a second at the first edge: what reaction within 10 s is promised for.
const RATE: f64 = 100.0;
/// Band of the p95. A tail does not fall by halves: without crossings it is that of the services alone, some 55 ms.
const TAIL_BAND_MS: [u64; 2] = [40, 200];
/// The first step is the smallest that yields 5 requests/s there, and ends once its errors are beyond chance.
const MOST_AT_BAD_EDGE: u64 = 200;
/// The users' entry: whatever is offloaded, it is of it.
const BAD_SERVICE: &str = "s0.shop.svc.cluster.local";
/// Share of the thread of an instance that something else takes: each step of a request waits for half a period or so.
const HOG: f64 = 0.95;
/// Connections get used to another WAN, and the windows see only it.
const SETTLE: Duration = Duration::from_secs(10);
/// From the hog to a share that was given up and judged: the alarm, and at most four steps of 15 to 60 s.
const RELIEVED_WITHIN: Duration = Duration::from_secs(150);
/// From its end until all weight is back: a wait of a minute before the first of at most four steps, and 45 s of judging and
/// cooling down each.
const BACK_WITHIN: Duration = Duration::from_secs(60 + 4 * 60);
/// Without a controller for this long.
const AWAY: Duration = Duration::from_secs(5);
/// Nothing passes between edge and cloud for this long.
const CUT: Duration = Duration::from_secs(20);
/// Requests that were under way when it began were sent at most this long before.
const UNDER_WAY: Duration = Duration::from_secs(1);
/// What Envoys may take to find that the WAN is back: connections that died meanwhile are ejected for a moment.
const RECONNECT: Duration = Duration::from_secs(3);
/// The edge is heard again within this.
const HEARD_AGAIN: Duration = Duration::from_secs(40);

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scenario {
    /// A slow WAN makes an edge run services itself; a fast one gives them back to the cloud.
    OffloadUnoffload,
    /// The p95 is held in the band: the services at the edge serve all of its calls (failover form).
    Tail,
    /// Something takes the CPU of an instance at the edge: part of its load goes to the cloud, and comes back after.
    Overload,
    /// A service answers 500 at the edge only: the move there is taken back.
    BadEdge,
    /// The controller is killed while weights move, and started again 5 s later.
    Crash,
    /// The WAN is cut for 20 s: nothing is heard, and nothing is written.
    Silence,
}

// === impl Scenario ===

impl Scenario {
    fn setting(self, args: &Args) -> Setting {
        let (statistic, band, objective) = match self {
            Self::OffloadUnoffload | Self::Overload | Self::BadEdge | Self::Crash | Self::Silence => {
                ("mean", shipped_band(), Vec::new())
            }
            Self::Tail => ("p95", TAIL_BAND_MS.map(Duration::from_millis), tail_arguments()),
        };
        let [lower, upper] = band;
        Setting {
            seed: args.seed,
            rate: args.rate.unwrap_or(RATE),
            statistic,
            band: Band::try_new(lower, upper).unwrap_or_default(),
            objective,
        }
    }

    /// What should have happened by the end.
    fn expected(self, args: &Args) -> Expected {
        match self {
            Self::OffloadUnoffload => Expected::there_and_back(args.cycles as usize),
            Self::Tail | Self::Overload => {
                Expected::one(Direction::Offload, |outcome| matches!(outcome, Outcome::Kept))
            }
            Self::BadEdge => Expected::one(Direction::Offload, |outcome| {
                matches!(outcome, Outcome::RolledBack { .. })
            }),
            Self::Crash => Expected::there_and_back(1).at_leisure(),
            Self::Silence => Expected::there_and_back(1),
        }
    }

    async fn play(self, stage: &mut Stage, args: &Args) -> anyhow::Result<()> {
        match self {
            Self::OffloadUnoffload => offload_unoffload(stage, args.cycles).await,
            Self::Tail => tail(stage).await,
            Self::Overload => overload(stage).await,
            Self::BadEdge => bad_edge(stage).await,
            Self::Crash => crash(stage).await,
            Self::Silence => silence(stage).await,
        }
    }
}

/// Runs it all: whether nothing is to be complained of, and what still runs.
pub(crate) async fn run(args: &Args) -> anyhow::Result<(bool, Option<Stage>)> {
    let scenario = args.scenario;
    ensure!(
        args.cycles == 1 || scenario == Scenario::OffloadUnoffload,
        "only offload-unoffload has cycles"
    );
    let mut stage = Stage::set(scenario.setting(args), Timeline::new()).await?;
    if let Err(failure) = scenario.play(&mut stage, args).await {
        stage.complain(format!("{failure:#}"));
    }
    let ended = stage.end_users().await?;
    let state = stage.client.state().await?;
    let mut report = Report::new(scenario, &stage.setting, &stage.seen, stage.timeline.events());
    for (edge, ended) in &ended {
        let counts = counts::settle(ended.report.sent, &state, edge, &mut stage.controller).await?;
        report.add_edge(edge, ended, counts, &stage.seen);
    }
    stage.timeline.finish();
    report.complaints.append(&mut stage.seen.complaints);
    report
        .complaints
        .extend(judge::complaints(&report, &scenario.expected(args)));
    report.print();
    if let Some(path) = &args.json {
        report.write(path)?;
    }
    let well = report.complaints.is_empty();
    if args.stay {
        stage.resume_users(ended).await?;
        println!(
            "\nstaying, under load; the page is at http://{}/, Ctrl-C ends",
            stage.controller.address()
        );
        return Ok((well, Some(stage)));
    }
    stage.stop().await;
    Ok((well, None))
}

fn shipped_band() -> [Duration; 2] {
    let band = Band::default();
    [band.unoffload_below_us(), band.offload_above_us()].map(|us| Duration::from_secs_f64(us / 1e6))
}

fn tail_arguments() -> Vec<String> {
    let [lower, upper] = TAIL_BAND_MS;
    let lower = format!("--unoffload-below={lower}ms");
    vec![
        "--statistic=p95".to_owned(),
        lower,
        format!("--offload-above={upper}ms"),
    ]
}

async fn offload_unoffload(stage: &mut Stage, cycles: u32) -> anyhow::Result<()> {
    let (slow, fast) = stage.measure().await?;
    for cycle in 1..=cycles {
        if cycles > 1 {
            stage.timeline.event(format!("cycle {cycle} of {cycles}"));
        }
        stage.step(slow).await?;
        stage.step(fast).await?;
    }
    Ok(())
}

async fn tail(stage: &mut Stage) -> anyhow::Result<()> {
    let (slow, _) = stage.measure().await?;
    stage.step(slow).await?;
    let state = stage.client.state().await?;
    let partly: Vec<_> = weights(&state.cluster.routing, &EDGE.into())
        .into_iter()
        .filter(|(_, weight)| *weight < 100)
        .collect();
    if !partly.is_empty() {
        stage.complain(format!(
            "services at the edge leak calls to the cloud: {partly:?}"
        ));
    }
    Ok(())
}

async fn overload(stage: &mut Stage) -> anyhow::Result<()> {
    let (slow, _) = stage.measure().await?;
    stage.step(slow).await?;
    // The cloud is inside the band again: a share that goes there helps.
    stage.set_wan(stage.wan_inside()).await?;
    stage.watch(SETTLE).await?;
    let before = stage.client.state().await?;
    let newest = stage.look().await?.edge(EDGE)?.newest();
    let hog = CellFault {
        busy: HOG,
        ..CellFault::default()
    };
    let service = ServiceName::from(BAD_SERVICE);
    stage.client.set_fault(service.clone(), EDGE.into(), hog).await?;
    stage.timeline.event(format!(
        "{EDGE}: something takes {:.0} % of the CPU of {BAD_SERVICE} there",
        HOG * 100.0
    ));
    let relieved = |view: &View| {
        let edge = view.edge(EDGE)?;
        let given_up = edge.decisions.iter().any(|decision| {
            Some(decision.id) > newest
                && matches!(decision.trigger, Trigger::Overload { .. })
                && decision.outcome == Outcome::Kept
        });
        Ok(given_up && rests(edge))
    };
    let view = stage
        .until("a share given up, and rest", RELIEVED_WITHIN, relieved)
        .await?;
    let during = stage.client.state().await?;
    stage.timeline.event(format!(
        "{EDGE}: {} with the weights {:?}",
        view.edge(EDGE)?.sentence,
        weights(&during.cluster.routing, &EDGE.into())
    ));
    if placed(&during) != placed(&before) {
        stage.complain("instances came or went for an overload");
    }
    stage
        .client
        .set_fault(service, EDGE.into(), CellFault::default())
        .await?;
    stage.timeline.event(format!("{EDGE}: the CPU is free again"));
    let whole = weights(&before.cluster.routing, &EDGE.into());
    let returned = |view: &View| {
        let now = weights(&view.cluster.routing, &EDGE.into());
        Ok(now == whole && rests(view.edge(EDGE)?))
    };
    stage
        .until("all weight back at the edge", BACK_WITHIN, returned)
        .await?;
    Ok(())
}

fn rests(edge: &Edge) -> bool {
    ["observing", "alarmed", "held"].contains(&edge.phase.as_str())
}

fn placed(state: &State) -> BTreeSet<(&ServiceName, &AreaName)> {
    let instances = state.cluster.instances.iter();
    instances
        .map(|instance| (&instance.service, &instance.area))
        .collect()
}

async fn bad_edge(stage: &mut Stage) -> anyhow::Result<()> {
    let (slow, _) = stage.measure().await?;
    let fails = CellFault {
        fail: Some(Fail::All),
        ..CellFault::default()
    };
    let bad = ServiceName::from(BAD_SERVICE);
    stage.client.set_fault(bad, EDGE.into(), fails).await?;
    stage.timeline.event(format!(
        "{EDGE}: every request that {BAD_SERVICE} gets there will fail"
    ));
    let from = Instant::now();
    stage.step(slow).await?;
    stage.seen.excused.push(Excuse {
        edge: EDGE,
        from,
        to: Instant::now(),
        why: "the first step of the weights sent them to the bad edge",
        most: MOST_AT_BAD_EDGE,
    });
    let state = stage.client.state().await?;
    let left = weights(&state.cluster.routing, &EDGE.into());
    let instances = state.cluster.instances.iter();
    let instances = instances
        .filter(|instance| instance.area.as_str() == EDGE)
        .count();
    if !left.is_empty() || instances > 0 {
        stage.complain(format!(
            "after the way back {instances} instances are at the edge, with the weights {left:?}"
        ));
    }
    Ok(())
}

async fn crash(stage: &mut Stage) -> anyhow::Result<()> {
    let (slow, fast) = stage.measure().await?;
    let before = stage.look().await?.edge(EDGE)?.newest();
    let stepped = stage.set_wan(slow).await?;
    let view = stage
        .until("weights on their way", LIMIT, |view| {
            let under_way = weights(&view.cluster.routing, &EDGE.into())
                .iter()
                .any(|(_, weight)| (1..99).contains(weight));
            Ok(under_way && view.edge(EDGE)?.running().is_some())
        })
        .await?;
    let id = view.edge(EDGE)?.running().map(|decision| decision.id);
    stage.controller.kill().await?;
    stage.timeline.event(format!(
        "controller: SIGKILL during {}",
        view.edge(EDGE)?.sentence
    ));
    let left = stage.client.state().await?;
    stage.watch(AWAY).await?;
    let found = stage.client.state().await?;
    if (&left.cluster.routing, left.orders) != (&found.cluster.routing, found.orders) {
        stage.complain("weights or instances changed while no controller ran");
    }
    stage.controller.start_again().await?;
    stage.timeline.event("controller: started again");
    stage.next_move(before, stepped).await?;
    let ended = stage.seen.moves.last().map(|done| done.decision.id);
    if ended != id {
        stage.complain(format!(
            "decision {id:?} was under way, and {ended:?} was finished: it was not gone on with"
        ));
    }
    stage.step(fast).await
}

async fn silence(stage: &mut Stage) -> anyhow::Result<()> {
    let (slow, fast) = stage.measure().await?;
    stage.step(slow).await?;
    let before = stage.client.state().await?;
    let from = Instant::now();
    stage.client.set_cut(EDGE.into(), true).await?;
    stage.timeline.event(format!("{EDGE}: WAN cut"));
    let silent = |view: &View| Ok(view.edge(EDGE)?.held.as_deref() == Some("edgeSilent"));
    let held = stage.until("held because the edge is silent", CUT, silent).await;
    stage.watch(CUT.saturating_sub(from.elapsed())).await?;
    let during = stage.client.state().await?;
    stage.client.set_cut(EDGE.into(), false).await?;
    stage.timeline.event(format!("{EDGE}: WAN back"));
    stage.seen.excused.push(Excuse {
        edge: EDGE,
        from: from.checked_sub(UNDER_WAY).unwrap_or(from),
        to: Instant::now() + RECONNECT,
        why: "they needed the cloud while the WAN was cut",
        most: u64::MAX,
    });
    held?;
    let heard = |view: &View| Ok(view.edge(EDGE)?.phase == "observing");
    stage.until("the edge observed again", HEARD_AGAIN, heard).await?;
    let after = stage.client.state().await?;
    for (when, then) in [("during the cut", &during), ("after it", &after)] {
        if then.orders != before.orders {
            stage.complain(format!(
                "{} orders were given {when}; silence must write nothing",
                then.orders - before.orders
            ));
        }
        if then.cluster.routing != before.cluster.routing {
            stage.complain(format!("the weights changed {when}"));
        }
    }
    stage.step(fast).await
}
