//! Checks of a routing plan: those of istiod's webhook, and that its names exist here.

use std::collections::{BTreeMap, BTreeSet};

use gma_core::cluster::{RoutingPlan, Weights};
use gma_core::ids::{AreaName, ServiceName};
use gma_core::routing::{DestinationRuleValues, Form, LocalityPattern, check_weights, form};

use crate::topology::Locality;

/// Takes over the plan's services. All of it is checked first, so a wrong plan changes nothing.
pub(super) fn merge(
    in_force: &mut RoutingPlan,
    plan: RoutingPlan,
    areas: &BTreeMap<AreaName, Vec<Locality>>,
    cloud: &AreaName,
    is_service: impl Fn(&ServiceName) -> bool,
) -> Result<(), String> {
    let names: BTreeSet<AreaName> = areas.keys().cloned().collect();
    for (service, rule) in &plan.0 {
        if !is_service(service) {
            return Err(format!("`{service}` is no service of the application"));
        }
        for (caller, weights) in rule {
            if caller.as_str() != "*" && !names.contains(caller) {
                return Err(format!(
                    "{service}: caller `{caller}` is no area; the areas are {}",
                    list(&names)
                ));
            }
            check(weights, &names).map_err(|problem| format!("{service}, callers in {caller}: {problem}"))?;
        }
        // What would be written in Kubernetes: regions of their own, no shares.
        if form(rule, cloud) == Form::Failover {
            DestinationRuleValues::try_new(rule, &patterns(areas)?, cloud)
                .map_err(|error| format!("{service}: {error}"))?;
        }
    }
    for (service, rule) in plan.0 {
        if rule.is_empty() {
            in_force.0.remove(&service);
        } else {
            in_force.0.insert(service, rule);
        }
    }
    Ok(())
}

fn patterns(
    areas: &BTreeMap<AreaName, Vec<Locality>>,
) -> Result<BTreeMap<AreaName, Vec<LocalityPattern>>, String> {
    let pattern = |locality: &Locality| {
        LocalityPattern::try_from(locality.to_string()).map_err(|error| error.to_string())
    };
    areas
        .iter()
        .map(|(area, localities)| {
            let patterns: Result<_, String> = localities.iter().map(pattern).collect();
            Ok((area.clone(), patterns?))
        })
        .collect()
}

fn check(weights: &Weights, areas: &BTreeSet<AreaName>) -> Result<(), String> {
    if let Some(area) = weights.keys().find(|area| !areas.contains(*area)) {
        return Err(format!("`{area}` is no area; the areas are {}", list(areas)));
    }
    check_weights(weights).map_err(|error| error.to_string())
}

pub(super) fn list(areas: &BTreeSet<AreaName>) -> String {
    areas.iter().map(AreaName::as_str).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use gma_core::cluster::Placement;
    use gma_core::model::Standby;
    use gma_core::routing::resting;

    use super::*;

    fn areas() -> BTreeMap<AreaName, Vec<Locality>> {
        let area = |name: &str, locality: &str| (name.into(), vec![locality.parse().unwrap()]);
        [area("cloud", "eu/a"), area("edge-1", "berlin/x")].into()
    }

    fn plan(service: &str, caller: &str, weights: &[(&str, u32)]) -> RoutingPlan {
        let weights = weights
            .iter()
            .map(|(area, weight)| ((*area).into(), *weight))
            .collect();
        RoutingPlan(BTreeMap::from([(
            service.into(),
            BTreeMap::from([(caller.into(), weights)]),
        )]))
    }

    fn merged(plan: RoutingPlan) -> Result<RoutingPlan, String> {
        let edges = Placement::from([("edge-1".into(), BTreeSet::new())]);
        let services = ["s0", "s1"].map(ServiceName::from);
        let mut in_force = resting(&services, &edges, &"cloud".into(), Standby::Distribute(1));
        let before = in_force.clone();
        let result = merge(&mut in_force, plan, &areas(), &"cloud".into(), |service| {
            ["s0", "s1"].contains(&service.as_str())
        });
        assert!(
            result.is_ok() || in_force == before,
            "a refused plan changes nothing"
        );
        result.map(|()| in_force)
    }

    #[test]
    fn a_plan_replaces_its_services_and_no_others() {
        let after = merged(plan("s1", "edge-1", &[("edge-1", 99), ("cloud", 1)])).unwrap();
        assert_eq!(after.0[&"s1".into()].len(), 1);
        assert_eq!(after.0[&"s0".into()].len(), 2);
    }

    #[test]
    fn a_service_without_callers_loses_its_rule() {
        let after = merged(RoutingPlan(BTreeMap::from([("s1".into(), BTreeMap::new())]))).unwrap();
        assert!(!after.0.contains_key(&"s1".into()));
    }

    #[test]
    fn what_istiods_webhook_refuses_is_refused() {
        let cases = [
            (
                plan("s1", "edge-1", &[("edge-1", 100), ("cloud", 0)]),
                "the weight of cloud is 0",
            ),
            (plan("s1", "edge-1", &[("edge-1", 98), ("cloud", 1)]), "sum to 99"),
            (plan("s1", "edge-1", &[]), "sum to 0"),
            (plan("s1", "edge-1", &[("edge-1", 101)]), "is 101, not 1 to 100"),
            (
                plan("s1", "edge-1", &[("edge-9", 100)]),
                "`edge-9` is no area; the areas are cloud, edge-1",
            ),
            (plan("s1", "moon", &[("cloud", 100)]), "caller `moon` is no area"),
            (plan("s9", "edge-1", &[("cloud", 100)]), "`s9` is no service"),
        ];
        for (plan, expected) in cases {
            let error = merged(plan).unwrap_err();
            assert!(error.contains(expected), "{expected}: {error}");
        }
    }

    #[test]
    fn failover_needs_regions_of_their_own_and_no_shares() {
        let all_own = |region: &str| {
            let mut areas = areas();
            areas.insert("edge-1".into(), vec![region.parse().unwrap()]);
            let mut in_force = RoutingPlan::default();
            let plan = plan("s1", "edge-1", &[("edge-1", 100)]);
            merge(&mut in_force, plan, &areas, &"cloud".into(), |_| true)
        };
        assert_eq!(all_own("berlin/x"), Ok(()));
        let error = all_own("eu/x").unwrap_err();
        assert!(error.contains("one region an area"), "{error}");
    }

    #[test]
    fn the_last_row_may_be_for_any_caller() {
        merged(plan("s1", "*", &[("cloud", 100)])).unwrap();
    }
}
