//! Weights as 16-bit integers, laid out for the tiles, and rows of activations quantised as they come.
//!
//! A sum over a block of [`BLOCK`] inner values must fit 32 bits whatever the activations are. These are rounded to at most
//! [`LARGEST`]; so a column's weights get the finest scale with which no block's sum of absolute values exceeds
//! `2^31 / LARGEST`. For weights that are spread like a normal distribution this leaves about 13 bits of a product's
//! two sides: an error of some 1e-5 of a sum, a twentieth of what rounding to bfloat16 costs.

use super::round::{LARGEST, ROUND, STEP};
use super::tile::{BLOCK, COLUMNS};
use rayon::prelude::*;

/// Largest sum of a block's absolute weights, after rounding.
const WEIGHT: f32 = (i32::MAX / LARGEST as i32) as f32;

/// A matrix `(O, I)` in panels of [`COLUMNS`] outputs.
#[derive(Debug)]
pub(super) struct Panels {
    pub inputs: usize,
    pub outputs: usize,
    /// For each panel `(I' / 2, COLUMNS, 2)`, zero beyond the last input and output; `I'` is [`Panels::row`].
    values: Vec<i16>,
    /// One for each column of every panel.
    scales: Vec<[f32; COLUMNS]>,
}

impl Panels {
    /// Packs a row-major matrix `(outputs, inputs)`, neither of them 0.
    pub fn new(weight: &[f32], outputs: usize, inputs: usize) -> Self {
        let (panels, width) = (outputs.div_ceil(COLUMNS), row_width(inputs));
        let mut values = vec![0i16; panels * width * COLUMNS];
        let mut scales = vec![[0f32; COLUMNS]; panels];
        let rows = weight.par_chunks(inputs * COLUMNS);
        values.par_chunks_mut(width * COLUMNS).zip(&mut scales).zip(rows).for_each(|((panel, scales), rows)| {
            for (column, row) in rows.chunks_exact(inputs).enumerate() {
                let block = row.chunks(BLOCK).map(|block| block.iter().map(|w| w.abs()).sum::<f32>());
                let (sum, most) = (block.fold(0.0, largest), row.iter().map(|w| w.abs()).fold(0.0, largest));
                // Rounding adds at most a half for each value.
                let scale = (sum / (WEIGHT - BLOCK as f32)).max(most / f32::from(i16::MAX));
                let scale = if sum.is_finite() { scale } else { f32::NAN }; // is_finite: max would drop a NaN
                scales[column] = scale;
                let inverse = if scale > 0.0 { scale.recip() } else { 0.0 };
                for (i, w) in row.iter().enumerate() {
                    panel[(i / 2 * COLUMNS + column) * 2 + i % 2] = (w * inverse + ROUND).to_bits() as i16;
                }
            }
        });
        Self { inputs, outputs, values, scales }
    }

    /// Each panel with its columns' scales.
    pub fn iter(&self) -> impl Iterator<Item = (&[i16], &[f32; COLUMNS])> {
        self.values.chunks_exact(self.row() * COLUMNS).zip(&self.scales)
    }

    /// Values of one row of quantised activations: inputs, and zeros up to a multiple of [`STEP`].
    pub fn row(&self) -> usize {
        row_width(self.inputs)
    }

    /// Scales of one row of quantised activations.
    pub fn blocks(&self) -> usize {
        self.inputs.div_ceil(BLOCK)
    }
}

/// The larger one, NaN where one is.
fn largest(a: f32, b: f32) -> f32 {
    if b > a || b.is_nan() { b } else { a }
}

fn row_width(inputs: usize) -> usize {
    inputs.next_multiple_of(STEP)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// No block's sum can leave 32 bits, whatever the activations.
        #[test]
        fn sums_fit(weights in prop::collection::vec(-1f32..1.0, 1..300), spike in 0usize..300, size in 0f32..1e6) {
            let mut weights = weights;
            let n = weights.len();
            weights[spike % n] *= size;
            let panels = Panels::new(&weights, 1, n);
            let (panel, scales) = panels.iter().next().unwrap();
            let column: Vec<i64> = (0..n).map(|i| i64::from(panel[i / 2 * 2 * COLUMNS + i % 2])).collect();
            for (block, exact) in column.chunks(BLOCK).zip(weights.chunks(BLOCK)) {
                let sum: i64 = block.iter().map(|w| w.abs()).sum();
                prop_assert!(sum * LARGEST as i64 <= i64::from(i32::MAX), "{sum}");
                for (q, w) in block.iter().zip(exact) {
                    prop_assert!((*q as f32 * scales[0] - w).abs() <= 0.501 * scales[0]);
                }
            }
        }
    }

    #[test]
    fn what_is_not_finite_is_not_hidden() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut row = vec![1f32; 160];
            row[70] = bad;
            assert!(Panels::new(&row, 1, 160).iter().next().unwrap().1[0].is_nan());
        }
    }
}
