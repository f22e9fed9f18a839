//! What muPlacer does with a configuration that its author would not expect, each with this configuration's numbers.
//!
//! The behaviour is that of muPlacer's sources of July 2025, found by running them.

use super::config::Config;
use super::instances::{Instance, Instances};
use super::link::LinkUsed;
use super::metrics::Metrics;
use super::quantity::{Time, short, show_micros};
use super::report::Explained;

/// Threshold that muPlacer's strategies compute with, whatever the autoscalers say.
const REFERENCE_THRESHOLD: f64 = 0.6;
/// A quantile threshold so many times the mean's is meant to be out of reach.
const OUT_OF_REACH: f64 = 4.0;
/// Services that a sentence names.
const NAMED: usize = 12;

/// Everything that a configuration is explained from.
pub(super) struct Facts<'a> {
    pub(super) config: &'a Config,
    pub(super) link: &'a LinkUsed,
    pub(super) instances: &'a [Instances],
    pub(super) metrics: &'a Metrics,
}

/// The traps that this configuration meets.
pub(super) fn explain(facts: &Facts<'_>) -> Vec<Explained> {
    let all = [
        rtt_twice(facts),
        network_price(facts),
        locked(facts),
        units(facts),
        missing_requests(facts),
        thresholds(facts),
        quantile(facts),
        ids(facts),
        minimum(facts),
        own_time(facts),
        Some(standby()),
    ];
    all.into_iter().flatten().collect()
}

fn explained(title: &'static str, text: String) -> Explained {
    Explained { title, text }
}

fn rtt_twice(facts: &Facts<'_>) -> Option<Explained> {
    let link = &facts.config.link;
    let (first, second) = (link.network_multiplier, link.sbmp_multiplier);
    #[expect(clippy::float_cmp, reason = "a factor that was written as 1, or is absent")]
    let none = first == 1.0 && second == 1.0;
    (!none).then(|| {
        explained(
            "RTT multiplied twice",
            format!(
                "muPlacer multiplies the round trip by network.edge-cloud-rtt-multiplier and again by \
                 optimizer.sbmp.edge-cloud-rtt-multiplier: it would compute with {} x {} x {} = {}. Here the measured round trip of {} \
                 counts once. If a call takes longer than a round trip, and that was measured, put the rest into the \
                 services' `hops.remote`.",
                show_micros(facts.link.reference_rtt),
                short(first),
                short(second),
                show_micros(facts.link.reference_rtt * first * second),
                show_micros(facts.link.rtt),
            ),
        )
    })
}

fn network_price(facts: &Facts<'_>) -> Option<Explained> {
    let (memory, network) = (facts.config.cloud.memory_gb_hour, facts.config.traffic_gb);
    (memory.to_bits() != network.to_bits()).then(|| {
        explained(
            "memory price used for the network",
            format!(
                "muPlacer reads cloud-area.cost.memory ({memory}) as the price of a GB of traffic and never reads \
                 cloud-area.cost.network. Here the network's own price, {network} a GB, is used, so costs differ from \
                 muPlacer's."
            ),
        )
    })
}

fn locked(facts: &Facts<'_>) -> Option<Explained> {
    let locked = facts.config.app.locked.as_ref()?;
    let names: Vec<&str> = locked.services.iter().map(String::as_str).collect();
    let place = if locked.key == "optimizer.sbmp.locked" {
        "muPlacer looks for `locked` below `optimizer`, not below `optimizer.sbmp`, so this list does nothing there. Moved to \
         where it looks, a list of ids would end it: it wants a vector with a 0 or 1 for each service and the user"
    } else {
        "muPlacer wants a vector with a 0 or 1 for each service and the user here; a list of ids would end it"
    };
    Some(explained(
        "`locked` is not read as written",
        format!(
            "{place}. Here what was meant is done: {} `pin: cloud`.",
            if names.is_empty() {
                "no service gets".to_owned()
            } else {
                format!(
                    "{} get{}",
                    listed(&names),
                    if names.len() == 1 { "s" } else { "" }
                )
            }
        ),
    ))
}

