//! Frames decoded again, as pictures.

use super::Comparison;
use super::rendition::{Decoder, check_video};
use crate::source::{self, Kind};
use crate::video;
use anyhow::{Context, Result, anyhow, bail};
use base64::prelude::{BASE64_STANDARD, Engine};
use gstreamer as gst;
use gstreamer::prelude::*;
use image::codecs::jpeg::JpegEncoder;
use image::{RgbImage, imageops};
use qmambaiqa::frame::Frame;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Duration;

/// Decoding one frame takes far less.
const PATIENCE: gst::ClockTime = gst::ClockTime::from_seconds(30);
/// Widest picture, in pixels.
const WIDTH: u32 = 640;
/// Good enough not to add to what the encodings have.
const JPEG_QUALITY: u8 = 92;
/// A frame is sought a little after its start: times are rounded.
const AFTER: f64 = 1e-3;

/// The frames that are shown at `times`, which rise, in seconds.
fn stills(path: &Path, times: &[f64], decoder: Decoder, scale: Option<(u32, u32)>) -> Result<Vec<RgbImage>> {
    if times.is_empty() {
        return Ok(Vec::new());
    }
    let mut pictures = match (check_video(path)?, decoder) {
        (_, Decoder::Ffmpeg(ffmpeg)) => ffmpeg.decode(path, None, |stream| y4m(stream, times))?,
        (Kind::Y4m, _) => y4m(File::open(path)?, times)?,
        _ => gstreamer(path, times)?,
    };
    if pictures.len() != times.len() {
        bail!("{}: {} of {} frames are found again", path.display(), pictures.len(), times.len());
    }
    if let Some((width, height)) = scale {
        pictures.iter_mut().for_each(|p| *p = imageops::resize(p, width, height, imageops::FilterType::CatmullRom));
    }
    Ok(pictures)
}

fn y4m(stream: impl Read, times: &[f64]) -> Result<Vec<RgbImage>> {
    let mut pictures = Vec::new();
    source::read_y4m(stream, Duration::ZERO, &mut |_, time, frame| {
        let Some(wanted) = times.get(pictures.len()) else { return Ok(ControlFlow::Break(())) };
        if time.is_some_and(|time| time > wanted - AFTER) {
            pictures.push(picture(frame)?);
        }
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(pictures)
}

fn picture(frame: &Frame) -> Result<RgbImage> {
    let bytes = frame.to_rgb()?.iter().map(|v| (255.0 * v).round() as u8).collect();
    RgbImage::from_raw(frame.width() as u32, frame.height() as u32, bytes).ok_or_else(|| anyhow!("no picture"))
}

fn gstreamer(path: &Path, times: &[f64]) -> Result<Vec<RgbImage>> {
    let path = path.canonicalize().with_context(|| path.display().to_string())?;
    let text = "filesrc name=src ! decodebin ! videoconvert ! video/x-raw,format=RGB ! \
                fakesink name=sink sync=false enable-last-sample=true";
    let pipeline = gst::parse::launch(text)?.downcast::<gst::Pipeline>().map_err(|_| anyhow!("no pipeline"))?;
    let by_name = |name: &str| pipeline.by_name(name).ok_or_else(|| anyhow!("GStreamer built no {name}"));
    by_name("src")?.set_property("location", path.to_str().ok_or_else(|| anyhow!("the path is not UTF-8"))?);
    let sink = by_name("sink")?;
    let seek = |&time: &f64| -> Result<RgbImage> {
        let at = gst::ClockTime::from_nseconds(((time + AFTER) * 1e9) as u64);
        pipeline.seek_simple(gst::SeekFlags::FLUSH | gst::SeekFlags::ACCURATE, at)?;
        pipeline.state(PATIENCE).0?;
        let sample = sink.property::<Option<gst::Sample>>("last-sample");
        let sample = sample.ok_or_else(|| anyhow!("no frame at {time:.2} s"))?;
        let (buffer, caps) = (sample.buffer().context("no buffer")?, sample.caps().context("no caps")?);
        let info = gstreamer_video::VideoInfo::from_caps(caps)?;
        video::picture(&gstreamer_video::VideoFrameRef::from_buffer_ref_readable(buffer, &info)?)
    };
    let play = || -> Result<Vec<RgbImage>> {
        pipeline.set_state(gst::State::Paused)?;
        pipeline.state(PATIENCE).0?;
        times.iter().map(seek).collect()
    };
    let result = play().with_context(|| format!("{}: frames for the report", path.display()));
    pipeline.set_state(gst::State::Null)?;
    result
}

/// Pictures as data URIs, by rendition and time.
pub type Pictures<'a> = BTreeMap<(&'a str, u64), String>;

/// The frames of all worst moments.
pub fn pictures<'a>(comparison: &Comparison<'a>, decoder: Decoder, scale: Option<(u32, u32)>) -> Result<Pictures<'a>> {
    let mut all = BTreeMap::new();
    for r in comparison.renditions {
        let pairs = comparison.pairs.iter().filter(|pair| pair.first == r.name() || pair.second == r.name());
        let moments = pairs.flat_map(|pair| &pair.worst).filter_map(|moment| r.nearest(moment.time));
        let mut times: Vec<f64> = moments.map(|frame| frame.time).collect();
        times.sort_by(f64::total_cmp);
        times.dedup();
        for (time, picture) in times.iter().zip(stills(&r.source.path, &times, decoder, scale)?) {
            all.insert((r.name(), time.to_bits()), data_uri(picture)?);
        }
    }
    Ok(all)
}

fn data_uri(picture: RgbImage) -> Result<String> {
    let (width, height) = picture.dimensions();
    let small = width.min(WIDTH);
    let rows = (u64::from(height) * u64::from(small) / u64::from(width.max(1))).max(1) as u32;
    let picture = imageops::resize(&picture, small, rows, imageops::FilterType::Lanczos3);
    let mut jpeg = Vec::new();
    JpegEncoder::new_with_quality(&mut jpeg, JPEG_QUALITY).encode_image(&picture)?;
    Ok(format!("data:image/jpeg;base64,{}", BASE64_STANDARD.encode(jpeg)))
}
