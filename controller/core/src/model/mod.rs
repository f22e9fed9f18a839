//! The model: what a placement and its routing do to delay, use and cost. See `controller/core/README.md`.
mod calls;
mod cost;
mod delay;
mod evaluate;
mod graph;
mod ix;
mod linear;
mod placement;
mod problem;
mod shares;
mod spec;

pub use cost::{Cost, EdgeCost};
pub(crate) use delay::overlap;
pub(crate) use evaluate::byte_us;
pub use evaluate::{EdgeEvaluation, Evaluation, LONGEST_US, evaluate};
pub use graph::{MAX_CALLS, MAX_CYCLE};
pub use ix::{AreaIx, EdgeIx, Grid, ServiceIx};
pub use placement::DensePlacement;
pub use problem::{MAX_EDGES, MAX_SERVICES, Problem, ProblemError};
pub use shares::Shares;
pub use spec::{Area, Call, Edge, Pin, Prices, Service, Site, Spec, Standby};
