//! What `train` and `tune` share: data, schedule, progress.

use anyhow::{Context as _, Result};
use candle_core::Device;
use clap::{Args as ClapArgs, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use qmambaiqa::model::AdapterConfig;
use qmambaiqa::train::{Autocast, Fold, Optimizer, Phase, Progress, ScoreRange, Settings, SplitBy, train_on};
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// Data and schedule of a run.
#[derive(ClapArgs)]
pub struct TrainingArgs {
    /// Folder with a mos.csv (columns image,mos) beside its pictures, or one of the known data sets (LIVE, CSIQ, TID2013,
    /// KADID-10k, LIVEC, KonIQ-10k, LIVEFB, SPAQ, AGIQA-3K, AIGCIQA2023) as its authors distribute it; several are mixed
    #[arg(long, required = true)]
    data: Vec<PathBuf>,
    /// Weights file to write; its log and checkpoint lie beside it
    #[arg(long)]
    out: PathBuf,
    /// Scores that mean worst and best, as LOW:HIGH, instead of each set's own lowest and highest
    #[arg(long)]
    mos_range: Option<ScoreRange>,
    /// See pictures made from one reference together, cut at the same place: learns their order rather than that of contents
    /// (the column `reference` of mos.csv, or a known set's references)
    #[arg(long)]
    together: bool,
    /// Folder whose labels a head of its own learns beside the network's (`train`): it teaches features and moves no score
    #[arg(long)]
    auxiliary: Vec<PathBuf>,
    /// Pictures of such folders in an epoch for each of the others'
    #[arg(long, default_value_t = 0.5)]
    auxiliary_share: f64,
    /// Learn such folders with the network's own head, each through a scale and an offset of its own, not with heads of their own
    #[arg(long)]
    auxiliary_mapped: bool,
    /// Learn a head that knows at which size of its picture a crop was taken (scales=auto), of crops at all sizes that scoring takes
    #[arg(long)]
    scale_head: bool,
    /// Show crops at the image's own size with varying chroma upsampling, as different players produce it
    #[arg(long)]
    vary_chroma: bool,
    /// Safetensors file with a tensor `features` to be predicted too: a vector (rows, size) or a map (rows, height,
    /// width, size) for each picture of the first folder
    #[arg(long)]
    teacher_features: Option<PathBuf>,
    /// Weight of the loss on the teacher's features
    #[arg(long, default_value_t = 0.1)]
    teacher_weight: f64,
    /// Weight of the loss on the order of pictures, and of a picture above its distorted copies
    #[arg(long, default_value_t = 0.5)]
    rank_weight: f64,
    /// Of every eight pictures, how many also pass in two distorted copies
    #[arg(long, default_value_t = 1)]
    distorted: usize,
    /// Crop sizes in turn, as CROP:EPOCHS; the paper's protocol is 224:9
    #[arg(long, value_delimiter = ',', default_value = "224:9")]
    phases: Vec<Phase>,
    /// Pictures in a step
    #[arg(long, default_value_t = 32)]
    batch: usize,
    /// How a step is made from gradients; muon (with AdamW for what is no matrix) learns faster from a random start
    #[arg(long, value_enum, default_value = "adamw")]
    optimizer: Stepper,
    /// What the network computes with: none (32-bit floats, the same result on every device up to rounding) or bf16 (products and
    /// activations in bfloat16, weights and their state in 32-bit floats: for GPUs, whose products it makes faster; slower on CPUs)
    #[arg(long, value_enum, default_value = "none")]
    autocast: Cast,
    /// Highest learning rate
    #[arg(long, default_value_t = 2e-4)]
    learning_rate: f64,
    /// How the learning rate falls
    #[arg(long, value_enum, default_value = "step")]
    schedule: Schedule,
    /// Epochs after which the rate is divided by ten (step schedule)
    #[arg(long, default_value_t = 3)]
    decay_every: usize,
    /// Steps over which the rate rises
    #[arg(long, default_value_t = 100)]
    warmup: usize,
    /// AdamW's weight decay
    #[arg(long, default_value_t = 0.05)]
    weight_decay: f64,
    /// Factor of the weights' moving average, which is what is validated and saved
    #[arg(long, default_value_t = 0.999)]
    average: f64,
    /// Part of each set that is held out (0: none, and the last epoch's weights are kept)
    #[arg(long, default_value_t = 0.2)]
    validation: f64,
    /// How it is chosen: `ranges` (the last of each numbered series of names), `random`, or `column:NAME` (whole groups of
    /// one value in that column of mos.csv, such as the reference)
    #[arg(long, default_value = "ranges")]
    split: SplitBy,
    /// Hold out fold I of N, as I/N from 1, instead of a part (random and column splits)
    #[arg(long)]
    fold: Option<Fold>,
    /// Epochs from one validation to the next
    #[arg(long, default_value_t = 1)]
    validate_every: usize,
    /// Seed of weights, order and crops
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Threads (0: one for each core)
    #[arg(long, default_value_t = 0)]
    threads: usize,
    /// Where to compute: auto, cpu, cuda or cuda:N
    #[arg(long, default_value = "cpu")]
    device: String,
}

#[derive(Clone, Copy, ValueEnum)]
enum Schedule {
    Step,
    Cosine,
}

#[derive(Clone, Copy, ValueEnum)]
enum Stepper {
    #[value(name = "adamw")]
    AdamW,
    Muon,
}

#[derive(Clone, Copy, ValueEnum)]
enum Cast {
    None,
    Bf16,
}

/// Candle spreads its sums, which backpropagation makes many of, over a pool of its own whose waiting threads spin and halve
/// our speed; only the environment, read once, keeps it to one thread. So the command starts over with that set.
#[cfg(unix)]
pub fn without_candles_threads() -> Result<()> {
    use std::os::unix::process::CommandExt as _;
    const NAME: &str = "CANDLE_NUM_THREADS";
    if std::env::var_os(NAME).is_some() {
        return Ok(());
    }
    let error =
        std::process::Command::new(std::env::current_exe()?).args(std::env::args_os().skip(1)).env(NAME, "1").exec();
    Err(error).context("cannot start over with CANDLE_NUM_THREADS=1")
}

#[cfg(not(unix))]
pub fn without_candles_threads() -> Result<()> {
    Ok(())
}

impl TrainingArgs {
    /// Trains what `model`, `start` and `tuning` say.
    pub fn run(self, model: String, start: Option<String>, tuning: Option<AdapterConfig>) -> Result<()> {
        without_candles_threads()?;
        let threads = threads(self.threads);
        let out = self.out.clone();
        let device = qmambaiqa::device::open(&self.device)?;
        watched(&device, &self.settings(model, start, tuning), &out, threads)
    }

    fn settings(self, model: String, start: Option<String>, tuning: Option<AdapterConfig>) -> Settings {
        Settings {
            data: self.data,
            model,
            start,
            tuning,
            mos_range: self.mos_range,
            together: self.together,
            auxiliary: self.auxiliary,
            auxiliary_share: self.auxiliary_share,
            auxiliary_mapped: self.auxiliary_mapped,
            scale_head: self.scale_head,
            vary_chroma: self.vary_chroma,
            teacher_features: self.teacher_features,
            teacher_weight: self.teacher_weight,
            rank_weight: self.rank_weight,
            distorted: self.distorted,
            phases: self.phases,
            batch: self.batch,
            optimizer: match self.optimizer {
                Stepper::AdamW => Optimizer::AdamW,
                Stepper::Muon => Optimizer::Muon,
            },
            autocast: match self.autocast {
                Cast::None => Autocast::None,
                Cast::Bf16 => Autocast::Bf16,
            },
            learning_rate: self.learning_rate,
            decay_every: match self.schedule {
                Schedule::Step => Some(self.decay_every),
                Schedule::Cosine => None,
            },
            warmup: self.warmup,
            weight_decay: self.weight_decay,
            average: self.average,
            validation: self.validation,
            split: self.split,
            fold: self.fold,
            validate_every: self.validate_every,
            seed: self.seed,
        }
    }
}

/// So many threads, or as many as there are cores for 0.
pub fn threads(asked: usize) -> usize {
    match asked {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        n => n,
    }
}

/// A bar, and what shows progress on it; lines where there is no terminal.
pub fn watching() -> Result<(ProgressBar, impl Fn(Progress) + Sync)> {
    let bar = ProgressBar::new(0);
    let style = ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len} {elapsed} left {eta}")?;
    bar.set_style(style);
    let shown = bar.clone();
    let watch = move |progress: Progress| match progress {
        Progress::Loading(done, total) => {
            shown.set_message("reading");
            shown.set_length(total as u64);
            shown.set_position(done as u64);
        }
        Progress::Note(text) => say(&shown, &text),
        Progress::Step(step, total, loss) => {
            shown.set_length(total as u64);
            shown.set_position(step as u64);
            shown.set_message(format!("loss {loss:.4}"));
            if shown.is_hidden() && step % 50 == 0 {
                say(&shown, &format!("step {step}/{total} loss {loss:.4}"));
            }
        }
        Progress::Epoch(epoch, srcc, plcc, better) => {
            let mark = if better { ", best so far, saved" } else { "" };
            say(&shown, &format!("epoch {epoch}: validation SRCC {srcc:.4} PLCC {plcc:.4}{mark}"));
            shown.reset_eta();
        }
    };
    Ok((bar, watch))
}

/// Trains with progress shown.
fn watched(device: &Device, settings: &Settings, out: &Path, threads: usize) -> Result<()> {
    let (bar, watch) = watching()?;
    let summary = train_on(device, settings, out, threads, &watch)?;
    bar.finish_and_clear();
    let reached = match summary.srcc.is_nan() {
        true => format!("nothing held out, epoch {}", summary.epoch),
        false => format!("validation SRCC {:.4} in epoch {}", summary.srcc, summary.epoch),
    };
    let text = format!("{}: {} parameters, {reached}, {:.0} s", out.display(), summary.parameters, summary.seconds);
    say(&bar, &text);
    Ok(())
}

/// A line above the bar, or plainly where there is no terminal.
fn say(bar: &ProgressBar, text: &str) {
    if bar.is_hidden() {
        // Nobody may be reading; training goes on.
        let _ = writeln!(std::io::stdout(), "{text}");
    } else {
        bar.println(text);
    }
}
