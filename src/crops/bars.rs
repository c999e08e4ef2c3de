//! Black bars around a picture: letterbox, pillarbox, or both.

use crate::Result;
use crate::frame::{Frame, Region};

/// Mean luma of a line up to which it is black: 24 in 8 bits of limited range, over what compression leaves of black (16); the
/// limit of ffmpeg's `cropdetect`.
const BLACK: f32 = (24.0 - 16.0) / 219.0;
/// Rows by which columns are judged.
const ROWS: usize = 64;
/// Opposite bars may differ by this share of the picture's side (a fiftieth), and by two lines.
const ASYMMETRY: (usize, usize) = (50, 2);
/// Pictures in a row that must have larger bars before those are believed.
const PATIENCE: u32 = 25;

/// What is within a picture's black bars; none where all is black.
///
/// A bar is of lines whose mean luma is black, and has one like it on the other side: where one is larger, because a subtitle
/// stands in the other or the picture itself is dark at that end, as much counts as both have.
///
/// # Errors
/// None that a valid frame can reach.
pub fn active(frame: &Frame) -> Result<Option<Region>> {
    let (width, height) = (frame.width(), frame.height());
    let mut row = vec![0f32; width];
    let mut is_black = |y: usize| -> Result<bool> {
        frame.luma(y, 1, &mut row)?;
        Ok(row.iter().sum::<f32>() <= BLACK * width as f32)
    };
    let mut top = 0;
    while top < height && is_black(top)? {
        top += 1;
    }
    if top == height {
        return Ok(None);
    }
    let mut bottom = 0;
    while is_black(height - 1 - bottom)? {
        bottom += 1;
    }
    let (top, bottom) = alike(top, bottom, height);

    let shown = height - top - bottom;
    let rows = shown.min(ROWS);
    let mut columns = vec![0f32; width];
    for index in 0..rows {
        frame.luma(top + (2 * index + 1) * shown / (2 * rows), 1, &mut row)?;
        columns.iter_mut().zip(&row).for_each(|(sum, luma)| *sum += luma);
    }
    let lit = |&sum: &f32| sum > BLACK * rows as f32;
    // Without a column that is lit the rows say nothing of the sides.
    let left = columns.iter().position(lit).unwrap_or(0);
    let right = columns.iter().rev().position(lit).unwrap_or(0);
    let (left, right) = alike(left, right, width);
    Ok(Some(Region::new(left, top, width - left - right, shown)))
}

/// Bars as far as both sides have them.
fn alike(first: usize, last: usize, side: usize) -> (usize, usize) {
    let least = first.min(last);
    if first.abs_diff(last) <= (side / ASYMMETRY.0).max(ASYMMETRY.1) { (first, last) } else { (least, least) }
}

/// What is within the bars of a stream's pictures, steady over time: the picture grows at once where something shows in a bar,
/// and shrinks when 25 pictures in a row had larger bars, to what the smallest of those left. Black pictures tell nothing.
#[derive(Debug, Default)]
pub struct Bars {
    /// What pictures are of, and what is within the bars.
    known: Option<(Region, Region)>,
    /// What showed in the pictures since the last that filled it, and their number.
    smaller: Option<(Region, u32)>,
}

