//! Endpoints of a service as callers in one area see them, with istiod's rounding, and the files that carry them.
//!
//! istiod (pilot `loadbalancer.go`, `applyLocalityWeights`): the first `from` that matches the caller decides; each
//! locality's share of a weight is rounded up; localities that no `to` names lose their endpoints; a caller that no
//! `from` matches gets each locality weighted by its number of endpoints. Endpoints that are not ready are not sent.
//!
//! In the failover form (`applyLocalityFailover`) there are priorities instead: the caller's own region, then the region
//! that its `failover` entry names, then all others; those without endpoints are closed up. Each locality counts by its
//! number of endpoints. Envoy leaves a priority once less than 1/1.4 of its endpoints are healthy (its default
//! overprovisioning factor, which istiod does not set), wholly when none is.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use gma_core::cluster::Weights;
use gma_core::ids::AreaName;
use gma_core::routing::{Form, effective_endpoint_weights, form};
use serde_json::{Value, json};

use super::bootstrap::locality;
use super::{lb_endpoint, outbound_cluster};
use crate::topology::Locality;

/// Caller area of a rule's last entry, which matches callers that no other does.
const ANY_CALLER: &str = "*";

/// A ready endpoint as callers of one area reach it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint {
    /// Its area.
    pub area: AreaName,
    /// Where in it.
    pub locality: Locality,
    /// Where callers connect.
    pub address: SocketAddr,
}

/// The files of all services and caller areas: `FOLDER/AREA/HOST/endpoints.json`. A folder a file, since an Envoy that
/// watches a folder reads its file again at each change in it.
#[derive(Debug)]
pub(crate) struct EndpointFiles {
    folder: PathBuf,
    written: BTreeMap<PathBuf, Value>,
    version: u64,
}

/// Endpoints of `host` for callers in `caller`, by the service's `rule` (weights by caller area; none: no rule).
pub fn assignment(
    host: &str,
    caller: &AreaName,
    rule: Option<&BTreeMap<AreaName, Weights>>,
    cloud: &AreaName,
    endpoints: &[Endpoint],
) -> Value {
    let mut by_area: BTreeMap<&AreaName, BTreeMap<&Locality, Vec<SocketAddr>>> = BTreeMap::new();
    for Endpoint {
        area,
        locality,
        address,
    } in endpoints
    {
        by_area
            .entry(area)
            .or_default()
            .entry(locality)
            .or_default()
            .push(*address);
    }
    let failover = rule.is_some_and(|rule| form(rule, cloud) == Form::Failover);
    let from = rule
        .filter(|_| !failover)
        .and_then(|rule| rule.get(caller).or_else(|| rule.get(&AreaName::from(ANY_CALLER))));
    let ranks: BTreeSet<u32> = by_area.keys().map(|area| rank(caller, area, cloud)).collect();
    let mut localities = Vec::new();
    for (area, groups) in by_area {
        let sizes: Vec<u32> = groups
            .values()
            .map(|group| u32::try_from(group.len()).unwrap_or(u32::MAX))
            .collect();
        let weights = match from.map(|to| to.get(area)) {
            None => sizes,
            Some(Some(weight)) => effective_endpoint_weights(*weight, &sizes),
            Some(None) => continue,
        };
        let rank = rank(caller, area, cloud);
        let priority = if failover {
            ranks.iter().take_while(|other| **other < rank).count()
        } else {
            0
        };
        for ((place, group), weight) in groups.into_iter().zip(weights) {
            let endpoints: Vec<Value> = group.into_iter().map(lb_endpoint).collect();
            let group = json!({
                "locality": locality(place),
                "load_balancing_weight": weight,
                "priority": priority,
                "lb_endpoints": endpoints,
            });
            localities.push(group);
        }
    }
    json!({
        "@type": "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
        "cluster_name": outbound_cluster(host),
        "endpoints": localities,
    })
}

/// Order of an area for callers that fail over: their own first; of an edge then the cloud, which its `failover` entry names.
/// The cloud has no entry, so to its callers all edges are alike.
fn rank(caller: &AreaName, area: &AreaName, cloud: &AreaName) -> u32 {
    if area == caller {
        0
    } else if caller == cloud || area == cloud {
        1
    } else {
        2
    }
}

// === impl EndpointFiles ===

