//! One video's scores over time, and what must hold before two are compared.

use crate::common::{self, Area, ScorerArgs};
use crate::ffmpeg::{Ffmpeg, FullReference};
use crate::source::{self, Kind};
use crate::video::{self, Looks, THUMBNAIL};
use anyhow::{Context, Result, bail};
use qmambaiqa::frame::Frame;
use qmambaiqa::indicators::Indicators;
use qmambaiqa::pooling::{Pool, Statistics};
use serde::Serialize;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Lengths that differ by less are the same: a frame or two lost at an end.
const LENGTH_TOLERANCE: f64 = 0.2;
/// Thumbnails of one content agree far better at any bitrate worth comparing; those of two contents do not.
const SAME_CONTENT: f64 = 0.5;
/// Thumbnails with less contrast, in steps of 255, show nothing.
const CONTRAST: f64 = 2.0;

#[derive(Serialize)]
pub struct Rendition {
    #[serde(flatten)]
    pub source: Source,
    pub frames: Vec<Scored>,
    pub statistics: Statistics,
    /// Bits a second: the file's size over its length.
    pub bitrate: f64,
    /// Against the reference, where there is one and an ffmpeg with libvmaf.
    pub full_reference: Option<FullReference>,
    #[serde(skip)]
    size: (usize, usize),
}

#[derive(Debug, Clone, Serialize)]
pub struct Scored {
    /// Seconds from the start.
    pub time: f64,
    pub score: f64,
    #[serde(skip)]
    thumbnail: Option<Vec<u8>>,
}

/// What decodes videos.
#[derive(Clone, Copy)]
pub enum Decoder<'a> {
    Gstreamer,
    Ffmpeg(&'a Ffmpeg),
}

/// How renditions are scored, all alike.
pub struct Scoring<'a> {
    pub scorer: &'a ScorerArgs,
    /// Of every video after it is scaled.
    pub area: Area,
    pub interval: Duration,
    pub scale: Option<(u32, u32)>,
    pub decoder: Decoder<'a>,
}

/// A video to compare.
#[derive(Debug, Clone, Serialize)]
pub struct Source {
    /// What it is called in results.
    pub name: String,
    #[serde(skip)]
    pub path: PathBuf,
    /// Whether the others are made of it.
    pub reference: bool,
    /// The family of encodings that it belongs to.
    pub group: Option<String>,
}

impl Scoring<'_> {
    /// Scores one after the other.
    pub fn all(&self, sources: Vec<Source>) -> Result<Vec<Rendition>> {
        let bar = common::bar(sources.len());
        let all = sources.into_iter().map(|source| {
            let rendition = self.score(source);
            bar.inc(1);
            rendition
        });
        let all = all.collect();
        bar.finish_and_clear();
        all
    }

    fn score(&self, source: Source) -> Result<Rendition> {
        let (name, path) = (&source.name, source.path.as_path());
        let (mut frames, mut pool, mut size) = (Vec::new(), Pool::new(None), (0, 0));
        let mut each = |_, time: Option<f64>, frame: &Frame, _: &Frame, score: qmambaiqa::Score| {
            let Some(time) = time else { bail!("the stream has no frame rate, so frames have no time") };
            size = (frame.width(), frame.height());
            frames.push(Scored { time, score: score.score, thumbnail: Some(thumbnail(frame)?) });
            Ok(())
        };
        match (check_video(path)?, self.decoder) {
            (_, Decoder::Ffmpeg(ffmpeg)) => {
                ffmpeg.decode(path, self.scale, |stream| self.y4m(stream, &mut each)).with_context(|| name.clone())?;
            }
            (Kind::Y4m, _) if self.scale.is_some() => {
                bail!("{name}: Y4M is not scaled; give --scale to what writes it, or --decoder ffmpeg")
            }
            (Kind::Y4m, _) => {
                let file = File::open(path).with_context(|| name.clone())?;
                self.y4m(file, &mut each).with_context(|| name.clone())?;
            }
            (Kind::Other | Kind::Picture, _) => (frames, size) = self.gstreamer(path)?,
        }
        frames.sort_by(|a, b| a.time.total_cmp(&b.time));
        frames.iter().for_each(|frame| {
            pool.push(None, frame.score);
        });
        let Some(statistics) = pool.stream() else { bail!("{name}: no frames") };
        let bytes = path.metadata().with_context(|| name.clone())?.len();
        let mut rendition = Rendition { source, frames, statistics, bitrate: 0.0, full_reference: None, size };
        rendition.bitrate = 8.0 * bytes as f64 / rendition.length().max(f64::EPSILON);
        Ok(rendition)
    }

    fn y4m(&self, stream: impl Read, each: source::Each) -> Result<()> {
        source::score_y4m(stream, &self.scorer.open()?, &self.scorer.plan()?, self.area, self.interval, each)
    }

    fn gstreamer(&self, path: &Path) -> Result<(Vec<Scored>, (usize, usize))> {
        let looks = Arc::new(Mutex::new(Looks::default()));
        let (mut frames, mut numbers) = (Vec::new(), Vec::new());
        let mut each = |number, time: Option<f64>, _: &Indicators, score: qmambaiqa::Score| {
            let Some(time) = time else { bail!("{}: frame {number} has no time", path.display()) };
            frames.push(Scored { time, score: score.score, thumbnail: None });
            numbers.push(number);
            Ok(())
        };
        let element = video::element(&self.scorer.options()?, &self.scorer.plan()?, self.area, self.interval)?;
        video::watch(path, element, self.scale, Some(looks.clone()), &mut each)?;
        let mut looks = looks.lock().unwrap_or_else(PoisonError::into_inner);
        for (frame, number) in frames.iter_mut().zip(numbers) {
            frame.thumbnail = looks.thumbnails.remove(&number);
        }
        Ok((frames, looks.size))
    }
}

