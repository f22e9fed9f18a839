//! A workload for meshes, and the load on it.
//!
//! ```text
//! workmodel.json ─► workmodel ─► serve   one service of the model behind HTTP/1.1
//!                      ▲
//!        generate ─────┘         a model from a seed
//!
//! load   open loop (a rate, no coordinated omission) or closed loop (as fast as the server answers)
//! ```
//!
//! [`workmodel`] is pure: parsing, checking, drawing what one request does, generating. [`serve`] performs it.
//! The load generator of [`load`] speaks HTTP/1.1 itself, because a client library would cost more CPU than the
//! proxies that it is meant to measure. What the muBench contract says and where this differs: `README.md`.
#![forbid(unsafe_code)]

pub mod load;
pub mod serve;
pub mod workmodel;
