//! Several edges in one evaluation.

use std::collections::BTreeSet;

use super::world::{World, area};
use crate::decide::{Direction, HoldReason, Outcome, Phase};
use crate::ids::ServiceName;

const EDGES: [&str; 3] = ["edge-1", "edge-2", "edge-3"];

fn set<const N: usize>(services: [&str; N]) -> BTreeSet<ServiceName> {
    services.map(ServiceName::from).into()
}

fn all_slow(edges: &[&str]) -> World {
    let mut world = World::new(edges);
    world.run(10);
    for edge in world.edges.values_mut() {
        edge.rtt_ms = 150.0;
    }
    world
}

fn phase<'a>(world: &'a World, edge: &str) -> &'a Phase {
    &world.state.edges[&area(edge)].phase
}

#[test]
fn edges_that_leave_the_band_together_are_one_question() {
    let mut world = all_slow(&EDGES[..2]);
    world.run_until(10, |w| !w.asked.borrow().is_empty());
    let asked = world.asked.borrow().clone();
    let [asks] = &asked[..] else { panic!("{asked:?}") };
    let edges: Vec<_> = asks
        .iter()
        .map(|ask| (ask.edge.as_str(), ask.direction))
        .collect();
    assert_eq!(
        edges,
        [("edge-1", Direction::Offload), ("edge-2", Direction::Offload)]
    );
    assert!(
        asks.iter()
            .all(|ask| ask.target_us == 90e3 && ask.fixed.is_empty())
    );
}

#[test]
fn a_plan_that_waits_does_not_hold_the_others() {
    let mut world = all_slow(&EDGES);
    world.script.insert(area("edge-1"), set(["front"]));
    world.script.insert(area("edge-2"), set(["front", "ads"]));
    world.script.insert(area("edge-3"), set(["cart"]));
    world.run_until(10, |w| matches!(phase(w, "edge-1"), Phase::Acting { .. }));
    assert!(matches!(phase(&world, "edge-3"), Phase::Acting { .. }));
    let busy = HoldReason::ServiceBusy {
        service: "front".into(),
        edge: area("edge-1"),
    };
    assert!(
        matches!(phase(&world, "edge-2"), Phase::Held { reason, .. } if *reason == busy),
        "{}",
        world.story.join("\n")
    );
    assert_eq!(world.asked.borrow().len(), 1);
    // Once the first is through, the second moves.
    world.run_until(300, |w| matches!(phase(w, "edge-2"), Phase::Acting { .. }));
    assert!(!matches!(
        phase(&world, "edge-1"),
        Phase::Acting { .. } | Phase::Verifying { .. }
    ));
}

#[test]
fn the_last_move_of_the_hour_is_given_once() {
    let mut world = all_slow(&EDGES[..2]);
    world.config.moves_per_hour = 1;
    world.script.insert(area("edge-1"), set(["front"]));
    world.script.insert(area("edge-2"), set(["cart"]));
    world.run_until(10, |w| matches!(phase(w, "edge-1"), Phase::Acting { .. }));
    assert!(matches!(
        phase(&world, "edge-2"),
        Phase::Held {
            reason: HoldReason::MovesSpent { per_hour: 1 },
            ..
        }
    ));
}

#[test]
fn an_edge_without_a_plan_does_not_hold_the_others() {
    let mut world = all_slow(&EDGES[..2]);
    world.edges.get_mut(&area("edge-1")).unwrap().silent = true;
    world.run_until(10, |w| matches!(phase(w, "edge-2"), Phase::Acting { .. }));
    world.run_until(120, |w| {
        let decisions = &w.state.edges[&area("edge-2")].decisions;
        decisions.iter().any(|decision| decision.outcome == Outcome::Kept)
    });
    assert!(matches!(
        phase(&world, "edge-1"),
        Phase::Held {
            reason: HoldReason::EdgeSilent { .. },
            ..
        }
    ));
}
