//! Weights as 16-bit or 8-bit integers, laid out for the tiles.
//!
//! With 16 bits, a sum over a block of [`BLOCK`] inner values must fit 32 bits whatever the activations are. These are rounded to at most
//! [`LARGEST`]; so a column's weights get the finest scale with which no block's sum of absolute values exceeds
//! `2^31 / LARGEST`. For weights that are spread like a normal distribution this leaves about 13 bits of a product's
//! two sides: an error of some 1e-5 of a sum, a twentieth of what rounding to bfloat16 costs.
//!
//! 8 bits are kept in as many only where the CPU multiplies them faster than 16; elsewhere the same integers are kept in 16.

use super::bits::{Bits, LARGEST, LARGEST_NARROW, ROUND};
use super::tile::{BLOCK, BLOCK_NARROW, COLUMNS, ROWS, byte_rows};
use crate::simd::Level;
use rayon::prelude::*;

/// Largest sum of a block's absolute weights, after rounding.
const WEIGHT: f32 = (i32::MAX / LARGEST as i32) as f32;

/// A matrix `(O, I)` in panels of [`COLUMNS`] outputs, zero beyond the last input and output; `I'` is [`Panels::row`].
#[derive(Debug)]
pub(super) struct Panels {
    pub inputs: usize,
    pub outputs: usize,
    pub bits: Bits,
    values: Values,
    /// One for each column of every panel.
    scales: Vec<[f32; COLUMNS]>,
}

#[derive(Debug)]
enum Values {
    /// For each panel `(I' / 2, COLUMNS, 2)`.
    Wide(Vec<i16>),
    /// For each panel `(I' / 4, COLUMNS, 4)`, and for each of its blocks and columns -128 times the sum.
    Narrow(Vec<i8>, Vec<[i32; COLUMNS]>),
}

/// One panel's integers.
#[derive(Debug, Clone, Copy)]
pub(super) enum Panel<'a> {
    Wide(&'a [i16]),
    Narrow(&'a [i8], &'a [[i32; COLUMNS]]),
}

impl Panels {
    /// Packs a row-major matrix `(outputs, inputs)`, neither of them 0.
    pub fn new(weight: &[f32], outputs: usize, inputs: usize, bits: Bits, level: Level) -> Self {
        let (panels, width) = (outputs.div_ceil(COLUMNS), bits.row_width(inputs));
        let mut values = vec![0i16; panels * width * COLUMNS];
        let mut scales = vec![[0f32; COLUMNS]; panels];
        // Values that a step of the product takes together.
        let narrow = bits == Bits::Eight && level.prefers_bytes();
        let step = if narrow { 4 } else { 2 };
        let rows = weight.par_chunks(inputs * COLUMNS);
        values.par_chunks_mut(width * COLUMNS).zip(&mut scales).zip(rows).for_each(|((panel, scales), rows)| {
            for (column, row) in rows.chunks_exact(inputs).enumerate() {
                scales[column] = scale_of(row, bits);
                let inverse = if scales[column] > 0.0 { scales[column].recip() } else { 0.0 };
                for (i, w) in row.iter().enumerate() {
                    panel[(i / step * COLUMNS + column) * step + i % step] = (w * inverse + ROUND).to_bits() as i16;
                }
            }
        });
        let values = if narrow { narrowed(&values, width) } else { Values::Wide(values) };
        Self { inputs, outputs, bits, values, scales }
    }

    /// Each panel with its columns' scales.
    pub fn iter(&self) -> impl Iterator<Item = (Panel<'_>, &[f32; COLUMNS])> {
        let (size, blocks) = (self.row() * COLUMNS, self.blocks());
        self.scales.iter().enumerate().map(move |(i, scales)| {
            let panel = match &self.values {
                Values::Wide(values) => Panel::Wide(&values[i * size..][..size]),
                Values::Narrow(values, begin) => {
                    Panel::Narrow(&values[i * size..][..size], &begin[i * blocks..][..blocks])
                }
            };
            (panel, scales)
        })
    }

    /// Whether rows are to be rounded to bytes.
    pub fn narrow(&self) -> bool {
        matches!(self.values, Values::Narrow(..))
    }

    /// Rows that are multiplied at once.
    pub fn tile_rows(&self, level: Level) -> usize {
        if self.narrow() { byte_rows(level) } else { ROWS }
    }

    /// Values of one row of quantised activations: inputs, and zeros beyond.
    pub fn row(&self) -> usize {
        self.bits.row_width(self.inputs)
    }

    /// Scales of one row of quantised activations.
    pub fn blocks(&self) -> usize {
        self.inputs.div_ceil(self.bits.block())
    }
}

/// The step between the integers of one output's weights; NaN where a weight is not finite.
fn scale_of(row: &[f32], bits: Bits) -> f32 {
    let block = row.chunks(BLOCK).map(|block| block.iter().map(|w| w.abs()).sum::<f32>());
    let (sum, most) = (block.fold(0.0, largest), row.iter().map(|w| w.abs()).fold(0.0, largest));
    let scale = match bits {
        // Rounding adds at most a half for each value.
        Bits::Sixteen => (sum / (WEIGHT - BLOCK as f32)).max(most / f32::from(i16::MAX)),
        Bits::Eight => most / LARGEST_NARROW,
    };
    if sum.is_finite() { scale } else { f32::NAN } // is_finite: max would drop a NaN
}

/// Panels in bytes, their fours in place already.
fn narrowed(values: &[i16], width: usize) -> Values {
    let bytes: Vec<i8> = values.iter().map(|&w| w as i8).collect();
    let sums = |block: &[i8]| {
        let mut begin = [0i32; COLUMNS];
        for columns in block.chunks_exact(4 * COLUMNS) {
            for (begin, w) in begin.iter_mut().zip(columns.chunks_exact(4)) {
                *begin -= 128 * w.iter().map(|&w| i32::from(w)).sum::<i32>();
            }
        }
        begin
    };
    let begin =
        bytes.chunks(width * COLUMNS).flat_map(|panel| panel.chunks(BLOCK_NARROW * COLUMNS).map(sums)).collect();
    Values::Narrow(bytes, begin)
}

/// The larger one, NaN where one is.
fn largest(a: f32, b: f32) -> f32 {
    if b > a || b.is_nan() { b } else { a }
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
            let panels = Panels::new(&weights, 1, n, Bits::Sixteen, Level::Portable);
            let (Panel::Wide(panel), scales) = panels.iter().next().unwrap() else { panic!("16 bits") };
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
            for bits in [Bits::Eight, Bits::Sixteen] {
                let panels = Panels::new(&row, 1, 160, bits, Level::current());
                assert!(panels.iter().next().unwrap().1[0].is_nan());
            }
        }
    }
}
