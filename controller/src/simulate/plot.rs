//! Lines with markers and whiskers as SVG, legend beside the axes; told apart without colour.

use anyhow::{Context as _, anyhow};
use plotters::chart::ChartContext;
use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};
use plotters::element::DashedPathElement;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{FontStyle, ShapeStyle};

use super::methods::Method;

const SIZE: (u32, u32) = (760, 440);
/// Width of the legend's column.
const LEGEND: u32 = 150;
const FONT: &str = "sans-serif";
const GRID: RGBColor = RGBColor(216, 216, 216);
const LIGHT_GRID: RGBColor = RGBColor(240, 240, 240);
/// Half the width of a whisker's end, and half that of a marker, in pixels.
const WHISKER: i32 = 4;
const MARKER: i32 = 5;
/// Whiskers of neighbouring lines stand this far apart, in pixels, so that they don't hide each other.
const APART: i32 = 2;

/// A plot of one figure.
#[derive(Clone, Debug)]
pub(super) struct Plot {
    pub(super) x: &'static str,
    pub(super) x_scale: Scale,
    pub(super) y: &'static str,
    pub(super) y_scale: Scale,
    pub(super) lines: Vec<Line>,
}

/// One method's line.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub(super) method: Method,
    /// x, y, half the confidence interval of y.
    pub(super) points: Vec<(f64, f64, Option<f64>)>,
}

/// How a line looks.
#[derive(Clone, Copy, Debug)]
struct Look {
    colour: RGBColor,
    width: u32,
    /// Pixels drawn and left out.
    dash: Option<(i32, i32)>,
    marker: Marker,
    filled: bool,
}

#[derive(Clone, Copy, Debug)]
enum Marker {
    Circle,
    Square,
    Up,
    Down,
    Diamond,
    Cross,
}

/// An axis that encloses its ticks.
#[derive(Clone, Debug)]
struct Axis {
    ticks: Vec<f64>,
    scale: Scale,
    /// Left free on both sides, as a share of the whole.
    free: f64,
}

/// How far apart values are on an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scale {
    /// By their difference.
    Linear,
    /// By their ratio.
    Log,
    /// Each value as far from the next.
    Even,
}

type Axes = Cartesian2d<Axis, Axis>;
type Chart<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Axes>;
type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

// === impl Look ===

impl Look {
    /// Colours of Okabe and Ito, safe for colour-blind readers; the dashes and markers tell the same without them.
    fn of(method: Method) -> Self {
        let (colour, width, dash, marker, filled) = match method {
            Method::Solver => ((0, 0, 0), 2, None, Marker::Circle, true),
            Method::Sbmp => ((213, 94, 0), 2, Some((9, 4)), Marker::Square, true),
            Method::Copamp => ((0, 114, 178), 2, Some((3, 3)), Marker::Up, true),
            Method::Mfu => ((0, 158, 115), 1, None, Marker::Diamond, false),
            Method::Ia => ((204, 121, 167), 1, Some((9, 4)), Marker::Circle, false),
            Method::Kahn => ((86, 86, 86), 1, Some((3, 3)), Marker::Down, false),
            Method::Ta => ((230, 159, 0), 1, Some((14, 3)), Marker::Cross, false),
        };
        Self {
            colour: RGBColor(colour.0, colour.1, colour.2),
            width,
            dash,
            marker,
            filled,
        }
    }

    fn stroke(self) -> ShapeStyle {
        self.colour.stroke_width(self.width)
    }
}

// === impl Marker ===

impl Marker {
    /// Corners around 0, 0.
    fn corners(self) -> Vec<(i32, i32)> {
        let m = MARKER;
        match self {
            // Drawn as a circle.
            Self::Circle => Vec::new(),
            Self::Square => vec![(-m + 1, -m + 1), (m - 1, -m + 1), (m - 1, m - 1), (-m + 1, m - 1)],
            Self::Up => vec![(0, -m), (m, m - 1), (-m, m - 1)],
            Self::Down => vec![(0, m), (m, -m + 1), (-m, -m + 1)],
            Self::Diamond => vec![(0, -m - 1), (m, 0), (0, m + 1), (-m, 0)],
            Self::Cross => vec![(-m, -m), (m, m), (0, 0), (-m, m), (m, -m), (0, 0)],
        }
    }
}

// === impl Axis ===

impl Axis {
    fn new(values: impl Iterator<Item = f64>, scale: Scale, free: f64) -> Self {
        let ticks = match scale {
            Scale::Linear => ticks(values),
            Scale::Log => decades(values.filter(|value| *value > 0.0)),
            Scale::Even => {
                let mut values: Vec<f64> = values.collect();
                values.sort_unstable_by(f64::total_cmp);
                values.dedup();
                values
            }
        };
        Self { ticks, scale, free }
    }

