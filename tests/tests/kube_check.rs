//! `gma check` as a command, on a real API server: faults are planted, and each is found.

#![expect(clippy::indexing_slicing, reason = "of JSON values that are made right there")]

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use gma_tests::kube::{App, EDGE_DEPLOYMENT, Ended, OBJECT, deploy, gma, install};
use gma_tests::rig::{Cluster, Suite};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::rbac::v1::ClusterRole;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::runtime::conditions::is_crd_established;
use kube::runtime::wait::await_condition;
use serde_json::{Value, json};

/// Longest wait for what takes a second on an idle machine.
const SOON: Duration = Duration::from_secs(60);

const NAMESPACE: &str = "check";

fn main() -> ExitCode {
    let binary = gma_tests::envoy::Controller::binary().display().to_string();
    Suite::default()
        .cell("gma", binary.leak())
        .test("planted_faults_are_found", planted_faults_are_found)
        .test(
            "without_rights_nothing_is_taken_for_absent",
            without_rights_nothing_is_taken_for_absent,
        )
        .test(
            "a_sound_application_has_no_faults",
            a_sound_application_has_no_faults,
        )
        .test("no_cluster_is_no_check", no_cluster_is_no_check)
        .test("what_is_not_installed_is_named", what_is_not_installed_is_named)
        .run()
}

// === What a check said ===

/// Findings, as lines.
fn findings(report: &Value) -> anyhow::Result<Vec<String>> {
    let findings = report["findings"].as_array().context("no findings")?;
    let text = |finding: &Value, field: &str| {
        let text = finding[field].as_str().filter(|text| !text.is_empty());
        text.map(str::to_owned)
            .with_context(|| format!("no {field} in {finding}"))
    };
    findings
        .iter()
        .map(|one| {
            // Each says how to end it.
            text(one, "fix")?;
            Ok(format!(
                "{}: {}: {}",
                text(one, "severity")?,
                text(one, "object")?,
                text(one, "what")?
            ))
        })
        .collect()
}

/// What of `expected` is not there, and what is there beside it.
fn difference<'a>(found: &'a [String], expected: &[&'a str]) -> (Vec<&'a str>, Vec<&'a str>) {
    let missing = expected
        .iter()
        .copied()
        .filter(|words| !found.iter().any(|line| line.starts_with(words)));
    let others = found
        .iter()
        .map(String::as_str)
        .filter(|line| !expected.iter().any(|words| line.starts_with(words)));
    (missing.collect(), others.collect())
}

