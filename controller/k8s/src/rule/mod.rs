//! `DestinationRule`s: which one is in force for a host, whether it may be written, and the exact body.
//!
//! ```text
//! rules of the mesh --object--> hosts, owners of each field
//!                   --winner--> for each caller's namespace, the rules that istiod merges
//!                   --shape---> subsets, ports and other blocks that would hide ours
//! routes, areas, reported localities --values--> what is to be in force
//! all of it --body--> a server-side-apply body, or [`Held`] with the reason and the YAML that ends it
//! ```
//!
//! A service has one rule for all its callers, in its own namespace; a caller's namespace has one only where the user made
//! it. Bodies name leaves that are ours or nobody's. What another manager owns is left out and stays as it is; where that
//! is a leaf without which the weights do not hold, the service is held. Nothing is ever forced.
//!
//! An area is written by those of its patterns that cover a locality which proxies have reported for this very service.
//! Weights on a name that no endpoint has are a total outage, so a cloud without one is held. The pattern is written and
//! not the reported localities: then istiod splits the area's weight by the endpoints of each zone, and a new zone is
//! not left out until the next write.

mod body;
mod object;
mod owners;
mod read;
mod shape;
#[cfg(test)]
mod tests;
mod values;
mod winner;

use std::collections::{BTreeMap, BTreeSet};

use gma_core::cluster::{Unroutable, Weights};
use gma_core::ids::{AreaName, ServiceName};
use gma_core::routing::Steering;
use serde_json::Value;

pub use body::{Release, release};
pub use object::{ObjectError, Rule};
pub use read::{in_force, says};

use crate::locality::{AreaMap, Locality};
use crate::settings::service_name;

/// Field manager of everything that is written.
pub const MANAGER: &str = "gma";
/// Kind and version of what is written; the others that istiod serves have the same schema.
pub const API_VERSION: &str = "networking.istio.io/v1";

/// Every rule that istiod sees.
#[derive(Clone, Debug, Default)]
pub struct Mesh {
    /// The mesh's root namespace, usually `istio-system`.
    pub root_namespace: String,
    /// The rules of all namespaces.
    pub rules: Vec<Rule>,
}

/// Where a locality belongs.
#[derive(Clone, Copy, Debug)]
pub struct Areas<'a> {
    /// The cloud.
    pub cloud: &'a AreaName,
    /// Localities of the cloud and the edges.
    pub map: &'a AreaMap,
}

/// What is wanted of a service.
#[derive(Clone, Copy, Debug)]
pub struct Order<'a> {
    /// Its host, `service.namespace.svc.domain`.
    pub host: &'a ServiceName,
    /// Its namespace.
    pub namespace: &'a str,
    /// Namespaces of the proxies that call it, gateways included; without any there is nothing to write.
    pub callers: &'a BTreeSet<String>,
    /// A proxy that calls it and has no locality, where there is one.
    pub unlocated_caller: Option<&'a str>,
    /// Localities that proxies have reported for its endpoints in the last 10 minutes.
    pub reported: &'a BTreeSet<Locality>,
    /// By caller area, the weights over areas.
    pub routes: &'a BTreeMap<AreaName, Weights>,
    /// The object on whose behalf it is written, `namespace/name`.
    pub object: &'a str,
}

/// What to write for a service.
#[derive(Clone, Debug, PartialEq)]
pub struct Written {
    /// One body for each rule that wins for some caller.
    pub writes: Vec<Write>,
    /// What moves the calls.
    pub steering: Steering,
}

/// A body for server-side apply by the raw API, field manager [`MANAGER`], never forced.
#[derive(Clone, Debug, PartialEq)]
pub struct Write {
    /// Namespace of the rule.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Whether there is none yet.
    pub creates: bool,
    /// The body.
    pub body: Value,
}

/// Why nothing is written for a service.
#[derive(Clone, Debug, PartialEq)]
pub struct Held {
    /// The reason, for the decision machine.
    pub why: Unroutable,
    /// What ends it; YAML where a rule does.
    pub fix: String,
}

// === impl Mesh ===

impl Mesh {
    /// The rules for a host in which fields are ours.
    pub fn ours(&self, host: &ServiceName) -> impl Iterator<Item = &Rule> {
        self.rules
            .iter()
            .filter(move |rule| rule.host == host.as_str() && rule.is_ours())
    }
}

// === impl Held ===

impl Held {
    fn shape(what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            why: Unroutable::RuleShape { what: what.into() },
            fix: fix.into(),
        }
    }
}

// === free functions ===

/// The bodies that put a service's routes in force.
///
/// # Errors
/// [`Held`] where they can't be, or must not.
pub fn write(mesh: &Mesh, areas: Areas<'_>, order: &Order<'_>) -> Result<Written, Held> {
    let values = values::values(areas, order)?;
    let mut targets: BTreeMap<(&str, &str), winner::Winner<'_>> = BTreeMap::new();
    let mut create = false;
    for caller in order.callers {
        match winner::of(mesh, order, caller)? {
            Some(winner) => {
                shape::check(&winner, order)?;
                let target = winner.target();
                targets.insert((&target.namespace, &target.name), winner);
            }
            None => create = true,
        }
    }
    let mut writes = Vec::new();
    if create {
        winner::free_name(mesh, order)?;
        writes.push(body::create(order, &values.policy));
    }
    for winner in targets.values() {
        writes.push(body::apply(winner.target(), order, &values.policy)?);
    }
    Ok(Written {
        writes,
        steering: values.steering,
    })
}

/// Name of the rule that is created for a host.
fn created_name(host: &ServiceName) -> String {
    format!("{MANAGER}-{}", service_name(host))
}