    fn position(&self, value: f64) -> f64 {
        match self.scale {
            Scale::Linear => value,
            Scale::Log => value.max(f64::MIN_POSITIVE).log10(),
            Scale::Even => self.ticks.iter().take_while(|tick| **tick < value).count() as f64,
        }
    }
}

impl Ranged for Axis {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        let ends = self.range();
        let (first, last) = (self.position(ends.start), self.position(ends.end));
        let width = (last - first).max(f64::MIN_POSITIVE) * (1.0 + 2.0 * self.free);
        let share = self.free / (1.0 + 2.0 * self.free) + (self.position(*value) - first) / width;
        limit.0 + pixel(share * f64::from(limit.1 - limit.0))
    }

    /// Bold points get a label.
    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        let mut points = self.ticks.clone();
        if self.scale == Scale::Log && hint.weight().allow_light_points() {
            let between = |tick: &f64| {
                (2..10)
                    .map(move |factor| f64::from(factor) * tick)
                    .collect::<Vec<_>>()
            };
            points.extend(self.ticks.iter().rev().skip(1).flat_map(between));
        }
        points
    }

    fn range(&self) -> std::ops::Range<f64> {
        self.ticks.first().copied().unwrap_or(0.0)..self.ticks.last().copied().unwrap_or(1.0)
    }
}

impl ValueFormatter<f64> for Axis {
    fn format(value: &f64) -> String {
        number(*value)
    }
}

// === impl Plot ===

impl Plot {
    /// The plot as SVG.
    ///
    /// # Errors
    /// The plotting library could not draw it.
    pub(super) fn to_svg(&self) -> anyhow::Result<String> {
        let mut svg = String::new();
        {
            let root = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
            self.draw(&root)
                .map_err(|error| anyhow!("{error}"))
                .context("the plot can't be drawn")?;
        }
        Ok(svg)
    }

    fn draw(&self, root: &Area<'_>) -> Result<(), Box<dyn std::error::Error>> {
        root.fill(&WHITE)?;
        let (left, right) = root.split_horizontally(SIZE.0 - LEGEND);
        let xs = self
            .lines
            .iter()
            .flat_map(|line| line.points.iter().map(|(x, ..)| *x));
        let ys = self
            .lines
            .iter()
            .flat_map(|line| &line.points)
            .flat_map(|(_, y, half)| {
                let half = half.unwrap_or(0.0);
                [y - half, y + half]
            });
        let mut chart = ChartBuilder::on(&left)
            .margin(12)
            .margin_right(4)
            .x_label_area_size(44)
            .y_label_area_size(64)
            .build_cartesian_2d(
                Axis::new(xs, self.x_scale, 0.03),
                Axis::new(ys, self.y_scale, 0.02),
            )?;
        let label = (FONT, 13).into_font().color(&BLACK);
        chart
            .configure_mesh()
            .x_desc(self.x)
            .y_desc(self.y)
            .axis_desc_style((FONT, 15))
            .label_style(label)
            .light_line_style(LIGHT_GRID)
            .bold_line_style(GRID)
            .draw()?;
        let middle = i32::try_from(self.lines.len()).unwrap_or_default() - 1;
        // The first line is the one to see: it comes last, on top.
        for (position, line) in self.lines.iter().enumerate().rev() {
            let offset = (2 * i32::try_from(position).unwrap_or_default() - middle) * APART / 2;
            Self::line(&mut chart, line, offset)?;
            legend(&right, position, line.method)?;
        }
        root.present()?;
        Ok(())
    }

    /// The line, then its whiskers, aside by `offset` pixels, then its markers.
    fn line(chart: &mut Chart<'_, '_>, line: &Line, offset: i32) -> Result<(), Box<dyn std::error::Error>> {
        let look = Look::of(line.method);
        let area = chart.plotting_area().strip_coord_spec();
        let at = |x: f64, y: f64| {
            let (px, py) = chart.backend_coord(&(x, y));
            let (left, top) = area.get_base_pixel();
            (px - left, py - top)
        };
        let points: Vec<(i32, i32)> = line.points.iter().map(|(x, y, _)| at(*x, *y)).collect();
        path(&area, &points, look)?;
        for (x, y, half) in &line.points {
            let Some(half) = half.filter(|half| *half > 0.0) else {
                continue;
            };
            let ((px, low), (_, high)) = (at(*x, y - half), at(*x, y + half));
            let px = px + offset;
            let style = look.colour.mix(0.6).stroke_width(1);
            for path in [
                [(px, low), (px, high)],
                [(px - WHISKER, low), (px + WHISKER, low)],
                [(px - WHISKER, high), (px + WHISKER, high)],
            ] {
                area.draw(&PathElement::new(path.to_vec(), style))?;
            }
        }
        points.iter().try_for_each(|point| marker(&area, *point, look))
    }
}

