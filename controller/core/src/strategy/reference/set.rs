//! Sets of services as bits, many of them in one piece of memory.

use crate::model::ServiceIx;

const BITS: usize = 64;

/// Words that a set of so many services takes.
pub(super) const fn words(services: usize) -> usize {
    services.div_ceil(BITS)
}

/// A set of services. Service i is the bit 63 − i mod 64 of word i / 64: then comparing words compares sets as
/// strings of 0 and 1, the first service first, which is the order of the reference's candidates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Set(Vec<u64>);

// === impl Set ===

impl Set {
    pub(super) fn new(services: usize) -> Self {
        Self(vec![0; words(services)])
    }

    pub(super) fn of(services: usize, members: impl IntoIterator<Item = ServiceIx>) -> Self {
        let mut this = Self::new(services);
        members.into_iter().for_each(|service| this.insert(service));
        this
    }

    pub(super) fn insert(&mut self, service: ServiceIx) {
        let (word, bit) = place(service);
        if let Some(word) = self.0.get_mut(word) {
            *word |= bit;
        }
    }

    pub(super) fn remove(&mut self, service: ServiceIx) {
        let (word, bit) = place(service);
        if let Some(word) = self.0.get_mut(word) {
            *word &= !bit;
        }
    }

    pub(super) fn contains(&self, service: ServiceIx) -> bool {
        contains(&self.0, service)
    }

    pub(super) fn words(&self) -> &[u64] {
        &self.0
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = ServiceIx> + '_ {
        members(&self.0)
    }

    pub(super) fn add(&mut self, other: &[u64]) {
        self.combine(other, |one, two| one | two);
    }

    pub(super) fn take_away(&mut self, other: &[u64]) {
        self.combine(other, |one, two| one & !two);
    }

    pub(super) fn become_of(&mut self, other: &[u64]) {
        self.0.copy_from_slice(other);
    }

    /// Becomes the members of both.
    pub(super) fn become_both(&mut self, one: &[u64], two: &[u64]) {
        self.become_of(one);
        self.combine(two, |one, two| one & two);
    }

    pub(super) fn clear(&mut self) {
        self.0.fill(0);
    }

    fn combine(&mut self, other: &[u64], of: impl Fn(u64, u64) -> u64) {
        self.0
            .iter_mut()
            .zip(other)
            .for_each(|(one, two)| *one = of(*one, *two));
    }
}

const fn place(service: ServiceIx) -> (usize, u64) {
    let position = service.position();
    (position / BITS, 1 << (BITS - 1 - position % BITS))
}

pub(super) fn contains(set: &[u64], service: ServiceIx) -> bool {
    let (word, bit) = place(service);
    set.get(word).is_some_and(|word| word & bit != 0)
}

/// Members in ascending order.
pub(super) fn members(set: &[u64]) -> impl Iterator<Item = ServiceIx> + '_ {
    set.iter().enumerate().flat_map(|(at, word)| bits(at, *word))
}

/// Members of both sets, ascending.
pub(super) fn both<'a>(one: &'a [u64], two: &'a [u64]) -> impl Iterator<Item = ServiceIx> + 'a {
    let both = one.iter().zip(two).enumerate();
    both.flat_map(|(at, (one, two))| bits(at, one & two))
}

/// Members of one set or the other but not of both, ascending.
pub(super) fn differing<'a>(one: &'a [u64], two: &'a [u64]) -> impl Iterator<Item = ServiceIx> + 'a {
    let both = one.iter().zip(two).enumerate();
    both.flat_map(|(at, (one, two))| bits(at, one ^ two))
}

fn bits(at: usize, mut word: u64) -> impl Iterator<Item = ServiceIx> {
    std::iter::from_fn(move || {
        let first = word.leading_zeros() as usize;
        (first < BITS).then(|| {
            word &= !(1 << (BITS - 1 - first));
            ServiceIx::at(at * BITS + first)
        })
    })
}

pub(super) fn is_empty(set: &[u64]) -> bool {
    set.iter().all(|word| *word == 0)
}

pub(super) fn len(set: &[u64]) -> usize {
    set.iter().map(|word| word.count_ones() as usize).sum()
}

pub(super) fn subset(one: &[u64], of: &[u64]) -> bool {
    one.iter().zip(of).all(|(one, of)| one & !of == 0)
}

