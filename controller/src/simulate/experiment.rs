//! The sweeps: what changes from point to point, and the applications that each point is run on.

use anyhow::{Context as _, ensure};
use clap::ValueEnum;
use gma_core::generate::{Recipe, generate};
use gma_core::model::{Problem, Spec};
use gma_core::units::{BitsPerSecond, Micros};
use serde::Serialize;

use super::plot::Scale;

/// What a sweep changes. The values are those of the µPlacer simulators.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "camelCase")]
pub enum Experiment {
    /// Services of the application: 10 to 200.
    Size,
    /// Target delay: 60 to 180 ms.
    Delay,
    /// Round trip between edge and cloud: 40 to 200 ms.
    Rtt,
    /// Bandwidth from cloud to edge: 0.2 to 1.8 Gbit/s.
    Bandwidth,
    /// Expanding depth of SBMP and COPAMP: 1 to 5, and 1000.
    Depth,
}

/// Callers of a service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "camelCase")]
pub enum Graph {
    /// As in the simulators: one caller a service, rarely two.
    #[default]
    Simulators,
    /// Two or three callers a service.
    Dense,
}

/// One point of a sweep.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Setting {
    pub(super) services: usize,
    pub(super) target: Micros,
    pub(super) depth: usize,
    rtt: Micros,
    bandwidth: BitsPerSecond,
}

/// Where the applications come from.
#[derive(Clone, Debug)]
pub(super) enum Applications {
    Generated {
        graph: Graph,
        seed: u64,
    },
    /// One a trial; the seed is for what strategies sample.
    Recorded {
        specs: Vec<Spec>,
        seed: u64,
    },
}

// === impl Experiment ===

impl Experiment {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Size => "size",
            Self::Delay => "delay",
            Self::Rtt => "rtt",
            Self::Bandwidth => "bandwidth",
            Self::Depth => "depth",
        }
    }

    /// Column of the point's value, with its unit.
    pub(super) const fn column(self) -> &'static str {
        match self {
            Self::Size => "services",
            Self::Delay => "target_ms",
            Self::Rtt => "rtt_ms",
            Self::Bandwidth => "bandwidth_gbps",
            Self::Depth => "depth",
        }
    }

    /// Label of the axis.
    pub(super) const fn axis(self) -> &'static str {
        match self {
            Self::Size => "Services",
            Self::Delay => "Target delay (ms)",
            Self::Rtt => "Round trip between edge and cloud (ms)",
            Self::Bandwidth => "Bandwidth from cloud to edge (Gbit/s)",
            Self::Depth => "Expanding depth",
        }
    }

    pub(super) const fn scale(self) -> Scale {
        match self {
            // 1 to 5, then 1000 for no limit.
            Self::Depth => Scale::Even,
            Self::Size | Self::Delay | Self::Rtt | Self::Bandwidth => Scale::Linear,
        }
    }

    pub(super) fn points(self) -> Vec<f64> {
        let steps = |count: u32, value: fn(f64) -> f64| (0..count).map(|k| value(f64::from(k))).collect();
        match self {
            Self::Size => steps(20, |k| 10.0 + 10.0 * k),
            Self::Delay => steps(13, |k| 60.0 + 10.0 * k),
            Self::Rtt => steps(9, |k| 40.0 + 20.0 * k),
            Self::Bandwidth => steps(9, |k| (2.0 + 2.0 * k) / 10.0),
            Self::Depth => vec![1.0, 2.0, 3.0, 4.0, 5.0, 1000.0],
        }
    }

    /// The simulators' setting with one value replaced.
    ///
    /// # Errors
    /// The value makes no sense for this experiment.
    pub(super) fn setting(self, point: f64, services: usize) -> anyhow::Result<Setting> {
        let base = Recipe::sweep(services);
        let mut setting = Setting {
            services,
            target: Micros::nearest(100e3),
            depth: 2,
            rtt: base.rtt,
            bandwidth: BitsPerSecond::nearest(1e9),
        };
        let whole = || {
            ensure!(
                point.fract() == 0.0 && (1.0..=1e6).contains(&point),
                "--points {point}: {} is a whole number from 1",
                self.column()
            );
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "checked above"
            )]
            Ok(point as usize)
        };
        let positive = |most: f64| {
            ensure!(
                point > 0.0 && point <= most,
                "--points {point}: {} is above 0 and at most {most}",
                self.column()
            );
            Ok(point)
        };
        match self {
            Self::Size => setting.services = whole()?,
            Self::Depth => setting.depth = whole()?,
            Self::Delay => setting.target = Micros::nearest(positive(1e5)? * 1e3),
            Self::Rtt => setting.rtt = Micros::nearest(positive(1e5)? * 1e3),
            Self::Bandwidth => setting.bandwidth = BitsPerSecond::nearest(positive(1e6)? * 1e9),
        }
        Ok(setting)
    }

    fn recipe(self, graph: Graph, setting: &Setting) -> Recipe {
        let recipe = match self {
            Self::Size => Recipe::size(setting.services),
            Self::Delay | Self::Rtt | Self::Bandwidth | Self::Depth => Recipe::sweep(setting.services),
        };
        match graph {
            Graph::Simulators => recipe,
            Graph::Dense => recipe.dense(),
        }
    }
}

// === impl Applications ===

impl Applications {
    /// The seed of a trial: it draws the application, and the traces of strategies that sample.
    pub(super) fn seed(&self, trial: usize) -> u64 {
        let (Self::Generated { seed, .. } | Self::Recorded { seed, .. }) = self;
        mixed(*seed, trial as u64)
    }

    /// The problem of a trial at a point.
    ///
    /// # Errors
    /// The application can't be generated, or is no valid problem.
    pub(super) fn problem(
        &self,
        experiment: Experiment,
        setting: &Setting,
        trial: usize,
    ) -> anyhow::Result<Problem> {
        let mut spec = match self {
            Self::Generated { graph, .. } => generate(&experiment.recipe(*graph, setting), self.seed(trial))?,
            Self::Recorded { specs, .. } => specs
                .get(trial)
                .context("no recorded application is left")?
                .clone(),
        };
        for edge in &mut spec.edges {
            edge.rtt = setting.rtt;
            edge.bandwidth = Some(setting.bandwidth);
            edge.target = Some(setting.target);
        }
        Problem::try_new(spec).context("the application is no valid problem")
    }
}

/// SplitMix64 of both: neighbouring seeds share no trial.
fn mixed(seed: u64, trial: u64) -> u64 {
    let step = |mut z: u64| {
        z = z.wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    step(step(seed) ^ trial)
}
