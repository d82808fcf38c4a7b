//! Lines over a logarithmic axis, as SVG that is readable on white and on black.

use std::path::Path;

use anyhow::{Context as _, Result};
use plotters::coord::ranged1d::ValueFormatter;
use plotters::prelude::*;

/// What is drawn is for white, and this replaces its colours where the reader's page is dark: attributes give way to it.
const STYLE: &str = "<style>text{fill:#1f2328;font-family:system-ui,sans-serif}.bg{fill:#fff}\
    @media(prefers-color-scheme:dark){text{fill:#e6edf3}.bg{fill:#0d1117}}</style>\
    <rect class=\"bg\" width=\"100%\" height=\"100%\"/>";
const GRID: RGBColor = RGBColor(128, 136, 144);
const TEXT: RGBColor = RGBColor(31, 35, 40);
/// A middle tone for each server, which stands out from white and from black.
fn colour(name: &str) -> RGBColor {
    match name {
        "torchpod" => RGBColor(232, 89, 12),
        "Flask" => RGBColor(47, 129, 247),
        "TorchServe" => RGBColor(45, 164, 78),
        "LitServe" => RGBColor(163, 113, 247),
        "Triton, Python backend" => RGBColor(191, 135, 0),
        _ => GRID,
    }
}
const PANEL: (u32, u32) = (460, 340);
/// Below the charts, where no line is.
const LEGEND: u32 = 32;

pub(crate) struct Series {
    pub(crate) name: &'static str,
    pub(crate) points: Vec<(f64, f64)>,
}

/// One chart. A name means the same line in every chart of a picture.
pub(crate) struct Panel {
    pub(crate) title: String,
    pub(crate) x: &'static str,
    /// Of the first axis, which is logarithmic: 2 where things are counted in powers of two.
    pub(crate) base: f64,
    pub(crate) y: &'static str,
    pub(crate) series: Vec<Series>,
    /// Whether the second axis is logarithmic, too; it starts at 0 if not.
    pub(crate) log: bool,
}

/// Draws the charts side by side.
pub(crate) fn write(file: &Path, panels: &[Panel]) -> Result<()> {
    let mut svg = String::new();
    {
        let size = (PANEL.0 * u32::try_from(panels.len())?, PANEL.1 + LEGEND);
        let root = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        let (charts, below) = root.split_vertically(PANEL.1);
        let mut names: Vec<&str> = Vec::new();
        for series in panels.iter().flat_map(|panel| &panel.series) {
            if !names.contains(&series.name) {
                names.push(series.name);
            }
        }
        legend(&below, &names)?;
        for (area, panel) in charts.split_evenly((1, panels.len())).iter().zip(panels) {
            let ys = panel.series.iter().flat_map(|series| &series.points).map(|(_, y)| *y);
            let (least, most) = ys.fold((f64::INFINITY, 0.0_f64), |(least, most), y| (least.min(y), most.max(y)));
            if panel.log {
                draw(area, panel, (least * 0.7..most * 1.3).log_scale())?;
            } else {
                draw(area, panel, 0.0..most * 1.05)?;
            }
        }
        root.present()?;
    }
    let end = svg.find("<svg").and_then(|start| Some(start + svg[start..].find('>')? + 1));
    svg.insert_str(end.context("no SVG")?, STYLE);
    std::fs::write(file, svg).with_context(|| format!("{} cannot be written", file.display()))
}

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

fn draw<Y>(area: &Area, panel: &Panel, y: Y) -> Result<()>
where
    Y: plotters::coord::ranged1d::AsRangedCoord<Value = f64>,
    Y::CoordDescType: Ranged<ValueType = f64> + ValueFormatter<f64>,
{
    let xs = || panel.series.iter().flat_map(|series| &series.points).map(|(x, _)| *x);
    let (least, most) = (xs().fold(f64::INFINITY, f64::min), xs().fold(0.0, f64::max));
    let mut chart = ChartBuilder::on(area)
        .caption(&panel.title, text(15))
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(62)
        .build_cartesian_2d((least..most * 1.02).log_scale().base(panel.base), y)?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(GRID.mix(0.25))
        .axis_style(GRID)
        .label_style(text(12))
        .axis_desc_style(text(13))
        .x_desc(panel.x)
        .y_desc(panel.y)
        .x_label_formatter(&|x| if panel.base < 10.0 || is_round(*x) { short(*x) } else { String::new() })
        .y_label_formatter(&|y| if !panel.log || is_round(*y) { short(*y) } else { String::new() })
        .draw()?;
    for series in &panel.series {
        let colour = colour(series.name);
        let points = series.points.iter().copied();
        chart.draw_series(LineSeries::new(points.clone(), colour.stroke_width(2)))?;
        if series.points.len() < 8 {
            chart.draw_series(points.map(|point| Circle::new(point, 3, colour.filled())))?;
        }
    }
    Ok(())
}

/// Names the lines, in a row.
fn legend(area: &Area, names: &[&str]) -> Result<()> {
    const LEFT: i32 = 74; // Where the first chart's axis is.
    const LINE: i32 = 16;
    // A letter is as wide as this at most, on average.
    const LETTER: i32 = 7;
    let (mut x, y) = (LEFT, 8);
    for name in names {
        area.draw(&PathElement::new([(x, y), (x + LINE, y)], colour(name).stroke_width(2)))?;
        x += LINE + 8;
        area.draw(&Text::new(*name, (x, y - 6), text(12)))?;
        x += LETTER * i32::try_from(name.len())? + 24;
    }
    Ok(())
}

fn text(size: u32) -> TextStyle<'static> {
    ("sans-serif", size).into_font().color(&TEXT)
}

/// Whether a label belongs at it on a logarithmic axis, where others would stand too close: 1, 2 and 5 of each ten.
fn is_round(value: f64) -> bool {
    let digits = value / 10_f64.powf(value.log10().floor());
    [1.0, 2.0, 5.0, 10.0].iter().any(|round| (digits - round).abs() < 0.01)
}

/// 1, 20, 3k, 0.5.
fn short(value: f64) -> String {
    match value {
        _ if value >= 1e6 => format!("{}M", value / 1e6),
        _ if value >= 1e3 => format!("{}k", value / 1e3),
        _ => format!("{}", (value * 100.0).round() / 100.0),
    }
}
