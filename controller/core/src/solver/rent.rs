//! Prices of room: with any rent the bound stays one, since what fits pays no more than it is given.

/// Prices of an edge's room.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Rent {
    pub(super) core: f64,
    pub(super) gigabyte: f64,
    pub(super) pod: f64,
}

/// A kind of room.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Core,
    Gigabyte,
    Pod,
}

// === impl Rent ===

impl Rent {
    pub(super) const fn with(mut self, kind: Kind, price: f64) -> Self {
        match kind {
            Kind::Core => self.core = price,
            Kind::Gigabyte => self.gigabyte = price,
            Kind::Pod => self.pod = price,
        }
        self
    }
}
