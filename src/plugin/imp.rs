//! Properties, caps and the way of a buffer.

use super::batch::Batch;
use super::job::Job;
use super::quality::FrameQuality;
use super::scoring::Next;
use super::settings::Settings;
use super::state::State;
use super::worker::Worker;
use super::{convert, properties};
use glib::prelude::*;
use glib::subclass::prelude::*;
use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer::subclass::prelude::*;
use gstreamer_base as gst_base;
use gstreamer_base::prelude::*;
use gstreamer_base::subclass::base_transform::GenerateOutputSuccess;
use gstreamer_base::subclass::prelude::*;
use gstreamer_video as gst_video;
use parking_lot::Mutex;
use std::sync::{Arc, LazyLock};

pub(super) static CAT: LazyLock<gst::DebugCategory> = LazyLock::new(|| {
    gst::DebugCategory::new("qmambaiqa", gst::DebugColorFlags::empty(), Some("No-reference video quality (QMamba)"))
});

#[derive(Default)]
pub struct QMambaIqa {
    pub(super) settings: Mutex<Settings>,
    pub(super) state: Mutex<Option<State>>,
    pub(super) batch: Mutex<Batch>,
}

#[glib::object_subclass]
impl ObjectSubclass for QMambaIqa {
    const NAME: &'static str = "GstQMambaIqa";
    type Type = super::QMambaIqa;
    type ParentType = gst_base::BaseTransform;
}

