//! A real control plane without containers: etcd, Kubernetes and istiod, built from source by `make rig`, in a network
//! namespace of their own, and a stand-in for the kubelets that runs pods as processes.
//!
//! ```text
//! rig's thread, in the namespace --> etcd, kube-apiserver, kube-controller-manager, kube-scheduler, istiod
//!                                --> kubelet --> cells, Envoys
//! test's thread, in the namespace -> kube client, users
//! ```
//!
//! Start at [`Suite`]: it starts one rig for all tests of a file. A test gets a [`Cluster`].
//!
//! However a test ends, nothing stays: children are killed by the kernel when the rig's thread ends, the namespace is
//! gone with the last of them, and nothing outside it was touched. Only a test that is killed leaves its folder.

#![expect(clippy::indexing_slicing, reason = "of JSON values that are made right there")]

mod apply;
mod cluster;
mod component;
mod control_plane;
mod keys;
mod kubelet;
pub mod manifests;
mod namespace;
mod process;
mod render;
mod reports;
mod requirements;
mod suite;

use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use kube::Client;
use kube::config::{KubeConfigOptions, Kubeconfig};
use tempfile::TempDir;
use tokio::sync::{mpsc, oneshot};
use tokio::task::LocalSet;

pub use apply::{apply, apply_with};
pub use cluster::Cluster;
pub use component::Component;
pub use kubelet::{ADDRESS_ANNOTATION, SILENT_ANNOTATION};
pub use reports::Reports;
pub use requirements::{Requirements, must_run};
pub use suite::Suite;

use component::Places;
use control_plane::ControlPlane;
use kubelet::{Kubelet, Pids};
use namespace::Namespace;

