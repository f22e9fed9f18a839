//! The part of a `trafficPolicy` that is ours, from routes and proven localities.

use std::collections::{BTreeMap, BTreeSet};

use gma_core::cluster::{RoutingPlan, Unroutable};
use gma_core::ids::AreaName;
use gma_core::routing::{
    DestinationRuleValues, Distribute, Form, LocalityPattern, OutlierDetection, RuleError, Steering,
    check_plan, form,
};
use serde_json::{Value, json};

use super::{Areas, Held, Order};
use crate::locality::{AreaMap, ZONE};

/// What a caller of one's own comes first by, where areas are zones.
pub(super) const PRIORITY: [&str; 1] = [ZONE];

/// Values to write.
#[derive(Debug)]
pub(super) struct Values {
    /// `loadBalancer` and `outlierDetection`.
    pub(super) policy: Value,
    pub(super) steering: Steering,
}

/// The values for a service.
pub(super) fn values(areas: Areas<'_>, order: &Order<'_>) -> Result<Values, Held> {
    let plan = RoutingPlan([(order.host.clone(), order.routes.clone())].into());
    check_plan(&plan, areas.cloud).map_err(|(_, error)| {
        Held::shape(
            error.to_string(),
            "report this: the plan is not one of the matrix",
        )
    })?;
    if let Some(outside) = order.reported.iter().find(|one| areas.map.area_of(one).is_none()) {
        let locality = outside.to_string();
        return Err(Held {
            fix: format!(
                "add {locality} to the localities of an area, or label the node of that pod as the area's are"
            ),
            why: Unroutable::EndpointOutsideAreas { locality },
        });
    }
    match areas.map {
        AreaMap::Localities(patterns) => by_weights(areas, patterns, order),
        AreaMap::Zones(zones) => by_readiness(areas, zones, order),
    }
}

fn by_weights(
    areas: Areas<'_>,
    patterns: &BTreeMap<AreaName, Vec<LocalityPattern>>,
    order: &Order<'_>,
) -> Result<Values, Held> {
    let endpoints = proven(areas, patterns, order)?;
    let form = form(order.routes, areas.cloud);
    if let (Form::Failover, Some(caller)) = (form, order.unlocated_caller) {
        return Err(unlocated(
            caller,
            "topology.kubernetes.io/region and zone of its node), or set spec.policy.standby to distribute",
        ));
    }
    // Failover is from region to region: the areas' own patterns say which, whatever was reported.
    let names = if form == Form::Failover {
        patterns
    } else {
        &endpoints
    };
    let mut values =
        DestinationRuleValues::try_new(order.routes, names, areas.cloud).map_err(|error| shape(&error))?;
    let setting = &mut values.load_balancer.locality_lb_setting;
    setting.distribute = from_callers(&setting.distribute, patterns, &endpoints, order);
    let policy = serde_json::to_value(&values)
        .map_err(|error| Held::shape(format!("the values are no JSON: {error}"), "report this"))?;
    Ok(Values {
        policy,
        steering: Steering::Weights,
    })
}

/// Entries for callers in all localities of an area: the values are made with the endpoints' names, and callers may be
/// where the service has none.
fn from_callers(
    distribute: &[Distribute],
    patterns: &BTreeMap<AreaName, Vec<LocalityPattern>>,
    endpoints: &BTreeMap<AreaName, Vec<LocalityPattern>>,
    order: &Order<'_>,
) -> Vec<Distribute> {
    let mut entries = Vec::new();
    for caller in order.routes.keys() {
        let first = endpoints.get(caller).and_then(|patterns| patterns.first());
        let entry = distribute.iter().find(|entry| Some(&entry.from) == first);
        let all = patterns.get(caller).into_iter().flatten();
        entries.extend(entry.into_iter().flat_map(|entry| {
            all.clone().map(|from| Distribute {
                from: from.clone(),
                to: entry.to.clone(),
            })
        }));
    }
    let any = LocalityPattern::any();
    entries.extend(distribute.iter().filter(|entry| entry.from == any).cloned());
    entries
}

