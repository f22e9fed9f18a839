//! Faults planted on a real API server, and what the check finds there.

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use gma_core::ids::{AreaName, ServiceName};
use gma_core::routing::LocalityPattern;
use gma_k8s::check::{Finding, Inputs, Node, Pod, Severity, check, exit_code};
use gma_k8s::derive::{Edge, Source, Wish, derive};
use gma_k8s::locality::{AreaMap, Locality};
use gma_k8s::rule::{Areas, Mesh, Order, Rule, write};
use gma_k8s::settings;
use gma_tests::rig::{Cluster, Suite, manifests};
use k8s_openapi::api::core::v1;
use kube::Api;
use kube::api::{DynamicObject, ListParams};
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::{Value, json};

/// Longest wait for what takes a second on an idle machine.
const SOON: Duration = Duration::from_secs(60);

const NAMESPACE: &str = "check";

fn main() -> ExitCode {
    Suite::default()
        .test("planted_faults_are_found", planted_faults_are_found)
        .run()
}

// === What is asked of the server ===

/// Objects of a kind, of one namespace or of all, as the server gives them.
async fn list(cluster: &Cluster, kind: [&str; 3], namespace: Option<&str>) -> anyhow::Result<Vec<Value>> {
    let [group, version, kind] = kind;
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
    let client = cluster.client.clone();
    let api: Api<DynamicObject> = match namespace {
        Some(namespace) => Api::namespaced_with(client, namespace, &resource),
        None => Api::all_with(client, &resource),
    };
    let found = api.list(&ListParams::default()).await?.items;
    found
        .into_iter()
        .map(|mut object| {
            // Of a list's items the server does not say the kind.
            object.types = Some(kube::core::TypeMeta {
                api_version: format!("{group}/{version}").trim_start_matches('/').to_owned(),
                kind: kind.to_owned(),
            });
            Ok(serde_json::to_value(object)?)
        })
        .collect()
}

fn named<'a>(objects: &'a [Value], name: &str) -> Option<&'a Value> {
    let is_it = |object: &&Value| object.pointer("/metadata/name").and_then(Value::as_str) == Some(name);
    objects.iter().find(is_it)
}

async fn has_metrics(cluster: &Cluster) -> anyhow::Result<bool> {
    let groups = cluster.client.list_api_groups().await?.groups;
    Ok(groups.iter().any(|group| group.name == "metrics.k8s.io"))
}

/// Everything that a check needs, from the server.
async fn findings(cluster: &Cluster) -> anyhow::Result<Vec<Finding>> {
    let (cloud, edge) = (AreaName::from("cloud"), AreaName::from("edge-1"));
    let pattern = |text| {
        let pattern = LocalityPattern::try_from(text).map(|one| vec![one]);
        pattern.map_err(|error| anyhow::anyhow!("{error}"))
    };
    let areas = AreaMap::Localities(BTreeMap::from([
        (cloud.clone(), pattern("eu")?),
        (edge.clone(), pattern("lab")?),
    ]));
    let edges = BTreeMap::from([(
        edge.clone(),
        settings::Edge {
            gateway_namespace: NAMESPACE.to_owned(),
            gateway_labels: BTreeMap::from([("istio".to_owned(), "gateway-edge-1".to_owned())]),
            rtt: None,
            prober: None,
        },
    )]);
    let nodes: Api<v1::Node> = Api::all(cluster.client.clone());
    let nodes = nodes.list(&ListParams::default()).await?.items;
    let nodes: Vec<Node> = nodes.iter().map(Node::of).collect();
    let pods: Api<v1::Pod> = Api::namespaced(cluster.client.clone(), NAMESPACE);
    let pods = pods.list(&ListParams::default()).await?.items;
    let pods: Vec<Pod> = pods
        .iter()
        .map(|pod| Pod::of(pod, &nodes, &areas, &edges))
        .collect();

    let services = list(cluster, ["", "v1", "Service"], Some(NAMESPACE)).await?;
    let autoscalers = list(
        cluster,
        ["autoscaling", "v2", "HorizontalPodAutoscaler"],
        Some(NAMESPACE),
    )
    .await?;
    let plugins = list(cluster, ["extensions.istio.io", "v1alpha1", "WasmPlugin"], None).await?;
    let sets = list(cluster, ["apps", "v1", "StatefulSet"], Some(NAMESPACE)).await?;
    let rules = list(cluster, ["networking.istio.io", "v1", "DestinationRule"], None).await?;

    let place = Edge {
        name: &edge,
        cloud: &cloud,
        map: &areas,
        taints: &[],
    };
    let wish = Wish {
        object: "check/check",
        replicas: 1,
        min_replicas: None,
        drain: Duration::from_secs(60),
    };
    let source = Source {
        workload: named(&sets, "db").context("no db")?,
        service: named(&services, "db").context("no db")?,
        autoscaler: None,
        found: None,
    };
    let mut refused = BTreeMap::new();
    if let Err(why) = derive(&source, place, &wish) {
        refused.insert((ServiceName::from("db"), edge.clone()), why);
    }
    let held = held(&rules, &cloud, &areas)?;
    Ok(check(&Inputs {
        namespace: NAMESPACE,
        own_namespace: "gma-system",
        root_namespace: "istio-system",
        cloud: &cloud,
        areas: &areas,
        nodes: &nodes,
        offloaded: &BTreeMap::new(),
        pods: &pods,
        services: &services,
        plugins: Some(&plugins),
        autoscalers: &autoscalers,
        has_metrics: has_metrics(cluster).await?,
        held: &held,
        refused: &refused,
        notes: &BTreeMap::new(),
        heard: Some(&BTreeSet::new()),
        denied: &BTreeSet::new(),
    }))
}