impl ObjectImpl for QMambaIqa {
    fn properties() -> &'static [glib::ParamSpec] {
        static PROPERTIES: LazyLock<Vec<glib::ParamSpec>> = LazyLock::new(properties::specifications);
        &PROPERTIES
    }

    fn signals() -> &'static [glib::subclass::Signal] {
        static SIGNALS: LazyLock<Vec<glib::subclass::Signal>> = LazyLock::new(|| {
            vec![
                glib::subclass::Signal::builder("reset")
                    .action()
                    // Does not wait for the stream: frames that a batch holds leave without a score, as they belong to what is forgotten.
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

    fn set_property(&self, id: usize, value: &glib::Value, pspec: &glib::ParamSpec) {
        let mut settings = self.settings.lock();
        let before = settings.clone();
        properties::set(&mut settings, id, value);
        if matches!(pspec.name(), "region" | "scales") {
            drop(settings);
            self.check(before);
            return;
        }
        if pspec.name() == "style-prompt" {
            let (name, force) = (settings.options.style_prompt.clone(), settings.options.force_style_prompt);
            drop(settings);
            self.adapt(&name, force);
        }
    }

    fn property(&self, id: usize, pspec: &glib::ParamSpec) -> glib::Value {
        match pspec.name() {
            "last-score" => self.last_score().unwrap_or(-1.0).to_value(),
            "statistics" => self.statistics().to_value(),
            _ => properties::get(&self.settings.lock(), id).unwrap_or_else(|| pspec.default_value().clone()),
        }
    }

    fn constructed(&self) {
        self.parent_constructed();
        self.obj().set_qos(true);
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
        let mut state = State::open(&settings, &self.obj().name())?;
        let scorer = &state.scorer;
        for warning in scorer.warnings() {
            gst::element_imp_warning!(self, gst::LibraryError::Settings, ("{warning}"));
        }
        gst::info!(CAT, imp = self, "model {} on {}", scorer.model_name(), scorer.device());
        FrameQuality::register();
        let weak = self.obj().downgrade();
        let work = move |(job, buffer): (Job, gst::Buffer)| {
            if let Some(element) = weak.upgrade() {
                element.imp().work(&job, &buffer);
            }
        };
        state.worker = if settings.asynchronous { Some(Arc::new(Worker::start(work)?)) } else { None };
        self.start_batch(&settings)?;
        *self.state.lock() = Some(state);
        Ok(())
    }

    fn stop(&self) -> Result<(), gst::ErrorMessage> {
        self.stop_batch();
        self.complete_log();
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
            gst::EventView::FlushStop(_) => self.batch.lock().clear(),
            _ if event.is_serialized() => self.release(), // in its place behind the frames that are held
            _ => (),
        }
        match event.view() {
            gst::EventView::Eos(_) => {
                let worker = self.state.lock().as_ref().and_then(|state| state.worker.clone());
                if let Some(worker) = worker {
                    worker.finish();
                }
                self.end();
            }
            gst::EventView::FlushStop(_) => self.reset(),
            gst::EventView::Segment(_) => {
                if let Some(state) = self.state.lock().as_mut() {
                    state.stream.schedule.restart();
                }
            }
            _ => (),
        }
        self.parent_sink_event(event)
    }

    fn src_event(&self, event: gst::Event) -> bool {
        let gst::EventView::Qos(qos) = event.view() else { return self.parent_src_event(event) };
        let (_, proportion, late, running_time) = qos.get();
        if let (Some(state), Some(running_time)) = (self.state.lock().as_mut(), running_time) {
            state.stream.schedule.observe(proportion, late, running_time);
        }
        // Not by way of the base class: it would drop late frames, which pass here.
        self.obj().sink_pad().push_event(event)
    }

    fn transform_ip(&self, buffer: &mut gst::BufferRef) -> Result<gst::FlowSuccess, gst::FlowError> {
        self.control(buffer);
        let next = self.next(buffer)?;
        let mut scored = Vec::new();
        if let Next::Score(job) = &next {
            let failure;
            (scored, failure) = self.score(&[(job, buffer)]);
            if let Some(failure) = failure {
                return Err(self.failed(&failure));
            }
        }
        self.finish(next, scored.pop(), buffer)?;
        Ok(gst::FlowSuccess::Ok)
    }

    fn submit_input_buffer(&self, is_discont: bool, inbuf: gst::Buffer) -> Result<gst::FlowSuccess, gst::FlowError> {
        // The base class marks the next buffer that it hands out as the first after a gap: no earlier one may be left.
        if inbuf.flags().contains(gst::BufferFlags::DISCONT) {
            self.release();
        }
        self.parent_submit_input_buffer(is_discont, inbuf)
    }

    fn generate_output(&self) -> Result<GenerateOutputSuccess, gst::FlowError> {
        if !self.batch.lock().is_on() {
            return self.parent_generate_output();
        }
        if let Some(buffer) = self.take_queued_buffer() {
            self.hold(buffer)?;
        }
        let ready = self.batch.lock().pop()?;
        Ok(ready.map_or(GenerateOutputSuccess::NoOutput, GenerateOutputSuccess::Buffer))
    }

    fn query(&self, direction: gst::PadDirection, query: &mut gst::QueryRef) -> bool {
        if direction == gst::PadDirection::Sink && query.is_serialized() {
            self.release();
        }
        let answered = BaseTransformImplExt::parent_query(self, direction, query);
        let held = self.batch.lock().latency();
        if let (true, gst::QueryViewMut::Latency(latency)) = (answered && !held.is_zero(), query.view_mut()) {
            let held = gst::ClockTime::from_nseconds(held.as_nanos() as u64);
            let (live, min, max) = latency.result();
            latency.set(live, min.saturating_add(held), max.map(|max| max.saturating_add(held)));
        }
        answered
    }

    fn propose_allocation(
        &self,
        decide_query: Option<&gst::query::Allocation>,
        query: &mut gst::query::Allocation,
    ) -> Result<(), gst::LoggableError> {
        self.parent_propose_allocation(decide_query, query)?;
        // Whoever fills buffers from a pool must not wait for those that are held.
        let held = self.batch.lock().most();
        if held > 0 {
            let (caps, _) = query.get();
            let size = caps.and_then(|caps| gst_video::VideoInfo::from_caps(caps).ok()).map_or(0, |info| info.size());
            query.add_allocation_pool(None::<&gst::BufferPool>, size as u32, held, 0);
        }
        Ok(())
    }
}
