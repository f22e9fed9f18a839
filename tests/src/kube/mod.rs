//! A controller on a rig, and an application whose proxies are played: reports say what they would measure under the rules
//! that are in force.

mod app;
mod command;
mod controller;
mod deployed;

pub use app::{App, CLOUD_DEPLOYMENT, DERIVED_DEPLOYMENT, Delays, EDGE_DEPLOYMENT, OBJECT};
pub use command::{Ended, gma};
pub use controller::{Controller, NAMESPACE, install, install_rights};
pub use deployed::deploy;