/// Checks until the findings are these and no others, with this exit code.
async fn until_found(
    kubeconfig: &Path,
    arguments: &[&str],
    expected: &[&str],
    code: i32,
) -> anyhow::Result<Ended> {
    let end = Instant::now() + SOON;
    let arguments = [&["check", "-o", "json"], arguments].concat();
    loop {
        let ended = gma(kubeconfig, &arguments).await?;
        let found = findings(&ended.json()?)?;
        let (missing, others) = difference(&found, expected);
        if missing.is_empty() && others.is_empty() && ended.code == Some(code) {
            println!(
                "gma {}: {} findings, exit code {code}",
                arguments.join(" "),
                found.len()
            );
            return Ok(ended);
        }
        ensure!(
            Instant::now() < end,
            "exit code {:?} for {code}, missing {missing:#?}, beside them {others:#?}",
            ended.code
        );
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

// === What is planted ===

fn plugin(name: &str, namespace: &str, strategy: &str, url: &str) -> Value {
    json!({
        "apiVersion": "extensions.istio.io/v1alpha1", "kind": "WasmPlugin",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "url": url, "failStrategy": strategy, "match": [{"mode": "CLIENT_AND_SERVER"}],
            "pluginConfig": {"controller": {"cluster": "outbound|80||gma-reports.gma-system.svc.cluster.local"}},
        },
    })
}

/// One that no proxy of the planted application loads but `doubled`.
fn chosen(name: &str, strategy: &str, url: &str) -> Value {
    let mut plugin = plugin(name, NAMESPACE, strategy, url);
    plugin["spec"]["selector"] = json!({"matchLabels": {"istio": "gateway-edge-1", "loads": "nothing"}});
    plugin
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

/// The object, with what kubectl notes of what it was given; two fields are of a newer version.
fn object() -> Value {
    let spec = json!({
        "areas": {
            "cloud": {"localities": ["eu"]},
            "edges": [{
                "name": "edge-1", "localities": ["lab"],
                "gateway": {"namespace": NAMESPACE, "matchLabels": {"istio": "gateway-edge-1"}},
                "objective": {"offloadAbove": "80ms", "unoffloadBelow": "10ms"},
            }],
        },
        "services": [{"name": "gone"}],
    });
    let mut given = json!({"spec": spec});
    given["spec"]["areas"]["edges"][0]["wind"] = json!(true);
    given["spec"]["tides"] = json!({});
    json!({
        "apiVersion": "gma.dev/v1alpha1", "kind": "EdgePlacement",
        "metadata": {"name": "check", "namespace": NAMESPACE,
            "annotations": {"kubectl.kubernetes.io/last-applied-configuration": given.to_string()}},
        "spec": spec,
    })
}

fn faults() -> Vec<Value> {
    let twin = json!({"app": "twin"});
    let service = |name: &str, port: &str, number: u16| {
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": NAMESPACE},
            "spec": {"selector": {"app": name}, "ports": [{"name": port, "port": number}]}})
    };
    vec![
        // Its pods have a name and data each.
        json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "db", "namespace": NAMESPACE},
            "spec": {"replicas": 0, "serviceName": "db", "selector": {"matchLabels": {"app": "db"}},
                "template": {"metadata": {"labels": {"app": "db"}},
                    "spec": {"containers": [{"name": "db", "image": "pause"}]}}}}),
        // A port without a protocol.
        service("db", "main", 5000),
        service("twin", "http", 80),
        // A rule that may not be written.
        json!({"apiVersion": "networking.istio.io/v1", "kind": "DestinationRule",
            "metadata": {"name": "all", "namespace": NAMESPACE},
            "spec": {"host": format!("*.{NAMESPACE}.svc.cluster.local"),
                "trafficPolicy": {"tls": {"mode": "DISABLE"}}}}),
        // Keeps proxies from the controller.
        json!({"apiVersion": "networking.istio.io/v1", "kind": "Sidecar",
            "metadata": {"name": "narrow", "namespace": NAMESPACE}, "spec": {"egress": [{"hosts": ["./*"]}]}}),
        // Without a proxy; on a node without a region, which lies in no area.
        pod("bare", &json!({"app": "bare"}), json!({"nodeName": "nowhere-1"})),
        // No node has this.
        pod(
            "waits",
            &json!({"app": "waits"}),
            json!({"nodeSelector": {"gpu": "yes"}, "containers": [{"name": "istio-proxy", "image": "pause"}]}),
        ),
        // One would answer 403 to all, one is a file, and both would count the same proxy.
        chosen("strict", "FAIL_CLOSE", "oci://registry.example/gma-filter:0.1.0"),
        chosen("file", "FAIL_OPEN", "file:///nowhere.wasm"),
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
        object(),
    ]
}

