//! Scaling of RGB pictures.

use super::CROP;
use crate::frame::{Frame, Region};
use crate::{Error, Result};
use fast_image_resize::images::{TypedImage, TypedImageRef};
use fast_image_resize::pixels::F32x3;
use fast_image_resize::{CpuExtensions, FilterType, ResizeAlg, ResizeOptions, Resizer};

/// Most pixels that a scaled picture may have.
pub const MAX_SCALED_PIXELS: usize = 16_000_000;

/// Scales `rgb` (height, width, 3), 0 to 1, from `from` to `to`, both (width, height), by Catmull-Rom convolution: bicubic
/// interpolation upwards, and downwards the same kernel widened so that nothing aliases. The result is clamped to 0 to 1.
///
/// # Errors
/// [`Error::Input`] where a side is zero, `rgb` is not of that size, or `to` has over [`MAX_SCALED_PIXELS`] pixels.
pub fn resize(rgb: &[f32], from: (usize, usize), to: (usize, usize)) -> Result<Vec<f32>> {
    let refuse = |why: &str| {
        let ((w, h), (to_w, to_h)) = (from, to);
        Error::Input(format!("cannot scale a picture of {w}x{h} to {to_w}x{to_h}: {why}"))
    };
    if from.0 == 0 || from.1 == 0 || to.0 == 0 || to.1 == 0 {
        return Err(refuse("a side is zero"));
    }
    if to.0.checked_mul(to.1).is_none_or(|pixels| pixels > MAX_SCALED_PIXELS) {
        return Err(refuse(&format!("over {MAX_SCALED_PIXELS} pixels")));
    }
    if from.0.checked_mul(from.1).and_then(|pixels| pixels.checked_mul(3)) != Some(rgb.len()) {
        return Err(refuse(&format!("{} values given", rgb.len())));
    }
    if from == to {
        return Ok(rgb.iter().map(|v| v.clamp(0.0, 1.0)).collect());
    }
    let side = |length: usize| u32::try_from(length).map_err(|_| refuse("a side is too long"));
    let (pixels, _) = rgb.as_chunks::<3>();
    let pixels: Vec<F32x3> = pixels.iter().map(|&pixel| F32x3::new(pixel)).collect();
    let source = TypedImageRef::new(side(from.0)?, side(from.1)?, &pixels).map_err(|e| refuse(&e.to_string()))?;
    let mut scaled = TypedImage::<F32x3>::new(side(to.0)?, side(to.1)?);
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::CatmullRom));
    Resizer::new().resize_typed(&source, &mut scaled, &options).map_err(|e| refuse(&e.to_string()))?;
    Ok(scaled.pixels().iter().flat_map(|pixel| pixel.0).map(|v| v.clamp(0.0, 1.0)).collect())
}

/// `part`, of the size of a crop, of a frame that is reduced by `2^level` and then resampled to `size` as [`resize`] does it,
/// to `out` (height, width, 3). No more than the part is converted.
///
/// # Errors
/// None that a valid frame and a part within `size` can reach.
pub(super) fn resample(frame: &Frame, level: u32, size: (usize, usize), part: Region, out: &mut [f32]) -> Result<()> {
    let refuse =
        |e: &dyn std::fmt::Display| Error::Input(format!("cannot scale a picture to {}x{}: {e}", size.0, size.1));
    let from = frame.reduced_size(level);
    // Along one direction: the pixels that are read, and where the part begins among them and its length.
    let span = |at: usize, from: usize, to: usize| {
        let (begin, length) = (at as f64 * from as f64 / to as f64, CROP as f64 * from as f64 / to as f64);
        // Catmull-Rom reaches two pixels of the result to either side, and two of the source where that is enlarged.
        let around = 2 * from.div_ceil(to) + 1;
        let first = (begin as usize).saturating_sub(around);
        let end = ((begin + length).ceil() as usize + around).min(from);
        let begin = begin - first as f64;
        (first, end - first, begin, length.min((end - first) as f64 - begin)) // sums of rounded numbers
    };
    let (left, width, x, across) = span(part.x, from.0, size.0);
    let (top, height, y, down) = span(part.y, from.1, size.1);
    let mut rgb = vec![0f32; width * height * 3];
    frame.reduced_rgb(level, Region::new(left, top, width, height), &mut rgb)?;
    let pixels: Vec<F32x3> = rgb.as_chunks::<3>().0.iter().map(|&pixel| F32x3::new(pixel)).collect();
    let source = TypedImageRef::new(width as u32, height as u32, &pixels).map_err(|e| refuse(&e))?;
    let mut scaled = TypedImage::<F32x3>::new(CROP as u32, CROP as u32);
    let options =
        ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::CatmullRom)).crop(x, y, across, down);
    let mut resizer = Resizer::new();
    // SAFETY: no extension is a subset of what any CPU has. Sums are then in one order on all of them.
    unsafe { resizer.set_cpu_extensions(CpuExtensions::None) };
    resizer.resize_typed(&source, &mut scaled, &options).map_err(|e| refuse(&e))?;
    let values = scaled.pixels().iter().flat_map(|pixel| pixel.0).map(|v| v.clamp(0.0, 1.0));
    out.iter_mut().zip(values).for_each(|(out, value)| *out = value);
    Ok(())
}

/// (width, height) of a picture of that size scaled so that its shorter side is `side`, aspect kept.
///
/// # Errors
/// [`Error::Input`] where a side is zero or the result would have over [`MAX_SCALED_PIXELS`] pixels.
pub fn size_with_shorter_side(width: usize, height: usize, side: usize) -> Result<(usize, usize)> {
    let shorter = width.min(height);
    let scaled = |length: usize| {
        let rounded = (length as u128 * side as u128 + shorter as u128 / 2).checked_div(shorter as u128)?;
        usize::try_from(rounded).ok()
    };
    match (scaled(width), scaled(height)) {
        (Some(w), Some(h)) if w.checked_mul(h).is_some_and(|pixels| pixels <= MAX_SCALED_PIXELS) => Ok((w, h)),
        _ => Err(Error::Input(format!(
            "a picture of {width}x{height} cannot be scaled to a shorter side of {side}: \
             it would be empty or over {MAX_SCALED_PIXELS} pixels"
        ))),
    }
}
