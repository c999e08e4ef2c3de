//! The picture of features.

use anyhow::{Result, anyhow};
use plotters::prelude::*;
use std::path::Path;

const SIZE: (u32, u32) = (960, 720);

/// Draws points, coloured by their kinds, which a legend names.
pub fn draw(path: &Path, title: &str, axes: &[String; 2], points: &[(f64, f64)], kinds: &[&str]) -> Result<()> {
    let mut names: Vec<&str> = kinds.to_vec();
    names.sort_unstable();
    names.dedup();
    let root = SVGBackend::new(path, SIZE).into_drawing_area();
    let failed = |e: &dyn std::fmt::Display| anyhow!("{}: {e}", path.display());
    root.fill(&WHITE).map_err(|e| failed(&e))?;
    let span = |of: fn(&(f64, f64)) -> f64| {
        let low = points.iter().map(of).fold(f64::INFINITY, f64::min);
        let high = points.iter().map(of).fold(f64::NEG_INFINITY, f64::max);
        let margin = ((high - low) * 0.05).max(1e-9);
        low - margin..high + margin
    };
    // The legend stands beside the points, not on them.
    let with_room = |range: std::ops::Range<f64>| range.start..range.end + 0.2 * (range.end - range.start);
    let mut chart = ChartBuilder::on(&root)
        .caption(title, ("sans-serif", 24))
        .margin(16)
        .x_label_area_size(40)
        .y_label_area_size(60)
        .build_cartesian_2d(with_room(span(|p| p.0)), span(|p| p.1))
        .map_err(|e| failed(&e))?;
    chart
        .configure_mesh()
        .light_line_style(WHITE)
        .x_desc(&axes[0])
        .y_desc(&axes[1])
        .label_style(("sans-serif", 14))
        .draw()
        .map_err(|e| failed(&e))?;
    for (k, name) in names.iter().enumerate() {
        // Hues apart by the golden angle differ as far as they can, however many there are.
        let colour = HSLColor((k as f64 * 0.381_966).fract(), 0.75, if k % 2 == 0 { 0.42 } else { 0.58 });
        let own = points.iter().zip(kinds).filter(|(_, kind)| *kind == name);
        let series =
            chart.draw_series(own.map(|(&point, _)| Circle::new(point, 3, colour.filled()))).map_err(|e| failed(&e))?;
        if names.len() > 1 || !name.is_empty() {
            series
                .label(if name.is_empty() { "(none)" } else { name })
                .legend(move |(x, y)| Circle::new((x + 8, y), 5, colour.filled()));
        }
    }
    if names.len() > 1 || names.first().is_some_and(|name| !name.is_empty()) {
        chart
            .configure_series_labels()
            .background_style(WHITE.mix(0.85))
            .border_style(BLACK.mix(0.3))
            .label_font(("sans-serif", 16))
            .draw()
            .map_err(|e| failed(&e))?;
    }
    root.present().map_err(|e| failed(&e))
}
