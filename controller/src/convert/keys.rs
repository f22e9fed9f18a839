//! Every key that muPlacer's configuration can hold, and what becomes of it. A key that is in no line here is unknown and
//! is named with the key that looks most like it.

use std::collections::BTreeMap;

use serde_norway::Value;

use super::node::{Findings, Node, join, kind_of, one_line, scalar_text};

/// What becomes of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It goes into the problem: where it is read, the report is told the field.
    Mapped,
    /// It does not, and why.
    Dropped(&'static str),
}

use Fate::{Dropped, Mapped};

const UNUSED: &str = "muPlacer does not use it either";
const QUANTILE: &str =
    "an edge has one target, and the file's is the mean: see the explanation of the quantile";
const SEARCH: &str = "it bounds muPlacer's search; `gma plan` has a budget of evaluations instead";
const TRACES: &str =
    "muPlacer does not use it either: its connector asks for a key of another name and writes no traces";
const QUERIES: &str =
    "a problem holds measured values, not where they come from; it is used in the queries of this report";

/// The keys below `spec`, each as a path; `[]` stands for any entry of a list.
pub(super) const KEYS: &[(&str, Fate)] = &[
    (
        "telemetry.sync-period",
        Dropped("a problem is one moment; the controller looks twice a second"),
    ),
    (
        "telemetry.stabilization-window",
        Dropped("a problem is one moment; the controller verifies a move for 15 to 60 s and then waits 15 s"),
    ),
    ("telemetry.query-period", Dropped(QUERIES)),
    (
        "telemetry.prometheus-url",
        Dropped("nothing is fetched during a conversion: put measured values into --metrics FILE"),
    ),
    ("slo.offload-delay-threshold", Mapped),
    ("slo.unoffload-delay-threshold", Mapped),
    ("slo.offload-delay-quantile-threshold", Dropped(QUANTILE)),
    ("slo.unoffload-delay-quantile-threshold", Dropped(QUANTILE)),
    ("slo.delay-quantile", Dropped(QUANTILE)),
    ("cloud-area.cluster", Mapped),
    (
        "cloud-area.context",
        Dropped("a problem is solved without a cluster"),
    ),
    ("cloud-area.pod-cidr-regex", Dropped(UNUSED)),
    ("cloud-area.cost.cpu", Mapped),
    ("cloud-area.cost.memory", Mapped),
    ("cloud-area.cost.network", Mapped),
    ("cloud-area.istio.istio-ingress-source-app", Dropped(UNUSED)),
    ("cloud-area.istio.istio-ingress-namespace", Dropped(UNUSED)),
    ("cloud-area.istio.istio-eastwest-source-app", Dropped(UNUSED)),
    ("cloud-area.istio.istio-eastwest-namespace", Dropped(UNUSED)),
    ("edge-area.cluster", Mapped),
    (
        "edge-area.context",
        Dropped("a problem is solved without a cluster"),
    ),
    ("edge-area.pod-cidr-regex", Dropped(QUERIES)),
    ("edge-area.cost.cpu", Mapped),
    ("edge-area.cost.memory", Mapped),
    (
        "edge-area.cost.network",
        Dropped(
            "the model charges traffic from the cloud to the edge (cloud-area.cost.network), as muPlacer's does; this price is read by neither",
        ),
    ),
    ("edge-area.istio.istio-ingress-source-app", Dropped(QUERIES)),
    ("edge-area.istio.istio-ingress-namespace", Dropped(QUERIES)),
    ("edge-area.istio.istio-eastwest-source-app", Dropped(UNUSED)),
    ("edge-area.istio.istio-eastwest-namespace", Dropped(UNUSED)),
    (
        "edge-area.default-resource-scaling",
        Dropped(
            "CPU use follows from CPU time per request and the edge's own rate; to plan several edges, add an entry to `edges` for each",
        ),
    ),
    ("network.netinfo-file", Mapped),
    (
        "network.net-prober-url",
        Dropped(
            "nothing is fetched during a conversion: put what the prober answers into --metrics FILE, under `link`",
        ),
    ),
    ("network.cloud-edge-bps", Mapped),
    (
        "network.edge-cloud-bps",
        Dropped(
            "the model counts the answers, which travel from the cloud to the edge; muPlacer does not use it either",
        ),
    ),
    ("network.edge-cloud-rtt-ms", Mapped),
    (
        "network.edge-cloud-rtt-multiplier",
        Dropped("the round trip counts once: see its explanation"),
    ),
    (
        "optimizer.connector",
        Dropped("which strategy places is chosen on the command line: `gma plan --strategy`"),
    ),
    (
        "optimizer.max-delay-reduction",
        Dropped("it bounds one action of a running controller; a plan goes to the target at once"),
    ),
    (
        "optimizer.max-delay-increase",
        Dropped("it bounds one action of a running controller; a plan goes to the target at once"),
    ),
    ("optimizer.locked", Mapped),
    ("optimizer.sbmp.locked", Mapped),
    ("optimizer.sbmp.expanding-depth", Dropped(SEARCH)),
    ("optimizer.sbmp.max-sgs", Dropped(SEARCH)),
    ("optimizer.sbmp.max-traces", Dropped(SEARCH)),
    ("optimizer.sbmp.cache-ttl", Dropped(SEARCH)),
    (
        "optimizer.sbmp.sgs-builder",
        Dropped("which strategy places is chosen on the command line: `gma plan --strategy`"),
    ),
    (
        "optimizer.sbmp.overshooting-avoidance-multiplier",
        Dropped(
            "it stops muPlacer's search short of the target; the solver takes the cheapest placement that meets the target itself",
        ),
    ),
    (
        "optimizer.sbmp.edge-cloud-rtt-multiplier",
        Dropped("the round trip counts once: see its explanation"),
    ),
    ("optimizer.sbmp.input-trace-file-npy", Dropped(TRACES)),
    ("optimizer.sbmp.output-trace-file-npy", Dropped(TRACES)),
    (
        "optimizer.sbmp.input-binary-trace-file-npy",
        Dropped("candidates come from the call graph itself, not from recorded traces"),
    ),
    (
        "app.namespace",
        Dropped(
            "services are named as in the configuration, without it; it is used in the queries of this report",
        ),
    ),
    (
        "app.explicit-service-id",
        Dropped("services are known by name; it only says how `locked` is read"),
    ),
    ("app.services[].name", Mapped),
    (
        "app.services[].id",
        Dropped("services are known by name; it only says which service `locked` means"),
    ),
    ("app.services[].instances.cloud-yamls", Mapped),
    ("app.services[].instances.edge-yamls", Mapped),
];

