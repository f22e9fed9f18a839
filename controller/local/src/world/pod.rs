//! A pod: an Envoy, with a cell beside it unless it is a gateway. A task each, from start to end.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::Pid;
use serde_json::Value;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::{Instant, sleep, timeout};

use super::drain;
use super::setup::free_ports;
use crate::envoy::{CellPorts, Mesh, NodeSpec, admin, gateway, sidecar};
use crate::process::{Process, ProcessError, Program, Spawner};
use crate::protocol::{CellFault, Part};

/// Longest time from a start to ready.
const START_LIMIT: Duration = Duration::from_secs(60);
/// How often a starting pod is asked whether it is ready.
const PROBE_EVERY: Duration = Duration::from_millis(50);
/// A port that was free may be taken before the process binds it.
const START_ATTEMPTS: u32 = 3;
/// Between SIGTERM and SIGKILL of a process that has nothing to do.
const TERM_GRACE: Duration = Duration::from_secs(5);

/// File in a pod's folder that tells its cell how to misbehave.
pub(super) const FAULTS: &str = "faults.json";

/// What a pod is.
#[derive(Clone, Debug)]
pub(super) enum Kind {
    /// An instance's replica.
    Cell {
        /// The cell's binary.
        binary: PathBuf,
        workmodel: PathBuf,
        /// Short name of the service.
        service: String,
    },
    /// Where users enter.
    Gateway {
        /// Host that they are routed to.
        ingress: String,
    },
}

/// A pod to start.
#[derive(Clone, Debug)]
pub(super) struct Pod {
    pub(super) number: u32,
    pub(super) kind: Kind,
    pub(super) node: NodeSpec,
    pub(super) mesh: Mesh,
    pub(super) envoy: PathBuf,
    pub(super) concurrency: u32,
    /// Its turn to start: Envoys that start together take all cores, and delay every request of the world.
    pub(super) turn: Arc<Semaphore>,
    /// Its configuration and logs.
    pub(super) folder: PathBuf,
    /// From the end of a process to the pod's failure.
    pub(super) failure_notice: Duration,
    /// A gateway's address, where it had one before.
    pub(super) users: Option<SocketAddr>,
}

/// What a pod is told; the last order counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// Run.
    Run,
    /// SIGKILL, and then notice it as if it had happened by itself.
    Kill(Part),
    /// Wait until nothing is under way, then stop.
    Drain,
    /// Stop.
    Stop,
}

/// What happened to a pod.
#[derive(Clone, Debug)]
pub(super) enum Event {
    /// It serves.
    Ready(Running),
    /// Its Envoy has ended: nothing answers at its address.
    Down,
    /// It is known to have failed.
    Failed(String),
    /// It was stopped as ordered.
    Stopped,
}

/// Addresses and processes of a pod that serves.
#[derive(Clone, Copy, Debug)]
pub(super) struct Running {
    pub(super) admin: SocketAddr,
    /// For callers, or for users.
    pub(super) serving: SocketAddr,
    pub(super) envoy: Option<Pid>,
    pub(super) cell: Option<Pid>,
}

