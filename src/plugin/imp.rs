//! Properties, caps and the way of a buffer.

use super::convert;
use super::quality::FrameQuality;
use super::report::{Report, Times, write_statistics};
use super::settings::{self, Settings};
use crate::crops::CropPlan;
use crate::pooling::Pool;
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
use std::sync::LazyLock;
use std::time::Duration;

static CAT: LazyLock<gst::DebugCategory> = LazyLock::new(|| {
    gst::DebugCategory::new("qmambaiqa", gst::DebugColorFlags::empty(), Some("No-reference video quality (QMamba)"))
});

/// What exists between start and stop.
struct State {
    scorer: Scorer,
    info: Option<gst_video::VideoInfo>,
    stream: Stream,
}

/// What a flush forgets.
struct Stream {
    pool: Pool,
    /// Frames seen, scored or not.
    frames: u64,
    /// Running time before which no frame is scored.
    due: Option<gst::ClockTime>,
    last: Option<(FrameQuality, Times)>,
    warned_interlaced: bool,
}

impl Stream {
    fn new(window: u64) -> Self {
        let pool = Pool::new(Some(Duration::from_nanos(window)));
        Self { pool, frames: 0, due: None, last: None, warned_interlaced: false }
    }
}

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
            "crops" => set(&mut settings.crops, value),
            "sampling" => set(&mut settings.sampling, value),
            "seed" => set(&mut settings.seed, value),
            "interval" => set(&mut settings.interval, value),
            "hold" => set(&mut settings.hold, value),
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
            "hold" => settings.hold.to_value(),
            "device" => settings.options.device.to_value(),
            "threads" => (settings.options.threads as u32).to_value(),
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
        *self.state.lock() = Some(State { scorer, info: None, stream: Stream::new(settings.window) });
        Ok(())
    }

    fn stop(&self) -> Result<(), gst::ErrorMessage> {
        *self.state.lock() = None;
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
            gst::EventView::Eos(_) => self.post_pooled(),
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
            let Some(State { scorer, info: Some(info), stream }) = state.as_mut() else {
                return Err(gst::FlowError::NotNegotiated);
            };
            let frame = stream.frames;
            stream.frames += 1;
            if buffer.flags().contains(gst::BufferFlags::GAP) || !is_due(stream, &times, settings.interval) {
                if settings.hold
                    && let Some((last, _)) = &stream.last
                {
                    let held = FrameQuality { held: true, ..last.clone() };
                    attach(self, &held, buffer)?;
                }
                return Ok(gst::FlowSuccess::Ok);
            }
            if info.is_interlaced() && !stream.warned_interlaced {
                stream.warned_interlaced = true;
                gst::element_imp_warning!(
                    self,
                    gst::StreamError::Format,
                    ("interlaced video is scored as it is, combing included: put `deinterlace` in front")
                );
            }
            (scorer.clone(), info.clone(), frame)
        };
        let quality = self.score(&scorer, &info, &settings, buffer, frame).map_err(|e| {
            gst::element_imp_error!(self, gst::StreamError::Failed, ("frame {frame} cannot be scored: {e}"));
            gst::FlowError::Error
        })?;
        attach(self, &quality, buffer)?;
        if let Some(state) = self.state.lock().as_mut() {
            let time = (times.running_time != u64::MAX).then(|| Duration::from_nanos(times.running_time));
            state.stream.pool.push(time, quality.score);
            state.stream.last = Some((quality.clone(), times));
        }
        if settings.post_messages {
            self.post(&Report::Frame { times, quality });
        }
        Ok(gst::FlowSuccess::Ok)
    }
}

/// Whether a frame is to be scored, and when the next one will be.
fn is_due(stream: &mut Stream, times: &Times, interval: u64) -> bool {
    if interval == 0 || times.running_time == u64::MAX {
        return true;
    }
    let now = gst::ClockTime::from_nseconds(times.running_time);
    let step = gst::ClockTime::from_nseconds(interval);
    match stream.due {
        Some(due) if now < due => false,
        // Due times stay on one raster, so that frames which come a little late do not add up to a slower rate.
        Some(due) if now < due.saturating_add(step) => {
            stream.due = Some(due.saturating_add(step));
            true
        }
        _ => {
            stream.due = Some(now.saturating_add(step));
            true
        }
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
            state.stream = Stream::new(window);
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
        let mut structure = gst::Structure::new_empty("qmambaiqa-statistics");
        let state = self.state.lock();
        let pool = state.as_ref().map(|state| &state.stream.pool);
        if let Some(stream) = pool.and_then(Pool::stream) {
            write_statistics(&stream, &mut structure);
        }
        if let Some(window) = pool.and_then(Pool::window) {
            let mut of_window = gst::Structure::new_empty("window");
            write_statistics(&window, &mut of_window);
            structure.set("window", of_window);
        }
        structure
    }
}
