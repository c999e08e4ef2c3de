//! What the subcommands share: the settings of a scorer, output lines, errors.

use anyhow::{Result, bail};
use clap::{Args as ClapArgs, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use parking_lot::Mutex;
use qmambaiqa::crops::{Bars, CropPlan, Scales, active};
use qmambaiqa::frame::{Frame, Region};
use qmambaiqa::{Options, Scorer};
use std::io::{self, IsTerminal, Write};

/// Far more threads than help.
const MAX_THREADS: usize = 1024;

/// The settings of a scorer.
#[derive(ClapArgs)]
pub struct ScorerArgs {
    /// Embedded model (qmamba-nano) or weights file (safetensors, PyTorch)
    #[arg(long, default_value = qmambaiqa::embedded::DEFAULT_MODEL)]
    pub model: String,
    /// Style prompt that adapts the model: none, compression, compression-pairs (to order encodings of one content), generative,
    /// or a weights file
    #[arg(long, default_value = qmambaiqa::scorer::NO_STYLE_PROMPT)]
    pub style_prompt: String,
    /// Use the style prompt even where it says that it belongs to other weights
    #[arg(long)]
    pub force_style_prompt: bool,
    /// Crops of 224x224 scored in each frame, 1 to 64
    #[arg(long, default_value_t = 4)]
    pub crops: usize,
    /// How crops are placed: grid, random, center
    #[arg(long, default_value = "grid")]
    pub sampling: String,
    /// Seed of random crops
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Sizes of a picture that crops are taken of: auto (the picture and its halves, down to the size of a crop), or a list of
    /// reductions such as 1,2,4 (1: the picture's own size)
    #[arg(long, default_value = "auto")]
    pub scales: Scales,
    /// Height in rows of the display that quality is judged on: pictures are scaled to it before crops are taken (0: the
    /// picture's own)
    #[arg(long, default_value_t = 0)]
    pub display_height: usize,
    /// Take pixels as they are stored, without scaling pictures to square ones
    #[arg(long)]
    pub no_square_pixels: bool,
    /// Device that scores: auto, cpu, cuda, cuda:N
    #[arg(long, default_value = "auto")]
    pub device: String,
    /// Arithmetic of matrix products: standard (16-bit integers), exact (32-bit floats; slower), fast (8-bit integers)
    #[arg(long, default_value = "standard")]
    pub precision: String,
    /// Threads (0: one for each core); scores do not depend on it
    #[arg(long, default_value_t = 0)]
    pub threads: usize,
}

impl ScorerArgs {
    pub fn plan(&self) -> Result<CropPlan> {
        let plan = CropPlan::new(self.crops, self.sampling.parse()?, self.seed)?;
        let plan = plan.with_scales(self.scales).with_square_pixels(!self.no_square_pixels);
        Ok(plan.with_display_height(self.display_height)?)
    }

    pub fn options(&self) -> Result<Options> {
        if self.threads > MAX_THREADS {
            bail!("{} threads; 0 to {MAX_THREADS} are possible", self.threads);
        }
        Ok(Options {
            model: self.model.clone(),
            style_prompt: self.style_prompt.clone(),
            force_style_prompt: self.force_style_prompt,
            device: self.device.clone(),
            precision: self.precision.parse()?,
            threads: self.threads,
        })
    }

    /// The scorer, after a warning where its weights do not say what their outputs mean, or a GPU cannot be used.
    pub fn open(&self) -> Result<Scorer> {
        let scorer = Scorer::open(&self.options()?)?;
        for warning in scorer.warnings() {
            eprintln!("qmambaiqa: warning: {warning}");
        }
        Ok(scorer)
    }
}

/// What of each frame is looked at.
#[derive(ClapArgs, Clone, Copy, Default)]
pub struct Area {
    /// Part of each frame that is looked at, as X,Y,WIDTH,HEIGHT in pixels (default: all of it)
    #[arg(long)]
    pub region: Option<Region>,
    /// Leave black bars around the picture out
    #[arg(long)]
    pub skip_black_bars: bool,
}

/// [`Area`] over the frames of one video.
#[derive(Default)]
pub struct View {
    area: Area,
    bars: Bars,
}

impl View {
    pub fn new(area: Area) -> Self {
        Self { area, bars: Bars::default() }
    }

    /// What of the next frame is looked at.
    pub fn of<'a>(&mut self, frame: &Frame<'a>) -> Result<Frame<'a>> {
        let whole = Region::new(0, 0, frame.width(), frame.height());
        let set = self.area.region.unwrap_or(whole);
        let within = frame.region(set)?;
        if !self.area.skip_black_bars {
            return Ok(within);
        }
        let region = self.bars.update(set, active(&within)?);
        Ok(within.region(region)?)
    }
}

/// How results without frames are printed.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people
    Table,
    /// For programs
    Json,
}

/// Standard output was closed by its reader, who has had enough.
#[derive(Debug)]
struct Closed;

impl std::fmt::Display for Closed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("standard output is closed")
    }
}

impl std::error::Error for Closed {}

/// Writes and flushes a line.
pub fn line(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.write_all(b"\n")).and_then(|()| out.flush()) {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Err(Closed.into()),
        Err(e) => bail!("standard output: {e}"),
    }
}

pub fn is_closed(error: &anyhow::Error) -> bool {
    error.is::<Closed>()
}

/// Complaints that wait while a view has the terminal to itself.
static HELD: Mutex<Option<Vec<String>>> = Mutex::new(None);

/// An error, on one line.
pub fn complain(error: &anyhow::Error) {
    let text: Vec<String> = format!("{error:#}").lines().map(|l| l.trim().to_owned()).collect();
    match HELD.lock().as_mut() {
        Some(held) => held.push(text.join(" ")),
        None => eprintln!("qmambaiqa: {}", text.join(" ")),
    }
}

/// Has complaints held back from now on, or printed; gives those that were held.
pub fn hold_complaints(hold: bool) -> Vec<String> {
    std::mem::replace(&mut *HELD.lock(), hold.then(Vec::new)).unwrap_or_default()
}

/// A bar on standard error where that is a terminal and there is more than one thing to do.
pub fn bar(count: usize) -> ProgressBar {
    if count < 2 || !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(count as u64);
    if let Ok(style) = ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len} {elapsed} left {eta}") {
        bar.set_style(style);
    }
    bar
}
