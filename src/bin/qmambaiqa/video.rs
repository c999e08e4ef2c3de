//! Any video that GStreamer decodes, through the element itself.

use crate::common::Area;
use anyhow::{Context, Result, anyhow, bail};
use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_video::{VideoFrameExt, VideoFrameRef, VideoInfo};
use image::RgbImage;
use qmambaiqa::crops::CropPlan;
use qmambaiqa::frame::{Frame, PixelFormat};
use qmambaiqa::indicators::Indicators;
use qmambaiqa::plugin::{FrameQuality, Report};
use qmambaiqa::{Options, Score};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// What is called with each scored frame: its number, its time in seconds, its indicators, its score.
pub type Each<'a> = &'a mut dyn FnMut(u64, Option<f64>, &Indicators, Score) -> Result<()>;

/// Side of [`Looks::thumbnails`].
pub const THUMBNAIL: usize = 16;

/// What frames look like, to tell whether two videos show the same.
#[derive(Default)]
pub struct Looks {
    /// Width and height before any scaling.
    pub size: (usize, usize),
    /// Of each scored frame by its number: luma, scaled to a small square.
    pub thumbnails: BTreeMap<u64, Vec<u8>>,
}

/// Scores the frames of a file.
///
/// # Errors
/// What GStreamer says of a file that it cannot decode.
pub fn score(
    path: &Path,
    options: &Options,
    plan: &CropPlan,
    area: Area,
    interval: Duration,
    each: Each,
) -> Result<()> {
    watch(path, element(options, plan, area, interval)?, None, None, each)
}

/// Scores the frames of a file by `iqa`, scaled to `size` where given, and fills `looks`.
///
/// # Errors
/// What GStreamer says of a file that it cannot decode.
pub fn watch(
    path: &Path,
    iqa: gst::Element,
    size: Option<(u32, u32)>,
    looks: Option<Arc<Mutex<Looks>>>,
    each: Each,
) -> Result<()> {
    let convert = gst::ElementFactory::make("videoconvert").build()?;
    let sink = sink()?;
    let mut parts = vec![convert.clone()];
    if let Some((width, height)) = size {
        parts.extend(scaled("video/x-raw", width, height)?);
    }
    parts.push(iqa);
    if looks.is_some() {
        parts.push(gst::ElementFactory::make("videoconvert").build()?);
        parts.extend(scaled("video/x-raw,format=GRAY8", THUMBNAIL as u32, THUMBNAIL as u32)?);
    }
    parts.push(sink.clone());
    if let Some(looks) = looks {
        probe(&convert, &sink, looks)?;
    }
    run(path, &parts, each)
}

/// Hands on every frame of a file, scaled to `size` where given.
///
/// # Errors
/// What GStreamer says of a file that it cannot decode, and what `each` fails with.
pub fn look(
    path: &Path,
    size: Option<(u32, u32)>,
    each: impl FnMut(&Frame) -> qmambaiqa::Result<()> + Send + 'static,
) -> Result<()> {
    gst::init().context("GStreamer does not start")?;
    // As the element has them, without a conversion where none is needed.
    let formats = gst::List::new(PixelFormat::ALL.iter().map(|format| format.name()));
    let raw = gst::Caps::builder("video/x-raw").field("format", formats).build();
    let (convert, sink) = (gst::ElementFactory::make("videoconvert").build()?, sink()?);
    let mut parts = vec![convert];
    if let Some((width, height)) = size {
        parts.extend(scaled("video/x-raw", width, height)?);
    }
    parts.extend([gst::ElementFactory::make("capsfilter").property("caps", raw).build()?, sink.clone()]);
    let each = Mutex::new(each);
    let input = pad(&sink, "sink")?;
    input.add_probe(gst::PadProbeType::BUFFER, move |input, info| {
        let looked = info.buffer().zip(input.current_caps()).map(|(buffer, caps)| {
            let info = VideoInfo::from_caps(&caps)?;
            let mapped = VideoFrameRef::from_buffer_ref_readable(buffer, &info)?;
            let frame = qmambaiqa::plugin::frame(&mapped, &info)?;
            let mut each = each.lock().unwrap_or_else(PoisonError::into_inner);
            anyhow::Ok((*each)(&frame)?)
        });
        if let Some(Err(error)) = looked
            && let Some(sink) = input.parent_element()
        {
            gst::element_error!(sink, gst::StreamError::Failed, ("{error:#}"));
        }
        gst::PadProbeReturn::Ok
    });
    run(path, &parts, &mut |_, _, _, _| Ok(()))
}

