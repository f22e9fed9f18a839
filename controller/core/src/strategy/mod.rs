//! The strategies of the µPlacer reference, by name; [`crate::solver`] is what decides.
//!
//! [`run`] runs the strategies of the µPlacer reference (Detti et al.) by name.
//! They change one edge; others are left as they are. They know neither capacity nor a measured delay: the solver does.
//! A strategy's idea is followed even where a better one is easy to name, because its name stands for it; mistakes of
//! its program are not. Each that changes a result can be repeated ([`Defects`]), so that a difference from a recorded
//! run can be put down to it.
//!
//! | defect | the reference | here |
//! |---|---|---|
//! | S1 | always uses a CPU threshold of 0.6 | the problem's thresholds |
//! | S2 | fails on cycles and self-calls | works; removal never breaks up a cycle, Kahn ranks it last |
//! | [S3](Defect::S3) | orders candidates by their members, or past 256 as the CPU likes | by how often they were drawn, then by members |
//! | [S4](Defect::S4) | unoffload ignores the expanding depth | obeys it |
//! | [S5](Defect::S5) | candidates keep services that the edge does not reach, or lose those that it does | exactly those that it reaches |
//! | [S6](Defect::S6) | removes leaves at a loss | only where it costs nothing |
//! | [S7](Defect::S7) | adds up to the stop condition, removes down to the target | the stop condition for both |
//! | S8, S9, S11, S19 | NaN, infinite or no cost and delay, replicas by rounding | see [`crate::model`] |
//! | S10, S12, S20 | memory, speed, unused arguments | not here |
//! | S13 | a saving is divided by its gain: less gain is better | the same: SBMP's criterion |
//! | S14 | goes on through placements that are slower | the same: else nothing is ever added where the first service must be slower |
//! | [S15](Defect::S15) | IA can't unoffload and fails on a target out of reach | removes the service with least calls to the rest; ends |
//! | S16, S17 | endless loops, failures on empty sets or missing parameters | ends; the goal is one value |
//! | S18 | counts no least replica at an edge | the problem's minimum |
//! | S21 | as many paths as there are | [`Params::max_paths`], the shortest |
//! | S22 | targets of seconds on saturated links | the same |
//!
//! Beyond these: COPAMP can unoffload, all strategies keep locks and pins, IA and TA end where nothing is left that is
//! called.

mod reference;

pub use reference::{Defect, Defects, Goal, Outcome, Params, Strategy, Traces, UnknownStrategy, run};
