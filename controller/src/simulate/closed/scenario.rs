//! What happens in a seed: an application, a band, faults in the first minutes, then constant inputs.

use std::time::Duration;

use gma_core::decide::{Band, Config, Mode, Objective, Statistic};
use gma_core::generate::RecipeError;
use gma_core::world::{Change, Draw, Spec};

use super::filters::Network;

/// Faults begin between these,
const FAULTS_S: (f64, f64) = (25.0, 180.0);
/// and all that can be mended is mended by now.
pub(super) const CONSTANT_FROM: Duration = Duration::from_secs(200);
/// Nothing changes from [`CONSTANT_FROM`] on; here the run ends.
pub(super) const END: Duration = Duration::from_secs(600);

/// Something that happens from outside.
#[derive(Clone, Debug, PartialEq)]
pub enum Fault {
    /// In the world.
    World(Change),
    /// To reports.
    Network(Network),
    /// The filter of one worker dies; the number picks it.
    Blind(u64),
    /// The filters of all workers of one proxy die; the number picks it.
    Deaf(u64),
    /// The controller ends, and starts again after this.
    Restart {
        /// Away for so long.
        away: Duration,
        /// Its state was saved.
        is_saved: bool,
    },
    /// Share of effects that fail, and of those that are lost without a word.
    Effects {
        /// Fail.
        failed: f64,
        /// Lost.
        lost: f64,
    },
}

// === impl Fault ===

impl Fault {
    /// What goes wrong, or else; none where something is mended.
    pub fn kind(&self) -> Option<&'static str> {
        match self {
            Self::World(change) => match *change {
                Change::Rtt { .. } => Some("round trip"),
                Change::Cut { is_cut, .. } => is_cut.then_some("link cut"),
                Change::Rate { rate, .. } => Some(if rate > 0.0 { "rate" } else { "no users" }),
                Change::Slow { factor, .. } => (factor > 1.0).then_some("slow service"),
                Change::Errors { share, .. } => (share > 0.0).then_some("errors"),
                Change::Crash { .. } => Some("crash"),
                Change::StartUp(within) => within.is_none().then_some("never Ready"),
            },
            Self::Network(network) if network.delay > Duration::ZERO => Some("late reports"),
            Self::Network(network) => (*network != Network::default()).then_some("lost reports"),
            Self::Blind(_) => Some("blind worker"),
            Self::Deaf(_) => Some("blind proxy"),
            Self::Restart { is_saved: true, .. } => Some("restart"),
            Self::Restart { is_saved: false, .. } => Some("restart without state"),
            Self::Effects { failed, lost } => (failed + lost > 0.0).then_some("failed or lost effects"),
        }
    }
}

/// A seed's whole story, before it runs.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// The seed.
    pub seed: u64,
    /// The world.
    pub spec: Spec,
    /// The decision machine's configuration.
    pub config: Config,
    /// What happens, in order of time.
    pub faults: Vec<(Duration, Fault)>,
    /// Inputs are constant from then on.
    pub constant_from: Duration,
    /// The run ends.
    pub end: Duration,
}

// === impl Scenario ===

impl Scenario {
    /// The scenario of a seed.
    ///
    /// # Errors
    /// None that a seed can cause; the core states it.
    pub fn of_seed(seed: u64) -> Result<Self, RecipeError> {
        let spec = Spec::drawn(seed)?;
        let mut draw = Draw::new(seed, 3);
        let mut config = Config::new(
            spec.cloud.clone(),
            spec.edges.iter().map(|edge| edge.name.clone()),
        );
        config.mode = Mode::Enforce;
        for edge in &spec.edges {
            if let Some(objective) = config.edges.get_mut(&edge.name) {
                *objective = objective_of(&spec, edge.rtt_us, &mut draw);
            }
        }
        let mut faults = Vec::new();
        for _ in 0..1 + draw.below(6) {
            let from = Duration::from_secs_f64(draw.between(FAULTS_S.0, FAULTS_S.1));
            let until = from + Duration::from_secs_f64(draw.between(2.0, 60.0));
            fault(&spec, from, until.min(CONSTANT_FROM), &mut draw, &mut faults);
        }
        faults.sort_by_key(|(at, _)| *at);
        Ok(Self {
            seed,
            spec,
            config,
            faults,
            constant_from: CONSTANT_FROM,
            end: END,
        })
    }
}