/// Where all frames end, at once.
fn sink() -> Result<gst::Element> {
    Ok(gst::ElementFactory::make("fakesink").property("sync", false).build()?)
}

fn pad(element: &gst::Element, name: &str) -> Result<gst::Pad> {
    element.static_pad(name).ok_or_else(|| anyhow!("{} has no {name}", element.name()))
}

/// Plays a file through elements, the first of which takes any raw video.
///
/// # Errors
/// What GStreamer says of a file that it cannot decode, and what `each` fails with.
pub fn run(path: &Path, parts: &[gst::Element], each: Each) -> Result<()> {
    let path = path.canonicalize().with_context(|| path.display().to_string())?;
    let pipeline = gst::parse::launch("filesrc name=src ! decodebin name=decode")?;
    let pipeline = pipeline.downcast::<gst::Pipeline>().map_err(|_| anyhow!("GStreamer built no pipeline"))?;
    let by_name = |name: &str| pipeline.by_name(name).ok_or_else(|| anyhow!("GStreamer built no {name}"));
    by_name("src")?.set_property("location", path.to_str().ok_or_else(|| anyhow!("the path is not UTF-8"))?);
    pipeline.add_many(parts)?;
    gst::Element::link_many(parts)?;
    let video = pad(parts.first().context("no elements")?, "sink")?;
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
            drain(&pipeline, pad);
        }
    });
    let result = play(&pipeline, &path, each);
    pipeline.set_state(gst::State::Null)?;
    result
}

/// The element with a scorer's settings.
///
/// # Errors
/// GStreamer does not start, or refuses the element.
pub fn element(options: &Options, plan: &CropPlan, area: Area, interval: Duration) -> Result<gst::Element> {
    gst::init().context("GStreamer does not start")?;
    qmambaiqa::plugin::register().context("the element cannot be registered")?;
    let iqa = gst::ElementFactory::make("qmambaiqa")
        .property("model", &options.model)
        .property("style-prompt", &options.style_prompt)
        .property("force-style-prompt", options.force_style_prompt)
        .property("device", &options.device)
        .property("threads", options.threads as u32)
        .property("precision", qmambaiqa::plugin::Precision::from(options.precision))
        .property("crops", plan.crops() as u32)
        .property_from_str("sampling", plan.sampling().nick())
        .property("seed", plan.seed())
        .property("scales", plan.scales().to_string())
        .property("display-height", plan.display_height() as u32)
        .property("square-pixels", plan.square_pixels())
        .property("region", area.region.map(|region| region.to_string()))
        .property("skip-black-bars", area.skip_black_bars)
        .property("interval", u64::try_from(interval.as_nanos()).unwrap_or(u64::MAX))
        .build()?;
    Ok(iqa)
}

/// The picture of a frame of RGB.
///
/// # Errors
/// It is not RGB.
pub fn picture(frame: &VideoFrameRef<&gst::BufferRef>) -> Result<RgbImage> {
    let (width, stride) = (frame.width() as usize * 3, *frame.plane_stride().first().context("no plane")? as usize);
    let rows = frame.plane_data(0)?.chunks(stride).filter_map(|row| row.get(..width));
    let bytes = rows.take(frame.height() as usize).flatten().copied().collect();
    RgbImage::from_raw(frame.width(), frame.height(), bytes).ok_or_else(|| anyhow!("no picture"))
}

