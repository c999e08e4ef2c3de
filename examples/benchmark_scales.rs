//! Time of a frame with crops of all its sizes against the same number of crops of its own size only, alternately in one run:
//! `cargo run --release --example benchmark_scales [THREADS]`. Medians, and the median of the ratios pair by pair.

use qmambaiqa::crops::{CropPlan, Sampling, Scales};
use qmambaiqa::frame::{Colour, Frame, PixelFormat, Plane};
use qmambaiqa::{Options, Scorer};
use std::time::{Duration, Instant};

const PAIRS: usize = 25;

fn main() -> qmambaiqa::Result<()> {
    let threads = std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(2);
    let scorer = Scorer::open(&Options { threads, ..Options::default() })?;
    println!("{} on {}; ms a frame", scorer.model_name(), scorer.device());
    println!("{:>9}  {:9}  {:>5}  {:>9}  {:>9}  {:>5}", "size", "format", "crops", "scales=1", "all", "ratio");
    for (width, height) in [(1920, 1080), (3840, 2160)] {
        for (format, bytes) in [(PixelFormat::I420, 1), (PixelFormat::P01010le, 2)] {
            for crops in [1, 4, 9] {
                let planes = planes(width * bytes, height, format.planes());
                let planes: Vec<Plane> = planes.iter().map(|(data, stride)| Plane::new(data, *stride)).collect();
                let frame = Frame::new(format, width, height, &planes, Colour::BT709)?;
                let all = CropPlan::new(crops, Sampling::Grid, 0)?.with_scales("1,2,4,8,16,32".parse()?);
                let own = all.with_scales(Scales::NATIVE);
                let time = |plan: &CropPlan| -> qmambaiqa::Result<Duration> {
                    let begin = Instant::now();
                    scorer.score(&frame, plan, 0)?;
                    Ok(begin.elapsed())
                };
                time(&own)?;
                time(&all)?;
                let mut pairs = Vec::with_capacity(PAIRS);
                for _ in 0..PAIRS {
                    pairs.push((time(&own)?.as_secs_f64(), time(&all)?.as_secs_f64()));
                }
                let median = |of: fn(&(f64, f64)) -> f64| {
                    let mut values: Vec<f64> = pairs.iter().map(of).collect();
                    values.sort_by(f64::total_cmp);
                    values[PAIRS / 2]
                };
                println!(
                    "{width:>4}x{height:<4}  {:9}  {crops:>5}  {:>9.2}  {:>9.2}  {:>5.2}",
                    format.name(),
                    1e3 * median(|p| p.0),
                    1e3 * median(|p| p.1),
                    median(|p| p.1 / p.0)
                );
            }
        }
    }
    Ok(())
}

/// Planes of 4:2:0 with noise, and their strides in bytes; the time does not depend on what is seen.
fn planes(row: usize, height: usize, count: usize) -> Vec<(Vec<u8>, usize)> {
    let noise = |n: usize| (0..n).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect::<Vec<u8>>();
    let chroma = if count == 2 { row } else { row / 2 };
    let mut planes = vec![(noise(row * height), row)];
    planes.extend((1..count).map(|_| (noise(chroma * height / 2), chroma)));
    planes
}
