//! What the local platform writes for a routing plan is what istiod makes of the rule that is written for it in Kubernetes: endpoints,
//! weights, priorities and the settings of clusters, as Envoys in each area have them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use gma_core::cluster::Weights;
use gma_core::ids::AreaName;
use gma_core::routing::{Form, form};
use gma_local::envoy::{Endpoint, assignment, outbound};
use gma_tests::envoy;
use gma_tests::kube::{Stage, until, yaml};
use gma_tests::rig::{Cluster, Suite, manifests};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::ListParams;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

const PLANS: usize = 50;
const NAMESPACE: &str = "equal";
/// Longest wait until istiod has told all Envoys.
const SOON: Duration = Duration::from_secs(60);

/// Areas with their zones, which are their nodes' names; the cloud has three, an edge two.
const AREAS: [(&str, &[&str]); 3] = [
    ("cloud", &["cloud-a", "cloud-b", "cloud-c"]),
    ("edge-1", &["edge-1a", "edge-1b"]),
    ("edge-2", &["edge-2a"]),
];
/// Pods of each zone; a plan has some of them.
const PODS: usize = 3;

/// An Envoy in each area; its zone, and its address.
const CALLERS: [(&str, &str, &str); 3] = [
    ("cloud", "cloud-a", "10.244.248.1"),
    ("edge-1", "edge-1a", "10.244.248.2"),
    ("edge-2", "edge-2a", "10.244.248.3"),
];

/// What differs in a cluster and is meant to: the beginning of its path, and why.
const BY_DESIGN: [(&str, &str); 7] = [
    ("/@type", "a dump says of what type it is"),
    ("/name", "all services of a local world have the port 8080"),
    (
        "/alt_stat_name",
        "the name of its statistics, which ours has from its name",
    ),
    (
        "/eds_cluster_config",
        "endpoints come from files, and not from istiod's stream",
    ),
    (
        "/metadata/filter_metadata/istio/config",
        "istiod names the rule in force; files have none",
    ),
    (
        "/metadata/filter_metadata/istio/default_original_port",
        "istiod tells sidecars only; no call depends on it",
    ),
    (
        "/circuit_breakers/thresholds/0/track_remaining",
        "gauges of what is left of the limits, which are the same",
    ),
];

fn main() -> ExitCode {
    Suite::default()
        .test(
            "fifty_plans_are_the_same_in_both",
            fifty_plans_are_the_same_in_both,
        )
        .run()
}

/// A service, what runs of it, and its routes.
struct Plan {
    host: String,
    endpoints: Vec<Endpoint>,
    routes: BTreeMap<AreaName, Weights>,
}

/// What callers in an area have of a service: by locality, weight, priority and addresses.
type Seen = BTreeMap<String, (u64, u64, BTreeSet<String>)>;

// === Plans ===

/// Pods of each zone that a plan has; the cloud has one at least.
fn draw_pods(rng: &mut StdRng) -> BTreeMap<&'static str, usize> {
    let mut counts = BTreeMap::new();
    for (_, zones) in AREAS {
        for zone in zones {
            counts.insert(*zone, rng.random_range(0..=PODS));
        }
    }
    let least = counts.entry("cloud-a").or_default();
    *least = (*least).max(1);
    counts
}

/// Routes of the matrix, of either form.
fn draw_routes(rng: &mut StdRng) -> BTreeMap<AreaName, Weights> {
    let cloud = || Weights::from([("cloud".into(), 100)]);
    let is_failover = rng.random_bool(0.3);
    let mut routes = BTreeMap::from([("cloud".into(), cloud())]);
    for edge in ["edge-1", "edge-2"] {
        let share = match (rng.random_bool(0.7), is_failover) {
            (false, _) => 0,
            (true, true) => 100,
            (true, false) => rng.random_range(1..=99),
        };
        let weights: Weights = [("cloud".into(), 100 - share), (edge.into(), share)]
            .into_iter()
            .filter(|(_, weight)| *weight > 0)
            .collect();
        routes.insert(edge.into(), weights);
    }
    routes
}

