//! The whole loop on a real istiod: what the filter in its Envoys measures reaches the controller, which moves services to the
//! edge and back under users' load, and gives everything back when its object is deleted.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use gma_core::decide::{Decision, Direction, Outcome};
use gma_tests::kube::{LIGHT_PATH, OBJECT, PATH, SERVICES, Shop, Written, until};
use gma_tests::local::{Sent, Users};
use gma_tests::rig::{Cluster, Suite};
use kube::api::DeleteParams;

/// Requests a second, all the time.
const RATE: u32 = 200;

/// The band of the users' mean.
const ABOVE: Duration = Duration::from_millis(120);
const BELOW: Duration = Duration::from_millis(45);

/// Round trips between edge and cloud: near, after the step, and when users ask for less: then more than what a busy machine adds.
const NEAR: Duration = Duration::from_millis(2);
const FAR: Duration = Duration::from_millis(80);
const NEARER: Duration = Duration::from_millis(25);

/// Longest wait for something that takes a second on an idle machine.
const SOON: Duration = Duration::from_secs(30);
/// Longest wait for a whole move.
const MOVE: Duration = Duration::from_secs(75);

/// From the step to the first shifted request, and the prediction's error as a share of the delay.
const MOST_REACTION: Duration = Duration::from_secs(10);
const MOST_ERROR: f64 = 0.1;

fn main() -> ExitCode {
    let binary = gma_tests::envoy::Controller::binary().display().to_string();
    Suite::default()
        .cell("gma", binary.leak())
        .test(
            "services_go_to_the_edge_and_back",
            services_go_to_the_edge_and_back,
        )
        .run()
}

// === What it waits for ===

/// A gateway is ready when it has what istiod knew then; its listener may come a moment later.
async fn until_served(users: &Users) -> anyhow::Result<()> {
    until("the gateway serves", SOON, async || {
        let sent = users.send(PATH).await;
        Ok(if sent.is_ok() {
            Ok(())
        } else {
            Err(format!("{sent:?}"))
        })
    })
    .await
}

/// Every service has its resting rule, and nothing is under way.
async fn until_adopted(shop: &Shop) -> anyhow::Result<()> {
    until("each service has a rule", MOVE, async || {
        let (rules, (phase, sentence, _)) = (shop.rules().await?.len(), shop.said().await?);
        let is_so = rules == SERVICES.len() && phase == "observing";
        Ok(if is_so {
            Ok(())
        } else {
            Err(format!("{rules} rules, {phase}: {sentence}"))
        })
    })
    .await
}

/// The last decision is a move in this direction that was kept.
async fn until_kept(shop: &Shop, direction: Direction) -> anyhow::Result<Decision> {
    until(&format!("{direction:?} is kept"), MOVE, async || {
        let (phase, sentence, mut decisions) = shop.said().await?;
        let found = decisions
            .pop()
            .filter(|decision| decision.direction() == Some(direction) && decision.outcome == Outcome::Kept);
        Ok(found.ok_or_else(|| format!("{phase}: {sentence}")))
    })
    .await
}

// === What is made of it ===

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// Mean of what was sent between.
fn mean(sent: &[Sent], from: Instant, to: Instant) -> anyhow::Result<Duration> {
    let of: Vec<Duration> = sent
        .iter()
        .filter(|sent| (from..to).contains(&sent.at))
        .map(|sent| sent.took)
        .collect();
    let count = u32::try_from(of.len())?;
    of.iter()
        .sum::<Duration>()
        .checked_div(count)
        .context("no request")
}

/// From the write of the gateway's first share for the edge to the first request that the edge answered.
fn propagation(writes: &[Written], sent: &[Sent]) -> anyhow::Result<(Instant, Duration)> {
    let (written, ..) = writes
        .iter()
        .find(|(_, name, share)| name == "gma-s0" && *share > 0)
        .context("no share was written")?;
    let first = sent
        .iter()
        .find(|sent| sent.zone == "edge-1")
        .context("no request at the edge")?;
    Ok((first.at, first.at.saturating_duration_since(*written)))
}

