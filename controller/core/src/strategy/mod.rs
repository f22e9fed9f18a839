//! Chooses what runs at an edge.

mod candidates;
mod greedy;
#[cfg(test)]
mod tests;

pub use greedy::{MAX_EVALUATIONS, Plan, Reach, plan};