/// A pod of a zone, which is of every service that has more than `index` pods there.
fn pod(zone: &str, index: usize, plans: &[BTreeMap<&'static str, usize>]) -> Value {
    let mut labels: BTreeMap<String, &str> = plans
        .iter()
        .enumerate()
        .filter(|(_, counts)| counts.get(zone).is_some_and(|count| *count > index))
        .map(|(plan, _)| (format!("s{plan}"), "yes"))
        .collect();
    labels.insert("pool".to_owned(), "yes");
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": format!("{zone}-{index}"), "namespace": NAMESPACE, "labels": labels},
        "spec": {"nodeName": zone, "containers": [{"name": "app", "image": "pause"}]},
    })
}

fn service(plan: usize) -> Value {
    let selector = BTreeMap::from([(format!("s{plan}"), "yes")]);
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": format!("s{plan}"), "namespace": NAMESPACE},
        "spec": {"selector": selector, "ports": [{"name": "http", "port": 80, "targetPort": 8080}]},
    })
}

// === Both sides ===

async fn dump(address: &str) -> anyhow::Result<Value> {
    let admin = SocketAddr::new(address.parse()?, 15000);
    let answer = envoy::get(admin, "/config_dump?include_eds")
        .await
        .map_err(anyhow::Error::msg)?;
    Ok(serde_json::from_slice(&answer.body)?)
}

/// The resources of a dump under a key, each under another, by their name.
fn resources(dump: &Value, list: &str, key: &str, name: &str) -> BTreeMap<String, Value> {
    let configs = dump
        .get("configs")
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    let entries = configs
        .filter_map(|config| config.get(list)?.as_array())
        .flatten();
    let found = entries.filter_map(|entry| {
        let resource = entry.get(key)?;
        Some((resource.get(name)?.as_str()?.to_owned(), resource.clone()))
    });
    found.collect()
}

/// A `ClusterLoadAssignment`, less what says nothing of where calls go.
fn seen(assignment: &Value) -> anyhow::Result<Seen> {
    let mut seen = Seen::new();
    let groups = assignment
        .get("endpoints")
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    for group in groups {
        let text = |part: &str| {
            group
                .pointer(&format!("/locality/{part}"))
                .and_then(Value::as_str)
        };
        let place = format!(
            "{}/{}",
            text("region").unwrap_or_default(),
            text("zone").unwrap_or_default()
        );
        // What is 0 is left out of a dump.
        let number = |key: &str| group.get(key).and_then(Value::as_u64).unwrap_or(0);
        let endpoints = group
            .get("lb_endpoints")
            .and_then(Value::as_array)
            .into_iter()
            .flatten();
        let address = |endpoint: &Value| {
            let address = endpoint.pointer("/endpoint/address/socket_address")?;
            Some(format!(
                "{}:{}",
                address.get("address")?.as_str()?,
                address.get("port_value")?
            ))
        };
        let addresses: Option<BTreeSet<String>> = endpoints.map(address).collect();
        let addresses = addresses.context("an endpoint without an address")?;
        if addresses.is_empty() {
            continue;
        }
        let other = seen.insert(
            place,
            (number("load_balancing_weight"), number("priority"), addresses),
        );
        ensure!(other.is_none(), "a locality twice: {assignment}");
    }
    Ok(seen)
}

fn area_of(place: &str) -> &str {
    place.split('/').next().unwrap_or_default()
}

/// By design: callers that fail over prefer, of their own area, the zone that they are in, and the local platform prefers none. So an
/// area's zones are taken to have the priority of its best.
fn without_own_zone(seen: &Seen) -> Seen {
    let mut best: BTreeMap<&str, u64> = BTreeMap::new();
    for (place, (_, priority, _)) in seen {
        let least = best.entry(area_of(place)).or_insert(*priority);
        *least = (*least).min(*priority);
    }
    let ranks: BTreeSet<u64> = best.values().copied().collect();
    let rank = |place: &str| {
        let own = best.get(area_of(place)).copied().unwrap_or_default();
        ranks.iter().take_while(|other| **other < own).count() as u64
    };
    seen.iter()
        .map(|(place, (weight, _, addresses))| (place.clone(), (*weight, rank(place), addresses.clone())))
        .collect()
}

