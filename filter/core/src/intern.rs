//! A bounded table of values found by the bytes that the host returns, without copying or parsing them.
//!
//! Cluster names and localities come with each request and repeat: the table answers in one hash and one
//! comparison. Open addressing over `u16` slots; a removal rebuilds the slots, which happens in sweeps only.

/// Place of an entry; stays the same as long as the entry lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ordinal(u16);

/// A slot that holds nothing.
const EMPTY: u16 = u16::MAX;

#[derive(Debug)]
struct Entry<T> {
    hash: u64,
    bytes: Box<[u8]>,
    value: T,
}

/// At most `capacity` values by their bytes.
#[derive(Debug)]
pub(crate) struct Table<T> {
    /// A power of two, at least twice the capacity, so that a search always meets an empty slot.
    slots: Box<[u16]>,
    entries: Vec<Option<Entry<T>>>,
    capacity: u16,
    live: u16,
}

impl<T> Table<T> {
    pub(crate) fn new(capacity: u16) -> Self {
        let slots = (usize::from(capacity) * 2).next_power_of_two();
        Self {
            slots: vec![EMPTY; slots].into_boxed_slice(),
            entries: Vec::new(),
            capacity,
            live: 0,
        }
    }

    pub(crate) fn is_crowded(&self) -> bool {
        u32::from(self.live) * 4 >= u32::from(self.capacity) * 3
    }

    /// The entry of these bytes.
    pub(crate) fn find(&self, bytes: &[u8]) -> Option<Ordinal> {
        let hash = hash(bytes);
        let mut at = self.first_slot(hash);
        loop {
            let ordinal = *self.slots.get(at)?;
            if ordinal == EMPTY {
                return None;
            }
            if let Some(Some(entry)) = self.entries.get(usize::from(ordinal))
                && entry.hash == hash
                && *entry.bytes == *bytes
            {
                return Some(Ordinal(ordinal));
            }
            at = self.next_slot(at);
        }
    }

    /// Adds an entry for bytes that `find` did not find; none where the table is full.
    pub(crate) fn insert(&mut self, bytes: &[u8], value: T) -> Option<Ordinal> {
        if self.live >= self.capacity {
            return None;
        }
        let entry = Entry {
            hash: hash(bytes),
            bytes: bytes.into(),
            value,
        };
        let hash = entry.hash;
        let free = self
            .entries
            .iter()
            .position(Option::is_none)
            .unwrap_or(self.entries.len());
        let ordinal = u16::try_from(free).ok()?;
        match self.entries.get_mut(free) {
            Some(place) => *place = Some(entry),
            None => self.entries.push(Some(entry)),
        }
        self.live += 1;
        self.occupy(hash, ordinal);
        Some(Ordinal(ordinal))
    }

    pub(crate) fn get(&self, ordinal: Ordinal) -> Option<&T> {
        self.entries
            .get(usize::from(ordinal.0))?
            .as_ref()
            .map(|entry| &entry.value)
    }

    pub(crate) fn get_mut(&mut self, ordinal: Ordinal) -> Option<&mut T> {
        self.entries
            .get_mut(usize::from(ordinal.0))?
            .as_mut()
            .map(|entry| &mut entry.value)
    }

    /// Removes the entries that `keep` does not want.
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(Ordinal, &T) -> bool) {
        for (place, ordinal) in self.entries.iter_mut().zip(0..) {
            if place
                .as_ref()
                .is_some_and(|entry| !keep(Ordinal(ordinal), &entry.value))
            {
                *place = None;
                self.live -= 1;
            }
        }
        self.slots.fill(EMPTY);
        let hashes: Vec<_> = self
            .entries
            .iter()
            .zip(0..)
            .filter_map(|(e, at)| Some((e.as_ref()?.hash, at)))
            .collect();
        for (hash, ordinal) in hashes {
            self.occupy(hash, ordinal);
        }
    }

    fn occupy(&mut self, hash: u64, ordinal: u16) {
        let mut at = self.first_slot(hash);
        while self.slots.get(at).is_some_and(|slot| *slot != EMPTY) {
            at = self.next_slot(at);
        }
        if let Some(slot) = self.slots.get_mut(at) {
            *slot = ordinal;
        }
    }

    /// The high bits: a multiplication mixes upwards.
    fn first_slot(&self, hash: u64) -> usize {
        (hash >> 32) as usize & (self.slots.len() - 1)
    }

    fn next_slot(&self, at: usize) -> usize {
        (at + 1) & (self.slots.len() - 1)
    }
}

/// Eight bytes at a time, multiply and rotate. The bytes come from the proxy's own configuration and the
/// table is small, so an attacker's collisions are no concern.
fn hash(bytes: &[u8]) -> u64 {
    const FACTOR: u64 = 0x9E37_79B9_7F4A_7C15;
    let (words, rest) = bytes.as_chunks::<8>();
    let mut hash = bytes.len() as u64;
    for word in words {
        hash = (hash.rotate_left(23) ^ u64::from_le_bytes(*word)).wrapping_mul(FACTOR);
    }
    let tail = rest.iter().fold(0, |tail, byte| (tail << 8) | u64::from(*byte));
    (hash.rotate_left(23) ^ tail).wrapping_mul(FACTOR)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn is_bounded_and_reuses_places() {
        let mut table = Table::new(3);
        let first = table.insert(b"a", 1).unwrap();
        table.insert(b"b", 2).unwrap();
        assert!(!table.is_crowded());
        table.insert(b"c", 3).unwrap();
        assert!(table.is_crowded());
        assert_eq!(table.insert(b"d", 4), None);
        table.retain(|_, value| *value != 1);
        assert_eq!(table.find(b"a"), None);
        assert_eq!(table.insert(b"d", 4), Some(first));
        assert_eq!(table.find(b"c").and_then(|at| table.get(at).copied()), Some(3));
    }

    proptest! {
        /// The table answers as a map does, whatever is added and removed.
        #[test]
        fn agrees_with_a_map(steps in prop::collection::vec((prop::collection::vec(0u8..4, 0..20), any::<bool>()), 0..200)) {
            let mut table = Table::new(32);
            let mut map = std::collections::BTreeMap::new();
            for (number, (bytes, add)) in steps.into_iter().enumerate() {
                if !add {
                    table.retain(|_, value| value % 3 != number % 3);
                    map.retain(|_, value| *value % 3 != number % 3);
                } else if !map.contains_key(&bytes) && table.insert(&bytes, number).is_some() {
                    map.insert(bytes, number);
                }
            }
            prop_assert_eq!(usize::from(table.live), map.len());
            for (bytes, value) in &map {
                prop_assert_eq!(table.find(bytes).and_then(|at| table.get(at)), Some(value));
            }
            prop_assert_eq!(table.find(&[9]), None);
        }
    }
}
