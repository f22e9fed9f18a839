//! A set of services.

use crate::model::{EdgeIx, Problem, ServiceIx};

/// One bit a service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Bits(Vec<u64>);

// === impl Bits ===

impl Bits {
    pub(super) fn new(count: usize) -> Self {
        Self(vec![0; count.div_ceil(64)])
    }

    /// The services, of so many, of which `there` is true.
    pub(super) fn of(count: usize, there: impl Fn(ServiceIx) -> bool) -> Self {
        let mut set = Self::new(count);
        let members = (0..count).filter(|at| there(ServiceIx::at(*at)));
        members.for_each(|at| set.set(at, true));
        set
    }

    /// The services that users reach at an edge through services of which `there` is true, those included.
    pub(super) fn reached(problem: &Problem, edge: EdgeIx, there: impl Fn(ServiceIx) -> bool) -> Self {
        let mut set = Self::new(problem.services_len());
        let users = problem.edge(edge).map_or(&[][..], |edge| &edge.user_calls);
        let called = users.iter().filter(|(_, calls)| calls.as_f64() > 0.0);
        let mut open: Vec<ServiceIx> = called.map(|(service, _)| *service).collect();
        while let Some(service) = open.pop() {
            if there(service) && !set.contains(service.position()) {
                set.set(service.position(), true);
                open.extend(problem.calls_of(service).iter().map(|(callee, _)| *callee));
            }
        }
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
