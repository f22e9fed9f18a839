//! Branch and bound over the relaxation of [`super::relaxed`], best bound first.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::Origin;
use super::bits::Bits;
use super::dual::{Bounded, bound};
use super::relaxed::{Fix, Relaxed};
use super::rent::{Kind, Rent};
use super::search::{SAME, Search};
use crate::model::{Pin, Problem, ServiceIx};

/// Open nodes at most: some 100 bytes each, an edge.
const MAX_NODES: usize = 100_000;

/// Rents that are tried for each kind of room: none, and doubling from the cheapest, an hour.
const RENTS: i32 = 24;
/// Rounds in which the cloud's rounding is credited.
const CREDITS: usize = 4;
const CHEAPEST_RENT: f64 = 1e-5;

/// Decisions that were taken, and what is known under them.
#[derive(Debug)]
struct Node {
    parent: Option<usize>,
    /// Edge of the search, service, there or not.
    decided: Option<(usize, ServiceIx, Fix)>,
    /// By edge of the search.
    edges: Vec<Known>,
    /// What to decide next.
    next: Option<(usize, ServiceIx)>,
}

#[derive(Clone, Copy, Debug)]
struct Known {
    cost: f64,
    price: f64,
    bytes: f64,
}

/// An order of `f64`s that are not NaN.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Cost(f64);

impl Eq for Cost {}

impl PartialOrd for Cost {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Cost {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

/// What the tree ended with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ended {
    /// No placement within the limits costs less; infinite where there is none.
    pub(super) cost: f64,
    /// Nothing is left open: `cost` is the optimum's, or that of no placement.
    pub(super) closed: bool,
}

pub(super) struct Tree<'s, 'p> {
    search: &'s mut Search<'p>,
    relaxed: Vec<Relaxed<'p>>,
    /// Cost that no decision changes.
    constant: f64,
    nodes: Vec<Node>,
    open: BinaryHeap<Reverse<(Cost, usize)>>,
    until: u64,
}

// === impl Tree ===

#[expect(
    clippy::indexing_slicing,
    reason = "nodes, edges and services are numbers of vectors that only grow"
)]
impl<'s, 'p> Tree<'s, 'p> {
    /// `work`: choices that the tree may make.
    pub(super) fn new(search: &'s mut Search<'p>, work: u64) -> Self {
        let layout = search.now.layout();
        let joint = search.edges.len() > 1;
        let elsewhere: Vec<f64> = search
            .problem
            .services()
            .map(|(service, _)| search.now.rate_elsewhere(service, &search.edges))
            .collect();
        let mut relaxed: Vec<Relaxed<'p>> = search
            .edges
            .iter()
            .map(|edge| Relaxed::new(layout.clone(), *edge, elsewhere.clone(), joint))
            .collect();
        for (relaxed, set) in relaxed.iter_mut().zip(&search.best.sets) {
            relaxed.weigh(set);
        }
        let others = search.problem.edges().map(|(edge, _)| edge);
        let others = others.filter(|edge| !search.edges.contains(edge));
        let constant = others.map(|edge| search.now.edge_cost(edge)).sum::<f64>();
        let until = search.spent.saturating_add(work).min(search.budget);
        Self {
            search,
            relaxed,
            constant,
            nodes: Vec::new(),
            open: BinaryHeap::new(),
            until,
        }
    }

    pub(super) fn run(mut self) -> Ended {
        let root = Node {
            parent: None,
            decided: None,
            edges: Vec::new(),
            next: None,
        };
        self.charge();
        self.credit();
        self.push(root);
        while let Some(Reverse((Cost(cost), at))) = self.open.pop() {
            if cost >= self.enough() {
                return Ended { cost, closed: true };
            }
            if self.search.spent >= self.until || self.nodes.len() >= MAX_NODES {
                return Ended { cost, closed: false };
            }
            let Some((edge, service)) = self.nodes[at].next else {
                continue;
            };
            for fix in [Fix::In, Fix::Out] {
                let node = Node {
                    parent: Some(at),
                    decided: Some((edge, service, fix)),
                    edges: self.nodes[at].edges.clone(),
                    next: None,
                };
                self.push(node);
            }
        }
        let best = &self.search.best;
        let cost = if best.meets() { best.cost } else { f64::INFINITY };
        Ended { cost, closed: true }
    }

    /// A node that costs so much can't lead to anything better.
    fn enough(&self) -> f64 {
        let best = &self.search.best;
        if best.meets() {
            best.cost - SAME * best.cost.abs()
        } else {
            f64::INFINITY
        }
    }

