//! Kubernetes and Istio: what the user writes, what the cluster shows, what istiod reads, and nothing of how it is decided.
//!
//! ```text
//! EdgePlacement --settings--> Config, Settings, localities, gateways --> gma-core
//! watches --index--> plain values --view--> Cluster, proxies, held services --> gma-core
//! DestinationRules of the mesh --+
//! reported localities -----------+--rule--> the exact server-side-apply body, or held with the reason and the fix
//! routing plan of gma-core ------+
//! Deployment, Service, autoscaler of the cloud --derive--> those of an edge, or refused with what to do instead
//! what is listed of the cluster --check--> findings, each with its fix
//! Effect --act--> writes, while the lease is held
//! ```
//!
//! Everything but `watch`, `lease`, `act`, `edge`, `made`, `memory`, `metrics`, `teller`, `remove` and `check::look` is pure: values in, values out. This is the only crate beside the
//! tests that names kube.
//!
//! Invariants: a schema and a conversion never disagree on what is legal (the same example files are put to both);
//! no body names a field that another manager owns; a body that is not valid for istiod is never made; nothing is written by a process
//! that does not hold the lease.
//!
//! Start at [`api::EdgePlacementSpec`], [`Kube`] and [`rule::write`].

#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod act;
#[allow(unreachable_pub, reason = "kube's derive repeats a type inside a function")]
pub mod api;
pub mod check;
pub mod derive;
mod edge;
mod error;
mod finalizer;
pub mod index;
mod kube_api;
mod lease;
pub mod locality;
mod made;
mod memory;
mod metrics;
mod object;
mod pins;
mod remove;
mod returning;
pub mod rule;
pub mod settings;
mod status;
mod teller;
mod view;
mod watch;

pub use act::{Hand, OBJECT_ANNOTATION, REPLICAS_ANNOTATION};
pub use error::ActError;
pub use kube_api::{Id, Kube, LEADER_LABEL, LEASE, MAX_STEERED, Settings, Target};
pub use lease::Leadership;
pub use object::Object;
pub use remove::has_namespace;
pub use status::Told;
pub use teller::{say, tell_not_ready};
pub use view::View;

/// Finalizer of an `EdgePlacement` for which something may have been changed.
pub const FINALIZER: &str = "gma.dev/restore";
