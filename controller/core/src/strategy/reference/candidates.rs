//! Sub-graphs that a round of SBMP or COPAMP may add.

use super::defects::{Defect, Defects};
use super::set::{Distinct, Set, both, contains, is_empty, len, members, subset};
use crate::model::{Problem, ServiceIx};

/// Where candidates come from, and the rounds' working memory.
pub(super) struct Source {
    rows: Rows,
    cut: Distinct,
    candidates: Distinct,
}

enum Rows {
    /// Cut to what is near the edge.
    Traces(Distinct),
    /// In their order.
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

/// Sets to add, in the order in which equal ones win; some of a set may be at the edge already.
pub(super) struct Candidates<'a> {
    pub(super) sets: Vec<&'a [u64]>,
    /// Some had to be left out.
    pub(super) truncated: bool,
}

/// Working memory of a walk through the graph.
struct Walk {
    open: Vec<ServiceIx>,
    reached: Set,
}

// === impl Candidates ===

impl Candidates<'_> {
    /// Positions so that neighbours have much in common: the first services are mostly nearest to the users.
    pub(super) fn by_members(&self) -> Vec<usize> {
        let first = |at: &usize| self.sets.get(*at).and_then(|set| set.first()).copied();
        let mut positions: Vec<usize> = (0..self.sets.len()).collect();
        positions.sort_unstable_by_key(|at| (first(at), *at));
        positions
    }
}

// === impl Walk ===

impl Walk {
    fn new(services: usize) -> Self {
        Self {
            open: Vec::new(),
            reached: Set::new(services),
        }
    }

    /// Members of `row` that are reached from `from` through members of it, those of `from` in it included.
    fn reach(&mut self, problem: &Problem, row: &[u64], from: impl Iterator<Item = ServiceIx>) -> &[u64] {
        self.reached.clear();
        self.open.extend(from.filter(|service| contains(row, *service)));
        while let Some(service) = self.open.pop() {
            if !self.reached.contains(service) {
                self.reached.insert(service);
                let callees = problem.calls_of(service).iter().map(|(callee, _)| *callee);
                self.open.extend(callees.filter(|callee| contains(row, *callee)));
            }
        }
        self.reached.words()
    }
}

// === impl Source ===

impl Source {
    pub(super) fn traces(services: usize, traces: Distinct) -> Self {
        Self {
            cut: Distinct::new(services, traces.len()),
            candidates: Distinct::new(services, traces.len()),
            rows: Rows::Traces(traces),
        }
    }

    /// Paths without what is locked and what that cuts off, in ascending order.
    pub(super) fn paths(round: &Round<'_>, paths: &Distinct) -> Self {
        let services = round.problem.services_len();
        let mut walk = Walk::new(services);
        let mut open = Vec::new();
        for (path, _) in paths.iter() {
            let mut row = Set::of(services, members(path));
            row.take_away(round.locked.words());
            if row.words() != path {
                let entries = round.entries.iter().map(|(entry, _)| *entry);
                let reached = walk.reach(round.problem, row.words(), entries);
                row.become_of(reached);
            }
            open.push(row);
        }
        open.sort_unstable_by(|one, two| one.words().cmp(two.words()));
        let mut unique = Distinct::new(services, open.len());
        open.iter().for_each(|row| unique.add(row.words(), 1));
        Self {
            cut: Distinct::new(services, 0),
            candidates: Distinct::new(services, unique.len()),
            rows: Rows::Paths(unique),
        }
    }

    pub(super) fn candidates(&mut self, round: &Round<'_>) -> Candidates<'_> {
        self.candidates.clear();
        match &mut self.rows {
            Rows::Traces(traces) => {
                round.cut_traces(traces, &mut self.cut);
                round.connect(&self.cut, &mut self.candidates);
                round.ordered(&self.candidates)
            }
            Rows::Paths(paths) => {
                round.short_paths(paths, &mut self.candidates);
                Candidates {
                    sets: self.candidates.iter().map(|(set, _)| set).collect(),
                    truncated: false,
                }
            }
        }
    }
}

// === impl Round ===

impl Round<'_> {
    fn services(&self) -> usize {
        self.problem.services_len()
    }

