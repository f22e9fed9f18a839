//! The filter's shell: Envoy's callbacks in, host calls out. What to measure and when to send is in
//! `gma-filter-core`.
//!
//! No context of the SDK exists here. Envoy enters the VM once for each request, with a stream id that it
//! never saw, and the SDK's dispatcher panics on such an id. So the callbacks are ours (`callbacks`), under
//! names of their own; `gma-filter-link` puts them in the SDK's place after linking. Of `proxy-wasm` only the
//! types are used: its wrappers panic on a status that they do not expect, and a panic ends a worker's VM for
//! good. Our host calls (`host`) return every status.
//!
//! Natively this crate is empty: it has nothing to say without a host.

#[cfg(target_arch = "wasm32")]
mod callbacks;
#[cfg(target_arch = "wasm32")]
mod host;
#[cfg(target_arch = "wasm32")]
mod memory;