/// All leaves of a JSON value by their pointers.
fn leaves(value: &Value, at: &str, found: &mut BTreeMap<String, Value>) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            for (key, value) in fields {
                leaves(value, &format!("{at}/{key}"), found);
            }
        }
        Value::Array(items) => {
            for (index, value) in items.iter().enumerate() {
                leaves(value, &format!("{at}/{index}"), found);
            }
        }
        leaf => {
            found.insert(at.to_owned(), leaf.clone());
        }
    }
}

/// Where two clusters differ, with both values.
fn differences(ours: &Value, istiods: &Value) -> BTreeMap<String, [Value; 2]> {
    let mut sides = [BTreeMap::new(), BTreeMap::new()];
    for (side, cluster) in sides.iter_mut().zip([ours, istiods]) {
        leaves(cluster, "", side);
    }
    let [ours, istiods] = sides;
    let paths: BTreeSet<&String> = ours.keys().chain(istiods.keys()).collect();
    let both = paths.into_iter().map(|path| {
        let of = |side: &BTreeMap<String, Value>| side.get(path).cloned().unwrap_or_default();
        (path.clone(), [of(&ours), of(&istiods)])
    });
    both.filter(|(_, [ours, istiods])| ours != istiods).collect()
}

// === The test ===

async fn fifty_plans_are_the_same_in_both(cluster: &Cluster) -> anyhow::Result<()> {
    let mut rng = StdRng::seed_from_u64(1);
    let pods: Vec<_> = (0..PLANS).map(|_| draw_pods(&mut rng)).collect();
    let routes: Vec<_> = (0..PLANS).map(|_| draw_routes(&mut rng)).collect();
    let addresses = start(cluster, &pods).await?;
    let plans = pods
        .iter()
        .zip(routes)
        .enumerate()
        .map(|(number, (counts, routes))| {
            let mut endpoints = Vec::new();
            for (area, zones) in AREAS {
                for zone in zones {
                    for index in 0..counts.get(zone).copied().unwrap_or(0) {
                        let address = addresses.get(&format!("{zone}-{index}")).context("no such pod")?;
                        endpoints.push(Endpoint {
                            area: area.into(),
                            locality: format!("{area}/{zone}").parse().map_err(anyhow::Error::msg)?,
                            address: SocketAddr::new(*address, 8080),
                        });
                    }
                }
            }
            let host = format!("s{number}.{NAMESPACE}.svc.cluster.local");
            anyhow::Ok(Plan {
                host,
                endpoints,
                routes,
            })
        });
    let plans: Vec<Plan> = plans.collect::<Result<_, _>>()?;
    write(cluster, &plans).await?;
    let mut last = Vec::new();
    for (area, _, address) in CALLERS {
        last.push(
            until("istiod's endpoints are the local platform's", SOON, async || {
                let dump = dump(address).await?;
                let wrong = compare_endpoints(&plans, area, &dump)?;
                Ok(if wrong.is_empty() {
                    Ok(dump)
                } else {
                    Err(format!("{} plans differ: {wrong:#?}", wrong.len()))
                })
            })
            .await?,
        );
    }
    for dump in &last {
        compare_clusters(&plans, dump)?;
    }
    let failover = plans
        .iter()
        .filter(|plan| form(&plan.routes, &"cloud".into()) == Form::Failover)
        .count();
    println!(
        "{PLANS} plans, {failover} of the failover form, are the same for {} callers",
        CALLERS.len()
    );
    ensure!((5..PLANS).contains(&failover), "{failover}");
    Ok(())
}

/// Starts nodes, pods, services and callers; addresses of the pods by their names.
async fn start(
    cluster: &Cluster,
    plans: &[BTreeMap<&'static str, usize>],
) -> anyhow::Result<BTreeMap<String, std::net::IpAddr>> {
    let mut objects = vec![json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})];
    for (area, zones) in AREAS {
        for zone in zones {
            cluster.add_node(zone, &format!("{area}/{zone}")).await?;
            objects.extend((0..PODS).map(|index| pod(zone, index, plans)));
        }
    }
    objects.extend((0..plans.len()).map(service));
    let mut documents = yaml(&objects);
    for (_, zone, address) in CALLERS {
        documents += &manifests::gateway(NAMESPACE, zone, address, "s0");
    }
    cluster.apply(&documents).await?;
    for (_, zone, _) in CALLERS {
        cluster
            .until_ready(NAMESPACE, &format!("istio=gateway-{zone}"), 1)
            .await?;
    }
    let count = PODS * AREAS.iter().map(|(_, zones)| zones.len()).sum::<usize>();
    cluster.until_ready(NAMESPACE, "pool=yes", count).await?;
    let api: Api<Pod> = Api::namespaced(cluster.client.clone(), NAMESPACE);
    let mut addresses = BTreeMap::new();
    for pod in api.list(&ListParams::default().labels("pool=yes")).await?.items {
        let ip = pod
            .status
            .and_then(|status| status.pod_ip)
            .context("no address")?;
        addresses.insert(pod.metadata.name.context("no name")?, ip.parse()?);
    }
    Ok(addresses)
}

