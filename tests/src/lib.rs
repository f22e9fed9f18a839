//! What the tests of the tiers above unit tests share. A tier is a prefix of the files in `tests/`.

#![forbid(unsafe_code)]

pub mod browser;
pub mod chaos;
pub mod envoy;
pub mod kube;
pub mod local;
pub mod rig;
pub mod wasm_host;
