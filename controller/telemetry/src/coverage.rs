//! Which proxies report, and which of their workers do not.
//!
//! Envoy runs one VM a worker and one on the main thread, which sees no request; all of them send a heartbeat when
//! they have nothing to say. So a proxy was heard when any of its VMs was within 1.5 heartbeats, and a VM that is
//! silent for longer while another of its proxy speaks is blind: its worker's requests go unmeasured. Envoy does not
//! tell how many workers there are, so one that never spoke is not missed.
//!
//! A VM that is gone for a reason is not blind. A new module or configuration comes to all VMs of a proxy within
//! moments: only VMs with the newest one are judged, and a VM that first speaks after another fell silent has taken
//! its place (a restarted container keeps its node id).

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, HashMap};
use std::hash::{Hash, Hasher};
use std::time::Duration;

use gma_core::ids::Timestamp;
use gma_core::snapshot::Coverage;
use gma_report::Head;

use crate::directory::{Directory, ProxyRole};
use crate::index::{AreaIx, Index, ServiceIx};
use crate::ring::Micros;

/// A pod that is Ready for this long has had the time to report: the first report of a VM comes within 4 s.
const EXPECTED_AFTER: Duration = Duration::from_secs(30);

/// VMs that are remembered of a proxy: Envoy's workers on the largest machines, twice. Past it the one that is silent
/// for longest is forgotten.
const MAX_VMS_OF_PROXY: usize = 256;

/// What a VM runs: module and configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Build(u64, u64);

#[derive(Debug)]
struct HeardVm {
    vm: u64,
    build: Build,
    first: Timestamp,
    last: Timestamp,
    /// End of its newest window.
    told_until: Micros,
    /// End of its newest window with requests.
    busy_until: Option<Micros>,
}

/// A proxy of the directory, and its VMs.
#[derive(Debug)]
struct Heard {
    area: AreaIx,
    is_gateway: bool,
    services: Vec<ServiceIx>,
    ready_since: Option<Timestamp>,
    /// What the VM runs that began or changed last.
    build: Option<Build>,
    vms: Vec<HeardVm>,
}

/// Exactly the proxies of the directory.
#[derive(Debug, Default)]
pub(crate) struct Proxies {
    by_node: HashMap<String, Heard>,
}

/// Of the gateways of each edge, and of the sidecars of each service and area.
#[derive(Debug, Default)]
pub(crate) struct Covered {
    pub(crate) gateways: BTreeMap<AreaIx, Coverage>,
    pub(crate) sidecars: BTreeMap<(ServiceIx, AreaIx), Coverage>,
}

// === impl Build ===

impl Build {
    fn of(head: &Head) -> Self {
        let mut hasher = DefaultHasher::new();
        head.module.hash(&mut hasher);
        Self(hasher.finish(), head.config_hash)
    }
}

// === impl Proxies ===

impl Proxies {
    /// The directory as it is from `now` on, whose names `index` knows.
    pub(crate) fn set(&mut self, directory: &Directory, index: &Index, now: Timestamp) {
        self.by_node
            .retain(|node, _| directory.proxies.contains_key(node));
        for (node, proxy) in &directory.proxies {
            let Some(area) = index.area_number(&proxy.area) else {
                continue;
            };
            let (is_gateway, services) = match &proxy.role {
                ProxyRole::Gateway => (true, Vec::new()),
                ProxyRole::Sidecar { ports } => {
                    let services = ports.values().filter_map(|name| index.service_number(name));
                    (false, services.collect())
                }
            };
            let before = self.by_node.remove(node);
            let ready_since = before.as_ref().and_then(|heard| heard.ready_since);
            let (build, vms) = before.map_or((None, Vec::new()), |heard| (heard.build, heard.vms));
            let heard = Heard {
                area,
                is_gateway,
                services,
                ready_since: proxy.ready.then(|| ready_since.unwrap_or(now)),
                build,
                vms,
            };
            self.by_node.insert(node.clone(), heard);
        }
    }

