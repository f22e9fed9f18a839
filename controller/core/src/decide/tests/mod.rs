//! The machine in a small simulated world under fake time, and its rules one by one.

mod overload;
mod random;
mod rules;
mod scenarios;
mod users;
mod verification;
mod world;
