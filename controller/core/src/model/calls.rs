//! Calls that reach each instance, and the matrix of a cycle. The formula is [`super::EdgeEvaluation`]'s.

use super::graph::Block;
use super::ix::{AreaIx, EdgeIx, Grid, ServiceIx};
use super::linear;
use super::problem::Problem;
use super::shares::Shares;
use super::spec::Edge;

/// N = (I − Fᵀ)⁻¹·u with F over instances, F[(i,a)][(j,b)] = f_ij·w[a][j][b]: followed from callers to callees, exactly
/// (no residues where nothing is called), with a small solve for each cycle.
pub(super) fn calls_per_user_request(
    problem: &Problem,
    edge: EdgeIx,
    value: &Edge,
    shares: &Shares,
) -> Grid<f64> {
    let mut calls = Grid::new(problem.services_len(), problem.edges_len());
    for &(service, per_request) in &value.user_calls {
        for area in problem.areas() {
            calls.add(
                service,
                area,
                per_request.as_f64() * shares.get(AreaIx::Edge(edge), service, area),
            );
        }
    }
    for block in problem.graph().callees_first().rev() {
        if block.cyclic {
            let cells = block_cells(problem, block);
            let mut right: Vec<f64> = cells.map(|(service, area)| calls.get(service, area)).collect();
            let mut matrix = block_matrix(
                problem,
                block,
                |caller, callee, f| f * shares.get(caller.1, callee.0, callee.1),
                true,
            );
            linear::solve(&mut matrix, &mut right);
            let solved = block_cells(problem, block).zip(right);
            solved.for_each(|((service, area), value)| calls.set(service, area, value.max(0.0)));
        }
        for (service, area) in block_cells(problem, block) {
            let here = calls.get(service, area);
            if here == 0.0 {
                continue;
            }
            for &(callee, f) in problem.calls_of(service) {
                if block.cyclic && block.members.contains(&callee) {
                    continue;
                }
                for to in problem.areas() {
                    calls.add(callee, to, here * f * shares.get(area, callee, to));
                }
            }
        }
    }
    calls
}

/// A service in an area.
pub(super) type Cell = (ServiceIx, AreaIx);

pub(super) fn block_cells<'a>(problem: &'a Problem, block: &'a Block) -> impl Iterator<Item = Cell> + 'a {
    block
        .members
        .iter()
        .flat_map(|&service| problem.areas().map(move |area| (service, area)))
}

/// I − F over the instances of a cycle, or I − Fᵀ; `weight` makes F of caller, callee and calls per request.
pub(super) fn block_matrix(
    problem: &Problem,
    block: &Block,
    weight: impl Fn(Cell, Cell, f64) -> f64,
    transposed: bool,
) -> Vec<f64> {
    let size = block.members.len() * (problem.edges_len() + 1);
    let mut matrix = vec![0.0; size * size];
    let positions = || block_cells(problem, block).enumerate();
    for (row, caller) in positions() {
        let calls = problem.calls_of(caller.0);
        for (column, callee) in positions() {
            let f = calls
                .iter()
                .find(|(service, _)| *service == callee.0)
                .map_or(0.0, |(_, f)| *f);
            let cell = if transposed {
                column * size + row
            } else {
                row * size + column
            };
            if let Some(cell) = matrix.get_mut(cell) {
                *cell = f64::from(u8::from(row == column))
                    - if f > 0.0 { weight(caller, callee, f) } else { 0.0 };
            }
        }
    }
    matrix
}
