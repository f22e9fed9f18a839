//! Values of a `DestinationRule`, as `networking.istio.io/v1` spells them. Only values: writing them is the
//! platform's.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::matrix::{Form, WeightsError, check_weights, form};
use crate::cluster::Weights;
use crate::ids::AreaName;

/// A locality or a set of them: `region`, `region/zone` or `region/zone/subzone`, without empty part; a `*` only as the
/// last part.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LocalityPattern(String);

/// Why there are no values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RuleError {
    /// Not a pattern that istiod accepts.
    Pattern(String),
    /// An area has no locality that is proven for this service: weights that match no endpoint are an outage.
    NoLocality(AreaName),
    /// A locality is in two areas, or hides another: istiod takes the first that matches.
    Overlap(String, String),
    /// Weights that istiod refuses.
    Weights {
        /// Of which callers.
        caller: AreaName,
        /// What is wrong.
        error: WeightsError,
    },
    /// A weight of 1 to 100 for each of this many localities is not possible.
    TooManyLocalities(AreaName, usize),
    /// Failover is from region to region: an area that spans several, shares one or has none can't have it.
    NotOneRegion(AreaName),
}

/// The part of a rule's `trafficPolicy` that is ours.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DestinationRuleValues {
    /// How callers of a locality split their calls.
    pub load_balancer: LoadBalancer,
    /// When an endpoint is taken out.
    pub outlier_detection: OutlierDetection,
}

/// The load balancer's part.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LoadBalancer {
    /// By locality.
    pub locality_lb_setting: LocalityLbSetting,
}

/// Weights by locality.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LocalityLbSetting {
    /// The mesh's default may be off.
    pub enabled: bool,
    /// The first whose `from` matches decides.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub distribute: Vec<Distribute>,
    /// Where callers of a region go when it has no healthy endpoint; never together with `distribute`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failover: Vec<Failover>,
}

/// Weights for callers of a locality.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Distribute {
    /// Callers.
    pub from: LocalityPattern,
    /// Percent by locality of the endpoints.
    pub to: BTreeMap<LocalityPattern, u32>,
}

/// From one region to another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failover {
    /// Region of the callers.
    pub from: String,
    /// Region of the endpoints.
    pub to: String,
}

/// When an endpoint is taken out. [`Default`] are the values that go with every rule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OutlierDetection {
    /// 502, 503, 504 in a row: what a dead endpoint answers.
    pub consecutive_gateway_errors: u32,
    /// 0 turns it off: a route that answers 500 must not eject the endpoints that serve the others.
    #[serde(rename = "consecutive5xxErrors")]
    pub consecutive_5xx_errors: u32,
    /// Between looks.
    pub interval: String,
    /// First ejection.
    pub base_ejection_time: String,
    /// All endpoints of an area may go: the other area serves.
    pub max_ejection_percent: u32,
    /// Panic routing only when nothing is left; 0 would turn it off.
    pub min_health_percent: u32,
}

// === impl LocalityPattern ===

impl LocalityPattern {
    /// Every locality.
    pub fn any() -> Self {
        Self("*".to_owned())
    }

    /// The pattern as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether every locality of `other` matches, or the other way round.
    fn overlaps(&self, other: &Self) -> bool {
        let parts = |pattern: &Self| pattern.0.split('/').map(str::to_owned).collect::<Vec<_>>();
        parts(self)
            .iter()
            .zip(&parts(other))
            .all(|(one, two)| one == two || one == "*" || two == "*")
    }
}

impl TryFrom<String> for LocalityPattern {
    type Error = RuleError;

    fn try_from(text: String) -> Result<Self, RuleError> {
        let parts: Vec<&str> = text.split('/').collect();
        let star = parts.iter().position(|part| part.contains('*'));
        let star_ok = star.is_none_or(|at| at + 1 == parts.len() && parts.last() == Some(&"*"));
        if parts.len() > 3 || parts.iter().any(|part| part.is_empty()) || !star_ok {
            return Err(RuleError::Pattern(text));
        }
        Ok(Self(text))
    }
}

impl TryFrom<&str> for LocalityPattern {
    type Error = RuleError;

    fn try_from(text: &str) -> Result<Self, RuleError> {
        Self::try_from(text.to_owned())
    }
}

impl From<LocalityPattern> for String {
    fn from(pattern: LocalityPattern) -> Self {
        pattern.0
    }
}

