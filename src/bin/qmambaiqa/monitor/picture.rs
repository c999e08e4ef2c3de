//! Small pictures of frames.

use crate::video;
use anyhow::{Context, Result};
use gstreamer as gst;
use gstreamer_video::{VideoConverter, VideoFormat, VideoFrame, VideoFrameRef, VideoInfo};
use image::RgbImage;
use image::codecs::jpeg::JpegEncoder;

/// Longest side, in pixels.
const SIDE: u32 = 320;

const JPEG_QUALITY: u8 = 80;

/// A frame in small, as it is shown: with square pixels.
///
/// # Errors
/// GStreamer cannot convert such a frame.
pub fn of(sample: &gst::Sample) -> Result<RgbImage> {
    let (buffer, caps) = (sample.buffer().context("no buffer")?, sample.caps().context("no caps")?);
    let info = VideoInfo::from_caps(caps)?;
    let (width, height) = size(&info);
    let small = VideoInfo::builder(VideoFormat::Rgb, width, height)
        .fps(info.fps())
        .interlace_mode(info.interlace_mode())
        .build()?;
    let frame = VideoFrameRef::from_buffer_ref_readable(buffer, &info)?;
    let into = gst::Buffer::with_size(small.size())?;
    let mut into = VideoFrame::from_buffer_writable(into, &small).ok().context("a buffer cannot be written")?;
    VideoConverter::new(&info, &small, None)?.frame_ref(&frame, &mut into.as_mut_video_frame_ref());
    video::picture(&into.as_video_frame_ref())
}

/// The width and height that a frame is shown in.
fn size(info: &VideoInfo) -> (u32, u32) {
    let ratio = f64::from(info.par().numer().max(1)) / f64::from(info.par().denom().max(1));
    let (width, height) = (f64::from(info.width()) * ratio, f64::from(info.height()));
    let scale = (f64::from(SIDE) / width.max(height)).min(1.0);
    let scaled = |side: f64| ((side * scale).round() as u32).clamp(1, SIDE);
    (scaled(width), scaled(height))
}

/// # Errors
/// There is nothing to encode.
pub fn jpeg(picture: &RgbImage) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    JpegEncoder::new_with_quality(&mut bytes, JPEG_QUALITY).encode_image(picture)?;
    Ok(bytes)
}
