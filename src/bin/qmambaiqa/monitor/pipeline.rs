//! One try to play a stream.

use super::picture;
use super::source::Source;
use super::stream::Event;
use crate::common::Area;
use crate::video;
use anyhow::{Result, anyhow};
use gstreamer as gst;
use gstreamer::prelude::*;
use qmambaiqa::Options;
use qmambaiqa::crops::CropPlan;
use qmambaiqa::plugin::Report;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// How often a try looks whether it shall end, and whether frames come.
const POLL: gst::ClockTime = gst::ClockTime::from_mseconds(100);

/// How long a pipeline may take to stop. Some sources of GStreamer never do once their server has gone: `hlsdemux2` of 1.22
/// waits for its own thread, which waits for the server.
const PATIENCE: Duration = Duration::from_secs(3);

/// What is said of sound alone.
const NO_VIDEO: &str = "it has no video";

/// The element that plays a URI.
///
/// What comes over HTTP may be HLS or DASH. For those `uridecodebin3` takes `hlsdemux2` and `dashdemux2`, which in 1.22 hang or
/// abort the process when their server goes, and in 1.26 do not; `uridecodebin` takes the older demuxers of gst-plugins-bad.
fn decoder(uri: &str) -> &'static str {
    let (major, minor, ..) = gst::version();
    let scheme = uri.split_once(':').map_or("", |(scheme, _)| scheme);
    let is_http = ["http", "https"].iter().any(|http| scheme.eq_ignore_ascii_case(http));
    let adaptive = ["hlsdemux", "dashdemux"].iter().all(|name| gst::ElementFactory::find(name).is_some());
    if is_http && (major, minor) < (1, 26) && adaptive { "uridecodebin" } else { "uridecodebin3" }
}

/// Has a decoder take a DASH manifest for one: what finds types in GStreamer 1.22 says XML of no known kind, where it comes over
/// HTTP.
fn announce_dash(decoder: &gst::Element, uri: &str) {
    let path = uri.split(['?', '#']).next().unwrap_or_default();
    let Some(bin) = decoder.downcast_ref::<gst::Bin>().filter(|_| path.ends_with(".mpd")) else { return };
    let caps = gst::Caps::new_empty_simple("application/dash+xml");
    let manifest = AtomicBool::new(true); // what is found first; segments come later
    bin.connect_deep_element_added(move |_, _, element| {
        let finds = element.factory().is_some_and(|factory| factory.name() == "typefind");
        if finds && manifest.swap(false, Ordering::Relaxed) {
            element.set_property("force-caps", &caps);
        }
    });
}

/// How streams are played and scored.
pub struct Setup {
    pub options: Options,
    pub plan: CropPlan,
    pub area: Area,
    pub interval: Duration,
    pub jitter: f64,
    /// Low, high.
    pub thresholds: [f64; 2],
    pub alarm_hold: Duration,
    pub black_alarm: bool,
    pub freeze_alarm: bool,
    pub metrics: Option<String>,
    pub stall: Duration,
    pub retry_limit: u32,
    /// Whether scored frames are shown.
    pub pictures: bool,
}

/// A pipeline, stopped when dropped.
struct Playing {
    pipeline: gst::Pipeline,
    element: gst::Element,
    /// Decoded frames so far.
    frames: Arc<AtomicU64>,
}

impl Drop for Playing {
    fn drop(&mut self) {
        let _ = self.pipeline.set_state(gst::State::Null); // it is not used any more, whatever state it is in
    }
}

/// Plays until it fails or shall stop. Gives how long it played, and why it ended: none where it was stopped.
pub fn play(source: &Source, setup: &Setup, stop: &AtomicBool, emit: &dyn Fn(Event)) -> (Duration, Option<String>) {
    let playing = match Playing::build(source, setup) {
        Ok(playing) => playing,
        Err(error) => return (Duration::ZERO, Some(source.redact(&format!("{error:#}")))),
    };
    let (played, cause) = playing.watch(setup.stall, stop, emit);
    let statistics = playing.element.property::<gst::Structure>("statistics");
    emit(Event::Dropped(statistics.get("dropped").unwrap_or(0)));
    playing.stop();
    (played, cause.map(|cause| source.redact(&cause)))
}

impl Playing {
    /// Stops it; one that does not stop in time is left behind.
    fn stop(self) {
        let (done, stopped) = mpsc::channel::<()>();
        let stop = move || {
            drop(self);
            drop(done);
        };
        // Without a thread it has been dropped, and so stopped, here.
        if std::thread::Builder::new().name("stop".into()).spawn(stop).is_ok() {
            let _ = stopped.recv_timeout(PATIENCE);
        }
    }

