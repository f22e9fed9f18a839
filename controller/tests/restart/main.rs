//! The controller ends at any moment, and the next one goes on: the whole control loop against a mesh in memory.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails where it stands"
)]

mod mesh;

use std::sync::{Arc, Mutex};

use gma::control::ControlLoop;
use gma::memory::Memory;
use gma::platform::{EffectError, Loaded, Platform as _};
use gma::shared::Shared;
use gma_core::decide::{Config, Effect, Mode, Outcome, State};
use gma_core::ids::Timestamp;
use gma_telemetry::Telemetry;
use serde_json::Value;

use mesh::{EDGE, Kill, Mesh, SERVICES, Steered};

/// Ticks without a controller, after one was killed: 4 s.
const AWAY: usize = 8;
const AWAY_MS: u64 = 4_000;
/// Ticks until a step of the WAN or of the load has been dealt with, a failed move's back-off of 2 minutes included.
const PATIENCE: usize = 700;

/// A controller that may be killed, and the mesh under it.
struct Running {
    mesh: Arc<Mutex<Mesh>>,
    controller: Option<(Arc<Shared>, ControlLoop<Steered>)>,
    away: usize,
    killed: usize,
}

impl Running {
    async fn new(kill: Option<Kill>) -> Self {
        let mut mesh = Mesh::new();
        mesh.kill = kill;
        let mut running = Self {
            mesh: Arc::new(Mutex::new(mesh)),
            controller: None,
            away: 0,
            killed: 0,
        };
        running.start().await;
        running
    }

    async fn start(&mut self) {
        let mut platform = Steered(Arc::clone(&self.mesh));
        let memory = match platform.load().await.unwrap() {
            Loaded::Memory(memory) => {
                let written = memory.machine.wall_unix_ms.unwrap();
                memory.resume(written + AWAY_MS)
            }
            Loaded::Nothing => Default::default(),
            Loaded::SetAside { why, .. } => panic!("{why}"),
        };
        let mut config = Config::new("cloud".into(), [EDGE.into()]);
        config.mode = Mode::Enforce;
        let shared = Arc::new(Shared::new(
            Telemetry::new(gma_telemetry::Config::default()),
            Timestamp::default(),
        ));
        let control = ControlLoop::new(Arc::clone(&shared), platform, config, memory);
        self.controller = Some((shared, control));
    }

    /// A tick of the mesh, and a round of the controller if there is one.
    async fn tick(&mut self) {
        let now = {
            let mut mesh = self.mesh.lock().unwrap();
            mesh.tick();
            mesh.now
        };
        let Some((shared, control)) = &mut self.controller else {
            self.away += 1;
            if self.away == AWAY {
                self.start().await;
            }
            return;
        };
        self.mesh.lock().unwrap().report(&mut shared.telemetry());
        // Nothing in a round waits for anything, but for the point at which the controller ends.
        let went_on = tokio::select! {
            biased;
            result = control.round(now) => {
                result.unwrap();
                true
            }
            () = std::future::ready(()) => false,
        };
        if !went_on {
            self.controller = None;
            self.away = 0;
            self.killed += 1;
            self.mesh.lock().unwrap().kill = None;
        }
    }

    async fn ticks(&mut self, count: usize) {
        for _ in 0..count {
            self.tick().await;
        }
    }

    fn mesh(&self) -> std::sync::MutexGuard<'_, Mesh> {
        self.mesh.lock().unwrap()
    }

    /// What the controller says.
    fn view(&self) -> Option<Value> {
        let (shared, _) = self.controller.as_ref()?;
        Some(serde_json::from_str(shared.round()?.view.get()).unwrap())
    }

    /// What it says of the edge.
    fn account(&self) -> Option<Value> {
        Some(self.view()?["edges"][EDGE].clone())
    }

    /// Whether the controller rests with `placed` services at the edge.
    fn rests_with(&self, placed: usize) -> bool {
        let is_at_rest = self
            .account()
            .is_some_and(|account| account["phase"] == "observing");
        let mesh = self.mesh();
        let (at_edge, weight) = (
            mesh.is_placed(SERVICES[0]),
            SERVICES.map(|service| mesh.share(service)),
        );
        let count = SERVICES.iter().filter(|service| mesh.is_placed(service)).count();
        let whole = SERVICES.iter().zip(weight).all(|(service, weight)| {
            if mesh.is_placed(service) {
                weight == 99
            } else {
                weight == 0
            }
        });
        is_at_rest && count == placed && whole && at_edge == (placed > 0)
    }

    async fn until_rests_with(&mut self, placed: usize, story: &str) {
        for _ in 0..PATIENCE {
            self.tick().await;
            if self.rests_with(placed) {
                return;
            }
        }
        let mesh = self.mesh();
        panic!(
            "{story}: not at rest with {placed} services at the edge at {:?}: {:?}\n{:#?}",
            mesh.now,
            self.account(),
            (&mesh.instances, &mesh.routing)
        );
    }

    /// In the band; then a slow WAN until all is at the edge; then a fast one and little work until all is back.
    async fn there_and_back(&mut self, story: &str) {
        self.ticks(20).await;
        self.mesh().rtt_ms = 60;
        self.until_rests_with(SERVICES.len(), story).await;
        self.mesh().rtt_ms = 20;
        self.mesh().own_ms = 15;
        self.until_rests_with(0, story).await;
        assert_eq!(self.mesh().failed, 0, "{story}");
    }

    fn saved(&self) -> State {
        Memory::decode(self.mesh().disk.as_ref().unwrap())
            .unwrap()
            .machine
            .state
    }
}

