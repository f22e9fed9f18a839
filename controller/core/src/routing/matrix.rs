//! The routing matrix, and what istiod would refuse.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::cluster::{Placement, RoutingPlan, Weights};
use crate::ids::{AreaName, ServiceName};
use crate::model::Standby;

/// How a service's rule is written: the two forms of the resting routing, and of everything in between.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Form {
    /// `distribute`: a weight for each area. What no weight names is not used.
    Distribute,
    /// `failover`: the caller's own area while it has a healthy endpoint, else the cloud. Weights have no say, so where
    /// there is an endpoint it gets everything.
    Failover,
}

/// What moves calls between areas.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Steering {
    /// The weights of the routes, in steps.
    #[default]
    Weights,
    /// Instances that become Ready or go: a caller at an edge uses that edge while it has an endpoint there, else the
    /// cloud. The weights of the routes have no say; they only tell where calls go.
    Readiness,
}

/// Weights that istiod would refuse.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WeightsError {
    /// Not from 1 to 100.
    OutOfRange {
        /// Of which area.
        area: AreaName,
        /// The weight.
        weight: u32,
    },
    /// They do not sum to 100.
    Sum(u64),
    /// A caller in the cloud, or an edge for another edge's callers: not in the routing matrix.
    NotOfTheMatrix {
        /// Whose calls.
        caller: AreaName,
        /// Where they would go.
        area: AreaName,
    },
    /// A share beside an edge's 100: the failover form has none.
    ShareInFailover {
        /// Whose calls.
        caller: AreaName,
    },
}

impl fmt::Display for WeightsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutOfRange { area, weight: 0 } => {
                write!(f, "the weight of {area} is 0: leave the area out")
            }
            Self::OutOfRange { area, weight } => write!(f, "the weight of {area} is {weight}, not 1 to 100"),
            Self::Sum(sum) => write!(f, "weights sum to {sum}, not 100"),
            Self::NotOfTheMatrix { caller, area } => {
                write!(
                    f,
                    "callers in {caller} may use the cloud and their own edge, not {area}"
                )
            }
            Self::ShareInFailover { caller } => write!(
                f,
                "callers in {caller} are split while another edge has 100: with failover an edge has all or nothing"
            ),
        }
    }
}

impl std::error::Error for WeightsError {}

/// The routing at rest: for each service, every edge's callers and the cloud's.
///
/// ```
/// use gma_core::cluster::Placement;
/// use gma_core::model::Standby;
/// use gma_core::routing::resting;
///
/// let placement = Placement::from([("edge".into(), ["cart".into()].into())]);
/// let plan = resting(&["cart".into()], &placement, &"cloud".into(), Standby::Distribute(1));
/// let rule = &plan.0[&"cart".into()];
/// assert_eq!(rule[&"edge".into()], [("cloud".into(), 1), ("edge".into(), 99)].into());
/// assert_eq!(rule[&"cloud".into()], [("cloud".into(), 100)].into());
/// ```
pub fn resting(
    services: &[ServiceName],
    placement: &Placement,
    cloud: &AreaName,
    standby: Standby,
) -> RoutingPlan {
    let standby = match standby {
        Standby::Distribute(percent) => percent.min(100),
        Standby::Failover => 0,
    };
    let to_cloud = || Weights::from([(cloud.clone(), 100)]);
    let of_edge = |edge: &AreaName, placed: &BTreeSet<ServiceName>, service: &ServiceName| {
        if !placed.contains(service) {
            return to_cloud();
        }
        let weights = [(cloud.clone(), standby), (edge.clone(), 100 - standby)];
        weights.into_iter().filter(|(_, weight)| *weight > 0).collect()
    };
    let rule = |service: &ServiceName| {
        let edges = placement
            .iter()
            .map(|(edge, placed)| (edge.clone(), of_edge(edge, placed, service)));
        edges.chain([(cloud.clone(), to_cloud())]).collect()
    };
    RoutingPlan(
        services
            .iter()
            .map(|service| (service.clone(), rule(service)))
            .collect(),
    )
}

/// The form of a service's rule: failover where an edge keeps all of its calls, else distribute. With weights alone 100
/// would be an outage once the edge's last endpoint goes: a locality that no weight names has none.
///
/// ```
/// use gma_core::routing::{Form, form};
/// let rule = |edge: &[(&str, u32)]| {
///     let weights = edge.iter().map(|(area, weight)| ((*area).into(), *weight)).collect();
///     [("cloud".into(), [("cloud".into(), 100)].into()), ("edge".into(), weights)].into()
/// };
/// assert_eq!(form(&rule(&[("edge", 100)]), &"cloud".into()), Form::Failover);
/// assert_eq!(form(&rule(&[("edge", 99), ("cloud", 1)]), &"cloud".into()), Form::Distribute);
/// assert_eq!(form(&rule(&[("cloud", 100)]), &"cloud".into()), Form::Distribute);
/// ```
pub fn form(rule: &BTreeMap<AreaName, Weights>, cloud: &AreaName) -> Form {
    let keeps_all = |(caller, weights): (&AreaName, &Weights)| {
        caller != cloud && weights.get(caller).is_some_and(|weight| *weight >= 100)
    };
    if rule.iter().any(keeps_all) {
        Form::Failover
    } else {
        Form::Distribute
    }
}

