//! Faults on real Envoys under constant load, with the real controller steering.
//!
//! Each fault has a world of its own: a gateway at `edge-1`, three services in the cloud, two of them at the edge, too.
//! The controller is the `gma` command. A fault is done to the world; then it is looked at what became of every
//! request, of the counts, of placement and weights, and what the controller said of it meanwhile.

mod app;
mod controller;
mod counts;
mod faults;
mod stage;
mod trial;
mod watch;

pub use counts::Counts;
pub use trial::Row;

use trial::Trial;

/// The one edge.
const EDGE: &str = "edge-1";

/// What is done to a world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The processes of an instance at the edge are killed.
    EdgeInstanceKilled,
    /// Nothing passes between edge and cloud for 20 s.
    WanCut,
    /// The controller is killed and started again.
    ControllerRestarted,
    /// The controller is stopped for 60 s, keeps its port, and goes on.
    ControllerStopped,
    /// A service leaves the edge while requests of 20 s are under way there.
    SlowRequestAtUnoffload,
}

// === impl Fault ===

impl Fault {
    /// All of them, in the order in which they are tried.
    pub const ALL: [Self; 5] = [
        Self::EdgeInstanceKilled,
        Self::WanCut,
        Self::ControllerRestarted,
        Self::ControllerStopped,
        Self::SlowRequestAtUnoffload,
    ];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::EdgeInstanceKilled => "edge-instance-killed",
            Self::WanCut => "wan-cut",
            Self::ControllerRestarted => "controller-restarted",
            Self::ControllerStopped => "controller-stopped",
            Self::SlowRequestAtUnoffload => "slow-request-at-unoffload",
        }
    }

    /// Does it to a world of its own and says what came of it.
    pub async fn run(self) -> Row {
        let tried = match self {
            Self::EdgeInstanceKilled => faults::edge_instance_killed(self.name()).await,
            Self::WanCut => faults::wan_cut(self.name()).await,
            Self::ControllerRestarted => faults::controller_restarted(self.name()).await,
            Self::ControllerStopped => faults::controller_stopped(self.name()).await,
            Self::SlowRequestAtUnoffload => faults::slow_request_at_unoffload(self.name()).await,
        };
        match tried {
            Ok(trial) => trial.into_row(),
            Err(error) => Row::broken(self.name(), format!("{error:#}")),
        }
    }
}
