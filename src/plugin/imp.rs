//! Properties, caps and the way of a buffer.

use super::convert;
use super::quality::FrameQuality;
use super::report::{Report, Times};
use super::settings::{self, Settings};
use super::stream::{Job, State, Stream};
use super::worker::Worker;
use crate::crops::CropPlan;
use crate::scorer::{Options, Scorer};
use glib::prelude::*;
use glib::subclass::prelude::*;
use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer::subclass::prelude::*;
use gstreamer_base as gst_base;
use gstreamer_base::prelude::*;
use gstreamer_base::subclass::prelude::*;
use gstreamer_video as gst_video;
use parking_lot::Mutex;
use std::sync::{Arc, LazyLock};

static CAT: LazyLock<gst::DebugCategory> = LazyLock::new(|| {
    gst::DebugCategory::new("qmambaiqa", gst::DebugColorFlags::empty(), Some("No-reference video quality (QMamba)"))
});

#[derive(Default)]
pub struct QMambaIqa {
    settings: Mutex<Settings>,
    state: Mutex<Option<State>>,
}

#[glib::object_subclass]
impl ObjectSubclass for QMambaIqa {
    const NAME: &'static str = "GstQMambaIqa";
    type Type = super::QMambaIqa;
    type ParentType = gst_base::BaseTransform;
}

impl ObjectImpl for QMambaIqa {
    fn properties() -> &'static [glib::ParamSpec] {
        static PROPERTIES: LazyLock<Vec<glib::ParamSpec>> = LazyLock::new(settings::properties);
        &PROPERTIES
    }

    fn signals() -> &'static [glib::subclass::Signal] {
        static SIGNALS: LazyLock<Vec<glib::subclass::Signal>> = LazyLock::new(|| {
            vec![
                glib::subclass::Signal::builder("reset")
                    .action()
                    .class_handler(|values| {
                        if let Some(Ok(element)) = values.first().map(|v| v.get::<super::QMambaIqa>()) {
                            element.imp().reset();
                        }
                        None
                    })
                    .build(),
            ]
        });
        &SIGNALS
    }

    fn set_property(&self, _id: usize, value: &glib::Value, pspec: &glib::ParamSpec) {
        // GObject has checked the types; a value that still does not fit changes nothing.
        fn set<'a, T: glib::value::FromValue<'a>>(target: &mut T, value: &'a glib::Value)
        where
            <T::Checker as glib::value::ValueTypeChecker>::Error: std::fmt::Debug,
        {
            if let Ok(value) = value.get() {
                *target = value;
            }
        }
        let text = |default: &str| match value.get::<Option<String>>() {
            Ok(Some(text)) if !text.is_empty() => text,
            _ => default.to_owned(),
        };
        let defaults = Options::default();
        let mut settings = self.settings.lock();
        match pspec.name() {
            "model" => settings.options.model = text(&defaults.model),
            "device" => settings.options.device = text(&defaults.device),
            "style-prompt" => {
                settings.options.style_prompt = text(&defaults.style_prompt);
                let (name, force) = (settings.options.style_prompt.clone(), settings.options.force_style_prompt);
                drop(settings);
                self.adapt(&name, force);
            }
            "force-style-prompt" => set(&mut settings.options.force_style_prompt, value),
            "threads" => {
                if let Ok(threads) = value.get::<u32>() {
                    settings.options.threads = threads as usize;
                }
            }
            "precision" => {
                if let Ok(precision) = value.get::<super::Precision>() {
                    settings.options.precision = precision.into();
                }
            }
            "crops" => set(&mut settings.crops, value),
            "sampling" => set(&mut settings.sampling, value),
            "seed" => set(&mut settings.seed, value),
            "interval" => set(&mut settings.interval, value),
            "jitter" => set(&mut settings.jitter, value),
            "hold" => set(&mut settings.hold, value),
            "async" => set(&mut settings.asynchronous, value),
            "low-threshold" => set(&mut settings.low_threshold, value),
            "high-threshold" => set(&mut settings.high_threshold, value),
            "alarm-hold" => set(&mut settings.alarm_hold, value),
            "alarm-error" => set(&mut settings.alarm_error, value),
            "post-messages" => set(&mut settings.post_messages, value),
            "window" => set(&mut settings.window, value),
            name => gst::error!(CAT, imp = self, "no property {name} to set"),
        }
    }

    fn property(&self, _id: usize, pspec: &glib::ParamSpec) -> glib::Value {
        let settings = self.settings.lock();
        match pspec.name() {
            "model" => settings.options.model.to_value(),
            "style-prompt" => settings.options.style_prompt.to_value(),
            "force-style-prompt" => settings.options.force_style_prompt.to_value(),
            "crops" => settings.crops.to_value(),
            "sampling" => settings.sampling.to_value(),
            "seed" => settings.seed.to_value(),
            "interval" => settings.interval.to_value(),
            "jitter" => settings.jitter.to_value(),
            "hold" => settings.hold.to_value(),
            "async" => settings.asynchronous.to_value(),
            "low-threshold" => settings.low_threshold.to_value(),
            "high-threshold" => settings.high_threshold.to_value(),
            "alarm-hold" => settings.alarm_hold.to_value(),
            "alarm-error" => settings.alarm_error.to_value(),
            "device" => settings.options.device.to_value(),
            "threads" => (settings.options.threads as u32).to_value(),
            "precision" => super::Precision::from(settings.options.precision).to_value(),
            "post-messages" => settings.post_messages.to_value(),
            "window" => settings.window.to_value(),
            "last-score" => {
                drop(settings);
                self.last_score().unwrap_or(-1.0).to_value()
            }
            "statistics" => {
                drop(settings);
                self.statistics().to_value()
            }
            _ => pspec.default_value().clone(),
        }
    }
}

