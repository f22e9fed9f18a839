//! What is remembered of each VM: its last number, and its totals.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use gma_core::ids::Timestamp;
use gma_report::{Key, Report, Total, v1};

/// After this silence a VM is forgotten; its proxy is gone.
const FORGET_AFTER: Duration = Duration::from_secs(24 * 3600);

/// When there is no room, VMs that were silent for this long make it. A filter that cannot reach the
/// controller tries again within a minute, so a VM that is silent for longer has most likely ended.
const MAKE_ROOM_AFTER: Duration = Duration::from_secs(15 * 60);

/// How often room is looked for while there is none: each look walks all VMs.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Distinct keys in the totals of all VMs: 200 services called and calling, in several areas and with
/// all outcomes. Past it requests are added to their VM's `retired`.
const MAX_KEYS: usize = 200_000;

/// Distinct keys in the totals of one VM: four times what a filter holds at a time.
const MAX_KEYS_OF_VM: usize = 4 * gma_report::limits::MAX_KEYS;

/// Number of a key in the totals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct KeyIx(u32);

/// Every key of the totals once; generations are not told apart here.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    keys: Vec<Arc<Key>>,
    numbers: HashMap<Arc<Key>, KeyIx>,
}

/// Requests of one key since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counted {
    pub(crate) generation: u32,
    pub(crate) count: u64,
    pub(crate) long_count: u64,
    pub(crate) sum_us: u64,
}

/// Everything that a VM has counted.
#[derive(Debug, Default)]
pub(crate) struct VmTotals {
    pub(crate) keys: BTreeMap<KeyIx, Counted>,
    pub(crate) retired: u64,
    pub(crate) retired_long: u64,
    /// By reason; what came before this controller listened is under `Unspecified`.
    pub(crate) unmeasured: BTreeMap<v1::Reason, u64>,
    /// Windows up to this number are in the totals already.
    through: u64,
}

/// One VM.
#[derive(Debug)]
pub(crate) struct Vm {
    pub(crate) node: Arc<str>,
    pub(crate) last_seq: u64,
    pub(crate) heard: Timestamp,
    /// The totals miss windows: those before the VM was first seen, or a refused one.
    pub(crate) wants_totals: bool,
    pub(crate) totals: VmTotals,
}

#[derive(Debug, Default)]
pub(crate) struct Vms {
    pub(crate) vms: HashMap<u64, Vm>,
    pub(crate) keys: Keys,
    /// When room was looked for last.
    looked: Option<Timestamp>,
}

// === impl Vms ===

impl Vms {
    /// Whether a VM that is not known yet finds room, and how many were forgotten to make it.
    pub(crate) fn make_room(&mut self, limit: usize, now: Timestamp) -> (bool, usize) {
        if self.vms.len() < limit {
            return (true, 0);
        }
        if self.looked.is_some_and(|looked| now.since(looked) < LOOK_EVERY) {
            return (false, 0);
        }
        self.looked = Some(now);
        let forgotten = self.forget(MAKE_ROOM_AFTER, now);
        (self.vms.len() < limit, forgotten)
    }

    /// Forgets the VMs of proxies that are gone.
    pub(crate) fn expire(&mut self, now: Timestamp) -> usize {
        self.forget(FORGET_AFTER, now)
    }

    fn forget(&mut self, silence: Duration, now: Timestamp) -> usize {
        let before = self.vms.len();
        self.vms.retain(|_, vm| now.since(vm.heard) < silence);
        before - self.vms.len()
    }
}

// === impl Vm ===

impl Vm {
    pub(crate) fn new(node: &str, now: Timestamp) -> Self {
        Self {
            node: node.into(),
            last_seq: 0,
            heard: now,
            wants_totals: false,
            totals: VmTotals::default(),
        }
    }

