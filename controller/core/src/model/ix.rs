//! Dense ordinals inside, names outside.

use serde::Serialize;

/// Number of a service in its problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct ServiceIx(pub u32);

/// Number of an edge in its problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct EdgeIx(pub u32);

/// The cloud or an edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum AreaIx {
    /// The one cloud.
    Cloud,
    /// An edge.
    Edge(EdgeIx),
}

/// A value for each service in each area.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Grid<T> {
    services: usize,
    /// Area by area, the cloud first.
    cells: Vec<T>,
}

// === impl ServiceIx ===

impl ServiceIx {
    /// The number at a position of a vector. Problems hold fewer than 2^32 services.
    pub(crate) fn at(position: usize) -> Self {
        Self(u32::try_from(position).unwrap_or(u32::MAX))
    }

    /// Position in a vector of services.
    pub const fn position(self) -> usize {
        self.0 as usize
    }
}

// === impl EdgeIx ===

impl EdgeIx {
    pub(crate) fn at(position: usize) -> Self {
        Self(u32::try_from(position).unwrap_or(u32::MAX))
    }

    /// Position in a vector of edges.
    pub const fn position(self) -> usize {
        self.0 as usize
    }
}

// === impl AreaIx ===

impl AreaIx {
    /// Position in a vector of areas: the cloud, then the edges.
    pub const fn position(self) -> usize {
        match self {
            Self::Cloud => 0,
            Self::Edge(edge) => edge.position() + 1,
        }
    }

    /// The cloud, then the edges.
    pub(crate) fn all(edges: usize) -> impl Iterator<Item = Self> + Clone {
        std::iter::once(Self::Cloud).chain((0..edges).map(|edge| Self::Edge(EdgeIx::at(edge))))
    }
}

// === impl Grid ===

impl<T: Copy + Default> Grid<T> {
    pub(crate) fn new(services: usize, edges: usize) -> Self {
        Self {
            services,
            cells: vec![T::default(); services * (edges + 1)],
        }
    }

    /// The value of a service in an area; the default for what the problem does not have.
    pub fn get(&self, service: ServiceIx, area: AreaIx) -> T {
        self.cell(service, area)
            .and_then(|cell| self.cells.get(cell))
            .copied()
            .unwrap_or_default()
    }

    pub(crate) fn set(&mut self, service: ServiceIx, area: AreaIx, value: T) {
        if let Some(cell) = self.cell(service, area).and_then(|cell| self.cells.get_mut(cell)) {
            *cell = value;
        }
    }

    fn cell(&self, service: ServiceIx, area: AreaIx) -> Option<usize> {
        let position = service.position();
        (position < self.services).then(|| area.position() * self.services + position)
    }
}

impl Grid<f64> {
    pub(crate) fn add(&mut self, service: ServiceIx, area: AreaIx, value: f64) {
        self.set(service, area, self.get(service, area) + value);
    }
}
