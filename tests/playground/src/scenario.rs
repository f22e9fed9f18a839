//! The scenarios: what each changes in the world, and what should come of it.

use std::time::Duration;

use anyhow::ensure;
use clap::ValueEnum;
use gma_core::decide::{Band, Config};

use crate::Args;
use crate::counts;
use crate::judge::{self, Expected};
use crate::report::Report;
use crate::stage::{EDGE, Excuse, LIMIT, Setting, Stage, weights};
use crate::timeline::Timeline;

/// Without a controller for this long.
const AWAY: Duration = Duration::from_secs(5);
/// Nothing passes between edge and cloud for this long.
const CUT: Duration = Duration::from_secs(20);
/// What Envoys may take to find that the WAN is back: connections that died meanwhile are ejected for a moment.
const RECONNECT: Duration = Duration::from_secs(3);
/// The edge is heard again within this.
const HEARD_AGAIN: Duration = Duration::from_secs(40);

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scenario {
    /// A slow WAN makes an edge run services itself; a fast one gives them back to the cloud.
    OffloadUnoffload,
    /// The controller is killed while weights move, and started again 5 s later.
    Crash,
    /// The WAN is cut for 20 s: nothing is heard, and nothing is written.
    Silence,
}

// === impl Scenario ===

impl Scenario {
    fn setting(self, args: &Args) -> Setting {
        let rate = match self {
            Self::OffloadUnoffload | Self::Crash | Self::Silence => 80.0,
        };
        Setting {
            seed: args.seed,
            rate: args.rate.unwrap_or(rate),
            statistic: "mean",
            band: shipped_band(),
            objective: Vec::new(),
        }
    }

    /// What should have happened by the end.
    fn expected(self, args: &Args) -> Expected {
        let cycles = match self {
            Self::OffloadUnoffload => args.cycles as usize,
            Self::Crash | Self::Silence => 1,
        };
        Expected::there_and_back(cycles)
    }

    async fn play(self, stage: &mut Stage, args: &Args) -> anyhow::Result<()> {
        match self {
            Self::OffloadUnoffload => offload_unoffload(stage, args.cycles).await,
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

fn shipped_band() -> Band {
    let config = Config::new("cloud".into(), [EDGE.into()]);
    let objective = config.edges.get(&EDGE.into());
    objective.map(|objective| objective.band).unwrap_or_default()
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
    stage.client.set_cut(EDGE.into(), true).await?;
    let from = std::time::Instant::now();
    stage.timeline.event(format!("{EDGE}: WAN cut"));
    let silent = |view: &crate::controller::View| Ok(view.edge(EDGE)?.held.as_deref() == Some("edgeSilent"));
    let held = stage.until("held because the edge is silent", CUT, silent).await;
    stage.watch(CUT.saturating_sub(from.elapsed())).await?;
    let during = stage.client.state().await?;
    stage.client.set_cut(EDGE.into(), false).await?;
    stage.timeline.event(format!("{EDGE}: WAN back"));
    stage.seen.excused.push(Excuse {
        edge: EDGE,
        from,
        to: std::time::Instant::now() + RECONNECT,
        why: "they needed the cloud while the WAN was cut",
    });
    held?;
    let heard = |view: &crate::controller::View| Ok(view.edge(EDGE)?.phase == "observing");
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
