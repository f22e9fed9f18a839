//! The platform of processes on this machine.

use gma_core::decide::Effect;
use gma_local::{Client, ClientError, State};
use gma_telemetry::Directory;

use super::file::StateFile;
use super::{EffectError, Loaded, Observation, Platform};

/// A world, seen through its socket, and a file for what the controller remembers.
#[derive(Debug)]
pub struct LocalPlatform {
    client: Client,
    file: StateFile,
}

impl LocalPlatform {
    /// Steers the world behind `client`.
    pub const fn new(client: Client, file: StateFile) -> Self {
        Self { client, file }
    }
}

impl Platform for LocalPlatform {
    async fn observe(&mut self) -> anyhow::Result<Observation> {
        let state = self.client.state().await?;
        let directory = directory(&state);
        Ok(Observation {
            cluster: state.cluster,
            directory,
            settings: None,
        })
    }

    async fn perform(&mut self, effect: &Effect) -> Result<(), EffectError> {
        let done = match effect {
            Effect::Ensure {
                service,
                area,
                replicas,
            } => self.client.ensure(service.clone(), area.clone(), *replicas).await,
            Effect::Remove { service, area } => self.client.remove(service.clone(), area.clone()).await,
            Effect::Scale {
                service,
                area,
                replicas,
            } => self.client.scale(service.clone(), area.clone(), *replicas).await,
            Effect::Route { plan } => self.client.route(plan.clone()).await,
            Effect::Record { .. } => Ok(()),
        };
        done.map_err(|error| match error {
            ClientError::Refused(why) => EffectError::Refused(why),
            error @ (ClientError::Unreachable { .. }
            | ClientError::Unable(_)
            | ClientError::Foreign { .. }) => EffectError::Failed(error.into()),
        })
    }

    async fn load(&mut self) -> anyhow::Result<Loaded> {
        let file = self.file.clone();
        Ok(tokio::task::spawn_blocking(move || file.load()).await??)
    }

    async fn save(&mut self, memory: Vec<u8>) -> anyhow::Result<()> {
        let file = self.file.clone();
        Ok(tokio::task::spawn_blocking(move || file.save(&memory)).await??)
    }
}

fn directory(state: &State) -> Directory {
    Directory {
        proxies: state.proxies.clone(),
        areas: state.localities.clone(),
        services: state.services.clone(),
    }
}
