//! Kubernetes and Istio: what the user writes, what istiod reads, and nothing of how it is decided.
//!
//! ```text
//! EdgePlacement --settings--> Config, Settings, localities, gateways --> gma-core
//! DestinationRules of the mesh --+
//! reported localities -----------+--rule--> the exact server-side-apply body, or held with the reason and the fix
//! routing plan of gma-core ------+
//! Deployment, Service, autoscaler of the cloud --derive--> those of an edge, or refused with what to do instead
//! what was listed of the cluster --check--> findings, each with its fix
//! ```
//!
//! All arrows are pure: values in, values out. This is the only crate beside the tests that names kube.
//!
//! Invariants: a schema and a conversion never disagree on what is legal (the same example files are put to both);
//! no body names a field that another manager owns; a body that is not valid for istiod is never made.
//!
//! Start at [`api::EdgePlacementSpec`] and [`rule::write`].

#![forbid(unsafe_code)]
#![deny(missing_docs)]

#[allow(unreachable_pub, reason = "kube's derive repeats a type inside a function")]
pub mod api;
pub mod check;
pub mod derive;
pub mod locality;
pub mod rule;
pub mod settings;
