//! The call graph: sparse rows, in an order in which calls can be followed, cycles found and checked.

use super::ix::ServiceIx;
use super::linear;

/// More calls than this for one request (of any service, through all its descendants) are refused: the figures would
/// say nothing, and the bound keeps every later number finite. It also bounds how near to 1 a spectral radius may be.
pub const MAX_CALLS: f64 = 1e9;

/// Cycles through more services than this are refused: one is solved as a dense system.
pub const MAX_CYCLE: usize = 512;

/// Services that call each other in a cycle, or one service.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Block {
    pub(super) members: Vec<ServiceIx>,
    /// More than one member, or a member that calls itself.
    pub(super) cyclic: bool,
}

/// Why a call graph has no finite number of calls.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum GraphError {
    Endless(Vec<ServiceIx>),
    CycleTooLong(usize),
    TooManyCalls(ServiceIx),
}

/// Mean calls per request received.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct CallGraph {
    rows: Vec<Vec<(ServiceIx, f64)>>,
    /// Callees before their callers.
    blocks: Vec<Block>,
}

// === impl CallGraph ===

impl CallGraph {
    /// Rows with each callee at most once, in order; all callees exist.
    pub(super) fn try_new(rows: Vec<Vec<(ServiceIx, f64)>>) -> Result<Self, GraphError> {
        let blocks = Components::of(&rows);
        let graph = Self { rows, blocks };
        graph.check()?;
        Ok(graph)
    }

    pub(super) fn row(&self, service: ServiceIx) -> &[(ServiceIx, f64)] {
        self.rows.get(service.position()).map_or(&[], Vec::as_slice)
    }

    pub(super) fn callees_first(&self) -> impl DoubleEndedIterator<Item = &Block> {
        self.blocks.iter()
    }

    /// Calls that a request of each service makes through all its descendants, itself included: G = (I − F)⁻¹·1.
    /// It exists exactly where each cycle's I − F is a non-singular M-matrix, that is, where the spectral radius is
    /// below 1; and that is so exactly where elimination without exchange meets positive pivots only.
    fn check(&self) -> Result<(), GraphError> {
        let mut calls = vec![0.0; self.rows.len()];
        for block in &self.blocks {
            let size = block.members.len();
            if size > MAX_CYCLE {
                return Err(GraphError::CycleTooLong(size));
            }
            let mut right: Vec<f64> = block
                .members
                .iter()
                .map(|&i| 1.0 + self.total(i, &calls))
                .collect();
            if block.cyclic {
                let mut matrix = self.block_matrix(block);
                if linear::solve(&mut matrix, &mut right) < 1.0 / MAX_CALLS {
                    return Err(GraphError::Endless(block.members.clone()));
                }
            }
            for (&service, value) in block.members.iter().zip(right) {
                if value.is_nan() || value > MAX_CALLS {
                    return Err(GraphError::TooManyCalls(service));
                }
                if let Some(cell) = calls.get_mut(service.position()) {
                    *cell = value;
                }
            }
        }
        Ok(())
    }

    /// Σ f·value over the callees; members of the same block count 0 as long as they are not known.
    fn total(&self, service: ServiceIx, values: &[f64]) -> f64 {
        let value = |callee: &ServiceIx| values.get(callee.position()).copied().unwrap_or_default();
        self.row(service)
            .iter()
            .map(|(callee, f)| f * value(callee))
            .sum()
    }

    fn block_matrix(&self, block: &Block) -> Vec<f64> {
        let of = |i: ServiceIx, j: ServiceIx| {
            let f = self
                .row(i)
                .iter()
                .find(|(callee, _)| *callee == j)
                .map_or(0.0, |(_, f)| *f);
            if i == j { 1.0 - f } else { -f }
        };
        let members = &block.members;
        members
            .iter()
            .flat_map(|&i| members.iter().map(move |&j| of(i, j)))
            .collect()
    }
}

/// Tarjan's strongly connected components, without recursion: a chain of a million services is no stack overflow.
struct Components<'a> {
    rows: &'a [Vec<(ServiceIx, f64)>],
    /// Order of discovery; none: not seen yet.
    found: Vec<Option<usize>>,
    lowest: Vec<usize>,
    open: Vec<bool>,
    stack: Vec<usize>,
    next: usize,
    blocks: Vec<Block>,
}

