//! Chroma as players restore it: the look of a crop of 4:2:0 video with different upsampling filters.

use crate::random::Random;
use image::RgbImage;

/// Luma weights of red and blue (BT.601); any would do, because luma is not changed.
const RED: f32 = 0.299;
const BLUE: f32 = 0.114;

/// Weights of the chroma samples `i - 1` to `i + 2` for the pixels `2 i` and `2 i + 1`.
type Taps = [[f32; 4]; 2];

const NEAREST: Taps = [[0.0, 1.0, 0.0, 0.0]; 2];
/// Sample sites in the middle of two pixels, as in MPEG-1 and JPEG, and in MPEG-2 vertically.
const LINEAR: Taps = [[0.25, 0.75, 0.0, 0.0], [0.0, 0.75, 0.25, 0.0]];
/// Catmull-Rom for the same sites. The first row is for `i - 2` to `i + 1`.
const CUBIC: Taps = [[-0.0234375, 0.2265625, 0.8671875, -0.0703125], [-0.0703125, 0.8671875, 0.2265625, -0.0234375]];
/// Sample sites on every second pixel, as in MPEG-2 horizontally.
const LINEAR_LEFT: Taps = [[0.0, 1.0, 0.0, 0.0], [0.0, 0.5, 0.5, 0.0]];
const CUBIC_LEFT: Taps = [[0.0, 1.0, 0.0, 0.0], [-0.0625, 0.5625, 0.5625, -0.0625]];

/// Horizontal and vertical filter, and whether the sites are on every second column.
const FILTERS: [(Taps, Taps, bool); 5] = [
    (NEAREST, NEAREST, false),
    (LINEAR, LINEAR, false),
    (CUBIC, CUBIC, false),
    (LINEAR_LEFT, LINEAR, true),
    (CUBIC_LEFT, CUBIC, true),
];

/// The crop, of even sides, as it is or with its chroma halved and restored by one of the filters, at random.
pub(super) fn vary(crop: RgbImage, random: &mut Random) -> RgbImage {
    match FILTERS.get(random.below(FILTERS.len() + 1)) {
        Some(&(horizontal, vertical, left)) => restored(&crop, horizontal, vertical, left),
        None => crop,
    }
}

fn restored(crop: &RgbImage, horizontal: Taps, vertical: Taps, left: bool) -> RgbImage {
    let (width, height) = (crop.width() as usize, crop.height() as usize);
    let pixels = crop.as_raw().as_chunks::<3>().0;
    let luma = |p: &[u8; 3]| {
        let [r, g, b] = p.map(f32::from);
        RED * r + (1.0 - RED - BLUE) * g + BLUE * b
    };
    let planes = [0, 2].map(|channel| {
        // The difference from luma: chroma, but for a factor.
        let full: Vec<f32> = pixels.iter().map(|p| f32::from(p[channel]) - luma(p)).collect();
        let half = halved(&full, width, height, left);
        upsampled(&half, width / 2, height / 2, &horizontal, &vertical)
    });
    let mut out = crop.clone();
    for (i, (to, from)) in out.as_chunks_mut::<3>().0.iter_mut().zip(pixels).enumerate() {
        let (y, [red, blue]) = (luma(from), [planes[0][i], planes[1][i]]);
        let green = -(RED * red + BLUE * blue) / (1.0 - RED - BLUE);
        *to = [red, green, blue].map(|chroma| (y + chroma).round().clamp(0.0, 255.0) as u8);
    }
    out
}

/// Chroma samples of 4:2:0 video, by means of two rows and of two columns or, for sites on columns, of three.
fn halved(full: &[f32], width: usize, height: usize, left: bool) -> Vec<f32> {
    let mut half = Vec::with_capacity(width * height / 4);
    for rows in full.chunks_exact(2 * width) {
        let at = |x: usize| rows[x] + rows[width + x];
        half.extend((0..width).step_by(2).map(|x| match left {
            true => (at(x.saturating_sub(1)) + 2.0 * at(x) + at(x + 1)) / 8.0,
            false => (at(x) + at(x + 1)) / 4.0,
        }));
    }
    half
}

fn upsampled(half: &[f32], width: usize, height: usize, horizontal: &Taps, vertical: &Taps) -> Vec<f32> {
    // Rows, then columns: `stride` apart, `count` samples.
    let sample = |line: &dyn Fn(usize) -> f32, count: usize, at: usize, taps: &Taps| -> f32 {
        // A centred cubic needs two samples before an even pixel's and one behind it.
        let first = if at.is_multiple_of(2) && taps[0][3] != 0.0 { 2 } else { 1 };
        let weights = taps[at % 2].iter().enumerate();
        weights.map(|(k, w)| w * line((at / 2 + k).saturating_sub(first).min(count - 1))).sum()
    };
    let mut wide = Vec::with_capacity(2 * width * height);
    for row in half.chunks_exact(width) {
        wide.extend((0..2 * width).map(|x| sample(&|i| row[i], width, x, horizontal)));
    }
    let mut out = Vec::with_capacity(4 * width * height);
    for y in 0..2 * height {
        out.extend((0..2 * width).map(|x| sample(&|i| wide[i * 2 * width + x], height, y, vertical)));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(random: &mut Random) -> RgbImage {
        RgbImage::from_fn(32, 32, |_, _| image::Rgb(std::array::from_fn(|_| 64 + random.below(128) as u8)))
    }

    #[test]
    fn filters_keep_flat_colours_and_luma() {
        let flat = RgbImage::from_pixel(32, 32, image::Rgb([200, 40, 90]));
        let random = &mut Random::new(3, 0);
        // Chroma that cannot leave the range: luma is then exact but for rounding.
        let noisy = RgbImage::from_fn(32, 32, |_, _| {
            let grey = 100 + random.below(50) as u8;
            image::Rgb([grey + random.below(20) as u8, grey, grey - random.below(20) as u8])
        });
        let luma = |p: &image::Rgb<u8>| 0.299 * f32::from(p[0]) + 0.587 * f32::from(p[1]) + 0.114 * f32::from(p[2]);
        for (horizontal, vertical, left) in FILTERS {
            assert_eq!(restored(&flat, horizontal, vertical, left), flat);
            let other = restored(&noisy, horizontal, vertical, left);
            assert!(other.pixels().zip(noisy.pixels()).all(|(a, b)| (luma(a) - luma(b)).abs() <= 0.5));
            assert_ne!(other, noisy);
        }
    }

    /// A ramp of chroma stays one, away from the borders: no filter shifts it.
    #[test]
    fn filters_shift_nothing() {
        let ramp = RgbImage::from_fn(32, 32, |x, y| image::Rgb([(100 + 2 * x + y) as u8, 100, 100]));
        for (horizontal, vertical, left) in &FILTERS[1..] {
            let other = restored(&ramp, *horizontal, *vertical, *left);
            for (x, y) in (6..26).flat_map(|x| (6..26).map(move |y| (x, y))) {
                let (a, b) = (other.get_pixel(x, y), ramp.get_pixel(x, y));
                assert!(a.0.iter().zip(b.0).all(|(a, b)| a.abs_diff(b) <= 1), "{left} {x} {y}: {a:?} {b:?}");
            }
        }
    }

    #[test]
    fn variations_are_drawn_at_random() {
        let (random, crop) = (&mut Random::new(1, 0), noise(&mut Random::new(2, 0)));
        let all: std::collections::BTreeSet<Vec<u8>> =
            (0..100).map(|_| vary(crop.clone(), random).into_raw()).collect();
        assert_eq!(all.len(), FILTERS.len() + 1);
    }
}