impl Bars {
    /// What is within the bars of the next picture, in which [`active`] found that; `whole` is what the picture is of. A
    /// change of that begins anew.
    pub fn update(&mut self, whole: Region, found: Option<Region>) -> Region {
        let known = self.known.filter(|(of, _)| *of == whole).map(|(_, active)| active);
        let Some(found) = found else { return known.unwrap_or(Region::new(0, 0, whole.width, whole.height)) };
        let Some(active) = known else {
            *self = Self { known: Some((whole, found)), smaller: None };
            return found;
        };
        let grown = active.hull(found);
        self.smaller = match self.smaller {
            _ if grown != active || found == active => None,
            Some((shown, count)) => Some((shown.hull(found), count + 1)),
            None => Some((found, 1)),
        };
        let shrunk = self.smaller.take_if(|(_, count)| *count >= PATIENCE).map(|(shown, _)| shown);
        let active = shrunk.unwrap_or(grown);
        self.known = Some((whole, active));
        active
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{Colour, PixelFormat, Plane};
    use crate::random::Random;
    use proptest::prelude::*;

    /// Luma of limited range: a bright, noisy picture at `shown`, and noise of up to `noise` above black around it.
    fn picture((width, height): (usize, usize), shown: Region, noise: usize, seed: u64) -> Vec<u8> {
        let mut random = Random::new(seed, 0);
        let mut pixel = |x: usize, y: usize| {
            let within =
                (shown.x..shown.x + shown.width).contains(&x) && (shown.y..shown.y + shown.height).contains(&y);
            if within { (60 + random.below(120)) as u8 } else { (16 + random.below(noise + 1)) as u8 }
        };
        (0..height).flat_map(|y| (0..width).map(move |x| (x, y))).map(|(x, y)| pixel(x, y)).collect()
    }

    fn found(data: &[u8], (width, height): (usize, usize)) -> Option<Region> {
        let neutral = vec![128; width.div_ceil(2) * height.div_ceil(2)];
        let chroma = width.div_ceil(2);
        let planes = [Plane::new(data, width), Plane::new(&neutral, chroma), Plane::new(&neutral, chroma)];
        active(&Frame::new(PixelFormat::I420, width, height, &planes, Colour::BT709).unwrap()).unwrap()
    }

    #[test]
    fn layouts_as_they_are_broadcast() {
        for (size, shown) in [
            ((1920, 1080), Region::new(0, 138, 1920, 804)),  // 2.39:1 in 16:9
            ((1920, 1080), Region::new(0, 21, 1920, 1038)),  // 1.85:1
            ((1920, 1080), Region::new(240, 0, 1440, 1080)), // 4:3
            ((1920, 1080), Region::new(656, 0, 608, 1080)),  // 9:16, upright
            ((720, 576), Region::new(0, 72, 720, 432)),      // 16:9 in 4:3
            ((640, 480), Region::new(80, 105, 480, 270)),    // bars all round
            ((721, 577), Region::new(9, 72, 704, 432)),      // odd, and a line more at one end
            ((1920, 1080), Region::new(0, 0, 1920, 1080)),   // none
        ] {
            for noise in [0, 4, 12] {
                assert_eq!(found(&picture(size, shown, noise, 1), size), Some(shown), "{size:?}, noise {noise}");
            }
        }
    }

    #[test]
    fn what_is_no_bar() {
        let size = (640, 360);
        let whole = Region::new(0, 0, 640, 360);
        assert_eq!(found(&[16; 640 * 360], size), None);
        assert_eq!(found(&picture(size, Region::new(0, 0, 0, 0), 12, 1), size), None); // black with noise
        // Dark at one end only.
        assert_eq!(found(&picture(size, Region::new(0, 0, 640, 200), 4, 1), size), Some(whole));
        // A subtitle in one bar: both count as far as it leaves them.
        let mut data = picture(size, Region::new(0, 60, 640, 240), 4, 1);
        data.chunks_mut(640).skip(320).take(20).for_each(|row| row[200..440].fill(235));
        assert_eq!(found(&data, size), Some(Region::new(0, 20, 640, 320)));
        // One pixel and one grey line of a picture.
        assert_eq!(found(&[200], (1, 1)), Some(Region::new(0, 0, 1, 1)));
        assert_eq!(found(&[16; 9], (3, 3)), None);
    }

    #[test]
    fn one_dark_picture_changes_nothing() {
        let whole = Region::new(0, 0, 640, 360);
        let (wide, dark) = (Region::new(0, 40, 640, 280), Region::new(100, 100, 440, 160));
        let mut bars = Bars::default();
        assert_eq!(bars.update(whole, None), whole);
        assert_eq!(bars.update(whole, Some(wide)), wide);
        assert_eq!(bars.update(whole, None), wide);
        for _ in 0..3 {
            (1..PATIENCE).for_each(|_| assert_eq!(bars.update(whole, Some(dark)), wide));
            assert_eq!(bars.update(whole, Some(wide)), wide);
        }
        // Larger bars that stay, by what the smallest of them leaves; something in them at once.
        let other = Region::new(90, 110, 400, 100);
        (1..PATIENCE).for_each(|i| assert_eq!(bars.update(whole, Some(if i == 3 { other } else { dark })), wide));
        assert_eq!(bars.update(whole, Some(dark)), Region::new(90, 100, 450, 160));
        assert_eq!(bars.update(whole, Some(whole)), whole);
        // Pictures of another size.
        let small = Region::new(0, 0, 320, 180);
        assert_eq!(bars.update(small, None), small);
        let of_small = Region::new(0, 20, 320, 140);
        assert_eq!(bars.update(small, Some(of_small)), of_small);
    }

    proptest! {
        #[test]
        fn any_symmetric_bars_are_found(
            width in 40usize..300,
            height in 40usize..200,
            left in 0usize..18,
            top in 0usize..18,
            noise in 0usize..9, // no sample over the threshold: a short line of noisier ones may be, in the mean
            seed: u64,
        ) {
            let shown = Region::new(left, top, width - 2 * left, height - 2 * top);
            prop_assert_eq!(found(&picture((width, height), shown, noise, seed), (width, height)), Some(shown));
        }
    }
}