impl<'a> Components<'a> {
    fn of(rows: &'a [Vec<(ServiceIx, f64)>]) -> Vec<Block> {
        let count = rows.len();
        let mut this = Self {
            rows,
            found: vec![None; count],
            lowest: vec![0; count],
            open: vec![false; count],
            stack: Vec::new(),
            next: 0,
            blocks: Vec::new(),
        };
        for start in 0..count {
            this.visit(start);
        }
        this.blocks
    }

    #[expect(
        clippy::indexing_slicing,
        reason = "all are positions of rows, and every callee was checked to exist"
    )]
    fn visit(&mut self, start: usize) {
        if self.found[start].is_some() {
            return;
        }
        self.enter(start);
        let mut path = vec![(start, 0)];
        while let Some((node, edge)) = path.pop() {
            if let Some((callee, _)) = self.rows[node].get(edge) {
                path.push((node, edge + 1));
                let callee = callee.position();
                match self.found[callee] {
                    None => {
                        self.enter(callee);
                        path.push((callee, 0));
                    }
                    Some(found) if self.open[callee] => self.lowest[node] = self.lowest[node].min(found),
                    Some(_) => {}
                }
                continue;
            }
            if let Some((parent, _)) = path.last() {
                self.lowest[*parent] = self.lowest[*parent].min(self.lowest[node]);
            }
            if self.found[node] == Some(self.lowest[node]) {
                self.close(node);
            }
        }
    }

    #[expect(clippy::indexing_slicing, reason = "a position of rows")]
    fn enter(&mut self, node: usize) {
        self.found[node] = Some(self.next);
        self.lowest[node] = self.next;
        self.open[node] = true;
        self.next += 1;
        self.stack.push(node);
    }

    #[expect(clippy::indexing_slicing, reason = "the stack holds positions of rows")]
    fn close(&mut self, root: usize) {
        let mut members = Vec::new();
        while let Some(node) = self.stack.pop() {
            self.open[node] = false;
            members.push(ServiceIx::at(node));
            if node == root {
                break;
            }
        }
        members.sort_unstable();
        let cyclic = members.len() > 1
            || self.rows[root]
                .iter()
                .any(|(callee, _)| callee.position() == root);
        self.blocks.push(Block { members, cyclic });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(count: usize, calls: &[(u32, u32, f64)]) -> Result<CallGraph, GraphError> {
        let mut rows = vec![Vec::new(); count];
        for &(i, j, f) in calls {
            rows[i as usize].push((ServiceIx(j), f));
        }
        CallGraph::try_new(rows)
    }

    #[test]
    fn callees_come_before_callers() {
        let graph = graph(4, &[(0, 1, 1.0), (0, 2, 1.0), (1, 3, 2.0), (2, 3, 2.0)]).unwrap();
        let order: Vec<u32> = graph.callees_first().map(|block| block.members[0].0).collect();
        let place = |service| order.iter().position(|&i| i == service).unwrap();
        assert!(place(3) < place(1) && place(3) < place(2) && place(1) < place(0) && place(2) < place(0));
    }

    #[test]
    fn a_cycle_below_one_is_accepted_and_one_at_one_refused() {
        assert!(graph(2, &[(0, 1, 1.0), (1, 0, 0.99)]).is_ok());
        assert_eq!(
            graph(2, &[(0, 1, 1.0), (1, 0, 1.0)]),
            Err(GraphError::Endless(vec![ServiceIx(0), ServiceIx(1)]))
        );
        assert!(graph(1, &[(0, 0, 0.5)]).is_ok());
        assert_eq!(
            graph(1, &[(0, 0, 1.5)]),
            Err(GraphError::Endless(vec![ServiceIx(0)]))
        );
    }

    #[test]
    fn calls_that_multiply_without_end_are_refused() {
        let doubling: Vec<_> = (0..40).map(|i| (i, i + 1, 2.0)).collect();
        assert!(matches!(graph(41, &doubling), Err(GraphError::TooManyCalls(_))));
    }

    #[test]
    fn a_long_chain_needs_no_deep_stack() {
        let chain: Vec<_> = (0..200_000).map(|i| (i, i + 1, 0.5)).collect();
        assert_eq!(graph(200_001, &chain).unwrap().callees_first().count(), 200_001);
    }
}