    /// As in the reference, rows go on with those of their services that are at the edge already.
    fn whole_rows(&self) -> bool {
        self.defects.has(Defect::S3) || self.defects.has(Defect::S5)
    }

    /// Cuts traces to what is near the edge; equal ones count together.
    fn cut_traces(&self, traces: &mut Distinct, cut: &mut Distinct) {
        traces.forget_subsets(self.set.words());
        let mut mask = self.near();
        if !self.whole_rows() {
            mask.take_away(self.set.words());
            mask.take_away(self.locked.words());
        }
        cut.clear();
        let mut row = Set::new(self.services());
        for (trace, count) in traces.iter() {
            row.become_both(trace, mask.words());
            if !is_empty(row.words()) {
                cut.add(row.words(), count);
            }
        }
    }

    /// Keeps of each row what the edge reaches.
    fn connect(&self, rows: &Distinct, candidates: &mut Distinct) {
        let called = self.called();
        let mut walk = Walk::new(self.services());
        if !self.whole_rows() {
            for (row, count) in rows.iter() {
                let reached = if subset(row, called.words()) {
                    row
                } else {
                    let first = both(row, called.words());
                    walk.reach(self.problem, row, first)
                };
                if !is_empty(reached) {
                    candidates.add(reached, count);
                }
            }
            return;
        }
        let mut row = Set::new(self.services());
        let mut added = Set::new(self.services());
        for (cut, count) in rows.iter() {
            row.become_of(cut);
            row.take_away(self.locked.words());
            added.become_of(row.words());
            added.take_away(self.set.words());
            if !self.defects.has(Defect::S5) {
                row.take_away(added.words());
                row.add(walk.reach(self.problem, added.words(), called.iter()));
            } else if row.words() != cut && !is_empty(added.words()) {
                let reached = walk.reach(self.problem, row.words(), self.root(&row));
                row.become_of(reached);
            }
            if !self.defects.has(Defect::S3) {
                row.take_away(self.set.words());
            }
            if !subset(row.words(), self.set.words()) {
                candidates.add(row.words(), count);
            }
        }
    }

    /// Where the reference starts from in a row that had a locked service: at the gateway where it is on the frontier,
    /// and else at the row's last service.
    fn root(&self, row: &Set) -> impl Iterator<Item = ServiceIx> + use<'_> {
        let entries = self.entries.iter().map(|(entry, _)| *entry);
        let gateway = entries.clone().any(|entry| !self.set.contains(entry));
        let last = row.iter().last().filter(|_| !gateway);
        entries.filter(move |_| gateway).chain(last)
    }

    /// Those that came most often are first, and of them those of the first services; the reference: the latter only.
    fn ordered<'a>(&self, sets: &'a Distinct) -> Candidates<'a> {
        let by_frequency = !self.defects.has(Defect::S3);
        let count = |count| if by_frequency { count } else { 0 };
        let mut counted: Vec<(u32, &[u64])> = sets.iter().map(|(set, times)| (count(times), set)).collect();
        let first = |one: &(u32, &[u64]), two: &(u32, &[u64])| two.cmp(one);
        let truncated = counted.len() > self.max_sgs;
        if truncated {
            counted.select_nth_unstable_by(self.max_sgs, first);
            counted.truncate(self.max_sgs);
        }
        counted.sort_unstable_by(first);
        Candidates {
            sets: counted.into_iter().map(|(_, set)| set).collect(),
            truncated,
        }
    }

    /// What paths add, where that is no more than the depth.
    fn short_paths(&self, paths: &mut Distinct, candidates: &mut Distinct) {
        let most = self.depth.unwrap_or(usize::MAX);
        paths.forget_subsets(self.set.words());
        let mut added = Set::new(self.services());
        for (path, _) in paths.iter() {
            added.become_of(path);
            added.take_away(self.set.words());
            if len(added.words()) <= most {
                candidates.add(added.words(), 1);
            }
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
}

/// Leaves of a set: members that call no other member.
pub(super) fn leaves<'a>(problem: &'a Problem, set: &'a Set) -> impl Iterator<Item = ServiceIx> + 'a {
    set.iter().filter(move |service| {
        let mut callees = problem.calls_of(*service).iter().map(|(callee, _)| *callee);
        !callees.any(|callee| callee != *service && contains(set.words(), callee))
    })
}
