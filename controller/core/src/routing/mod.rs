//! Weights of areas: the routing matrix, the steps of a shift, what istiod makes of them, and the rule's values.
//!
//! | caller | weights at rest |
//! |---|---|
//! | at edge e, service placed at e | form distribute: the standby share to the cloud, the rest to e; form failover: e |
//! | at edge e, service not placed at e | cloud 100 |
//! | in the cloud | cloud 100 |
//! | `*`, last | cloud 100 |
//!
//! A rule has one of two forms, [`form`]. While weights move it is always distribute. Where an area can't be addressed by a weight,
//! instances that become Ready or go move the calls, [`Steering::Readiness`]: one rule for all times.

mod matrix;
mod rule;
mod step;

pub use matrix::{Form, Steering, WeightsError, check_plan, check_weights, form, resting};
pub use rule::{
    DestinationRuleValues, Distribute, Failover, LoadBalancer, LocalityLbSetting, LocalityPattern,
    OutlierDetection, RuleError,
};
pub use step::{FIRST_STEPS, SECOND_STEP, first_step};

/// What an area of `localities` localities, with equal numbers of endpoints, gets of `weight`: istiod gives each
/// ⌈weight / localities⌉ (pilot, `loadbalancer.go`: ⌈weight · endpoints of the group / endpoints of the area⌉), so that
/// a standby weight of 1 on a cloud of three zones is 3.
///
/// ```
/// use gma_core::routing::area_weight;
/// assert_eq!(area_weight(1, 1), 1);
/// assert_eq!(area_weight(1, 3), 3);
/// assert_eq!(area_weight(100, 3), 102);
/// assert_eq!(area_weight(0, 3), 0);
/// ```
pub const fn area_weight(weight: u32, localities: u32) -> u32 {
    if localities == 0 {
        return weight;
    }
    weight.div_ceil(localities).saturating_mul(localities)
}

/// What each group of endpoints of an area gets of the area's `weight`: ⌈weight · size / Σ sizes⌉, with `sizes` the
/// numbers of endpoints of its localities. Groups without endpoints get 0: istiod does not send them.
///
/// ```
/// use gma_core::routing::effective_endpoint_weights;
/// assert_eq!(effective_endpoint_weights(99, &[2]), [99]);
/// assert_eq!(effective_endpoint_weights(1, &[4, 1, 0]), [1, 1, 0]);
/// ```
pub fn effective_endpoint_weights(weight: u32, sizes: &[u32]) -> Vec<u32> {
    let total: u64 = sizes.iter().map(|size| u64::from(*size)).sum();
    let share = |size: &u32| (u64::from(weight) * u64::from(*size)).div_ceil(total.max(1));
    sizes
        .iter()
        .map(|size| u32::try_from(share(size)).unwrap_or(u32::MAX))
        .collect()
}