/// What must be found, and nothing else.
const EXPECTED: [&str; 22] = [
    "error: HorizontalPodAutoscaler first: another autoscaler selects the same pods",
    "error: HorizontalPodAutoscaler second: another autoscaler selects the same pods",
    "error: Namespace gma-system: no controller runs in it",
    "error: Node nowhere-1: it lies in no area, and has the pods check/bare",
    "error: Pod check/twin-",
    "error: Service gma-system/gma-reports: it is not there",
    "error: ServiceAccount gma-system/gma: may not patch destinationrules.networking.istio.io in check",
    "error: Sidecar check/narrow: its egress leaves out gma-system",
    "error: WasmPlugin check/file, check/strict: all match the proxy of check/doubled",
    "error: WasmPlugin check/strict: failStrategy is not FAIL_OPEN",
    "error: area edge-1: no pod of its gateway is ready",
    "error: service twin.check.svc.cluster.local: its rule is held",
    "warning: EdgePlacement check/check: fields were dropped, for the definition does not know them: \
     spec.areas.edges[0].wind, spec.tides",
    "warning: EdgePlacement check/check: spec.services lists gone, and there is no such Service in check",
    "warning: Node nowhere-1: no label topology.kubernetes.io/region",
    "warning: Pod check/bare: has no proxy",
    "warning: Pod check/waits: waits for a node",
    "warning: Service db: port 5000 does not say its protocol",
    "warning: WasmPlugin check/file: the module is a file",
    "warning: cluster: metrics.k8s.io does not answer",
    "warning: service db.check.svc.cluster.local at edge-1: StatefulSet db is not a Deployment",
    "warning: service twin.check.svc.cluster.local at edge-1: the selector of twin matches the edge's pods too",
];

/// Takes a right from the controller, or gives it back.
async fn set_right(cluster: &Cluster, is_given: bool) -> anyhow::Result<()> {
    let roles: Api<ClusterRole> = Api::all(cluster.client.clone());
    let mut rules = serde_json::to_value(roles.get("gma").await?.rules)?;
    for rule in rules.as_array_mut().into_iter().flatten() {
        if rule["resources"] == json!(["destinationrules"]) {
            let verbs = rule["verbs"].as_array_mut().context("no verbs")?;
            verbs.retain(|verb| verb != "patch");
            if is_given {
                verbs.push("patch".into());
            }
        }
    }
    let patch = Patch::Merge(json!({"rules": rules}));
    roles.patch("gma", &PatchParams::default(), &patch).await?;
    Ok(())
}

// === Tests ===

async fn planted_faults_are_found(cluster: &Cluster) -> anyhow::Result<()> {
    install(cluster).await?;
    cluster.add_node("cloud-1", "eu/a").await?;
    cluster.add_node("edge-1", "lab/x").await?;
    cluster.add_node("nowhere-1", "").await?;
    set_right(cluster, false).await?;
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}});
    cluster.apply(&namespace.to_string()).await?;
    for fault in faults() {
        cluster
            .apply(&fault.to_string())
            .await
            .with_context(|| fault.to_string())?;
    }
    let admin = cluster.admin_kubeconfig();
    // Pods become Ready, and the autoscalers' controller says what it thinks.
    until_found(&admin, &["-n", NAMESPACE], &EXPECTED, 4).await?;
    let table = gma(&admin, &["check", "-n", NAMESPACE, "check"]).await?;
    println!("{}", table.stdout);
    ensure!(table.code == Some(4), "{table:?}");
    for words in [
        "error    WasmPlugin check/strict: ",
        "fix: set spec.failStrategy to FAIL_OPEN",
    ] {
        ensure!(table.stdout.contains(words), "no `{words}` in {}", table.stdout);
    }
    let missing = gma(&admin, &["check", "-n", NAMESPACE, "another"]).await?;
    ensure!(
        missing.code == Some(4)
            && missing
                .stdout
                .contains("EdgePlacement check/another: it is not there"),
        "{missing:?}"
    );
    set_right(cluster, true).await
}

/// Who may see nothing is told so, and not that nothing is there.
async fn without_rights_nothing_is_taken_for_absent(cluster: &Cluster) -> anyhow::Result<()> {
    install(cluster).await?;
    let object = |kind: &str, name: &str| json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "namespace": "blind"}});
    cluster
        .apply(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "blind"}}).to_string())
        .await?;
    cluster
        .apply(&object("ServiceAccount", "reader").to_string())
        .await?;
    let reader = cluster.kubeconfig_of("blind", "reader").await?;
    let ended = gma(&reader, &["check", "-n", "blind", "-o", "json"]).await?;
    ensure!(ended.code == Some(3), "{ended:?}");
    let found = findings(&ended.json()?)?;
    for kind in [
        "nodes",
        "pods in blind",
        "services in gma-system",
        "wasmplugins",
        "destinationrules",
    ] {
        let words = format!("you may not list {kind}: what depends on it is not checked");
        ensure!(
            found.iter().any(|line| line.contains(&words)),
            "no `{words}` in {found:#?}"
        );
    }
    ensure!(!found.iter().any(|line| line.starts_with("error")), "{found:#?}");
    Ok(())
}