/// The prediction's error as a share of the delay and of the change, printed.
fn error(name: &str, decision: &Decision) -> anyhow::Result<f64> {
    let planned = decision.planned.as_ref().context("no plan")?;
    let after = decision.after.as_ref().context("not measured")?;
    let (predicted, measured) = (planned.predicted_us / 1e3, after.reading.value_us / 1e3);
    let of_delay = (predicted - measured).abs() / measured;
    let of_change = decision
        .predicted_change_us()
        .map(|change| (change - after.change_us).abs() / after.change_us.abs());
    println!(
        "{name}: predicted {predicted:.1} ms, measured {measured:.1} ms, error {:.1} % of the delay, {:.1} % of the change",
        of_delay * 100.0,
        of_change.unwrap_or(f64::NAN) * 100.0
    );
    Ok(of_delay)
}

// === Tests ===

async fn services_go_to_the_edge_and_back(cluster: &Cluster) -> anyhow::Result<()> {
    let shop = Shop::start(cluster, NEAR).await?;
    let users = shop.users();
    until_served(&users).await?;
    let load = users.load(RATE, &[PATH]);
    shop.place(cluster, ABOVE, BELOW).await?;
    until_adopted(&shop).await?;

    let step = Instant::now();
    shop.set_rtt(FAR);
    let offload = until_kept(&shop, Direction::Offload).await?;
    let kept = Instant::now();
    tokio::time::sleep(Duration::from_secs(4)).await;
    let end = Instant::now();
    ensure!(
        shop.edge().await? == (3, 3),
        "not all at the edge: {:?}",
        shop.edge().await?
    );

    // The cloud is nearer again, and users ask for what takes little time.
    let light = users.load(RATE, &[LIGHT_PATH]);
    let mut sent = load.end().await;
    shop.set_rtt(NEARER);
    let unoffload = until_kept(&shop, Direction::Unoffload).await?;
    until("nothing is at the edge", SOON, async || {
        let (replicas, _) = shop.edge().await?;
        Ok(if replicas == 0 {
            Ok(())
        } else {
            Err(format!("{replicas} replicas"))
        })
    })
    .await?;
    shop.objects().delete(OBJECT, &DeleteParams::default()).await?;
    until("the object goes", SOON, async || {
        let found = shop.objects().get_opt(OBJECT).await?;
        Ok(found.map_or(Ok(()), |found| Err(format!("{:?}", found.metadata))))
    })
    .await?;
    ensure!(shop.rules().await?.is_empty(), "a rule is left");
    ensure!(shop.edge().await? == (0, 0), "an annotation is left");
    sent.extend(light.end().await);

    let writes = shop.writes();
    let failed: Vec<_> = sent.iter().filter(|sent| !sent.is_ok()).collect();
    println!(
        "{} requests at {RATE}/s, {} failed; {} writes of rules",
        sent.len(),
        failed.len(),
        writes.len()
    );
    let (first, took) = propagation(&writes, &sent)?;
    let reaction = first.saturating_duration_since(step);
    println!(
        "from the step to the first shifted request {:.2} s",
        reaction.as_secs_f64()
    );
    println!(
        "from the write to the first request at the edge {:.0} ms",
        ms(took)
    );
    let (before, after) = (
        mean(&sent, step + Duration::from_secs(1), first)?,
        mean(&sent, kept, end)?,
    );
    println!(
        "users' mean {:.1} ms after the step, {:.1} ms after the move",
        ms(before),
        ms(after)
    );
    let errors = [error("offload", &offload)?, error("unoffload", &unoffload)?];
    ensure!(failed.is_empty(), "{failed:#?}");
    ensure!((BELOW..=ABOVE).contains(&after), "outside the band: {after:?}");
    ensure!(
        reaction <= MOST_REACTION,
        "{reaction:?} to the first shifted request"
    );
    ensure!(
        errors.iter().all(|error| *error <= MOST_ERROR),
        "predicted badly: {errors:?}"
    );
    Ok(())
}
