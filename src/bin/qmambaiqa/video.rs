//! Any video that GStreamer decodes, through the element itself.

use anyhow::{Context, Result, anyhow, bail};
use gstreamer as gst;
use gstreamer::prelude::*;
use qmambaiqa::crops::CropPlan;
use qmambaiqa::plugin::Report;
use qmambaiqa::{Options, Score};
use std::path::Path;
use std::time::Duration;

/// What is called with each scored frame: its number, its time in seconds, its score.
type Each<'a> = &'a mut dyn FnMut(u64, Option<f64>, Score) -> Result<()>;

/// Scores the frames of a file.
///
/// # Errors
/// What GStreamer says of a file that it cannot decode.
pub fn score(path: &Path, options: &Options, plan: &CropPlan, interval: Duration, each: Each) -> Result<()> {
    gst::init().context("GStreamer does not start")?;
    qmambaiqa::plugin::register().context("the element cannot be registered")?;
    let path = path.canonicalize().with_context(|| path.display().to_string())?;
    let pipeline = gst::parse::launch("filesrc name=src ! decodebin name=decode")?;
    let pipeline = pipeline.downcast::<gst::Pipeline>().map_err(|_| anyhow!("GStreamer built no pipeline"))?;
    let by_name = |name: &str| pipeline.by_name(name).ok_or_else(|| anyhow!("GStreamer built no {name}"));
    by_name("src")?.set_property("location", path.to_str().ok_or_else(|| anyhow!("the path is not UTF-8"))?);
    let iqa = gst::ElementFactory::make("qmambaiqa")
        .property("model", &options.model)
        .property("style-prompt", &options.style_prompt)
        .property("force-style-prompt", options.force_style_prompt)
        .property("device", &options.device)
        .property("threads", options.threads as u32)
        .property("crops", plan.crops() as u32)
        .property_from_str("sampling", plan.sampling().nick())
        .property("seed", plan.seed())
        .property("interval", u64::try_from(interval.as_nanos()).unwrap_or(u64::MAX))
        .build()?;
    let convert = gst::ElementFactory::make("videoconvert").build()?;
    let sink = gst::ElementFactory::make("fakesink").property("sync", false).build()?;
    let parts = [&convert, &iqa, &sink];
    pipeline.add_many(parts)?;
    gst::Element::link_many(parts)?;
    let video = convert.static_pad("sink").ok_or_else(|| anyhow!("videoconvert has no sink"))?;
    let (weak, sink) = (pipeline.downgrade(), video.clone());
    by_name("decode")?.connect_no_more_pads(move |decode| {
        if !sink.is_linked() {
            // The sink would wait for a picture for ever.
            gst::element_error!(decode, gst::StreamError::WrongType, ("has no video that can be decoded"));
        }
    });
    by_name("decode")?.connect_pad_added(move |_, pad| {
        let caps = pad.current_caps().unwrap_or_else(|| pad.query_caps(None));
        let is_video = caps.structure(0).is_some_and(|s| s.name().starts_with("video/"));
        let linked = is_video && !video.is_linked() && pad.link(&video).is_ok();
        if !linked && let Some(pipeline) = weak.upgrade() {
            // Sound, subtitles and further pictures must go somewhere, or decoding stops.
            if let Ok(drain) =
                gst::ElementFactory::make("fakesink").property("sync", false).property("async", false).build()
                && pipeline.add(&drain).is_ok()
                && drain.sync_state_with_parent().is_ok()
                && let Some(sink) = drain.static_pad("sink")
            {
                let _ = pad.link(&sink);
            }
        }
    });
    let result = play(&pipeline, &path, each);
    pipeline.set_state(gst::State::Null)?;
    result
}

/// Plays to the end, handing on what the element posts.
fn play(pipeline: &gst::Pipeline, path: &Path, each: Each) -> Result<()> {
    let bus = pipeline.bus().ok_or_else(|| anyhow!("the pipeline has no bus"))?;
    let started = pipeline.set_state(gst::State::Playing);
    loop {
        // A failed start has its reason on the bus already.
        let wait = if started.is_err() { Some(gst::ClockTime::ZERO) } else { None };
        let Some(message) = bus.timed_pop(wait) else { bail!("{}: GStreamer cannot play it", path.display()) };
        match message.view() {
            gst::MessageView::Eos(_) => return Ok(()),
            gst::MessageView::Error(error) => bail!("{}: {}", path.display(), error.error()),
            gst::MessageView::Element(_) => {
                if let Some(Report::Frame { times, quality }) = Report::from_message(&message) {
                    let time = (times.stream_time != u64::MAX).then(|| times.stream_time as f64 / 1e9);
                    let score = Score {
                        score: quality.score,
                        raw: quality.raw,
                        deviation: quality.deviation,
                        confidence: quality.confidence,
                        crops: quality.crops as usize,
                    };
                    each(quality.frame, time, score)?;
                }
            }
            _ => (),
        }
    }
}
