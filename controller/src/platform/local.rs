//! The platform of processes on this machine.

use gma_core::decide::Effect;
use gma_local::{Client, State};
use gma_telemetry::Directory;

use super::{Observation, Platform};

/// A world, seen through its socket.
#[derive(Debug)]
pub struct LocalPlatform {
    client: Client,
}

impl LocalPlatform {
    /// Steers the world behind `client`.
    pub const fn new(client: Client) -> Self {
        Self { client }
    }
}

impl Platform for LocalPlatform {
    async fn observe(&mut self) -> anyhow::Result<Observation> {
        let state = self.client.state().await?;
        let directory = directory(&state);
        Ok(Observation {
            cluster: state.cluster,
            directory,
        })
    }

    async fn perform(&mut self, effect: &Effect) -> anyhow::Result<()> {
        match effect {
            Effect::Ensure { service, area } => self.client.ensure(service.clone(), area.clone()).await?,
            Effect::Remove { service, area } => self.client.remove(service.clone(), area.clone()).await?,
            Effect::Route { plan } => self.client.route(plan.clone()).await?,
            Effect::Record { .. } => {}
        }
        Ok(())
    }
}

fn directory(state: &State) -> Directory {
    Directory {
        proxies: state.proxies.clone(),
        areas: state.localities.clone(),
        services: state.services.clone(),
    }
}
