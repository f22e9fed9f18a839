//! The report for people: a block an edge, and a line an edge for pipes.

use gma_core::cluster::Phase;
use gma_core::decide::{Mode, Position, Statistic, Times};
use gma_core::ids::Timestamp;

use super::paint::{Paint, Tone};
use super::report::{BandReport, DelayReport, EdgeReport, StatusReport};

/// Width of the names of a block's lines.
const NAMES: usize = 10;

/// What a controller is not expected to be older than; a round takes half a second.
const OLD_SECONDS: f64 = 3.0;

/// All edges, a block each.
pub(super) fn all(report: &StatusReport, paint: Paint) -> String {
    let mut text = format!(
        "mode {}, all areas cost {:.4} an hour\n",
        mode(report.mode),
        report.cost_per_hour
    );
    if report.age_seconds > OLD_SECONDS {
        let old = format!(
            "the controller saw its platform {:.0} s ago: this is old\n",
            report.age_seconds
        );
        text.push_str(&paint.paint(Tone::Bad, &old));
    }
    for edge in &report.edges {
        text.push('\n');
        text.push_str(&block(edge, paint));
    }
    text
}

/// One line of an edge.
pub(super) fn line(edge: &EdgeReport) -> String {
    let mut parts = vec![format!("{}: {}", edge.edge, short(&edge.sentence))];
    if let Some(delay) = &edge.delay {
        parts.push(measured(delay, &edge.band));
    }
    if let Some(rate) = edge.requests_per_second {
        parts.push(format!("{rate:.1} requests/s"));
    }
    parts.push(format!("{} services at the edge", edge.services.len()));
    parts.join(" | ")
}

fn block(edge: &EdgeReport, paint: Paint) -> String {
    let mut text = String::new();
    let tone = edge.phase.as_deref().map_or(Tone::Wait, Tone::of_phase);
    text.push_str(&format!(
        "{}  {}\n",
        paint.paint(Tone::Strong, edge.edge.as_str()),
        paint.paint(tone, &short(&edge.sentence))
    ));
    let mut row = |name: &str, value: &str| text.push_str(&format!("  {name:NAMES$}  {value}\n"));
    if let Some(ends) = &edge.ends {
        row("ends", ends);
    }
    let band = format!(
        "band {:.1} – {:.1} ms",
        edge.band.unoffload_below_ms, edge.band.offload_above_ms
    );
    match &edge.delay {
        Some(delay) => {
            let value = measured(delay, &edge.band);
            let tone = if delay.position == Position::Inside {
                Tone::Good
            } else {
                Tone::Bad
            };
            row("delay", &format!("{}, {band}", paint.paint(tone, &value)));
            let window = delay.window_seconds;
            row("", &format!("{} requests in {window:.1} s", delay.requests));
        }
        None => row("delay", &format!("no reading, {band}")),
    }
    if let Some(rate) = edge.requests_per_second {
        let failing = edge
            .failing
            .map_or_else(String::new, |share| format!(", {:.1} % fail", share * 100.0));
        row("requests", &format!("{rate:.1}/s{failing}"));
    }
    if let Some(coverage) = &edge.coverage {
        let blind = match coverage.blind {
            0 => String::new(),
            blind => format!(", {blind} partly blind"),
        };
        row(
            "coverage",
            &format!("{} of {} proxies heard{blind}", coverage.heard, coverage.expected),
        );
    }
    row("services", &services(edge));
    if let Some(cost) = edge.cost_per_hour {
        row("cost", &format!("{cost:.4} an hour"));
    }
    if !edge.short_if_lost.is_empty() {
        let missing = edge.short_if_lost.iter();
        let missing: Vec<_> = missing
            .map(|(service, count)| format!("{count} of {}", short(service.as_str())))
            .collect();
        row(
            "if lost",
            &format!("the cloud is short of {}", missing.join(", ")),
        );
    }
    if let Some(plan) = &edge.plan {
        let progress = plan
            .progress
            .as_ref()
            .map_or_else(String::new, |progress| format!("{progress}; "));
        let reached = reached(&plan.times, plan.now);
        row("plan", &format!("decision {}: {progress}{reached}", plan.id));
    }
    if let Some(complaint) = &edge.complaint {
        row("complaint", &paint.paint(Tone::Bad, complaint));
    }
    text
}

fn measured(delay: &DelayReport, band: &BandReport) -> String {
    let side = match delay.position {
        Position::Above => ", above the band",
        Position::Below => ", below the band",
        Position::Inside => "",
    };
    format!(
        "{} {:.1} ms ({:.1} – {:.1}){side}",
        statistic(band.statistic),
        delay.value_ms,
        delay.low_ms,
        delay.high_ms
    )
}

fn services(edge: &EdgeReport) -> String {
    if edge.services.is_empty() {
        return "none at the edge".to_owned();
    }
    let each = edge.services.iter().map(|placed| {
        let life = match placed.phase {
            Phase::Ready => "",
            Phase::Starting => " starting",
            Phase::Failed => " failed",
        };
        let replicas = match placed.replicas {
            0 | 1 => String::new(),
            replicas => format!(" x{replicas}"),
        };
        format!(
            "{}{replicas}{life} {} %",
            short(placed.service.as_str()),
            placed.weight
        )
    });
    each.collect::<Vec<_>>().join(", ")
}

/// The last step that was reached.
fn reached(times: &Times, now: Timestamp) -> String {
    let last = steps(times)
        .into_iter()
        .rev()
        .find_map(|(what, at)| Some((what, at?)));
    last.map_or_else(String::new, |(what, at)| {
        format!("{what} {:.1} s ago", now.since(at).as_secs_f64())
    })
}

/// Steps of a decision in their order.
pub(super) fn steps(times: &Times) -> [(&'static str, Option<Timestamp>); 7] {
    [
        ("outside the band", times.alarm),
        ("decided", Some(times.decided)),
        ("instances ready", times.instances_ready),
        ("first request shifted", times.first_shifted_request),
        ("last weights in force", times.weights_final),
        ("effect judged", times.verified),
        ("finished", times.finished),
    ]
}

pub(super) const fn statistic(statistic: Statistic) -> &'static str {
    match statistic {
        Statistic::Mean => "mean",
        Statistic::P50 => "p50",
        Statistic::P90 => "p90",
        Statistic::P95 => "p95",
        Statistic::P99 => "p99",
    }
}

const fn mode(mode: Mode) -> &'static str {
    match mode {
        Mode::Observe => "observe",
        Mode::Recommend => "recommend",
        Mode::Enforce => "enforce",
    }
}

/// Hosts without the suffix that a cluster gives all of them.
pub(super) fn short(text: &str) -> String {
    text.replace(".svc.cluster.local", "")
}
