//! Localities as istiod names them, and which area each lies in.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use gma_core::ids::AreaName;
use gma_core::routing::LocalityPattern;

/// Labels of a node that make its locality.
pub(crate) const REGION: &str = "topology.kubernetes.io/region";
pub(crate) const ZONE: &str = "topology.kubernetes.io/zone";
pub(crate) const SUBZONE: &str = "topology.istio.io/subzone";

/// `region/zone/subzone` of an endpoint or a proxy; a part that is not known is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Locality {
    /// Label `topology.kubernetes.io/region`.
    pub region: String,
    /// Label `topology.kubernetes.io/zone`.
    pub zone: String,
    /// Label `topology.istio.io/subzone`.
    pub subzone: String,
}

/// The localities of each area.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AreaMap {
    /// By patterns of whole localities; they are disjoint.
    Localities(BTreeMap<AreaName, Vec<LocalityPattern>>),
    /// By zones, whatever the region is.
    Zones(BTreeMap<AreaName, BTreeSet<String>>),
}

// === impl Locality ===

impl Locality {
    /// Reads `region/zone/subzone`; missing parts are empty, and what follows a third `/` belongs to the subzone.
    pub fn parse(text: &str) -> Self {
        let mut parts = text.splitn(3, '/').map(str::to_owned);
        let mut next = || parts.next().unwrap_or_default();
        Self {
            region: next(),
            zone: next(),
            subzone: next(),
        }
    }

    /// That of a node, by its labels.
    pub(crate) fn of_node(labels: &BTreeMap<String, String>) -> Self {
        let part = |label: &str| labels.get(label).cloned().unwrap_or_default();
        Self {
            region: part(REGION),
            zone: part(ZONE),
            subzone: part(SUBZONE),
        }
    }

    /// The pattern of exactly this locality; none where a part before the last is empty, for istiod accepts none such.
    pub fn pattern(&self) -> Option<LocalityPattern> {
        LocalityPattern::try_from(self.to_string()).ok()
    }

    fn parts(&self) -> [&str; 3] {
        [&self.region, &self.zone, &self.subzone]
    }

    /// Whether a pattern covers it, as istiod matches: what the pattern leaves out is any.
    fn is_in(&self, pattern: &LocalityPattern) -> bool {
        let wanted = pattern.as_str().split('/');
        wanted
            .zip(self.parts())
            .all(|(wanted, part)| wanted == "*" || wanted == part)
    }
}

impl fmt::Display for Locality {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = self.parts().join("/");
        f.write_str(whole.trim_end_matches('/'))
    }
}

// === impl AreaMap ===

impl AreaMap {
    /// The area that a locality lies in.
    pub fn area_of(&self, locality: &Locality) -> Option<&AreaName> {
        match self {
            Self::Localities(areas) => areas
                .iter()
                .find(|(_, patterns)| patterns.iter().any(|pattern| locality.is_in(pattern)))
                .map(|(area, _)| area),
            Self::Zones(areas) => areas
                .iter()
                .find(|(_, zones)| zones.contains(&locality.zone))
                .map(|(area, _)| area),
        }
    }

    /// Every area.
    pub fn names(&self) -> Vec<&AreaName> {
        match self {
            Self::Localities(areas) => areas.keys().collect(),
            Self::Zones(areas) => areas.keys().collect(),
        }
    }
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

    #[test]
    fn a_pattern_covers_what_is_below_it() {
        let areas = AreaMap::Localities(BTreeMap::from([
            ("cloud".into(), patterns(&["eu/a", "eu/b"])),
            ("edge-1".into(), patterns(&["eu-edge"])),
        ]));
        for (locality, area) in [
            ("eu/a", Some("cloud")),
            ("eu/b/rack", Some("cloud")),
            ("eu/c", None),
            ("eu", None),
            ("eu-edge/x/y", Some("edge-1")),
            ("/eu-edge", None),
            ("", None),
        ] {
            let found = areas.area_of(&Locality::parse(locality)).map(AreaName::as_str);
            assert_eq!(found, area, "{locality}");
        }
    }

    #[test]
    fn a_zone_is_one_whatever_its_region() {
        let zones = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let areas = AreaMap::Zones(BTreeMap::from([
            ("cloud".into(), zones(&["cloud"])),
            ("edge-1".into(), zones(&["edge1"])),
        ]));
        for (locality, area) in [
            ("/edge1", Some("edge-1")),
            ("eu/cloud", Some("cloud")),
            ("edge1", None),
        ] {
            let found = areas.area_of(&Locality::parse(locality)).map(AreaName::as_str);
            assert_eq!(found, area, "{locality}");
        }
    }

    #[test]
    fn only_a_locality_with_all_parts_before_its_last_has_a_pattern() {
        let pattern = |text: &str| Locality::parse(text).pattern();
        assert_eq!(pattern("eu/a/").unwrap().as_str(), "eu/a");
        assert_eq!(
            [pattern("/edge1"), pattern(""), pattern("eu//x")],
            [None, None, None]
        );
    }
}