/// Has a pad's sound, subtitles or further pictures go somewhere, or decoding stops.
pub fn drain(pipeline: &gst::Pipeline, pad: &gst::Pad) {
    if let Ok(drain) = gst::ElementFactory::make("fakesink").property("sync", false).property("async", false).build()
        && pipeline.add(&drain).is_ok()
        && drain.sync_state_with_parent().is_ok()
        && let Some(sink) = drain.static_pad("sink")
    {
        let _ = pad.link(&sink);
    }
}

/// A scaler to a size, its pixels square.
fn scaled(caps: &str, width: u32, height: u32) -> Result<[gst::Element; 2]> {
    let caps = format!("{caps},width={width},height={height},pixel-aspect-ratio=1/1");
    // Bicubic, as ffmpeg's: what decodes must not change what a scaled video scores.
    let scale = gst::ElementFactory::make("videoscale").property("add-borders", false);
    let scale = scale.property_from_str("method", "catrom").build()?;
    Ok([scale, gst::ElementFactory::make("capsfilter").property_from_str("caps", &caps).build()?])
}

/// Has `looks` filled: the size of what comes out of `first`, the thumbnails of what comes into `last`.
fn probe(first: &gst::Element, last: &gst::Element, looks: Arc<Mutex<Looks>>) -> Result<()> {
    let for_size = looks.clone();
    pad(first, "src")?.add_probe(gst::PadProbeType::EVENT_DOWNSTREAM, move |_, info| {
        if let Some(gst::EventView::Caps(caps)) = info.event().map(|e| e.view())
            && let Some(caps) = caps.caps().structure(0)
            && let (Ok(width), Ok(height)) = (caps.get::<i32>("width"), caps.get::<i32>("height"))
        {
            for_size.lock().unwrap_or_else(PoisonError::into_inner).size = (width as usize, height as usize);
        }
        gst::PadProbeReturn::Ok
    });
    pad(last, "sink")?.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        if let Some(buffer) = info.buffer()
            && let Some(quality) = FrameQuality::from_buffer(buffer)
            && let Ok(map) = buffer.map_readable()
        {
            let mut looks = looks.lock().unwrap_or_else(PoisonError::into_inner);
            looks.thumbnails.insert(quality.frame, map.to_vec());
        }
        gst::PadProbeReturn::Ok
    });
    Ok(())
}

/// Plays to the end, handing on what the element posts.
fn play(pipeline: &gst::Pipeline, path: &Path, each: Each) -> Result<()> {
    let bus = pipeline.bus().ok_or_else(|| anyhow!("the pipeline has no bus"))?;
    let started = pipeline.set_state(gst::State::Playing);
    let mut missing = None;
    loop {
        // A failed start has its reason on the bus already.
        let wait = if started.is_err() { Some(gst::ClockTime::ZERO) } else { None };
        let Some(message) = bus.timed_pop(wait) else { bail!("{}: GStreamer cannot play it", path.display()) };
        match message.view() {
            gst::MessageView::Eos(_) => return Ok(()),
            gst::MessageView::Error(error) => match missing {
                Some(name) => bail!("{}: this GStreamer has no {name}", path.display()),
                None => bail!("{}: {}", path.display(), error.error()),
            },
            gst::MessageView::Element(element) => {
                if let Some(structure) = element.structure().filter(|s| s.name() == "missing-plugin") {
                    missing = structure.get::<String>("name").ok(); // such as "AV1 decoder"
                }
                if let Some(Report::Frame { times, quality }) = Report::from_message(&message) {
                    let time = (times.stream_time != u64::MAX).then(|| times.stream_time as f64 / 1e9);
                    let score = Score {
                        score: quality.score,
                        raw: quality.raw,
                        deviation: quality.deviation,
                        confidence: quality.confidence,
                        crops: quality.crops as usize,
                        scales: quality.scales,
                    };
                    each(quality.frame, time, &quality.indicators, score)?;
                }
            }
            _ => (),
        }
    }
}
