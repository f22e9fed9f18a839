//! The traps of istio-land, one by one, and what holds for all rules there can be.

mod cases;
mod places;
mod properties;
mod read;
mod world;