/// Why a pod does not start.
#[derive(Debug, thiserror::Error)]
enum StartError {
    #[error(transparent)]
    Process(#[from] ProcessError),
    #[error("cannot prepare {folder}: {error}")]
    Folder { folder: PathBuf, error: std::io::Error },
    #[error("{0}")]
    Ended(String),
    #[error("not ready within {} s; logs in {}", START_LIMIT.as_secs(), .0.display())]
    Late(PathBuf),
}

/// The processes of a pod.
struct Processes {
    envoy: Process,
    cell: Option<Process>,
    running: Running,
}

/// Runs a pod to its end.
pub(super) async fn run(
    pod: Pod,
    spawner: Spawner,
    mut orders: watch::Receiver<Order>,
    events: mpsc::Sender<(u32, Event)>,
) {
    let tell = async |event| {
        // The world is gone; then so is this task.
        let _gone = events.send((pod.number, event)).await;
    };
    let started = tokio::select! {
        started = start(&pod, &spawner) => started,
        () = ordered(&mut orders) => return tell(Event::Stopped).await,
    };
    let mut processes = match started {
        Ok(processes) => processes,
        Err(error) => return tell(Event::Failed(error.to_string())).await,
    };
    tell(Event::Ready(processes.running)).await;
    loop {
        let ended = tokio::select! {
            ended = processes.ended() => Some(ended),
            () = ordered(&mut orders) => None,
        };
        let order = *orders.borrow_and_update();
        match (ended, order) {
            (Some((part, reason)), _) => {
                tracing::warn!(pod = %pod.node.name, %reason, "a process ended");
                if part == Part::Sidecar {
                    tell(Event::Down).await;
                }
                // Until somebody looks, the other process is alone.
                sleep(pod.failure_notice).await;
                processes.kill(Part::Pod);
                tell(Event::Down).await;
                return tell(Event::Failed(reason)).await;
            }
            (None, Order::Kill(part)) => {
                processes.kill(part);
                orders.mark_unchanged();
            }
            (None, Order::Drain) => {
                drain::until_idle(&pod.node.name, processes.running.admin, &mut orders).await;
                break;
            }
            (None, Order::Stop | Order::Run) => break,
        }
    }
    processes.stop().await;
    tell(Event::Stopped).await;
}

/// Returns at the next order, or when the world is gone.
async fn ordered(orders: &mut watch::Receiver<Order>) {
    let _gone = orders.changed().await;
}

async fn start(pod: &Pod, spawner: &Spawner) -> Result<Processes, StartError> {
    let mut attempt = 1;
    loop {
        match start_once(pod, spawner).await {
            Err(StartError::Ended(reason)) if attempt < START_ATTEMPTS && is_port_taken(&reason) => {
                tracing::info!(pod = %pod.node.name, "a port was taken meanwhile; starting with others");
                attempt += 1;
            }
            result => return result,
        }
    }
}

fn is_port_taken(reason: &str) -> bool {
    reason.to_ascii_lowercase().contains("address already in use") || reason.contains("Address in use")
}

async fn start_once(pod: &Pod, spawner: &Spawner) -> Result<Processes, StartError> {
    let in_folder = |error| StartError::Folder {
        folder: pod.folder.clone(),
        error,
    };
    std::fs::create_dir_all(&pod.folder).map_err(in_folder)?;
    let _turn = pod.turn.acquire().await;
    let [admin, serving, outbound, cell_port] = free_ports(pod.node.ip).map_err(in_folder)?;
    let serving = pod.users.unwrap_or(serving);
    let (bootstrap, cell) = match &pod.kind {
        Kind::Cell {
            binary,
            workmodel,
            service,
        } => {
            let ports = CellPorts {
                admin,
                inbound: serving,
                outbound,
                cell: cell_port,
            };
            let program = cell_program(&pod.folder, binary, workmodel, service, ports);
            (
                sidecar(&pod.node, &pod.mesh, ports),
                Some(spawner.start(program).await?),
            )
        }
        Kind::Gateway { ingress } => (gateway(&pod.node, &pod.mesh, ingress, admin, serving), None),
    };
    let envoy = spawner
        .start(envoy_program(pod, &bootstrap).map_err(in_folder)?)
        .await?;
    let cell_pid = cell.as_ref().and_then(Process::id);
    let running = Running {
        admin,
        serving,
        envoy: envoy.id(),
        cell: cell_pid,
    };
    let mut processes = Processes { envoy, cell, running };
    let cell_port = processes.cell.is_some().then_some(cell_port);
    let ready = timeout(START_LIMIT, ready(admin, cell_port));
    tokio::select! {
        (_, reason) = processes.ended() => Err(StartError::Ended(reason)),
        ready = ready => match ready {
            Ok(()) => Ok(processes),
            Err(_) => Err(StartError::Late(pod.folder.clone())),
        },
    }
}

/// Returns once Envoy and the cell say that they are ready.
async fn ready(admin: SocketAddr, cell: Option<SocketAddr>) {
    let start = Instant::now();
    let both_ready = async || {
        admin::answers(admin, "/ready").await
            && match cell {
                Some(cell) => admin::answers(cell, "/healthz").await,
                None => true,
            }
    };
    while !both_ready().await {
        sleep(PROBE_EVERY).await;
    }
    tracing::debug!(%admin, elapsed = ?start.elapsed(), "ready");
}

/// Tells a pod's cell, which looks for it, how to misbehave.
pub(super) fn write_fault(folder: &Path, fault: &CellFault) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    let text = serde_json::to_string(fault).map_err(std::io::Error::other)?;
    // In one step: the cell must not read half of it.
    let partial = folder.join("faults.partial");
    std::fs::write(&partial, text)?;
    std::fs::rename(partial, folder.join(FAULTS))
}

fn cell_program(folder: &Path, binary: &Path, workmodel: &Path, service: &str, ports: CellPorts) -> Program {
    Program {
        name: format!("cell {service}"),
        binary: binary.to_owned(),
        arguments: vec![
            "serve".into(),
            "--workmodel".into(),
            workmodel.into(),
            "--service".into(),
            service.into(),
            "--listen".into(),
            ports.cell.to_string().into(),
            "--egress".into(),
            ports.outbound.to_string().into(),
            "--faults".into(),
            folder.join(FAULTS).into(),
        ],
        log: folder.join("cell.log"),
    }
}

fn envoy_program(pod: &Pod, bootstrap: &Value) -> std::io::Result<Program> {
    let config = pod.folder.join("envoy.json");
    std::fs::write(&config, bootstrap.to_string())?;
    Ok(Program {
        name: format!("Envoy of {}", pod.node.name),
        binary: pod.envoy.clone(),
        arguments: vec![
            "--config-path".into(),
            config.into(),
            "--disable-hot-restart".into(),
            "--concurrency".into(),
            pod.concurrency.to_string().into(),
            "--log-level".into(),
            "warning".into(),
        ],
        log: pod.folder.join("envoy.log"),
    })
}

// === impl Processes ===

impl Processes {
    /// Waits for the first that ends.
    async fn ended(&mut self) -> (Part, String) {
        match &mut self.cell {
            Some(cell) => tokio::select! {
                // Where both have ended, nothing answers.
                biased;
                reason = self.envoy.ended() => (Part::Sidecar, reason),
                reason = cell.ended() => (Part::Cell, reason),
            },
            None => (Part::Sidecar, self.envoy.ended().await),
        }
    }

    fn kill(&self, part: Part) {
        if part != Part::Cell {
            self.envoy.kill();
        }
        if let Some(cell) = self.cell.as_ref().filter(|_| part != Part::Sidecar) {
            cell.kill();
        }
    }

    async fn stop(&mut self) {
        let cell = async {
            if let Some(cell) = &mut self.cell {
                cell.stop(TERM_GRACE).await;
            }
        };
        tokio::join!(self.envoy.stop(TERM_GRACE), cell);
    }
}