    /// Adds a window that was not seen before. Gives how many keys found no place of their own.
    pub(crate) fn count(&mut self, report: &Report, keys: &mut Keys) -> u64 {
        let seq = report.head.seq;
        let window = &report.window;
        if seq != self.last_seq + 1 {
            self.wants_totals = true;
        }
        self.last_seq = seq;
        let mut merged = 0;
        if seq > self.totals.through {
            for (reason, count) in &window.unmeasured {
                let sum = self.totals.unmeasured.entry(*reason).or_default();
                *sum = sum.saturating_add(*count);
            }
        }
        if let Some(totals) = &window.totals {
            merged += self.totals.replace(totals, keys);
            // The totals hold the whole window, so the parts that follow are in them.
            self.totals.through = seq.saturating_add(window.parts_left.into());
            self.wants_totals = false;
        } else if seq > self.totals.through {
            for series in &window.series {
                let counted = Counted {
                    generation: series.key.generation,
                    count: series.count,
                    long_count: series.long_count,
                    sum_us: series.sum_us,
                };
                merged += u64::from(!self.totals.add(&series.key, counted, keys));
            }
        }
        merged
    }
}

// === impl VmTotals ===

impl VmTotals {
    fn replace(&mut self, totals: &gma_report::Totals, keys: &mut Keys) -> u64 {
        self.keys.clear();
        self.retired = totals.retired_count;
        self.retired_long = totals.retired_long_count;
        // Requests of refused windows have keys: these totals hold them.
        self.unmeasured
            .retain(|reason, _| !is_refusal(*reason) && *reason != v1::Reason::Unspecified);
        let known = self
            .unmeasured
            .values()
            .fold(0, |sum: u64, n| sum.saturating_add(*n));
        let earlier = totals.unmeasured.saturating_sub(known);
        if earlier > 0 {
            self.unmeasured.insert(v1::Reason::Unspecified, earlier);
        }
        let mut merged = 0;
        for Total {
            key,
            count,
            long_count,
            sum_us,
        } in &totals.keys
        {
            let counted = Counted {
                generation: key.generation,
                count: *count,
                long_count: *long_count,
                sum_us: *sum_us,
            };
            merged += u64::from(!self.add(key, counted, keys));
        }
        merged
    }

    /// Adds to a key, or to `retired` where there is no room for another (then it gives false).
    fn add(&mut self, key: &Key, new: Counted, keys: &mut Keys) -> bool {
        let is_full = self.keys.len() >= MAX_KEYS_OF_VM;
        let ix = keys
            .number(key)
            .filter(|ix| !is_full || self.keys.contains_key(ix));
        let Some(ix) = ix else {
            self.retire(new);
            return false;
        };
        let old = self.keys.insert(ix, new);
        match old {
            Some(old) if old.generation == new.generation => {
                let sum = Counted {
                    generation: new.generation,
                    count: old.count.saturating_add(new.count),
                    long_count: old.long_count.saturating_add(new.long_count),
                    sum_us: old.sum_us.saturating_add(new.sum_us),
                };
                self.keys.insert(ix, sum);
            }
            // The VM evicted the key and it came back: what it had counted is in its `retired` now.
            Some(old) => self.retire(old),
            None => {}
        }
        true
    }

    fn retire(&mut self, counted: Counted) {
        self.retired = self.retired.saturating_add(counted.count);
        self.retired_long = self.retired_long.saturating_add(counted.long_count);
    }
}

const fn is_refusal(reason: v1::Reason) -> bool {
    matches!(
        reason,
        v1::Reason::RefusedMalformed
            | v1::Reason::RefusedVersion
            | v1::Reason::RefusedTooLarge
            | v1::Reason::RefusedUnknownNode
            | v1::Reason::RefusedLimit
    )
}

// === impl Keys ===

impl Keys {
    pub(crate) fn key(&self, ix: KeyIx) -> Option<&Key> {
        self.keys.get(ix.0 as usize).map(AsRef::as_ref)
    }

    fn number(&mut self, key: &Key) -> Option<KeyIx> {
        // Nearly every key is of generation 0 and found without a copy.
        if key.generation == 0
            && let Some(ix) = self.numbers.get(key)
        {
            return Some(*ix);
        }
        let key = Arc::new(Key {
            generation: 0,
            ..key.clone()
        });
        if let Some(ix) = self.numbers.get(&key) {
            return Some(*ix);
        }
        if self.keys.len() >= MAX_KEYS {
            return None;
        }
        let ix = KeyIx(self.keys.len() as u32);
        self.keys.push(key.clone());
        self.numbers.insert(key, ix);
        Some(ix)
    }
}
