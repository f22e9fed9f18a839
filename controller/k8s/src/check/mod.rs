//! A preflight and a doctor: what of a cluster keeps an `EdgePlacement` from working, each with what ends it.
//!
//! ```text
//! API server --look--> lists as they are, and a finding for each that can't be had
//! lists, controller's state --examine--> for each EdgePlacement: Inputs (rules held, instances refused) --check--> findings
//! ```
//!
//! Only `look` asks a server; nothing is written. A finding is of one object, or of one cause where many objects share it: a
//! thousand pods without a proxy are one finding that names three. What could not be listed is never taken for absent.

mod controller;
mod definition;
mod examine;
mod filter;
mod instances;
mod look;
mod places;
mod read;
mod rights;
mod services;
#[cfg(test)]
mod tests;
mod told;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use gma_core::ids::{AreaName, ServiceName};
use serde::Serialize;
use serde_json::Value;

use crate::derive::{Note, Refused};
use crate::locality::Locality;
use crate::rule::{Areas, Held};

pub use examine::{Application, Report, Scope};
pub use look::examine;
pub use told::Told;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Severity {
    /// Works, and is worth knowing.
    Info,
    /// Works in part, or not for long.
    Warning,
    /// Keeps something from working.
    Error,
}

/// Something that was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// Of which object, e.g. `Node edge-1`.
    pub object: String,
    /// What is wrong.
    pub what: String,
    /// What ends it.
    pub fix: String,
}

/// What is known of a cluster, for one `EdgePlacement` or for an application that has none yet.
#[derive(Clone, Debug)]
pub struct Inputs<'a> {
    /// The object's namespace: the application's.
    pub namespace: &'a str,
    /// The mesh's root namespace, usually `istio-system`.
    pub root_namespace: &'a str,
    /// The cloud's name and the localities of the areas; none: there is no object yet.
    pub areas: Option<Areas<'a>>,
    /// All nodes; none: they are not known.
    pub nodes: Option<&'a [Node]>,
    /// Namespaces that Liqo offloads, with their `podOffloadingStrategy`.
    pub offloaded: &'a BTreeMap<String, String>,
    /// The controller's namespace, usually `gma-system`.
    pub own_namespace: &'a str,
    /// Pods of the application's namespace, and the gateways' of the edges; none: they are not known.
    pub pods: Option<&'a [Pod]>,
    /// Services of the application's namespace, as the API server gives them.
    pub services: &'a [Value],
    /// `WasmPlugin`s of all namespaces, as the API server gives them; none: they are not known.
    pub plugins: Option<&'a [Value]>,
    /// `Sidecar`s of the application's namespace, as the API server gives them.
    pub sidecars: &'a [Value],
    /// Autoscalers of the application's namespace, as the API server gives them.
    pub autoscalers: &'a [Value],
    /// Whether `metrics.k8s.io` answers.
    pub has_metrics: bool,
    /// Services whose rule can't be written.
    pub held: &'a BTreeMap<ServiceName, Held>,
    /// Services that can't have an instance at an edge.
    pub refused: &'a BTreeMap<(ServiceName, AreaName), Refused>,
    /// What is to know of instances.
    pub notes: &'a BTreeMap<(ServiceName, AreaName), Vec<Note>>,
    /// Pods, `namespace/name`, whose filter has reported in the last minute; none: no controller was asked.
    pub heard: Option<&'a BTreeSet<String>>,
    /// Rights that the controller lacks, e.g. `patch deployments.apps in shop`.
    pub denied: &'a BTreeSet<String>,
}

/// A node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// By its labels.
    pub locality: Locality,
    /// Whether its condition Ready is true.
    pub is_ready: bool,
    /// Whether it stands for another cluster, as Liqo's do.
    pub is_virtual: bool,
}

/// A pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pod {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its node; none: it is not scheduled.
    pub node: Option<String>,
    /// Whether it is Ready.
    pub is_ready: bool,
    /// Whether it has a proxy of the mesh: a container `istio-proxy`.
    pub has_proxy: bool,
    /// Istio's version, major and minor, by the tag of the proxy's image; none: it does not say.
    pub proxy_version: Option<(u32, u32)>,
    /// The edge whose gateway it is.
    pub gateway_of: Option<AreaName>,
}

// === impl Severity ===

impl Severity {
    /// A word for people.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

// === impl Finding ===

impl Finding {
    fn error(object: impl Into<String>, what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self::new(Severity::Error, object, what, fix)
    }

    fn warning(object: impl Into<String>, what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self::new(Severity::Warning, object, what, fix)
    }

    fn info(object: impl Into<String>, what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self::new(Severity::Info, object, what, fix)
    }

    fn new(
        severity: Severity,
        object: impl Into<String>,
        what: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self {
            severity,
            object: object.into(),
            what: what.into(),
            fix: fix.into(),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: {}: {}; {}",
            self.severity.as_str(),
            self.object,
            self.what,
            self.fix
        )
    }
}

// === impl Pod ===

impl Pod {
    fn path(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }
}

// === free functions ===

/// Everything that is found, the worst first; the same inputs give the same list.
pub fn check(inputs: &Inputs<'_>) -> Vec<Finding> {
    let mut findings = places::check(inputs);
    findings.extend(filter::check(inputs));
    findings.extend(services::check(inputs));
    sorted(findings)
}

/// The worst first, each once.
fn sorted(mut findings: Vec<Finding>) -> Vec<Finding> {
    findings.sort_by(|a, b| {
        let worst = b.severity.cmp(&a.severity);
        worst.then_with(|| (&a.object, &a.what).cmp(&(&b.object, &b.what)))
    });
    findings.dedup();
    findings
}

/// Exit code of a program that says the findings: 0 without one that is worse than an info, 3 with a warning, 4 with an
/// error. 1 and 2 are for a check that was not made: no cluster answered, or the arguments were wrong.
pub fn exit_code(findings: &[Finding]) -> u8 {
    match findings.iter().map(|finding| finding.severity).max() {
        None | Some(Severity::Info) => 0,
        Some(Severity::Warning) => 3,
        Some(Severity::Error) => 4,
    }
}

/// Names, of which the first three are written out.
fn named(names: &[String]) -> String {
    const SHOWN: usize = 3;
    let shown = names.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

fn text<'a>(object: &'a Value, pointer: &str) -> Option<&'a str> {
    object.pointer(pointer).and_then(Value::as_str)
}

/// `namespace/name`, or the name of what has no namespace.
fn path(object: &Value) -> String {
    let name = text(object, "/metadata/name").unwrap_or_default();
    match text(object, "/metadata/namespace") {
        Some(namespace) => format!("{namespace}/{name}"),
        None => name.to_owned(),
    }
}
