//! The faults of the WAN and of the controller.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use gma_core::ids::ServiceName;
use gma_local::Late;

use super::app::SLOW_PATH;
use super::stage::{Setting, Stage, is_at_rest};
use super::watch::Look;
use super::{EDGE, Trial};
use crate::local::{Sent, host};

/// Three failures eject a host: those that it was serving, or one request's attempt and two retries. Until Envoy's main
/// thread has told its workers, further ones may find it: measured 3 ms, more on a busy machine.
pub(super) const EJECTION: Duration = Duration::from_millis(200);
const WAN_CUT: Duration = Duration::from_secs(20);
const CONTROLLER_DEAD: Duration = Duration::from_secs(5);
const CONTROLLER_STOPPED: Duration = Duration::from_secs(60);
const WAN_LATE: Late = Late {
    every: 10,
    by: Duration::from_millis(200),
};
const WAN_IS_LATE: Duration = Duration::from_secs(20);
const REPORTS_LATE: Duration = Duration::from_secs(10);
const REPORTS_ARE_LATE: Duration = Duration::from_secs(30);
/// Requests of 20 s at an unoffload's first step, beside the one before it.
const SLOW_REQUESTS: usize = 5;
/// Longest wait for the machine to say what it should.
pub(super) const SOON: Duration = Duration::from_secs(30);
/// What follows a fault is watched for so long at least.
const AFTER: Duration = Duration::from_secs(5);

pub(super) async fn wan_cut(name: &'static str) -> anyhow::Result<Trial> {
    let mut stage = Stage::set(Setting::default()).await?;
    let before = stage.now()?;
    let mut trial = Trial::begin(name);
    stage.client.set_cut(EDGE.into(), true).await?;
    stage.go_on(WAN_CUT).await?;
    let cut = stage.now()?;
    stage.client.set_cut(EDGE.into(), false).await?;
    trial.over();
    // What waited in the WAN comes at once, and with it delays of up to 20 s.
    let after = back_to_rest(&mut stage).await?;
    let during = stage
        .watch
        .between(trial.began + Duration::from_secs(10), trial.over);
    trial.says(
        format!("from 10 s on: {}", phase(&cut)),
        is_late_then(&during, |look| is_held(look, "edgeSilent")),
    );
    unchanged(&mut trial, &before, &after);
    stage.end(trial).await
}

pub(super) async fn wan_late(name: &'static str) -> anyhow::Result<Trial> {
    let mut stage = Stage::set(Setting::default()).await?;
    let before = stage.now()?;
    let mut trial = Trial::begin(name);
    stage.client.set_late(EDGE.into(), Some(WAN_LATE)).await?;
    stage.go_on(WAN_IS_LATE).await?;
    let late = stage.now()?;
    stage.client.set_late(EDGE.into(), None).await?;
    trial.over();
    let after = back_to_rest(&mut stage).await?;
    // Inside the band, and heard: there is nothing to hold and nothing to do.
    let during = stage
        .watch
        .between(trial.began + Duration::from_secs(2), trial.over);
    let calm = |look: &&Look| look.said.as_ref().is_some_and(|said| said.held.is_none());
    let share = percent(during.iter().filter(calm).count(), during.len());
    trial.says(
        format!("meanwhile {}; not held in {share} % of the looks", phase(&late)),
        share >= 80,
    );
    unchanged(&mut trial, &before, &after);
    stage.end(trial).await
}

pub(super) async fn reports_late(name: &'static str) -> anyhow::Result<Trial> {
    let mut stage = Stage::set(Setting::default()).await?;
    let before = stage.now()?;
    let mut trial = Trial::begin(name);
    stage.client.set_reports(REPORTS_LATE).await?;
    stage.go_on(REPORTS_ARE_LATE).await?;
    let late = stage.now()?;
    stage.client.set_reports(Duration::ZERO).await?;
    trial.over();
    let after = back_to_rest(&mut stage).await?;
    trial.says(format!("meanwhile {}", phase(&late)), true);
    unchanged(&mut trial, &before, &after);
    stage.end(trial).await
}

pub(super) async fn controller_restarted(name: &'static str) -> anyhow::Result<Trial> {
    let mut stage = Stage::set(Setting::default()).await?;
    let before = stage.now()?;
    let mut trial = Trial::begin(name);
    stage.controller.kill().await?;
    stage.go_on(CONTROLLER_DEAD).await?;
    stage.controller.start_again().await?;
    trial.over();
    let after = back_to_rest(&mut stage).await?;
    trial.says(format!("in the end {}", phase(&after)), true);
    unchanged(&mut trial, &before, &after);
    stage.end(trial).await
}

pub(super) async fn controller_stopped(name: &'static str) -> anyhow::Result<Trial> {
    let mut stage = Stage::set(Setting::default()).await?;
    let before = stage.now()?;
    let mut trial = Trial::begin(name);
    stage.controller.freeze()?;
    stage.go_on(CONTROLLER_STOPPED).await?;
    stage.controller.thaw()?;
    trial.over();
    let after = back_to_rest(&mut stage).await?;
    trial.says(format!("in the end {}", phase(&after)), true);
    unchanged(&mut trial, &before, &after);
    stage.end(trial).await
}

