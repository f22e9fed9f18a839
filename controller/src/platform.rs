//! What the control loop needs of a platform.

pub mod file;
pub mod kubernetes;
pub mod local;

use std::path::PathBuf;

use gma_core::cluster::Cluster;
use gma_core::decide::Effect;
use gma_core::measured::Settings;
use gma_telemetry::Directory;

use crate::memory::{Memory, Unreadable};
use crate::view::Seen;

/// One look at the platform.
#[derive(Debug)]
pub struct Observation {
    /// What runs where, and the routing in force.
    pub cluster: Cluster,
    /// Which proxy is what.
    pub directory: Directory,
    /// What measurements cannot say, where the platform knows it; it may change with what runs.
    pub settings: Option<Settings>,
}

/// What a platform has kept of an earlier controller.
#[derive(Debug)]
pub enum Loaded {
    /// None was here, as far as is known.
    Nothing,
    /// What it remembered.
    Memory(Box<Memory>),
    /// Something that cannot be read. It was moved out of the way, so that it is not overwritten.
    SetAside {
        /// What is wrong with it.
        why: Unreadable,
        /// Where it is now.
        place: PathBuf,
    },
}

/// An effect that was not performed.
#[derive(Debug, thiserror::Error)]
pub enum EffectError {
    /// The platform understood it and will never do it.
    #[error("{0}")]
    Refused(String),
    /// It may be done when asked again.
    #[error("{0:#}")]
    Failed(anyhow::Error),
}

/// Something that runs instances, routes traffic between areas and keeps the controller's memory.
pub trait Platform: Send + 'static {
    /// What is there now.
    fn observe(&mut self) -> impl Future<Output = anyhow::Result<Observation>> + Send;

    /// Performs one effect; returns once the platform has taken it, not once it shows. Idempotent.
    fn perform(&mut self, effect: &Effect) -> impl Future<Output = Result<(), EffectError>> + Send;

    /// What an earlier controller kept.
    fn load(&mut self) -> impl Future<Output = anyhow::Result<Loaded>> + Send;

    /// Keeps what [`Memory::encode`] gave, instead of what was kept before. Returns once it survives the end of this
    /// process and of the machine; after an error what was kept before is still there.
    fn save(&mut self, memory: Vec<u8>) -> impl Future<Output = anyhow::Result<()>> + Send;

    /// What a round saw and did, for a platform that shows it to its users. Must not block.
    fn tell(&mut self, seen: &Seen<'_>) {
        let _ = seen;
    }
}

// === impl EffectError ===

impl EffectError {
    /// Whether asking again is in vain.
    pub const fn is_permanent(&self) -> bool {
        matches!(self, Self::Refused(_))
    }
}
