//! What the types of the topology cannot say.

use std::collections::BTreeSet;

use gma_core::ids::AreaName;

use super::{ProxySpec, Topology};

/// Every problem, each with its key and remedy.
pub(super) fn problems(topology: &Topology) -> Vec<String> {
    let mut problems = Vec::new();
    names(topology, &mut problems);
    localities(topology, &mut problems);
    links(topology, &mut problems);
    for (index, proxy) in topology.proxies.iter().enumerate() {
        proxies(topology, index, proxy, &mut problems);
    }
    if topology.concurrency == 0 {
        problems.push("concurrency: 0 Envoy workers serve nothing; use 1 or more".to_owned());
    }
    problems
}

/// Names become parts of paths, node ids and pod names, so they are DNS labels.
fn names(topology: &Topology, problems: &mut Vec<String>) {
    let mut seen = BTreeSet::new();
    for (name, _) in topology.all_areas() {
        if !is_dns_label(name.as_str()) {
            problems.push(format!(
                "areas: name `{name}` must be 1 to 63 lower-case letters, digits and hyphens"
            ));
        }
        if !seen.insert(name) {
            problems.push(format!(
                "areas: name `{name}` is used twice; each area needs its own"
            ));
        }
    }
    if !is_dns_label(&topology.namespace) {
        problems.push(format!(
            "namespace: `{}` must be 1 to 63 lower-case letters, digits and hyphens",
            topology.namespace
        ));
    }
    if topology.app.is_some() && topology.areas.edges.is_empty() {
        problems.push("areas.edges: empty, so users have no gateway; add an edge".to_owned());
    }
}

fn localities(topology: &Topology, problems: &mut Vec<String>) {
    let mut all = Vec::new();
    for (area, localities) in topology.all_areas() {
        if localities.is_empty() {
            problems.push(format!(
                "areas: `{area}` has no localities; add at least one, e.g. region/zone"
            ));
        }
        all.extend(localities.iter().map(|locality| (area, locality)));
    }
    for (index, (area, locality)) in all.iter().enumerate() {
        for (other_area, other) in all
            .iter()
            .skip(index + 1)
            .filter(|(_, other)| other.overlaps(locality))
        {
            problems.push(format!(
                "areas: locality `{locality}` of `{area}` and `{other}` of `{other_area}` overlap; an endpoint \
                 must fall in exactly one"
            ));
        }
    }
}

fn links(topology: &Topology, problems: &mut Vec<String>) {
    let mut seen = BTreeSet::new();
    for (index, link) in topology.links.iter().enumerate() {
        if !topology.areas.edges.iter().any(|edge| edge.name == link.edge) {
            problems.push(format!(
                "links[{index}].edge: `{}` is no edge; {}",
                link.edge,
                edges(topology)
            ));
        }
        if !seen.insert(&link.edge) {
            problems.push(format!(
                "links[{index}].edge: `{}` has a link already; keep one",
                link.edge
            ));
        }
    }
}

fn proxies(topology: &Topology, index: usize, proxy: &ProxySpec, problems: &mut Vec<String>) {
    if !topology.all_areas().any(|(area, _)| *area == proxy.area) {
        problems.push(format!(
            "proxies[{index}].area: `{}` is no area; the cloud is `{}`, {}",
            proxy.area,
            topology.areas.cloud.name,
            edges(topology)
        ));
    }
    if proxy.gateway != proxy.ports.is_empty() {
        problems.push(format!(
            "proxies[{index}]: give either `gateway: true` or `ports` with a host each, e.g. ports: {{8080: \
             s0.{}.svc.cluster.local}}",
            topology.namespace
        ));
    }
    if proxy.node.split('~').count() != 4 {
        problems.push(format!(
            "proxies[{index}].node: `{}` is no node id of Istio's form, \
             TYPE~IP~NAME.NAMESPACE~NAMESPACE.svc.cluster.local",
            proxy.node
        ));
    }
}