/// What kind of video a file is.
pub fn check_video(path: &Path) -> Result<Kind> {
    match source::kind(path)? {
        Kind::Picture => bail!("{}: is a picture; videos are compared over time", path.display()),
        kind => Ok(kind),
    }
}

/// A frame's luma over a small grid.
fn thumbnail(frame: &Frame) -> Result<Vec<u8>> {
    let (width, height, rgb) = (frame.width(), frame.height(), frame.to_rgb()?);
    let luma: Vec<f32> = rgb.as_chunks().0.iter().map(|[r, g, b]| 0.299 * r + 0.587 * g + 0.114 * b).collect();
    let cell =
        |i: usize, side: usize| (i * side / THUMBNAIL, ((i + 1) * side / THUMBNAIL).max(i * side / THUMBNAIL + 1));
    let mut out = Vec::with_capacity(THUMBNAIL * THUMBNAIL);
    for (top, bottom) in (0..THUMBNAIL).map(|i| cell(i, height)) {
        for (left, right) in (0..THUMBNAIL).map(|i| cell(i, width)) {
            let places = (top..bottom).flat_map(|y| (left..right).map(move |x| y * width + x));
            let sum: f32 = places.map(|at| luma[at]).sum();
            out.push((255.0 * sum / ((bottom - top) * (right - left)) as f32) as u8);
        }
    }
    Ok(out)
}

impl Rendition {
    pub fn name(&self) -> &str {
        &self.source.name
    }

    /// Seconds from one scored frame to the next, the median.
    pub fn step(&self) -> f64 {
        let mut steps: Vec<f64> = self.frames.windows(2).map(|w| w[1].time - w[0].time).collect();
        steps.sort_by(f64::total_cmp);
        steps.get(steps.len() / 2).copied().unwrap_or(1.0)
    }

    /// Seconds from the first frame's start to the last one's end.
    fn length(&self) -> f64 {
        let time = |frame: Option<&Scored>| frame.map_or(0.0, |f| f.time);
        time(self.frames.last()) - time(self.frames.first()) + self.step()
    }

    /// The frame closest to a time.
    pub fn nearest(&self, time: f64) -> Option<&Scored> {
        self.frames.iter().min_by(|a, b| (a.time - time).abs().total_cmp(&(b.time - time).abs()))
    }

    /// Frames of both that are less than half a step apart, each frame at most once.
    pub fn aligned<'a>(&'a self, other: &'a Rendition) -> impl Iterator<Item = (&'a Scored, &'a Scored)> {
        let near = 0.5 * self.step().min(other.step());
        let mut rest = other.frames.iter().peekable();
        self.frames.iter().filter_map(move |frame| {
            while rest.next_if(|o| o.time < frame.time - near).is_some() {}
            rest.next_if(|o| o.time < frame.time + near).map(|o| (frame, o))
        })
    }
}

/// Sizes, lengths and contents agree.
pub fn check(all: &[Rendition], scaled: bool, shortest: bool) -> Result<()> {
    let Some((first, rest)) = all.split_first() else { return Ok(()) };
    for other in rest {
        if !scaled && other.size != first.size {
            bail!(
                "{} is {}x{} and {} is {}x{}: crops would not show the same; --scale WIDTHxHEIGHT brings all to one size",
                first.name(),
                first.size.0,
                first.size.1,
                other.name(),
                other.size.0,
                other.size.1
            );
        }
        // One frame by itself has no length.
        if !shortest && (first.frames.len() == 1) != (other.frames.len() == 1) {
            let counts = (first.frames.len(), other.frames.len());
            bail!(
                "{} and {} have {} and {} scored frames; --shortest compares what both have",
                first.name(),
                other.name(),
                counts.0,
                counts.1
            );
        }
        let (a, b) = (first.length(), other.length());
        if !shortest && (a - b).abs() > LENGTH_TOLERANCE + first.step().max(other.step()) {
            bail!(
                "{} has {a:.2} s and {} has {b:.2} s; --shortest compares what both have",
                first.name(),
                other.name()
            );
        }
        check_content(first, other)?;
    }
    Ok(())
}

/// Frames at the same time show the same, as far as thumbnails tell.
fn check_content(first: &Rendition, second: &Rendition) -> Result<()> {
    let mut agreement: Vec<f64> =
        first.aligned(second).filter_map(|(a, b)| correlation(a.thumbnail.as_ref()?, b.thumbnail.as_ref()?)).collect();
    agreement.sort_by(f64::total_cmp);
    match agreement.get(agreement.len() / 2) {
        Some(&median) if median < SAME_CONTENT => bail!(
            "{} and {} do not show the same content at the same time (frames agree by {median:.2})",
            first.name(),
            second.name()
        ),
        _ => Ok(()),
    }
}

/// Pearson's; none where a picture is flat.
fn correlation(a: &[u8], b: &[u8]) -> Option<f64> {
    let n = a.len().min(b.len()) as f64;
    let mean = |v: &[u8]| v.iter().map(|&x| f64::from(x)).sum::<f64>() / n;
    let (ma, mb) = (mean(a), mean(b));
    let (mut saa, mut sbb, mut sab) = (0.0, 0.0, 0.0);
    for (&x, &y) in a.iter().zip(b) {
        let (x, y) = (f64::from(x) - ma, f64::from(y) - mb);
        (saa, sbb, sab) = (saa + x * x, sbb + y * y, sab + x * y);
    }
    let contrast = |s: f64| (s / n).sqrt() > CONTRAST;
    (contrast(saa) && contrast(sbb)).then(|| sab / (saa * sbb).sqrt())
}
