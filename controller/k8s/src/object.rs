//! One `EdgePlacement` in the hands of the leader.

use gma_core::cluster::RoutingPlan;
use gma_core::decide::Effect;
use gma_core::ids::ServiceName;
use gma_core::measured::Settings;
use gma_core::sightings::Sightings;
use tokio::time::Instant;

use crate::act::Hand;
use crate::edge::Followed;
use crate::error::ActError;
use crate::kube_api::{Id, Kube};
use crate::memory::Memory;
use crate::metrics::CpuTime;
use crate::pins::Completed;
use crate::returning::Returning;
use crate::settings::Wanted;
use crate::status::{Known, Told, status};
use crate::teller::Teller;
use crate::view::{View, view};

/// An object that is looked after.
#[derive(Debug)]
pub struct Object {
    pub(crate) hand: Hand,
    pub(crate) wanted: Wanted,
    pub(crate) sightings: Sightings,
    /// The last order of weights.
    pub(crate) ordered: RoutingPlan,
    /// The routing of the last look.
    pub(crate) routed: RoutingPlan,
    /// Settings as the spec alone gives them.
    pub(crate) base: Settings,
    pub(crate) completed: Completed,
    pub(crate) followed: Followed,
    cpu_time: CpuTime,
    /// Why CPU in use is not known.
    no_metrics: Option<String>,
    returning: Returning,
    memory: Memory,
    pub(crate) teller: Teller,
    /// Of the last look.
    held: Vec<(ServiceName, String, String)>,
    /// Services of the last look that can't be placed, and why.
    pinned: Vec<(ServiceName, String)>,
}

impl Object {
    /// Takes an object over.
    pub fn new(kube: &Kube, id: &Id, wanted: Wanted) -> Self {
        let mut object = Self {
            hand: Hand::new(kube, id),
            memory: Memory::new(kube, id),
            teller: Teller::new(kube, id),
            base: wanted.settings.clone(),
            wanted,
            sightings: Sightings::new(),
            ordered: RoutingPlan::default(),
            routed: RoutingPlan::default(),
            completed: Completed::default(),
            followed: Followed::default(),
            cpu_time: CpuTime::default(),
            no_metrics: None,
            returning: Returning::default(),
            held: Vec::new(),
            pinned: Vec::new(),
        };
        object.complete();
        object
    }

    /// What it wants, with what the cluster adds: services that can't be placed are pinned to the cloud.
    pub const fn wanted(&self) -> &Wanted {
        &self.wanted
    }

    /// `namespace/name`.
    pub fn path(&self) -> String {
        self.hand.path()
    }

    /// What is there now.
    ///
    /// # Errors
    /// What is not known yet, and why.
    pub fn observe(&mut self, sightings: Sightings) -> Result<View, String> {
        let missing = self.hand.kube.missing();
        if !missing.is_empty() {
            return Err(missing.join("; "));
        }
        self.sightings = sightings;
        self.complete();
        let mut view = self.seen(view);
        self.cpu_time
            .advance(&view.cores, &mut view.cluster, Instant::now());
        self.no_metrics = self.hand.kube.index.lock().no_metrics.clone();
        self.returning.settle(&mut view.cluster, Instant::now());
        self.routed = view.cluster.routing.clone();
        let held: Vec<_> = view
            .held
            .iter()
            .map(|(host, held)| (host.clone(), crate::act::why(&held.why), held.fix.clone()))
            .collect();
        for (host, why, _) in held.iter().filter(|held| !self.held.contains(held)) {
            self.teller.warn("RoutingHeld", &format!("{host}: {why}"));
        }
        self.held = held;
        let pinned = self.completed.pinned.iter();
        self.pinned = pinned
            .filter(|(host, _)| view.services.contains(*host) && !view.held.contains_key(*host))
            .map(|(host, why)| (host.clone(), why.clone()))
            .collect();
        Ok(view)
    }

    /// Performs an effect. Idempotent; returns once the API server has taken it.
    ///
    /// # Errors
    /// See [`ActError`].
    pub async fn perform(&mut self, effect: &Effect) -> Result<(), ActError> {
        self.hand.kube.check_leading()?;
        match effect {
            Effect::Route { plan } => self.route(plan).await,
            Effect::Ensure {
                service,
                area,
                replicas,
            } => self.ensure(service, area, *replicas).await,
            Effect::Remove { service, area } => self.remove(service, area).await,
            Effect::Scale {
                service, replicas, ..
            } => self.scale(service, *replicas).await,
            Effect::Record { .. } => Ok(()),
        }
    }

    /// What an earlier leader kept.
    ///
    /// # Errors
    /// See [`ActError`].
    pub async fn load(&mut self) -> Result<Option<Vec<u8>>, ActError> {
        self.memory.load().await
    }

    /// Keeps a memory instead of the former.
    ///
    /// # Errors
    /// See [`ActError`]; then the former is still there.
    pub async fn save(&mut self, memory: Vec<u8>) -> Result<(), ActError> {
        self.memory.save(memory).await
    }

    /// Keeps what can't be read beside the memory; gives the place.
    ///
    /// # Errors
    /// See [`ActError`].
    pub async fn set_aside(&mut self, memory: Vec<u8>) -> Result<String, ActError> {
        self.memory.set_aside(memory).await
    }

    /// Says what is done and why in the object's status and events; returns at once.
    pub fn tell(&mut self, told: &Told<'_>) {
        let known = Known {
            generation: self.hand.id.generation,
            held: &self.held,
            pinned: &self.pinned,
            no_metrics: self.no_metrics.as_deref(),
        };
        self.teller.tell(status(told, &known), told.state);
    }
}
