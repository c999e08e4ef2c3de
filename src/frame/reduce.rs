//! A frame reduced by a power of two: each pixel is the mean of a block of the frame's pixels.
//!
//! Blocks are averaged in the planes, before the colour matrix, with chroma interpolated as [`Frame::rgb`] interpolates it.
//! Samples have at most 16 bits and all weights are integers, so sums are exact in 32 bits and every CPU computes the same.

use super::convert::{Finish, Span, chroma_rows, column_weights};
use super::format::Family;
use super::{Frame, Region};
use crate::simd::dispatch;
use crate::{Error, Result};

/// Largest exponent of a reduction: sums over 32x32 samples of 16 bits, times the 32 of chroma's weights, fit into 32 bits.
pub const MAX_LEVEL: u32 = 5;

/// Weights of a chroma column, in quarters, and of a chroma row, in eighths, of one pixel add up to these.
const QUARTERS: u32 = 4;
const EIGHTHS: u32 = 8;

impl Frame<'_> {
    /// (width, height) of the picture reduced by `2^level`, in pixels. Columns and rows beyond the last whole block are left
    /// out.
    pub fn reduced_size(&self, level: u32) -> (usize, usize) {
        let side = |length: usize| length.checked_shr(level).unwrap_or(0);
        (side(self.width()), side(self.height()))
    }

    /// As [`Frame::rgb`], of the picture reduced by `2^level`: the rectangle is one of the reduced picture, (`x`, `y`) its
    /// upper left corner. Level 0 is the picture itself.
    ///
    /// # Errors
    /// [`Error::Input`] where the level is over [`MAX_LEVEL`], the rectangle is empty or reaches beyond the reduced picture,
    /// or `out` has another length.
    pub fn reduced_rgb(&self, level: u32, part: Region, out: &mut [f32]) -> Result<()> {
        if level == 0 {
            return self.rgb(part.x, part.y, part.width, part.height, out);
        }
        if level > MAX_LEVEL {
            return Err(Error::Input(format!("level {level} is out of range, expected 0 to {MAX_LEVEL}")));
        }
        let (width, height) = self.reduced_size(level);
        let part = Region::new(0, 0, width, height).part("rectangle", part)?;
        let (expected, given) = (part.width * part.height * 3, out.len());
        if given != expected {
            return Err(Error::Input(format!(
                "RGB of {}x{} pixels has {expected} values, room for {given}",
                part.width, part.height
            )));
        }
        reduce(self, level, part, out);
        Ok(())
    }
}

/// Averages blocks of the frame, `part` in coordinates of the reduced picture, to `out` (height, width, 3).
fn reduce(frame: &Frame, level: u32, part: Region, out: &mut [f32]) {
    let finish = Finish::of(frame);
    let components = if frame.layout.family == Family::Gray { 1 } else { 3 };
    let (x, y) = (frame.shown.x + (part.x << level), frame.shown.y + (part.y << level));
    let mut means: Vec<Mean> = (0..components)
        .map(|component| Mean::new(frame, Span::new(frame, component, x, part.width << level), level, part.width))
        .collect();
    let mut rows: Vec<(usize, u32)> = Vec::new();
    dispatch(
        #[inline(always)]
        || {
            for (row, out) in out.chunks_exact_mut(part.width * 3).enumerate() {
                for mean in &mut means {
                    block_rows(frame, mean.span.component, y + (row << level), 1 << level, &mut rows);
                    mean.load(frame, &rows);
                }
                let [a, b, c] = [0, components / 2, components - 1].map(|i| &means[i].values[..]);
                finish.row(a, b, c, out);
            }
        },
    );
}

/// The rows of a component's plane that `count` rows of the picture from `first` on are made of, with their weights in all.
fn block_rows(frame: &Frame, component: usize, first: usize, count: usize, rows: &mut Vec<(usize, u32)>) {
    rows.clear();
    let mut add = |row: usize, weight: u32| match rows.iter_mut().find(|(known, _)| *known == row) {
        _ if weight == 0 => (),
        Some((_, sum)) => *sum += weight,
        None => rows.push((row, weight)),
    };
    for y in first..first + count {
        if component == 0 {
            add(y, 1);
            continue;
        }
        let (above, below, weight) = chroma_rows(frame, y);
        let below_weight = (weight * EIGHTHS as f32) as u32; // exact: the weights are whole eighths
        add(above, EIGHTHS - below_weight);
        add(below, below_weight);
    }
}

/// Means of one component over a row of blocks.
struct Mean {
    span: Span,
    level: u32,
    /// Sums of samples over the rows of a block, a sum for each sample that is read.
    sums: Vec<u32>,
    /// The same at full width; unused without subsampling.
    wide: Vec<u32>,
    /// Weights of chroma columns in quarters; see [`column_weights`].
    weights: [u32; 4],
    /// `1 / n` for sums with weights of `n` in all: a power of two, so that the product is exact.
    share: f32,
    /// The means, one for each block.
    values: Vec<f32>,
}

impl Mean {
    fn new(frame: &Frame, span: Span, level: u32, blocks: usize) -> Self {
        let rows = if span.component > 0 { EIGHTHS } else { 1 };
        let columns = if span.subsampled { QUARTERS } else { 1 };
        Self {
            span,
            level,
            sums: vec![0; span.count],
            wide: if span.subsampled { vec![0; 2 * (span.count - 2)] } else { Vec::new() },
            weights: column_weights(frame).map(|weight| (weight * QUARTERS as f32) as u32), // whole quarters
            share: 1.0 / ((rows * columns) << (2 * level)) as f32,
            values: vec![0.0; blocks],
        }
    }

    /// Averages the blocks that consist of these rows of the component's plane.
    #[inline(always)]
    fn load(&mut self, frame: &Frame, rows: &[(usize, u32)]) {
        self.sums.fill(0);
        for &(row, weight) in rows {
            // Luma's rows all have a weight of 1, and are most of what is read: no products for them.
            if weight == 1 {
                self.span.read(
                    frame,
                    row,
                    &mut self.sums,
                    #[inline(always)]
                    |sum, sample| *sum += u32::from(sample),
                );
            } else {
                self.span.read(
                    frame,
                    row,
                    &mut self.sums,
                    #[inline(always)]
                    |sum, sample| *sum += weight * u32::from(sample),
                );
            }
        }
        let sums = if self.span.subsampled {
            self.span.repeat_edges(&mut self.sums);
            let [even_before, even_this, odd_this, odd_after] = self.weights;
            let (pairs, _) = self.wide.as_chunks_mut::<2>();
            let (before, this, after) = (&self.sums[..], &self.sums[1..], &self.sums[2..]);
            for (((pair, &before), &this), &after) in pairs.iter_mut().zip(before).zip(this).zip(after) {
                *pair = [before * even_before + this * even_this, this * odd_this + after * odd_after];
            }
            &self.wide[self.span.start..]
        } else {
            &self.sums[..]
        };
        match self.level {
            1 => means::<2>(sums, self.share, &mut self.values),
            2 => means::<4>(sums, self.share, &mut self.values),
            3 => means::<8>(sums, self.share, &mut self.values),
            4 => means::<16>(sums, self.share, &mut self.values),
            _ => means::<32>(sums, self.share, &mut self.values),
        }
    }
}

#[inline(always)]
fn means<const COLUMNS: usize>(sums: &[u32], share: f32, values: &mut [f32]) {
    let (blocks, _) = sums.as_chunks::<COLUMNS>();
    for (value, block) in values.iter_mut().zip(blocks) {
        *value = block.iter().sum::<u32>() as f32 * share;
    }
}
