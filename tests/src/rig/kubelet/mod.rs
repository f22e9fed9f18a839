//! A stand-in for the kubelets of all nodes: a pod is a process for each container, all in the rig's network namespace.
//!
//! What it does as the real one: it starts what the scheduler bound, says Ready once every container port accepts and
//! the proxy has its configuration, starts again what ended, on deletion sleeps as `preStop` says, sends SIGTERM and
//! waits for the grace period, and keeps nodes alive. What it does not: images (the name of a container's image is the name of a program: `gma-cell`,
//! `test-cell`, `pause` for none), volumes, probes, other hooks, limits, init containers. Where Istio would inject a proxy (label
//! `sidecar.istio.io/inject: "true"`) a stock Envoy is started: a gateway where the annotation
//! `inject.istio.io/templates: gateway` says so, else a sidecar without interception.

mod node;
mod pod;
mod proxy;
mod spec;
mod status;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client};
use tokio::sync::watch;
use tokio::task::JoinSet;

pub use node::SILENT_ANNOTATION;
pub(super) use node::{add as add_node, give_back as give_node_back, lose as lose_node};
pub use spec::ADDRESS_ANNOTATION;

use spec::PodSpec;

/// Ids of the processes, by namespace, pod and container.
pub(super) type Pids = Arc<Mutex<BTreeMap<(String, String, String), i32>>>;

/// Lines with the time since the start.
#[derive(Clone, Debug)]
pub(super) struct Log {
    file: Arc<Mutex<File>>,
    start: Instant,
}

/// What all pods need.
pub(super) struct Kubelet {
    client: Client,
    /// Bootstraps of proxies.
    folder: PathBuf,
    logs: PathBuf,
    log: Log,
    /// What the name of an image stands for; none: nothing runs.
    programs: BTreeMap<&'static str, Option<PathBuf>>,
    envoy: PathBuf,
    addresses: AtomicU32,
    pids: Pids,
}

/// Tells a pod's task to end it within a grace period.
type Ends = watch::Sender<Option<Duration>>;

// === impl Log ===

impl Log {
    pub(super) fn create(path: &std::path::Path) -> std::io::Result<Self> {
        Ok(Self {
            file: Arc::new(Mutex::new(File::create(path)?)),
            start: Instant::now(),
        })
    }

    pub(super) fn line(&self, text: &str) {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let seconds = self.start.elapsed().as_secs_f64();
        let _full = writeln!(file, "{seconds:9.3} {text}");
    }
}

// === impl Kubelet ===

impl Kubelet {
    pub(super) fn new(
        client: Client,
        folder: PathBuf,
        logs: PathBuf,
        programs: BTreeMap<&'static str, Option<PathBuf>>,
        envoy: PathBuf,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            client,
            folder,
            log: Log::create(&logs.join("kubelet.log"))?,
            logs,
            programs,
            envoy,
            addresses: AtomicU32::new(0),
            pids: Pids::default(),
        })
    }

    pub(super) fn pids(&self) -> Pids {
        Arc::clone(&self.pids)
    }

    /// Runs pods until it is dropped; its processes end with it.
    pub(super) async fn run(self: Arc<Self>) {
        let _heartbeats = tokio_util::task::AbortOnDropHandle::new(tokio::spawn(node::heartbeats(
            self.client.clone(),
            self.log.clone(),
        )));
        let bound = watcher::Config::default().fields("spec.nodeName!=");
        let mut events = watcher(Api::<Pod>::all(self.client.clone()), bound)
            .default_backoff()
            .boxed();
        let mut pods = Pods::default();
        while let Some(event) = events.next().await {
            match event {
                Ok(event) => pods.heed(&self, event),
                Err(error) => self.log.line(&format!("watch of pods: {error}")),
            }
            while pods.tasks.try_join_next().is_some() {}
        }
    }

    /// The address that the pod asks for, or the next; none is used twice.
    fn address(&self, pod: &PodSpec) -> IpAddr {
        pod.wanted_address.unwrap_or_else(|| {
            let next = self.addresses.fetch_add(1, Ordering::Relaxed);
            let [_, _, high, low] = (next % 50_000 + 256).to_be_bytes();
            Ipv4Addr::new(10, 244, high, low).into()
        })
    }

    fn note_pid(&self, pod: &PodSpec, container: &str, pid: Option<i32>) {
        let key = (pod.namespace.clone(), pod.name.clone(), container.to_owned());
        let mut pids = self.pids.lock().unwrap_or_else(PoisonError::into_inner);
        match pid {
            Some(pid) => pids.insert(key, pid),
            None => pids.remove(&key),
        };
    }
}

/// The pods that have a task.
#[derive(Default)]
struct Pods {
    tasks: JoinSet<()>,
    ends: BTreeMap<String, Ends>,
    /// Those of a listing that is under way.
    listed: BTreeSet<String>,
}

// === impl Pods ===

impl Pods {
    fn heed(&mut self, kubelet: &Arc<Kubelet>, event: Event<Pod>) {
        match event {
            Event::Apply(pod) => self.apply(kubelet, &pod),
            // Its sender is dropped: the task ends what still runs, at once.
            Event::Delete(pod) => {
                self.ends.remove(&pod.metadata.uid.unwrap_or_default());
            }
            Event::Init => self.listed.clear(),
            Event::InitApply(pod) => {
                self.listed.extend(pod.metadata.uid.clone());
                self.apply(kubelet, &pod);
            }
            Event::InitDone => self.ends.retain(|uid, _| self.listed.contains(uid)),
        }
    }

    fn apply(&mut self, kubelet: &Arc<Kubelet>, pod: &Pod) {
        let Some(spec) = PodSpec::of(pod) else { return };
        let grace = pod.metadata.deletion_timestamp.as_ref().map(|_| {
            let seconds = pod.metadata.deletion_grace_period_seconds.unwrap_or_default();
            Duration::from_secs(seconds.try_into().unwrap_or_default())
        });
        match self.ends.get(&spec.uid) {
            Some(ends) => {
                ends.send_if_modified(|known| std::mem::replace(known, grace) != grace);
            }
            None => {
                let (ends, asked) = watch::channel(grace);
                self.ends.insert(spec.uid.clone(), ends);
                self.tasks.spawn_local(pod::run(Arc::clone(kubelet), spec, asked));
            }
        }
    }
}
