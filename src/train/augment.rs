//! Pictures to training crops: places, flips, and distorted copies that must score lower.

use crate::random::Random;
use crate::{Error, Result};
use image::{RgbImage, imageops};

/// Distorted copies of one crop, from mild to severe.
pub(super) const LEVELS: usize = 2;

/// Where a crop was cut, in pixels of the picture.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub left: usize,
    pub top: usize,
    /// Mirrored left to right.
    pub flipped: bool,
}

/// A crop of `side * side`, flipped or not.
pub(super) fn random_crop(image: &RgbImage, side: usize, random: &mut Random) -> Result<(RgbImage, Place)> {
    let (width, height) = (image.width() as usize, image.height() as usize);
    if width < side || height < side {
        return Err(Error::Input(format!("a picture of {width}x{height} is too small for crops of {side}x{side}")));
    }
    let (left, top) = (random.below(width - side + 1), random.below(height - side + 1));
    let crop = imageops::crop_imm(image, left as u32, top as u32, side as u32, side as u32).to_image();
    let flipped = random.below(2) == 1;
    Ok((if flipped { imageops::flip_horizontal(&crop) } else { crop }, Place { left, top, flipped }))
}

/// The central crop of `side * side`, or of what there is.
pub(super) fn centre_crop(image: &RgbImage, side: usize) -> RgbImage {
    let side = side as u32;
    let (width, height) = (side.min(image.width()), side.min(image.height()));
    let (left, top) = ((image.width() - width) / 2, (image.height() - height) / 2);
    imageops::crop_imm(image, left, top, width, height).to_image()
}

/// The same distortion at growing strength.
pub(super) fn distort(crop: &RgbImage, random: &mut Random) -> Result<[RgbImage; LEVELS]> {
    let kind = random.below(4);
    // The severe copy is clearly worse than the mild one, and that one visibly worse than the picture.
    let mild = 0.15 + 0.35 * random.uniform();
    let severe = mild + 0.25 + 0.25 * random.uniform();
    Ok([one(crop, kind, mild, random)?, one(crop, kind, severe, random)?])
}

/// `strength` from 0, invisible, to 1, hardly recognisable.
fn one(crop: &RgbImage, kind: usize, strength: f64, random: &mut Random) -> Result<RgbImage> {
    Ok(match kind {
        0 => imageops::blur(crop, (0.5 + 3.5 * strength) as f32),
        1 => {
            let mut noisy = crop.clone();
            let deviation = 60.0 * strength;
            for value in noisy.iter_mut() {
                *value = (f64::from(*value) + deviation * random.normal()).round().clamp(0.0, 255.0) as u8;
            }
            noisy
        }
        2 => {
            let quality = (60.0 * (1.0 - strength).powi(2)).max(3.0) as u8;
            let mut bytes = std::io::Cursor::new(Vec::new());
            let encoder = image::codecs::jpeg::JpegEncoder::new_with_quality(&mut bytes, quality);
            let failed = |e: image::ImageError| Error::Input(format!("cannot re-encode a crop: {e}"));
            crop.write_with_encoder(encoder).map_err(failed)?;
            image::load_from_memory_with_format(bytes.get_ref(), image::ImageFormat::Jpeg).map_err(failed)?.into_rgb8()
        }
        _ => {
            let (width, height) = crop.dimensions();
            let factor = 1.0 + 5.0 * strength;
            let small = |side: u32| ((f64::from(side) / factor) as u32).max(1);
            let reduced = imageops::resize(crop, small(width), small(height), imageops::FilterType::Triangle);
            imageops::resize(&reduced, width, height, imageops::FilterType::CatmullRom)
        }
    })
}
