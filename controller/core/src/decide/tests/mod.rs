//! The machine in a small simulated world under fake time, and its rules one by one.

mod actions;
mod asking;
mod failing;
mod failures;
mod holds;
mod overload;
mod planner;
mod random;
mod readiness;
mod repeated;
mod replicas;
mod restarts;
mod rules;
mod scenarios;
mod straddling;
mod together;
mod users;
mod verification;
mod world;