fn units(facts: &Facts<'_>) -> Option<Explained> {
    let config = facts.config;
    let quantile = &config.quantile;
    let times: [(&str, Option<&Time>); 5] = [
        ("network.edge-cloud-rtt-ms", Some(&config.link.rtt)),
        ("slo.offload-delay-threshold", Some(&config.band.offload_above)),
        (
            "slo.unoffload-delay-threshold",
            Some(&config.band.unoffload_below),
        ),
        (
            "slo.offload-delay-quantile-threshold",
            quantile.offload_above.as_ref(),
        ),
        (
            "slo.unoffload-delay-quantile-threshold",
            quantile.unoffload_below.as_ref(),
        ),
    ];
    let mut sentences = Vec::new();
    for (key, time) in times {
        let Some(time) = time else { continue };
        if !time.suffix && key.ends_with("-ms") {
            sentences.push(format!(
                "{key} = {} is {} to muPlacer, whatever the key's name says; here it is {}, as the name says. If seconds were \
                 meant, write {}s.",
                time.text,
                show_micros(time.micros),
                show_micros(time.bare_as_millis()),
                time.text,
            ));
        } else if !time.suffix {
            sentences.push(format!(
                "{key} = {} is {}, here as well.",
                time.text,
                show_micros(time.micros)
            ));
        }
        if !time.whole {
            sentences.push(format!(
                "{key} = {} has a fraction, on which muPlacer ends.",
                time.text
            ));
        }
    }
    if !config.link.cloud_to_edge.whole {
        sentences.push(format!(
            "network.cloud-edge-bps = {} has a fraction, on which muPlacer ends.",
            config.link.cloud_to_edge.text
        ));
    }
    (!sentences.is_empty()).then(|| {
        explained(
            "times without a unit are seconds",
            format!(
                "a number without ms, s, m or h is in seconds. {}",
                sentences.join(" ")
            ),
        )
    })
}

fn missing_requests(facts: &Facts<'_>) -> Option<Explained> {
    let lacking = named(facts, |instance| instance.workload.cpu.is_none());
    (!lacking.is_empty()).then(|| {
        explained(
            "missing CPU requests",
            format!(
                "{}: no container requests CPU. muPlacer divides by the request: it gets 1.8e308 replicas, and costs that hide \
                 all others. Here replicas stay at their minimum, and their CPU is free: add a request, or the placement \
                 counts them too cheap.",
                listed(&lacking)
            ),
        )
    })
}

fn thresholds(facts: &Facts<'_>) -> Option<Explained> {
    let differs = |instance: &Instance| {
        instance.autoscaler.is_some() && (instance.threshold - REFERENCE_THRESHOLD).abs() > 1e-9
    };
    let others = named(facts, differs);
    (!others.is_empty()).then(|| {
        explained(
            "thresholds never reach the strategy",
            format!(
                "{}: the autoscaler's threshold is not 60 %, but muPlacer's strategies always compute replicas with 60 %, because \
                 the threshold is handed over under a name that they do not read. Here each instance has its own.",
                listed(&others)
            ),
        )
    })
}

fn quantile(facts: &Facts<'_>) -> Option<Explained> {
    let quantile = &facts.config.quantile;
    let above = quantile
        .offload_above
        .as_ref()
        .or(quantile.unoffload_below.as_ref())?;
    let mean = &facts.config.band.offload_above;
    let level = quantile.level.map_or_else(
        || "the quantile".to_owned(),
        |level| format!("the {level} quantile"),
    );
    let text = if above.micros >= OUT_OF_REACH * mean.micros {
        format!(
            "{} for {level} is meant to switch it off, but it does not: muPlacer decides a second time, on newer data, whether \
             the mean or the quantile drives an action. If the mean has come back into its band meanwhile, the quantile drives \
             it, the target becomes as large as that threshold, and an offload removes most of the edge. Here the mean alone \
             has a target.",
            above.text
        )
    } else {
        format!(
            "{} bounds {level}. A problem has one target, the mean's, and the quantile moves with it; what a placement does to \
             quantiles is checked when it runs (`gma run --statistic`). To plan for the quantile, set `targetDelay` to the mean \
             at which the quantile holds.",
            above.text
        )
    };
    Some(explained("quantile thresholds", text))
}

