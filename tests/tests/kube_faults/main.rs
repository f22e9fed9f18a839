//! What breaks around the controller while services move, and what it does then: nothing crashes, no move is given up without a reason,
//! the object says what is wrong, and it goes on. The proxies are played.
//!
//! Applications in namespaces of their own go through their faults at the same time, under one controller: most of it is waiting.

#![expect(clippy::indexing_slicing, reason = "of JSON values that are made right there")]

mod api;
mod changed;
mod gate;
mod nodes;
mod scaled;
mod scene;
mod vanished;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use gma_tests::kube::{Controller, install};
use gma_tests::rig::{Cluster, Component, Suite};
use tokio::try_join;

use scene::Scene;

/// For so long istiod is down.
const OUTAGE: Duration = Duration::from_secs(30);

fn main() -> ExitCode {
    Suite::default()
        .test(
            "what_breaks_in_the_middle_of_moves",
            what_breaks_in_the_middle_of_moves,
        )
        .test(
            "an_api_server_that_refuses_and_forgets",
            api::an_api_server_that_refuses_and_forgets,
        )
        .run()
}

/// First all applications come to where their fault meets them. Then istiod is down, and meanwhile the others have theirs, for which
/// no rule has to be written. Then all go on.
async fn what_breaks_in_the_middle_of_moves(cluster: &Cluster) -> anyhow::Result<()> {
    install(cluster).await?;
    let controller = Controller::start(cluster, "faults", 18501).await?;
    let scene = |namespace: &'static str, edges: &'static [&'static str]| {
        Scene::start(cluster, &controller, namespace, edges)
    };
    let (moving, again, alone, ended, lost, two, owned, scaled) = try_join!(
        scene("moving", &["edge-1"]),
        scene("again", &["edge-1"]),
        scene("alone", &["edge-1"]),
        scene("ended", &["edge-1"]),
        scene("lost", &["west"]),
        scene("two", &["north", "south"]),
        scene("owned", &["edge-1"]),
        scene("scaled", &["edge-1"]),
    )?;
    try_join!(
        in_a_shift(&moving),
        in_a_shift(&again),
        in_a_shift(&alone),
        in_a_shift(&ended),
        in_a_shift(&lost),
        nodes::one_of_two_is_placed(&two),
        changed::is_placed(&owned),
        scaled::is_watched(&scaled),
    )?;

    let (stop, is_up) = tokio::sync::watch::channel(false);
    let outage = async {
        cluster.kill(Component::Istiod).await?;
        let down = Instant::now();
        moving.app.hide_edges(false);
        tokio::time::sleep(OUTAGE).await;
        cluster.start(Component::Istiod).await?;
        println!("istiod was down for {:.1} s", down.elapsed().as_secs_f64());
        stop.send_replace(true);
        anyhow::Ok(())
    };
    let up = || async {
        let mut is_up = is_up.clone();
        is_up
            .wait_for(|is_up| *is_up)
            .await
            .map(drop)
            .context("istiod does not come back")
    };
    try_join!(
        outage,
        rules_can_t_be_written(&moving, up()),
        vanished::an_object_that_comes_again(&again, up()),
        vanished::a_cloud_without_its_deployment(&alone, up()),
        vanished::a_namespace(&ended),
        nodes::in_the_middle_of_an_offload(&lost, up()),
        nodes::one_of_two_with_services(&two, up()),
        changed::by_another_manager(&owned, up()),
        scaled::during_an_alarm(&scaled),
    )?;
    scene::is_sound(&controller)
}

/// The first weights are written, and no step is left.
async fn in_a_shift(scene: &Scene<'_>) -> anyhow::Result<()> {
    scene.app.hide_edges(true);
    scene.app.place(scene.cluster).await?;
    scene.until_in_a_shift().await
}

/// istiod's webhook does not answer, so the API server refuses each rule: the move waits, says why, and goes on.
async fn rules_can_t_be_written(
    scene: &Scene<'_>,
    up: impl Future<Output = anyhow::Result<()>>,
) -> anyhow::Result<()> {
    let (begin, before) = (Instant::now(), scene.share().await?);
    scene
        .until_condition("Ready", "False", "failed calling webhook")
        .await?;
    tokio::time::sleep_until((begin + OUTAGE - Duration::from_secs(3)).into()).await;
    let (share, state) = (scene.share().await?, scene.edge_state().await?);
    ensure!(
        share == before && state.as_deref() == Some("Acting"),
        "{share} % instead of {before} %: {state:?}, {}",
        scene.said().await
    );
    up.await?;
    scene.until_share(99).await?;
    scene.until_kept().await?;
    scene.until_condition("Ready", "True", "").await?;
    ensure!(
        scene.outcomes().await? == ["Kept"],
        "{:?}",
        scene.outcomes().await?
    );
    Ok(())
}
