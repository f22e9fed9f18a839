//! The file of a placement problem: YAML or JSON, both ways.
//!
//! ```text
//! text --parse--> PlacementProblem --check, build--> gma_core::model::Problem + the present placement
//!      <-to_yaml-                  <--from_problem--
//! ```
//!
//! The file's structs say what a user may write, with units in the text; the model's are what the solver takes. A fault
//! carries the path of its field and, where it is written in the text, line and column. Nothing here panics, and what is
//! too large to be answered soon is refused.
//!
//! ```
//! use gma::problem::Loaded;
//!
//! let text = "
//! apiVersion: gma.dev/v1alpha1
//! kind: PlacementProblem
//! cloud: {prices: {cpuCoreHour: 0.02}}
//! edges:
//! - name: edge-1
//!   prices: {cpuCoreHour: 0.03}
//!   rtt: 80
//!   userRequestsPerSecond: 100
//!   userCalls: [{to: front}]
//! services:
//! - {name: front, responseSize: 10kB, ownTime: 5ms}
//! ";
//! let error = Loaded::parse("shop.yaml", text).unwrap_err().to_string();
//! assert!(error.starts_with("shop.yaml:8:8: edges[0].rtt: `80` has no unit"), "{error}");
//!
//! let loaded = Loaded::parse("shop.yaml", &text.replace("80", "80ms")).unwrap();
//! assert_eq!(loaded.problem.edges_len(), 1);
//! ```

mod build;
mod error;
mod file;
mod limits;
mod locate;
mod read;
#[cfg(test)]
mod tests;
mod text;
mod write;

use gma_core::model::{DensePlacement, Problem};

pub use error::{Fault, Path, ProblemFileError, Segment};
pub use file::{
    ApiVersion, Call, Capacity, Cloud, Edge, EdgePrices, Hops, InArea, Kind, Metadata, PinTo,
    PlacementProblem, Prices, Requests, Service, StandbyForm, StandbyPolicy, UserCall,
};
pub use limits::{MAX_CALLS, MAX_CELLS, MAX_SERVICES};
pub use read::MAX_FILE_BYTES;
pub use text::{Price, Quantity, Text, Unit};

/// A file that was read and checked.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The document.
    pub file: PlacementProblem,
    /// What it says, for the solver.
    pub problem: Problem,
    /// What runs at the edges now.
    pub current: DensePlacement,
}

/// The JSON Schema of a problem file.
pub fn schema() -> schemars::Schema {
    schemars::schema_for!(PlacementProblem)
}