// === impl RuleError ===

impl fmt::Display for RuleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pattern(text) => write!(
                f,
                "{text:?} is no locality: give region, region/zone or region/zone/subzone, `*` only as the last part"
            ),
            Self::NoLocality(area) => write!(f, "no locality of {area} is proven for this service"),
            Self::Overlap(one, two) => {
                write!(f, "localities {one} and {two} overlap: make the areas disjoint")
            }
            Self::Weights { caller, error } => write!(f, "callers in {caller}: {error}"),
            Self::TooManyLocalities(area, count) => write!(
                f,
                "{area} has {count} localities, more than its weight can be split over: name its region instead"
            ),
            Self::NotOneRegion(area) => write!(
                f,
                "failover needs one region an area, and {area} has not: give its localities a region of their own, or use \
                 the standby form distribute"
            ),
        }
    }
}

impl std::error::Error for RuleError {}

// === impl OutlierDetection ===

impl Default for OutlierDetection {
    fn default() -> Self {
        Self {
            consecutive_gateway_errors: 3,
            consecutive_5xx_errors: 0,
            interval: "1s".to_owned(),
            base_ejection_time: "30s".to_owned(),
            max_ejection_percent: 100,
            min_health_percent: 1,
        }
    }
}

// === impl DestinationRuleValues ===

impl DestinationRuleValues {
    /// Values of a service's rule from its routing and the localities of each area, in the order of the areas' names,
    /// `*` (to the cloud) last. An area's weight is given to its localities as one where one pattern covers them, and
    /// split over them otherwise. In the failover form every edge of the rule fails over to the cloud.
    ///
    /// # Errors
    /// What istiod would refuse, or what would match no endpoint.
    pub fn try_new(
        callers: &BTreeMap<AreaName, Weights>,
        localities: &BTreeMap<AreaName, Vec<LocalityPattern>>,
        cloud: &AreaName,
    ) -> Result<Self, RuleError> {
        check_disjoint(localities)?;
        let setting = match form(callers, cloud) {
            Form::Distribute => LocalityLbSetting {
                enabled: true,
                distribute: distribute(callers, localities, cloud)?,
                failover: Vec::new(),
            },
            Form::Failover => LocalityLbSetting {
                enabled: true,
                distribute: Vec::new(),
                failover: failover(callers, localities, cloud)?,
            },
        };
        Ok(Self {
            load_balancer: LoadBalancer {
                locality_lb_setting: setting,
            },
            outlier_detection: OutlierDetection::default(),
        })
    }
}

fn distribute(
    callers: &BTreeMap<AreaName, Weights>,
    localities: &BTreeMap<AreaName, Vec<LocalityPattern>>,
    cloud: &AreaName,
) -> Result<Vec<Distribute>, RuleError> {
    let mut distribute = Vec::new();
    for (caller, weights) in callers {
        check_weights(weights).map_err(|error| RuleError::Weights {
            caller: caller.clone(),
            error,
        })?;
        let to = spread_all(weights, localities)?;
        for from in of_area(localities, caller)? {
            distribute.push(Distribute {
                from: from.clone(),
                to: to.clone(),
            });
        }
    }
    let to_cloud = Weights::from([(cloud.clone(), 100)]);
    distribute.push(Distribute {
        from: LocalityPattern::any(),
        to: spread_all(&to_cloud, localities)?,
    });
    Ok(distribute)
}

/// Every edge to the cloud. A rule that weights had split would change what is served.
fn failover(
    callers: &BTreeMap<AreaName, Weights>,
    localities: &BTreeMap<AreaName, Vec<LocalityPattern>>,
    cloud: &AreaName,
) -> Result<Vec<Failover>, RuleError> {
    for (caller, weights) in callers {
        check_weights(weights).map_err(|error| RuleError::Weights {
            caller: caller.clone(),
            error,
        })?;
        if weights.len() > 1 {
            let error = WeightsError::ShareInFailover {
                caller: caller.clone(),
            };
            return Err(RuleError::Weights {
                caller: caller.clone(),
                error,
            });
        }
    }
    let to = own_region(cloud, localities)?;
    let edges = callers.keys().filter(|caller| *caller != cloud);
    edges
        .map(|edge| {
            Ok(Failover {
                from: own_region(edge, localities)?,
                to: to.clone(),
            })
        })
        .collect()
}