impl EndpointFiles {
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self {
            folder,
            written: BTreeMap::new(),
            version: 0,
        }
    }

    /// The file that Envoys in `caller` read for `host`.
    pub(crate) fn path(&self, caller: &AreaName, host: &str) -> PathBuf {
        self.folder
            .join(caller.as_str())
            .join(host)
            .join("endpoints.json")
    }

    /// Replaces a file in one step, so that no Envoy reads half of it; does nothing where it says that already.
    pub(crate) fn write(&mut self, caller: &AreaName, host: &str, assignment: &Value) -> io::Result<()> {
        let path = self.path(caller, host);
        if self.written.get(&path) == Some(assignment) {
            return Ok(());
        }
        self.version += 1;
        let response = json!({"version_info": self.version.to_string(), "resources": [assignment]});
        replace(&path, response.to_string().as_bytes())?;
        self.written.insert(path, assignment.clone());
        Ok(())
    }
}

fn replace(path: &Path, contents: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder)?;
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(contents)?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(area: &str, locality: &str, port: u16) -> Endpoint {
        Endpoint {
            area: area.into(),
            locality: locality.parse().unwrap(),
            address: SocketAddr::from(([127, 0, 0, 1], port)),
        }
    }

    fn rule(rows: &[(&str, &[(&str, u32)])]) -> BTreeMap<AreaName, Weights> {
        let weights = |to: &[(&str, u32)]| {
            to.iter()
                .map(|(area, weight)| ((*area).into(), *weight))
                .collect()
        };
        rows.iter()
            .map(|(from, to)| ((*from).into(), weights(to)))
            .collect()
    }

    /// Locality and weight of each group for callers at edge-1.
    fn weights(rule: Option<&BTreeMap<AreaName, Weights>>, endpoints: &[Endpoint]) -> Vec<(String, u64)> {
        let (host, cloud) = ("s1.shop.svc.cluster.local", AreaName::from("cloud"));
        let assignment = assignment(host, &"edge-1".into(), rule, &cloud, endpoints);
        let groups = assignment["endpoints"].as_array().unwrap().clone();
        let zone = |group: &Value| group["locality"]["zone"].as_str().unwrap().to_owned();
        groups
            .iter()
            .map(|group| (zone(group), group["load_balancing_weight"].as_u64().unwrap()))
            .collect()
    }

    fn group(zone: &str, weight: u64) -> (String, u64) {
        (zone.to_owned(), weight)
    }

    #[test]
    fn weights_are_those_of_the_callers_row() {
        let endpoints = [endpoint("cloud", "c/a", 1), endpoint("edge-1", "e/x", 2)];
        let rule = rule(&[
            ("edge-1", &[("edge-1", 99), ("cloud", 1)]),
            ("cloud", &[("cloud", 100)]),
        ]);
        assert_eq!(weights(Some(&rule), &endpoints), [group("a", 1), group("x", 99)]);
    }

    #[test]
    fn each_locality_of_an_area_is_rounded_up() {
        let endpoints = [
            endpoint("cloud", "c/a", 1),
            endpoint("cloud", "c/b", 2),
            endpoint("cloud", "c/d", 3),
            endpoint("edge-1", "e/x", 4),
        ];
        let rule = rule(&[("edge-1", &[("edge-1", 99), ("cloud", 1)])]);
        let expected = [group("a", 1), group("b", 1), group("d", 1), group("x", 99)];
        assert_eq!(weights(Some(&rule), &endpoints), expected);
    }

    #[test]
    fn an_area_is_shared_by_its_localities_numbers_of_endpoints() {
        let endpoints = [
            endpoint("cloud", "c/a", 1),
            endpoint("cloud", "c/a", 2),
            endpoint("cloud", "c/b", 3),
        ];
        let rule = rule(&[("edge-1", &[("cloud", 100)])]);
        assert_eq!(weights(Some(&rule), &endpoints), [group("a", 67), group("b", 34)]);
    }

    #[test]
    fn a_locality_that_no_weight_names_is_dropped() {
        let endpoints = [endpoint("cloud", "c/a", 1), endpoint("edge-1", "e/x", 2)];
        let rule = rule(&[("edge-1", &[("cloud", 100)])]);
        assert_eq!(weights(Some(&rule), &endpoints), [group("a", 100)]);
    }

    #[test]
    fn weights_that_match_no_endpoint_leave_none() {
        let rule = rule(&[("edge-1", &[("edge-2", 100)])]);
        assert_eq!(weights(Some(&rule), &[endpoint("cloud", "c/a", 1)]), []);
    }

    /// Area and priority of each group, by callers.
    fn priorities(caller: &str, endpoints: &[Endpoint]) -> Vec<(String, u64)> {
        let rule = rule(&[
            ("cloud", &[("cloud", 100)]),
            ("edge-1", &[("edge-1", 100)]),
            ("edge-2", &[("cloud", 100)]),
        ]);
        let (host, cloud) = ("s1.shop.svc.cluster.local", AreaName::from("cloud"));
        let assignment = assignment(host, &caller.into(), Some(&rule), &cloud, endpoints);
        let groups = assignment["endpoints"].as_array().unwrap().clone();
        let region = |group: &Value| group["locality"]["region"].as_str().unwrap().to_owned();
        groups
            .iter()
            .map(|group| (region(group), group["priority"].as_u64().unwrap()))
            .collect()
    }

    #[test]
    fn with_failover_the_own_edge_comes_first_and_the_cloud_second() {
        let cloud = endpoint("cloud", "c/a", 1);
        let (one, two) = (endpoint("edge-1", "e", 2), endpoint("edge-2", "f", 3));
        let all = [cloud.clone(), one.clone(), two];
        assert_eq!(
            priorities("edge-1", &all),
            [group("c", 1), group("e", 0), group("f", 2)]
        );
        assert_eq!(
            priorities("cloud", &all),
            [group("c", 0), group("e", 1), group("f", 1)]
        );
        // An edge without endpoints of its own: the cloud, and others only when that is gone.
        assert_eq!(
            priorities("edge-2", &[cloud.clone(), one]),
            [group("c", 0), group("e", 1)]
        );
        assert_eq!(priorities("edge-1", &[cloud]), [group("c", 0)]);
    }

    #[test]
    fn with_failover_localities_count_by_their_endpoints() {
        let rule = rule(&[("cloud", &[("cloud", 100)]), ("edge-1", &[("edge-1", 100)])]);
        let endpoints = [
            endpoint("cloud", "c/a", 1),
            endpoint("cloud", "c/a", 2),
            endpoint("cloud", "c/b", 3),
            endpoint("edge-1", "e/x", 4),
        ];
        let expected = [group("a", 2), group("b", 1), group("x", 1)];
        assert_eq!(weights(Some(&rule), &endpoints), expected);
    }

    #[test]
    fn a_listed_area_without_endpoints_leaves_all_to_the_others() {
        let rule = rule(&[("edge-1", &[("edge-1", 99), ("cloud", 1)])]);
        assert_eq!(
            weights(Some(&rule), &[endpoint("cloud", "c/a", 1)]),
            [group("a", 1)]
        );
    }

    #[test]
    fn a_caller_without_a_row_takes_the_last_one() {
        let endpoints = [endpoint("cloud", "c/a", 1), endpoint("edge-1", "e/x", 2)];
        let rule = rule(&[("cloud", &[("edge-1", 100)]), ("*", &[("cloud", 100)])]);
        assert_eq!(weights(Some(&rule), &endpoints), [group("a", 100)]);
    }

    #[test]
    fn a_caller_that_no_row_matches_and_a_service_without_rule_get_numbers_of_endpoints() {
        let endpoints = [
            endpoint("cloud", "c/a", 1),
            endpoint("cloud", "c/a", 2),
            endpoint("edge-1", "e/x", 3),
        ];
        let expected = [group("a", 2), group("x", 1)];
        assert_eq!(weights(None, &endpoints), expected);
        assert_eq!(
            weights(Some(&rule(&[("cloud", &[("cloud", 100)])])), &endpoints),
            expected
        );
    }

    #[test]
    fn a_file_is_replaced_whole_and_only_when_it_changes() {
        let folder = tempfile::tempdir().unwrap();
        let mut files = EndpointFiles::new(folder.path().to_owned());
        let area = AreaName::from("edge-1");
        let mut write = |value: &Value| files.write(&area, "s1", value).unwrap();
        write(&json!({"n": 1}));
        write(&json!({"n": 1}));
        let path = folder.path().join("edge-1/s1/endpoints.json");
        let read = || serde_json::from_slice::<Value>(&std::fs::read(&path).unwrap()).unwrap();
        assert_eq!(read(), json!({"version_info": "1", "resources": [{"n": 1}]}));
        write(&json!({"n": 2}));
        assert_eq!(read()["version_info"], "2");
        let left = std::fs::read_dir(path.parent().unwrap()).unwrap().count();
        assert_eq!(left, 1, "no temporary file stays");
    }
}
