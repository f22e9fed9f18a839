//! A controller on a rig, and applications for it: one whose proxies are played, with reports that say what they would measure under
//! the rules that are in force, and one of cells and real Envoys, with a WAN.

mod app;
mod command;
mod controller;
mod deployed;
mod layout;
mod mesh;
mod played;
mod shop;
mod stage;
mod web;

pub use app::{App, CLOUD_DEPLOYMENT, DERIVED_DEPLOYMENT, EDGE_DEPLOYMENT, OBJECT, RULE};
pub use command::{Ended, gma};
pub use controller::{Controller, NAMESPACE, install, install_rights, round, until};
pub use deployed::deploy;
pub use mesh::{base, module, plugin, run_controller, set, yaml};
pub use played::Delays;
pub use shop::{LIGHT_PATH, PATH, SERVICES, Shop, Written};
pub use stage::Stage;
pub use web::{Web, all_ok, zones};