/// The region of an area that has one, and has it alone.
fn own_region(
    area: &AreaName,
    localities: &BTreeMap<AreaName, Vec<LocalityPattern>>,
) -> Result<String, RuleError> {
    let patterns = of_area(localities, area)?;
    let none = || RuleError::NotOneRegion(area.clone());
    let region = region_name(patterns)
        .filter(|region| region != "*")
        .ok_or_else(none)?;
    let is_of = |pattern: &LocalityPattern| pattern.0.split('/').next() == Some(&region);
    let shared = localities
        .iter()
        .any(|(other, patterns)| other != area && patterns.iter().any(is_of));
    if shared { Err(none()) } else { Ok(region) }
}

fn of_area<'a>(
    localities: &'a BTreeMap<AreaName, Vec<LocalityPattern>>,
    area: &AreaName,
) -> Result<&'a [LocalityPattern], RuleError> {
    match localities.get(area).map(Vec::as_slice) {
        None | Some([]) => Err(RuleError::NoLocality(area.clone())),
        Some(patterns) => Ok(patterns),
    }
}

fn check_disjoint(localities: &BTreeMap<AreaName, Vec<LocalityPattern>>) -> Result<(), RuleError> {
    let all: Vec<&LocalityPattern> = localities.values().flatten().collect();
    for (position, one) in all.iter().enumerate() {
        if let Some(two) = all.iter().skip(position + 1).find(|two| one.overlaps(two)) {
            return Err(RuleError::Overlap(one.0.clone(), two.0.clone()));
        }
    }
    Ok(())
}

fn spread_all(
    weights: &Weights,
    localities: &BTreeMap<AreaName, Vec<LocalityPattern>>,
) -> Result<BTreeMap<LocalityPattern, u32>, RuleError> {
    let mut to = BTreeMap::new();
    for (area, &weight) in weights {
        let patterns = of_area(localities, area)?;
        let too_many = || RuleError::TooManyLocalities(area.clone(), patterns.len());
        if u32::try_from(patterns.len()).is_ok_and(|count| count <= weight) {
            to.extend(split(weight, patterns));
        } else {
            let region = region_of(patterns).ok_or_else(too_many)?;
            let others = localities.iter().filter(|(other, _)| *other != area);
            if others
                .flat_map(|(_, patterns)| patterns)
                .any(|pattern| pattern.overlaps(&region))
            {
                return Err(too_many());
            }
            to.insert(region, weight);
        }
    }
    Ok(to)
}

/// Splits a weight over no more localities than it has percents: the parts sum to it and none is 0.
fn split(weight: u32, patterns: &[LocalityPattern]) -> impl Iterator<Item = (LocalityPattern, u32)> {
    let count = u32::try_from(patterns.len()).unwrap_or(u32::MAX).max(1);
    let (each, more) = (weight / count, weight % count);
    (0..)
        .zip(patterns)
        .map(move |(position, pattern)| (pattern.clone(), each + u32::from(position < more)))
}

/// `region/*` where all are of one region: istiod then splits by endpoints, rounding up.
fn region_of(patterns: &[LocalityPattern]) -> Option<LocalityPattern> {
    region_name(patterns).map(|region| LocalityPattern(format!("{region}/*")))
}