fn path(area: &Area<'_>, points: &[(i32, i32)], look: Look) -> Result<(), Box<dyn std::error::Error>> {
    let points = points.to_vec();
    match look.dash {
        None => area.draw(&PathElement::new(points, look.stroke()))?,
        Some((drawn, left_out)) => {
            area.draw(&DashedPathElement::new(points, drawn, left_out, look.stroke()))?;
        }
    }
    Ok(())
}

fn marker(area: &Area<'_>, (x, y): (i32, i32), look: Look) -> Result<(), Box<dyn std::error::Error>> {
    let mut corners: Vec<(i32, i32)> = look.marker.corners();
    corners
        .iter_mut()
        .for_each(|corner| *corner = (corner.0 + x, corner.1 + y));
    let fill = if look.filled { look.colour } else { WHITE };
    if matches!(look.marker, Marker::Circle) {
        area.draw(&Circle::new((x, y), MARKER, fill.filled()))?;
        area.draw(&Circle::new((x, y), MARKER, look.colour.stroke_width(2)))?;
        return Ok(());
    }
    if !matches!(look.marker, Marker::Cross) {
        area.draw(&Polygon::new(corners.clone(), fill.filled()))?;
    }
    corners.extend(corners.first().copied());
    area.draw(&PathElement::new(corners, look.colour.stroke_width(2)))?;
    Ok(())
}

fn legend(area: &Area<'_>, position: usize, method: Method) -> Result<(), Box<dyn std::error::Error>> {
    let y = 30 + 24 * i32::try_from(position).unwrap_or_default();
    let look = Look::of(method);
    path(area, &[(6, y), (46, y)], look)?;
    marker(area, (26, y), look)?;
    let style = TextStyle::from((FONT, 14, FontStyle::Normal)).pos(Pos::new(HPos::Left, VPos::Center));
    area.draw(&Text::new(method.label(), (54, y), style))?;
    Ok(())
}

/// 4 to 10 round numbers from at or below the smallest value to at or above the largest.
fn ticks(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let (least, most) = extent(values).unwrap_or((0.0, 1.0));
    let width = (most - least).max(most.abs() * 1e-3).max(1e-9);
    let rough = width / 8.0;
    let power = 10_f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0]
        .map(|factor| factor * power)
        .into_iter()
        .find(|step| *step >= rough)
        .unwrap_or(width);
    multiples((least / step + 1e-9).floor(), (most / step - 1e-9).ceil(), step)
}

/// Powers of ten from at or below the smallest value to at or above the largest.
fn decades(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let (least, most) = extent(values.map(f64::log10)).unwrap_or((0.0, 1.0));
    let exponents = multiples(least.floor(), most.ceil().max(least.floor() + 1.0), 1.0);
    exponents
        .into_iter()
        .map(|exponent| 10_f64.powf(exponent))
        .collect()
}

fn multiples(first: f64, last: f64, step: f64) -> Vec<f64> {
    let mut ticks = vec![first * step];
    let mut next = first + 1.0;
    while next <= last {
        ticks.push(next * step);
        next += 1.0;
    }
    if ticks.len() == 1 {
        ticks.push(next * step);
    }
    ticks
}

fn extent(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    values
        .map(|value| (value, value))
        .reduce(|(least, most), (value, _)| (least.min(value), most.max(value)))
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "a position in a picture; `as` saturates"
)]
fn pixel(value: f64) -> i32 {
    value.round() as i32
}

/// As many digits as are needed, at most six after the point.
fn number(value: f64) -> String {
    let text = format!("{value:.6}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" {
        "0".to_owned()
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_enclose_the_values() {
        assert_eq!(
            ticks([60.0, 180.0].into_iter()),
            [60.0, 80.0, 100.0, 120.0, 140.0, 160.0, 180.0]
        );
        let small: Vec<String> = ticks([0.2, 1.8].into_iter()).into_iter().map(number).collect();
        assert_eq!(
            small,
            ["0.2", "0.4", "0.6", "0.8", "1", "1.2", "1.4", "1.6", "1.8"]
        );
        assert_eq!(decades([0.3, 150.0].into_iter()), [0.1, 1.0, 10.0, 100.0, 1000.0]);
        for values in [vec![], vec![5.0], vec![0.0], vec![1e9, 1e9]] {
            let ticks = ticks(values.iter().copied());
            assert!((2..=12).contains(&ticks.len()), "{values:?}: {ticks:?}");
            assert!(
                values
                    .iter()
                    .all(|value| ticks[0] <= *value && *value <= ticks[ticks.len() - 1])
            );
        }
    }
}