/// Writes each plan as the rule that the controller would write.
async fn write(cluster: &Cluster, plans: &[Plan]) -> anyhow::Result<()> {
    let areas = AREAS.map(|(area, _)| (area, [area]));
    let areas: Vec<(&str, &[&str])> = areas
        .iter()
        .map(|(area, pattern)| (*area, pattern.as_slice()))
        .collect();
    for (number, plan) in plans.iter().enumerate() {
        let reported: Vec<String> = plan
            .endpoints
            .iter()
            .map(|one| one.locality.to_string())
            .collect();
        let reported: Vec<&str> = reported.iter().map(String::as_str).collect();
        let stage = Stage::new(cluster, NAMESPACE, &format!("s{number}"), &areas, &reported).await?;
        match stage.write_routes(&plan.routes).await? {
            Ok(written) => stage.put_all(&written).await?,
            Err(held) => bail!("{}: {held:?}", plan.host),
        }
    }
    Ok(())
}

/// Plans whose endpoints differ for callers in an area.
fn compare_endpoints(plans: &[Plan], area: &str, dump: &Value) -> anyhow::Result<Vec<String>> {
    let cloud = AreaName::from("cloud");
    let istiods = resources(
        dump,
        "dynamic_endpoint_configs",
        "endpoint_config",
        "cluster_name",
    );
    let mut wrong = Vec::new();
    for plan in plans {
        let name = format!("outbound|80||{}", plan.host);
        let Some(theirs) = istiods.get(&name) else {
            wrong.push(format!("no endpoints of {name}"));
            continue;
        };
        let mut theirs = seen(theirs)?;
        let ours = assignment(
            &plan.host,
            &area.into(),
            Some(&plan.routes),
            &cloud,
            &plan.endpoints,
        );
        let ours = seen(&ours)?;
        if form(&plan.routes, &cloud) == Form::Failover {
            theirs = without_own_zone(&theirs);
        }
        if ours != theirs {
            wrong.push(format!(
                "{} in {area}, {:?}: ours {ours:?}, istiod's {theirs:?}",
                plan.host, plan.routes
            ));
        }
    }
    Ok(wrong)
}

/// The settings of each plan's cluster; what differs must be one of [`BY_DESIGN`], and each of these must be seen.
fn compare_clusters(plans: &[Plan], dump: &Value) -> anyhow::Result<()> {
    let istiods = resources(dump, "dynamic_active_clusters", "cluster", "name");
    let mut unexplained: BTreeMap<String, [Value; 2]> = BTreeMap::new();
    let mut explained = BTreeSet::new();
    for plan in plans {
        let theirs = istiods.get(&format!("outbound|80||{}", plan.host));
        let theirs = theirs.with_context(|| format!("no cluster of {}", plan.host))?;
        let ours = outbound(&plan.host, Path::new("/endpoints.json"));
        for (path, values) in differences(&ours, theirs) {
            let meant = BY_DESIGN.iter().find(|(prefix, _)| path.starts_with(prefix));
            if let Some((prefix, _)) = meant {
                explained.insert(*prefix);
            } else {
                unexplained.insert(path, values);
            }
        }
    }
    ensure!(unexplained.is_empty(), "ours and istiod's: {unexplained:#?}");
    let stale: Vec<_> = BY_DESIGN
        .iter()
        .filter(|(prefix, _)| !explained.contains(prefix))
        .collect();
    ensure!(stale.is_empty(), "these do not differ: {stale:?}");
    Ok(())
}
