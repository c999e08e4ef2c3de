//! What the element has between start and stop.

use super::job::{Job, Scored};
use super::quality::FrameQuality;
use super::report::Report;
use super::settings::Settings;
use super::stream::Stream;
use super::worker::Worker;
use crate::log::{Log, Record};
use crate::metrics::{self, Event, Sample};
use crate::scorer::{Options, Scorer};
use gstreamer as gst;
use gstreamer_video as gst_video;
use std::path::Path;
use std::sync::Arc;

/// What exists between start and stop.
pub(super) struct State {
    pub scorer: Scorer,
    pub info: Option<gst_video::VideoInfo>,
    pub stream: Stream,
    /// Where scoring is asynchronous.
    pub worker: Option<Arc<Worker<(Job, gst::Buffer)>>>,
    /// The stream's name in the log and in the metrics.
    name: String,
    log: Option<Log>,
    metrics: Option<metrics::Stream>,
}

/// What comes of a frame's score.
pub(super) struct Outcome {
    pub quality: FrameQuality,
    /// The scene that ends.
    pub scene: Option<Report>,
    /// The alarm that begins or ends.
    pub alarm: Option<Report>,
    /// Why the log ends here.
    pub log_error: Option<crate::Error>,
}

impl State {
    /// Loads the model, begins the log, and has metrics served; `element` is the stream's name unless the settings have one.
    pub fn open(settings: &Settings, element: &str) -> Result<Self, gst::ErrorMessage> {
        let wrong = |e| gst::error_msg!(gst::LibraryError::Settings, ("{e}"));
        settings.region().map_err(wrong)?;
        settings.plan().map_err(wrong)?;
        let (threads, precision) = (settings.threads as usize, settings.precision.into());
        let options = Options { threads, precision, ..settings.options.clone() };
        let scorer = Scorer::open(&options)
            .map_err(|e| gst::error_msg!(gst::ResourceError::OpenRead, ("cannot load the model: {e}")))?;
        let name = if settings.stream_name.is_empty() { element } else { &settings.stream_name }.to_owned();
        let log = (!settings.log_location.is_empty()).then(|| {
            let path = Path::new(&settings.log_location);
            Log::create(path, settings.log_format.of(path)?)
        });
        let log = log
            .transpose()
            .map_err(|e| gst::error_msg!(gst::ResourceError::OpenWrite, ("cannot write the log: {e}")))?;
        let metrics = (!settings.metrics_address.is_empty()).then(|| {
            let (model, style_prompt) = (scorer.model_name(), scorer.style_prompt_name());
            metrics::Stream::start(&settings.metrics_address, &name, model, style_prompt)
        });
        let metrics = metrics.transpose().map_err(|e| gst::error_msg!(gst::ResourceError::OpenWrite, ("{e}")))?;
        let stream = Stream::new(settings.window, 0);
        Ok(Self { scorer, info: None, stream, worker: None, name, log, metrics })
    }

    /// Counts what happens to a frame.
    pub fn count(&mut self, event: Event) {
        let counted = match event {
            Event::Seen => &mut self.stream.frames,
            Event::Scored => &mut self.stream.scored,
            Event::Dropped => &mut self.stream.dropped,
            Event::Late => &mut self.stream.late,
        };
        *counted += 1;
        if let Some(metrics) = &self.metrics {
            metrics.count(event);
        }
    }

    /// Takes what was found in a frame into account; nothing, where the frame's stream is no more.
    pub fn take(&mut self, scored: Scored, job: &Job) -> Option<Outcome> {
        if self.stream.generation != job.generation {
            return None;
        }
        let (score, took) = (scored.score, scored.took);
        let (quality, [scene, alarm]) = self.stream.take(scored, job);
        self.count(Event::Scored);
        if let Some(metrics) = &mut self.metrics {
            metrics.scored(&Sample {
                model: &quality.model,
                style_prompt: &quality.style_prompt,
                score: quality.score,
                window_mean: self.stream.pool.window_mean(),
                ewma: self.stream.ewma.average(),
                alarm: self.stream.is_alarmed(),
                indicators: quality.indicators,
                took,
            });
        }
        let time = (job.times.stream_time != u64::MAX).then(|| job.times.stream_time as f64 / 1e9);
        let names = (quality.model.as_str(), quality.style_prompt.as_str());
        let record = Record::new(&self.name, quality.frame, time, &score, names).with(&quality.indicators);
        let log_error = self.log.as_mut().and_then(|log| log.write(&record).err());
        if log_error.is_some() {
            self.log = None;
        }
        Some(Outcome { quality, scene, alarm, log_error })
    }

    /// Completes the log, for now.
    pub fn complete_log(&mut self) -> crate::Result<()> {
        self.log.as_mut().map_or(Ok(()), Log::complete)
    }
}
