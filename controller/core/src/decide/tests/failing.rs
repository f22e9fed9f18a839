//! Edges that fail: as a whole, or in what they answer.

use super::world::{EDGE, World, area};
use crate::cluster::Phase as Life;
use crate::decide::{Outcome, Phase, Trigger};

fn offloaded() -> World {
    let mut world = World::new(&[EDGE]);
    world.edge().rtt_ms = 150.0;
    world.run_until(120, |w| {
        w.outcomes() == [&Outcome::Kept] && *w.phase() == Phase::Observing
    });
    world
}

#[test]
fn an_edge_that_is_away_as_a_whole_keeps_what_it_had() {
    let mut world = offloaded();
    let written = world.effects.len();
    let at_edge: Vec<_> = world
        .instances
        .keys()
        .filter(|(_, at)| *at == area(EDGE))
        .cloned()
        .collect();
    let mut turn = |life, why: Option<&str>| {
        let now = world.now;
        world
            .instances
            .extend(at_edge.iter().map(|place| (place.clone(), (life, now))));
        world.unavailable = why.map(|why| (area(EDGE), why.to_owned())).into_iter().collect();
        (0..20).for_each(|_| world.tick());
    };
    turn(Life::Failed, Some("no node is ready"));
    turn(Life::Ready, None);
    assert_eq!(world.effects.len(), written, "{}", world.story.join("\n"));
}

#[test]
fn an_edge_that_answers_with_errors_loses_its_traffic_and_gets_it_back_no_sooner_than_backed_off() {
    let mut world = offloaded();
    world.edge().edge_errors = 0.9;
    let is_away = |w: &World| ["front", "cart"].map(|service| w.share(service)) == [0, 0];
    let took = world.run_until(60, is_away);
    assert!(took.as_secs() <= 45, "{took:?}:\n{}", world.story.join("\n"));
    let first = world
        .decisions()
        .into_iter()
        .find(|decision| decision.trigger == Trigger::Failing);
    assert_eq!(
        first.unwrap().remove,
        ["cart".into()].into(),
        "front fails because cart does:\n{}",
        world.story.join("\n")
    );
    for _ in 0..60 {
        world.run(1);
        assert!(is_away(&world), "{}", world.story.join("\n"));
    }
}

#[test]
fn errors_that_the_edge_does_not_make_move_nothing() {
    let mut world = offloaded();
    let written = world.effects.len();
    world.edge().user_errors = 0.3;
    world.run(60);
    assert_eq!(world.effects.len(), written, "{}", world.story.join("\n"));
}
