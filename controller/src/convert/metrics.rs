//! The file with what a running muPlacer would measure: `--metrics FILE`. Rates are requests a second as Prometheus
//! answers them; the division by the caller's rate, which gives the call graph, is done here.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use gma_core::units::{BitsPerSecond, Bytes, CpuCores, Micros, Rps};
use serde::Deserialize;

use super::config::ServiceKeys;
use super::error::ConvertError;
use super::files::Files;
use super::node::Findings;
use crate::problem::Text;

/// Part of a service's rate by which its callers' calls may exceed it before that is worth a word: rates come from
/// queries at different moments.
const TOLERANCE: f64 = 0.2;
/// Unknown services that are looked at: for each, all names are compared.
const MAX_UNKNOWN: usize = 50;

/// What was measured. Everything may be left out; what is missing is named in the report.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct Metrics {
    /// The edge's users.
    pub(super) users: Users,
    /// By service.
    pub(super) services: BTreeMap<String, Measured>,
    /// The link between the areas, over what the configuration says.
    pub(super) link: LinkMeasured,
}

/// The edge's users.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct Users {
    /// Requests that they send to the edge's gateway.
    pub(super) requests_per_second: Option<Rps>,
    /// Mean user delay with what runs now.
    pub(super) measured_delay: Option<Text<Micros>>,
    /// Requests from the gateway to each service.
    pub(super) calls_per_second: BTreeMap<String, Rps>,
}

/// A service, over both areas.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct Measured {
    /// Requests that it receives.
    pub(super) requests_per_second: Option<Rps>,
    /// Mean size of its answers.
    pub(super) response_size: Option<Text<Bytes>>,
    /// Cores in use.
    pub(super) cpu_use: Option<Text<CpuCores>>,
    /// Time of a request inside it, without its calls. muPlacer never sets it.
    pub(super) own_time: Option<Text<Micros>>,
    /// Whether it runs at the edge now.
    pub(super) at_edge: bool,
    /// Requests that it sends to each service.
    pub(super) calls_per_second: BTreeMap<String, Rps>,
}

/// The link between the areas.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct LinkMeasured {
    /// Round trip.
    pub(super) rtt: Option<Text<Micros>>,
    /// From the cloud to the edge.
    pub(super) bandwidth: Option<Text<BitsPerSecond>>,
}

/// Reads a metrics file, YAML or JSON.
pub(super) fn read(
    path: &Path,
    services: &[ServiceKeys],
    files: &mut Files,
    findings: &mut Findings,
) -> Result<Metrics, ConvertError> {
    // Through a value first: it refuses a key that is there twice.
    let Some(value) = files.documents(path)?.into_iter().next() else {
        return Ok(Metrics::default());
    };
    let file = path.display().to_string();
    match serde_path_to_error::deserialize(value) {
        Ok(metrics) => {
            check(&file, &metrics, services, findings);
            Ok(metrics)
        }
        Err(error) => {
            findings.error(format!("{file}: {}", error.path()), error.inner().to_string());
            Ok(Metrics::default())
        }
    }
}

fn check(file: &str, metrics: &Metrics, services: &[ServiceKeys], findings: &mut Findings) {
    let names: BTreeSet<&str> = services.iter().map(|service| service.name.as_str()).collect();
    let known = |name: &str| names.contains(name);
    let nearest = |name: &str| {
        let by_likeness = services.iter().max_by(|a, b| {
            strsim::jaro_winkler(name, &a.name).total_cmp(&strsim::jaro_winkler(name, &b.name))
        });
        by_likeness
            .map(|service| service.name.clone())
            .unwrap_or_default()
    };
    let users = (
        "users".to_owned(),
        metrics.users.requests_per_second,
        &metrics.users.calls_per_second,
    );
    let callers = metrics.services.iter().map(|(name, measured)| {
        let at = format!("services.{name}");
        (at, measured.requests_per_second, &measured.calls_per_second)
    });
    let mut named = 0;
    let mut unknown = |at: String, name: &str, findings: &mut Findings| {
        named += 1;
        if named > MAX_UNKNOWN {
            return;
        }
        let near = nearest(name);
        findings.error(
            format!("{file}: {at}"),
            format!("names `{name}`, which is no service of the configuration: did you mean `{near}`?"),
        );
    };
    for name in metrics.services.keys().filter(|name| !known(name)) {
        unknown("services".to_owned(), name, findings);
    }
    let mut called: BTreeMap<&str, f64> = BTreeMap::new();
    for (at, rate, calls) in std::iter::once(users).chain(callers) {
        for (callee, calls) in calls {
            if !known(callee) {
                unknown(format!("{at}.callsPerSecond"), callee, findings);
            }
            *called.entry(callee).or_default() += calls.as_f64();
        }
        if calls.values().any(|calls| calls.as_f64() > 0.0) && rate.is_none_or(|rate| rate.as_f64() <= 0.0) {
            findings.error(
                format!("{file}: {at}.requestsPerSecond"),
                "is missing or 0, but there are calls: calls per request are their quotient, so give it",
            );
        }
    }
    for (name, measured) in &metrics.services {
        let calls = called.get(name.as_str()).copied().unwrap_or(0.0);
        if let Some(rate) = measured.requests_per_second
            && calls > rate.as_f64() * (1.0 + TOLERANCE)
        {
            findings.warn(
                format!("{file}: services.{name}.requestsPerSecond"),
                format!("is {}, but its callers send {calls}: check that both are of the same moment and of both areas", rate.as_f64()),
            );
        }
    }
}
