//! What reports prove of each service: who calls it, and where its endpoints are.

use std::collections::{BTreeMap, BTreeSet};

use crate::ids::ServiceName;

/// What was seen of a service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sighting {
    /// Namespaces of the proxies that called it, by the platform's own names of proxies.
    pub callers: BTreeSet<String>,
    /// Localities of its endpoints, `region/zone/subzone` with empty parts kept.
    pub localities: BTreeSet<String>,
}

/// By service; one that nobody was seen to call is absent.
pub type Sightings = BTreeMap<ServiceName, Sighting>;
