//! Sub-graphs that a round of SBMP or COPAMP may add.

use super::defects::{Defect, Defects};
use super::set::{Distinct, Set, contains, is_empty, len, members, subset};
use crate::model::{Problem, ServiceIx};

/// Where candidates come from, and the rounds' working memory.
pub(super) enum Source {
    /// Traces, cut to what is near the edge.
    Traces {
        traces: Distinct,
        cut: Distinct,
        reduced: Distinct,
    },
    /// Paths, in their order.
    Paths(Distinct),
}

/// What a round of candidates depends on.
pub(super) struct Round<'a> {
    pub(super) problem: &'a Problem,
    pub(super) entries: &'a [(ServiceIx, f64)],
    /// The edge now.
    pub(super) set: &'a Set,
    pub(super) locked: &'a Set,
    /// None: any.
    pub(super) depth: Option<usize>,
    pub(super) max_sgs: usize,
    pub(super) defects: Defects,
}

/// Sets to add in the order in which equal ones win, and whether some had to be left out.
pub(super) struct Candidates {
    pub(super) sets: Vec<Set>,
    pub(super) truncated: bool,
}

// === impl Source ===

impl Source {
    pub(super) fn traces(services: usize, traces: Distinct) -> Self {
        let room = Distinct::new(services, traces.len());
        Self::Traces {
            traces,
            cut: room.clone(),
            reduced: room,
        }
    }

    /// Paths without what is locked and what that cuts off, in ascending order.
    pub(super) fn paths(round: &Round<'_>, paths: &Distinct) -> Self {
        let services = round.problem.services_len();
        let mut open = Vec::new();
        for (path, _) in paths.iter() {
            let mut row = Set::of(services, members(path));
            row.drop(round.locked.words());
            if row.words() != path {
                row = round.reached(&row, round.entries.iter().map(|(entry, _)| *entry));
            }
            open.push(row);
        }
        open.sort_unstable_by(|one, two| one.words().cmp(two.words()));
        let mut unique = Distinct::new(services, open.len());
        open.iter().for_each(|row| unique.add(row.words(), 1));
        Self::Paths(unique)
    }

    pub(super) fn candidates(&mut self, round: &Round<'_>) -> Candidates {
        match self {
            Self::Traces { traces, cut, reduced } => round.of_traces(traces, cut, reduced),
            Self::Paths(paths) => round.of_paths(paths),
        }
    }
}

// === impl Round ===

