//! A world: areas of processes on this machine, and the socket that steers them.

mod core;
mod drain;
mod error;
mod faults;
mod instances;
mod pod;
mod requests;
mod routing;
mod setup;
mod socket;
mod workmodel;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::client::Client;
use crate::envoy::admin;
use crate::process::SpawnerThread;
use crate::protocol::{Answer, Request};
use crate::topology::Topology;

pub use error::WorldError;
pub use setup::free_address;

/// A question from the socket, and where its answer goes.
type Ask = (Request, oneshot::Sender<Answer>);

/// Longest time that a stop waits: each process gets 5 s to stop when asked, and is killed then.
const STOP_LIMIT: Duration = Duration::from_secs(15);

/// Longest time from ready pods to endpoints that are read, 20 Envoys on 2 cores included.
const SETTLE_LIMIT: Duration = Duration::from_secs(30);
/// How often an Envoy is asked for its endpoints.
const ASK_EVERY: Duration = Duration::from_millis(20);

/// Owns every process of a topology. Dropping it kills them; [`World::stop`] lets them end in order.
#[derive(Debug)]
pub struct World {
    // Dropped in this order: the tasks stop steering, the processes end, the folder goes.
    tasks: JoinSet<()>,
    requests: mpsc::Sender<Ask>,
    _spawner: SpawnerThread,
    folder: Folder,
    socket: PathBuf,
}

/// Where configuration and logs are.
#[derive(Debug)]
enum Folder {
    /// The caller's; it stays.
    Given(PathBuf),
    /// Ours; it goes with the world, unless the world did not start.
    Temporary(TempDir),
}

// === impl World ===

impl World {
    /// Starts the application in the cloud, the edges' gateways and the relays, and returns once all serve. `folder`
    /// takes configuration and logs; none: a temporary one.
    ///
    /// # Errors
    /// What is missing or does not start, with the remedy and the last lines of its log.
    pub async fn start(topology: Topology, folder: Option<&Path>) -> Result<Self, WorldError> {
        topology.check("given")?;
        let folder = Folder::open(folder)?;
        let setup = setup::Setup::resolve(topology, folder.path().to_owned())?;
        let socket = setup.socket();
        let spawner = SpawnerThread::start().map_err(|error| WorldError::folder(folder.path(), error))?;
        let (requests, asked) = mpsc::channel(64);
        let mut tasks = JoinSet::new();
        tasks.spawn(socket::serve(socket::bind(&socket).await?, requests.clone()));
        let core = core::Core::new(Arc::new(setup), spawner.spawner()).await?;
        let (settled, started) = oneshot::channel();
        tasks.spawn(core.run(asked, settled));
        let world = Self {
            tasks,
            requests,
            _spawner: spawner,
            folder,
            socket,
        };
        match started.await {
            Ok(Ok(())) => match settle(&world.client()).await {
                Ok(()) => Ok(world),
                Err(reason) => Err(world.not_started(reason).await),
            },
            Ok(Err(reason)) => Err(world.not_started(reason).await),
            Err(_) => Err(world.not_started("its control task ended".to_owned()).await),
        }
    }

    async fn not_started(mut self, reason: String) -> WorldError {
        self.tasks.shutdown().await;
        WorldError::Start {
            reason,
            folder: self.folder.keep(),
        }
    }

    /// Where clients connect.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Configuration and logs, a folder a pod.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A client of this world.
    pub fn client(&self) -> Client {
        Client::new(&self.socket)
    }

    /// Waits until a client shuts the world down.
    pub async fn ended(&mut self) {
        // The first task that ends is the control task, or one that a panic took.
        if let Some(Err(error)) = self.tasks.join_next().await {
            tracing::error!(%error, "the world's control task failed");
        }
    }

    /// Stops every process in order and returns once they have ended.
    pub async fn stop(mut self) {
        let (answer, answered) = oneshot::channel();
        let asked = self.requests.send((Request::Shutdown, answer)).await;
        if asked.is_ok()
            && answered.await.is_ok()
            && tokio::time::timeout(STOP_LIMIT, self.ended()).await.is_err()
        {
            tracing::warn!(limit = ?STOP_LIMIT, "processes are killed, because they did not stop in time");
        }
    }
}

/// Waits until each Envoy has read endpoints of all that it calls: a pod that is ready may not have seen those that
/// became ready after it.
async fn settle(client: &Client) -> Result<(), String> {
    let start = Instant::now();
    let state = client.state().await.map_err(|error| error.to_string())?;
    for envoy in state.envoys {
        while let Some(cluster) = admin::without_endpoint(envoy.admin).await {
            if start.elapsed() >= SETTLE_LIMIT {
                return Err(format!(
                    "{} has no endpoint of {cluster} after {} s",
                    envoy.node,
                    SETTLE_LIMIT.as_secs()
                ));
            }
            sleep(ASK_EVERY).await;
        }
    }
    Ok(())
}

// === impl Folder ===

impl Folder {
    fn open(given: Option<&Path>) -> Result<Self, WorldError> {
        let Some(path) = given else {
            let folder = tempfile::Builder::new().prefix("gma-").tempdir();
            return folder
                .map(Self::Temporary)
                .map_err(|error| WorldError::folder(&std::env::temp_dir(), error));
        };
        std::fs::create_dir_all(path).map_err(|error| WorldError::folder(path, error))?;
        let path = std::path::absolute(path).map_err(|error| WorldError::folder(path, error))?;
        Ok(Self::Given(path))
    }

    fn path(&self) -> &Path {
        match self {
            Self::Given(path) => path,
            Self::Temporary(folder) => folder.path(),
        }
    }

    /// Keeps the folder for whoever reads the logs.
    fn keep(self) -> PathBuf {
        match self {
            Self::Given(path) => path,
            Self::Temporary(folder) => folder.keep(),
        }
    }
}
