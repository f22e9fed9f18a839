//! One small mesh of real Envoys with the filter, a backend that does as its path says, a client that
//! writes down what it did, and the controller's binary.
//!
//! ```text
//! client --> gateway at edge-1 --+--> cart, 75 %: cloud --> sidecar inbound --> backend
//!    |                           +--> cart, 25 %: edge-1 -------------------> backend
//!    |                           +--> rpc: cloud ---------> sidecar inbound --> backend
//!    |                           +--> stock: cloud -------------------------> backend
//!    |                           +--> gone (refuses), empty (no endpoint)
//!    +-----> sidecar outbound -------> stock: cloud -------------------------> backend
//! ```
//!
//! Everything listens on loopback ports that the kernel chose, and ends with the value that owns it.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "only tests use this: to fail where they stand is what they are for"
)]

mod backend;
mod bootstrap;
mod client;
mod controller;
mod http;
mod mesh;
mod process;
mod rubbish;
mod stats;

use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

pub use backend::Backend;
pub use client::{Ask, Client, Load, Outcome, Tally};
pub use controller::{Accounting, Controller, KeyAccount, NodeAccount, Topology};
pub use http::{Answer, get, post};
pub use mesh::{Envoy, Filter, Mesh};
pub use process::{Process, run_to_end};
pub use rubbish::{Rubbish, RubbishController};
pub use stats::EnvoyStats;

/// Reports are due within 10 s (no pace is longer), and a machine under load is slow.
pub const REPORTED: Duration = Duration::from_secs(30);

/// Hosts of the mesh.
pub mod hosts {
    /// Served in the cloud and at the edge.
    pub const CART: &str = "cart.shop.svc.cluster.local";
    /// A gRPC service, served in the cloud.
    pub const RPC: &str = "rpc.shop.svc.cluster.local";
    /// Called by the sidecar too; without a sidecar of its own.
    pub const STOCK: &str = "stock.shop.svc.cluster.local";
    /// Its only endpoint refuses connections.
    pub const GONE: &str = "gone.shop.svc.cluster.local";
    /// It has no endpoint.
    pub const EMPTY: &str = "empty.shop.svc.cluster.local";
}

/// Waits until `probe` says that it is done; it gives the reason why not yet.
///
/// # Panics
/// With the last reason, after `limit`.
pub async fn eventually<T, F>(limit: Duration, what: &str, mut probe: impl FnMut() -> F) -> T
where
    F: Future<Output = Result<T, String>>,
{
    let end = Instant::now() + limit;
    loop {
        match probe().await {
            Ok(value) => return value,
            Err(why) => assert!(Instant::now() < end, "{what}: not within {limit:?}: {why}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A loopback address that is free.
///
/// # Panics
/// Where loopback has no free port.
pub fn free_address() -> SocketAddr {
    gma_local::free_address().unwrap()
}

/// A file that `make` builds: `$variable`, or `default` under the workspace's root.
fn built(variable: &str, default: &str) -> PathBuf {
    let path = std::env::var_os(variable).map_or_else(|| root().join(default), PathBuf::from);
    assert!(
        path.is_file(),
        "{} is missing: run `make build`, or set {variable}",
        path.display()
    );
    path
}

fn root() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}