/// Sets, each once, and how often each was added.
#[derive(Clone, Debug)]
pub(super) struct Distinct {
    words: usize,
    rows: Vec<u64>,
    counts: Vec<u32>,
    /// Open addressing: number of a row plus 1, 0 where free. A power of two, at least twice the rows.
    table: Vec<u32>,
}

// === impl Distinct ===

impl Distinct {
    /// Room for so many sets of so many services; what goes beyond is left out.
    pub(super) fn new(services: usize, sets: usize) -> Self {
        Self {
            words: words(services).max(1),
            rows: Vec::new(),
            counts: Vec::new(),
            table: vec![0; (2 * sets.max(1)).next_power_of_two()],
        }
    }

    pub(super) fn clear(&mut self) {
        self.rows.clear();
        self.counts.clear();
        self.table.fill(0);
    }

    pub(super) fn len(&self) -> usize {
        self.counts.len()
    }

    pub(super) fn row(&self, at: usize) -> &[u64] {
        self.rows
            .get(at * self.words..(at + 1) * self.words)
            .unwrap_or_default()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&[u64], u32)> {
        self.rows
            .chunks_exact(self.words)
            .zip(self.counts.iter().copied())
    }

    /// Adds a set `times` times.
    pub(super) fn add(&mut self, set: &[u64], times: u32) {
        let mask = self.table.len() - 1;
        let mut slot = hash(set) & mask;
        while let Some(&taken) = self.table.get(slot).filter(|taken| **taken > 0) {
            let at = taken as usize - 1;
            if self.row(at) == set {
                if let Some(count) = self.counts.get_mut(at) {
                    *count = count.saturating_add(times);
                }
                return;
            }
            slot = (slot + 1) & mask;
        }
        if 2 * self.len() >= self.table.len() {
            return;
        }
        self.rows.extend_from_slice(set);
        self.counts.push(times);
        if let (Some(slot), Ok(number)) = (self.table.get_mut(slot), u32::try_from(self.counts.len())) {
            *slot = number;
        }
    }

    /// Forgets the sets that have no member outside of `set`. Nothing may be added after it but through
    /// [`Self::clear`].
    pub(super) fn forget_subsets(&mut self, set: &[u64]) {
        let mut kept = 0;
        for at in 0..self.len() {
            if subset(self.row(at), set) {
                continue;
            }
            self.rows
                .copy_within(at * self.words..(at + 1) * self.words, kept * self.words);
            self.counts.swap(at, kept);
            kept += 1;
        }
        self.rows.truncate(kept * self.words);
        self.counts.truncate(kept);
    }
}

/// Multiply and fold: sets are few and nobody chooses them to collide.
#[expect(clippy::cast_possible_truncation, reason = "a hash: any of its bits will do")]
fn hash(set: &[u64]) -> usize {
    const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
    let folded = set.iter().fold(0_u64, |hash, word| {
        (hash.rotate_left(23) ^ word).wrapping_mul(ODD)
    });
    (folded ^ (folded >> 29)) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(members: &[u32]) -> Set {
        Set::of(130, members.iter().copied().map(ServiceIx))
    }

    #[test]
    fn members_come_back_in_order() {
        let members: Vec<u32> = vec![0, 5, 63, 64, 127, 128, 129];
        let back: Vec<u32> = set(&members).iter().map(|service| service.0).collect();
        assert_eq!(back, members);
        assert_eq!(len(set(&members).words()), 7);
    }

    #[test]
    fn sets_are_ordered_as_strings_of_0_and_1() {
        assert!(set(&[0]).words() > set(&[1, 2, 3, 129]).words());
        assert!(set(&[64, 100]).words() > set(&[64, 101]).words());
    }

    #[test]
    fn sets_are_counted_once_each() {
        let mut distinct = Distinct::new(130, 3);
        for members in [&[1, 70][..], &[2], &[1, 70], &[129]] {
            distinct.add(set(members).words(), 1);
        }
        let counts: Vec<u32> = distinct.iter().map(|(_, count)| count).collect();
        assert_eq!(counts, [2, 1, 1]);
        distinct.forget_subsets(set(&[1, 70, 129]).words());
        assert_eq!(distinct.len(), 1);
        assert_eq!(distinct.row(0), set(&[2]).words());
    }
}
