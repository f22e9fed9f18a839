//! The model: what a placement and its routing do to calls, delay, use and cost.
//!
//! Symbols: i, j services; a, b areas (the cloud c, edges e); f_ij calls that i makes to j per request it receives, u_j the
//! same of a user request; w_ajb share of the calls from a to j that go to b (Σ_b w = 1); λ user requests a second; L_j
//! bytes of an answer; B, RTT bandwidth and round trip of an edge's link.
//!
//! | what | formula |
//! |---|---|
//! | calls per user request | N_jb = Σ_i,a N_ia f_ij w_ajb + u_j w_ejb |
//! | requests a second | R_ia = Σ_e λ_e N_ia of e |
//! | traffic into an edge, bit/s | T_e = 8 Σ_i R_ie f_ij (1 − w_eje) L_j, the gateway's calls included |
//! | load spread | σ = 1/(1 − T/B), at most 10⁶, below saturation, 10⁶ T/B from there on |
//! | between areas | net_abj = hop, and for a ≠ b RTT + min(8 L_j σ / B, 10⁵ s) |
//! | one call's part | x_j = f_ij Σ_b w_ajb (net_abj + D_jb) |
//! | delay of an instance | D_ia = own_ia + max_j x_j + s_i (Σ_j x_j − max_j x_j) |
//! | user delay | Σ_j u_j Σ_b w_ejb (net_ebj + D_jb), at most 10⁵ s |
//! | CPU | U_ia = CPU time of a request · R_ia |
//! | replicas | max(⌈U / (threshold · request)⌉, minimum) where placed, 0 elsewhere |
//! | cost an hour | Σ replicas · (CPU price · CPU request + memory price · memory request) + GB price · min(T, B) · 3600 / 8·10⁹ |
//!
//! Each has its source and an example of its own: calls, delay and link at [`EdgeEvaluation`], shares at [`Shares`], use,
//! replicas and cost at [`Cost`]. Which requests cross at all, and so the tail, is [`Crossings`]'s.
//!
//! Calls, traffic, replicas and cost are the µPlacer model (Detti et al.), with shares in place of 0 and 1; with those,
//! s = 1 and no hops the delay is too, since Σ N·own + Σ cut calls·net is the recursion written out. s_i says how much of
//! its other calls a service waits for beside the slowest: 1 one after the other, 0 all at once; it is the overlap
//! o = (s (n − 1) + 1) / n of n callees. A service never answers before its slowest call, so the sum alone, however
//! scaled, would hide a slow child behind fast ones.
//!
//! Worked example: [`front` calls `cart` and `users`](crate::example::problem) once a request; own times 5, 10 and 5 ms, the
//! edge 80 ms away, answers of 10 kB, 100 requests/s, 1 Gbit/s.
//!
//! ```
//! use gma_core::model::{DensePlacement, EdgeIx, ServiceIx, Shares, evaluate};
//! # let problem = gma_core::example::problem();
//! let mut placement = DensePlacement::cloud_only(&problem);
//! let result = evaluate(&problem, &placement, &Shares::cloud_only(&problem));
//! // One answer a request crosses the link: T = 8 · 100 · 10,000 = 8 Mbit/s, ρ = 0.008, transfer 80 µs / (1 − 0.008).
//! let transfer = 80.0 / (1.0 - 0.008);
//! let delay = result.edges[0].delay.as_f64();
//! assert!((delay - (80_000.0 + transfer + 20_000.0)).abs() < 1e-6);
//!
//! // `front` alone at the edge, 1 % of its callers on the cloud still: the two calls it makes cross instead of one.
//! placement.set(EdgeIx(0), ServiceIx(0), true);
//! let worse = evaluate(&problem, &placement, &Shares::resting(&problem, &placement)).edges[0].delay.as_f64();
//! let crossings = 0.01 + 0.99 * 2.0;
//! assert!((worse - (crossings * 80_000.0 + 20_000.0)).abs() < 200.0);
//! ```
mod calls;
mod cost;
mod crossings;
mod delay;
mod evaluate;
mod graph;
mod incremental;
#[cfg(test)]
mod incremental_tests;
mod ix;
mod layout;
mod linear;
mod placement;
mod problem;
mod shares;
mod spec;
#[cfg(test)]
mod tests;

pub(crate) use cost::of_site;
pub use cost::{Cost, EdgeCost};
pub use crossings::{Crossings, MOST_CROSSINGS};
pub(crate) use delay::overlap;
pub(crate) use evaluate::byte_us;
pub use evaluate::{EdgeEvaluation, Evaluation, LONGEST_US, evaluate};
pub use graph::{MAX_CALLS, MAX_CYCLE};
pub use incremental::{Incremental, Peek};
pub use ix::{AreaIx, EdgeIx, Grid, ServiceIx};
pub(crate) use layout::{EdgeRows, Layout, Replica};
pub use placement::DensePlacement;
pub use problem::{MAX_EDGES, MAX_SERVICES, Problem, ProblemError};
pub use shares::Shares;
pub use spec::{Area, Call, Capacity, Edge, Pin, Prices, Service, Site, Spec, Standby};