    /// A report of a VM came, of a window that ends at `end`.
    pub(crate) fn hear(&mut self, node: &str, head: &Head, end: Micros, is_busy: bool, now: Timestamp) {
        let busy_until = is_busy.then_some(end);
        let Some(heard) = self.by_node.get_mut(node) else {
            return;
        };
        let build = Build::of(head);
        if let Some(known) = heard.vms.iter_mut().find(|known| known.vm == head.vm) {
            known.last = now;
            known.told_until = known.told_until.max(end);
            known.busy_until = known.busy_until.max(busy_until);
            if known.build != build {
                known.build = build;
                heard.build = Some(build);
            }
            return;
        }
        if heard.vms.len() >= MAX_VMS_OF_PROXY {
            let oldest = heard.vms.iter().enumerate().min_by_key(|(_, known)| known.last);
            if let Some((at, _)) = oldest {
                heard.vms.swap_remove(at);
            }
        }
        heard.build = Some(build);
        heard.vms.push(HeardVm {
            vm: head.vm,
            build,
            first: now,
            last: now,
            told_until: end,
            busy_until,
        });
    }

    /// Coverage now; a VM that was not heard for `silence` is silent.
    pub(crate) fn covered(&self, now: Timestamp, silence: Duration) -> Covered {
        let mut covered = Covered::default();
        for heard in self.by_node.values() {
            let of_this = heard.coverage(now, silence);
            if heard.is_gateway {
                add(covered.gateways.entry(heard.area).or_default(), of_this);
            } else if of_this.expected > 0 {
                for service in &heard.services {
                    add(
                        covered.sidecars.entry((*service, heard.area)).or_default(),
                        of_this,
                    );
                }
            }
        }
        covered
    }

    /// Newest end of a window of those VMs of an edge's gateways that counted requests after `since`. The others' windows
    /// say that a gateway lives, and nothing of what these have not told yet.
    pub(crate) fn busy_told_until(&self, since: Micros) -> BTreeMap<AreaIx, Micros> {
        let mut newest: BTreeMap<AreaIx, Micros> = BTreeMap::new();
        for heard in self.by_node.values().filter(|heard| heard.is_gateway) {
            let was_busy = |vm: &&HeardVm| vm.busy_until.is_some_and(|until| until >= since);
            let ends = heard.vms.iter().filter(was_busy).map(|vm| vm.told_until);
            if let Some(end) = ends.max() {
                let found = newest.entry(heard.area).or_insert(end);
                *found = end.max(*found);
            }
        }
        newest
    }

    /// Until when the gateways of an edge have told everything: the earliest end of a busy VM's newest window. One
    /// that lags by more than `lag` behind the newest does not hold up the others.
    pub(crate) fn told_until(&self, lag: Micros) -> BTreeMap<AreaIx, Micros> {
        let ends = || {
            let gateways = self.by_node.values().filter(|heard| heard.is_gateway);
            gateways.flat_map(|heard| heard.vms.iter().map(|vm| (heard.area, vm.busy_until)))
        };
        let mut newest: BTreeMap<AreaIx, Micros> = BTreeMap::new();
        for (area, end) in ends() {
            let Some(end) = end else { continue };
            let found = newest.entry(area).or_insert(end);
            *found = end.max(*found);
        }
        let mut told = newest.clone();
        for (area, end) in ends() {
            let (Some(end), Some(newest)) = (end, newest.get(&area)) else {
                continue;
            };
            if let Some(found) = told.get_mut(&area).filter(|_| end >= newest.saturating_sub(lag)) {
                *found = end.min(*found);
            }
        }
        told
    }
}

// === impl Heard ===

impl Heard {
    fn coverage(&self, now: Timestamp, silence: Duration) -> Coverage {
        let is_expected = self
            .ready_since
            .is_some_and(|since| now.since(since) >= EXPECTED_AFTER);
        if !is_expected {
            return Coverage::default();
        }
        let speaks = |vm: &&HeardVm| now.since(vm.last) <= silence;
        let is_heard = self.vms.iter().any(|vm| speaks(&vm));
        Coverage {
            expected: 1,
            heard: u32::from(is_heard),
            blind: u32::from(is_heard && self.is_blind(now, silence)),
        }
    }

    fn is_blind(&self, now: Timestamp, silence: Duration) -> bool {
        let judged = || self.vms.iter().filter(|vm| Some(vm.build) == self.build);
        let silent = || judged().filter(|vm| now.since(vm.last) > silence);
        let Some(since) = silent().map(|vm| vm.last).min() else {
            return false;
        };
        let replaced = judged().filter(|vm| vm.first > since).count();
        silent().count() > replaced
    }
}

fn add(sum: &mut Coverage, other: Coverage) {
    sum.expected = sum.expected.saturating_add(other.expected);
    sum.heard = sum.heard.saturating_add(other.heard);
    sum.blind = sum.blind.saturating_add(other.blind);
}
