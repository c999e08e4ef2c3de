//! Pictures to training crops: places, flips, and distorted copies that must score lower.

use crate::crops::{MEAN, STD};
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

/// A crop of `side * side` of the picture reduced by `2^level`, flipped or not; its place is one of the reduced picture.
pub(super) fn random_crop(image: &RgbImage, side: usize, level: u32, random: &mut Random) -> Result<(RgbImage, Place)> {
    let (width, height) = (image.width() as usize >> level, image.height() as usize >> level);
    if width < side || height < side {
        return Err(Error::Input(format!("a picture of {width}x{height} is too small for crops of {side}x{side}")));
    }
    let (left, top) = (random.below(width - side + 1), random.below(height - side + 1));
    let crop = reduced(image, level, (left, top), (side, side));
    let flipped = random.below(2) == 1;
    Ok((if flipped { imageops::flip_horizontal(&crop) } else { crop }, Place { left, top, flipped }))
}

/// The central crop of `side * side` of the picture reduced by `2^level`, or of what there is.
pub(super) fn centre_crop(image: &RgbImage, side: usize, level: u32) -> RgbImage {
    let all = (image.width() as usize >> level, image.height() as usize >> level);
    let (width, height) = (side.min(all.0), side.min(all.1));
    reduced(image, level, ((all.0 - width) / 2, (all.1 - height) / 2), (width, height))
}

/// A part of the picture reduced by `2^level`, which lies in it: each pixel is the mean of a block, rounded, as scoring has it.
fn reduced(image: &RgbImage, level: u32, (left, top): (usize, usize), (width, height): (usize, usize)) -> RgbImage {
    let (stride, pixels, block) = (image.width() as usize * 3, image.as_raw(), 1usize << level);
    let mut out = Vec::with_capacity(width * height * 3);
    let mut sums = vec![0u32; width * 3];
    for row in top..top + height {
        sums.fill(0);
        for line in pixels.chunks_exact(stride).skip(row << level).take(block) {
            let line = &line[(left << level) * 3..][..(width << level) * 3];
            for (sum, block) in sums.as_chunks_mut::<3>().0.iter_mut().zip(line.chunks_exact(3 << level)) {
                block.iter().enumerate().for_each(|(i, &value)| sum[i % 3] += u32::from(value));
            }
        }
        // Halves to the even number, as the conversion of a frame rounds.
        let share = 1.0 / (block * block) as f32;
        out.extend(sums.iter().map(|&sum| (sum as f32 * share).round_ties_even() as u8));
    }
    RgbImage::from_raw(width as u32, height as u32, out).unwrap_or_default()
}

/// 8-bit RGB to normalised values, (H, W, 3).
pub(super) fn normalised(image: &RgbImage) -> Vec<f32> {
    let table: [[f32; 256]; 3] =
        std::array::from_fn(|c| std::array::from_fn(|v| (v as f32 / 255.0 - MEAN[c]) / STD[c]));
    let pixels = image.as_raw().as_chunks::<3>().0.iter();
    pixels.flat_map(|pixel| std::array::from_fn::<f32, 3, _>(|c| table[c][usize::from(pixel[c])])).collect()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Region;
    use crate::train::evaluation::frame;

    /// A crop of a reduced picture has the values, of 8 bits, that scoring has there.
    #[test]
    fn reductions_are_those_of_scoring() {
        let mut random = Random::new(1, 0);
        let picture = RgbImage::from_fn(133, 70, |_, _| image::Rgb(std::array::from_fn(|_| random.below(256) as u8)));
        for level in 0..=2 {
            let part = Region::new(3, 1, 21, 13);
            let mut expected = vec![0f32; part.width * part.height * 3];
            frame(&picture).unwrap().reduced_rgb(level, part, &mut expected).unwrap();
            let expected = expected.iter().map(|value| (value * 255.0).round_ties_even() as u8);
            let crop = reduced(&picture, level, (part.x, part.y), (part.width, part.height));
            assert_eq!(crop.dimensions(), (21, 13));
            let different = crop.as_raw().iter().zip(expected).filter(|(a, b)| **a != *b).count();
            assert_eq!(different, 0, "level {level}");
        }
        let (crop, place) = random_crop(&picture, 32, 1, &mut random).unwrap();
        assert!(crop.dimensions() == (32, 32) && place.left <= 66 - 32 && place.top <= 35 - 32);
        assert!(random_crop(&picture, 32, 2, &mut random).unwrap_err().to_string().contains("33x17 is too small"));
        assert_eq!(centre_crop(&picture, 64, 2).dimensions(), (33, 17));
    }
}
