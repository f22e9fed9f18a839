//! Fills the report: each key with its field and values, or with the reason why it is left out; and what the YAMLs gave.

use std::collections::BTreeMap;

use super::build::target;
use super::config::Config;
use super::instances::{Instance, Instances};
use super::keys::{EMPTY, Fate, KEYS, Present};
use super::link::{LinkUsed, Source};
use super::node::one_line;
use super::quantity::{short, show_bits, show_micros};
use super::report::{Dropped, Mapped};
use super::traps::listed;

/// Values of a key in a list that are shown; more are counted.
const SHOWN: usize = 3;

/// What keys became.
#[derive(Default)]
pub(super) struct Ledger {
    pub(super) mapped: Vec<Mapped>,
    pub(super) dropped: Vec<Dropped>,
    /// Why a key that could be mapped is not.
    unmapped: BTreeMap<&'static str, String>,
}

// === impl Ledger ===

impl Ledger {
    /// The ledger of a configuration: each key that it holds is in it once.
    pub(super) fn of(present: &Present, config: &Config, link: &LinkUsed, instances: &[Instances]) -> Self {
        let mut ledger = Self::default();
        ledger.map_objective(present, config);
        ledger.map_areas(present, config);
        ledger.map_link(present, config, link);
        ledger.map_services(present, config, instances);
        for (key, values) in &present.known {
            if ledger.mapped.iter().any(|mapped| mapped.key == *key) {
                continue;
            }
            let fate = KEYS.iter().find(|(known, _)| known == key).map(|(_, fate)| *fate);
            let reason = match (ledger.unmapped.get(key), fate) {
                (Some(reason), _) => reason.clone(),
                (None, Some(Fate::Dropped(reason))) => reason.to_owned(),
                (None, _) => "it is empty".to_owned(),
            };
            ledger.dropped.push(Dropped {
                key: (*key).to_owned(),
                value: several(values),
                reason,
            });
        }
        for (key, value) in &present.beside {
            if key == "metadata.name" && value != EMPTY {
                ledger.mapped.push(Mapped {
                    key: key.clone(),
                    from: one_line(value),
                    field: "metadata.name",
                    to: "unchanged".to_owned(),
                });
                continue;
            }
            ledger.dropped.push(Dropped {
                key: key.clone(),
                value: one_line(value),
                reason: "muPlacer does not use it either".to_owned(),
            });
        }
        ledger
    }

    /// Notes a mapped key, if the configuration holds it.
    fn map(&mut self, present: &Present, key: &'static str, field: &'static str, to: impl Into<String>) {
        if let Some(values) = present.known.get(key) {
            self.mapped.push(Mapped {
                key: key.to_owned(),
                from: several(values),
                field,
                to: one_line(&to.into()),
            });
        }
    }

    fn map_objective(&mut self, present: &Present, config: &Config) {
        let to = |bound: &str| {
            format!(
                "{}, the middle of the band; in an EdgePlacement this is {bound}",
                show_micros(target(config))
            )
        };
        self.map(
            present,
            "slo.offload-delay-threshold",
            "edges[0].targetDelay",
            to("offloadAbove"),
        );
        self.map(
            present,
            "slo.unoffload-delay-threshold",
            "edges[0].targetDelay",
            to("unoffloadBelow"),
        );
    }

    fn map_areas(&mut self, present: &Present, config: &Config) {
        let named = |name: &str, cluster: &str| {
            if name == cluster {
                name.to_owned()
            } else {
                format!("{name} (the label does not tell the areas apart)")
            }
        };
        let (cloud, edge) = (&config.cloud, &config.edge);
        self.map(
            present,
            "cloud-area.cluster",
            "cloud.name",
            named(&cloud.name, &cloud.cluster),
        );
        self.map(
            present,
            "edge-area.cluster",
            "edges[0].name",
            named(&edge.name, &edge.cluster),
        );
        for key in ["cloud-area.context", "edge-area.context"] {
            if present
                .known
                .get(key)
                .is_some_and(|values| values.iter().all(|value| value == "\"\""))
            {
                let why = "a problem is solved without a cluster; muPlacer's kubectl calls fail with an empty context";
                self.unmapped.insert(key, why.to_owned());
            }
        }
        let price = |price: f64| price.to_string();
        self.map(
            present,
            "cloud-area.cost.cpu",
            "cloud.prices.cpuCoreHour",
            price(cloud.cpu_core_hour),
        );
        self.map(
            present,
            "cloud-area.cost.memory",
            "cloud.prices.memoryGBHour",
            price(cloud.memory_gb_hour),
        );
        self.map(
            present,
            "cloud-area.cost.network",
            "edges[0].prices.trafficGB",
            price(config.traffic_gb),
        );
        self.map(
            present,
            "edge-area.cost.cpu",
            "edges[0].prices.cpuCoreHour",
            price(edge.cpu_core_hour),
        );
        self.map(
            present,
            "edge-area.cost.memory",
            "edges[0].prices.memoryGBHour",
            price(edge.memory_gb_hour),
        );
    }

