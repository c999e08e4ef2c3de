//! `qmambaiqa distort`

mod grain;
mod metrics;
mod table;
mod task;

use crate::codec::Codec;
use crate::common::{self, line};
use crate::ffmpeg::Ffmpeg;
use crate::variation::{Factors, Kernel};
use anyhow::{Context, Result, bail};
use clap::{Args as ClapArgs, ValueEnum};
use metrics::Label;
use std::fs;
use std::path::{Path, PathBuf};
use table::Table;
use task::DistortTask;

/// Make a labelled folder of compressed pictures out of photographs and clips.
///
/// Each content is a cut of a picture, or of some frames of a clip, reduced until it has no visible distortion of its own. It
/// is put through every encoder at settings over its whole range. Labels are what SSIMULACRA2 and libvmaf's AIM say on the
/// mean, mapped to 0..100, or as `--label` says; the table has VMAF, VMAF NEG and MS-SSIM too if ffmpeg has libvmaf. A
/// stopped run goes on when called again.
///
/// Codecs for live video (names with ultrafast, no-deblock, fast or realtime) are used only if `--codecs` names them.
#[derive(ClapArgs)]
pub struct Args {
    /// Photographs, clips, or folders of them
    #[arg(required = true)]
    sources: Vec<PathBuf>,
    /// Folder to write: pictures and mos.csv
    #[arg(long)]
    out: PathBuf,
    /// Encoders and filters, comma-separated (default: all available ones except the variants for live video)
    #[arg(long, value_enum, value_delimiter = ',')]
    codecs: Vec<Codec>,
    /// Settings of each, one somewhere in each equal part of its range
    #[arg(long, default_value_t = 4)]
    settings: usize,
    /// Settings in the middle of their parts of the range, the same for every content
    #[arg(long)]
    even: bool,
    /// So many of all encoders' settings for each content, at random, instead of every one: more contents in the same time
    #[arg(long)]
    draws: Option<usize>,
    /// What the label is; the other metrics stand beside it
    #[arg(long, value_enum, default_value_t = Label::Impairment)]
    label: Label,
    /// Encode video at reduced sizes, as adaptive streaming does, and scale back up. Each encoding gets one of these factors at
    /// random (without a value: 1,4/3,3/2,2,3,4); repeat a factor to make it more likely
    #[arg(long, value_name = "FACTORS", num_args = 0..=1, require_equals = true, default_missing_value = RUNGS)]
    rungs: Option<Factors>,
    /// Upscaling kernels of the codec `scale` and of `--rungs`, comma-separated; one per image at random (default: bicubic,
    /// with `--rungs` all)
    #[arg(long, value_enum, value_delimiter = ',')]
    kernels: Vec<Kernel>,
    /// Upsample chroma after decoding by a method drawn per image: repeated samples, neighbor, bilinear or bicubic, chroma
    /// sited left or center
    #[arg(long)]
    vary_chroma: bool,
    /// Add film-like grain to half of the contents, the reference included, and denoise some of the frames before encoding:
    /// a quarter of the encodings of contents with grain, an eighth of the others
    #[arg(long)]
    grain: bool,
    /// How far sources are reduced, LEAST:MOST, as far as the size of the cut allows
    #[arg(long, default_value = "2:4", value_parser = reduction)]
    reduce: (f64, f64),
    /// Contents cut from each source
    #[arg(long, default_value_t = 1)]
    cuts: usize,
    /// Side of the square cuts in pixels
    #[arg(long, default_value_t = 288)]
    size: u32,
    /// Frames of a clip that are encoded together; the last is kept
    #[arg(long, default_value_t = 10)]
    frames: usize,
    /// Frames that a slow pan makes of a picture where it is larger than the cut, so that video encoders predict
    #[arg(long, default_value_t = 5)]
    pan: usize,
    /// The ffmpeg to use
    #[arg(long, default_value = "ffmpeg")]
    ffmpeg: PathBuf,
    /// Seed of places and settings
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Threads (0: one for each core)
    #[arg(long, default_value_t = 0)]
    threads: usize,
}