/// What the rule writer says of the Service `web`.
fn held(
    rules: &[Value],
    cloud: &AreaName,
    areas: &AreaMap,
) -> anyhow::Result<BTreeMap<ServiceName, gma_k8s::rule::Held>> {
    let parsed = rules.iter().map(|rule| Rule::try_new(rule, "cluster.local"));
    let mesh = Mesh {
        root_namespace: "istio-system".to_owned(),
        rules: parsed.collect::<Result<_, _>>()?,
    };
    let host = ServiceName::new(format!("web.{NAMESPACE}.svc.cluster.local"));
    let routes = BTreeMap::from([(cloud.clone(), [(cloud.clone(), 100)].into())]);
    let order = Order {
        host: &host,
        namespace: NAMESPACE,
        callers: &[NAMESPACE.to_owned()].into(),
        unlocated_caller: None,
        reported: &[Locality::parse("eu/a")].into(),
        routes: &routes,
        object: "check/check",
    };
    let held = write(&mesh, Areas { cloud, map: areas }, &order).err();
    Ok(held.into_iter().map(|held| (host.clone(), held)).collect())
}

// === What is planted ===

fn plugin(name: &str, strategy: &str, url: &str) -> Value {
    json!({
        "apiVersion": "extensions.istio.io/v1alpha1", "kind": "WasmPlugin",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "url": url, "failStrategy": strategy, "match": [{"mode": "CLIENT_AND_SERVER"}],
            "pluginConfig": {"controller": {"cluster": "outbound|80||gma-reports.gma-system.svc.cluster.local"}},
            // No proxy of this test loads it.
            "selector": {"matchLabels": {"istio": "gateway-edge-1", "loads": "nothing"}},
        },
    })
}

/// A pod that nothing runs in; `extra` is merged into its spec.
fn pod(name: &str, labels: &Value, extra: Value) -> Value {
    let mut spec = json!({"containers": [{"name": "main", "image": "pause"}]});
    if let (Some(spec), Value::Object(extra)) = (spec.as_object_mut(), extra) {
        spec.extend(extra);
    }
    json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": labels}, "spec": spec})
}

fn autoscaler(name: &str) -> Value {
    json!({
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "twin"}, "maxReplicas": 2},
    })
}

