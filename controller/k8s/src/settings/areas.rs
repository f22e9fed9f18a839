//! Which localities are in which area.

use std::collections::{BTreeMap, BTreeSet};

use gma_core::decide::Config;
use gma_core::ids::AreaName;
use gma_core::model::Standby;
use gma_core::routing::LocalityPattern;

use super::parse::Parser;
use crate::api;
use crate::locality::AreaMap;

pub(super) fn areas(areas: &api::Areas, parser: &mut Parser) -> AreaMap {
    let cloud = (
        "areas.cloud".to_owned(),
        &areas.cloud.name,
        &areas.cloud.localities,
        &areas.cloud.zones,
    );
    let edges = areas.edges.iter().map(|edge| {
        (
            format!("areas.edges[{}]", edge.name),
            &edge.name,
            &edge.localities,
            &edge.zones,
        )
    });
    let mut by_locality: BTreeMap<AreaName, Vec<LocalityPattern>> = BTreeMap::new();
    let mut by_zone: BTreeMap<AreaName, BTreeSet<String>> = BTreeMap::new();
    for (path, name, localities, zones) in std::iter::once(cloud).chain(edges) {
        let name = AreaName::new(name.as_str());
        match (localities.as_deref(), zones.as_deref()) {
            (Some([_, ..]), None) => {
                let texts = localities.iter().flatten();
                let patterns = texts.filter_map(|text| parser.locality(&path, text)).collect();
                by_locality.insert(name, patterns);
            }
            (None, Some([_, ..])) => {
                let zones = zones.iter().flatten().map(|zone| zone.as_str().to_owned());
                by_zone.insert(name, zones.collect());
            }
            _ => parser.fault(
                path,
                "must have exactly one of localities and zones, and not an empty one",
            ),
        }
    }
    if !by_locality.is_empty() && !by_zone.is_empty() {
        parser.fault("areas", "must be given all by localities, or all by zones");
    }
    parser.disjoint(&by_locality, &by_zone);
    if by_zone.is_empty() {
        AreaMap::Localities(by_locality)
    } else {
        AreaMap::Zones(by_zone)
    }
}

/// Failover goes from region to region: each area needs one of its own.
pub(super) fn regions(
    areas: &BTreeMap<AreaName, Vec<LocalityPattern>>,
    config: &Config,
    parser: &mut Parser,
) {
    if !config
        .edges
        .values()
        .any(|edge| edge.standby() == Standby::Failover)
    {
        return;
    }
    let region =
        |pattern: &LocalityPattern| pattern.as_str().split('/').next().unwrap_or_default().to_owned();
    let mut owners: BTreeMap<String, &AreaName> = BTreeMap::new();
    for (area, patterns) in areas {
        let own: BTreeSet<String> = patterns.iter().map(region).collect();
        let taken = own
            .iter()
            .find_map(|region| owners.get(region).map(|owner| (region, *owner)));
        let what = match taken {
            Some((region, owner)) => format!("share the region {region} with {owner}"),
            None if own.len() > 1 => "are of several regions".to_owned(),
            None => {
                owners.extend(own.into_iter().map(|region| (region, area)));
                continue;
            }
        };
        let path = if *area == config.cloud {
            "areas.cloud.localities".to_owned()
        } else {
            format!("areas.edges[{area}].localities")
        };
        parser.fault(
            path,
            format!(
                "{what}: the standby form failover, which p95 and p99 have by default, needs a region of its own for each area; \
                 relabel the nodes, or set policy.standby to distribute"
            ),
        );
    }
}
