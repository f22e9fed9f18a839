//! Asks a world from another process.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use gma_core::cluster::RoutingPlan;
use gma_core::ids::{AreaName, ServiceName};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

use crate::protocol::{Answer, CellFault, Late, MAX_LINE, Part, Request, State};
use crate::topology::Bandwidth;

/// A world answers from memory.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Asks a world over its socket. Each question is a connection of its own, so a world that was away is found again.
#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
}

/// A question that got no answer, or a refusal. `Unreachable` is transient: the world may be starting; `Unable` may be.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No world listens there.
    #[error("no world answers at {socket}: {error}; start one, or give the socket that it printed")]
    Unreachable {
        /// Which socket.
        socket: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The world's answer cannot be read.
    #[error("the world at {socket} speaks another version: {error}; start both from the same build")]
    Foreign {
        /// Which socket.
        socket: PathBuf,
        /// Why.
        error: String,
    },
    /// The world refused a wrong request; its text says why and what to do.
    #[error("{0}")]
    Refused(String),
    /// The world could not do it, though the request was right.
    #[error("{0}")]
    Unable(String),
}

// === impl ClientError ===

impl ClientError {
    /// Whether to ask again later.
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Unable(_))
    }
}

// === impl Client ===

impl Client {
    /// A client of the world whose socket is at `socket`.
    pub fn new(socket: &Path) -> Self {
        Self {
            socket: socket.to_owned(),
        }
    }

    /// What is there now.
    ///
    /// # Errors
    /// See [`ClientError`]; so for all below.
    pub async fn state(&self) -> Result<State, ClientError> {
        match self.exchange(&Request::State).await? {
            Answer::State(state) => Ok(*state),
            answer => Err(self.foreign(&format!("{answer:?} to a question for the state"))),
        }
    }

    /// Starts an instance with at least so many replicas; restarts those that failed.
    ///
    /// # Errors
    /// Where the service or the area does not exist, or that many do not fit on this machine.
    pub async fn ensure(
        &self,
        service: ServiceName,
        area: AreaName,
        replicas: u32,
    ) -> Result<(), ClientError> {
        self.tell(&Request::Ensure {
            service,
            area,
            replicas,
        })
        .await
    }

    /// Starts replicas of an instance, or drains and stops those that are too many.
    ///
    /// # Errors
    /// Where there is no such instance, or that many do not fit on this machine.
    pub async fn scale(
        &self,
        service: ServiceName,
        area: AreaName,
        replicas: u32,
    ) -> Result<(), ClientError> {
        self.tell(&Request::Scale {
            service,
            area,
            replicas,
        })
        .await
    }

    /// Drains and stops an edge's instance.
    ///
    /// # Errors
    /// Where the service or the edge does not exist.
    pub async fn remove(&self, service: ServiceName, area: AreaName) -> Result<(), ClientError> {
        self.tell(&Request::Remove { service, area }).await
    }

    /// Replaces the rules of the plan's services.
    ///
    /// # Errors
    /// Where a weight, a service or an area is wrong; nothing is changed then.
    pub async fn route(&self, plan: RoutingPlan) -> Result<(), ClientError> {
        self.tell(&Request::Route(plan)).await
    }

    /// Changes a link's round trip time.
    ///
    /// # Errors
    /// Where the edge does not exist.
    pub async fn set_rtt(&self, edge: AreaName, rtt: Duration) -> Result<(), ClientError> {
        self.tell(&Request::SetLink {
            edge,
            rtt: Some(rtt),
            bandwidth: None,
            cut: None,
            late: None,
        })
        .await
    }

    /// Changes a link's bandwidth; none: no limit.
    ///
    /// # Errors
    /// Where the edge does not exist.
    pub async fn set_bandwidth(
        &self,
        edge: AreaName,
        bandwidth: Option<Bandwidth>,
    ) -> Result<(), ClientError> {
        self.tell(&Request::SetLink {
            edge,
            rtt: None,
            bandwidth: Some(bandwidth),
            cut: None,
            late: None,
        })
        .await
    }