/// muPlacer takes the user's index from the ids in their order, with a test that skips ids: replayed here.
fn ids(facts: &Facts<'_>) -> Option<Explained> {
    let config = facts.config;
    if !config.app.explicit_ids {
        return None;
    }
    let user = config.app.services.iter().fold(0, |user, service| {
        if service.id > user {
            service.id.saturating_add(1)
        } else {
            user
        }
    });
    let shared = config.app.services.iter().find(|service| service.id == user);
    let dense = {
        let mut ids: Vec<u32> = config.app.services.iter().map(|service| service.id).collect();
        ids.sort_unstable();
        ids.iter().zip(0..).all(|(id, position)| *id == position)
    };
    let consequence = match shared {
        Some(service) => format!(
            "With these ids it gives the users the index {user}, which is that of `{}`, so that its traffic and theirs are mixed",
            service.name
        ),
        None if !dense => "These ids have gaps, for which it makes services that do not exist".to_owned(),
        None => "These ids are safe; an odd number of services is not".to_owned(),
    };
    Some(explained(
        "explicit ids",
        format!(
            "muPlacer computes the users' index from the ids, with a slip. {consequence}. Here services are known by name."
        ),
    ))
}

fn minimum(facts: &Facts<'_>) -> Option<Explained> {
    let some = facts
        .instances
        .iter()
        .filter_map(|instances| instances.edge.as_ref())
        .any(|edge| edge.min_replicas > 0);
    some.then(|| {
        explained(
            "minimum replicas at the edge",
            "muPlacer starts at least minReplicas at the edge but does not count them, so that small services look free there. \
             Here they cost what they request."
                .to_owned(),
        )
    })
}

fn own_time(facts: &Facts<'_>) -> Option<Explained> {
    let services = &facts.config.app.services;
    let measured = |name: &str| {
        facts
            .metrics
            .services
            .get(name)
            .is_some_and(|measured| measured.own_time.is_some())
    };
    let lacking: Vec<&str> = services
        .iter()
        .map(|service| service.name.as_str())
        .filter(|name| !measured(name))
        .collect();
    (!lacking.is_empty()).then(|| {
        explained(
            "time inside services",
            format!(
                "muPlacer measures none and takes 0, so that its delay is the network's alone; so it is here for {}. With a \
                 `measuredDelay` only differences between placements matter. If an instance at the edge is slower than in the \
                 cloud, give both in `ownTime` (in a metrics file: services.NAME.ownTime, for both).",
                listed(&lacking)
            ),
        )
    })
}

fn standby() -> Explained {
    explained(
        "standby",
        "muPlacer's model sends every call to the instance at the edge where there is one. Here 1 % of the calls stay on the \
         cloud, which is what the controller's weights do. For muPlacer's routing write `standby: {form: failover}`."
            .to_owned(),
    )
}

/// Services with an instance for which something holds, with the area.
fn named(facts: &Facts<'_>, holds: impl Fn(&Instance) -> bool) -> Vec<String> {
    let mut named = Vec::new();
    for (service, instances) in facts.config.app.services.iter().zip(facts.instances) {
        let cloud = holds(&instances.cloud);
        let edge = instances.edge.as_ref().is_some_and(&holds);
        match (cloud, edge) {
            (true, true) => named.push(service.name.clone()),
            (true, false) => named.push(format!("{} (cloud)", service.name)),
            (false, true) => named.push(format!("{} (edge)", service.name)),
            (false, false) => {}
        }
    }
    named
}

/// Names in a sentence.
pub(super) fn listed<S: AsRef<str>>(names: &[S]) -> String {
    let shown: Vec<&str> = names.iter().take(NAMED).map(AsRef::as_ref).collect();
    let more = names.len().saturating_sub(NAMED);
    if more > 0 {
        format!("{} and {more} more", shown.join(", "))
    } else {
        shown.join(", ")
    }
}
