//! The platform without Kubernetes: areas as processes on one machine.
//!
//! ```text
//!            users                                  one world (a library, owns every process)
//!              |
//!   edge-1     v                     WAN                     cloud
//!   +------------------+   +--------------------+   +---------------------+
//!   | gateway (Envoy)  |-->| relay: delay,      |-->| Envoy -> cell (s0)  |
//!   | Envoy -> cell    |<--| bandwidth, cut     |<--| Envoy -> cell (s1)  |
//!   +------------------+   +--------------------+   +---------------------+
//!          ^ endpoints (EDS) of edge-1                      ^ endpoints (EDS) of the cloud
//!          +------------- files, replaced atomically -------+
//!                                  ^
//!                 Unix socket: what is there, instances, weights, links   <- `Client`
//! ```
//!
//! What is emulated, what differs from Istio and which test covers what: `README.md`. Start at [`World`].

#![forbid(unsafe_code)]

mod client;
pub mod envoy;
mod process;
mod protocol;
mod topology;
mod usage;
mod wan;
mod world;

pub use client::{Client, ClientError};
pub use process::ProcessError;
pub use protocol::{CellFault, EnvoyAdmin, Fail, Gateway, Late, LinkState, Part, Request, State};
pub use topology::{
    App, Area, Areas, Bandwidth, Controller, Edge, LinkSpec, Locality, ProxySpec, Topology, TopologyError,
};
pub use wan::{Direction, Hop, Link, LinkSettings, Relay};
pub use world::{World, WorldError, free_address};