/// Keys beside `spec`.
const BESIDE_SPEC: [&str; 3] = ["apiVersion", "kind", "metadata"];
/// How the report shows a key without a value.
pub(super) const EMPTY: &str = "(empty)";
/// Unknown keys that are named; more are counted.
const MAX_UNKNOWN: usize = 50;

/// A key that muPlacer does not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unknown {
    /// Its path.
    pub key: String,
    /// The known key that looks most like it.
    pub nearest: String,
}

/// What a configuration holds.
#[derive(Debug, Default)]
pub(super) struct Present {
    /// Keys of [`KEYS`] with their values; of a key in a list, all of them.
    pub(super) known: BTreeMap<&'static str, Vec<String>>,
    /// Keys beside `spec`, which nobody uses.
    pub(super) beside: Vec<(String, String)>,
    /// The others.
    pub(super) unknown: Vec<Unknown>,
    /// Unknown ones that are not in the list for its length.
    pub(super) more_unknown: usize,
}

// === impl Present ===

impl Present {
    /// Looks at each key of a configuration. A text where a mapping belongs is an error.
    pub(super) fn of(document: &Node<'_>, findings: &mut Findings) -> Self {
        let mut present = Self::default();
        let Some(Value::Mapping(top)) = document.value() else {
            let is = document.value().map_or("empty", kind_of);
            findings.error(
                document,
                format!("is {is}; muPlacer's configuration is a mapping with the key `spec`"),
            );
            return present;
        };
        for (key, value) in top {
            let name = key_text(key);
            if name == "spec" {
                present.walk(document, value, "", "", findings);
            } else if let (Value::Mapping(metadata), "metadata") = (value, name.as_str()) {
                let inner = metadata
                    .iter()
                    .map(|(key, value)| (join("metadata", &key_text(key)), show(value)));
                present.beside.extend(inner);
            } else if BESIDE_SPEC.contains(&name.as_str()) {
                present.beside.push((name, show(value)));
            } else {
                present.unknown(name.clone(), || nearest_at_top(&name));
            }
        }
        if document.key("spec").value().is_none() {
            findings.error(
                document.key("spec"),
                "is missing: muPlacer's configuration has all its keys below it",
            );
        }
        present
    }

    /// `path` is what is shown, `pattern` the same with `[]` for each position.
    fn walk(
        &mut self,
        document: &Node<'_>,
        value: &Value,
        path: &str,
        pattern: &str,
        findings: &mut Findings,
    ) {
        if let Some((key, _)) = KEYS.iter().find(|(key, _)| *key == pattern) {
            self.known.entry(key).or_default().push(show(value));
            return;
        }
        let item_pattern = format!("{pattern}[]");
        match value {
            Value::Null => {}
            Value::Mapping(mapping) if !is_list(pattern) => {
                for (key, value) in mapping {
                    let name = key_text(key);
                    let (path, pattern) = (join(path, &name), join(pattern, &name));
                    if is_known(&pattern) {
                        self.walk(document, value, &path, &pattern, findings);
                    } else {
                        self.unknown(path, || nearest(&pattern).to_owned());
                    }
                }
            }
            Value::Sequence(items) if is_list(pattern) => {
                for (i, item) in items.iter().enumerate() {
                    self.walk(document, item, &format!("{path}[{i}]"), &item_pattern, findings);
                }
            }
            other => {
                let wanted = if is_list(pattern) { "list" } else { "mapping" };
                let at = if path.is_empty() {
                    "spec".to_owned()
                } else {
                    format!("spec.{path}")
                };
                findings.error(
                    format!("{document}: {at}"),
                    format!("is {}; a {wanted} belongs here", kind_of(other)),
                );
            }
        }
    }

