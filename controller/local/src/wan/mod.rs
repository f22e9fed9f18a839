//! The WAN between areas: a relay in user space on every path, since not every kernel has netem.
//!
//! A [`Link`] joins an edge to the cloud and is shared by all connections over it; a [`Relay`] is one listening
//! socket for one endpoint as one caller area sees it. Between two edges a path has two links.

mod link;
mod relay;

pub use link::{Direction, Hop, Link, LinkSettings};
pub use relay::Relay;