/// The patterns of each area that cover a reported locality. An edge that has none yet keeps its own: they match no
/// endpoint, so its share goes where the rest goes, and the first step proves them.
fn proven(
    areas: Areas<'_>,
    patterns: &BTreeMap<AreaName, Vec<LocalityPattern>>,
    order: &Order<'_>,
) -> Result<BTreeMap<AreaName, Vec<LocalityPattern>>, Held> {
    let mut proven = BTreeMap::new();
    for (area, all) in patterns {
        let covers = |pattern: &&LocalityPattern| {
            let alone = AreaMap::Localities([(area.clone(), vec![(*pattern).clone()])].into());
            order.reported.iter().any(|one| alone.area_of(one).is_some())
        };
        let mut seen: Vec<LocalityPattern> = all.iter().filter(covers).cloned().collect();
        if seen.is_empty() {
            if area == areas.cloud {
                return Err(unproven(all.iter().map(LocalityPattern::as_str)));
            }
            seen.clone_from(all);
        }
        proven.insert(area.clone(), seen);
    }
    Ok(proven)
}

/// Of failover each area takes its own callers first: one that is nowhere takes any.
fn unlocated(caller: &str, labels: &str) -> Held {
    Held {
        why: Unroutable::LocalityUnproven {
            locality: format!("of its caller {caller}"),
        },
        fix: format!("give {caller} a locality (labels {labels}"),
    }
}

fn unproven<'a>(names: impl Iterator<Item = &'a str>) -> Held {
    let locality = names.collect::<Vec<_>>().join(", ");
    Held {
        fix: format!(
            "compare {locality} (spec.areas.cloud) with the labels topology.kubernetes.io/region and zone of the nodes, and send a \
             request to the service: istiod sees a changed node label only after a pod or EndpointSlice changes"
        ),
        why: Unroutable::LocalityUnproven { locality },
    }
}

/// One rule for all times: the caller's own zone while it has an endpoint, else the other.
fn by_readiness(
    areas: Areas<'_>,
    zones: &BTreeMap<AreaName, BTreeSet<String>>,
    order: &Order<'_>,
) -> Result<Values, Held> {
    const LABEL: &str =
        "label the nodes with topology.kubernetes.io/region too and give localities instead of zones";
    let edges = zones.keys().filter(|area| *area != areas.cloud).count();
    if edges > 1 {
        return Err(Held::shape(
            format!("zones without regions tell one edge from the cloud, and there are {edges}"),
            LABEL,
        ));
    }
    let cloud = zones.get(areas.cloud).cloned().unwrap_or_default();
    if cloud.len() != 1 {
        return Err(Held::shape(
            format!(
                "the cloud has {} zones without regions: when one has no endpoint its callers would use the edge",
                cloud.len()
            ),
            LABEL,
        ));
    }
    let is_proven = order
        .reported
        .iter()
        .any(|one| areas.map.area_of(one) == Some(areas.cloud));
    if !is_proven {
        return Err(unproven(cloud.iter().map(String::as_str)));
    }
    if let Some(caller) = order.unlocated_caller {
        return Err(unlocated(caller, "topology.kubernetes.io/zone of its node)"));
    }
    let policy = json!({
        "loadBalancer": {"localityLbSetting": {
            "enabled": true, "failoverPriority": PRIORITY,
        }},
        "outlierDetection": serde_json::to_value(OutlierDetection::default()).unwrap_or_default(),
    });
    Ok(Values {
        policy,
        steering: Steering::Readiness,
    })
}

fn shape(error: &RuleError) -> Held {
    let fix = match error {
        RuleError::NotOneRegion(_) => {
            "give each area a region of its own, or set spec.policy.standby to distribute"
        }
        RuleError::TooManyLocalities(..) => "name the area's region in its localities, instead of its zones",
        RuleError::Overlap(..) => "make the localities of the areas disjoint",
        RuleError::Pattern(_) | RuleError::NoLocality(_) | RuleError::Weights { .. } => {
            "compare spec.areas with the labels of the nodes"
        }
    };
    Held::shape(error.to_string(), fix)
}
