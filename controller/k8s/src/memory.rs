//! The controller's memory of one object: a ConfigMap in the controller's own namespace.
//!
//! The status is for people and bounded to 64 KB; this is for the next controller. Each write names the version that it
//! replaces, so two controllers never overwrite each other unseen.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::DeleteParams;
use kube::{Api, Client};

use crate::act::OBJECT_ANNOTATION;
use crate::error::{ActError, ask};
use crate::index::Key;
use crate::kube_api::post_as_us;
use crate::rule::MANAGER;

/// Most bytes of a memory: an object of the API server has at most 1 MiB, and binary data grows by a third on its way.
const MAX_BYTES: usize = 700_000;
const MEMORY: &str = "memory.json";
const UNREADABLE: &str = "unreadable.json";
const UID_ANNOTATION: &str = "gma.dev/uid";

/// Where the memory of one object is.
#[derive(Clone, Debug)]
pub(crate) struct Memory {
    api: Api<ConfigMap>,
    place: String,
    name: String,
    object: String,
    uid: String,
    version: Option<String>,
    /// What could not be read, kept beside the memory.
    unreadable: Option<ByteString>,
}

impl Memory {
    pub(crate) fn new(client: Client, namespace: &str, key: &Key, uid: &str) -> Self {
        let (object_namespace, object) = key;
        // A namespace has no dot, so two objects never share a name.
        let name = format!("gma-memory.{object_namespace}.{object}");
        Self {
            api: Api::namespaced(client, namespace),
            place: format!("ConfigMap {namespace}/{name}"),
            name,
            object: format!("{object_namespace}/{object}"),
            uid: uid.to_owned(),
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
        let mut map = match &self.version {
            Some(version) => self.map(Some(version.clone())),
            None => match self.read().await? {
                Some(found) => self.map(found.metadata.resource_version),
                None => self.map(None),
            },
        };
        map.binary_data = Some(data);
        let parameters = post_as_us();
        let written = if map.metadata.resource_version.is_some() {
            ask(&self.place, self.api.replace(&self.name, &parameters, &map)).await
        } else {
            ask(&self.place, self.api.create(&parameters, &map)).await
        };
        // After a failure nobody knows which version is there: it is read before the next write.
        self.version = None;
        self.version = written?.metadata.resource_version;
        Ok(())
    }

    fn map(&self, version: Option<String>) -> ConfigMap {
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
            ..ConfigMap::default()
        }
    }
}