/// The region of all of them, where they have the same.
fn region_name(patterns: &[LocalityPattern]) -> Option<String> {
    let region = |pattern: &LocalityPattern| pattern.0.split('/').next().map(str::to_owned);
    let first = patterns.first().and_then(region)?;
    let same = patterns
        .iter()
        .all(|pattern| region(pattern).as_deref() == Some(&first));
    same.then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patterns(texts: &[&str]) -> Vec<LocalityPattern> {
        texts
            .iter()
            .map(|text| LocalityPattern::try_from(*text).unwrap())
            .collect()
    }

    fn weights(pairs: &[(&str, u32)]) -> Weights {
        pairs
            .iter()
            .map(|(area, weight)| (AreaName::from(*area), *weight))
            .collect()
    }

    fn rule(cloud: &[&str], edge: &[&str]) -> Result<DestinationRuleValues, RuleError> {
        let callers = BTreeMap::from([
            ("cloud".into(), weights(&[("cloud", 100)])),
            ("edge".into(), weights(&[("cloud", 1), ("edge", 99)])),
        ]);
        let localities = BTreeMap::from([("cloud".into(), patterns(cloud)), ("edge".into(), patterns(edge))]);
        DestinationRuleValues::try_new(&callers, &localities, &"cloud".into())
    }

    #[test]
    fn values_are_spelled_as_istio_does() {
        let values = serde_json::to_value(rule(&["eu/zone-1/*"], &["edge-1"]).unwrap()).unwrap();
        let expected = serde_json::json!({
            "loadBalancer": {"localityLbSetting": {"enabled": true, "distribute": [
                {"from": "eu/zone-1/*", "to": {"eu/zone-1/*": 100}},
                {"from": "edge-1", "to": {"eu/zone-1/*": 1, "edge-1": 99}},
                {"from": "*", "to": {"eu/zone-1/*": 100}},
            ]}},
            "outlierDetection": {
                "consecutiveGatewayErrors": 3, "consecutive5xxErrors": 0, "interval": "1s",
                "baseEjectionTime": "30s", "maxEjectionPercent": 100, "minHealthPercent": 1,
            },
        });
        assert_eq!(values, expected);
    }

    fn failover(cloud: &[&str], edges: [&[&str]; 2]) -> Result<DestinationRuleValues, RuleError> {
        let callers = BTreeMap::from([
            ("cloud".into(), weights(&[("cloud", 100)])),
            ("edge-1".into(), weights(&[("edge-1", 100)])),
            ("edge-2".into(), weights(&[("cloud", 100)])),
        ]);
        let [one, two] = edges.map(patterns);
        let localities = BTreeMap::from([
            ("cloud".into(), patterns(cloud)),
            ("edge-1".into(), one),
            ("edge-2".into(), two),
        ]);
        DestinationRuleValues::try_new(&callers, &localities, &"cloud".into())
    }

    #[test]
    fn the_failover_form_lists_every_edge_and_no_weight() {
        let values = failover(&["eu/a", "eu/b"], [&["berlin/x"], &["paris"]]).unwrap();
        let json = serde_json::to_value(&values).unwrap();
        assert_eq!(
            json["loadBalancer"],
            serde_json::json!({"localityLbSetting": {"enabled": true, "failover": [
                {"from": "berlin", "to": "eu"}, {"from": "paris", "to": "eu"},
            ]}})
        );
        assert_eq!(values.outlier_detection, OutlierDetection::default());
    }

    #[test]
    fn failover_needs_a_region_of_its_own_for_each_area() {
        let refused = |cloud: &[&str], edges| failover(cloud, edges).unwrap_err();
        let not_one = |area: &str| RuleError::NotOneRegion(area.into());
        assert_eq!(
            refused(&["eu/a", "us/a"], [&["berlin"], &["paris"]]),
            not_one("cloud")
        );
        assert_eq!(refused(&["eu"], [&["de/x"], &["de/y"]]), not_one("edge-1"));
        assert_eq!(refused(&["eu/a"], [&["eu/x"], &["fr"]]), not_one("cloud"));
    }

    #[test]
    fn every_entry_sums_to_100_without_zero() {
        let values = rule(&["eu/a", "eu/b", "eu/c"], &["edge-1/x", "edge-1/y"]).unwrap();
        let distribute = values.load_balancer.locality_lb_setting.distribute;
        for Distribute { to, .. } in &distribute {
            assert_eq!(to.values().sum::<u32>(), 100, "{to:?}");
            assert!(to.values().all(|weight| *weight > 0), "{to:?}");
        }
        let standby = distribute
            .iter()
            .find(|entry| entry.from.as_str() == "edge-1/x")
            .unwrap();
        assert_eq!(standby.to.get(&patterns(&["eu/*"])[0]), Some(&1), "{standby:?}");
        assert_eq!(distribute.last().unwrap().from, LocalityPattern::any());
    }

    #[test]
    fn what_would_match_nothing_or_two_is_refused() {
        assert_eq!(rule(&[], &["edge-1"]), Err(RuleError::NoLocality("cloud".into())));
        assert!(matches!(rule(&["eu"], &["eu/edge"]), Err(RuleError::Overlap(..))));
        assert!(matches!(
            rule(&["eu/a", "eu/b"], &["eu/edge"]),
            Err(RuleError::TooManyLocalities(_, 2))
        ));
        for bad in ["", "a//b", "a/b/c/d", "*/a", "a*", "eu/"] {
            assert!(LocalityPattern::try_from(bad).is_err(), "{bad:?}");
        }
    }
}
