//! A video frame as it lies in memory, and RGB out of it.
//!
//! ```
//! use qmambaiqa::frame::{Colour, Frame, PixelFormat, Plane};
//! let (y, u, v) = ([235u8; 4 * 2], [128u8; 2], [128u8; 2]); // white
//! let planes = [Plane::new(&y, 4), Plane::new(&u, 2), Plane::new(&v, 2)];
//! let frame = Frame::new(PixelFormat::I420, 4, 2, &planes, Colour::BT601)?;
//! assert_eq!(frame.to_rgb()?, vec![1.0; 4 * 2 * 3]);
//! # Ok::<(), qmambaiqa::Error>(())
//! ```

mod colour;
mod convert;
mod display;
mod format;
mod planes420;
mod reduce;
#[cfg(test)]
mod reference;
mod region;
#[cfg(test)]
mod tests;
mod window;

pub use colour::{ChromaSite, Colour, Matrix, Position, Range};
pub use format::PixelFormat;
pub use planes420::Planes420;
pub use reduce::MAX_LEVEL;
pub use region::Region;
pub use window::Window;

use crate::{Error, Result};
use format::Layout;

/// Bytes of one plane; row `r` starts at `r * stride`.
#[derive(Clone, Copy, Default)]
pub struct Plane<'a> {
    pub data: &'a [u8],
    /// Bytes from one row to the next.
    pub stride: usize,
}

impl<'a> Plane<'a> {
    /// The two together.
    pub fn new(data: &'a [u8], stride: usize) -> Self {
        Self { data, stride }
    }
}

impl std::fmt::Debug for Plane<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Plane({} bytes, stride {})", self.data.len(), self.stride)
    }
}

/// A video frame in borrowed memory. Its planes are known to hold all that a conversion reads.
#[derive(Debug, Clone)]
pub struct Frame<'a> {
    format: PixelFormat,
    layout: &'static Layout,
    /// Size of what the planes hold.
    coded: (usize, usize),
    /// The picture within that.
    shown: Region,
    planes: [Plane<'a>; 3],
    colour: Colour,
    interlaced: bool,
    /// Rows of the whole picture, of which a region may be shown.
    picture_height: usize,
    /// Width of a pixel over its height, as a fraction.
    pixel_aspect: (u32, u32),
}