fn faults() -> Vec<Value> {
    let twin = json!({"app": "twin"});
    vec![
        // Its pods have a name and data each.
        json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "db", "namespace": NAMESPACE},
            "spec": {"replicas": 0, "serviceName": "db", "selector": {"matchLabels": {"app": "db"}},
                "template": {"metadata": {"labels": {"app": "db"}},
                    "spec": {"containers": [{"name": "db", "image": "pause"}]}}}}),
        // A port without a protocol.
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "db", "namespace": NAMESPACE},
            "spec": {"selector": {"app": "db"}, "ports": [{"name": "main", "port": 5000}]}}),
        // A rule that may not be written.
        json!({"apiVersion": "networking.istio.io/v1", "kind": "DestinationRule",
            "metadata": {"name": "all", "namespace": NAMESPACE},
            "spec": {"host": format!("*.{NAMESPACE}.svc.cluster.local"),
                "trafficPolicy": {"tls": {"mode": "DISABLE"}}}}),
        // Without a proxy; on a node without a region, which lies in no area.
        pod("bare", &json!({"app": "bare"}), json!({"nodeName": "nowhere-1"})),
        // No node has this.
        pod(
            "waits",
            &json!({"app": "waits"}),
            json!({"nodeSelector": {"gpu": "yes"}, "containers": [{"name": "istio-proxy", "image": "pause"}]}),
        ),
        // One would answer 403 to all, one is a file, and both would count the same proxy.
        plugin("strict", "FAIL_CLOSE", "oci://registry.example/gma-filter:0.1.0"),
        plugin("file", "FAIL_OPEN", "file:///nowhere.wasm"),
        pod(
            "doubled",
            &json!({"istio": "gateway-edge-1", "loads": "nothing"}),
            json!({"nodeSelector": {"kubernetes.io/hostname": "cloud-1"},
                "containers": [{"name": "istio-proxy", "image": "pause"}]}),
        ),
        // Two autoscalers of the same pods.
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "twin", "namespace": NAMESPACE},
            "spec": {"selector": {"matchLabels": twin}, "template": {"metadata": {"labels": twin},
                "spec": {"nodeSelector": {"kubernetes.io/hostname": "cloud-1"},
                    "containers": [{"name": "istio-proxy", "image": "pause"}]}}}}),
        autoscaler("first"),
        autoscaler("second"),
    ]
}

/// What must be found, and nothing else: severity, and words.
const EXPECTED: [(Severity, &str); 15] = [
    (
        Severity::Error,
        "HorizontalPodAutoscaler first: another autoscaler selects the same pods",
    ),
    (
        Severity::Error,
        "HorizontalPodAutoscaler second: another autoscaler selects the same pods",
    ),
    (
        Severity::Error,
        "Node nowhere-1: it lies in no area, and has the pods check/bare",
    ),
    (
        Severity::Error,
        "2 of 3 proxies do not get the filter: no WasmPlugin of it matches",
    ),
    (
        Severity::Error,
        "WasmPlugin check/file, check/strict: all match the proxy of check/doubled",
    ),
    (
        Severity::Error,
        "WasmPlugin check/strict: failStrategy is not FAIL_OPEN",
    ),
    (
        Severity::Error,
        "area cloud: 1 of 1 proxies with the filter do not report",
    ),
    (Severity::Error, "area edge-1: no pod of its gateway is ready"),
    (
        Severity::Error,
        "service web.check.svc.cluster.local: its rule is held",
    ),
    (
        Severity::Warning,
        "Node nowhere-1: no label topology.kubernetes.io/region",
    ),
    (Severity::Warning, "Pod check/bare: has no proxy"),
    (Severity::Warning, "Pod check/waits: waits for a node"),
    (
        Severity::Warning,
        "Service db: port 5000 does not say its protocol",
    ),
    (Severity::Warning, "WasmPlugin check/file: the module is a file"),
    (
        Severity::Warning,
        "service db at edge-1: StatefulSet db is not a Deployment",
    ),
];

async fn planted_faults_are_found(cluster: &Cluster) -> anyhow::Result<()> {
    cluster.add_node("cloud-1", "eu/a").await?;
    cluster.add_node("edge-1", "lab/x").await?;
    cluster.add_node("nowhere-1", "").await?;
    let web = manifests::namespace(cluster.folder(), NAMESPACE, &[("web", &[])])?;
    cluster.apply(&web).await?;
    for fault in faults() {
        cluster
            .apply(&fault.to_string())
            .await
            .with_context(|| fault.to_string())?;
    }
    // The rig has no metrics server: that is found too.
    let mut expected = EXPECTED.to_vec();
    expected.push((Severity::Warning, "cluster: metrics.k8s.io does not answer"));
    let end = Instant::now() + SOON;
    // Pods become Ready, and the autoscalers' controller says what it thinks.
    loop {
        let found = findings(cluster).await?;
        let is_found = |(severity, words): &(Severity, &str)| {
            let mut found = found.iter();
            found.any(|one| one.severity == *severity && one.to_string().contains(words))
        };
        if found.len() == expected.len() && expected.iter().all(is_found) {
            ensure!(exit_code(&found) == 2, "{found:#?}");
            let lines: Vec<String> = found.iter().map(ToString::to_string).collect();
            println!("{}", lines.join("\n"));
            return Ok(());
        }
        let missing: Vec<_> = expected.iter().filter(|one| !is_found(one)).collect();
        ensure!(Instant::now() < end, "missing {missing:#?} in {found:#?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
