//! `EdgePlacement` on a real API server: what the definition accepts, what it refuses and with which words.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use gma_k8s::api::{EdgePlacement, EdgePlacementStatus, EdgeStatus, Mode, crd, crd_yaml};
use gma_tests::rig::{Cluster, Suite};
use kube::Api;
use kube::api::{DynamicObject, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::{Value, json};

/// Longest wait for a definition to be established.
const SOON: Duration = Duration::from_secs(30);

fn main() -> ExitCode {
    Suite::default()
        .test(
            "every_accepted_example_is_accepted",
            every_accepted_example_is_accepted,
        )
        .test(
            "every_refused_example_is_refused_with_what_to_do",
            every_refused_example_is_refused_with_what_to_do,
        )
        .test("defaults_and_status_are_kept", defaults_and_status_are_kept)
        .run()
}

// === What they share ===

/// Installs the definition and waits until it is served.
async fn install(cluster: &Cluster, namespace: &str) -> anyhow::Result<()> {
    cluster.apply(&crd_yaml()?).await?;
    let yaml = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
    cluster.apply(&yaml.to_string()).await?;
    let objects: Api<EdgePlacement> = Api::namespaced(cluster.client.clone(), namespace);
    let end = Instant::now() + SOON;
    while let Err(error) = objects.list(&Default::default()).await {
        ensure!(Instant::now() < end, "the definition is not served: {error}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

fn files(folder: &str) -> anyhow::Result<Vec<PathBuf>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(folder);
    let mut files: Vec<PathBuf> = fs::read_dir(&folder)
        .with_context(|| folder.display().to_string())?
        .map(|entry| Ok(entry?.path()))
        .collect::<anyhow::Result<_>>()?;
    files.sort();
    ensure!(!files.is_empty(), "{} is empty", folder.display());
    Ok(files)
}

/// Asks the server what it says of a file's object, as it is but for the namespace; nothing is kept.
async fn answer(cluster: &Cluster, namespace: &str, text: &str) -> anyhow::Result<Result<(), String>> {
    let mut object: Value = serde_norway::from_str(text)?;
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.insert("namespace".to_owned(), namespace.into());
    }
    let kind = GroupVersionKind::gvk("gma.dev", "v1alpha1", "EdgePlacement");
    let resource = ApiResource::from_gvk_with_plural(&kind, "edgeplacements");
    let api: Api<DynamicObject> = Api::namespaced_with(cluster.client.clone(), namespace, &resource);
    let dry = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    match api.create(&dry, &serde_json::from_value(object)?).await {
        Ok(_) => Ok(Ok(())),
        Err(kube::Error::Api(status)) => Ok(Err(status.message)),
        Err(other) => Err(other.into()),
    }
}

// === Tests ===

async fn every_accepted_example_is_accepted(cluster: &Cluster) -> anyhow::Result<()> {
    install(cluster, "accepted").await?;
    for folder in [
        "controller/k8s/testdata/edgeplacement/accepted",
        "deploy/examples",
    ] {
        for file in files(folder)? {
            let answer = answer(cluster, "accepted", &fs::read_to_string(&file)?).await?;
            ensure!(answer.is_ok(), "{}: {answer:?}", file.display());
        }
    }
    Ok(())
}

async fn every_refused_example_is_refused_with_what_to_do(cluster: &Cluster) -> anyhow::Result<()> {
    install(cluster, "refused-objects").await?;
    let mut wrong = Vec::new();
    for file in files("controller/k8s/testdata/edgeplacement/refused")? {
        let text = fs::read_to_string(&file)?;
        let expected = text
            .lines()
            .next()
            .and_then(|line| line.strip_prefix("# expect: "))
            .with_context(|| format!("{} does not begin with `# expect: `", file.display()))?;
        match answer(cluster, "refused-objects", &text).await? {
            Err(message) if message.contains(expected) => {}
            other => wrong.push(format!("{}: {other:?}, not {expected}", file.display())),
        }
    }
    ensure!(wrong.is_empty(), "{wrong:#?}");
    Ok(())
}

async fn defaults_and_status_are_kept(cluster: &Cluster) -> anyhow::Result<()> {
    install(cluster, "stored").await?;
    let file = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../controller/k8s/testdata/edgeplacement/accepted/minimal.yaml");
    let mut object: EdgePlacement = serde_norway::from_str(&fs::read_to_string(file)?)?;
    object.metadata.namespace = Some("stored".to_owned());
    let objects: Api<EdgePlacement> = Api::namespaced(cluster.client.clone(), "stored");
    let created = objects.create(&PostParams::default(), &object).await?;
    ensure!(created.spec == object.spec, "{created:?}");
    ensure!(created.spec.policy.mode == Mode::Observe, "{created:?}");

    let status = EdgePlacementStatus {
        observed_generation: created.metadata.generation,
        edges: vec![EdgeStatus {
            name: "edge-1".to_owned(),
            state: "Observing".to_owned(),
            services: vec!["cart".to_owned()],
            ..EdgeStatus::default()
        }],
        ..EdgePlacementStatus::default()
    };
    let patch = json!({
        "apiVersion": "gma.dev/v1alpha1", "kind": "EdgePlacement", "status": status, "spec": {"suspend": true},
    });
    objects
        .patch_status("shop", &PatchParams::default(), &Patch::Merge(patch))
        .await?;
    let now = objects.get("shop").await?;
    ensure!(now.status == Some(status), "{now:?}");
    // The subresource changes nothing else.
    ensure!(!now.spec.suspend, "{now:?}");
    ensure!(now.metadata.generation == created.metadata.generation, "{now:?}");

    let names = crd()?.spec.names;
    ensure!(names.short_names == Some(vec!["gma".to_owned()]), "{names:?}");
    Ok(())
}