/// LEAST:MOST. Reducing takes away the compression and noise that pictures came with.
fn reduction(text: &str) -> Result<(f64, f64), String> {
    let parts = text.split_once(':').and_then(|(l, m)| Some((l.parse::<f64>().ok()?, m.parse::<f64>().ok()?)));
    match parts {
        Some((least, most)) if (1.0..=most).contains(&least) && most <= 64.0 => Ok((least, most)),
        _ => Err(format!("`{text}`: expected LEAST:MOST, two factors from 1 to 64")),
    }
}

/// Factors of `--rungs` unless given: 1080, 810, 720, 540, 360 and 270 lines of 1080.
const RUNGS: &str = "1,4/3,3/2,2,3,4";
/// Smallest side that SSIMULACRA2's and MS-SSIM's scales need, and far more than anyone trains on.
const SIZES: std::ops::RangeInclusive<u32> = 192..=4096;

pub fn run(args: &Args) -> Result<bool> {
    if !SIZES.contains(&args.size) || !args.size.is_multiple_of(2) {
        bail!("the size must be even, {} to {}", SIZES.start(), SIZES.end());
    }
    if args.settings == 0 || args.cuts == 0 || args.frames == 0 || args.pan == 0 || args.draws == Some(0) {
        bail!("settings, draws, cuts, frames and pan must be at least 1");
    }
    gstreamer::init().context("GStreamer does not start")?;
    let ffmpeg = Ffmpeg::find(&args.ffmpeg);
    if args.label == Label::Vmaf && !ffmpeg.as_ref().is_some_and(Ffmpeg::has_vmaf) {
        bail!("--label vmaf needs an ffmpeg with libvmaf, and {} is none", args.ffmpeg.display());
    }
    let codecs = codecs(args, ffmpeg.as_ref())?;
    let sources = sources(&args.sources)?;
    fs::create_dir_all(&args.out).with_context(|| args.out.display().to_string())?;
    let each = codecs.len() * args.settings;
    let mut table = Table::open(&args.out, 1 + args.draws.map_or(each, |draws| draws.min(each)))?;
    let pool = rayon::ThreadPoolBuilder::new().num_threads(args.threads).build()?;
    let (bar, mut failed) = (common::bar(sources.len() * args.cuts), 0);
    for (i, source) in sources.iter().enumerate() {
        for cut in 0..args.cuts {
            let content = format!("{}-{cut}", content_name(source, i));
            if !table.has(&content) {
                let stream = ((i as u64) << 16) + cut as u64;
                let task = DistortTask { args, codecs: &codecs, ffmpeg: ffmpeg.as_ref(), content: &content, stream };
                match pool.install(|| task.run(source)) {
                    Ok(rows) => table.add(&rows)?,
                    Err(error) => {
                        common::complain(&error);
                        failed += 1;
                    }
                }
            }
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    let contents = sources.len() * args.cuts - failed;
    line(&format!("{}: {contents} contents, {failed} failed", table.path().display()))?;
    Ok(failed == 0)
}

/// The codecs asked for, or all that can be had.
fn codecs(args: &Args, ffmpeg: Option<&Ffmpeg>) -> Result<Vec<Codec>> {
    if args.codecs.is_empty() {
        let there = |codec: &Codec| !codec.is_optional() && codec.check(ffmpeg, &args.ffmpeg).is_ok();
        return Ok(Codec::value_variants().iter().copied().filter(there).collect());
    }
    args.codecs.iter().try_for_each(|codec| codec.check(ffmpeg, &args.ffmpeg))?;
    Ok(args.codecs.clone())
}

/// Files, and those in folders, in the order of their names.
fn sources(given: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut all = Vec::new();
    for path in given {
        if path.is_dir() {
            let entries = fs::read_dir(path).with_context(|| path.display().to_string())?;
            let mut files = entries.map(|e| Ok(e?.path())).collect::<Result<Vec<_>>>()?;
            files.retain(|file| file.is_file());
            files.sort();
            all.extend(files);
        } else if path.is_file() {
            all.push(path.clone());
        } else {
            bail!("{}: no such file or folder", path.display());
        }
    }
    if all.is_empty() { bail!("no sources in {}", given[0].display()) } else { Ok(all) }
}

fn content_name(source: &Path, index: usize) -> String {
    let stem = source.file_stem().unwrap_or_default().to_string_lossy();
    let safe: String = stem.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).take(40).collect();
    format!("{index:04}_{safe}")
}
