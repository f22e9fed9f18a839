//! `kubectl apply --server-side`, for any kind.

use anyhow::Context;
use kube::api::{DynamicObject, Patch, PatchParams};
use kube::core::GroupVersionKind;
use kube::discovery::{Scope, pinned_kind};
use kube::{Api, Client};
use serde::Deserialize;

/// Applies each document of a YAML text, in their order, as the field manager `rig`.
///
/// # Errors
/// The first refusal, with the object's name; those before it are applied.
pub async fn apply(client: &Client, yaml: &str) -> anyhow::Result<Vec<DynamicObject>> {
    apply_with(client, yaml, &PatchParams::apply("rig").force()).await
}

/// As [`apply`], with parameters of one's own: another field manager, a dry run, not forced.
///
/// # Errors
/// As [`apply`].
pub async fn apply_with(
    client: &Client,
    yaml: &str,
    parameters: &PatchParams,
) -> anyhow::Result<Vec<DynamicObject>> {
    let mut applied = Vec::new();
    for document in serde_norway::Deserializer::from_str(yaml) {
        let Some(object) = Option::<DynamicObject>::deserialize(document)? else {
            continue;
        };
        applied.push(apply_one(client, &object, parameters).await?);
    }
    Ok(applied)
}

async fn apply_one(
    client: &Client,
    object: &DynamicObject,
    parameters: &PatchParams,
) -> anyhow::Result<DynamicObject> {
    let (name, api) = api_of(client, object).await?;
    api.patch(name, parameters, &Patch::Apply(object))
        .await
        .with_context(|| format!("{:?} {name}", object.types))
}

/// Name and API of an object, by its kind.
pub(super) async fn api_of<'a>(
    client: &Client,
    object: &'a DynamicObject,
) -> anyhow::Result<(&'a str, Api<DynamicObject>)> {
    let types = object.types.as_ref().context("an object without a kind")?;
    let name = object.metadata.name.as_deref();
    let name = name.context("an object without a name")?;
    let kind = GroupVersionKind::try_from(types)?;
    let (resource, capabilities) = pinned_kind(client, &kind)
        .await
        .with_context(|| format!("{} {}", types.api_version, types.kind))?;
    let namespace = object.metadata.namespace.as_deref().unwrap_or("default");
    let api = match capabilities.scope {
        Scope::Cluster => Api::all_with(client.clone(), &resource),
        Scope::Namespaced => Api::namespaced_with(client.clone(), namespace, &resource),
    };
    Ok((name, api))
}
