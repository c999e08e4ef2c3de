//! Lines as SVG, for a page in light or dark.

use anyhow::{Result, anyhow};
use plotters::coord::ranged1d::{AsRangedCoord, Ranged, ValueFormatter};
use plotters::prelude::*;
use std::ops::Range;

const SIZE: (u32, u32) = (960, 400);
/// Okabe and Ito's colours that show on light and on dark, told apart by the colour-blind too.
const COLOURS: [RGBColor; 6] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
];
/// What the page turns into the colour of its text.
pub const TEXT: RGBColor = BLACK;

/// One line.
pub struct Series {
    pub name: String,
    pub colour: RGBColor,
    /// 0 to 1.
    pub opacity: f64,
    pub points: Vec<(f64, f64)>,
}

/// The `i`-th colour; after the sixth hues that differ by the golden angle.
pub fn colour(i: usize) -> RGBColor {
    COLOURS.get(i).copied().unwrap_or_else(|| {
        let (r, g, b) = HSLColor((i as f64 * 0.381_966).fract(), 0.6, 0.5).rgb();
        RGBColor(r, g, b)
    })
}

/// How a colour is written in CSS.
pub fn css(colour: RGBColor) -> String {
    if colour == TEXT { "currentColor".into() } else { format!("#{:02X}{:02X}{:02X}", colour.0, colour.1, colour.2) }
}

/// Draws lines; `marks`: with their points, and `x` in equal ratios.
pub fn chart(axes: [&str; 2], series: &[Series], marks: bool) -> Result<String> {
    let all = || series.iter().flat_map(|s| &s.points);
    let (x, y) = (span(all().map(|p| p.0)), span(all().map(|p| p.1)));
    let margin = ((y.end - y.start) * 0.05).max(0.5);
    let y = y.start - margin..y.end + margin;
    if marks {
        draw((x.start / 1.1..x.end * 1.1).log_scale(), y, axes, series, marks)
    } else {
        draw(x.start..x.end.max(x.start + 1e-3), y, axes, series, marks)
    }
}

fn span(values: impl Iterator<Item = f64>) -> Range<f64> {
    let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
    low..high
}

fn draw<X>(x: X, y: Range<f64>, axes: [&str; 2], series: &[Series], marks: bool) -> Result<String>
where
    X: AsRangedCoord<Value = f64>,
    X::CoordDescType: Ranged<ValueType = f64> + ValueFormatter<f64>,
{
    let failed = |e: &dyn std::fmt::Display| anyhow!("a chart of the report: {e}");
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        let mut chart = ChartBuilder::on(&root)
            .margin(12)
            .x_label_area_size(44)
            .y_label_area_size(60)
            .build_cartesian_2d(x, y)
            .map_err(|e| failed(&e))?;
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(TEXT.mix(0.15))
            .axis_style(TEXT)
            .x_desc(axes[0])
            .y_desc(axes[1])
            .label_style(("sans-serif", 15).into_font().color(&TEXT))
            .draw()
            .map_err(|e| failed(&e))?;
        for s in series {
            let colour = s.colour.mix(s.opacity);
            chart
                .draw_series(LineSeries::new(s.points.iter().copied(), colour.stroke_width(if marks { 2 } else { 1 })))
                .map_err(|e| failed(&e))?;
            if marks {
                chart
                    .draw_series(s.points.iter().map(|&point| Circle::new(point, 4, colour.filled())))
                    .map_err(|e| failed(&e))?;
            }
        }
        root.present().map_err(|e| failed(&e))?;
    }
    Ok(svg)
}