/// A band around what can be reached: most bounds lie between everything in the cloud and everything at the edge.
fn objective_of(spec: &Spec, rtt_us: f64, draw: &mut Draw) -> Objective {
    let local_us = spec.local_us();
    let upper_us = local_us * 1.2 + rtt_us * draw.between(0.1, 1.3);
    let lower_us = upper_us * draw.between(0.3, 0.75);
    let band = Band::try_new(
        Duration::from_micros(lower_us as u64),
        Duration::from_micros(upper_us as u64),
    );
    let statistic = match draw.below(10) {
        0 | 1 => Statistic::P50,
        2 => Statistic::P90,
        3 => Statistic::P95,
        _ => Statistic::Mean,
    };
    Objective {
        band: band.unwrap_or_default(),
        statistic,
        standby: None,
    }
}

fn fault(spec: &Spec, from: Duration, until: Duration, draw: &mut Draw, faults: &mut Vec<(Duration, Fault)>) {
    let edge = draw.below(spec.edges.len());
    let service = draw.below(spec.services.len());
    let area = draw.below(spec.edges.len() + 1);
    let mut world = |at, change| faults.push((at, Fault::World(change)));
    match draw.below(16) {
        0 | 1 => world(
            from,
            Change::Rtt {
                edge,
                us: draw.between(10e3, 250e3),
            },
        ),
        2 => {
            world(from, Change::Cut { edge, is_cut: true });
            world(until, Change::Cut { edge, is_cut: false });
        }
        3 | 4 => world(
            from,
            Change::Rate {
                edge,
                rate: draw.between(5.0, 500.0),
            },
        ),
        5 => {
            world(from, Change::Rate { edge, rate: 0.0 });
            world(
                until,
                Change::Rate {
                    edge,
                    rate: draw.between(60.0, 250.0),
                },
            );
        }
        6 => {
            world(
                from,
                Change::Slow {
                    service,
                    area,
                    factor: draw.between(1.5, 6.0),
                },
            );
            if draw.chance(0.7) {
                world(
                    until,
                    Change::Slow {
                        service,
                        area,
                        factor: 1.0,
                    },
                );
            }
        }
        7 => {
            world(
                from,
                Change::Errors {
                    service,
                    area,
                    share: draw.between(0.02, 0.6),
                },
            );
            world(
                until,
                Change::Errors {
                    service,
                    area,
                    share: 0.0,
                },
            );
        }
        8 | 9 => {
            for service in 0..spec.services.len() {
                if draw.chance(0.4) {
                    world(from, Change::Crash { service, area });
                }
            }
        }
        10 => {
            world(from, Change::StartUp(None));
            world(until, Change::StartUp(Some(spec.start_up)));
        }
        11 => {
            let network = Network {
                lost: draw.between(0.0, 0.3),
                answers_lost: draw.between(0.0, 0.3),
                doubled: draw.between(0.0, 0.3),
                delay: Duration::ZERO,
            };
            faults.push((from, Fault::Network(network)));
            faults.push((until, Fault::Network(Network::default())));
        }
        12 => {
            let delay = Duration::from_secs_f64(draw.between(1.0, 12.0));
            faults.push((
                from,
                Fault::Network(Network {
                    delay,
                    ..Network::default()
                }),
            ));
            faults.push((until, Fault::Network(Network::default())));
        }
        13 => {
            let picked = draw.bits();
            faults.push((
                from,
                if draw.chance(0.5) {
                    Fault::Blind(picked)
                } else {
                    Fault::Deaf(picked)
                },
            ));
        }
        14 => {
            let away = Duration::from_secs_f64(draw.between(0.5, 30.0));
            let is_saved = draw.chance(0.7);
            faults.push((from, Fault::Restart { away, is_saved }));
        }
        _ => {
            let (failed, lost) = (draw.between(0.0, 0.6), draw.between(0.0, 0.4));
            faults.push((from, Fault::Effects { failed, lost }));
            faults.push((
                until,
                Fault::Effects {
                    failed: 0.0,
                    lost: 0.0,
                },
            ));
        }
    }
}