    fn build(source: &Source, setup: &Setup) -> Result<Self> {
        let nanoseconds = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let element = video::element(&setup.options, &setup.plan, setup.area, setup.interval)?;
        element.set_property("async", true);
        element.set_property("jitter", setup.jitter);
        let [low, high] = setup.thresholds;
        element.set_property("low-threshold", low);
        element.set_property("high-threshold", high);
        element.set_property("alarm-hold", nanoseconds(setup.alarm_hold));
        element.set_property("black-alarm", setup.black_alarm);
        element.set_property("freeze-alarm", setup.freeze_alarm);
        element.set_property("metrics-address", setup.metrics.as_deref());
        element.set_property("stream-name", &source.name);
        element.set_property("post-samples", setup.pictures);
        let decode = gst::ElementFactory::make(decoder(&source.uri)).property("uri", &source.uri).build()?;
        announce_dash(&decode, &source.uri);
        let convert = gst::ElementFactory::make("videoconvert").build()?;
        let sink = gst::ElementFactory::make("fakesink").property("sync", true).build()?;
        let playing = Self { pipeline: gst::Pipeline::new(), element, frames: Arc::default() };
        playing.pipeline.add_many([&decode, &convert, &playing.element, &sink])?;
        gst::Element::link_many([&convert, &playing.element, &sink])?;

        let video = convert.static_pad("sink").ok_or_else(|| anyhow!("videoconvert has no sink"))?;
        let frames = playing.frames.clone();
        video.add_probe(gst::PadProbeType::BUFFER, move |_, _| {
            frames.fetch_add(1, Ordering::Relaxed);
            gst::PadProbeReturn::Ok
        });
        let (weak, sink_pad) = (playing.pipeline.downgrade(), video.clone());
        decode.connect_no_more_pads(move |decode| {
            if !sink_pad.is_linked() {
                gst::element_error!(decode, gst::StreamError::WrongType, ("{NO_VIDEO}"));
            }
        });
        decode.connect_pad_added(move |_, pad| {
            let caps = pad.current_caps().unwrap_or_else(|| pad.query_caps(None));
            let is_video = caps.structure(0).is_some_and(|s| s.name().starts_with("video/"));
            let linked = is_video && !video.is_linked() && pad.link(&video).is_ok();
            if !linked && let Some(pipeline) = weak.upgrade() {
                video::drain(&pipeline, pad);
            }
        });
        let started = playing.pipeline.set_state(gst::State::Playing); // where it fails, the bus says why
        if started == Ok(gst::StateChangeSuccess::NoPreroll) {
            sink.set_property("sync", false); // a live source has its pace, and its frames are wanted at once
        }
        Ok(playing)
    }

    fn watch(&self, stall: Duration, stop: &AtomicBool, emit: &dyn Fn(Event)) -> (Duration, Option<String>) {
        let Some(bus) = self.pipeline.bus() else { return (Duration::ZERO, Some("the pipeline has no bus".into())) };
        let mut began = None;
        let (mut frames, mut newest) = (0, Instant::now());
        let mut missing = None;
        let cause = loop {
            if stop.load(Ordering::Relaxed) {
                break None;
            }
            let message = bus.timed_pop(POLL);
            let seen = self.frames.load(Ordering::Relaxed);
            if seen != frames {
                (frames, newest) = (seen, Instant::now());
                if began.is_none() {
                    began = Some(newest);
                    emit(Event::Playing);
                }
            } else if newest.elapsed() >= stall {
                break Some(format!("no frame for {} s", stall.as_secs_f64()));
            }
            let Some(message) = message else { continue };
            match message.view() {
                gst::MessageView::Eos(_) => break Some("the stream ended".into()),
                gst::MessageView::Error(error) => {
                    break Some(match missing {
                        Some(name) => format!("this GStreamer has no {name}"),
                        None if error.error().message() == NO_VIDEO => NO_VIDEO.into(),
                        None if began.is_none() => format!("it cannot be played: {}", reason(error)),
                        None => reason(error),
                    });
                }
                gst::MessageView::StreamCollection(collection)
                    if !collection
                        .stream_collection()
                        .iter()
                        .any(|stream| stream.stream_type().contains(gst::StreamType::VIDEO)) =>
                {
                    break Some(NO_VIDEO.into()); // the sink would wait for a picture for ever
                }
                gst::MessageView::Element(element) => {
                    if let Some(structure) = element.structure().filter(|s| s.name() == "missing-plugin") {
                        missing = structure.get::<String>("name").ok(); // such as "AV1 decoder"
                    }
                    if let Some(report) = Report::from_message(&message) {
                        // One that cannot be shown is scored all the same.
                        let picture = Report::sample(&message).and_then(|sample| picture::of(&sample).ok());
                        emit(Event::Report { report: Box::new(report), picture });
                    }
                }
                _ => (),
            }
        };
        (began.map_or(Duration::ZERO, |began| newest - began), cause)
    }
}

/// What GStreamer says of an error, with what it has to say beyond: the line after the place in its code.
fn reason(error: &gst::message::Error) -> String {
    let message = error.error().message().trim_end_matches('.').to_owned();
    match error.debug().as_ref().and_then(|debug| debug.lines().nth(1)) {
        Some(detail) => format!("{message}: {detail}"),
        None => message,
    }
}