async fn a_sound_application_has_no_faults(cluster: &Cluster) -> anyhow::Result<()> {
    let leader = deploy(cluster).await?;
    let admin = cluster.admin_kubeconfig();
    // Before there is an object, and with the controller only.
    cluster.add_node("edge-1", "edge/edge-1").await?;
    cluster.add_node("cloud-1", "cloud/cloud-1").await?;
    let nodes: Api<k8s_openapi::api::core::v1::Node> = Api::all(cluster.client.clone());
    // Of a test before.
    let _gone = nodes.delete("nowhere-1", &DeleteParams::default()).await;
    let app = App::create(cluster, "sound", leader).await?;
    let plugin = plugin(
        "gma-filter",
        "sound",
        "FAIL_OPEN",
        "oci://registry.example/gma-filter:0.1.0",
    );
    cluster.apply(&plugin.to_string()).await?;
    let notes = [
        "info: cluster: metrics.k8s.io does not answer",
        "info: Namespace sound: there is no EdgePlacement in it",
    ];
    until_found(&admin, &["-n", "sound"], &notes, 0).await?;

    // One object is looked after, the oldest.
    let others: Api<gma_k8s::api::EdgePlacement> = Api::namespaced(cluster.client.clone(), NAMESPACE);
    if others.get_opt("check").await?.is_some() {
        others.delete("check", &DeleteParams::default()).await?;
    }
    let deployments: Api<Deployment> = Api::namespaced(cluster.client.clone(), "sound");
    let confined =
        json!({"spec": {"template": {"spec": {"nodeSelector": {"topology.kubernetes.io/region": "edge"}}}}});
    let parameters = PatchParams::default();
    deployments
        .patch(EDGE_DEPLOYMENT, &parameters, &Patch::Merge(&confined))
        .await?;
    app.place(cluster).await?;
    let watching = json!({"spec": {"policy": {"mode": "Observe"}}});
    app.api()
        .patch(OBJECT, &parameters, &Patch::Merge(&watching))
        .await?;
    let notes = ["info: cluster: metrics.k8s.io does not answer"];
    let ended = until_found(&admin, &["-n", "sound"], &notes, 0).await?;
    let applications = ended.json()?["applications"].clone();
    // The leader was asked through the API server's proxy of its pod.
    let expected =
        json!([{"namespace": "sound", "object": OBJECT, "proxies": 2, "withFilter": 2, "reporting": 2}]);
    ensure!(applications == expected, "{applications}");
    let address = format!("http://{leader}");
    until_found(&admin, &["-n", "sound", "--address", &address], &notes, 0).await?;
    let table = gma(&admin, &["check", "-n", "sound", OBJECT]).await?;
    println!("{}", table.stdout);
    behind_a_virtual_node(cluster).await?;

    // As the README ends: the objects, then what was applied.
    let ended = gma(&admin, &["uninstall", "--all"]).await?;
    ensure!(ended.code == Some(0), "{ended:?}");
    cluster.delete(&cluster.render("deploy/base")?, SOON).await
}