impl GstObjectImpl for QMambaIqa {}

impl ElementImpl for QMambaIqa {
    fn metadata() -> Option<&'static gst::subclass::ElementMetadata> {
        static METADATA: LazyLock<gst::subclass::ElementMetadata> = LazyLock::new(|| {
            gst::subclass::ElementMetadata::new(
                "QMamba video quality",
                "Filter/Analyzer/Video",
                "Scores the quality of passing video without a reference and attaches it to each buffer",
                "qmambaiqa developers",
            )
        });
        Some(&METADATA)
    }

    fn pad_templates() -> &'static [gst::PadTemplate] {
        static TEMPLATES: LazyLock<Vec<gst::PadTemplate>> = LazyLock::new(|| {
            let caps = gst_video::VideoCapsBuilder::new().format_list(convert::formats()).build();
            let template = |name, direction| gst::PadTemplate::new(name, direction, gst::PadPresence::Always, &caps);
            [template("sink", gst::PadDirection::Sink), template("src", gst::PadDirection::Src)]
                .into_iter()
                .filter_map(Result::ok)
                .collect()
        });
        &TEMPLATES
    }
}

impl BaseTransformImpl for QMambaIqa {
    const MODE: gst_base::subclass::BaseTransformMode = gst_base::subclass::BaseTransformMode::AlwaysInPlace;
    const PASSTHROUGH_ON_SAME_CAPS: bool = false;
    const TRANSFORM_IP_ON_PASSTHROUGH: bool = false;

    fn start(&self) -> Result<(), gst::ErrorMessage> {
        let settings = self.settings.lock().clone();
        let scorer = Scorer::open(&settings.options)
            .map_err(|e| gst::error_msg!(gst::ResourceError::OpenRead, ("cannot load the model: {e}")))?;
        if scorer.description().range.is_none() {
            gst::element_imp_warning!(
                self,
                gst::LibraryError::Settings,
                ("model {} names no range of its output: 0 to 1 is assumed", scorer.model_name())
            );
        }
        gst::info!(CAT, imp = self, "model {} on {}", scorer.model_name(), scorer.device());
        FrameQuality::register();
        let weak = self.obj().downgrade();
        let work = move |job: Job| {
            if let Some(element) = weak.upgrade() {
                element.imp().work(&job);
            }
        };
        let worker = if settings.asynchronous { Some(Arc::new(Worker::start(work)?)) } else { None };
        *self.state.lock() = Some(State { scorer, info: None, stream: Stream::new(settings.window, 0), worker });
        Ok(())
    }

    fn stop(&self) -> Result<(), gst::ErrorMessage> {
        // Taken out of the lock first: the worker needs it for its last frame.
        let state = self.state.lock().take();
        drop(state);
        Ok(())
    }

