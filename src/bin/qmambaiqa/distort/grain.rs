//! Film-like grain.

use image::RgbImage;
use qmambaiqa::random::Random;

/// Standard deviations at mid-grey in 8-bit steps.
const DEVIATION: (f64, f64) = (2.0, 10.0);
/// Most passes of the smoothing filter, by which grain gets coarser.
const PASSES: usize = 2;
/// Fraction of the grain that each colour channel has for itself.
const CHROMA: f32 = 0.25;
/// Fraction of the grain that black and white have.
const EXTREMES: f32 = 0.35;

/// Grain as negatives have it: strongest in mid-tones, spatially correlated, mostly in luma, different in each frame.
#[derive(Debug, Clone, Copy)]
pub struct Grain {
    /// Standard deviation at mid-grey in 8-bit steps.
    pub deviation: f64,
    passes: usize,
}

impl Grain {
    pub fn draw(random: &mut Random) -> Self {
        let deviation = DEVIATION.0 * (DEVIATION.1 / DEVIATION.0).powf(random.uniform());
        Self { deviation: (deviation * 100.0).round() / 100.0, passes: random.below(PASSES + 1) }
    }

    pub fn add(&self, frame: &mut RgbImage, random: &mut Random) {
        let (width, height) = (frame.width() as usize, frame.height() as usize);
        let luma = self.field(width, height, random);
        let own = [0; 3].map(|_| self.field(width, height, random));
        for (i, pixel) in frame.pixels_mut().enumerate() {
            let [r, g, b] = pixel.0.map(|v| f32::from(v) / 255.0);
            let grey = 0.299 * r + 0.587 * g + 0.114 * b;
            let weight = self.deviation as f32 * (EXTREMES + (1.0 - EXTREMES) * 4.0 * grey * (1.0 - grey));
            for (value, own) in pixel.0.iter_mut().zip(&own) {
                *value = (f32::from(*value) + weight * (luma[i] + CHROMA * own[i])).round().clamp(0.0, 255.0) as u8;
            }
        }
    }

    /// Smoothed noise of standard deviation 1.
    fn field(&self, width: usize, height: usize, random: &mut Random) -> Vec<f32> {
        let mut field: Vec<f32> = (0..width * height).map(|_| random.normal() as f32).collect();
        for _ in 0..self.passes {
            smooth(&mut field, width, 1);
            smooth(&mut field, width, width);
        }
        let square = field.iter().map(|v| f64::from(v * v)).sum::<f64>() / field.len().max(1) as f64;
        let scale = 1.0 / square.sqrt().max(1e-6) as f32;
        field.iter_mut().for_each(|v| *v *= scale);
        field
    }
}

/// (1, 2, 1) / 4 along the neighbours at `step`, the borders as they are. In place: a row or sample before is taken from a copy.
fn smooth(field: &mut [f32], width: usize, step: usize) {
    let before = field.to_vec();
    for (row, values) in field.chunks_mut(width).enumerate() {
        for (x, value) in values.iter_mut().enumerate() {
            let i = row * width + x;
            let inside = step != 1 || (x > 0 && x + 1 < width);
            if let (true, Some(left), Some(right)) = (inside, i.checked_sub(step), before.get(i + step)) {
                *value = 0.25 * before[left] + 0.5 * before[i] + 0.25 * right;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grain_has_the_given_deviation_and_is_strongest_in_mid_tones() {
        let deviation = |level: u8, passes| {
            let mut frame = RgbImage::from_pixel(128, 96, image::Rgb([level; 3]));
            Grain { deviation: 6.0, passes }.add(&mut frame, &mut Random::new(1, 0));
            let square = |p: &image::Rgb<u8>| (f64::from(p.0[1]) - f64::from(level)).powi(2);
            (frame.pixels().map(square).sum::<f64>() / (128.0 * 96.0)).sqrt()
        };
        for passes in 0..=PASSES {
            // Luma and the channel's own part together.
            assert!((deviation(128, passes) - 6.0 * 1.0625f64.sqrt()).abs() < 0.3, "{}", deviation(128, passes));
            assert!(deviation(40, passes) < 0.8 * deviation(128, passes));
        }
    }

    #[test]
    fn frames_smaller_than_the_filter_keep_their_size() {
        let mut frame = RgbImage::new(1, 1);
        Grain { deviation: 6.0, passes: 2 }.add(&mut frame, &mut Random::new(1, 0));
        assert_eq!(frame.dimensions(), (1, 1));
    }
}
