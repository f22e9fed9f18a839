//! What the services of an application do, in muBench's `workmodel.json`.
//!
//! A model maps each service to its URL, its internal function and its groups of calls. Everything is checked when
//! it is read: a request can then not meet a service that does not exist or a probability that is none.

mod draw;
mod error;
mod function;
mod generate;
mod parse;

use std::collections::BTreeMap;

pub use draw::{Plan, draw, mean_delay};
pub use error::WorkModelError;
pub use function::{Cpu, Delay, Disk, Function, Loader, MAX_RESPONSE_BYTES, Memory, Sizes};
pub use generate::{GenerateError, Params, generate};

/// Route of a service that names none, as muBench's own generator writes it.
pub const DEFAULT_PATH: &str = "/api/v1";

/// A checked application: every called service is in it.
#[derive(Debug, Clone, PartialEq)]
pub struct WorkModel {
    services: BTreeMap<String, Service>,
}

/// One service of the application.
#[derive(Debug, Clone, PartialEq)]
pub struct Service {
    /// Host under which callers reach it, without scheme; a name without a dot is completed by the caller's suffix.
    pub url: String,
    /// Route on that host, starting with a slash.
    pub path: String,
    /// What a request without `bid` does.
    pub behaviour: Behaviour,
    /// What a request with `?bid=NAME` does, by name.
    pub alternatives: BTreeMap<String, Behaviour>,
    /// Delay beside the internal function; not part of muBench.
    pub delay: Option<Delay>,
}

/// What one request makes a service do: the function first, then all groups side by side.
#[derive(Debug, Clone, PartialEq)]
pub struct Behaviour {
    /// Own work.
    pub internal: Function,
    /// Size of the answer.
    pub response: Sizes,
    /// Calls to others.
    pub groups: Vec<Group>,
}

/// Calls that happen one after the other.
#[derive(Debug, Clone, PartialEq)]
pub struct Group {
    /// At most so many of the calls, a new sample for each request.
    pub seq_len: usize,
    /// The candidates.
    pub calls: Vec<Call>,
}

/// A call to another service.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// Name of the callee in the model.
    pub service: String,
    /// How likely it is made once its turn comes, 0 … 1.
    pub probability: f64,
}

// === impl WorkModel ===

impl WorkModel {
    /// The service of that name.
    pub fn get(&self, service: &str) -> Option<&Service> {
        self.services.get(service)
    }

    /// All services, by name.
    pub fn services(&self) -> impl Iterator<Item = (&str, &Service)> {
        self.services
            .iter()
            .map(|(name, service)| (name.as_str(), service))
    }

    /// Direct calls from one service to others, each callee once, over all its behaviours.
    pub fn callees(&self, service: &str) -> Vec<&str> {
        let Some(service) = self.services.get(service) else {
            return Vec::new();
        };
        let behaviours = std::iter::once(&service.behaviour).chain(service.alternatives.values());
        let mut callees: Vec<&str> = behaviours
            .flat_map(|behaviour| &behaviour.groups)
            .flat_map(|group| &group.calls)
            .map(|call| call.service.as_str())
            .collect();
        callees.sort_unstable();
        callees.dedup();
        callees
    }

    /// The first cycle of calls, as the names along it, the first one repeated at the end.
    ///
    /// A cycle is allowed: its probabilities may end it. It is worth a warning, for a cycle of certain calls never ends.
    pub fn cycle(&self) -> Option<Vec<String>> {
        let mut finished = Vec::new();
        self.services
            .keys()
            .find_map(|start| self.cycle_from(start, &mut Vec::new(), &mut finished))
    }

    fn cycle_from<'a>(
        &'a self,
        service: &'a str,
        trail: &mut Vec<&'a str>,
        finished: &mut Vec<&'a str>,
    ) -> Option<Vec<String>> {
        if let Some(start) = trail.iter().position(|seen| *seen == service) {
            let names = trail.iter().skip(start).chain(std::iter::once(&service));
            return Some(names.map(ToString::to_string).collect());
        }
        if finished.contains(&service) {
            return None;
        }
        trail.push(service);
        let found = self
            .callees(service)
            .into_iter()
            .find_map(|callee| self.cycle_from(callee, trail, finished));
        trail.pop();
        finished.push(service);
        found
    }
}
