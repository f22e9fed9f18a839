//! `gma run` in Kubernetes: stand by until the lease is ours, look after the object while it is.
//!
//! ```text
//! standing by ── lease taken ──> leading: label, then the object: finalizer, memory, control loop
//!     ^                              │
//!     └──── lease lost: the loop is dropped where it stands, reports are answered as busy
//! ```
//!
//! The clock counts from 1970, so that what one controller wrote down has a meaning for the next on another machine.
//! One object is looked after at a time: the oldest. The others are told so in their status.

mod incomplete;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use gma_core::ids::Timestamp;
use gma_k8s::{ActError, Id, Kube, Object, Settings, Target, say, tell_not_ready};
use gma_telemetry::Telemetry;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::args::KubernetesArgs;
use crate::control::ControlLoop;
use crate::memory::wall_unix_ms;
use crate::platform::Platform as _;
use crate::platform::kubernetes::KubernetesPlatform;
use crate::run::{recall, serve, until_end};
use crate::shared::Shared;

/// How often it is looked whether there is another object, or another version of it.
const LOOK: Duration = Duration::from_millis(250);
/// Rest after something that did not work.
const REST: Duration = Duration::from_secs(2);
/// What can't be given back within this is named, and the object goes.
const RESTORE_WITHIN: Duration = Duration::from_secs(50);
/// Objects that are told that they are not looked after, at most.
const MOST_TOLD: usize = 64;

/// The object that is looked after now.
struct Running {
    id: Id,
    ending: CancellationToken,
    task: JoinSet<anyhow::Result<()>>,
}

/// What a leader does and remembers.
struct Leader<'a> {
    kube: &'a Kube,
    shared: &'a Arc<Shared>,
    running: Option<Running>,
    /// Whether the label is on our pod and on no other.
    is_labelled: bool,
    /// Objects that were told why they are not looked after.
    told: BTreeMap<String, (Id, String)>,
    /// When the end of an object was first tried.
    restoring: Option<(Id, Instant)>,
    complaint: Option<String>,
    not_before: Instant,
}

/// Runs until a signal.
///
/// # Errors
/// There is no configuration of a cluster. A cluster that does not answer, or gives no rights, is no error: it is said, and
/// tried again.
pub async fn run(args: &KubernetesArgs, listener: TcpListener) -> anyhow::Result<()> {
    let address = listener.local_addr()?;
    let settings = Settings {
        namespace: args.namespace.clone(),
        pod: args.pod.clone(),
        identity: identity(args),
        domain: args.cluster_domain.clone(),
        root_namespace: args.root_namespace.clone(),
    };
    let (mut watches, mut candidacy) = (JoinSet::new(), JoinSet::new());
    let kube = Kube::connect(settings, &mut watches, &mut candidacy).await?;
    let first = Timestamp::from_start(Duration::from_millis(wall_unix_ms()));
    let shared = Arc::new(Shared::new(
        Telemetry::new(gma_telemetry::Config::default()),
        first,
    ));
    let shutdown = CancellationToken::new();
    let mut tasks = serve(listener, &shared, &shutdown);
    let ending = shutdown.clone();
    tasks.spawn(async move {
        tokio::select! {
            () = ending.cancelled() => Ok(()),
            ended = watches.join_next() => {
                ended.transpose().context("a watch panicked")?;
                anyhow::bail!("a watch ended by itself")
            }
        }
    });
    tasks.spawn(supervise(kube, shared, candidacy, shutdown.clone()));
    info!(%address, "listening; standing by");
    until_end(tasks, &shutdown).await
}

/// The pod's name for people; process and time, because a container that is started again is another candidate.
fn identity(args: &KubernetesArgs) -> String {
    let process = std::process::id();
    let started = wall_unix_ms();
    let name = args.pod.as_deref().unwrap_or("gma");
    format!("{name}_{process}_{started}")
}

async fn supervise(
    kube: Kube,
    shared: Arc<Shared>,
    candidacy: JoinSet<()>,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let health = async {
        let mut ticks = tokio::time::interval(Duration::from_secs(1));
        loop {
            ticks.tick().await;
            if kube.missing().is_empty() {
                shared.saw_platform();
            }
            // A round that was under way when the lease was lost may have ended after the loop was dropped.
            if !kube.leadership().is_held() {
                shared.stand_by();
            }
        }
    };
    let terms = async {
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = kube.leadership().gained() => {}
            }
            // Dropped where it stands once the lease is lost: what is under way must not be finished.
            tokio::select! {
                () = kube.leadership().lost() => warn!("the lease is lost: nothing is written any more"),
                () = Leader::new(&kube, &shared).lead(&shutdown) => {}
            }
            shared.stand_by();
        }
    };
    tokio::select! {
        () = health => {}
        () = terms => {}
    }
    // Or it would be taken again at once.
    drop(candidacy);
    kube.resign().await;
    Ok(())
}

// === impl Leader ===