    fn set_caps(&self, incaps: &gst::Caps, _outcaps: &gst::Caps) -> Result<(), gst::LoggableError> {
        let info = gst_video::VideoInfo::from_caps(incaps)
            .map_err(|_| gst::loggable_error!(CAT, "not raw video: {incaps}"))?;
        if let Some(state) = self.state.lock().as_mut() {
            state.info = Some(info);
        }
        Ok(())
    }

    fn sink_event(&self, event: gst::Event) -> bool {
        match event.view() {
            gst::EventView::Eos(_) => {
                let worker = self.state.lock().as_ref().and_then(|state| state.worker.clone());
                if let Some(worker) = worker {
                    worker.finish();
                }
                self.post_pooled();
            }
            gst::EventView::FlushStop(_) => self.reset(),
            gst::EventView::Segment(_) => {
                if let Some(state) = self.state.lock().as_mut() {
                    state.stream.due = None;
                }
            }
            _ => (),
        }
        self.parent_sink_event(event)
    }

    fn transform_ip(&self, buffer: &mut gst::BufferRef) -> Result<gst::FlowSuccess, gst::FlowError> {
        if let Some(pts) = buffer.pts()
            && let Some(segment) = self.obj().segment().downcast_ref::<gst::ClockTime>()
            && let Err(e) = self.obj().sync_values(segment.to_stream_time(pts).unwrap_or(pts))
        {
            gst::trace!(CAT, imp = self, "no controlled values at {pts}: {e}");
        }
        let settings = self.settings.lock().clone();
        let times = self.times(buffer);
        // The lock is not held while a frame is scored, so that properties can be read.
        let (scorer, info, frame) = {
            let mut state = self.state.lock();
            let Some(State { scorer, info: Some(info), stream, worker }) = state.as_mut() else {
                return Err(gst::FlowError::NotNegotiated);
            };
            let frame = stream.frames;
            stream.frames += 1;
            let due = !buffer.flags().contains(gst::BufferFlags::GAP) && stream.is_due(&times, &settings);
            if due && info.is_interlaced() && !stream.warned_interlaced {
                stream.warned_interlaced = true;
                gst::element_imp_warning!(
                    self,
                    gst::StreamError::Format,
                    ("interlaced video is scored as it is, combing included: put `deinterlace` in front")
                );
            }
            if let (true, Some(worker)) = (due, &worker) {
                let (scorer, info, generation) = (scorer.clone(), info.clone(), stream.generation);
                // The copy shares the pixels.
                let (settings, buffer) = (settings.clone(), buffer.copy());
                let job = Job { scorer, info, settings, buffer, frame, times, generation };
                stream.dropped += u64::from(worker.offer(job));
            }
            if !due || worker.is_some() {
                let held = if settings.hold || worker.is_some() { stream.held(&times) } else { None };
                return match held {
                    Some(held) => attach(self, &held, buffer).map(|()| gst::FlowSuccess::Ok),
                    None => Ok(gst::FlowSuccess::Ok),
                };
            }
            (scorer.clone(), info.clone(), frame)
        };
        let quality = self.score(&scorer, &info, &settings, buffer, frame).map_err(|e| {
            gst::element_imp_error!(self, gst::StreamError::Failed, ("frame {frame} cannot be scored: {e}"));
            gst::FlowError::Error
        })?;
        attach(self, &quality, buffer)?;
        self.take(quality, times, &settings, None)
    }
}

fn attach(imp: &QMambaIqa, quality: &FrameQuality, buffer: &mut gst::BufferRef) -> Result<(), gst::FlowError> {
    quality.attach(buffer).map_err(|e| {
        gst::element_imp_error!(imp, gst::CoreError::Failed, ("cannot attach the score to the buffer: {e}"));
        gst::FlowError::Error
    })
}

impl QMambaIqa {
    fn score(
        &self,
        scorer: &Scorer,
        info: &gst_video::VideoInfo,
        settings: &Settings,
        buffer: &gst::BufferRef,
        frame: u64,
    ) -> crate::Result<FrameQuality> {
        let plan = CropPlan::new(settings.crops as usize, settings.sampling.into(), settings.seed)?;
        let mapped = gst_video::VideoFrameRef::from_buffer_ref_readable(buffer, info)
            .map_err(|e| crate::Error::Input(format!("its buffer does not hold {info:?}: {e}")))?;
        let score = scorer.score(&convert::frame(&mapped, info)?, &plan, frame)?;
        Ok(FrameQuality::new(score, scorer.model_name(), scorer.style_prompt_name(), frame))
    }

