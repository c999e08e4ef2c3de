//! Parts of frames in memory of their own, for work that begins when the frame is gone.

use super::{Colour, Frame, PixelFormat, Plane, Region};
use crate::Result;

/// A part of a frame with the chroma around it that conversion reads, in memory of its own.
#[derive(Debug, Clone)]
pub struct Window {
    format: PixelFormat,
    size: (usize, usize),
    /// Bytes and stride of each plane.
    planes: Vec<(Vec<u8>, usize)>,
    /// The part within that.
    part: Region,
    colour: Colour,
    interlaced: bool,
}

/// What windows begin and end at multiples of, columns and rows: both fields' chroma of 4:2:0 then has the place that it has in
/// the frame.
const ALIGN: (usize, usize) = (2, 4);
/// What conversion reads at most around a part, rounded up to that.
const AROUND: (usize, usize) = (4, 8);

impl Frame<'_> {
    /// Copies a part of what is shown, of a frame of 4:2:0 or with whole chroma: a pixel of the window's frame has the value
    /// that it has in this one.
    ///
    /// # Errors
    /// [`Error::Input`](crate::Error::Input) where the region is empty or reaches beyond what is shown.
    pub fn window(&self, region: Region) -> Result<Window> {
        let part = self.shown.part("region", region)?;
        let span = |at: usize, length: usize, align: usize, around: usize, whole: usize| {
            let first = (at / align * align).saturating_sub(around);
            (first, (at + length + around).next_multiple_of(align).min(whole))
        };
        let (left, right) = span(part.x, part.width, ALIGN.0, AROUND.0, self.coded.0);
        let (top, bottom) = span(part.y, part.height, ALIGN.1, AROUND.1, self.coded.1);
        let size = (right - left, bottom - top);
        let planes = self.planes[..self.layout.planes()].iter().enumerate().map(|(index, plane)| {
            // One table row says it all: the first component of a plane has the plane's step and subsampling.
            let mut components = self.layout.components.iter().enumerate();
            let (h, v, step) = match components.find(|(_, component)| component.plane == index) {
                Some((0, component)) => (0, 0, component.step),
                Some((_, component)) => (self.layout.subsampling.0, self.layout.subsampling.1, component.step),
                None => (0, 0, 0),
            };
            let (row, rows) = self.layout.plane_size(index, size.0, size.1).unwrap_or((0, 0));
            let first = (left >> h) * step;
            let mut data = Vec::with_capacity(row * rows);
            for source in plane.data.chunks(plane.stride).skip(top >> v).take(rows) {
                data.extend_from_slice(&source[first..first + row]);
            }
            (data, row)
        });
        let part = Region { x: part.x - left, y: part.y - top, ..part };
        let planes = planes.collect();
        Ok(Window { format: self.format, size, planes, part, colour: self.colour, interlaced: self.interlaced })
    }
}

impl Window {
    /// The part, as a frame.
    ///
    /// # Errors
    /// None: it was made from a frame.
    pub fn frame(&self) -> Result<Frame<'_>> {
        let planes: Vec<Plane> = self.planes.iter().map(|(data, stride)| Plane::new(data, *stride)).collect();
        let frame = Frame::new(self.format, self.size.0, self.size.1, &planes, self.colour)?;
        let Region { x, y, width, height } = self.part;
        frame.interlaced(self.interlaced).with_crop(x, y, width, height)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{ChromaSite, Matrix, Range};
    use proptest::prelude::*;

    fn formats() -> Vec<PixelFormat> {
        let planar = [PixelFormat::I420, PixelFormat::Yv12, PixelFormat::Nv12, PixelFormat::Nv21];
        planar.into_iter().chain([PixelFormat::P01010le, PixelFormat::I42010le, PixelFormat::Rgb]).collect()
    }

    proptest! {
        #[test]
        fn a_window_shows_what_the_frame_shows(
            format in prop::sample::select(formats()),
            site in prop::sample::select(vec![ChromaSite::MPEG2, ChromaSite::JPEG, ChromaSite::COSITED]),
            (width, height) in (1usize..70, 1usize..70),
            (x, y, w, h) in (0f64..1.0, 0f64..1.0, 0f64..1.0, 0f64..1.0),
            interlaced in any::<bool>(),
            crop in 0usize..4,
            seed in any::<u64>(),
        ) {
            let mut random = crate::random::Random::new(seed, 0);
            let layout = format.layout();
            let planes: Vec<(Vec<u8>, usize)> = (0..layout.planes()).map(|plane| {
                let (row, rows) = layout.plane_size(plane, width, height).unwrap();
                ((0..(row + 3) * rows).map(|_| random.below(256) as u8).collect(), row + 3)
            }).collect();
            let planes: Vec<Plane> = planes.iter().map(|(data, stride)| Plane::new(data, *stride)).collect();
            let colour = Colour::new(Matrix::Bt709, Range::Limited, site);
            let crop = (crop.min(width - 1), crop.min(height - 1));
            let frame = Frame::new(format, width, height, &planes, colour).unwrap().interlaced(interlaced);
            let frame = frame.with_crop(crop.0, crop.1, width - crop.0, height - crop.1).unwrap();
            let span = |at: f64, length: f64, whole: usize| {
                let first = (at * whole as f64) as usize;
                (first, 1 + (length * (whole - first - 1) as f64) as usize)
            };
            let ((x, w), (y, h)) = (span(x, w, frame.width()), span(y, h, frame.height()));
            let region = Region::new(x, y, w, h);
            let window = frame.window(region).unwrap();
            prop_assert_eq!(window.frame().unwrap().to_rgb().unwrap(), frame.region(region).unwrap().to_rgb().unwrap());
        }
    }
}
