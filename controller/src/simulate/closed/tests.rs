use super::*;

#[test]
fn a_seed_is_a_story_that_can_be_told_again() {
    let scenario = Scenario::of_seed(3).unwrap();
    let runs = [run(&scenario), run(&scenario)];
    assert_eq!(runs[0].as_ref().ok(), runs[1].as_ref().ok());
}