    fn unknown(&mut self, key: String, nearest: impl FnOnce() -> String) {
        if self.unknown.len() < MAX_UNKNOWN {
            let nearest = nearest();
            self.unknown.push(Unknown { key, nearest });
        } else {
            self.more_unknown += 1;
        }
    }
}

// === free functions ===

/// The known key that looks most like `pattern`: as a whole, and in its last part, which is where people slip.
pub(super) fn nearest(pattern: &str) -> &'static str {
    let last = |key: &str| key.rsplit('.').next().unwrap_or_default().to_owned();
    let likeness = |key: &str| {
        strsim::normalized_damerau_levenshtein(pattern, key)
            + strsim::normalized_damerau_levenshtein(&last(pattern), &last(key))
    };
    KEYS.iter()
        .map(|(key, _)| *key)
        .max_by(|a, b| likeness(a).total_cmp(&likeness(b)))
        .unwrap_or_default()
}

/// The same for a key beside `spec`, where keys are found that belong below it.
fn nearest_at_top(name: &str) -> String {
    if is_known(name) {
        return join("spec", name);
    }
    let top = std::iter::once("spec").chain(BESIDE_SPEC);
    let nearest = top.max_by(|a, b| strsim::jaro_winkler(name, a).total_cmp(&strsim::jaro_winkler(name, b)));
    nearest.unwrap_or_default().to_owned()
}

/// Whether it is a key, or on the way to one.
fn is_known(pattern: &str) -> bool {
    KEYS.iter().any(|(key, _)| {
        key.strip_prefix(pattern)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    })
}

fn is_list(pattern: &str) -> bool {
    !pattern.is_empty() && {
        KEYS.iter().any(|(key, _)| {
            key.strip_prefix(pattern)
                .is_some_and(|rest| rest.starts_with("[]"))
        })
    }
}

/// A value in a few words.
fn show(value: &Value) -> String {
    match value {
        Value::Sequence(items) => {
            let items: Vec<String> = items.iter().map(show).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Null => EMPTY.to_owned(),
        other => match scalar_text(other) {
            Some(text) if text.is_empty() => "\"\"".to_owned(),
            Some(text) => text,
            None => kind_of(other).to_owned(),
        },
    }
}

fn key_text(key: &Value) -> String {
    scalar_text(key).map_or_else(|| kind_of(key).to_owned(), |text| one_line(&text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn present(text: &str) -> (Present, Findings) {
        let value: Value = serde_norway::from_str(text).unwrap();
        let mut findings = Findings::default();
        let present = Present::of(&Node::document("c.yaml", String::new(), &value), &mut findings);
        (present, findings)
    }

    #[test]
    fn a_misspelt_key_is_named_with_its_neighbour() {
        for (wrong, right) in [
            ("slo.ofload-delay-threshold", "slo.offload-delay-threshold"),
            ("slo.delay_quantile", "slo.delay-quantile"),
            ("network.edge-cloud-rtt", "network.edge-cloud-rtt-ms"),
            ("telemetry.max-traces", "optimizer.sbmp.max-traces"),
            (
                "app.services[].instances.cloud-yaml",
                "app.services[].instances.cloud-yamls",
            ),
        ] {
            assert_eq!(nearest(wrong), right, "{wrong}");
        }
    }

    #[test]
    fn known_and_unknown_keys_are_told_apart() {
        let (present, findings) = present(
            "apiVersion: x\nspec: {slo: {delay-quantile: 0.9, tail: {a: 1, b: 2}}, app: {services: [{id: 0}, {id: 1, colour: red}]}}",
        );
        assert!(findings.errors.is_empty(), "{:?}", findings.errors);
        assert_eq!(present.beside, [("apiVersion".to_owned(), "x".to_owned())]);
        assert_eq!(present.known["app.services[].id"], ["0", "1"]);
        let unknown: Vec<&str> = present
            .unknown
            .iter()
            .map(|unknown| unknown.key.as_str())
            .collect();
        assert_eq!(unknown, ["slo.tail", "app.services[1].colour"]);
    }

    #[test]
    fn what_has_the_wrong_shape_is_an_error_at_its_path() {
        for (text, at) in [
            ("spec: {slo: 5}", "c.yaml: spec.slo"),
            ("spec: {app: {services: {a: 1}}}", "c.yaml: spec.app.services"),
            ("spec: {app: {services: [a]}}", "c.yaml: spec.app.services[0]"),
            ("[1]", "c.yaml"),
            ("a: 1", "c.yaml: spec"),
        ] {
            let (_, findings) = present(text);
            assert_eq!(findings.errors[0].at, at, "{text}");
        }
    }
}