/// The edge's node stands for another cluster, as Liqo's do: both namespaces must be known there.
async fn behind_a_virtual_node(cluster: &Cluster) -> anyhow::Result<()> {
    let admin = cluster.admin_kubeconfig();
    let nodes: Api<k8s_openapi::api::core::v1::Node> = Api::all(cluster.client.clone());
    let label = json!({"metadata": {"labels": {"liqo.io/type": "virtual-node"}}});
    let parameters = PatchParams::default();
    nodes.patch("edge-1", &parameters, &Patch::Merge(&label)).await?;
    let metrics = "info: cluster: metrics.k8s.io does not answer";
    let lacking = [
        metrics,
        "error: Namespace sound: no pod of it may run on Liqo's virtual nodes",
        "error: Namespace gma-system: its Services are not known in the edge's cluster",
    ];
    until_found(&admin, &["-n", "sound"], &lacking, 4).await?;
    // The fields that are read, as Liqo 1.0 has them.
    let schema = json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {
        "namespaceMappingStrategy": {"type": "string"}, "podOffloadingStrategy": {"type": "string"}}}}});
    let names = json!({"kind": "NamespaceOffloading", "plural": "namespaceoffloadings", "singular": "namespaceoffloading"});
    let name = "namespaceoffloadings.offloading.liqo.io";
    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": name},
        "spec": {"group": "offloading.liqo.io", "scope": "Namespaced", "names": names, "versions": [
            {"name": "v1beta1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}]},
    });
    cluster.apply(&definition.to_string()).await?;
    let definitions: Api<CustomResourceDefinition> = Api::all(cluster.client.clone());
    let established = await_condition(definitions, name, is_crd_established());
    tokio::time::timeout(SOON, established).await??;
    for (namespace, strategy) in [("sound", "LocalAndRemote"), ("gma-system", "Local")] {
        let object = json!({
            "apiVersion": "offloading.liqo.io/v1beta1", "kind": "NamespaceOffloading",
            "metadata": {"name": "offloading", "namespace": namespace},
            "spec": {"namespaceMappingStrategy": "EnforceSameName", "podOffloadingStrategy": strategy},
        });
        cluster.apply(&object.to_string()).await?;
    }
    until_found(&admin, &["-n", "sound"], &[metrics], 0).await?;
    Ok(())
}

async fn no_cluster_is_no_check(cluster: &Cluster) -> anyhow::Result<()> {
    let nowhere = cluster.folder().join("nowhere.kubeconfig");
    let text = std::fs::read_to_string(cluster.admin_kubeconfig())?;
    std::fs::write(&nowhere, text.replace(":6443", ":6444"))?;
    for (kubeconfig, words) in [
        (nowhere.as_path(), "https://127.0.0.1:6444/ does not answer"),
        (Path::new("/nonexistent/kubeconfig"), "no cluster is configured"),
    ] {
        let ended = gma(kubeconfig, &["check"]).await?;
        ensure!(ended.code == Some(1) && ended.stderr.contains(words), "{ended:?}");
        ensure!(ended.stdout.is_empty(), "{ended:?}");
    }
    let ended = gma(&nowhere, &["check", "--nothing"]).await?;
    ensure!(ended.code == Some(2), "{ended:?}");
    Ok(())
}

/// The last test of the file: what it takes away is not put back. The definition went with the test before.
async fn what_is_not_installed_is_named(cluster: &Cluster) -> anyhow::Result<()> {
    let definitions: Api<CustomResourceDefinition> = Api::all(cluster.client.clone());
    for name in [
        "destinationrules.networking.istio.io",
        "wasmplugins.extensions.istio.io",
    ] {
        definitions.delete(name, &DeleteParams::default()).await?;
    }
    let expected = [
        "error: CustomResourceDefinition edgeplacements.gma.dev: EdgePlacement is not installed",
        "error: DestinationRule: it is not installed",
        "error: Namespace empty: it is not there",
        "error: WasmPlugin: it is not installed",
        "info: Namespace empty: there is no EdgePlacement in it",
        "info: cluster: metrics.k8s.io does not answer",
    ];
    let admin = cluster.admin_kubeconfig();
    let end = Instant::now() + SOON;
    loop {
        let ended = gma(&admin, &["check", "-n", "empty", "-o", "json"]).await?;
        let found = findings(&ended.json()?)?;
        let (missing, _) = difference(&found, &expected);
        if missing.is_empty() && ended.code == Some(4) {
            println!("{}", found.join("\n"));
            return Ok(());
        }
        ensure!(Instant::now() < end, "missing {missing:#?} in {found:#?}");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}
