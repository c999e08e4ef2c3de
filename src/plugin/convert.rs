//! GStreamer's video frames as the scorer's.

use crate::frame::{ChromaSite, Colour, Frame, Matrix, PixelFormat, Plane, Position, Range, Region};
use crate::{Error, Result};
use gstreamer_video as gst_video;
use gstreamer_video::prelude::*;

/// The formats that the element takes.
pub(super) fn formats() -> Vec<gst_video::VideoFormat> {
    let known = PixelFormat::ALL.iter().map(|format| gst_video::VideoFormat::from_string(format.name()));
    known.filter(|format| *format != gst_video::VideoFormat::Unknown).collect()
}

/// The colour that caps describe. GStreamer fills in its defaults by picture size where caps say nothing.
pub(super) fn colour(info: &gst_video::VideoInfo) -> Colour {
    use gst_video::{VideoColorMatrix as M, VideoColorRange as R};
    let colorimetry = info.colorimetry();
    let matrix = match colorimetry.matrix() {
        M::Rgb => Matrix::Rgb,
        M::Fcc => Matrix::Fcc,
        M::Bt709 => Matrix::Bt709,
        M::Bt601 => Matrix::Bt601,
        M::Smpte240m => Matrix::Smpte240m,
        M::Bt2020 => Matrix::Bt2020,
        // Unknown: by size, as GStreamer itself assumes.
        _ if info.height() > 576 => Matrix::Bt709,
        _ => Matrix::Bt601,
    };
    let rgb = info.format_info().is_rgb();
    let range = match colorimetry.range() {
        R::Range0_255 => Range::Full,
        R::Range16_235 => Range::Limited,
        _ if rgb => Range::Full,
        _ => Range::Limited,
    };
    let site = info.chroma_site();
    let position = |cosited| if cosited { Position::Cosited } else { Position::Centred };
    let siting = if site.is_empty() {
        ChromaSite::MPEG2 // unknown: what nearly all video has
    } else {
        ChromaSite {
            horizontal: position(site.contains(gst_video::VideoChromaSite::H_COSITED)),
            vertical: position(site.contains(gst_video::VideoChromaSite::V_COSITED)),
        }
    };
    Colour::new(if rgb { Matrix::Rgb } else { matrix }, range, siting)
}

/// A mapped frame as the scorer's, with the part that a crop meta leaves.
///
/// # Errors
/// Its format is none of [`PixelFormat`]'s, or the buffer does not hold it.
pub fn frame<'a>(
    mapped: &'a gst_video::VideoFrameRef<&'a gstreamer::BufferRef>,
    info: &gst_video::VideoInfo,
) -> Result<Frame<'a>> {
    let format = PixelFormat::from_name(mapped.format().to_str().as_str())?;
    let strides = mapped.plane_stride();
    let planes = (0..format.planes() as u32).map(|i| {
        let data = mapped.plane_data(i).map_err(|e| Error::Input(format!("plane {i}: {e}")))?;
        let stride = strides.get(i as usize).and_then(|&stride| usize::try_from(stride).ok());
        let stride = stride.ok_or_else(|| Error::Input(format!("plane {i} has no positive stride")))?;
        Ok(Plane::new(data, stride))
    });
    let planes = planes.collect::<Result<Vec<_>>>()?;
    let (width, height) = (mapped.width() as usize, mapped.height() as usize);
    let interlaced = mapped.is_interlaced();
    let frame = Frame::new(format, width, height, &planes, colour(info))?.interlaced(interlaced);
    let Region { x, y, width, height } = shown(mapped.buffer(), info);
    let [wide, high] = pixel_aspect(info);
    frame.with_crop(x, y, width, height)?.with_pixel_aspect(wide, high)
}

/// Width and height of a pixel, as a ratio; 1 and 1 where caps have none.
pub(super) fn pixel_aspect(info: &gst_video::VideoInfo) -> [u32; 2] {
    let aspect = info.par();
    [aspect.numer(), aspect.denom()].map(|number| u32::try_from(number).unwrap_or(1).max(1))
}

/// The part of a buffer's picture that its crop meta leaves.
pub(super) fn shown(buffer: &gstreamer::BufferRef, info: &gst_video::VideoInfo) -> Region {
    match buffer.meta::<gst_video::VideoCropMeta>() {
        None => Region::new(0, 0, info.width() as usize, info.height() as usize),
        Some(crop) => region(crop.rect()),
    }
}

/// A meta's rectangle.
pub(super) fn region((x, y, width, height): (u32, u32, u32, u32)) -> Region {
    Region::new(x as usize, y as usize, width as usize, height as usize)
}
