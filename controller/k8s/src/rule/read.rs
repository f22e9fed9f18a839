//! The weights that our rules put in force: the way back from a body to routes.

use std::collections::{BTreeMap, BTreeSet};

use gma_core::cluster::Weights;
use gma_core::ids::{AreaName, ServiceName};
use gma_core::routing::LocalityPattern;
use serde_json::{Value, json};

use super::values::PRIORITY;
use super::{Areas, Mesh, Rule};
use crate::locality::{AreaMap, Locality};

/// Routes of a service, by caller area; none where no rule of ours is in force. `ready` are the areas where it has a Ready
/// instance: in the form failover, and where zones have no regions, nothing else decides. Where several rules are ours (a client's namespace has its own) and
/// differ, the one that is not as `ordered`: then the order is repeated.
pub fn in_force(
    mesh: &Mesh,
    areas: Areas<'_>,
    host: &ServiceName,
    ready: &BTreeSet<&AreaName>,
    ordered: Option<&BTreeMap<AreaName, Weights>>,
) -> Option<BTreeMap<AreaName, Weights>> {
    let routes: Vec<_> = mesh
        .ours(host)
        .filter_map(|rule| routes(rule, areas, ready))
        .collect();
    let other = routes.iter().find(|routes| Some(*routes) != ordered);
    other.or(routes.first()).cloned()
}

/// Whether a rule already says everything that a body does.
pub fn says(rule: &Rule, body: &Value) -> bool {
    let wanted = body.get("spec").unwrap_or(&Value::Null);
    contains(&rule.spec, wanted)
}

/// Lists are leaves, as a `DestinationRule`'s lists are atomic.
fn contains(found: &Value, wanted: &Value) -> bool {
    match (found, wanted) {
        (Value::Object(found), Value::Object(wanted)) => wanted
            .iter()
            .all(|(name, wanted)| found.get(name).is_some_and(|found| contains(found, wanted))),
        (found, wanted) => found == wanted,
    }
}

fn routes(rule: &Rule, areas: Areas<'_>, ready: &BTreeSet<&AreaName>) -> Option<BTreeMap<AreaName, Weights>> {
    let setting = rule
        .spec
        .pointer("/trafficPolicy/loadBalancer/localityLbSetting")?;
    if setting.get("failoverPriority") != Some(&json!(PRIORITY)) {
        // Between zones without regions nothing else is in force.
        let AreaMap::Localities(_) = areas.map else {
            return None;
        };
        if let Some(entries) = setting.get("distribute").and_then(Value::as_array) {
            return Some(distributed(entries, areas));
        }
        setting.get("failover").and_then(Value::as_array)?;
    }
    let to = |area: &AreaName| Weights::from([(area.clone(), 100)]);
    let by_readiness = areas.map.names().into_iter().map(|area| {
        let target = if ready.contains(area) { area } else { areas.cloud };
        (area.clone(), to(target))
    });
    Some(by_readiness.collect())
}

/// The first entry whose `from` is of an area decides, as istiod takes the first that matches.
fn distributed(entries: &[Value], areas: Areas<'_>) -> BTreeMap<AreaName, Weights> {
    let mut routes = BTreeMap::new();
    for entry in entries {
        let from = entry.get("from").and_then(Value::as_str).unwrap_or_default();
        let Some(caller) = area_of(areas.map, from) else {
            continue;
        };
        let to = entry.get("to").and_then(Value::as_object);
        let mut weights = Weights::new();
        for (locality, weight) in to.into_iter().flatten() {
            let weight = weight.as_u64().and_then(|weight| u32::try_from(weight).ok());
            // A name of no area: the spec changed. The sum is not 100 then, and the weights are written again.
            if let (Some(area), Some(weight)) = (area_of(areas.map, locality), weight) {
                let sum = weights.entry(area.clone()).or_default();
                *sum = weight.saturating_add(*sum);
            }
        }
        routes.entry(caller.clone()).or_insert(weights);
    }
    routes
}

/// The area of a name that was written: one of its patterns, or what holds them all (a region, `region/*`) where a weight is
/// too small to be split over them.
fn area_of<'a>(map: &'a AreaMap, name: &str) -> Option<&'a AreaName> {
    if let Some(area) = map.area_of(&Locality::parse(name)) {
        return Some(area);
    }
    let above = name.trim_end_matches('*').trim_end_matches('/');
    let AreaMap::Localities(areas) = map else {
        return None;
    };
    let is_below = |pattern: &LocalityPattern| {
        let rest = pattern.as_str().strip_prefix(above);
        !above.is_empty() && rest.is_some_and(|rest| rest.starts_with('/'))
    };
    let mut found = areas.iter().filter(|(_, patterns)| patterns.iter().any(is_below));
    let area = found.next().map(|(area, _)| area);
    area.filter(|_| found.next().is_none())
}
