//! The embedded topology with its ten services, the real cell and the real filter.

use std::time::{Duration, Instant};

use gma_local::{Topology, World};
use gma_tests::local::{Sent, Users, built, ensure_at_edge, envoy, gateway, host, instance, split, until};

/// From a change's answer to the first request by it, on a busy machine.
const PROPAGATION: Duration = Duration::from_millis(500);

#[tokio::test]
async fn the_embedded_application_serves_and_moves_without_a_failed_request() {
    // Nobody listens there: the filter must not need a controller.
    let mut topology = Topology::embedded("127.0.0.1:9".parse().unwrap()).unwrap();
    topology.envoy = Some(envoy());
    topology.filter = Some(built("GMA_FILTER", "target/gma-filter.wasm"));
    topology.app.as_mut().unwrap().cell = Some(built("GMA_CELL", "target/release/gma-cell"));
    let start = Instant::now();
    let world = World::start(
        topology,
        std::env::var_os("KEEP").as_deref().map(std::path::Path::new),
    )
    .await
    .unwrap();
    println!(
        "ten services, their Envoys and a gateway are ready after {:.1?}",
        start.elapsed()
    );
    let client = world.client();
    let users = Users::at(gateway(&client).await);
    let state = client.state().await.unwrap();
    assert_eq!((state.services.len(), state.envoys.len()), (10, 11));

    let at_rest = users.send_each("/api/v1", 20).await;
    assert!(at_rest.iter().all(Sent::is_ok), "{at_rest:?}");
    let load = users.load(20, &["/api/v1"]);
    for service in ["s0", "s1"] {
        ensure_at_edge(&client, service).await;
    }
    for (service, edge) in [("s1", 99), ("s0", 10), ("s0", 50), ("s0", 99), ("s0", 0)] {
        client.route(split(service, edge)).await.unwrap();
        tokio::time::sleep(PROPAGATION).await;
    }
    client.remove(host("s0"), "edge-1".into()).await.unwrap();
    until(&client, "s0 gone from the edge", |state| {
        instance(state, "s0", "edge-1").is_none()
    })
    .await;
    let sent = load.end().await;
    let failed: Vec<_> = sent.iter().filter(|sent| !sent.is_ok()).collect();
    println!("{} requests, {} failed", sent.len(), failed.len());
    assert!(failed.is_empty(), "{failed:?}");
    let state = client.state().await.unwrap();
    assert!(instance(&state, "s0", "cloud").unwrap().cpu_seconds.unwrap() > 0.0);
    world.stop().await;
}
