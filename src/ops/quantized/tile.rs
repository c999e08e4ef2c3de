//! The innermost product: a few rows times a panel of columns, in 16-bit or 8-bit integers.
//!
//! Every kernel gives the same bits: sums within a block are exact, and blocks are added in order by fused multiply-adds.

#[cfg(target_arch = "x86_64")]
use super::{
    amx::{self, Tiles},
    x86,
};
use crate::simd::Level;
#[cfg(target_arch = "x86_64")]
use crate::simd::amx::permitted;

/// Rows of a tile of the vector kernels.
pub(super) const ROWS: usize = 6;
/// Most rows of a tile.
const MOST_ROWS: usize = 16;
/// Columns of a panel.
pub(super) const COLUMNS: usize = 32;
/// Inner values that share a scale; sums over so many 16-bit ones fit 32 bits (see [`super::pack`]).
pub(super) const BLOCK: usize = 32;
/// The same with 8 bits. Larger, since these take half the time, and turning a block's sum to floats would take much of it.
pub(super) const BLOCK_NARROW: usize = 64;

/// Sums of one tile, of which a kernel fills its rows.
pub(super) type Tile = [[f32; COLUMNS]; MOST_ROWS];
pub(super) const NO_SUMS: Tile = [[0.0; COLUMNS]; MOST_ROWS];

/// Operands of one tile in 16 bits, `P` being pairs of inner values and `S` blocks of them.
#[derive(Clone, Copy)]
pub(super) struct Wide<'a> {
    /// `(ROWS, 2 P)`
    pub x: &'a [i16],
    /// `(ROWS, S)`
    pub scales: &'a [f32],
    /// `(P, COLUMNS, 2)`
    pub panel: &'a [i16],
    /// Values of a block, even.
    pub block: usize,
}

/// The same in 8 bits, `Q` being fours of inner values, whole blocks of them. One side has no sign, as the instruction wants it: 128 is added to
/// it, and every sum begins with what that is too much.
#[derive(Clone, Copy)]
pub(super) struct Narrow<'a> {
    /// `(ROWS, 4 Q)`, each value plus 128.
    pub x: &'a [u8],
    /// `(ROWS, S)`
    pub scales: &'a [f32],
    /// `(Q, COLUMNS, 4)`
    pub panel: &'a [i8],
    /// `(S, COLUMNS)`: -128 times the sum of the block's weights.
    pub begin: &'a [[i32; COLUMNS]],
}

