//! The ramp as SVG: load, delay against the band, what runs at the edge and what it costs, over one time axis.

use anyhow::{Context as _, anyhow};
use plotters::coord::Shift;
use plotters::prelude::*;

use super::{Ramp, Row};

const SIZE: (u32, u32) = (760, 640);
const FONT: &str = "sans-serif";
const GRID: RGBColor = RGBColor(216, 216, 216);
/// Of Okabe and Ito, safe for colour-blind readers.
const LINE: RGBColor = RGBColor(0, 114, 178);
const BAND: RGBColor = RGBColor(0, 158, 115);

type Panel<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Value = fn(&Row) -> Option<f64>;
type Drawn = Result<(), Box<dyn std::error::Error>>;

/// The plot.
///
/// # Errors
/// The plotting library could not draw it.
pub(super) fn to_svg(ramp: &Ramp) -> anyhow::Result<String> {
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        draw(&root, ramp)
            .map_err(|error| anyhow!("{error}"))
            .context("the plot can't be drawn")?;
    }
    Ok(svg)
}

fn draw(root: &Panel<'_>, ramp: &Ramp) -> Drawn {
    root.fill(&WHITE)?;
    let panels: [(&str, Value, bool); 4] = [
        ("Requests/s", |row| Some(row.rate), false),
        ("Mean delay (ms)", |row| row.delay_ms, true),
        (
            "Services at the edge",
            |row| Some(row.weights.len() as f64),
            false,
        ),
        ("Cost (per hour)", |row| Some(row.cost), false),
    ];
    for (area, (label, value, has_band)) in root.split_evenly((panels.len(), 1)).iter().zip(panels) {
        let band = has_band.then_some((ramp.unoffload_below_ms, ramp.offload_above_ms));
        panel(area, &ramp.rows, label, value, band)?;
    }
    root.present()?;
    Ok(())
}

fn panel(area: &Panel<'_>, rows: &[Row], label: &str, value: Value, band: Option<(f64, f64)>) -> Drawn {
    let points: Vec<(f64, f64)> = rows
        .iter()
        .filter_map(|row| Some((row.at_s, value(row)?)))
        .collect();
    let end = rows.last().map_or(1.0, |row| row.at_s);
    let most = points
        .iter()
        .map(|(_, y)| *y)
        .fold(band.map_or(0.0, |band| band.1), f64::max)
        * 1.1;
    let mut chart = ChartBuilder::on(area)
        .margin(8)
        .x_label_area_size(34)
        .y_label_area_size(64)
        .build_cartesian_2d(0.0..end, 0.0..most.max(1e-9))?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .x_labels(10)
        .y_labels(4)
        .x_desc("Time (s)")
        .y_desc(label)
        .axis_desc_style((FONT, 13))
        .label_style((FONT, 12))
        .bold_line_style(GRID)
        .light_line_style(WHITE)
        .x_label_formatter(&|x| format!("{x:.0}"))
        .draw()?;
    for bound in band.into_iter().flat_map(|(low, high)| [low, high]) {
        chart.draw_series(DashedLineSeries::new(
            [(0.0, bound), (end, bound)],
            6,
            4,
            BAND.stroke_width(2),
        ))?;
    }
    chart.draw_series(LineSeries::new(points, LINE.stroke_width(2)))?;
    Ok(())
}
