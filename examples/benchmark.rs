//! Frames per second of the embedded model, and where the time goes: `cargo run --release --example benchmark [THREADS]`.

use qmambaiqa::crops::{CropPlan, Sampling};
use qmambaiqa::frame::{Colour, Frame, PixelFormat, Plane};
use qmambaiqa::indicators::Watch;
use qmambaiqa::ops::timing;
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
        let mut times = Vec::new();
        for index in 0..RUNS as u64 {
            let begin = Instant::now();
            let again = scorer.score(&frame, &plan, index)?;
            times.push(begin.elapsed());
            assert_eq!(first.raw.to_bits(), again.raw.to_bits(), "scores must repeat");
        }
        let time = median(times).as_secs_f64();
        let (fps, ms) = (1.0 / time, time * 1e3);
        println!("{width}x{height} I420, {crops} crops, {threads} threads: {fps:.1} frames/s, {ms:.1} ms a frame");
    }
    indicators()?;
    shares(&frame)
}

/// What the indicators of a frame cost, beside the network.
fn indicators() -> qmambaiqa::Result<()> {
    let (width, height) = (1920usize, 1080);
    let data: Vec<u8> = (0..width * height * 4).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    for (format, colour, step) in [
        (PixelFormat::I420, Colour::BT709, 1),
        (PixelFormat::P01010le, Colour::BT709, 2),
        (PixelFormat::Bgra, Colour::SRGB, 4),
    ] {
        let planes = [Plane::new(&data, width * step); 3];
        let frame = Frame::new(format, width, height, &planes, colour)?;
        let mut watch = Watch::default();
        let mut times = Vec::new();
        for index in 0..101 {
            let begin = Instant::now();
            watch.look(&frame, Some(Duration::from_millis(40 * index)))?;
            times.push(begin.elapsed());
        }
        println!("indicators of {width}x{height} {format}: {:.0?} a frame", median(times));
    }
    Ok(())
}

/// Where the time goes, on one thread: with more, one that waits helps another, and times would count twice.
fn shares(frame: &Frame) -> qmambaiqa::Result<()> {
    let scorer = Scorer::open(&Options { threads: 1, ..Options::default() })?;
    let plan = CropPlan::new(4, Sampling::Grid, 0)?;
    scorer.score(frame, &plan, 0)?; // warm
    let begin = Instant::now();
    for index in 0..RUNS as u64 {
        plan.sample(frame, index)?;
    }
    let sampling = begin.elapsed();
    timing::start();
    let begin = Instant::now();
    for index in 0..RUNS as u64 {
        scorer.score(frame, &plan, index)?;
    }
    let whole = begin.elapsed();
    let parts = timing::stop();
    let rest = whole.saturating_sub(sampling + parts.iter().sum::<Duration>());
    let names = timing::PARTS.iter().map(|(_, name)| *name);
    let rows = names.zip(parts).chain([("crops and colour", sampling), ("everything else", rest)]);
    println!("a frame of 4 crops on one thread, {:.1} ms:", whole.as_secs_f64() * 1e3 / RUNS as f64);
    for (name, time) in rows {
        let (ms, share) = (time.as_secs_f64() * 1e3 / RUNS as f64, 100.0 * time.as_secs_f64() / whole.as_secs_f64());
        println!("{name:>22} {ms:6.2} ms {share:5.1} %");
    }
    Ok(())
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}