    /// The decisions about an edge on the way to a node.
    fn fixed(&self, node: &Node, edge: usize) -> Vec<Fix> {
        let mut fixed = pinned(self.search.problem);
        let mut step = node.decided.map(|decided| (decided, node.parent));
        while let Some(((of, service, fix), parent)) = step {
            if of == edge {
                fixed[service.position()] = fix;
            }
            step = parent.and_then(|parent| {
                let above = &self.nodes[parent];
                Some((above.decided?, above.parent))
            });
        }
        fixed
    }

    /// Bounds a node and opens it where it may lead to something better.
    fn push(&mut self, mut node: Node) {
        let changed = node.decided.map(|(edge, ..)| edge);
        let mut offers: Vec<Option<Bits>> = vec![None; self.relaxed.len()];
        let mut widest: Option<(f64, usize, ServiceIx)> = None;
        let mut hopeless = false;
        for (edge, offer) in offers.iter_mut().enumerate() {
            if changed.is_some_and(|changed| changed != edge) {
                continue;
            }
            self.relaxed[edge].fixed = self.fixed(&node, edge);
            let start = node
                .edges
                .get(edge)
                .map_or((0.0, 0.0), |known| (known.price, known.bytes));
            let others: f64 = node
                .edges
                .iter()
                .enumerate()
                .filter(|(other, _)| *other != edge)
                .map(|(_, known)| known.cost)
                .sum();
            let enough = self.enough() - self.constant - others;
            let found = self.bound(edge, start, enough);
            if found.cost == f64::INFINITY {
                if changed.is_some() {
                    return;
                }
                *offer = found.keeps;
                hopeless = true;
                continue;
            }
            if let Some((width, service)) = self.widest(edge, &found)
                && widest.as_ref().is_none_or(|(known, ..)| width > *known)
            {
                widest = Some((width, edge, service));
            }
            let known = Known {
                cost: found
                    .cost
                    .max(node.edges.get(edge).map_or(f64::NEG_INFINITY, |known| known.cost)),
                price: found.price,
                bytes: found.bytes,
            };
            match node.edges.get_mut(edge) {
                Some(cell) => *cell = known,
                None => node.edges.push(known),
            }
            *offer = found.keeps;
        }
        self.offer(&offers);
        if hopeless {
            return;
        }
        let cost = self.constant + node.edges.iter().map(|known| known.cost).sum::<f64>();
        if cost >= self.enough() {
            return;
        }
        node.next = widest
            .map(|(_, edge, service)| (edge, service))
            .or_else(|| self.undecided(&node));
        if node.next.is_none() {
            // All is decided: what is left of the gap is the relaxation's, not a choice's.
            let decided = (0..self.relaxed.len()).map(|edge| {
                let fixed = self.fixed(&node, edge);
                Bits::of(fixed.len(), |service| fixed[service.position()] == Fix::In)
            });
            let decided: Vec<Bits> = decided.collect();
            self.search.offer(&decided, Origin::Relaxation);
            return;
        }
        self.open.push(Reverse((Cost(cost), self.nodes.len())));
        self.nodes.push(node);
    }

    /// Bounds an edge; where calls are made at once, also with the weights of the placement that the bound came with.
    fn bound(&mut self, edge: usize, start: (f64, f64), enough: f64) -> Bounded {
        let limit = self.search.limits_us[edge];
        let mut found = bound(&mut self.relaxed[edge], limit, start, enough);
        self.search.spent += found.spent;
        if self.relaxed[edge].weighted() && found.cost < enough {
            let first = found.keeps.clone();
            if let Some(here) = &first {
                self.relaxed[edge].weigh(here);
            }
            let again = bound(&mut self.relaxed[edge], limit, (found.price, found.bytes), enough);
            self.search.spent += again.spent;
            if again.cost > found.cost {
                found = again;
            }
        }
        found
    }

    /// Credits the rounding of the cloud's replicas to instances, by the placements that the bounds come with.
    fn credit(&mut self) {
        let fixed = self.constant;
        let mut best = (f64::NEG_INFINITY, Bits::new(self.search.problem.services_len()));
        let mut several = best.1.clone();
        let rounds = if self.relaxed.len() > 1 { CREDITS } else { 1 };
        for _ in 0..rounds {
            self.relaxed
                .iter_mut()
                .for_each(|relaxed| relaxed.credit(&several));
            let mut cost = self.relaxed.first().map_or(0.0, Relaxed::cloud_cost);
            let mut seen = Bits::new(self.search.problem.services_len());
            let mut again = seen.clone();
            for edge in 0..self.relaxed.len() {
                self.relaxed[edge].fixed = pinned(self.search.problem);
                let found = self.bound(edge, (0.0, 0.0), f64::INFINITY);
                cost += found.cost;
                for j in found.keeps.iter().flat_map(Bits::iter) {
                    again.set(j, again.contains(j) || seen.contains(j));
                    seen.set(j, true);
                }
            }
            if cost > best.0 {
                best = (cost, several);
            }
            several = again;
        }
        self.relaxed
            .iter_mut()
            .for_each(|relaxed| relaxed.credit(&best.1));
        self.constant = fixed + self.relaxed.first().map_or(0.0, Relaxed::cloud_cost);
    }