impl Round<'_> {
    fn services(&self) -> usize {
        self.problem.services_len()
    }

    /// Rows are cut to what is near the edge and free to move, then to what the edge reaches; equal ones count
    /// together, and those that came most often are first.
    fn of_traces(&self, traces: &mut Distinct, cut: &mut Distinct, reduced: &mut Distinct) -> Candidates {
        traces.forget_subsets(self.set.words());
        // As in the reference, rows go on with those of their services that are at the edge already.
        let whole_rows = self.defects.has(Defect::S3) || self.defects.has(Defect::S5);
        let mut mask = self.near();
        if !whole_rows {
            mask.drop(self.set.words());
        }
        cut.clear();
        let mut row = Set::new(self.services());
        for (trace, count) in traces.iter() {
            row.become_of(mask.words());
            row.keep(trace);
            if !is_empty(row.words()) {
                cut.add(row.words(), count);
            }
        }
        reduced.clear();
        let called: Set = self.called();
        for (trace, count) in cut.iter() {
            row.become_of(trace);
            row.drop(self.locked.words());
            if subset(row.words(), self.set.words()) {
                continue;
            }
            if self.defects.has(Defect::S5) {
                if row.words() != trace {
                    row = self.reached_from_last(&row);
                }
            } else {
                let mut added = row.clone();
                added.drop(self.set.words());
                let reached = self.reached(&added, called.iter());
                row.keep(self.set.words());
                row.add(reached.words());
            }
            if subset(row.words(), self.set.words()) {
                continue;
            }
            if !self.defects.has(Defect::S3) {
                row.drop(self.set.words());
            }
            reduced.add(row.words(), count);
        }
        self.ordered(reduced)
    }

    fn ordered(&self, rows: &Distinct) -> Candidates {
        let mut order: Vec<usize> = (0..rows.len()).collect();
        let by_frequency = !self.defects.has(Defect::S3);
        order.sort_unstable_by(|&one, &two| {
            let frequency = if by_frequency {
                rows.count(two).cmp(&rows.count(one))
            } else {
                std::cmp::Ordering::Equal
            };
            frequency.then_with(|| rows.row(two).cmp(rows.row(one)))
        });
        let truncated = order.len() > self.max_sgs;
        order.truncate(self.max_sgs);
        let added = |at: usize| {
            let mut added = Set::of(self.services(), []);
            added.become_of(rows.row(at));
            added.drop(self.set.words());
            added
        };
        Candidates {
            sets: order.into_iter().map(added).collect(),
            truncated,
        }
    }

    fn of_paths(&self, paths: &Distinct) -> Candidates {
        let most = self.depth.unwrap_or(usize::MAX);
        let mut seen = Distinct::new(self.services(), paths.len());
        let mut added = Set::new(self.services());
        for (path, _) in paths.iter() {
            added.become_of(path);
            added.drop(self.set.words());
            if (1..=most).contains(&len(added.words())) {
                seen.add(added.words(), 1);
            }
        }
        let set = |(added, _): (&[u64], u32)| Set::of(self.services(), members(added));
        Candidates {
            sets: seen.iter().map(set).collect(),
            truncated: false,
        }
    }

    /// Services within the depth of the frontier: those at the edge, or the gateway, that call one that is not there.
    fn near(&self) -> Set {
        let services = self.services();
        let absent = |(callee, _): &(ServiceIx, f64)| !self.set.contains(*callee);
        let mut near = Set::new(services);
        let mut level: Vec<ServiceIx> = Vec::new();
        let mut depth = self.depth.unwrap_or(usize::MAX);
        for service in self.set.iter() {
            if self.problem.calls_of(service).iter().any(absent) {
                near.insert(service);
                level.push(service);
            }
        }
        let mut next: Vec<ServiceIx> = Vec::new();
        if depth > 0 && self.entries.iter().any(absent) {
            next.extend(self.entries.iter().map(|(entry, _)| *entry));
        }
        while depth > 0 {
            for service in &level {
                next.extend(self.problem.calls_of(*service).iter().map(|(callee, _)| *callee));
            }
            level.clear();
            for service in next.drain(..) {
                if !near.contains(service) {
                    near.insert(service);
                    level.push(service);
                }
            }
            if level.is_empty() {
                break;
            }
            depth -= 1;
        }
        near
    }

    /// Services that the edge or its gateway calls.
    fn called(&self) -> Set {
        let of_edge = self.set.iter().flat_map(|service| self.problem.calls_of(service));
        let callees = of_edge.chain(self.entries).map(|(callee, _)| *callee);
        Set::of(self.services(), callees)
    }

    /// Members of `row` that are reached from `from` through members of it, `from`'s members included.
    fn reached(&self, row: &Set, from: impl Iterator<Item = ServiceIx>) -> Set {
        let mut reached = Set::new(self.services());
        let mut open: Vec<ServiceIx> = from.filter(|service| row.contains(*service)).collect();
        while let Some(service) = open.pop() {
            if !reached.contains(service) {
                reached.insert(service);
                let callees = self.problem.calls_of(service).iter().map(|(callee, _)| *callee);
                open.extend(callees.filter(|callee| row.contains(*callee)));
            }
        }
        reached
    }

    /// The reference's cut of a row that had a locked service: relative to the gateway where it is on the frontier, and
    /// else to the row's last service.
    fn reached_from_last(&self, row: &Set) -> Set {
        let gateway = self.entries.iter().any(|(entry, _)| !self.set.contains(*entry));
        if gateway {
            return self.reached(row, self.entries.iter().map(|(entry, _)| *entry));
        }
        let last = row.iter().last();
        self.reached(row, last.into_iter())
    }
}

/// Leaves of a set: members that call no other member.
pub(super) fn leaves<'a>(problem: &'a Problem, set: &'a Set) -> impl Iterator<Item = ServiceIx> + 'a {
    set.iter().filter(move |service| {
        let mut callees = problem.calls_of(*service).iter().map(|(callee, _)| *callee);
        !callees.any(|callee| callee != *service && contains(set.words(), callee))
    })
}
