//! What a GPU does: checks first, then times. `cargo run --release --features cuda --example benchmark_gpu [VARIANT]`.
//!
//! Times are the GPU's, by its events, medians of several runs of many launches; of frames, the wall's. Shares are of the copy
//! bandwidth and the rate of matrix products that this card shows in the same run. With TRY set, sizes are so small that an
//! emulated GPU (`kernels/host/driver.sh`) gets through: that tries the program, and its times say nothing.

use candle_core::{DType, Device, Result, Tensor};
use qmambaiqa::crops::{CROP, CropPlan, Crops, Sampling};
use qmambaiqa::frame::{Colour, Frame, PixelFormat, Plane};
use qmambaiqa::model::parameters::{Loaded, Precision, Scope, Trainable};
use qmambaiqa::model::{Config, QMamba};
use qmambaiqa::ops::selective_scan::{self, ScanOrders};
use qmambaiqa::ops::timing;
use qmambaiqa::random::Random;
use qmambaiqa::{Options, Scorer, device};
use std::sync::Arc;
use std::time::Instant;

const RUNS: usize = 7;
/// Bytes that QMamba-T's operations move for a crop, for each byte of an activation: `kernels/README.md`.
const BYTES: f64 = 19.4e9 / 128.0 / 2.0;

/// What the card shows of itself.
struct Card {
    device: Device,
    /// Bytes a second, read and written, of a copy.
    copy: f64,
    /// Whether this only tries the program.
    small: bool,
}

impl Card {
    fn size(&self, real: usize, small: usize) -> usize {
        if self.small { small } else { real }
    }
}

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let variant = std::env::args().nth(1).unwrap_or_else(|| "qmamba-t".into());
    let device = match device::open("cuda") {
        Ok(device) => device,
        Err(reason) if std::env::var_os("QMAMBAIQA_GPU").is_some() => return Err(reason.into()),
        Err(reason) => {
            println!("not run: {reason}");
            return Ok(());
        }
    };
    let small = std::env::var_os("TRY").is_some();
    frames(small)?;
    let values = if small { 1 << 16 } else { 1usize << 28 };
    let much = Tensor::zeros(values, DType::F32, &device)?;
    let copy = (2 * 4 * values) as f64 / seconds(&device, 10, || much.copy().map(drop))?;
    drop(much);
    println!("copy: {:.0} GB/s", copy / 1e9);
    let card = Card { device, copy, small };
    scans(&card)?;
    for of in [DType::F16, DType::F32] {
        network(&card, &variant, of)?;
    }
    training(&card)?;
    Ok(())
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// Seconds that `work` takes, when it is launched so many times in a row.
fn seconds(device: &Device, times: usize, work: impl Fn() -> Result<()>) -> Result<f64> {
    work()?; // warm
    device.synchronize()?;
    let run = |_| device::seconds(device, || (0..times).try_for_each(|_| work())).map_err(candle_core::Error::wrap);
    Ok(median((0..RUNS).map(run).collect::<Result<_>>()?) / times as f64)
}

/// Frames with 8 crops each through a scorer, one by one and in batches; scores are checked against the CPU's.
fn frames(small: bool) -> qmambaiqa::Result<()> {
    let (width, height) = if small { (240, 232) } else { (1920usize, 1080) };
    let noise = |n: usize| (0..n).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect::<Vec<u8>>();
    let (luma, chroma) = (noise(width * height), noise(width * height / 4));
    let planes = [Plane::new(&luma, width), Plane::new(&chroma, width / 2), Plane::new(&chroma, width / 2)];
    let frame = Frame::new(PixelFormat::I420, width, height, &planes, Colour::BT709)?;
    let plan = CropPlan::new(if small { 1 } else { 8 }, Sampling::Grid, 0)?;
    let open =
        |device: &str, precision| Scorer::open(&Options { device: device.into(), precision, ..Options::default() });
    let cpu = open("cpu", Precision::Exact)?.score(&frame, &plan, 0)?.score;
    for (precision, limit) in [(Precision::Exact, 0.01), (Precision::Standard, 0.2)] {
        let scorer = open("cuda", precision)?;
        let gpu = scorer.score(&frame, &plan, 0)?.score;
        println!("{}, {}: score {gpu:.4}, on the CPU {cpu:.4}", scorer.device(), precision.nick());
        assert!((gpu - cpu).abs() < limit, "{gpu} is not {cpu}");
        let begin = Instant::now();
        let crops = (0..32).map(|i| scorer.crops(&frame, &[], &plan, i)).collect::<qmambaiqa::Result<Vec<_>>>()?;
        let cut = begin.elapsed().as_secs_f64() / crops.len() as f64;
        for batch in if small { vec![1] } else { vec![1, 4, 8, 32] } {
            let crops: Vec<&Crops> = crops[..batch].iter().collect();
            let graphs = scorer.graphs();
            let time = |_| -> qmambaiqa::Result<f64> {
                let begin = Instant::now();
                scorer.score_batch(&crops)?;
                Ok(begin.elapsed().as_secs_f64() / batch as f64)
            };
            // The first is slower for other reasons, the fourth is recorded.
            let launches = (0..3).map(time).collect::<qmambaiqa::Result<Vec<_>>>()?;
            time(0)?;
            let score = median((0..RUNS).map(time).collect::<qmambaiqa::Result<Vec<_>>>()?);
            let how = if scorer.graphs() == graphs { "" } else { " as a graph" };
            println!(
                "{width}x{height} I420, {} crops, batch {batch}, {}: parts of planes copied {:.3} ms a frame, upload and network \
                 {:.3} ms{how}, {:.3} ms launch by launch, {:.0} frames/s one after the other",
                plan.crops(),
                precision.nick(),
                cut * 1e3,
                score * 1e3,
                launches[1].min(launches[2]) * 1e3,
                1.0 / (cut + score)
            );
        }
    }
    Ok(())
}

