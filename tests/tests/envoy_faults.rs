//! Three of the faults that `make chaos` tries, with the same code and the same expectations.

use gma_tests::chaos::Fault;

async fn is_as_expected(fault: Fault) {
    let row = fault.run().await;
    println!("{row:#?}");
    assert!(row.is_as_expected(), "{:#?}", row.complaints);
    assert!(row.sent > 100, "only {} requests were sent", row.sent);
}

#[tokio::test(flavor = "multi_thread")]
async fn envoy_an_edge_instance_is_killed() {
    is_as_expected(Fault::EdgeInstanceKilled).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn envoy_the_wan_is_cut_and_nothing_is_written() {
    is_as_expected(Fault::WanCut).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn envoy_the_controller_is_killed_and_goes_on_after_a_restart() {
    is_as_expected(Fault::ControllerRestarted).await;
}