    /// Prices the room of edges that lack it, one kind after the other: the rent with the highest bound of a few.
    fn charge(&mut self) {
        for edge in 0..self.relaxed.len() {
            self.relaxed[edge].fixed = pinned(self.search.problem);
            let room = self
                .search
                .problem
                .edge(self.search.edges[edge])
                .map(|edge| edge.capacity)
                .unwrap_or_default();
            let kinds = [
                (room.cpu.is_some(), Kind::Core),
                (room.memory.is_some(), Kind::Gigabyte),
                (room.pods.is_some(), Kind::Pod),
            ];
            let mut best = (f64::NEG_INFINITY, Rent::default());
            for (_, kind) in kinds.into_iter().filter(|(limited, _)| *limited) {
                let from = best.1;
                for step in 0..RENTS {
                    let price = if step == 0 {
                        0.0
                    } else {
                        CHEAPEST_RENT * 2.0_f64.powi(step)
                    };
                    let rent = from.with(kind, price);
                    self.relaxed[edge].charge(rent);
                    let found = self.bound(edge, (0.0, 0.0), f64::INFINITY);
                    if found.cost > best.0 {
                        best = (found.cost, rent);
                    }
                }
            }
            self.relaxed[edge].charge(best.1);
        }
    }

    /// Tries the placement that a bound came with, and what is left of it without what it doesn't need.
    fn offer(&mut self, offers: &[Option<Bits>]) {
        let sets: Vec<Bits> = offers
            .iter()
            .zip(&self.search.best.sets)
            .map(|(offer, best)| offer.clone().unwrap_or_else(|| best.clone()))
            .collect();
        self.search.go_to(&sets);
        let candidate = self.search.stand(Origin::Relaxation);
        if candidate.compare(&self.search.best).is_lt() {
            let candidate = self.search.prune(candidate);
            self.search.keep(candidate);
        }
    }

    /// What to decide next at an edge, and how much of the gap it stands for: where replicas may be off most, who may call
    /// that service; else the service in which the two choices at the best price differ and that most calls reach.
    fn widest(&self, edge: usize, found: &Bounded) -> Option<(f64, ServiceIx)> {
        let (price, replicas) = found.split;
        if let Some((loose, service)) = replicas
            && loose > price
            && let Some(above) = self.relaxed[edge].undecided_above(service)
        {
            return Some((loose, above));
        }
        let differing = match (&found.keeps, &found.breaks) {
            (Some(keeps), Some(breaks)) => keeps.differing(breaks),
            _ => return None,
        };
        let at = self.search.edges[edge];
        let layout = self.search.now.layout();
        let free = differing
            .iter()
            .filter(|j| self.relaxed[edge].fixed[*j] == Fix::Free);
        let most = free
            .map(ServiceIx::at)
            .map(|service| (layout.calls(at, service), service))
            .max_by(|one, other| one.0.total_cmp(&other.0).then(other.1.cmp(&one.1)))?;
        Some((price, most.1))
    }

    /// Any service that is not decided: the choices agree, yet the bound is below the placement's cost.
    fn undecided(&self, node: &Node) -> Option<(usize, ServiceIx)> {
        let layout = self.search.now.layout();
        let mut best: Option<(f64, usize, ServiceIx)> = None;
        for edge in 0..self.relaxed.len() {
            let fixed = self.fixed(node, edge);
            for (service, _) in self.search.problem.services() {
                let calls = layout.calls(self.search.edges[edge], service);
                let free = fixed[service.position()] == Fix::Free && calls > 0.0;
                if free && best.as_ref().is_none_or(|(known, ..)| calls > *known) {
                    best = Some((calls, edge, service));
                }
            }
        }
        best.map(|(_, edge, service)| (edge, service))
    }
}

/// What pins decide.
pub(super) fn pinned(problem: &Problem) -> Vec<Fix> {
    let fix = |pin| match pin {
        Pin::Free => Fix::Free,
        Pin::Cloud => Fix::Out,
        Pin::Edge => Fix::In,
    };
    problem.services().map(|(_, service)| fix(service.pin)).collect()
}
