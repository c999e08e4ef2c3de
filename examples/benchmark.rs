//! Frames per second of the embedded model, and where the time goes: `cargo run --release --example benchmark [THREADS]`.

use qmambaiqa::crops::{CropPlan, Sampling};
use qmambaiqa::frame::{Colour, Frame, PixelFormat, Plane};
use qmambaiqa::{Options, Scorer};
use std::time::{Duration, Instant};

const SIZE: (usize, usize) = (1280, 720);
const RUNS: usize = 9;

fn main() -> qmambaiqa::Result<()> {
    let threads = std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(2);
    let begin = Instant::now();
    let scorer = Scorer::open(&Options { threads, ..Options::default() })?;
    println!("{} on {}, loaded in {:.0?}", scorer.model_name(), scorer.device(), begin.elapsed());
    let (width, height) = SIZE;
    // A moving pattern with detail; the time does not depend on what is seen.
    let noise = |n: usize| (0..n).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect::<Vec<u8>>();
    let (luma, chroma) = (noise(width * height), noise(width * height / 4));
    let planes = [Plane::new(&luma, width), Plane::new(&chroma, width / 2), Plane::new(&chroma, width / 2)];
    let frame = Frame::new(PixelFormat::I420, width, height, &planes, Colour::BT709)?;
    for crops in [1, 4, 9] {
        let plan = CropPlan::new(crops, Sampling::Grid, 0)?;
        let first = scorer.score(&frame, &plan, 0)?; // warm
        let mut whole = Vec::new();
        let mut sampling = Vec::new();
        for index in 0..RUNS as u64 {
            let begin = Instant::now();
            let batch = plan.sample(&frame, index)?;
            sampling.push(begin.elapsed());
            drop(batch);
            let begin = Instant::now();
            let again = scorer.score(&frame, &plan, index)?;
            whole.push(begin.elapsed());
            assert_eq!(first.raw.to_bits(), again.raw.to_bits(), "scores must repeat");
        }
        let (whole, sampling) = (median(whole), median(sampling));
        println!(
            "{width}x{height} I420, {crops} crops: {:.1} frames/s, {:.1} ms a frame: crops and colour {:.0} %, network {:.0} %",
            1.0 / whole.as_secs_f64(),
            whole.as_secs_f64() * 1e3,
            100.0 * sampling.as_secs_f64() / whole.as_secs_f64(),
            100.0 - 100.0 * sampling.as_secs_f64() / whole.as_secs_f64()
        );
    }
    Ok(())
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}