impl<'a> Leader<'a> {
    fn new(kube: &'a Kube, shared: &'a Arc<Shared>) -> Self {
        Self {
            kube,
            shared,
            running: None,
            is_labelled: false,
            told: BTreeMap::new(),
            restoring: None,
            complaint: None,
            not_before: Instant::now(),
        }
    }

    /// Leads until `shutdown`; the round under way is finished.
    async fn lead(mut self, shutdown: &CancellationToken) {
        let mut looks = tokio::time::interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return self.stop().await,
                _ = looks.tick() => {}
            }
            if Instant::now() < self.not_before {
                continue;
            }
            let result = self.look().await;
            let complaint = result.err().map(|error| format!("{error:#}"));
            if let Some(error) = &complaint {
                self.not_before = Instant::now() + REST;
                if self.complaint != complaint {
                    warn!(error, "not done; it is tried again");
                }
            }
            self.complaint = complaint;
        }
    }

    async fn look(&mut self) -> anyhow::Result<()> {
        if !self.is_labelled {
            self.kube.label_leader().await?;
            self.is_labelled = true;
        }
        if !self.kube.missing().is_empty() {
            return self.wait().await;
        }
        match self.kube.target() {
            Target::None => self.stop().await,
            Target::Ending { id } => {
                self.stop().await;
                self.restore(&id).await?;
            }
            Target::Faulty { id, faults } => {
                self.stop().await;
                self.tell(&id, "SpecRefused", &faults).await?;
            }
            Target::Run { id, wanted } => {
                let is_running = self
                    .running
                    .as_ref()
                    .is_some_and(|running| running.id == id && !running.task.is_empty());
                if !is_running {
                    self.stop().await;
                    self.kube.hold(&id).await?;
                    self.start(id, *wanted).await?;
                } else if let Some(running) = &mut self.running
                    && let Some(ended) = running.task.try_join_next()
                {
                    self.running = None;
                    ended.context("the control loop panicked").flatten()?;
                }
            }
        }
        for id in self.kube.others().into_iter().take(MOST_TOLD) {
            let why = "another EdgePlacement is looked after, and one controller looks after one: delete the older, or run a second \
                       controller for another cluster";
            self.tell(&id, "AnotherObject", why).await?;
        }
        Ok(())
    }

    async fn start(&mut self, id: Id, wanted: gma_k8s::settings::Wanted) -> anyhow::Result<()> {
        let object = Object::new(self.kube, &id, wanted);
        let (config, settings) = (object.wanted().config.clone(), object.wanted().settings.clone());
        info!(object = object.path(), generation = id.generation, mode = ?config.mode, "looking after");
        let mut platform = KubernetesPlatform::new(object, Arc::clone(self.shared));
        let memory = recall(platform.load().await?);
        let control =
            ControlLoop::new(Arc::clone(self.shared), platform, config, memory).with_settings(settings);
        let ending = CancellationToken::new();
        let mut task = JoinSet::new();
        task.spawn(control.run(ending.clone()));
        self.running = Some(Running { id, ending, task });
        Ok(())
    }

    /// Ends the control loop after its round.
    async fn stop(&mut self) {
        if let Some(mut running) = self.running.take() {
            running.ending.cancel();
            while let Some(ended) = running.task.join_next().await {
                if let Err(error) = ended.context("the control loop panicked").flatten() {
                    warn!(error = format!("{error:#}"), "failed while ending");
                }
            }
            self.shared.stand_by();
        }
    }

    /// Gives back what was changed, for a bounded time; then the object goes in any case.
    async fn restore(&mut self, id: &Id) -> anyhow::Result<()> {
        let since = match &self.restoring {
            Some((of, since)) if of.key == id.key && of.uid == id.uid => *since,
            _ => {
                let now = Instant::now();
                self.restoring = Some((id.clone(), now));
                now
            }
        };
        match self.give_back(id).await {
            Ok(()) => {}
            Err(error) if since.elapsed() < RESTORE_WITHIN => return Err(error.into()),
            Err(error) => {
                warn!(%error, namespace = id.key.0, name = id.key.1, "not all that was changed could be restored");
                let note = format!("not restored: {error}");
                if let Err(error) = say(self.kube, id, "NotRestored", &note).await {
                    warn!(%error, "the event was not written");
                }
            }
        }
        self.kube.let_go(id).await?;
        self.restoring = None;
        Ok(())
    }

    /// Says once of a version of an object why it is not looked after.
    async fn tell(&mut self, id: &Id, reason: &'static str, why: &str) -> Result<(), ActError> {
        let news = (id.clone(), why.to_owned());
        if self.told.get(&id.uid) == Some(&news) {
            return Ok(());
        }
        warn!(namespace = id.key.0, name = id.key.1, why, "not looked after");
        tell_not_ready(self.kube, id, reason, why).await?;
        if self.told.len() >= 2 * MOST_TOLD {
            self.told.clear();
        }
        self.told.insert(id.uid.clone(), news);
        Ok(())
    }
}
