//! `qmambaiqa score`

use crate::common::{self, Area, ScorerArgs, View, line};
use crate::source::{self, Kind};
use crate::video;
use anyhow::{Context, Result, bail};
use clap::{Args as ClapArgs, ValueEnum};
use qmambaiqa::crops::{CropPlan, Scales};
use qmambaiqa::frame::Frame;
use qmambaiqa::indicators::{Indicators, Watch};
use qmambaiqa::log::{self, Log, Record};
use qmambaiqa::pooling::{Pool, Statistics};
use qmambaiqa::train::dataset::read_image;
use qmambaiqa::train::evaluation;
use qmambaiqa::{Options, Score, Scorer};
use serde::Serialize;
use std::borrow::Cow;
use std::cell::RefCell;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ChildStdout;
use std::time::Duration;

/// Score pictures, videos and Y4M streams: 0 (worst) to 100 (best) for each frame, then a summary of each video.
///
/// Pictures (PNG, JPEG, WebP, BMP) and Y4M are told by content, whatever their names; any other file is decoded as a
/// video. `ffmpeg -i film.mkv -f yuv4mpegpipe - | qmambaiqa score -` scores a stream.
#[derive(ClapArgs)]
pub struct Args {
    /// Pictures and videos; `-` is a Y4M stream on standard input
    #[arg(required = true)]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    how: How,
}

/// How frames are scored, and where scores go.
#[derive(ClapArgs)]
pub struct How {
    #[command(flatten)]
    scorer: ScorerArgs,
    #[command(flatten)]
    area: Area,
    /// Seconds between scored frames of a video (0: every frame)
    #[arg(long, default_value_t = 0.0)]
    interval: f64,
    /// Form of the output; JSON is one object a line
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
    /// File that gets a record for each frame too; its ending says how: .csv, .jsonl, or .json as libvmaf's log
    #[arg(long)]
    log: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people
    Table,
    /// One object a line: frames, and a summary of each source
    Json,
    /// Frames alone
    Csv,
}

/// One frame's line.
#[derive(Serialize)]
struct Line<'a> {
    source: &'a str,
    frame: u64,
    time: Option<f64>,
    score: f64,
    raw: f64,
    deviation: f64,
    confidence: Option<f64>,
    scales: Scales,
}

#[derive(Serialize)]
struct Summary<'a> {
    source: &'a str,
    summary: Statistics,
}

pub struct Job {
    scorer: Scorer,
    options: Options,
    plan: CropPlan,
    area: Area,
    interval: Duration,
    output: Output,
    log: RefCell<Option<Log>>,
}

impl How {
    /// What scores sources of these names.
    pub fn job(&self, names: &[Cow<str>]) -> Result<Job> {
        let Ok(interval) = Duration::try_from_secs_f64(self.interval) else {
            bail!("interval {} is not a number of seconds from 0 on", self.interval);
        };
        let (plan, options) = (self.scorer.plan()?, self.scorer.options()?);
        let log = match &self.log {
            Some(path) if log::Format::of(path)? == log::Format::Vmaf && names.len() > 1 => {
                bail!("{}: such a log holds one video; use .csv or .jsonl, or score one at a time", path.display())
            }
            Some(path) => Some(Log::create(path, log::Format::of(path)?)?),
            None => None,
        };
        let scorer = self.scorer.open()?;
        let width = names.iter().map(|name| name.chars().count()).max().unwrap_or(0).max(6);
        let output = Output { format: self.format, width };
        Ok(Job { scorer, options, plan, area: self.area, interval, output, log: RefCell::new(log) })
    }
}

