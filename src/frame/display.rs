//! The size at which a picture is displayed.

use super::Frame;
use crate::{Error, Result};

/// Longest side of a displayed picture, in pixels.
const MAX_SIDE: u128 = 1 << 24;

impl Frame<'_> {
    /// With pixels that are `width` wide for each `height` of their height; square ones are the default.
    ///
    /// # Errors
    /// [`Error::Input`] where a number is zero.
    pub fn with_pixel_aspect(self, width: u32, height: u32) -> Result<Self> {
        if width == 0 || height == 0 {
            return Err(Error::Input(format!("pixel aspect ratio {width}/{height}: expected two numbers from 1 on")));
        }
        Ok(Self { pixel_aspect: (width, height), ..self })
    }

    /// (width, height) of what is shown, in pixels of a display on which the whole picture is `rows` high (0: its own rows).
    /// With `square_pixels` the width follows the pixels' aspect ratio. A [region](Self::region) is as large as it is within
    /// the whole picture.
    ///
    /// # Errors
    /// [`Error::Input`] where a side would have over 2^24 pixels.
    pub fn display_size(&self, rows: usize, square_pixels: bool) -> Result<(usize, usize)> {
        let (own_rows, rows) =
            (self.picture_height as u128, if rows == 0 { self.picture_height } else { rows } as u128);
        let (wide, high) = if square_pixels { self.pixel_aspect } else { (1, 1) };
        let side = |length: usize, numerator: u128, denominator: u128| {
            let scaled = (length as u128 * numerator + denominator / 2) / denominator;
            if scaled > MAX_SIDE {
                let (width, height) = (self.width(), self.height());
                return Err(Error::Input(format!(
                    "a picture of {width}x{height} pixels of aspect ratio {wide}/{high} cannot be displayed at {rows} of \
                     {own_rows} rows: a side would have {scaled} pixels"
                )));
            }
            Ok((scaled as usize).max(1))
        };
        let width = side(self.width(), rows * u128::from(wide), own_rows * u128::from(high))?;
        Ok((width, side(self.height(), rows, own_rows)?))
    }
}

#[cfg(test)]
mod tests {
    use crate::frame::{Colour, Frame, PixelFormat, Plane, Region};

    #[test]
    fn display_size_follows_rows_and_pixel_aspect() {
        let data = vec![0u8; 720 * 576];
        let frame = Frame::new(PixelFormat::Gray8, 720, 576, &[Plane::new(&data, 720)], Colour::SRGB).unwrap();
        assert_eq!(frame.display_size(0, true).unwrap(), (720, 576));
        assert_eq!(frame.display_size(1080, true).unwrap(), (1350, 1080));
        let wide = frame.with_pixel_aspect(64, 45).unwrap(); // 16:9
        assert_eq!(wide.display_size(0, true).unwrap(), (1024, 576));
        assert_eq!(wide.display_size(0, false).unwrap(), (720, 576));
        assert_eq!(wide.display_size(1080, true).unwrap(), (1920, 1080));
        // A region is a part of the picture, on the same display.
        let part = wide.region(Region::new(90, 72, 360, 144)).unwrap();
        assert_eq!(part.display_size(1080, true).unwrap(), (960, 270));
        assert_eq!(wide.clone().with_crop(0, 0, 720, 288).unwrap().display_size(576, true).unwrap(), (2048, 576));
        assert!(wide.with_pixel_aspect(0, 1).is_err());
        let absurd = part.with_pixel_aspect(u32::MAX, 1).unwrap().display_size(16_384, true).unwrap_err().to_string();
        assert!(absurd.contains("4294967295/1"), "{absurd}");
    }
}
