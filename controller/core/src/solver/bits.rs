//! A set of services.

use crate::model::{DensePlacement, EdgeIx, Problem};

/// One bit a service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Bits(Vec<u64>);

// === impl Bits ===

impl Bits {
    pub(super) fn new(count: usize) -> Self {
        Self(vec![0; count.div_ceil(64)])
    }

    /// The services of an edge.
    pub(super) fn of(problem: &Problem, placement: &DensePlacement, edge: EdgeIx) -> Self {
        let mut set = Self::new(problem.services_len());
        let there = problem
            .services()
            .filter(|(service, _)| placement.contains(edge, *service));
        there.for_each(|(service, _)| set.set(service.position(), true));
        set
    }

    pub(super) fn contains(&self, at: usize) -> bool {
        self.0.get(at / 64).is_some_and(|word| word >> (at % 64) & 1 == 1)
    }

    pub(super) fn set(&mut self, at: usize, there: bool) {
        if let Some(word) = self.0.get_mut(at / 64) {
            *word = *word & !(1 << (at % 64)) | u64::from(there) << (at % 64);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Members, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        self.0.iter().enumerate().flat_map(|(at, word)| {
            let mut rest = *word;
            std::iter::from_fn(move || {
                let bit = (rest != 0).then(|| rest.trailing_zeros() as usize)?;
                rest &= rest - 1;
                Some(at * 64 + bit)
            })
        })
    }

    /// Members of one of both.
    pub(super) fn differing(&self, other: &Self) -> Self {
        Self(
            self.0
                .iter()
                .zip(&other.0)
                .map(|(one, other)| one ^ other)
                .collect(),
        )
    }
}