fn edges(topology: &Topology) -> String {
    let names: Vec<&str> = topology
        .areas
        .edges
        .iter()
        .map(|edge| &edge.name)
        .map(AreaName::as_str)
        .collect();
    if names.is_empty() {
        "there are no edges".to_owned()
    } else {
        format!("the edges are {}", names.join(", "))
    }
}

fn is_dns_label(name: &str) -> bool {
    let inner = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
    (1..=63).contains(&name.len())
        && name.bytes().all(inner)
        && !name.starts_with('-')
        && !name.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::TopologyError;

    const GOOD: &str = "
areas:
  cloud: {localities: [eu-cloud/a]}
  edges: [{name: edge-1, localities: [eu-edge-1/a]}]
links: [{edge: edge-1, rtt: 20ms, bandwidth: 1Gbps}]
proxies:
- {node: sidecar~10.0.0.1~s0-1.shop~shop.svc.cluster.local, area: cloud, ports: {8080: s0.shop.svc.cluster.local}}
- {node: router~10.0.0.2~gw.shop~shop.svc.cluster.local, area: edge-1, gateway: true}
controller: {address: '127.0.0.1:8080'}
";

    fn error_of(text: &str) -> String {
        Topology::parse("t.yaml", text).unwrap_err().to_string()
    }

    #[test]
    fn a_whole_topology_is_read_and_survives_json() {
        let topology = Topology::parse("t.yaml", GOOD).unwrap();
        assert_eq!(topology.namespace, "shop");
        let json = serde_json::to_string(&topology).unwrap();
        assert_eq!(Topology::parse("t.json", &json).unwrap(), topology);
    }

    #[test]
    fn the_embedded_one_is_good() {
        let topology = Topology::embedded("127.0.0.1:9090".parse().unwrap()).unwrap();
        assert!(topology.app.is_some());
        assert_eq!(topology.controller.address.port(), 9090);
    }

    #[test]
    fn an_unknown_key_is_named_with_those_that_exist() {
        let error = error_of(&GOOD.replace("links:", "link:"));
        assert!(
            error.contains("`link`") && error.contains("`links`") && error.contains("t.yaml"),
            "{error}"
        );
    }

    #[test]
    fn each_contradiction_is_named_with_its_key_and_remedy() {
        let cases = [
            (
                "edge: edge-1, rtt",
                "edge: edge-9, rtt",
                "links[0].edge: `edge-9` is no edge; the edges are edge-1",
            ),
            ("name: edge-1", "name: cloud", "name `cloud` is used twice"),
            ("eu-edge-1/a", "eu-cloud", "overlap"),
            ("area: edge-1", "area: moon", "proxies[1].area: `moon`"),
            ("gateway: true", "gateway: false", "proxies[1]: give either"),
            ("router~10.0.0.2~", "router~", "proxies[1].node"),
            ("rtt: 20ms", "rtt: 20", "needs a unit"),
            ("1Gbps", "1GB", "needs a unit"),
            ("[eu-cloud/a]", "[]", "`cloud` has no localities"),
            ("[eu-cloud/a]", "[/a]", "must be region"),
            ("name: edge-1", "name: Edge_1", "lower-case"),
        ];
        for (from, to, expected) in cases {
            let error = error_of(&GOOD.replacen(from, to, 1));
            assert!(error.contains(expected), "{from} -> {to}: {error}");
        }
    }

    #[test]
    fn all_problems_are_reported_together() {
        let text = GOOD
            .replace("area: edge-1", "area: moon")
            .replace("edge: edge-1, rtt", "edge: x, rtt");
        let Err(TopologyError::Contradiction { problems, .. }) = Topology::parse("t", &text) else {
            panic!("accepted");
        };
        assert_eq!(problems.len(), 2, "{problems:?}");
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = Topology::read(std::path::Path::new("no/such.yaml"))
            .unwrap_err()
            .to_string();
        assert!(error.contains("no/such.yaml"), "{error}");
    }
}
