//! Results as files and as a table.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::Serialize;

use super::experiment::{Experiment, Graph};
use super::methods::Method;
use super::plot::{Line, Plot, Scale};
use super::recorded::Comparison;
use super::statistics::Mean;
use super::trials::{Point, Run};

/// What a result came from: enough to get it again.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Parameters {
    pub(super) version: &'static str,
    pub(super) experiment: Experiment,
    pub(super) seed: u64,
    pub(super) trials: usize,
    /// Services, in all experiments but that of size.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) services: Option<usize>,
    /// Of generated applications.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) graph: Option<Graph>,
    /// File of recorded applications that took the place of generated ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) instances: Option<PathBuf>,
    pub(super) strategies: Vec<Method>,
}

/// All results of a sweep.
#[derive(Clone, Debug)]
pub(super) struct Results {
    pub(super) parameters: Parameters,
    pub(super) points: Vec<Point>,
    pub(super) runs: Vec<Run>,
    pub(super) comparisons: Vec<Comparison>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Document<'a> {
    schema: &'static str,
    parameters: &'a Parameters,
    points: &'a [Point],
    runs: &'a [Run],
    #[serde(skip_serializing_if = "<[Comparison]>::is_empty")]
    recorded: &'a [Comparison],
}

/// A row of the table.
type Figure = (&'static str, fn(&Point) -> Option<f64>);

/// Makes the directory and sees that files can be written there, before hours are spent.
///
/// # Errors
/// They can't.
pub(super) fn prepare(directory: &Path) -> anyhow::Result<()> {
    let refused = || {
        format!(
            "--out {} can't be written: give a directory that can",
            directory.display()
        )
    };
    fs::create_dir_all(directory).with_context(refused)?;
    let probe = directory.join(".gma-simulate");
    fs::write(&probe, []).with_context(refused)?;
    fs::remove_file(probe).with_context(refused)
}

// === impl Results ===

impl Results {
    /// Writes all files; their paths.
    ///
    /// # Errors
    /// One can't be written, or a plot can't be drawn.
    pub(super) fn write(&self, directory: &Path) -> anyhow::Result<Vec<PathBuf>> {
        let name = self.parameters.experiment.name();
        let document = self.document();
        let mut files = vec![
            (format!("{name}.csv"), self.csv()?),
            (format!("{name}-times.csv"), self.times_csv()?),
            (
                format!("{name}.json"),
                serde_json::to_string_pretty(&document)? + "\n",
            ),
        ];
        if !self.comparisons.is_empty() {
            files.push((format!("{name}-recorded.csv"), self.recorded_csv()?));
        }
        for (figure, plot) in self.plots() {
            files.push((format!("{name}-{figure}.svg"), plot.to_svg()?));
        }
        files
            .into_iter()
            .map(|(name, text)| {
                let path = directory.join(name);
                fs::write(&path, text).with_context(|| format!("{} can't be written", path.display()))?;
                Ok(path)
            })
            .collect()
    }

    /// Everything, for JSON and YAML.
    pub(super) fn document(&self) -> Document<'_> {
        Document {
            schema: "gma-simulation-1",
            parameters: &self.parameters,
            points: &self.points,
            runs: &self.runs,
            recorded: &self.comparisons,
        }
    }

    fn header(&self) -> anyhow::Result<String> {
        Ok(format!(
            "# gma simulate {}\n",
            serde_json::to_string(&self.parameters)?
        ))
    }

    /// Everything but times: the same on every run.
    fn csv(&self) -> anyhow::Result<String> {
        let mut text = self.header()?;
        writeln!(
            text,
            "{},strategy,trials,cost,cost_ci95,increase,increase_ci95,delay_ms,edge_services,evaluations,\
             target_met,gap_percent,gap_of_increase_percent,above_solver_percent",
            self.parameters.experiment.column()
        )?;
        let optional = |value: Option<f64>| value.map(|value| format!("{value:.6}")).unwrap_or_default();
        let percent = |mean: Option<Mean>| optional(mean.map(|mean| 100.0 * mean.mean));
        for point in &self.points {
            writeln!(
                text,
                "{},{},{},{:.6},{},{:.6},{},{:.6},{:.3},{:.1},{:.4},{},{},{}",
                point.point,
                point.strategy.name(),
                point.trials,
                point.cost.mean,
                optional(point.cost.ci95),
                point.increase.mean,
                optional(point.increase.ci95),
                point.delay_ms.mean,
                point.edge_services.mean,
                point.evaluations.mean,
                point.target_met,
                percent(point.gap),
                percent(point.gap_of_increase),
                percent(point.above_solver),
            )?;
        }
        Ok(text)
    }

    fn times_csv(&self) -> anyhow::Result<String> {
        let mut text = self.header()?;
        let column = self.parameters.experiment.column();
        writeln!(text, "{column},strategy,trials,median_cpu_ms,slowest_cpu_ms")?;
        for point in &self.points {
            writeln!(
                text,
                "{},{},{},{:.4},{:.4}",
                point.point,
                point.strategy.name(),
                point.trials,
                point.median_cpu_ms,
                point.slowest_cpu_ms
            )?;
        }
        Ok(text)
    }

    fn recorded_csv(&self) -> anyhow::Result<String> {
        let mut text = self.header()?;
        let column = self.parameters.experiment.column();
        writeln!(
            text,
            "{column},strategy,runs,same_placement,cost,recorded_cost,difference_percent"
        )?;
        for one in &self.comparisons {
            writeln!(
                text,
                "{},{},{},{},{:.6},{:.6},{:.4}",
                one.point,
                one.strategy.name(),
                one.runs,
                one.same_placement,
                one.cost,
                one.recorded_cost,
                one.difference_percent()
            )?;
        }
        Ok(text)
    }

    /// A plot of each figure that there are values of.
    fn plots(&self) -> Vec<(&'static str, Plot)> {
        type Value = fn(&Point) -> Option<(f64, Option<f64>)>;
        let figures: [(_, _, _, Value); 4] = [
            ("cost", "Cost (per hour)", Scale::Linear, |point| {
                Some((point.cost.mean, point.cost.ci95))
            }),
            (
                "increase",
                "Cost above cloud only (per hour)",
                Scale::Linear,
                |point| Some((point.increase.mean, point.increase.ci95)),
            ),
            (
                "above-solver",
                "Cost above the solver's (%)",
                Scale::Linear,
                |point| {
                    point
                        .above_solver
                        .map(|above| (100.0 * above.mean, above.ci95.map(|half| 100.0 * half)))
                },
            ),
            ("time", "CPU time, median (ms)", Scale::Log, |point| {
                Some((point.median_cpu_ms, None))
            }),
        ];
        let plots = figures.into_iter().map(|(figure, y, y_scale, value)| {
            let line = |method: &Method| Line {
                method: *method,
                points: self
                    .points
                    .iter()
                    .filter(|point| point.strategy == *method)
                    .filter_map(|point| value(point).map(|(y, half)| (point.point, y, half)))
                    .collect(),
            };
            let plot = Plot {
                x: self.parameters.experiment.axis(),
                x_scale: self.parameters.experiment.scale(),
                y,
                y_scale,
                lines: self.parameters.strategies.iter().map(line).collect(),
            };
            (figure, plot)
        });
        plots
            .filter(|(_, plot)| plot.lines.iter().any(|line| !line.points.is_empty()))
            .collect()
    }

    /// Cost by point, then means over all points.
    pub(super) fn table(&self) -> anyhow::Result<String> {
        let mut text = String::new();
        let methods = &self.parameters.strategies;
        write!(text, "{:<16}", self.parameters.experiment.column())?;
        methods
            .iter()
            .try_for_each(|method| write!(text, "{:>11}", method.name()))?;
        writeln!(text, "   cost an hour; ! where a trial missed the target")?;
        for row in self.points.chunk_by(|one, two| one.point == two.point) {
            if let Some(first) = row.first() {
                write!(text, "{:<16}", first.point)?;
            }
            for point in row {
                let missed = if point.target_met < 1.0 { "!" } else { " " };
                write!(text, "{:>10.2}{missed}", point.cost.mean)?;
            }
            writeln!(text)?;
        }
        let figures: [Figure; 8] = [
            ("increase", |point| Some(point.increase.mean)),
            ("edge services", |point| Some(point.edge_services.mean)),
            ("evaluations", |point| Some(point.evaluations.mean)),
            ("target met %", |point| Some(100.0 * point.target_met)),
            ("gap %", |point| point.gap.map(|gap| 100.0 * gap.mean)),
            ("  of increase %", |point| {
                point.gap_of_increase.map(|gap| 100.0 * gap.mean)
            }),
            ("above solver %", |point| {
                point.above_solver.map(|above| 100.0 * above.mean)
            }),
            ("CPU time ms", |point| Some(point.median_cpu_ms)),
        ];
        writeln!(text, "mean of all points")?;
        for (name, figure) in figures {
            write!(text, "{name:<16}")?;
            for method in methods {
                let of_method = self.points.iter().filter(|point| point.strategy == *method);
                match Mean::of(of_method.filter_map(figure)) {
                    Some(mean) => write!(text, "{:>10.2} ", mean.mean)?,
                    None => write!(text, "{:>10} ", "-")?,
                }
            }
            writeln!(text)?;
        }
        Ok(text)
    }
}