pub(super) async fn slow_request_at_unoffload(name: &'static str) -> anyhow::Result<Trial> {
    let setting = Setting {
        // Wide apart, so that a busy machine stays on the same side of each.
        unoffload_below: Duration::from_millis(100),
        offload_above: Duration::from_millis(1_500),
        rtt: Duration::from_millis(2_000),
        ..Setting::default()
    };
    let mut stage = Stage::set(setting).await?;
    let mut trial = Trial::begin(name);
    stage.send(SLOW_PATH);
    stage
        .client
        .set_rtt(EDGE.into(), Duration::from_millis(2))
        .await?;
    let leaves = |look: &Look| {
        look.said
            .as_ref()
            .is_some_and(|said| said.phase == "acting" && said.sentence.contains("unoffload"))
    };
    stage.until("an unoffload", 3 * SOON, leaves).await?;
    // Some of them still go to the edge, whatever the step.
    for _ in 0..SLOW_REQUESTS {
        stage.send(SLOW_PATH);
    }
    let began = Instant::now();
    let s1 = host("s1");
    let gone = stage
        .until("s1 gone from the edge", 6 * SOON, |look| {
            !look.placed.contains(&s1)
        })
        .await?;
    trial.says(
        format!(
            "removed after {:.0} s; {}",
            began.elapsed().as_secs_f64(),
            phase(&gone)
        ),
        share(&gone, &s1) == 0 && decided(&gone, "band"),
    );
    stage.go_on(Duration::from_secs(25)).await?;
    let mut trial = stage.end(trial).await?;
    let took: Vec<String> = trial
        .beside
        .iter()
        .map(|sent| format!("{:.1} s", sent.took.as_secs_f64()))
        .collect();
    trial
        .notes
        .push(format!("the slow requests took {}", took.join(", ")));
    let is_slow = |sent: &Sent| sent.is_ok() && sent.took >= Duration::from_secs(20);
    let all_slow = trial.beside.iter().all(is_slow);
    trial.expect(all_slow, || {
        "a request of 20 s was not answered after 20 s".to_owned()
    });
    Ok(trial)
}

/// Rest, also some time later. A filter that got no answer tries again within half a minute.
pub(super) async fn back_to_rest(stage: &mut Stage) -> anyhow::Result<Look> {
    stage.go_on(Duration::from_secs(2)).await?;
    stage.until("rest after the fault", 2 * SOON, is_at_rest).await?;
    stage.go_on(AFTER).await?;
    stage.until("rest in the end", SOON, is_at_rest).await
}

/// Requests under way in some part of a time.
pub(super) fn inside(from: Instant, to: Instant) -> impl Fn(&Sent) -> bool {
    move |sent| sent.at <= to && sent.at + sent.took >= from
}

/// Nothing was written, and everything is where it was.
pub(super) fn unchanged(trial: &mut Trial, before: &Look, after: &Look) {
    trial.expect(before.orders == after.orders, || {
        format!("{} changes were written", after.orders - before.orders)
    });
    let services = before.routing.0.keys().chain(after.routing.0.keys());
    let changed: BTreeSet<&ServiceName> = services
        .filter(|service| before.routing.0.get(service) != after.routing.0.get(service))
        .collect();
    trial.expect(changed.is_empty(), || format!("weights changed of {changed:?}"));
    trial.expect(before.ready == after.ready, || {
        format!("placement changed from {:?} to {:?}", before.ready, after.ready)
    });
}

/// Held for stale telemetry and then as `then`: until 12 s are over two reports may have been lost, and are on their way again.
pub(super) fn is_late_then(looks: &[Look], then: impl Fn(&Look) -> bool) -> bool {
    looks
        .iter()
        .all(|look| then(look) || is_held(look, "staleTelemetry"))
        && looks.last().is_some_and(then)
}

pub(super) fn is_held(look: &Look, reason: &str) -> bool {
    look.said
        .as_ref()
        .is_some_and(|said| said.held.as_deref() == Some(reason))
}

pub(super) fn decided(look: &Look, trigger: &str) -> bool {
    look.said
        .as_ref()
        .is_some_and(|said| said.decisions.values().any(|(kind, _)| kind == trigger))
}

pub(super) fn last_sentence(look: &Look) -> String {
    let last = look.said.as_ref().and_then(|said| said.decisions.values().last());
    last.map_or_else(|| "nothing".to_owned(), |(_, sentence)| sentence.clone())
}

pub(super) fn phase(look: &Look) -> String {
    look.said
        .as_ref()
        .map_or_else(|| "no answer".to_owned(), |said| said.sentence.clone())
}

pub(super) fn percent(part: usize, whole: usize) -> usize {
    part * 100 / whole.max(1)
}

/// Percent of the edge's calls to a service that stay there.
pub(super) fn share(look: &Look, service: &ServiceName) -> u32 {
    let rule = look.routing.0.get(service);
    let weights = rule.and_then(|rule| rule.get(&EDGE.into()));
    weights
        .and_then(|weights| weights.get(&EDGE.into()))
        .copied()
        .unwrap_or(0)
}