/// A running control plane. Dropping it stops everything, in order.
#[derive(Debug)]
pub struct Rig {
    shared: Arc<Shared>,
    /// None: it is ending.
    thread: Option<JoinHandle<()>>,
    steps: Vec<(&'static str, Duration)>,
    processes: Vec<(&'static str, i32)>,
}

/// What a rig's users have of it.
#[derive(Debug)]
pub(crate) struct Shared {
    namespace: Namespace,
    folder: TempDir,
    places: Places,
    orders: mpsc::Sender<Order>,
    pids: Pids,
}

/// What the rig's thread is asked for; each is answered when it is done.
#[derive(Debug)]
enum Order {
    Stop {
        component: Component,
        at_once: bool,
        done: oneshot::Sender<anyhow::Result<()>>,
    },
    Start {
        component: Component,
        done: oneshot::Sender<anyhow::Result<()>>,
    },
    End,
}

/// What the rig's thread says once everything runs.
struct Started {
    steps: Vec<(&'static str, Duration)>,
    processes: Vec<(&'static str, i32)>,
    pids: Pids,
}

// === impl Rig ===

impl Rig {
    /// Starts a control plane without nodes; it takes a few seconds. Any thread may call it, and stays where it is.
    ///
    /// # Errors
    /// A component did not start: how it ended, with the ends of all logs.
    pub fn start(requirements: &Requirements) -> anyhow::Result<Self> {
        let begin = Instant::now();
        let namespace = Namespace::create()?;
        let folder = tempfile::Builder::new().prefix("gma-rig-").tempdir()?;
        let places = Places {
            programs: requirements.programs.clone(),
            folder: folder.path().to_owned(),
            logs: folder.path().join("logs"),
        };
        let (orders, received) = mpsc::channel(8);
        let (say, said) = std::sync::mpsc::channel();
        let inside = namespace.try_clone()?;
        let (given, requirements) = (places.clone(), requirements.clone());
        let thread = std::thread::Builder::new()
            .name("rig".to_owned())
            .spawn(move || {
                let started = inside.enter().and_then(|()| runtime());
                match started {
                    Ok(runtime) => {
                        let work = serve(given, requirements, received, say);
                        LocalSet::new().block_on(&runtime, work);
                    }
                    Err(error) => drop(say.send(Err(error))),
                }
            })?;
        let logs = || process::tails(&places.logs);
        let started = said
            .recv()
            .unwrap_or_else(|_| Err(anyhow!("the rig's thread has panicked")))
            .with_context(|| format!("the rig does not start\n{}", logs()))?;
        let mut steps = started.steps;
        steps.push(("all", begin.elapsed()));
        Ok(Self {
            shared: Arc::new(Shared {
                namespace,
                folder,
                places,
                orders,
                pids: started.pids,
            }),
            thread: Some(thread),
            steps,
            processes: started.processes,
        })
    }

    /// Runs a test on a thread of its own inside the rig's network, with a runtime of that thread only: every socket
    /// that it opens is inside.
    ///
    /// # Panics
    /// Where the test does.
    pub fn run<T: Send>(&self, test: impl AsyncFnOnce(&Cluster) -> T + Send) -> anyhow::Result<T> {
        let body = || {
            self.shared.namespace.enter()?;
            runtime()?.block_on(async {
                let cluster = Cluster::connect(Arc::clone(&self.shared)).await?;
                Ok(test(&cluster).await)
            })
        };
        std::thread::scope(|scope| {
            let thread = scope.spawn(body);
            thread
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// How long each step of the start took; the last is the whole.
    pub fn steps(&self) -> &[(&'static str, Duration)] {
        &self.steps
    }

    /// Names and ids of the control plane's processes, as they were started.
    pub fn processes(&self) -> &[(&'static str, i32)] {
        &self.processes
    }

    /// Where keys, logs and `admin.kubeconfig` are.
    pub fn folder(&self) -> &Path {
        self.shared.folder.path()
    }

    /// The end of every log.
    pub fn logs(&self) -> String {
        process::tails(&self.shared.places.logs)
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        // Closed: the thread has ended by itself.
        let _closed = self.shared.orders.blocking_send(Order::End);
        if let Some(thread) = self.thread.take() {
            let _panicked = thread.join();
        }
    }
}

/// The rig's thread: starts everything, does what it is asked, stops everything.
async fn serve(
    places: Places,
    requirements: Requirements,
    mut orders: mpsc::Receiver<Order>,
    say: std::sync::mpsc::Sender<anyhow::Result<Started>>,
) {
    let mut plane = match ControlPlane::start(places.clone()).await {
        Ok(plane) => plane,
        Err(error) => return drop(say.send(Err(error))),
    };
    let kubelet = match kubelet(&places, requirements).await {
        Ok(kubelet) => Arc::new(kubelet),
        Err(error) => {
            plane.stop_all().await;
            return drop(say.send(Err(error)));
        }
    };
    let started = Started {
        steps: std::mem::take(&mut plane.steps),
        processes: plane.processes(),
        pids: kubelet.pids(),
    };
    let pods = tokio::task::spawn_local(kubelet.run());
    let _gone = say.send(Ok(started));
    while let Some(order) = orders.recv().await {
        match order {
            Order::Stop {
                component,
                at_once,
                done,
            } => drop(done.send(plane.stop(component, at_once).await)),
            Order::Start { component, done } => drop(done.send(plane.restart(component).await)),
            Order::End => break,
        }
    }
    // Pods have no state that is worth an orderly end.
    pods.abort();
    let _aborted = pods.await;
    plane.stop_all().await;
}

async fn kubelet(places: &Places, requirements: Requirements) -> anyhow::Result<Kubelet> {
    let client = client(&component::admin(places)).await?;
    let folder = places.folder.join("proxies");
    std::fs::create_dir_all(&folder)?;
    Kubelet::new(
        client,
        folder,
        places.logs.clone(),
        requirements.images,
        requirements.envoy,
    )
}

/// A runtime of the calling thread: its children are this thread's, and its sockets are where this thread is.
fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    let built = tokio::runtime::Builder::new_current_thread().enable_all().build();
    built.context("no runtime")
}

/// A client for whom the kubeconfig names. Belongs to the runtime that it was made in.
async fn client(kubeconfig: &Path) -> anyhow::Result<Client> {
    let file =
        Kubeconfig::read_from(kubeconfig).with_context(|| format!("cannot read {}", kubeconfig.display()))?;
    let config = kube::Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?;
    Ok(Client::try_from(config)?)
}