#[tokio::test]
async fn wherever_the_controller_is_killed_the_next_one_finishes_or_goes_back() {
    let mut whole = Running::new(None).await;
    whole.there_and_back("not killed").await;
    let steps = whole.mesh().done;
    let saves = whole.mesh().saves;
    println!("{steps} steps, {saves} of them saves");
    assert!(steps > 20, "{steps}");
    // Readings alone write nothing.
    assert!(saves < 60, "{saves}");
    for number in 0..steps {
        for kill in [Kill::Before(number), Kill::After(number)] {
            let story = format!("{kill:?}");
            let mut running = Running::new(Some(kill)).await;
            running.there_and_back(&story).await;
            assert_eq!(running.killed, 1, "{story}");
            let state = running.saved();
            for decision in &state.edges[&EDGE.into()].decisions {
                assert_ne!(decision.outcome, Outcome::Running, "{story}");
            }
        }
    }
}

#[tokio::test]
async fn a_plan_under_way_is_gone_on_with_and_not_begun_anew() {
    let mut running = Running::new(None).await;
    running.ticks(20).await;
    running.mesh().rtt_ms = 60;
    while running.mesh().share(SERVICES[0]) == 0 {
        running.tick().await;
    }
    let before = running.saved();
    running.controller = None;
    running.away = 0;
    running
        .until_rests_with(SERVICES.len(), "killed while weights rose")
        .await;
    let after = running.saved();
    let decisions = &after.edges[&EDGE.into()].decisions;
    assert_eq!(decisions.len(), 1, "{decisions:#?}");
    assert_eq!(
        decisions[0].id,
        before.edges[&EDGE.into()].phase.plan().unwrap().id
    );
    assert_eq!(decisions[0].outcome, Outcome::Kept);
    assert_eq!(running.mesh().failed, 0);
}

#[tokio::test]
async fn what_cannot_be_saved_is_not_done_and_its_time_does_not_count() {
    let mut running = Running::new(None).await;
    running.ticks(20).await;
    running.mesh().rtt_ms = 60;
    while running.mesh().share(SERVICES[0]) == 0 {
        running.tick().await;
    }
    running.mesh().disk_is_full = true;
    // A weight that was written before the disk was full may still come into force.
    running.tick().await;
    let effects = running.mesh().effects.len();
    let routing = running.mesh().routing.clone();
    // Longer than any step may take.
    running.ticks(200).await;
    assert_eq!(running.mesh().effects.len(), effects);
    assert_eq!(running.mesh().routing, routing);
    let unsaved = running.view().unwrap()["unsaved"].clone();
    assert!(unsaved.as_str().unwrap().contains("no space left"), "{unsaved}");

    running.mesh().disk_is_full = false;
    running.until_rests_with(SERVICES.len(), "a full disk").await;
    let decisions = &running.saved().edges[&EDGE.into()].decisions;
    assert_eq!(decisions.len(), 1, "{decisions:#?}");
    assert_eq!(decisions[0].outcome, Outcome::Kept);
}

#[tokio::test]
async fn a_refusal_for_ever_ends_the_move_and_a_failure_is_tried_again() {
    let mut running = Running::new(None).await;
    running.ticks(20).await;
    running.mesh().rtt_ms = 60;
    running.mesh().refuses = Some(|effect| {
        matches!(effect, Effect::Ensure { .. })
            .then(|| EffectError::Failed(anyhow::anyhow!("the world is away")))
    });
    let phase = |running: &Running| running.account().unwrap()["phase"].as_str().unwrap().to_owned();
    while phase(&running) != "acting" {
        running.tick().await;
    }
    running.ticks(20).await;
    assert_eq!(phase(&running), "acting");
    let complaint = running.account().unwrap()["complaint"].clone();
    assert_eq!(complaint, "the world is away");

    running.mesh().refuses = Some(|effect| {
        matches!(effect, Effect::Ensure { .. }).then(|| EffectError::Refused("no such area".to_owned()))
    });
    running.ticks(4).await;
    let decisions = running.account().unwrap()["decisions"].clone();
    let sentence = decisions[0]["sentence"].as_str().unwrap();
    assert!(
        sentence.contains("went back") && sentence.contains("no such area"),
        "{decisions}"
    );
}
