//! The faults of cells and filters that go on running.

use std::time::Duration;

use anyhow::ensure;
use gma_local::{CellFault, Fail};

use super::app::{PATH, ROUTE_PATH, TRAP_PATH};
use super::faults::{SOON, back_to_rest, inside, is_held, last_sentence, phase, share, unchanged};
use super::stage::{Setting, Stage, is_at_rest};
use super::{EDGE, Trial};
use crate::local::{Sent, built, host};

/// How long a route fails.
const ROUTE_FAILS: Duration = Duration::from_secs(15);
/// Longest time until the weight of a service that fails at the edge is on the cloud.
const TAKEN_AWAY: Duration = Duration::from_secs(30);
/// Share of the thread of a cell that the hog takes, and for how long.
const BUSY: f64 = 0.9;
const HOG: Duration = Duration::from_secs(40);
/// A blind worker shows within a heartbeat of 30 s.
const BLIND: Duration = Duration::from_secs(60);

/// s1 answers 500 at the edge, and only there. Callers that report see it fail, so its weight goes to the cloud.
pub(super) async fn service_fails_at_edge(name: &'static str) -> anyhow::Result<Trial> {
    let mut stage = Stage::set(Setting::default()).await?;
    let mut trial = Trial::begin(name);
    let s1 = host("s1");
    let fault = CellFault {
        fail: Some(Fail::All),
        busy: 0.0,
    };
    stage.client.set_fault(s1.clone(), EDGE.into(), fault).await?;
    let away = stage
        .until("its weight on the cloud", TAKEN_AWAY, |look| {
            share(look, &s1) == 0
        })
        .await;
    let end = away
        .as_ref()
        .map_or_else(|_| std::time::Instant::now(), |look| look.at);
    // Until the weight is away there is nobody else to ask.
    trial.excuse(
        "answered with 500 before the weight was away",
        move |sent: &Sent| sent.at <= end + Duration::from_millis(500),
    );
    trial.recovers_within = TAKEN_AWAY;
    match away {
        Ok(look) => {
            trial.says(
                format!("{}; decided: {}", phase(&look), last_sentence(&look)),
                true,
            );
            stage.until("rest after it", 2 * SOON, is_at_rest).await?;
            stage.go_on(Duration::from_secs(3)).await?;
        }
        Err(_) => {
            let look = stage.now()?;
            trial.says(
                format!("no weight taken away in {TAKEN_AWAY:?}: {}", phase(&look)),
                false,
            );
        }
    }
    stage.end(trial).await
}

/// One route of s1 answers 500 everywhere, for a fifth of the users. Nothing is ejected, so no other request fails, and
/// no delay is trusted meanwhile.
pub(super) async fn route_fails(name: &'static str) -> anyhow::Result<Trial> {
    let setting = Setting {
        paths: vec![PATH, PATH, PATH, PATH, ROUTE_PATH],
        ..Setting::default()
    };
    let mut stage = Stage::set(setting).await?;
    let before = stage.now()?;
    let mut trial = Trial::begin(name);
    let set = async |stage: &Stage, fail: Option<Fail>| {
        for area in [EDGE, "cloud"] {
            let fault = CellFault {
                fail: fail.clone(),
                busy: 0.0,
            };
            stage.client.set_fault(host("s1"), area.into(), fault).await?;
        }
        anyhow::Ok(())
    };
    set(&stage, Some(Fail::Bid("route".to_owned()))).await?;
    stage.go_on(ROUTE_FAILS).await?;
    let failing = stage.now()?;
    set(&stage, None).await?;
    trial.over();
    let over = trial.over + Duration::from_millis(500);
    trial.excuse("of the route", move |sent: &Sent| {
        sent.path == ROUTE_PATH && sent.at <= over
    });
    let after = back_to_rest(&mut stage).await?;
    let during = stage
        .watch
        .between(trial.began + Duration::from_secs(8), trial.over);
    trial.says(
        format!("meanwhile {}", phase(&failing)),
        !during.is_empty() && during.iter().all(|look| is_held(look, "errors")),
    );
    unchanged(&mut trial, &before, &after);
    stage.end(trial).await
}

/// Something takes the CPU of s1's cell at the edge: its delay rises, no request fails. The machine must not place more
/// there for it.
pub(super) async fn cpu_hog(name: &'static str) -> anyhow::Result<Trial> {
    let setting = Setting {
        offload_above: Duration::from_millis(90),
        ..Setting::default()
    };
    let mut stage = Stage::set(setting).await?;
    let before = stage.now()?;
    let mut trial = Trial::begin(name);
    let hog = CellFault {
        fail: None,
        busy: BUSY,
    };
    stage.client.set_fault(host("s1"), EDGE.into(), hog).await?;
    stage.go_on(HOG).await?;
    let hogged = stage.now()?;
    stage
        .client
        .set_fault(host("s1"), EDGE.into(), CellFault::default())
        .await?;
    trial.over();
    trial.recovers_within = Duration::from_secs(30);
    back_to_rest(&mut stage).await?;
    let placed_more = stage
        .watch
        .between(trial.began, trial.over)
        .iter()
        .any(|look| !look.placed.is_subset(&before.placed));
    trial.says(
        format!(
            "meanwhile {}; decided: {}",
            phase(&hogged),
            last_sentence(&hogged)
        ),
        !placed_more,
    );
    stage.end(trial).await
}

/// One of two workers of the gateway loses its VM. Its requests pass, and are counted by nobody: coverage falls.
pub(super) async fn vm_trapped(name: &'static str) -> anyhow::Result<Trial> {
    let filter = built("GMA_FILTER_TRAP", "target/gma-filter-trap.wasm");
    let setting = Setting {
        filter: Some(filter),
        concurrency: 2,
        ..Setting::default()
    };
    let mut stage = Stage::set(setting).await?;
    let before = stage.now()?;
    let mut trial = Trial::begin(name);
    // One request is on one worker.
    stage.send(TRAP_PATH);
    trial.excuse(
        "the request that asks for the trap has no route",
        |sent: &Sent| sent.path == TRAP_PATH,
    );
    let trapped = trial.began + Duration::from_millis(500);
    trial.excuse("on the worker whose VM ended", inside(trial.began, trapped));
    let held = stage
        .until("low coverage", BLIND, |look| is_held(look, "lowCoverage"))
        .await;
    match held {
        Ok(look) => trial.says(
            format!(
                "after {:.0} s {}",
                (look.at - trial.began).as_secs_f64(),
                phase(&look)
            ),
            true,
        ),
        Err(_) => {
            let look = stage.now()?;
            trial.says(format!("not noticed in {BLIND:?}: {}", phase(&look)), false);
        }
    }
    let after = stage.now()?;
    ensure!(after.at > before.at, "nothing was seen after the trap");
    unchanged(&mut trial, &before, &after);
    let mut trial = stage.end(trial).await?;
    if let Some(counts) = trial.counts {
        let uncounted = counts.users.saturating_sub(counts.filter);
        trial
            .notes
            .push(format!("{uncounted} requests were on the blind worker"));
        let is_explained = counts.users == counts.envoy && uncounted > 0;
        trial.explain_counts("those of the blind worker", is_explained);
    }
    Ok(trial)
}
