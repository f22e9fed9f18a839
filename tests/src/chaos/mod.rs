//! Faults on real Envoys under constant load, with the real controller steering.
//!
//! Each fault has a world of its own: a gateway at `edge-1`, three services in the cloud, two of them at the edge, too.
//! The controller is the `gma` command. A fault is done to the world; then it is looked at what became of every
//! request, of the counts, of placement and weights, and what the controller said of it meanwhile.

mod app;
mod controller;
mod counts;
mod faults;
mod misbehaviour;
mod processes;
mod stage;
mod trial;
mod watch;

pub use counts::Counts;
pub use trial::Row;

use gma_local::Part;

use trial::Trial;

/// The one edge.
const EDGE: &str = "edge-1";

/// What is done to a world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The Envoy beside an instance at the edge is killed.
    EdgeSidecarKilled,
    /// The processes of an instance at the edge are killed.
    EdgeInstanceKilled,
    /// Everything at the edge is killed, its gateway too, and started again.
    EdgeAreaKilled,
    /// Nothing passes between edge and cloud for 20 s.
    WanCut,
    /// One chunk in ten between edge and cloud is delayed by 200 ms.
    WanLate,
    /// The controller is killed and started again.
    ControllerRestarted,
    /// The controller is stopped for 60 s, keeps its port, and goes on.
    ControllerStopped,
    /// Reports reach the controller 10 s late.
    ReportsLate,
    /// A service answers 500 at the edge and only there.
    ServiceFailsAtEdge,
    /// One route of a service answers 500 everywhere.
    RouteFails,
    /// Something takes the CPU of an instance at the edge.
    CpuHog,
    /// The VM of one of the gateway's workers ends.
    VmTrapped,
    /// A service leaves the edge while requests of 20 s are under way there.
    SlowRequestAtUnoffload,
}

// === impl Fault ===

impl Fault {
    /// All of them, in the order in which they are tried.
    pub const ALL: [Self; 13] = [
        Self::EdgeSidecarKilled,
        Self::EdgeInstanceKilled,
        Self::EdgeAreaKilled,
        Self::WanCut,
        Self::WanLate,
        Self::ControllerRestarted,
        Self::ControllerStopped,
        Self::ReportsLate,
        Self::ServiceFailsAtEdge,
        Self::RouteFails,
        Self::CpuHog,
        Self::VmTrapped,
        Self::SlowRequestAtUnoffload,
    ];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::EdgeSidecarKilled => "edge-sidecar-killed",
            Self::EdgeInstanceKilled => "edge-instance-killed",
            Self::EdgeAreaKilled => "edge-area-killed",
            Self::WanCut => "wan-cut",
            Self::WanLate => "wan-late",
            Self::ControllerRestarted => "controller-restarted",
            Self::ControllerStopped => "controller-stopped",
            Self::ReportsLate => "reports-late",
            Self::ServiceFailsAtEdge => "service-fails-at-edge",
            Self::RouteFails => "route-fails",
            Self::CpuHog => "cpu-hog",
            Self::VmTrapped => "vm-trapped",
            Self::SlowRequestAtUnoffload => "slow-request-at-unoffload",
        }
    }

    /// Does it to a world of its own and says what came of it.
    pub async fn run(self) -> Row {
        let name = self.name();
        let tried = match self {
            Self::EdgeSidecarKilled => processes::instance_killed(name, Part::Sidecar).await,
            Self::EdgeInstanceKilled => processes::instance_killed(name, Part::Pod).await,
            Self::EdgeAreaKilled => processes::area_killed(name).await,
            Self::WanCut => faults::wan_cut(name).await,
            Self::WanLate => faults::wan_late(name).await,
            Self::ControllerRestarted => faults::controller_restarted(name).await,
            Self::ControllerStopped => faults::controller_stopped(name).await,
            Self::ReportsLate => faults::reports_late(name).await,
            Self::ServiceFailsAtEdge => misbehaviour::service_fails_at_edge(name).await,
            Self::RouteFails => misbehaviour::route_fails(name).await,
            Self::CpuHog => misbehaviour::cpu_hog(name).await,
            Self::VmTrapped => misbehaviour::vm_trapped(name).await,
            Self::SlowRequestAtUnoffload => faults::slow_request_at_unoffload(name).await,
        };
        match tried {
            Ok(trial) => trial.into_row(),
            Err(error) => Row::broken(name, format!("{error:#}")),
        }
    }
}