    fn map_link(&mut self, present: &Present, config: &Config, link: &LinkUsed) {
        let (rtt, bits) = (show_micros(link.rtt), show_bits(link.bits));
        if link.rtt_from == Source::NetInfo || link.bits_from == Source::NetInfo {
            self.map(
                present,
                "network.netinfo-file",
                "edges[0].rtt, edges[0].bandwidth",
                format!("{rtt}, {bits}: as for muPlacer, the file's values win over the configuration's"),
            );
        } else if config.link.netinfo.is_some() {
            let why = if link.rtt_from == Source::Metrics && link.bits_from == Source::Metrics {
                "the metrics file has both values"
            } else {
                "there is no such file, or it has no value: see the warnings"
            };
            self.unmapped.insert("network.netinfo-file", why.to_owned());
        }
        let elsewhere = |source: Source| match source {
            Source::Metrics => Some("the metrics file's value wins"),
            Source::NetInfo => Some("the netinfo file's value wins, as for muPlacer"),
            Source::Config => None,
        };
        for (key, field, source, value) in [
            ("network.edge-cloud-rtt-ms", "edges[0].rtt", link.rtt_from, rtt),
            (
                "network.cloud-edge-bps",
                "edges[0].bandwidth",
                link.bits_from,
                bits,
            ),
        ] {
            match elsewhere(source) {
                Some(why) => {
                    self.unmapped.insert(key, format!("{why}: {field} = {value}"));
                }
                None => self.map(present, key, field, value),
            }
        }
    }

    fn map_services(&mut self, present: &Present, config: &Config, instances: &[Instances]) {
        if let Some(locked) = &config.app.locked {
            let names: Vec<&String> = locked.services.iter().collect();
            let to = if names.is_empty() {
                "for none".to_owned()
            } else {
                format!("cloud for {}", listed(&names))
            };
            self.map(present, "optimizer.sbmp.locked", "services[].pin", to.clone());
            self.map(present, "optimizer.locked", "services[].pin", to);
        }
        let count = instances.len();
        let edges = instances
            .iter()
            .filter(|instances| instances.edge.is_some())
            .count();
        self.map(present, "app.services[].name", "services[].name", "unchanged");
        self.map(
            present,
            "app.services[].instances.cloud-yamls",
            "services[].requests, autoscalerThreshold, minReplicas",
            format!("of {count} services, below"),
        );
        self.map(
            present,
            "app.services[].instances.edge-yamls",
            "services[].areas",
            format!("where {edges} services at the edge differ from the cloud, below"),
        );
    }
}

// === free functions ===

/// Values of a key in one line.
fn several(values: &[String]) -> String {
    let shown: Vec<String> = values.iter().take(SHOWN).map(|value| one_line(value)).collect();
    let more = values.len().saturating_sub(SHOWN);
    if more > 0 {
        format!("{}, … ({} values)", shown.join(", "), values.len())
    } else {
        shown.join(", ")
    }
}

/// What the YAMLs gave, a line for each service and area.
pub(super) fn instance_lines(
    config: &Config,
    instances: &[Instances],
    others: &BTreeMap<String, usize>,
) -> Vec<String> {
    let mut lines = Vec::new();
    for (service, instances) in config.app.services.iter().zip(instances) {
        let areas = [
            (&config.cloud.name, Some(&instances.cloud)),
            (&config.edge.name, instances.edge.as_ref()),
        ];
        for (area, instance) in areas {
            let what = instance.map_or_else(|| "nothing: pinned to the cloud".to_owned(), instance_line);
            lines.push(one_line(&format!("{} in {area}: {what}", service.name)));
        }
    }
    let ignored: Vec<String> = others
        .iter()
        .map(|(kind, count)| format!("{count} {kind}"))
        .collect();
    if !ignored.is_empty() {
        lines.push(one_line(&format!("not needed: {}", ignored.join(", "))));
    }
    if instances.iter().any(has_maximum) {
        lines.push("maxReplicas is not in a problem: what bounds an edge is its `capacity`".to_owned());
    }
    lines.push(
        "what the sidecar injector adds to a pod (100m and 128Mi by default) is in no YAML: add it to `requests` to pay for it"
            .to_owned(),
    );
    lines
}

fn has_maximum(instances: &Instances) -> bool {
    let max = |instance: &Instance| {
        instance
            .autoscaler
            .as_ref()
            .is_some_and(|scaler| scaler.max.is_some())
    };
    max(&instances.cloud) || instances.edge.as_ref().is_some_and(max)
}

fn instance_line(instance: &Instance) -> String {
    let workload = &instance.workload;
    let cpu = workload.cpu.map_or_else(
        || "no CPU request".to_owned(),
        |cores| format!("{} cores", short(cores)),
    );
    let memory = workload.memory.map_or_else(
        || "no memory request".to_owned(),
        |bytes| format!("{} GB", short(bytes / 1e9)),
    );
    let replicas = match &instance.autoscaler {
        Some(autoscaler) => format!(
            "{} to {} replicas at {} %",
            autoscaler.min,
            autoscaler
                .max
                .map_or_else(|| "any number of".to_owned(), |max| max.to_string()),
            short(instance.threshold * 100.0)
        ),
        None => format!("{} replicas, no autoscaler", instance.min_replicas),
    };
    let without = if workload.without_cpu.is_empty() || workload.cpu.is_none() {
        String::new()
    } else {
        format!(", of which {} none", listed(&workload.without_cpu))
    };
    format!(
        "{} {}, {cpu}{without}, {memory}, {replicas}",
        workload.kind.name(),
        workload.name
    )
}
