//! Luma in some of a picture's rows, and what one picture's shows.

use crate::Result;
use crate::frame::Frame;

/// Rows that are looked at: four for each of the thumbnail's.
const ROWS: usize = 4 * Thumbnail::HEIGHT;
/// Luma up to which a pixel is black.
const BLACK_LUMA: f32 = 0.10;
/// Standard deviation of luma under which there is nothing to be sharp.
const LEAST_CONTRAST: f64 = 0.02;
/// Sums are taken side by side in so many lanes, which is exact enough in `f32` and fast.
const LANES: usize = 16;

/// Luma of some rows spread over a picture, and how sharp the picture is there.
#[derive(Debug, Clone)]
pub struct Luma {
    width: usize,
    height: usize,
    /// Row by row, `width` each.
    rows: Vec<f32>,
    /// Variance of the Laplacian without what rounding adds; NaN for pictures under 3x3.
    laplacian: f64,
    variance: f64,
}

impl Luma {
    /// Samples a picture.
    ///
    /// # Errors
    /// None that a valid frame can reach.
    pub fn of(frame: &Frame) -> Result<Self> {
        let (width, height) = (frame.width(), frame.height());
        let mut rows = vec![0.0; ROWS * width];
        let mut above_to_below = vec![0.0; 3 * width];
        let mut laplacian = vec![0.0; width.saturating_sub(2)];
        let (mut of_laplacian, mut of_luma) = (Moments::default(), Moments::default());
        for (index, row) in rows.chunks_exact_mut(width).enumerate() {
            let y = (2 * index + 1) * height / (2 * ROWS);
            if y == 0 || y + 1 >= height || width < 3 {
                frame.luma(y, 1, row)?;
            } else {
                frame.luma(y - 1, 3, &mut above_to_below)?;
                let (above, rest) = above_to_below.split_at(width);
                let (here, below) = rest.split_at(width);
                row.copy_from_slice(here);
                let neighbours = here.iter().zip(&here[2..]).zip(above[1..].iter().zip(&below[1..]));
                for ((l, &centre), ((&left, &right), (&up, &down))) in
                    laplacian.iter_mut().zip(&here[1..]).zip(neighbours)
                {
                    *l = 4.0 * centre - (left + right) - (up + down);
                }
                of_laplacian.add(&laplacian);
            }
            of_luma.add(row);
        }
        // Rounding to steps is noise of step² / 12, of which the Laplacian makes 4² + 4 times as much.
        let rounding = 20.0 * frame.luma_step().powi(2) / 12.0;
        let laplacian = (of_laplacian.variance() - rounding).clamp(0.0, f64::INFINITY); // NaN stays
        Ok(Self { width, height, rows, laplacian, variance: of_luma.variance() })
    }

    /// Share of pixels that are black.
    pub fn black(&self) -> f64 {
        let black = sum(&self.rows, &self.rows, |v, _| if v <= BLACK_LUMA { 1.0 } else { 0.0 });
        black / self.rows.len() as f64
    }

    /// Variance of the Laplacian over that of luma; none where there is too little contrast to tell.
    pub fn sharpness(&self) -> Option<f64> {
        let sharpness = self.laplacian / self.variance;
        (self.variance.sqrt() >= LEAST_CONTRAST && sharpness.is_finite()).then_some(sharpness)
    }

    /// Mean absolute difference from another picture; none where their sizes differ.
    pub fn difference(&self, other: &Self) -> Option<f64> {
        let same = (self.width, self.height) == (other.width, other.height);
        same.then(|| sum(&self.rows, &other.rows, |a, b| (a - b).abs()) / self.rows.len() as f64)
    }

    /// The picture as a few pixels.
    pub fn thumbnail(&self) -> Thumbnail {
        let mut cells = [0f32; Thumbnail::WIDTH * Thumbnail::HEIGHT];
        let rows = self.rows.chunks_exact(ROWS / Thumbnail::HEIGHT * self.width);
        for (cells, rows) in cells.chunks_exact_mut(Thumbnail::WIDTH).zip(rows) {
            for (x, cell) in cells.iter_mut().enumerate() {
                let first = x * self.width / Thumbnail::WIDTH;
                let end = ((x + 1) * self.width / Thumbnail::WIDTH).max(first + 1);
                let part = rows.chunks_exact(self.width).flat_map(|row| &row[first..end]);
                *cell = part.sum::<f32>() / (ROWS / Thumbnail::HEIGHT * (end - first)) as f32;
            }
        }
        Thumbnail(cells)
    }
}

/// Sum of `f` over two slices of one length.
fn sum(a: &[f32], b: &[f32], f: impl Fn(f32, f32) -> f32) -> f64 {
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    let mut total: f64 = a_rest.iter().zip(b_rest).map(|(&a, &b)| f64::from(f(a, b))).sum();
    // In pieces, so that no lane's sum grows large.
    for (a, b) in a.chunks(256).zip(b.chunks(256)) {
        let mut lanes = [0f32; LANES];
        for (a, b) in a.iter().zip(b) {
            for (lane, (&a, &b)) in lanes.iter_mut().zip(a.iter().zip(b)) {
                *lane += f(a, b);
            }
        }
        total += lanes.iter().map(|&lane| f64::from(lane)).sum::<f64>();
    }
    total
}

/// Count, sum and sum of squares.
#[derive(Default)]
struct Moments {
    count: usize,
    sum: f64,
    squares: f64,
}

impl Moments {
    fn add(&mut self, values: &[f32]) {
        self.count += values.len();
        self.sum += sum(values, values, |v, _| v);
        self.squares += sum(values, values, |v, _| v * v);
    }

    /// NaN of nothing.
    fn variance(&self) -> f64 {
        let (count, mean) = (self.count as f64, self.sum / self.count as f64);
        if self.count == 0 { f64::NAN } else { (self.squares / count - mean * mean).max(0.0) }
    }
}

/// A picture of 16x9 pixels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Thumbnail([f32; Self::WIDTH * Self::HEIGHT]);

impl Thumbnail {
    const WIDTH: usize = 16;
    const HEIGHT: usize = 9;

    /// Whether another scene begins between the picture before and this one: where luma differs by 0.08 on average, and the
    /// correlation of both is under 0.75. The first leaves noise and small motion alone, the second fades and flashes of
    /// a whole scene. The faster things move and the longer the time between both, the more motion passes for a cut.
    pub fn is_cut(&self, before: &Self) -> bool {
        let pairs = || self.0.iter().zip(&before.0).map(|(&a, &b)| (f64::from(a), f64::from(b)));
        let mean = |f: fn((f64, f64)) -> f64| pairs().map(f).sum::<f64>() / self.0.len() as f64;
        let (a, b) = (mean(|(a, _)| a), mean(|(_, b)| b));
        let covariance = mean(|(a, b)| a * b) - a * b;
        let variances = (mean(|(a, _)| a * a) - a * a) * (mean(|(_, b)| b * b) - b * b);
        // A picture of one grey is like no other.
        let correlation = if variances > 1e-12 { covariance / variances.sqrt() } else { 0.0 };
        mean(|(a, b)| (a - b).abs()) >= 0.08 && correlation < 0.75
    }
}
