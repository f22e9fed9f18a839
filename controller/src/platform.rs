//! What the control loop needs of a platform.

pub mod local;

use gma_core::cluster::Cluster;
use gma_core::decide::Effect;
use gma_telemetry::Directory;

/// One look at the platform.
#[derive(Debug)]
pub struct Observation {
    /// What runs where, and the routing in force.
    pub cluster: Cluster,
    /// Which proxy is what.
    pub directory: Directory,
}

/// Something that runs instances and routes traffic between areas.
pub trait Platform: Send + 'static {
    /// What is there now.
    fn observe(&mut self) -> impl Future<Output = anyhow::Result<Observation>> + Send;

    /// Performs one effect; returns once the platform has taken it, not once it shows. Idempotent.
    fn perform(&mut self, effect: &Effect) -> impl Future<Output = anyhow::Result<()>> + Send;
}
