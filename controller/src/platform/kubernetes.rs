//! The platform of a Kubernetes cluster: one `EdgePlacement`, seen through watches and changed by writes.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;
use gma_core::decide::Effect;
use gma_k8s::{ActError, Object};
use gma_telemetry::Directory;

use super::{EffectError, Loaded, Observation, Platform};
use crate::memory::Memory;
use crate::shared::Shared;
use crate::view::Seen;

/// Weights are written for localities that were reported within this.
const PROVEN_FOR: Duration = Duration::from_secs(600);

/// An object that this controller looks after.
#[derive(Debug)]
pub struct KubernetesPlatform {
    object: Object,
    /// What reports prove of services is in its telemetry.
    shared: Arc<Shared>,
}

impl KubernetesPlatform {
    /// Steers the application of `object`.
    pub const fn new(object: Object, shared: Arc<Shared>) -> Self {
        Self { object, shared }
    }
}

impl Platform for KubernetesPlatform {
    async fn observe(&mut self) -> anyhow::Result<Observation> {
        let sightings = self.shared.telemetry().sightings(PROVEN_FOR, self.shared.now());
        let view = self
            .object
            .observe(sightings)
            .map_err(|missing| anyhow!(missing))?;
        self.object.follow().await;
        Ok(Observation {
            cluster: view.cluster,
            directory: Directory {
                proxies: view.proxies,
                areas: view.localities,
                services: view.services,
            },
            settings: Some(self.object.wanted().settings.clone()),
        })
    }

    async fn perform(&mut self, effect: &Effect) -> Result<(), EffectError> {
        self.object.perform(effect).await.map_err(|error| match error {
            ActError::Refused(why) => EffectError::Refused(why),
            ActError::Failed(why) => EffectError::Failed(anyhow!(why)),
        })
    }

    async fn load(&mut self) -> anyhow::Result<Loaded> {
        let Some(bytes) = self.object.load().await? else {
            return Ok(Loaded::Nothing);
        };
        match Memory::decode(&bytes) {
            Ok(memory) => Ok(Loaded::Memory(Box::new(memory))),
            Err(why) => {
                let place = PathBuf::from(self.object.set_aside(bytes).await?);
                Ok(Loaded::SetAside { why, place })
            }
        }
    }

    async fn save(&mut self, memory: Vec<u8>) -> anyhow::Result<()> {
        Ok(self.object.save(memory).await?)
    }

    fn tell(&mut self, seen: &Seen<'_>) {
        self.object.tell(&gma_k8s::Told {
            now: seen.now,
            config: seen.config,
            state: seen.state,
            cluster: seen.cluster,
            short_if_lost: seen.short_if_lost,
            unsaved: seen.unsaved,
        });
    }
}