/// Whether istiod would accept the weights of one caller area.
///
/// # Errors
/// What it would refuse.
pub fn check_weights(weights: &Weights) -> Result<(), WeightsError> {
    for (area, &weight) in weights {
        if !(1..=100).contains(&weight) {
            return Err(WeightsError::OutOfRange {
                area: area.clone(),
                weight,
            });
        }
    }
    match weights.values().map(|weight| u64::from(*weight)).sum() {
        100 => Ok(()),
        sum => Err(WeightsError::Sum(sum)),
    }
}

/// Whether a whole plan is legal, and within the routing matrix: an edge's failure is survived by the cloud.
///
/// # Errors
/// The first service and what is wrong with it.
pub fn check_plan(plan: &RoutingPlan, cloud: &AreaName) -> Result<(), (ServiceName, WeightsError)> {
    for (service, callers) in &plan.0 {
        for (caller, weights) in callers {
            check_weights(weights).map_err(|error| (service.clone(), error))?;
            if let Some(area) = weights.keys().find(|area| *area != cloud && *area != caller) {
                let error = WeightsError::NotOfTheMatrix {
                    caller: caller.clone(),
                    area: area.clone(),
                };
                return Err((service.clone(), error));
            }
        }
        if form(callers, cloud) == Form::Failover
            && let Some(caller) = callers
                .iter()
                .find(|(_, weights)| weights.len() > 1)
                .map(|(c, _)| c)
        {
            let caller = caller.clone();
            return Err((service.clone(), WeightsError::ShareInFailover { caller }));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn refuses_what_istiod_refuses() {
        let weights = |pairs: &[(&str, u32)]| -> Weights {
            pairs
                .iter()
                .map(|(area, weight)| (AreaName::from(*area), *weight))
                .collect()
        };
        assert!(check_weights(&weights(&[("cloud", 1), ("edge", 99)])).is_ok());
        for (bad, text) in [
            (weights(&[("cloud", 0), ("edge", 100)]), "leave the area out"),
            (weights(&[("cloud", 101)]), "not 1 to 100"),
            (weights(&[("cloud", 50), ("edge", 49)]), "99"),
            (weights(&[]), "0"),
        ] {
            let error = check_weights(&bad).unwrap_err().to_string();
            assert!(error.contains(text), "{error}");
        }
    }

    #[test]
    fn another_edges_instance_is_not_in_the_matrix() {
        let rule = [("edge-1".into(), [("edge-2".into(), 100)].into())].into();
        let plan = RoutingPlan([("cart".into(), rule)].into());
        assert!(matches!(
            check_plan(&plan, &"cloud".into()),
            Err((_, WeightsError::NotOfTheMatrix { .. }))
        ));
    }

    #[test]
    fn with_failover_an_edge_has_all_or_nothing() {
        let weights = |pairs: &[(&str, u32)]| -> Weights {
            pairs
                .iter()
                .map(|(area, weight)| (AreaName::from(*area), *weight))
                .collect()
        };
        let plan = |second: &[(&str, u32)]| {
            let rule = [
                ("cloud".into(), weights(&[("cloud", 100)])),
                ("edge-1".into(), weights(&[("edge-1", 100)])),
                ("edge-2".into(), weights(second)),
            ];
            RoutingPlan([("cart".into(), rule.into())].into())
        };
        for whole in [[("edge-2", 100)], [("cloud", 100)]] {
            assert_eq!(check_plan(&plan(&whole), &"cloud".into()), Ok(()));
        }
        assert_eq!(
            check_plan(&plan(&[("cloud", 1), ("edge-2", 99)]), &"cloud".into()),
            Err((
                "cart".into(),
                WeightsError::ShareInFailover {
                    caller: "edge-2".into()
                }
            ))
        );
    }

    proptest! {
        #[test]
        fn resting_weights_are_legal(
            placed in prop::collection::vec(prop::collection::btree_set(0..6_u32, 0..6), 1..4),
            standby in prop_oneof![Just(Standby::Failover), (1..100_u32).prop_map(Standby::Distribute)],
        ) {
            let name = |service: u32| ServiceName::new(format!("s{service}"));
            let services: Vec<_> = (0..6).map(name).collect();
            let placement: Placement = placed
                .into_iter()
                .enumerate()
                .map(|(edge, services)| (AreaName::new(format!("e{edge}")), services.into_iter().map(name).collect()))
                .collect();
            let plan = resting(&services, &placement, &"cloud".into(), standby);
            prop_assert_eq!(check_plan(&plan, &"cloud".into()), Ok(()));
            for callers in plan.0.values() {
                prop_assert_eq!(callers.len(), placement.len() + 1);
            }
        }
    }
}
