//! Frames per second of the embedded model, or time per crop of variants with random weights; and where the time goes:
//! `cargo run --release --example benchmark [THREADS [VARIANT[:PRECISION]...]]`. Without a variant, `:PRECISION` alone is the
//! embedded model's.

use candle_core::{Device, Tensor};
use qmambaiqa::crops::{CROP, CropPlan, Sampling};
use qmambaiqa::frame::{Colour, Frame, PixelFormat, Plane};
use qmambaiqa::indicators::Watch;
use qmambaiqa::model::parameters::{Loaded, Precision, Scope, Trainable};
use qmambaiqa::model::{Config, QMamba};
use qmambaiqa::ops::timing;
use qmambaiqa::{Options, Scorer};
use std::time::{Duration, Instant};

const SIZE: (usize, usize) = (1280, 720);
const RUNS: usize = 9;

fn main() -> qmambaiqa::Result<()> {
    let threads = std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(2);
    if std::env::args().len() < 3 {
        return embedded(threads, Precision::Standard);
    }
    std::env::args().skip(2).try_for_each(|arg| {
        let (variant, precision) = match arg.split_once(':') {
            Some((variant, precision)) => (variant, precision.parse()?),
            None => (&arg[..], Precision::Standard),
        };
        if variant.is_empty() { embedded(threads, precision) } else { network(variant, threads, precision) }
    })
}

/// Frames per second of the embedded model.
fn embedded(threads: usize, precision: Precision) -> qmambaiqa::Result<()> {
    let begin = Instant::now();
    let scorer = Scorer::open(&Options { threads, precision, ..Options::default() })?;
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
    shares(&frame, precision)
}

/// Time per crop of a network with random weights, alone and in batches, as a scorer runs it: a crop a task.
fn network(variant: &str, threads: usize, precision: Precision) -> qmambaiqa::Result<()> {
    use rayon::prelude::*;
    let config = Config::named(variant)?;
    let mut random = Trainable::new(1, Default::default(), &Device::Cpu);
    QMamba::new(Scope::new(&mut random), &config)?;
    let frozen = |(name, variable): (String, candle_core::Var)| (name, variable.as_detached_tensor());
    let tensors = random.variables.into_iter().map(frozen).collect();
    let mut loaded = Loaded { tensors, precision, ..Loaded::default() };
    let model = QMamba::new(Scope::new(&mut loaded), &config)?;
    let crop = Tensor::rand(-2f32, 2f32, (1, CROP, CROP, 3), &Device::Cpu)?;
    let run = |batch: usize, threads: usize| -> qmambaiqa::Result<Duration> {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .map_err(|e| qmambaiqa::Error::Input(e.to_string()))?;
        let once = || {
            let begin = Instant::now();
            (0..batch).into_par_iter().try_for_each(|_| model.forward(&crop, None).map(drop))?;
            Ok(begin.elapsed() / batch as u32)
        };
        let times = pool.install(|| (0..=RUNS).map(|_| once()).collect::<qmambaiqa::Result<Vec<_>>>())?;
        Ok(median(times[1..].to_vec()))
    };
    let floor = config.macs() as f64 * 2e-9;
    for batch in [1, 8] {
        let time = run(batch, threads)?.as_secs_f64();
        let (ms, rate) = (time * 1e3, floor / time);
        println!(
            "{variant} {}, {threads} threads, batch {batch}: {ms:.1} ms a crop, {rate:.0} GFLOP/s",
            precision.nick()
        );
    }
    timing::start();
    let whole = run(1, 1)?;
    table(&format!("{variant}: a crop on one thread"), whole, RUNS as f64 + 1.0, timing::stop(), &[]);
    Ok(())
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
fn shares(frame: &Frame, precision: Precision) -> qmambaiqa::Result<()> {
    let scorer = Scorer::open(&Options { threads: 1, precision, ..Options::default() })?;
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
    let runs = RUNS as f64;
    let sampling = ("crops and colour", sampling.div_f64(runs));
    table("a frame of 4 crops on one thread", whole.div_f64(runs), runs, timing::stop(), &[sampling]);
    Ok(())
}

/// Prints the parts of `whole`, of which `parts` are the sums over `runs`.
fn table(what: &str, whole: Duration, runs: f64, parts: [Duration; timing::PARTS.len()], others: &[(&str, Duration)]) {
    let parts = timing::PARTS.iter().zip(parts).map(|(&(_, name), sum)| (name, sum.div_f64(runs)));
    let mut rows: Vec<_> = parts.chain(others.iter().copied()).collect();
    rows.push(("everything else", whole.saturating_sub(rows.iter().map(|(_, time)| *time).sum())));
    println!("{what}, {:.2} ms:", whole.as_secs_f64() * 1e3);
    for (name, time) in rows {
        let (ms, share) = (time.as_secs_f64() * 1e3, 100.0 * time.as_secs_f64() / whole.as_secs_f64());
        println!("{name:>22} {ms:6.2} ms {share:5.1} %");
    }
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}
