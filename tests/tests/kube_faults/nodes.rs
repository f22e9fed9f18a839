//! An edge's node is cut off, with services there and in the middle of an offload: nothing is written for that edge until it is heard
//! again, and then all is as it was.

use std::time::Duration;

use anyhow::ensure;

use super::scene::{SOON, Scene};

/// The rest of a kubelet's turn when its node is heard again.
const TURN: Duration = Duration::from_secs(4);
/// Twice the time after which an edge counts as silent would be 24 s; this is enough to see it held.
const AWAY: Duration = Duration::from_secs(16);

/// The first of two edges has the service; the users of the second are well.
pub(crate) async fn one_of_two_is_placed(scene: &Scene<'_>) -> anyhow::Result<()> {
    scene
        .app
        .set_delays_at("south", Duration::from_millis(20), Duration::from_millis(15));
    scene.app.place(scene.cluster).await?;
    scene.until_share(99).await?;
    scene.until_kept().await
}

/// It is lost with the service. It alone is held, and the second edge gets the service meanwhile.
pub(crate) async fn one_of_two_with_services(
    scene: &Scene<'_>,
    up: impl Future<Output = anyhow::Result<()>>,
) -> anyhow::Result<()> {
    lose(scene).await?;
    scene
        .app
        .set_delays_at("south", Duration::from_millis(100), Duration::from_millis(15));
    is_said(scene).await?;
    let held = async || -> anyhow::Result<Vec<(String, bool)>> {
        let edges = scene.status().await?.edges.into_iter();
        Ok(edges.map(|edge| (edge.name, edge.held.is_some())).collect())
    };
    scene
        .until("it is held, and no other", SOON, async || {
            let held = held().await?;
            let is_so = |name: &str, wanted: bool| held.contains(&(name.to_owned(), wanted));
            Ok(if is_so("north", true) && is_so("south", false) {
                Ok(())
            } else {
                Err(format!("{held:?}"))
            })
        })
        .await?;
    up.await?;
    scene.until_share_at("south", 99).await?;
    ensure!(scene.share().await? == 99, "the silent edge was written to");
    give_back(scene).await?;
    scene
        .until("all is as it was", SOON, async || {
            let held = held().await?;
            Ok(if held.iter().all(|(_, is_held)| !is_held) {
                Ok(())
            } else {
                Err(format!("{held:?}"))
            })
        })
        .await?;
    ensure!(
        scene.share().await? == 99 && scene.share_at("south").await? == 99,
        "{} % and {} %",
        scene.share().await?,
        scene.share_at("south").await?
    );
    // One move each, and nothing was decided because a node was away.
    let decisions = scene.status().await?.decisions;
    ensure!(decisions.len() == 2, "{decisions:#?}");
    for deployment in ["web-north", "web-south"] {
        ensure!(
            scene.app.deployments().get_opt(deployment).await?.is_some(),
            "{deployment} is gone"
        );
    }
    Ok(())
}

/// It is lost while calls are shifted to it: the move waits and goes on.
pub(crate) async fn in_the_middle_of_an_offload(
    scene: &Scene<'_>,
    up: impl Future<Output = anyhow::Result<()>>,
) -> anyhow::Result<()> {
    let before = scene.share().await?;
    lose(scene).await?;
    is_said(scene).await?;
    tokio::time::sleep(AWAY).await;
    ensure!(
        scene.share().await? == before,
        "{} % instead of {before} %",
        scene.share().await?
    );
    ensure!(
        scene.outcomes().await? == ["Running"],
        "{:?}",
        scene.outcomes().await?
    );
    up.await?;
    scene.app.hide_edges(false);
    give_back(scene).await?;
    scene.until_share(99).await?;
    scene.until_kept().await?;
    ensure!(
        scene.outcomes().await? == ["Kept"],
        "{:?}",
        scene.outcomes().await?
    );
    Ok(())
}

async fn lose(scene: &Scene<'_>) -> anyhow::Result<()> {
    scene.app.cut(scene.edge, true);
    scene.cluster.lose_node(scene.edge).await
}

/// Its proxies are heard before its kubelet says anything of its pods.
async fn give_back(scene: &Scene<'_>) -> anyhow::Result<()> {
    scene.app.cut(scene.edge, false);
    scene.cluster.give_node_back(scene.edge, TURN).await?;
    scene.until_condition("EdgeAvailable", "True", "").await?;
    scene.until_condition("TelemetryFresh", "True", "").await
}

async fn is_said(scene: &Scene<'_>) -> anyhow::Result<()> {
    let why = format!("no node of {} is Ready", scene.edge);
    scene.until_condition("EdgeAvailable", "False", &why).await?;
    scene.until_condition("TelemetryFresh", "False", scene.edge).await
}