/// `tile[r][c] = sum_s scales[r, s] (sum_{k in s} x[r, k] panel[k, c])`
#[inline]
pub(super) fn multiply(level: Level, operands: Wide, tile: &mut Tile) {
    let pairs = operands.panel.len() / (2 * COLUMNS);
    let blocks = (2 * pairs).div_ceil(operands.block);
    assert!(operands.panel.len() == 2 * COLUMNS * pairs && pairs > 0 && operands.block.is_multiple_of(2));
    assert!(operands.x.len() == ROWS * 2 * pairs && operands.scales.len() == ROWS * blocks);
    match level {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: this level is chosen only where the CPU has these instructions; the kernel reads within the lengths
        // asserted above.
        Level::Avx512 | Level::Amx => unsafe { x86::avx512(operands, pairs, blocks, tile) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Level::Avx2 => unsafe { x86::avx2(operands, pairs, blocks, tile) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Level::AvxVnni => unsafe { x86::avx_vnni(operands, pairs, blocks, tile) },
        Level::Portable => portable(operands, pairs, blocks, tile),
    }
}

/// What multiplies bytes.
pub(super) enum Unit {
    Vectors(Level),
    #[cfg(target_arch = "x86_64")]
    Matrix(Tiles),
}

/// Rows that a level multiplies at once in bytes: those of its [`Unit`].
pub(super) fn byte_rows(level: Level) -> usize {
    match level {
        #[cfg(target_arch = "x86_64")]
        Level::Amx if permitted() => amx::ROWS,
        _ => ROWS,
    }
}

impl Unit {
    /// The best one of a level.
    pub(super) fn for_bytes(level: Level) -> Self {
        #[cfg(target_arch = "x86_64")]
        if level == Level::Amx && permitted() {
            // SAFETY: it is permitted.
            return Self::Matrix(unsafe { Tiles::configure() });
        }
        Self::Vectors(level)
    }

    /// Rows of a product.
    pub(super) fn rows(&self) -> usize {
        match self {
            Self::Vectors(_) => ROWS,
            #[cfg(target_arch = "x86_64")]
            Self::Matrix(_) => amx::ROWS,
        }
    }

    /// As [`multiply`], in 8 bits, for [`Unit::rows`].
    #[inline]
    pub(super) fn multiply(&self, operands: Narrow, tile: &mut Tile) {
        match self {
            Self::Vectors(level) => multiply_narrow(*level, operands, tile),
            #[cfg(target_arch = "x86_64")]
            Self::Matrix(tiles) => tiles.multiply(operands, tile),
        }
    }
}

#[inline]
fn multiply_narrow(level: Level, operands: Narrow, tile: &mut Tile) {
    let fours = operands.panel.len() / (4 * COLUMNS);
    let blocks = 4 * fours / BLOCK_NARROW;
    assert!(operands.panel.len() == BLOCK_NARROW * COLUMNS * blocks && blocks > 0 && operands.begin.len() == blocks);
    assert!(operands.x.len() == ROWS * 4 * fours && operands.scales.len() == ROWS * blocks);
    match level {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as in `multiply`.
        Level::Avx512 | Level::Amx => unsafe { x86::avx512_narrow(operands, blocks, tile) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as in `multiply`.
        Level::AvxVnni => unsafe { x86::avx_vnni_narrow(operands, fours, blocks, tile) },
        _ => portable_narrow(operands, fours, blocks, tile),
    }
}

/// Plain loops, which compilers vectorise where they can.
fn portable(Wide { x, scales, panel, block }: Wide, pairs: usize, blocks: usize, tile: &mut Tile) {
    for (r, out) in tile[..ROWS].iter_mut().enumerate() {
        *out = [0.0; COLUMNS];
        let (x, scales) = (&x[r * 2 * pairs..][..2 * pairs], &scales[r * blocks..][..blocks]);
        for ((x, panel), &scale) in x.chunks(block).zip(panel.chunks(block * COLUMNS)).zip(scales) {
            let mut sums = [0i32; COLUMNS];
            for (x, columns) in x.chunks_exact(2).zip(panel.chunks_exact(2 * COLUMNS)) {
                let (even, odd) = (i32::from(x[0]), i32::from(x[1]));
                for (sum, w) in sums.iter_mut().zip(columns.chunks_exact(2)) {
                    // What a NaN was rounded to may overflow, here as in the other kernels; its scale is NaN too.
                    let pair = (even * i32::from(w[0])).wrapping_add(odd * i32::from(w[1]));
                    *sum = sum.wrapping_add(pair);
                }
            }
            for (out, &sum) in out.iter_mut().zip(&sums) {
                *out = scale.mul_add(sum as f32, *out);
            }
        }
    }
}

fn portable_narrow(Narrow { x, scales, panel, begin }: Narrow, fours: usize, blocks: usize, tile: &mut Tile) {
    for (r, out) in tile[..ROWS].iter_mut().enumerate() {
        *out = [0.0; COLUMNS];
        let (x, scales) = (&x[r * 4 * fours..][..4 * fours], &scales[r * blocks..][..blocks]);
        let panel = panel.chunks(BLOCK_NARROW * COLUMNS);
        for (((x, panel), &scale), &begin) in x.chunks(BLOCK_NARROW).zip(panel).zip(scales).zip(begin) {
            let mut sums = begin;
            for (x, columns) in x.chunks_exact(4).zip(panel.chunks_exact(4 * COLUMNS)) {
                for (sum, w) in sums.iter_mut().zip(columns.chunks_exact(4)) {
                    *sum += x.iter().zip(w).map(|(&x, &w)| i32::from(x) * i32::from(w)).sum::<i32>();
                }
            }
            for (out, &sum) in out.iter_mut().zip(&sums) {
                *out = scale.mul_add(sum as f32, *out);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    /// Values up to what [`super::super::pack`] lets through; every level that this CPU has, to the bit.
    #[test]
    fn levels_agree_to_the_bit() {
        let sizes = [1usize, 2, 14, 31, 32, 33, 64, 65, 200].map(|pairs| [(pairs, BLOCK), (pairs, BLOCK_NARROW)]);
        for (pairs, block) in sizes.into_iter().flatten() {
            let blocks = (2 * pairs).div_ceil(block);
            let mut random = Random::new(pairs as u64, 1);
            let mut below = |limit: usize| random.below(2 * limit + 1) as i32 - limit as i32;
            let x: Vec<i16> = (0..ROWS * 2 * pairs).map(|_| below(15_000 * BLOCK / block) as i16).collect();
            let panel: Vec<i16> = (0..2 * COLUMNS * pairs).map(|_| below(4_400) as i16).collect();
            let scales: Vec<f32> = (0..ROWS * blocks).map(|_| below(1000) as f32 * 1e-3).collect();
            let operands = Wide { x: &x, scales: &scales, panel: &panel, block };
            let run = |level| {
                let mut tile = NO_SUMS;
                multiply(level, operands, &mut tile);
                tile.map(|row| row.map(f32::to_bits))
            };
            let expected = run(Level::Portable);
            for level in Level::available() {
                assert!(run(level) == expected, "{level:?}, {pairs} pairs");
            }
            // The portable one against 64-bit sums.
            let exact = |r: usize, c: usize| {
                let sum = |s: usize| {
                    let inner = s * block..((s + 1) * block).min(2 * pairs);
                    let value = |k: usize| {
                        i64::from(x[r * 2 * pairs + k]) * i64::from(panel[(k / 2 * COLUMNS + c) * 2 + k % 2])
                    };
                    inner.map(value).sum::<i64>() as f64 * f64::from(scales[r * blocks + s])
                };
                (0..blocks).map(sum).sum::<f64>()
            };
            for (r, c) in [(0, 0), (ROWS - 1, COLUMNS - 1), (3, 17)] {
                let (got, exact) = (f64::from(f32::from_bits(expected[r][c])), exact(r, c));
                assert!((got - exact).abs() < 1e-6 * 1e7_f64.max(exact.abs()), "{got} {exact}");
            }
        }
    }
    /// 8-bit operands give the bits that the same integers give in 16 bits.
    #[test]
    fn narrow_is_wide_to_the_bit() {
        for blocks in [1usize, 2, 3, 12] {
            let inner = blocks * BLOCK_NARROW;
            let mut random = Random::new(blocks as u64, 2);
            let mut below = |limit: usize| random.below(2 * limit + 1) as i32 - limit as i32;
            let x: Vec<i16> = (0..ROWS * inner).map(|_| below(127) as i16).collect();
            let weights: Vec<i8> = (0..COLUMNS * inner).map(|_| below(127) as i8).collect(); // (COLUMNS, I)
            let scales: Vec<f32> = (0..ROWS * blocks).map(|_| below(1000) as f32 * 1e-3).collect();
            let layout = |step: usize| {
                let at = move |i: usize| (i / step % COLUMNS) * inner + i / (step * COLUMNS) * step + i % step;
                (0..COLUMNS * inner).map(|i| weights[at(i)]).collect::<Vec<i8>>()
            };
            let wide: Vec<i16> = layout(2).into_iter().map(i16::from).collect();
            let mut expected = NO_SUMS;
            multiply(
                Level::Portable,
                Wide { x: &x, scales: &scales, panel: &wide, block: BLOCK_NARROW },
                &mut expected,
            );
            let sum = |c: usize, s: usize| -> i32 {
                weights[c * inner..][s * BLOCK_NARROW..][..BLOCK_NARROW].iter().map(|&w| i32::from(w)).sum()
            };
            let begin: Vec<[i32; COLUMNS]> = (0..blocks).map(|s| std::array::from_fn(|c| -128 * sum(c, s))).collect();
            let (x, panel) = (x.iter().map(|x| (x + 128) as u8).collect::<Vec<_>>(), layout(4));
            let operands = Narrow { x: &x, scales: &scales, panel: &panel, begin: &begin };
            for level in Level::available() {
                let mut tile = NO_SUMS;
                multiply_narrow(level, operands, &mut tile);
                assert!(
                    tile.map(|row| row.map(f32::to_bits)) == expected.map(|row| row.map(f32::to_bits)),
                    "{level:?}"
                );
            }
        }
    }
}
