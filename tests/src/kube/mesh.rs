//! The repository's manifests as tests change them: the filter's WasmPlugin, and the controller as a pod.

use std::net::SocketAddr;

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use super::controller::{NAMESPACE, install};
use crate::local::built;
use crate::rig::{ADDRESS_ANNOTATION, Cluster};

/// Documents of objects; JSON is YAML.
pub fn yaml(objects: &[Value]) -> String {
    objects.iter().map(|object| format!("---\n{object}\n")).collect()
}

/// Sets a field of an object, at a JSON pointer whose parent is there.
///
/// # Errors
/// It is not.
pub fn set(object: &mut Value, pointer: &str, value: Value) -> anyhow::Result<()> {
    let (parent, key) = pointer.rsplit_once('/').context("no pointer")?;
    let fields = object.pointer_mut(parent).and_then(Value::as_object_mut);
    let key = key.replace("~1", "/");
    fields.with_context(|| parent.to_owned())?.insert(key, value);
    Ok(())
}

/// The rig's WasmPlugin, for a namespace and a module.
///
/// # Errors
/// It is not as the rig needs it.
pub fn plugin(cluster: &Cluster, namespace: &str, module: &str) -> anyhow::Result<Value> {
    let mut objects = cluster.render("istio-manifests/overlays/rig")?;
    ensure!(objects.len() == 1, "{objects:?}");
    let mut plugin = objects.remove(0);
    ensure!(
        plugin.pointer("/spec/failStrategy") == Some(&json!("FAIL_OPEN")),
        "{plugin}"
    );
    set(&mut plugin, "/metadata/namespace", namespace.into())?;
    set(&mut plugin, "/spec/url", format!("file://{module}").into())?;
    Ok(plugin)
}

/// Path of the module that was built.
///
/// # Errors
/// It can't be read.
pub fn module() -> anyhow::Result<String> {
    let path = built("GMA_FILTER", "target/gma-filter.wasm").canonicalize()?;
    Ok(path.display().to_string())
}

/// The objects of `deploy/base`, the controller one pod with an address of its own and the given image.
///
/// # Errors
/// They are not as the rig needs them.
pub fn base(cluster: &Cluster, image: &str, address: &str) -> anyhow::Result<Vec<Value>> {
    let mut objects = cluster.render("deploy/base")?;
    for object in objects.iter_mut().filter(|object| kind(object) == "Deployment") {
        set(object, "/spec/replicas", 1.into())?;
        set(object, "/spec/template/spec/containers/0/image", image.into())?;
        let annotation = ADDRESS_ANNOTATION.replace('/', "~1");
        set(
            object,
            &format!("/spec/template/metadata/annotations/{annotation}"),
            json!([address]).to_string().into(),
        )?;
    }
    Ok(objects)
}

/// `deploy/base` with the real controller in its pod, which has its ServiceAccount's token, listens on `listen`, and leads once
/// this returns. Its image is `gma`.
///
/// # Errors
/// It does not lead.
pub async fn run_controller(cluster: &Cluster, address: &str, listen: SocketAddr) -> anyhow::Result<()> {
    install(cluster).await?;
    let kubeconfig = cluster.kubeconfig_of(NAMESPACE, "gma").await?;
    let mut objects = base(cluster, "gma", address)?;
    for object in objects.iter_mut().filter(|object| kind(object) == "Deployment") {
        let variables = object.pointer_mut("/spec/template/spec/containers/0/env");
        let variables = variables.and_then(Value::as_array_mut).context("no env")?;
        variables.retain(|variable| variable.get("name") != Some(&json!("GMA_LISTEN")));
        for (name, value) in [
            ("GMA_LISTEN", listen.to_string()),
            ("KUBECONFIG", kubeconfig.display().to_string()),
            ("GMA_LOG", "gma=debug,gma_k8s=debug,info".to_owned()),
        ] {
            variables.push(json!({"name": name, "value": value}));
        }
    }
    cluster.apply(&yaml(&objects)).await?;
    cluster.until_ready(NAMESPACE, "gma.dev/leader=true", 1).await?;
    Ok(())
}

pub(super) fn kind(object: &Value) -> &str {
    object.get("kind").and_then(Value::as_str).unwrap_or_default()
}
