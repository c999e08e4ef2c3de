//! Pictures per second of training on a GPU and on the CPU, in 32-bit floats and in bfloat16:
//! `CANDLE_NUM_THREADS=1 cargo run --release --features cuda --example benchmark_training FOLDER [VARIANT [CROP [CPU-PICTURES]]]`.
//!
//! FOLDER has a `mos.csv`. On the GPU one epoch over all of its pictures, on the CPU over the first of them (640), in steps of
//! 32 and crops of 224 pixels (CROP), with what `train` does beside: ranking, distorted copies, the average of weights. Reading the pictures and
//! the first steps are not counted. Without CANDLE_NUM_THREADS=1, which the command line sets by itself, the CPU is slower than there.

use candle_core::Device;
use qmambaiqa::device;
use qmambaiqa::train::{Autocast, Optimizer, Phase, Progress, Settings, SplitBy, train_on};
use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Instant;

const BATCH: usize = 32;

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let Some(folder) = args.next() else {
        return Err("usage: benchmark_training FOLDER [VARIANT [CROP [CPU-PICTURES]]]".into());
    };
    let folder = Path::new(&folder).canonicalize().map_err(|e| format!("{folder}: {e}"))?;
    let variant = args.next().unwrap_or_else(|| "qmamba-nano".into());
    let crop = args.next().map_or(Ok(224), |n| n.parse()).map_err(|e| format!("size of crops: {e}"))?;
    let on_cpu = args.next().map_or(Ok(640), |n| n.parse()).map_err(|e| format!("number of pictures: {e}"))?;
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    println!("{variant}, crops of {crop}x{crop}, {BATCH} pictures a step, {threads} threads");
    let gpu = match device::open("cuda") {
        Ok(gpu) => Some(gpu),
        Err(reason) if std::env::var_os("QMAMBAIQA_GPU").is_some() => return Err(reason.into()),
        Err(reason) => {
            println!("GPU not run: {reason}");
            None
        }
    };
    let run = |name: &str, device: &Device, optimizer, autocast, most| -> Result<f64, Box<dyn Error>> {
        let begin = Instant::now();
        let (rate, steps) = rate(&folder, (&variant, crop), device, (optimizer, autocast), most, threads)?;
        println!(
            "{name}: {rate:.1} pictures/s over {steps} steps, {:.0} s with reading",
            begin.elapsed().as_secs_f64()
        );
        Ok(rate)
    };
    use Autocast::{Bf16, None as Exact};
    let cpu = run("CPU, f32, AdamW", &Device::Cpu, Optimizer::AdamW, Exact, on_cpu)?;
    let Some(gpu) = gpu else { return Ok(()) };
    for (name, optimizer, autocast) in [
        ("GPU, f32, AdamW", Optimizer::AdamW, Exact),
        ("GPU, bf16, AdamW", Optimizer::AdamW, Bf16),
        ("GPU, bf16, Muon", Optimizer::Muon, Bf16),
    ] {
        println!("  {:.2} times the CPU's", run(name, &gpu, optimizer, autocast, usize::MAX)? / cpu);
    }
    Ok(())
}

/// Pictures per second of an epoch over the first `most` pictures, and the steps that were counted.
fn rate(
    folder: &Path,
    (variant, crop): (&str, usize),
    device: &Device,
    (optimizer, autocast): (Optimizer, Autocast),
    most: usize,
    threads: usize,
) -> Result<(f64, usize), Box<dyn Error>> {
    let work = tempfile::tempdir()?;
    table(folder, work.path(), most)?;
    let settings = Settings {
        data: vec![work.path().to_owned()],
        model: variant.to_owned(),
        phases: vec![Phase { crop, epochs: 1 }],
        batch: BATCH,
        optimizer,
        autocast,
        decay_every: None,
        validation: 0.0,
        split: SplitBy::Random,
        ..Settings::default()
    };
    let ends = Mutex::new(Vec::new());
    let watch = |progress| {
        if let (Progress::Step(..), Ok(mut ends)) = (progress, ends.lock()) {
            ends.push(Instant::now());
        }
    };
    train_on(device, &settings, &work.path().join("out.safetensors"), threads, &watch)?;
    let ends = ends.into_inner()?;
    // The first steps load kernels and fill pools of memory.
    let first = (ends.len() / 4).min(10);
    let (Some(begin), Some(end)) = (ends.get(first), ends.last().filter(|_| ends.len() > first + 1)) else {
        return Err(format!("{}: too few pictures for two steps of {BATCH}", folder.display()).into());
    };
    let steps = ends.len() - 1 - first;
    Ok(((steps * BATCH) as f64 / (*end - *begin).as_secs_f64(), steps))
}

/// A `mos.csv` of the first pictures of `folder`'s, as many as whole steps have.
fn table(folder: &Path, to: &Path, most: usize) -> Result<(), Box<dyn Error>> {
    let mut rows = csv::Reader::from_path(folder.join("mos.csv"))?;
    let column = |name: &str, head: &csv::StringRecord| head.iter().position(|own| own == name);
    let head = rows.headers()?.clone();
    let (Some(image), Some(mos)) = (column("image", &head), column("mos", &head)) else {
        return Err(format!("{}: mos.csv has no columns image and mos", folder.display()).into());
    };
    let records = rows.records().collect::<Result<Vec<_>, _>>()?;
    let count = records.len().min(most) / BATCH * BATCH;
    let mut out = csv::Writer::from_path(to.join("mos.csv"))?;
    out.write_record(["image", "mos"])?;
    for record in &records[..count] {
        let path: PathBuf = folder.join(&record[image]);
        out.write_record([&path.display().to_string(), &record[mos]])?;
    }
    Ok(out.flush()?)
}