impl<'a> Frame<'a> {
    /// A progressive frame of `width` x `height` pixels. `planes` stand in GStreamer's order; a plane of alpha may be left
    /// out, and the last row of a plane may end with its last sample.
    ///
    /// # Errors
    /// [`Error::Input`] where a side is zero, or a plane is missing, or is too short, or has a stride less than a row.
    pub fn new(format: PixelFormat, width: usize, height: usize, planes: &[Plane<'a>], colour: Colour) -> Result<Self> {
        let layout = format.layout();
        let what = format!("{format} frame of {width}x{height}");
        if width == 0 || height == 0 {
            return Err(Error::Input(format!("{what}: a side is zero")));
        }
        let (expected, given) = (layout.planes(), planes.len());
        if given < expected {
            return Err(Error::Input(format!("{what}: {expected} planes expected, {given} given")));
        }
        let mut kept = [Plane::default(); 3];
        for (index, (kept, &plane)) in kept.iter_mut().zip(&planes[..expected]).enumerate() {
            let stride = plane.stride;
            let Some((row, rows)) = layout.plane_size(index, width, height) else {
                return Err(Error::Input(format!("{what}: larger than memory")));
            };
            if stride < row {
                return Err(Error::Input(format!(
                    "{what}: plane {index} has stride {stride}, less than a row of {row}"
                )));
            }
            let bytes = stride.checked_mul(rows.saturating_sub(1)).and_then(|b| b.checked_add(row));
            let given = plane.data.len();
            match bytes {
                Some(bytes) if bytes <= given => *kept = plane,
                Some(bytes) => {
                    let text = format!("{what}: plane {index} of stride {stride} needs {bytes} bytes, {given} given");
                    return Err(Error::Input(text));
                }
                None => return Err(Error::Input(format!("{what}: plane {index} of stride {stride} overflows memory"))),
            }
        }
        Ok(Self {
            format,
            layout,
            coded: (width, height),
            shown: Region::new(0, 0, width, height),
            planes: kept,
            colour,
            interlaced: false,
            picture_height: height,
            pixel_aspect: (1, 1),
        })
    }

    /// Shows only this part of what the planes hold, in luma pixels (`GstVideoCropMeta`). Any offset will do: chroma is
    /// interpolated from its neighbours outside the part too.
    ///
    /// # Errors
    /// [`Error::Input`] where the part is empty or reaches beyond the planes.
    pub fn with_crop(mut self, x: usize, y: usize, width: usize, height: usize) -> Result<Self> {
        let whole = Region::new(0, 0, self.coded.0, self.coded.1);
        self.shown = whole.part("crop", Region::new(x, y, width, height))?;
        self.picture_height = height;
        Ok(self)
    }

    /// Shows only this part of what it shows, as if that were the whole picture.
    ///
    /// # Errors
    /// [`Error::Input`] where the region is empty or reaches beyond what is shown.
    pub fn region(&self, region: Region) -> Result<Self> {
        Ok(Self { shown: self.shown.part("region", region)?, ..self.clone() })
    }

    /// Whether rows of a 4:2:0 frame belong to two fields in turn, so that chroma is interpolated within each field.
    #[must_use]
    pub fn interlaced(mut self, interlaced: bool) -> Self {
        self.interlaced = interlaced;
        self
    }

    /// Pixels in a row, after cropping.
    pub fn width(&self) -> usize {
        self.shown.width
    }

    /// Rows, after cropping.
    pub fn height(&self) -> usize {
        self.shown.height
    }

    /// How the planes are laid out.
    pub fn format(&self) -> PixelFormat {
        self.format
    }

    /// What the samples mean.
    pub fn colour(&self) -> Colour {
        self.colour
    }

    /// Luma of `rows` rows of the cropped picture from row `y` on, 0 (black) to 1 (white) and not linearised, into `out`,
    /// row-major. Of RGB it is that of BT.709.
    ///
    /// # Errors
    /// [`Error::Input`] where the rows are none or reach beyond the picture, or `out` has another length.
    pub fn luma(&self, y: usize, rows: usize, out: &mut [f32]) -> Result<()> {
        let part = self.shown.part("rows", Region::new(0, y, self.shown.width, rows))?;
        let (expected, given) = (part.width * rows, out.len());
        if given != expected {
            return Err(Error::Input(format!("luma of {rows} rows has {expected} values, room for {given}")));
        }
        convert::luma(self, part, out);
        Ok(())
    }

    /// The least step of [`luma`](Self::luma) that the samples' depth and range allow.
    pub fn luma_step(&self) -> f64 {
        convert::luma_step(self)
    }

    /// Converts the rectangle at (`x`, `y`) of the cropped picture into `out`, row-major (height, width, RGB), 0 to 1 and
    /// not linearised. Reads no more than the rectangle and the chroma around it; a pixel's value does not depend on the
    /// rectangle it is asked for in.
    ///
    /// # Errors
    /// [`Error::Input`] where the rectangle is empty or reaches beyond the picture, or `out` has another length.
    pub fn rgb(&self, x: usize, y: usize, width: usize, height: usize, out: &mut [f32]) -> Result<()> {
        let part = self.shown.part("rectangle", Region::new(x, y, width, height))?;
        // No overflow: the planes hold at least a bit for each of these pixels.
        let (expected, given) = (width * height * 3, out.len());
        if given != expected {
            return Err(Error::Input(format!(
                "RGB of {width}x{height} pixels has {expected} values, room for {given}"
            )));
        }
        convert::rectangle(self, part, out);
        Ok(())
    }

    /// The whole cropped picture, as [`Frame::rgb`] gives it.
    ///
    /// # Errors
    /// None that a valid frame can reach.
    pub fn to_rgb(&self) -> Result<Vec<f32>> {
        let (width, height) = (self.width(), self.height());
        let mut out = vec![0f32; width * height * 3];
        self.rgb(0, 0, width, height, &mut out)?;
        Ok(out)
    }
}
