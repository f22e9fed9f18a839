//! `gma run` in Kubernetes: stand by until the lease is ours, look after all objects while it is.
//!
//! ```text
//! standing by ── lease taken ──> leading: label, then of each object: finalizer, memory, control loop
//!     ^                              │
//!     └──── lease lost: the loops are dropped where they stand, reports are answered as busy
//! ```
//!
//! The clock counts from 1970, so that what one controller wrote down has a meaning for the next on another machine.
//! Objects share the watches, the lease and what receives reports; settings, memory, telemetry and state are each one's own.

mod incomplete;

use std::collections::{BTreeMap, BTreeSet};
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
/// Objects of which it is remembered what they were told.
const MOST_TOLD: usize = 1000;

/// An object that is looked after now.
struct Running {
    id: Id,
    ending: CancellationToken,
    task: JoinSet<anyhow::Result<()>>,
}

/// What a leader does and remembers.
struct Leader<'a> {
    kube: &'a Kube,
    shared: &'a Arc<Shared>,
    /// By uid.
    running: BTreeMap<String, Running>,
    /// Whether the label is on our pod and on no other.
    is_labelled: bool,
    /// Objects that were told why they are not looked after, by uid.
    told: BTreeMap<String, (Id, String)>,
    /// When the end of an object was first tried, by uid.
    restoring: BTreeMap<String, Instant>,
    /// What did not work, by uid, and when it is tried again.
    failed: BTreeMap<String, (String, Instant)>,
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
        domain: args.mesh.cluster_domain.clone(),
        root_namespace: args.mesh.root_namespace.clone(),
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
            running: BTreeMap::new(),
            is_labelled: false,
            told: BTreeMap::new(),
            restoring: BTreeMap::new(),
            failed: BTreeMap::new(),
        }
    }

    /// Leads until `shutdown`; the rounds under way are finished.
    async fn lead(mut self, shutdown: &CancellationToken) {
        let mut looks = tokio::time::interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return self.keep(&BTreeSet::new()).await,
                _ = looks.tick() => {}
            }
            self.look().await;
        }
    }

    async fn look(&mut self) {
        if !self.is_labelled {
            if self.is_resting("") {
                return;
            }
            let done = self.kube.label_leader().await;
            self.is_labelled = done.is_ok();
            self.note("", done.map_err(Into::into));
        }
        if !self.is_labelled {
            return;
        }
        if !self.kube.missing().is_empty() {
            return self.wait().await;
        }
        let targets = self.kube.targets();
        let uids: BTreeSet<&str> = targets.iter().map(|target| target.id().uid.as_str()).collect();
        self.shared.retain(&uids);
        self.restoring.retain(|uid, _| uids.contains(uid.as_str()));
        self.failed
            .retain(|uid, _| uid.is_empty() || uids.contains(uid.as_str()));
        self.keep(&to_run(&targets)).await;
        for target in &targets {
            let uid = &target.id().uid;
            if !self.is_resting(uid) {
                let done = self.serve(target).await;
                self.note(uid, done);
            }
        }
    }

    /// Brings one object on. What fails for it does not keep the others.
    async fn serve(&mut self, target: &Target) -> anyhow::Result<()> {
        match target {
            Target::Ending(id) => self.restore(id).await,
            Target::Idle { id, reason, why } => Ok(self.tell(id, reason, why).await?),
            Target::Run(id) => {
                if let Some(running) = self.running.get_mut(&id.uid) {
                    if let Some(ended) = running.task.try_join_next() {
                        self.running.remove(&id.uid);
                        self.shared.leave(&id.uid);
                        ended.context("the control loop panicked").flatten()?;
                    }
                    return Ok(());
                }
                match self.kube.wanted(id) {
                    Ok(wanted) => {
                        self.kube.hold(id).await?;
                        self.start(id, wanted).await
                    }
                    Err(faults) => Ok(self.tell(id, "SpecRefused", &faults).await?),
                }
            }
        }
    }

    /// Whether what failed is not tried again yet.
    fn is_resting(&self, uid: &str) -> bool {
        self.failed
            .get(uid)
            .is_some_and(|(_, until)| Instant::now() < *until)
    }

    /// Says what failed, once.
    fn note(&mut self, uid: &str, done: anyhow::Result<()>) {
        let Err(error) = done else {
            self.failed.remove(uid);
            return;
        };
        let error = format!("{error:#}");
        let is_news = self.failed.get(uid).is_none_or(|(known, _)| *known != error);
        if is_news {
            warn!(error, "not done; it is tried again");
        }
        self.failed.insert(uid.to_owned(), (error, Instant::now() + REST));
    }

    async fn start(&mut self, id: &Id, wanted: gma_k8s::settings::Wanted) -> anyhow::Result<()> {
        let object = Object::new(self.kube, id, wanted);
        let config = object.wanted().config.clone();
        info!(object = object.path(), generation = id.generation, mode = ?config.mode, "looking after");
        let shared = self.shared.enter(&id.uid, &id.path(), &id.created);
        let mut platform = KubernetesPlatform::new(object, Arc::clone(&shared));
        let loaded = platform.load().await;
        let memory = recall(loaded.inspect_err(|_| self.shared.leave(&id.uid))?);
        let control = ControlLoop::new(shared, platform, config, memory);
        let ending = CancellationToken::new();
        let mut task = JoinSet::new();
        task.spawn(control.run(ending.clone()));
        let running = Running {
            id: id.clone(),
            ending,
            task,
        };
        self.running.insert(id.uid.clone(), running);
        // Should it be idle again later, that is news.
        self.told.remove(&id.uid);
        Ok(())
    }

    /// Ends all control loops but those of `ids`, after their rounds.
    async fn keep(&mut self, ids: &BTreeSet<&Id>) {
        let ending = self
            .running
            .extract_if(.., |_, running| !ids.contains(&running.id));
        let ending: Vec<_> = ending.collect();
        for (_, running) in &ending {
            running.ending.cancel();
        }
        for (uid, mut running) in ending {
            while let Some(ended) = running.task.join_next().await {
                if let Err(error) = ended.context("the control loop panicked").flatten() {
                    warn!(error = format!("{error:#}"), "failed while ending");
                }
            }
            self.shared.leave(&uid);
        }
    }

    /// Gives back what was changed, for a bounded time; then the object goes in any case.
    async fn restore(&mut self, id: &Id) -> anyhow::Result<()> {
        let since = *self.restoring.entry(id.uid.clone()).or_insert_with(Instant::now);
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
        self.restoring.remove(&id.uid);
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
        if self.told.len() >= MOST_TOLD {
            self.told.clear();
        }
        self.told.insert(id.uid.clone(), news);
        Ok(())
    }
}

fn to_run(targets: &[Target]) -> BTreeSet<&Id> {
    let to_run = targets.iter().filter_map(|target| match target {
        Target::Run(id) => Some(id),
        Target::Idle { .. } | Target::Ending(_) => None,
    });
    to_run.collect()
}