    /// Cuts or restores a link.
    ///
    /// # Errors
    /// Where the edge does not exist.
    pub async fn set_cut(&self, edge: AreaName, cut: bool) -> Result<(), ClientError> {
        self.tell(&Request::SetLink {
            edge,
            rtt: None,
            bandwidth: None,
            cut: Some(cut),
            late: None,
        })
        .await
    }

    /// Lets chunks on a link come late, or none.
    ///
    /// # Errors
    /// Where the edge does not exist or a number is out of its bounds.
    pub async fn set_late(&self, edge: AreaName, late: Option<Late>) -> Result<(), ClientError> {
        self.tell(&Request::SetLink {
            edge,
            rtt: None,
            bandwidth: None,
            cut: None,
            late: Some(late),
        })
        .await
    }

    /// Delays what is sent to the controller.
    ///
    /// # Errors
    /// Where the delay is longer than a minute.
    pub async fn set_reports(&self, delay: Duration) -> Result<(), ClientError> {
        self.tell(&Request::SetReports { delay }).await
    }

    /// Kills processes of an instance.
    ///
    /// # Errors
    /// Where there is no such instance.
    pub async fn kill(&self, service: ServiceName, area: AreaName, part: Part) -> Result<(), ClientError> {
        self.tell(&Request::Kill { service, area, part }).await
    }

    /// Kills everything in an edge.
    ///
    /// # Errors
    /// Where the edge does not exist.
    pub async fn kill_area(&self, area: AreaName) -> Result<(), ClientError> {
        self.tell(&Request::KillArea { area }).await
    }

    /// Starts an edge that was killed.
    ///
    /// # Errors
    /// Where the edge does not exist.
    pub async fn start_area(&self, area: AreaName) -> Result<(), ClientError> {
        self.tell(&Request::StartArea { area }).await
    }

    /// Makes the cells of an instance misbehave, or mends them.
    ///
    /// # Errors
    /// Where the service or the area does not exist or a number is out of its bounds.
    pub async fn set_fault(
        &self,
        service: ServiceName,
        area: AreaName,
        fault: CellFault,
    ) -> Result<(), ClientError> {
        self.tell(&Request::SetFault { service, area, fault }).await
    }

    /// Stops the world.
    ///
    /// # Errors
    /// Where it does not answer.
    pub async fn shutdown(&self) -> Result<(), ClientError> {
        self.tell(&Request::Shutdown).await
    }

    async fn tell(&self, request: &Request) -> Result<(), ClientError> {
        match self.exchange(request).await? {
            Answer::Done => Ok(()),
            answer => Err(self.foreign(&format!("{answer:?} to an order"))),
        }
    }

    async fn exchange(&self, request: &Request) -> Result<Answer, ClientError> {
        let mut line = serde_json::to_string(request).map_err(|error| self.foreign(&error))?;
        line.push('\n');
        let exchange = async {
            let mut stream = UnixStream::connect(&self.socket).await?;
            stream.write_all(line.as_bytes()).await?;
            let mut answer = String::new();
            BufReader::new(stream.take(MAX_LINE as u64))
                .read_line(&mut answer)
                .await?;
            Ok(answer)
        };
        let answer = tokio::time::timeout(TIMEOUT, exchange)
            .await
            .map_err(io::Error::from)
            .flatten();
        let answer = answer.map_err(|error| ClientError::Unreachable {
            socket: self.socket.clone(),
            error,
        })?;
        match serde_json::from_str(&answer).map_err(|error| self.foreign(&error))? {
            Answer::Error(refusal) => Err(ClientError::Refused(refusal)),
            Answer::Unable(reason) => Err(ClientError::Unable(reason)),
            answer => Ok(answer),
        }
    }

    fn foreign(&self, error: &dyn ToString) -> ClientError {
        ClientError::Foreign {
            socket: self.socket.clone(),
            error: error.to_string(),
        }
    }
}
