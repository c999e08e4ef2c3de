//! Which parts of a frame the network sees, and the batch that it gets of them.

mod bars;
mod batch;
mod places;
mod plan;
mod positions;
mod regions;
mod resize;
mod sample;
mod scales;
#[cfg(test)]
mod tests;

pub use bars::{Bars, active};
pub(crate) use batch::Crop;
pub use batch::Crops;
pub use places::Place;
pub use plan::{CropPlan, MAX_DISPLAY_HEIGHT, Sampling};
pub use resize::{MAX_SCALED_PIXELS, resize, size_with_shorter_side};
pub use scales::Scales;

/// Side of the square crops that networks are shown, in pixels.
pub const CROP: usize = 224;
/// Most crops of one frame.
pub const MAX_CROPS: usize = 64;

/// Mean of ImageNet's pixels, R G B, with which the network was pretrained.
pub const MEAN: [f32; 3] = [0.485, 0.456, 0.406];
/// Their standard deviation.
pub const STD: [f32; 3] = [0.229, 0.224, 0.225];

/// `(value - MEAN) / STD` of RGB pixels from 0 to 1, in place, each value first rounded to 8 bits. A length that is no multiple
/// of 3 leaves the rest as it is.
///
/// Networks learn from pictures of 8 bits, whose rounding is a faint noise. Without it, as conversion from YUV gives values, flat
/// parts look smoothed to them: with style prompt `compression` up to eight points of 100 worse.
pub fn normalise(rgb: &mut [f32]) {
    /// 1.5 * 2^23: a sum with it has no room for fractions, which round to the nearest, ties to even.
    const ROUND: f32 = 12_582_912.0;
    let (pixels, _) = rgb.as_chunks_mut::<3>();
    for pixel in pixels {
        for ((value, mean), std) in pixel.iter_mut().zip(MEAN).zip(STD) {
            let steps = (*value * 255.0 + ROUND) - ROUND;
            *value = (steps / 255.0 - mean) / std;
        }
    }
}
