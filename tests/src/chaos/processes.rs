//! The faults that end processes of the edge.

use std::time::Duration;

use gma_local::Part;

use super::faults::{
    EJECTION, SOON, back_to_rest, decided, inside, is_late_then, last_sentence, phase, share, unchanged,
};
use super::stage::{RATE, Setting, Stage, is_at_rest};
use super::watch::Look;
use super::{EDGE, Trial};
use crate::local::host;

/// How long an edge is dead.
const DEAD: Duration = Duration::from_secs(20);
/// Envoys of an edge start on a busy machine, and Envoys elsewhere stop ejecting their addresses.
const COMES_BACK: Duration = Duration::from_secs(30);

/// `part`: what is killed of s1's instance at the edge. What it served fails, nothing else; the machine takes the
/// weight away and the instance with it.
pub(super) async fn instance_killed(name: &'static str, part: Part) -> anyhow::Result<Trial> {
    let mut stage = Stage::set(Setting::default()).await?;
    let mut trial = Trial::begin(name);
    let killed = host("s1");
    stage.client.kill(killed.clone(), EDGE.into(), part).await?;
    let dead = trial.began + EJECTION;
    trial.excuse(
        "inside the instance when it was killed",
        inside(trial.began, dead),
    );
    let taken = stage
        .until("a decision about the failed instance", SOON, |look| {
            decided(look, "instanceFailed") && !look.placed.contains(&killed)
        })
        .await?;
    trial.says(
        format!("decided: {}", last_sentence(&taken)),
        share(&taken, &killed) == 0 && taken.placed.contains(&host("s0")),
    );
    let rest = stage.until("rest after it", SOON, is_at_rest).await?;
    trial.says(format!("then {}", phase(&rest)), true);
    stage.go_on(Duration::from_secs(2)).await?;
    stage.end(trial).await
}

/// Everything at the edge, its gateway too. Nobody can decide anything of an edge that is not heard, so nothing is
/// written, and all is as before when it is back.
pub(super) async fn area_killed(name: &'static str) -> anyhow::Result<Trial> {
    let mut stage = Stage::set(Setting::default()).await?;
    let before = stage.now()?;
    let mut trial = Trial::begin(name);
    stage.client.kill_area(EDGE.into()).await?;
    stage.go_on(DEAD).await?;
    let dead = stage.now()?;
    stage.client.start_area(EDGE.into()).await?;
    trial.over();
    let back = stage
        .until("the gateway back", COMES_BACK, |look| look.gateway.is_some())
        .await?;
    let took = (back.at - trial.over).as_secs_f64();
    trial
        .notes
        .push(format!("the gateway was back after {took:.1} s"));
    trial.excuse("users of a gateway that was dead", inside(trial.began, back.at));
    trial.recovers_within = COMES_BACK;
    let after = back_to_rest(&mut stage).await?;
    let during = stage
        .watch
        .between(trial.began + Duration::from_secs(10), trial.over);
    trial.says(
        format!("from 10 s on: {}", phase(&dead)),
        is_late_then(&during, is_unheard),
    );
    trial.says(format!("back: {}", phase(&after)), true);
    unchanged(&mut trial, &before, &after);
    // The users of a dead gateway are counted by nobody else, and what it counted last went with it.
    let (from, to) = (trial.began, back.at);
    let lost = f64::from(RATE) * LAST_REPORT.as_secs_f64();
    let mut trial = stage.end(trial).await?;
    let refused = trial
        .sent
        .iter()
        .filter(|sent| !sent.is_ok() && inside(from, to)(sent))
        .count() as u64;
    if let Some(counts) = trial.counts {
        let missing = counts
            .users
            .saturating_sub(refused + counts.filter + counts.filter_earlier);
        trial.notes.push(format!(
            "{refused} requests met a dead gateway; {missing} of the others are not in the controller's totals"
        ));
        let is_explained = counts.envoy == counts.filter && missing as f64 <= lost;
        trial.explain_counts("the dead gateway's users, and its last counts", is_explained);
    }
    Ok(trial)
}

/// A gateway that is killed takes what it counted since its last report.
const LAST_REPORT: Duration = Duration::from_secs(2);

/// Held, because the edge is not heard or not there.
fn is_unheard(look: &Look) -> bool {
    let held = look.said.as_ref().and_then(|said| said.held.as_deref());
    matches!(held, Some("edgeSilent" | "edgeUnavailable" | "lowCoverage"))
}
