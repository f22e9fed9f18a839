//! Chooses what runs at an edge.

mod candidates;
mod greedy;
mod reference;
#[cfg(test)]
mod tests;

pub use greedy::{MAX_EVALUATIONS, Plan, Reach, plan};
pub use reference::{Defect, Defects, Goal, Outcome, Params, Strategy, Traces, UnknownStrategy, run};