pub fn run(args: &Args) -> Result<bool> {
    let job = args.how.job(&args.paths.iter().map(|path| path.to_string_lossy()).collect::<Vec<_>>())?;
    let bar = common::bar(args.paths.len());
    let mut header = false;
    let mut good = true;
    for path in &args.paths {
        let result = bar.suspend(|| {
            if !header {
                job.output.header()?;
                header = true;
            }
            job.source(path)
        });
        match result {
            Err(error) if common::is_closed(&error) => return Err(error),
            Err(error) => {
                good = false;
                bar.suspend(|| common::complain(&error));
            }
            Ok(()) => {}
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    job.complete()?;
    Ok(good)
}

impl Job {
    /// Scores the Y4M stream that `read` gives.
    pub fn stream(
        &self,
        name: &str,
        read: impl FnOnce(&mut dyn FnMut(ChildStdout) -> Result<()>) -> Result<()>,
    ) -> Result<()> {
        self.output.header()?;
        self.scored(name, false, |each| read(&mut |stream| self.y4m(stream, name, each)))?;
        self.complete()
    }

    fn complete(&self) -> Result<()> {
        Ok(self.log.borrow_mut().as_mut().map_or(Ok(()), Log::complete)?)
    }

    fn source(&self, path: &Path) -> Result<()> {
        let name = path.to_string_lossy();
        let stdin = name == "-";
        let kind = if stdin { Kind::Y4m } else { source::kind(path)? };
        self.scored(&name, kind == Kind::Picture, |each| match kind {
            Kind::Picture => {
                let picture = read_image(path)?;
                let part = View::new(self.area).of(&evaluation::frame(&picture)?).with_context(|| name.to_string())?;
                let score = self.scorer.score(&part, &self.plan, 0).with_context(|| name.to_string())?;
                each(0, None, &Watch::default().look(&part, None)?, score)
            }
            Kind::Y4m if stdin => self.y4m(io::stdin().lock(), "standard input", each),
            Kind::Y4m => self.y4m(File::open(path).with_context(|| name.to_string())?, &name, each),
            Kind::Other => video::score(path, &self.options, &self.plan, self.area, self.interval, each),
        })
    }

    /// Writes the scores that `read` finds, and their summary.
    fn scored(&self, name: &str, picture: bool, read: impl FnOnce(video::Each) -> Result<()>) -> Result<()> {
        let mut pool = Pool::new(None);
        let mut each = |frame: u64, time: Option<f64>, indicators: &Indicators, score: Score| -> Result<()> {
            if let Some(log) = self.log.borrow_mut().as_mut() {
                let names = (self.scorer.model_name(), self.scorer.style_prompt_name());
                log.write(&Record::new(name, frame, time, &score, names).with(indicators))?;
            }
            pool.push(time.and_then(|t| Duration::try_from_secs_f64(t).ok()), score.score);
            self.output.frame(&Line {
                source: name,
                frame,
                time,
                score: score.score,
                raw: score.raw,
                deviation: score.deviation,
                confidence: score.confidence.is_finite().then_some(score.confidence),
                scales: score.scales,
            })
        };
        read(&mut each)?;
        let Some(summary) = pool.stream() else { bail!("{name}: no frames") };
        self.output.summary(&Summary { source: name, summary }, picture)
    }

    fn y4m(&self, reader: impl io::Read, name: &str, each: video::Each) -> Result<()> {
        let mut watch = Watch::default();
        let mut each = |number, time: Option<f64>, _: &Frame, part: &Frame, score| {
            let shown = time.and_then(|t| Duration::try_from_secs_f64(t).ok());
            each(number, time, &watch.look(part, shown)?, score)
        };
        match source::score_y4m(reader, &self.scorer, &self.plan, self.area, self.interval, &mut each) {
            Err(error) if !common::is_closed(&error) => Err(error.context(name.to_owned())),
            result => result,
        }
    }
}

struct Output {
    format: Format,
    /// Of the longest source.
    width: usize,
}

impl Output {
    fn header(&self) -> Result<()> {
        let w = self.width;
        match self.format {
            Format::Json => Ok(()),
            Format::Csv => line("source,frame,time,score,raw,deviation,confidence,scales"),
            Format::Table => line(&format!(
                "{:w$}  {:>7}  {:>10}  {:>6}  {:>8}  {:>9}  {:>10}",
                "source", "frame", "time", "score", "raw", "deviation", "confidence"
            )),
        }
    }

    fn frame(&self, frame: &Line) -> Result<()> {
        match self.format {
            Format::Json => line(&serde_json::to_string(frame)?),
            Format::Csv => {
                let mut writer = csv::WriterBuilder::new().has_headers(false).from_writer(Vec::new());
                writer.serialize(frame)?;
                let bytes = writer.into_inner().map_err(|e| anyhow::anyhow!("{}", e.error()))?;
                line(String::from_utf8_lossy(&bytes).trim_end_matches('\n'))
            }
            Format::Table => {
                let time = frame.time.map_or("-".into(), |t| format!("{t:.3}"));
                let confidence = frame.confidence.map_or("-".into(), |c| format!("±{c:.2}"));
                let (w, source, number) = (self.width, frame.source, frame.frame);
                let (score, raw, deviation) = (frame.score, frame.raw, frame.deviation);
                line(&format!(
                    "{source:w$}  {number:>7}  {time:>10}  {score:>6.2}  {raw:>8.4}  {deviation:>9.2}  {confidence:>10}"
                ))
            }
        }
    }

    fn summary(&self, summary: &Summary, picture: bool) -> Result<()> {
        match self.format {
            Format::Csv => Ok(()),
            Format::Json => line(&serde_json::to_string(summary)?),
            Format::Table if picture => Ok(()),
            Format::Table => {
                let (w, source, s) = (self.width, summary.source, summary.summary);
                line(&format!(
                    "{source:w$}  {} frames: mean {:.2}, harmonic mean {:.2}, min {:.2}, p1 {:.2}, p5 {:.2}, p10 {:.2}, \
                     p50 {:.2}",
                    s.frames, s.mean, s.harmonic_mean, s.min, s.p1, s.p5, s.p10, s.p50
                ))
            }
        }
    }
}
