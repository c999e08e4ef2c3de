//! One video's scores over time.

use super::size::Size;
use crate::common::{self, Area, ScorerArgs};
use crate::ffmpeg::{Ffmpeg, FullReference};
use crate::source::{self, Kind};
use crate::video::{self, Looks, THUMBNAIL};
use anyhow::{Context, Result, bail};
use qmambaiqa::Scorer;
use qmambaiqa::frame::Frame;
use qmambaiqa::indicators::Indicators;
use qmambaiqa::pooling::{Pool, Statistics};
use serde::Serialize;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

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
    /// Before any scaling.
    #[serde(flatten)]
    pub size: Size,
    /// Whether it was scaled to another size.
    pub scaled: bool,
    /// Size of the last frame, to detect streams that change their size.
    #[serde(skip)]
    pub decoded: (usize, usize),
}

#[derive(Debug, Clone, Serialize)]
pub struct Scored {
    /// Seconds from the start.
    pub time: f64,
    pub score: f64,
    #[serde(skip)]
    pub thumbnail: Option<Vec<u8>>,
}

/// What decodes videos.
#[derive(Clone, Copy)]
pub enum Decoder<'a> {
    Gstreamer,
    Ffmpeg(&'a Ffmpeg),
}

/// How renditions are scored, all alike.
pub struct Scoring<'a> {
    pub scorer: &'a Scorer,
    /// Options of `scorer` and placement of its crops.
    pub settings: &'a ScorerArgs,
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
    pub fn all(&self, sources: Vec<(Source, Size)>) -> Result<Vec<Rendition>> {
        let bar = common::bar(sources.len());
        let all = sources.into_iter().map(|(source, size)| {
            let rendition = self.score(source, size);
            bar.inc(1);
            rendition
        });
        let all = all.collect();
        bar.finish_and_clear();
        all
    }

    fn score(&self, source: Source, size: Size) -> Result<Rendition> {
        let (name, path) = (&source.name, source.path.as_path());
        let (mut frames, mut pool, mut decoded) = (Vec::new(), Pool::new(None), (0, 0));
        let mut each = |_, time: Option<f64>, frame: &Frame, _: &Frame, score: qmambaiqa::Score| {
            let Some(time) = time else { bail!("the stream has no frame rate, so frames have no time") };
            decoded = (frame.width(), frame.height());
            frames.push(Scored { time, score: score.score, thumbnail: Some(thumbnail(frame)?) });
            Ok(())
        };
        match (check_video(path)?, self.decoder) {
            (_, Decoder::Ffmpeg(ffmpeg)) => {
                ffmpeg.decode(path, self.scale, |stream| self.y4m(stream, &mut each)).with_context(|| name.clone())?;
            }
            (Kind::Y4m, _) if self.scale.is_none() => {
                let file = File::open(path).with_context(|| name.clone())?;
                self.y4m(file, &mut each).with_context(|| name.clone())?;
            }
            (kind, _) => {
                // GStreamer scales. It also reads unscaled Y4M then, so that chroma is interpolated in the same way.
                (frames, decoded) = self.gstreamer(path).map_err(|error| match kind {
                    Kind::Y4m => error.context("GStreamer cannot read this Y4M to scale it; try --decoder ffmpeg"),
                    _ => error,
                })?;
            }
        }
        frames.sort_by(|a, b| a.time.total_cmp(&b.time));
        frames.iter().for_each(|frame| {
            pool.push(None, frame.score);
        });
        let Some(statistics) = pool.stream() else { bail!("{name}: no frames") };
        let bytes = path.metadata().with_context(|| name.clone())?.len();
        let scaled = size.is_scaled(self.scale);
        let mut rendition =
            Rendition { source, frames, statistics, bitrate: 0.0, full_reference: None, size, scaled, decoded };
        rendition.bitrate = 8.0 * bytes as f64 / rendition.length().max(f64::EPSILON);
        Ok(rendition)
    }

    fn y4m(&self, stream: impl Read, each: source::Each) -> Result<()> {
        source::score_y4m(stream, self.scorer, &self.settings.plan()?, self.area, self.interval, each)
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
        let element = video::element(&self.settings.options()?, &self.settings.plan()?, self.area, self.interval)?;
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
    pub fn length(&self) -> f64 {
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
