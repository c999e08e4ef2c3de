//! The score and its crops, drawn into the picture: into its pixels, since few sinks draw a composition meta and no encoder.

use super::convert;
use super::imp::QMambaIqa;
use crate::frame::Region;
use embedded_graphics::Drawable;
use embedded_graphics::Pixel;
use embedded_graphics::draw_target::DrawTarget;
use embedded_graphics::geometry::{OriginDimensions, Point, Size};
use embedded_graphics::mono_font::MonoTextStyle;
use embedded_graphics::mono_font::ascii::FONT_10X20;
use embedded_graphics::pixelcolor::{Rgb888, RgbColor, WebColors};
use embedded_graphics::text::{Baseline, Text};
use glib::subclass::prelude::*;
use gstreamer as gst;
use gstreamer_video as gst_video;
use std::convert::Infallible;

/// What overlays are made of: bytes in this order.
const FORMAT: gst_video::VideoFormat =
    if cfg!(target_endian = "little") { gst_video::VideoFormat::Bgra } else { gst_video::VideoFormat::Argb };
/// Around the score.
const MARGIN: u32 = 4;
/// Rows of a picture in which a line is a pixel thick and letters have their own size.
const ROWS: u32 = 360;

impl QMambaIqa {
    /// Draws the newest score, and where its crops were taken; nothing before the first.
    pub(super) fn draw(&self, buffer: &mut gst::BufferRef) -> Result<(), gst::FlowError> {
        let (info, score, crops) = {
            let state = self.state.lock();
            let Some(state) = state.as_ref() else { return Err(gst::FlowError::Flushing) };
            let (Some(info), Some((quality, _))) = (&state.info, &state.stream.last) else { return Ok(()) };
            (info.clone(), quality.score, state.stream.crops.clone())
        };
        overlay(buffer, &info, score, &crops).map_err(|e| {
            gst::element_imp_error!(self, gst::StreamError::Failed, ("the overlay cannot be drawn: {e}"));
            gst::FlowError::Error
        })
    }
}

fn overlay(
    buffer: &mut gst::BufferRef,
    info: &gst_video::VideoInfo,
    score: f64,
    crops: &[Region],
) -> Result<(), glib::BoolError> {
    let shown = convert::shown(buffer, info);
    let scale = (shown.height as u32 / ROWS).max(1);
    let place = |at: usize, from: usize| (at + from) as i32;
    let mut parts = Vec::new();
    for crop in crops {
        let (x, y) = (place(crop.x, shown.x), place(crop.y, shown.y));
        let (width, height) = (crop.width as u32, crop.height as u32);
        let (right, bottom) = (x + width.saturating_sub(scale) as i32, y + height.saturating_sub(scale) as i32);
        for (x, y, width, height) in
            [(x, y, width, scale), (x, bottom, width, scale), (x, y, scale, height), (right, y, scale, height)]
        {
            parts.push(Canvas::filled(width, height, Rgb888::YELLOW, 255).rectangle(x, y)?);
        }
    }
    let text = format!("{score:.1}");
    let font = MonoTextStyle::new(&FONT_10X20, Rgb888::WHITE);
    let Size { width, height } = FONT_10X20.character_size;
    let size = (text.len() as u32 * width + 2 * MARGIN, height + 2 * MARGIN);
    let mut label = Canvas::filled(size.0 * scale, size.1 * scale, Rgb888::CSS_BLACK, 176);
    label.scale = scale;
    let start = Point::new(MARGIN as i32, MARGIN as i32);
    let Ok(_) = Text::with_baseline(&text, start, font, Baseline::Top).draw(&mut label);
    let corner = (2 * MARGIN * scale) as usize;
    parts.push(label.rectangle(place(corner, shown.x), place(corner, shown.y))?);

    let composition = gst_video::VideoOverlayComposition::new(&parts)?;
    let mut frame = gst_video::VideoFrameRef::from_buffer_ref_writable(buffer, info)?;
    composition.blend(&mut frame)
}

/// Pixels of an overlay.
struct Canvas {
    width: u32,
    height: u32,
    /// Pixels to a side of each that is drawn.
    scale: u32,
    pixels: Vec<[u8; 4]>,
}

impl Canvas {
    fn filled(width: u32, height: u32, colour: Rgb888, alpha: u8) -> Self {
        Self { width, height, scale: 1, pixels: vec![bytes(colour, alpha); width as usize * height as usize] }
    }

    /// At a place of the picture.
    fn rectangle(self, x: i32, y: i32) -> Result<gst_video::VideoOverlayRectangle, glib::BoolError> {
        let mut buffer = gst::Buffer::from_slice(self.pixels.into_flattened());
        let flags = gst_video::VideoFrameFlags::empty();
        gst_video::VideoMeta::add(buffer.make_mut(), flags, FORMAT, self.width, self.height)?;
        let flags = gst_video::VideoOverlayFormatFlags::empty();
        Ok(gst_video::VideoOverlayRectangle::new_raw(&buffer, x, y, self.width, self.height, flags))
    }
}

fn bytes(colour: Rgb888, alpha: u8) -> [u8; 4] {
    let (r, g, b) = (colour.r(), colour.g(), colour.b());
    if cfg!(target_endian = "little") { [b, g, r, alpha] } else { [alpha, r, g, b] }
}

impl OriginDimensions for Canvas {
    fn size(&self) -> Size {
        Size::new(self.width / self.scale, self.height / self.scale)
    }
}

impl DrawTarget for Canvas {
    type Color = Rgb888;
    type Error = Infallible;

    fn draw_iter<I: IntoIterator<Item = Pixel<Rgb888>>>(&mut self, pixels: I) -> Result<(), Infallible> {
        let scale = self.scale as usize;
        for Pixel(Point { x, y }, colour) in pixels {
            let (Ok(x), Ok(y)) = (usize::try_from(x), usize::try_from(y)) else { continue };
            for row in self.pixels.chunks_mut(self.width as usize).skip(y * scale).take(scale) {
                row.iter_mut().skip(x * scale).take(scale).for_each(|pixel| *pixel = bytes(colour, 255));
            }
        }
        Ok(())
    }
}