/// The four-direction scan alone, as in each stage of QMamba-T.
fn scans(card: &Card) -> Result<()> {
    for of in [DType::F16, DType::F32] {
        for (side, channels) in [(56, 192), (28, 384), (14, 768), (7, 1536)] {
            let (batch, tokens, rank) = (card.size(128, 1), side * side, channels / 32);
            let normal = |shape: &[usize]| Tensor::randn(0f32, 1f32, shape, &card.device);
            let x = normal(&[batch, tokens, channels])?.to_dtype(of)?;
            let projections = normal(&[batch, tokens, 4 * (rank + 2)])?.to_dtype(of)?;
            let parameters = (normal(&[4, rank + 3, channels])? * 0.3)?;
            let orders = Arc::new(ScanOrders::new(side, side, None));
            let time = seconds(&card.device, 10, || {
                selective_scan::selective_scan(&x, &projections, &parameters, &orders, 1, true).map(drop)
            })?;
            let values = 2 * x.elem_count() + projections.elem_count();
            let rate = (values * of.size_in_bytes()) as f64 / time;
            let steps = (4 * batch * tokens * channels) as f64 / time;
            println!(
                "scan {side}x{side}x{channels}, batch {batch}, {}: {:.3} ms, {:.0} GB/s, {:.0} % of copy, {:.2} T steps/s",
                of.as_str(),
                time * 1e3,
                rate / 1e9,
                100.0 * rate / card.copy,
                steps / 1e12
            );
        }
    }
    Ok(())
}

/// A network with random weights, whole.
fn network(card: &Card, variant: &str, of: DType) -> std::result::Result<(), Box<dyn std::error::Error>> {
    let config = Config::named(variant)?;
    let size = card.size(8192, 64);
    let square = Tensor::randn(0f32, 1f32, (size, size), &card.device)?.to_dtype(of)?;
    let product = 2.0 * (size as f64).powi(3) / seconds(&card.device, 5, || square.matmul(&square).map(drop))?;
    println!("matrix products, {}: {:.0} TFLOP/s", of.as_str(), product / 1e12);
    let mut random = Trainable::new(1, Default::default(), &Device::Cpu);
    QMamba::new(Scope::new(&mut random), &config)?;
    let frozen = |(name, variable): (String, candle_core::Var)| (name, variable.as_detached_tensor());
    let tensors = random.variables.into_iter().map(frozen).collect();
    let mut loaded = Loaded { tensors, device: card.device.clone(), activations: of, ..Loaded::default() };
    let model = QMamba::new(Scope::new(&mut loaded), &config)?;
    for batch in if card.small { vec![1] } else { vec![1, 8, 64, 128, 256] } {
        let crops = Tensor::randn(0f32, 1f32, (batch, CROP, CROP, 3), &card.device)?;
        let time = match seconds(&card.device, 4, || model.forward(&crops, None).map(drop)) {
            Ok(time) => time,
            Err(error) => {
                println!("{variant}, batch {batch}, {}: not run: {error}", of.as_str());
                continue;
            }
        };
        let flops = 2.0 * (config.macs() * batch as u64) as f64;
        let floor = (flops / product).max(if variant == "qmamba-t" {
            BYTES * of.size_in_bytes() as f64 * batch as f64 / card.copy
        } else {
            0.0
        });
        println!(
            "{variant}, batch {batch}, {}: {:.2} ms, {:.0} images/s, {:.1} TFLOP/s, {:.0} % of the products' rate, floor {:.2} ms, \
             {:.0} % of it",
            of.as_str(),
            time * 1e3,
            batch as f64 / time,
            flops / time / 1e12,
            100.0 * flops / time / product,
            floor * 1e3,
            100.0 * floor / time
        );
        if batch == card.size(128, 1) {
            parts(&model, &crops)?;
        }
    }
    Ok(())
}

/// Where the time of a batch goes, each operation waited for.
fn parts(model: &QMamba, crops: &Tensor) -> Result<()> {
    timing::start();
    model.forward(crops, None)?;
    let parts = timing::stop().map(|part| part.as_secs_f64() * 1e3);
    let all: f64 = parts.iter().sum();
    for ((_, name), part) in timing::PARTS.iter().zip(parts) {
        println!("  {name:24} {part:8.3} ms {:3.0} %", 100.0 * part / all);
    }
    Ok(())
}

/// Forwards and backwards through qmamba-nano, on the GPU and on the CPU, without the optimiser.
fn training(card: &Card) -> std::result::Result<(), Box<dyn std::error::Error>> {
    let config = Config::named("qmamba-nano")?;
    for (device, batch) in
        [(&Device::Cpu, 8), (&card.device, 32), (&card.device, 128)].map(|(d, b)| (d, card.size(b, 1)))
    {
        let mut source = Trainable::new(1, Default::default(), device);
        let model = QMamba::new(Scope::new(&mut source), &config)?;
        let mut random = Random::new(1, 0);
        let values = (0..batch * CROP * CROP * 3).map(|_| random.uniform() as f32 - 0.5).collect::<Vec<_>>();
        let crops = Tensor::from_vec(values, (batch, CROP, CROP, 3), device)?;
        let time = seconds(device, 1, || {
            let loss = model.forward(&crops, None)?.score.sqr()?.mean_all()?;
            loss.backward().map(drop)
        })?;
        let on = if device.is_cpu() { "CPU, all cores" } else { "GPU" };
        println!("training qmamba-nano on the {on}, batch {batch}: {:.0} images/s", batch as f64 / time);
    }
    Ok(())
}
