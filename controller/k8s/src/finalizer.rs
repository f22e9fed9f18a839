//! The mark that keeps an object until what was changed for it is restored.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::Patch;
use kube::{Api, Client};
use serde_json::json;

use crate::api::EdgePlacement;
use crate::error::{ActError, ask};
use crate::index::Key;
use crate::kube_api::patch_as_us;

/// Whether a finalizer is on an object.
pub(crate) fn is_on(metadata: &ObjectMeta, finalizer: &str) -> bool {
    metadata
        .finalizers
        .iter()
        .flatten()
        .any(|found| found == finalizer)
}

/// Puts it on or takes it off. Of an object that is gone it is off.
pub(crate) async fn set(client: &Client, key: &Key, finalizer: &str, on: bool) -> Result<(), ActError> {
    let (namespace, name) = key;
    let what = format!("the finalizer of EdgePlacement {namespace}/{name}");
    let api: Api<EdgePlacement> = Api::namespaced(client.clone(), namespace);
    let found = ask(&what, api.get_metadata_opt(name)).await?;
    let Some(found) = found else { return Ok(()) };
    if is_on(&found.metadata, finalizer) == on {
        return Ok(());
    }
    let mut finalizers = found.metadata.finalizers.unwrap_or_default();
    finalizers.retain(|other| other != finalizer);
    if on {
        finalizers.push(finalizer.to_owned());
    }
    // With the version: a finalizer that somebody else sets at the same time must not be lost.
    let patch = json!({"metadata": {
        "finalizers": finalizers,
        "resourceVersion": found.metadata.resource_version,
    }});
    ask(
        &what,
        api.patch_metadata(name, &patch_as_us(), &Patch::Merge(&patch)),
    )
    .await?;
    Ok(())
}