    /// Scores a frame beside the stream.
    fn work(&self, job: &Job) {
        match self.score(&job.scorer, &job.info, &job.settings, &job.buffer, job.frame) {
            // An alarm that shall stop the stream has posted its error.
            Ok(quality) => drop(self.take(quality, job.times, &job.settings, Some(job.generation))),
            Err(e) => {
                gst::element_imp_error!(self, gst::StreamError::Failed, ("frame {} cannot be scored: {e}", job.frame));
            }
        }
    }

    /// Takes a frame's score into account, unless the stream of that generation is no more, and says what is to be said.
    fn take(
        &self,
        quality: FrameQuality,
        times: Times,
        settings: &Settings,
        generation: Option<u64>,
    ) -> Result<gst::FlowSuccess, gst::FlowError> {
        let alarm = {
            let mut state = self.state.lock();
            let stream = state.as_mut().map(|state| &mut state.stream);
            let Some(stream) = stream.filter(|s| generation.is_none_or(|g| g == s.generation)) else {
                return Ok(gst::FlowSuccess::Ok);
            };
            stream.take(&quality, times, settings)
        };
        if settings.post_messages {
            self.post(&Report::Frame { times, quality });
        }
        let Some(alarm) = alarm else { return Ok(gst::FlowSuccess::Ok) };
        self.post(&alarm);
        if let Report::Alarm { low: true, score, threshold, .. } = alarm
            && settings.alarm_error
        {
            gst::element_imp_error!(
                self,
                gst::StreamError::Failed,
                ("quality is too low: {score:.1}, wanted {threshold:.1} or more (alarm-error is set)")
            );
            return Err(gst::FlowError::Error);
        }
        Ok(gst::FlowSuccess::Ok)
    }

    fn times(&self, buffer: &gst::BufferRef) -> Times {
        let nanoseconds = |time: Option<gst::ClockTime>| time.map_or(u64::MAX, gst::ClockTime::nseconds);
        let segment = self.obj().segment();
        let segment = segment.downcast_ref::<gst::ClockTime>();
        let pts = buffer.pts();
        Times {
            timestamp: nanoseconds(pts),
            stream_time: nanoseconds(pts.and_then(|pts| segment?.to_stream_time(pts))),
            running_time: nanoseconds(pts.and_then(|pts| segment?.to_running_time(pts))),
            duration: nanoseconds(buffer.duration()),
        }
    }

    fn post(&self, report: &Report) {
        let message = gst::message::Element::builder(report.to_structure()).src(&*self.obj()).build();
        if self.obj().post_message(message).is_err() {
            gst::debug!(CAT, imp = self, "nobody takes messages");
        }
    }

    fn post_pooled(&self) {
        if !self.settings.lock().post_messages {
            return;
        }
        let pooled = self.state.lock().as_ref().and_then(|state| {
            let times = state.stream.last.as_ref().map(|(_, times)| *times)?;
            Some(Report::Pooled { times, statistics: state.stream.pool.stream()? })
        });
        if let Some(report) = pooled {
            self.post(&report);
        }
    }

    /// Forgets the stream so far.
    fn reset(&self) {
        let window = self.settings.lock().window;
        if let Some(state) = self.state.lock().as_mut() {
            state.stream = Stream::new(window, state.stream.generation + 1);
        }
    }

    /// Changes the adapter of a running element; a wrong one leaves the old in use and warns.
    fn adapt(&self, style_prompt: &str, force: bool) {
        let Some(mut scorer) = self.state.lock().as_ref().map(|state| state.scorer.clone()) else { return };
        match scorer.set_style_prompt(style_prompt, force) {
            Ok(()) => {
                if let Some(state) = self.state.lock().as_mut() {
                    state.scorer = scorer;
                }
            }
            Err(e) => {
                gst::element_imp_warning!(self, gst::LibraryError::Settings, ("the style prompt stays as it was: {e}"));
            }
        }
    }

    fn last_score(&self) -> Option<f64> {
        self.state.lock().as_ref()?.stream.last.as_ref().map(|(quality, _)| quality.score)
    }

    fn statistics(&self) -> gst::Structure {
        let state = self.state.lock();
        state.as_ref().map_or_else(|| gst::Structure::new_empty("qmambaiqa-statistics"), |s| s.stream.statistics())
    }
}
