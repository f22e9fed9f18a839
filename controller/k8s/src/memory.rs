//! The controller's memory of one object: a ConfigMap in the controller's own namespace.
//!
//! The status is for people and bounded to 64 KB; this is for the next controller. Each write names the version that it
//! replaces; one that meets another's is repeated, by who holds the lease.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Api;
use kube::api::DeleteParams;

use crate::act::OBJECT_ANNOTATION;
use crate::error::{ActError, ask, has_code};
use crate::kube_api::{Id, Kube, post_as_us};
use crate::lease::Leadership;
use crate::rule::MANAGER;

/// Most bytes of a memory: an object of the API server has at most 1 MiB, and binary data grows by a third on its way.
const MAX_BYTES: usize = 700_000;
const MEMORY: &str = "memory.json";
const UNREADABLE: &str = "unreadable.json";
const UID_ANNOTATION: &str = "gma.dev/uid";
/// A write that meets another's is made anew so often. Nothing goes on before it succeeds, so it does not wait for the
/// next round.
const TRIES: u32 = 5;

/// Where the memory of one object is.
#[derive(Clone, Debug)]
pub(crate) struct Memory {
    api: Api<ConfigMap>,
    leadership: Leadership,
    place: String,
    name: String,
    object: String,
    uid: String,
    version: Option<String>,
    /// What could not be read, kept beside the memory.
    unreadable: Option<ByteString>,
}

impl Memory {
    pub(crate) fn new(kube: &Kube, id: &Id) -> Self {
        let namespace = &kube.settings.namespace;
        let (object_namespace, object) = &id.key;
        // A namespace has no dot, so two objects never share a name.
        let name = format!("gma-memory.{object_namespace}.{object}");
        Self {
            api: Api::namespaced(kube.client.clone(), namespace),
            leadership: kube.leadership().clone(),
            place: format!("ConfigMap {namespace}/{name}"),
            name,
            object: format!("{object_namespace}/{object}"),
            uid: id.uid.clone(),
            version: None,
            unreadable: None,
        }
    }

    /// What was kept; none where nothing was, or for an object that had the same name before.
    pub(crate) async fn load(&mut self) -> Result<Option<Vec<u8>>, ActError> {
        let Some(found) = self.read().await? else {
            return Ok(None);
        };
        let uid = found
            .metadata
            .annotations
            .and_then(|annotations| annotations.get(UID_ANNOTATION).cloned());
        if uid.as_deref() != Some(self.uid.as_str()) {
            return Ok(None);
        }
        let mut data = found.binary_data.unwrap_or_default();
        self.unreadable = data.remove(UNREADABLE);
        Ok(data.remove(MEMORY).map(|bytes| bytes.0))
    }

    pub(crate) async fn save(&mut self, memory: Vec<u8>) -> Result<(), ActError> {
        self.write([(MEMORY.to_owned(), ByteString(memory))].into()).await
    }

    /// Keeps what can't be read under another key, so that the next save does not overwrite it.
    pub(crate) async fn set_aside(&mut self, memory: Vec<u8>) -> Result<String, ActError> {
        self.unreadable = Some(ByteString(memory));
        self.write(BTreeMap::new()).await?;
        Ok(format!("{}, key {UNREADABLE}", self.place))
    }

    pub(crate) async fn delete(&self) -> Result<(), ActError> {
        if ask(&self.place, self.api.get_metadata_opt(&self.name))
            .await?
            .is_some()
        {
            ask(&self.place, self.api.delete(&self.name, &DeleteParams::default())).await?;
        }
        Ok(())
    }

    async fn read(&mut self) -> Result<Option<ConfigMap>, ActError> {
        let found = ask(&self.place, self.api.get_opt(&self.name)).await?;
        self.version = found
            .as_ref()
            .and_then(|found| found.metadata.resource_version.clone());
        Ok(found)
    }

    async fn write(&mut self, mut data: BTreeMap<String, ByteString>) -> Result<(), ActError> {
        let bytes = data.values().map(|bytes| bytes.0.len()).sum::<usize>();
        if bytes > MAX_BYTES {
            return Err(ActError::Refused(format!(
                "{}: the memory has {bytes} bytes, more than the {MAX_BYTES} that fit; please report this",
                self.place,
            )));
        }
        let unreadable = self
            .unreadable
            .clone()
            .filter(|unreadable| unreadable.0.len() + bytes <= MAX_BYTES);
        data.extend(unreadable.map(|unreadable| (UNREADABLE.to_owned(), unreadable)));
        for _ in 0..TRIES {
            // Who reads what another wrote, and writes over it, must be the one that may.
            self.leadership.check()?;
            if self.version.is_none() {
                self.read().await?;
            }
            let version = self.version.take();
            let map = self.map(version, &data);
            // After a failure nobody knows which version is there: it is read before the next write.
            if let Some(written) = self.put(&map).await? {
                self.version = written.metadata.resource_version;
                return Ok(());
            }
        }
        Err(ActError::Failed(format!(
            "{}: somebody else changed it before each of {TRIES} writes; metadata.managedFields names them",
            self.place
        )))
    }

    /// None where another was faster.
    async fn put(&self, map: &ConfigMap) -> Result<Option<ConfigMap>, ActError> {
        let parameters = post_as_us();
        let put = async {
            let written = if map.metadata.resource_version.is_some() {
                self.api.replace(&self.name, &parameters, map).await
            } else {
                self.api.create(&parameters, map).await
            };
            match written {
                Err(error) if has_code(&error, 409) => Ok(None),
                other => other.map(Some),
            }
        };
        ask(&self.place, put).await
    }

    fn map(&self, version: Option<String>, data: &BTreeMap<String, ByteString>) -> ConfigMap {
        let text = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        ConfigMap {
            metadata: ObjectMeta {
                name: Some(self.name.clone()),
                resource_version: version,
                labels: Some([text("app.kubernetes.io/managed-by", MANAGER)].into()),
                annotations: Some(
                    [
                        text(OBJECT_ANNOTATION, &self.object),
                        text(UID_ANNOTATION, &self.uid),
                    ]
                    .into(),
                ),
                ..ObjectMeta::default()
            },
            binary_data: Some(data.clone()),
            ..ConfigMap::default()
        }
    }
}
