//! `qmambaiqa distort`

mod metrics;

use crate::codec::Codec;
use crate::common::{self, line};
use crate::ffmpeg::Ffmpeg;
use anyhow::{Context, Result, bail};
use clap::{Args as ClapArgs, ValueEnum};
use image::{RgbImage, imageops};
use metrics::{Label, Metrics};
use qmambaiqa::random::Random;
use rayon::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};

/// Make a labelled folder of compressed pictures out of photographs and clips.
///
/// Each content is a cut of a picture, or of some frames of a clip, reduced until it has no visible distortion of its own. It
/// is put through every encoder at settings over its whole range. Labels are what SSIMULACRA2 and libvmaf's AIM say on the
/// mean, mapped to 0..100, or as `--label` says; the table has VMAF NEG and MS-SSIM too where ffmpeg has libvmaf. A stopped
/// run goes on when called again.
#[derive(ClapArgs)]
pub struct Args {
    /// Photographs, clips, or folders of them
    #[arg(required = true)]
    sources: Vec<PathBuf>,
    /// Folder to write: pictures and mos.csv
    #[arg(long)]
    out: PathBuf,
    /// Encoders and filters, in a list with commas (all that are there, if not given)
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

/// Fastest pan, in pixels a frame.
const PAN: f64 = 4.0;
/// Smallest side that SSIMULACRA2's and MS-SSIM's scales need, and far more than anyone trains on.
const SIZES: std::ops::RangeInclusive<u32> = 192..=4096;
const HEAD: &str = "image,mos,reference,codec,setting,disagreement,ssimulacra2,vmaf_neg,ms_ssim,aim\n";

pub fn run(args: &Args) -> Result<bool> {
    if !SIZES.contains(&args.size) || !args.size.is_multiple_of(2) {
        bail!("the size must be even, {} to {}", SIZES.start(), SIZES.end());
    }
    if args.settings == 0 || args.cuts == 0 || args.frames == 0 || args.pan == 0 || args.draws == Some(0) {
        bail!("settings, draws, cuts, frames and pan must be at least 1");
    }
    gstreamer::init().context("GStreamer does not start")?;
    let ffmpeg = Ffmpeg::find(&args.ffmpeg);
    let codecs = codecs(args, ffmpeg.as_ref())?;
    let sources = sources(&args.sources)?;
    fs::create_dir_all(&args.out).with_context(|| args.out.display().to_string())?;
    let table = args.out.join("mos.csv");
    let each = codecs.len() * args.settings;
    let done = done(&table, 1 + args.draws.map_or(each, |draws| draws.min(each)))?;
    let mut out = OpenOptions::new().append(true).open(&table).with_context(|| table.display().to_string())?;
    let pool = rayon::ThreadPoolBuilder::new().num_threads(args.threads).build()?;
    let (bar, mut failed) = (common::bar(sources.len() * args.cuts), 0);
    for (i, source) in sources.iter().enumerate() {
        for cut in 0..args.cuts {
            let content = format!("{}-{cut}", content_name(source, i));
            if !done.contains(&content) {
                let job = Job { args, codecs: &codecs, ffmpeg: ffmpeg.as_ref(), content: &content };
                let stream = ((i as u64) << 16) + cut as u64;
                match pool.install(|| job.run(source, Random::new(args.seed, stream))) {
                    Ok(rows) => write(&mut out, &rows, &table)?,
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
    line(&format!("{}: {} contents, {failed} failed", table.display(), sources.len() * args.cuts - failed))?;
    Ok(failed == 0)
}

fn write(out: &mut File, text: &str, path: &Path) -> Result<()> {
    use std::io::Write as _;
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).with_context(|| path.display().to_string())
}

/// The codecs asked for, or all that can be had.
fn codecs(args: &Args, ffmpeg: Option<&Ffmpeg>) -> Result<Vec<Codec>> {
    if args.codecs.is_empty() {
        let there = |codec: &Codec| codec.check(ffmpeg, &args.ffmpeg).is_ok();
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

/// The contents that the table has all `rows` of; what it has of others, where a run was stopped, is taken out.
fn done(table: &Path, rows: usize) -> Result<BTreeSet<String>> {
    let at = || table.display().to_string();
    let text = if table.exists() { fs::read_to_string(table).with_context(at)? } else { String::new() };
    if let Some((head, _)) = text.split_once('\n')
        && head != HEAD.trim_end()
    {
        bail!("{}: has other columns than distort writes; give another folder", table.display());
    }
    let lines = || text.split_inclusive('\n').skip(1).filter(|line| line.ends_with('\n'));
    let content = |line: &str| line.split(',').nth(2).unwrap_or_default().to_owned();
    let mut counts = BTreeMap::new();
    lines().for_each(|line| *counts.entry(content(line)).or_insert(0) += 1);
    counts.retain(|_, count| *count == rows);
    let kept: String = lines().filter(|line| counts.contains_key(&content(line))).collect();
    let whole = HEAD.to_owned() + &kept;
    if whole != text {
        fs::write(table, whole).with_context(at)?;
    }
    Ok(counts.into_keys().collect())
}

/// One content.
struct Job<'a> {
    args: &'a Args,
    codecs: &'a [Codec],
    ffmpeg: Option<&'a Ffmpeg>,
    content: &'a str,
}

impl Job<'_> {
    /// Writes the pictures; gives their rows.
    fn run(&self, source: &Path, mut random: Random) -> Result<String> {
        let folder = tempfile::tempdir()?;
        let frames = self.cut(source, folder.path(), &mut random)?;
        let Some(reference) = frames.last() else { bail!("{}: no frames", source.display()) };
        let name = format!("{}_reference.png", self.content);
        reference.save(self.args.out.join(&name))?;
        let mut jobs = Vec::new();
        for &codec in self.codecs {
            for i in 0..self.args.settings {
                let within = if self.args.even { 0.5 } else { random.uniform() };
                let strength = (i as f64 + within) / self.args.settings as f64;
                jobs.push((codec, i, codec.setting(strength), random.below(1 << 30) as u64));
            }
        }
        if let Some(draws) = self.args.draws {
            random.shuffle(&mut jobs);
            jobs.truncate(draws);
        }
        let rows = jobs.into_par_iter().map(|(codec, i, setting, seed)| {
            let folder = tempfile::tempdir()?;
            for (i, frame) in frames.iter().enumerate() {
                frame.save(folder.path().join(format!("{}.png", i + 1)))?;
            }
            let mut random = Random::new(seed, 0);
            let picture = codec.apply(setting, &frames, folder.path(), self.ffmpeg, &mut random)?;
            let metrics = Metrics::measure(reference, &picture, folder.path(), self.ffmpeg)?;
            let name = format!("{}_{}_{i}.png", self.content, codec.name());
            picture.save(self.args.out.join(&name))?;
            let (label, disagreement) = metrics.label(self.args.label, codec.adds());
            let aim = |aim: Option<f64>| aim.map_or(String::new(), |aim| format!("{aim:.6}"));
            let vmaf = metrics.vmaf.map_or(",,".into(), |v| format!("{:.3},{:.5},{}", v.neg, v.ms_ssim, aim(v.aim)));
            let (content, codec, s2) = (self.content, codec.name(), metrics.ssimulacra2);
            Ok(format!("{name},{label:.3},{content},{codec},{setting:.3},{disagreement:.3},{s2:.3},{vmaf}\n"))
        });
        let rows = rows.collect::<Result<Vec<_>>>().with_context(|| source.display().to_string())?;
        Ok(format!("{name},100,{},none,0,0,100,,,\n", self.content) + &rows.concat())
    }

    /// The content's frames: one of a picture, some of a clip.
    fn cut(&self, source: &Path, folder: &Path, random: &mut Random) -> Result<Vec<RgbImage>> {
        let (size, wanted) = (self.args.size, self.args.frames);
        let sources = match image::ImageReader::open(source)?.with_guessed_format()?.decode() {
            Ok(picture) => vec![picture.into_rgb8()],
            Err(error) => {
                let Some(ffmpeg) = self.ffmpeg else {
                    bail!("{}: no readable picture ({error}), and clips need ffmpeg", source.display())
                };
                let seconds = ffmpeg.duration(source)?;
                let span = (seconds - wanted as f64 / 15.0).max(0.0);
                ffmpeg.frames(source, span * random.uniform(), wanted, folder)?
            }
        };
        let Some(first) = sources.first() else { bail!("{}: no frames", source.display()) };
        let (width, height) = first.dimensions();
        let most = f64::from(width.min(height)) / f64::from(size);
        let (least, limit) = self.args.reduce;
        if most < least {
            let least = (f64::from(size) * least).ceil() as u32;
            bail!(
                "{}: {width}x{height} is too small, cuts of {size} need {least} pixels in each side",
                source.display()
            );
        }
        let factor = least + (limit.min(most) - least) * random.uniform();
        let reduced = |side: u32| ((f64::from(side) / factor) as u32).max(size);
        let (width, height) = (reduced(width), reduced(height));
        let filter = imageops::FilterType::Lanczos3;
        let sources: Vec<_> = sources.iter().map(|frame| imageops::resize(frame, width, height, filter)).collect();
        let room = (width - size, height - size);
        let (left, top) = (random.below(room.0 as usize + 1) as u32, random.below(room.1 as usize + 1) as u32);
        let cut = |frame: &RgbImage, left, top| imageops::crop_imm(frame, left, top, size, size).to_image();
        if let [picture] = sources.as_slice()
            && room != (0, 0)
        {
            // A pan that ends at the place.
            let (across, down) = (PAN * (2.0 * random.uniform() - 1.0), PAN * (2.0 * random.uniform() - 1.0));
            let along = |end: u32, room: u32, speed: f64, back: usize| {
                (f64::from(end) - speed * back as f64).round().clamp(0.0, f64::from(room)) as u32
            };
            let frame = |back| cut(picture, along(left, room.0, across, back), along(top, room.1, down, back));
            return Ok((0..self.args.pan).rev().map(frame).collect());
        }
        Ok(sources.iter().map(|frame| cut(frame, left, top)).collect())
    }
}
