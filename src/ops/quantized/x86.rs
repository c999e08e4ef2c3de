//! The innermost product on x86-64.

use super::tile::{BLOCK_NARROW, COLUMNS, Narrow, ROWS, Tile, Wide};
use std::arch::x86_64::*;

/// Two vectors of columns for six rows: 12 independent sums hide the latency of a multiply-add, and with as many float
/// sums they still fit the 32 registers.
///
/// # Safety
/// The CPU has these instructions; `x` has `ROWS * 2 * pairs` values, `panel` `2 * COLUMNS * pairs`, `scales`
/// `ROWS * blocks`.
#[target_feature(enable = "avx512f,avx512vnni")]
pub(super) unsafe fn avx512(operands: Wide, pairs: usize, blocks: usize, tile: &mut Tile) {
    let (x, panel) = (operands.x.as_ptr().cast::<i32>(), operands.panel.as_ptr().cast::<i32>());
    let half_block = operands.block / 2;
    let mut floats = [[_mm512_setzero_ps(); 2]; ROWS];
    for block in 0..blocks {
        let mut sums = [[_mm512_setzero_si512(); 2]; ROWS];
        for pair in block * half_block..((block + 1) * half_block).min(pairs) {
            // SAFETY: `pair < pairs`, so all reads are within the lengths promised; unaligned reads are allowed.
            let w = unsafe {
                let w = panel.add(pair * COLUMNS);
                [_mm512_loadu_si512(w.cast()), _mm512_loadu_si512(w.add(16).cast())]
            };
            for r in 0..ROWS {
                // SAFETY: as above.
                let x = _mm512_set1_epi32(unsafe { x.add(r * pairs + pair).read_unaligned() });
                sums[r] = [_mm512_dpwssd_epi32(sums[r][0], w[0], x), _mm512_dpwssd_epi32(sums[r][1], w[1], x)];
            }
        }
        for r in 0..ROWS {
            let scale = _mm512_set1_ps(operands.scales[r * blocks + block]);
            for j in 0..2 {
                floats[r][j] = _mm512_fmadd_ps(scale, _mm512_cvtepi32_ps(sums[r][j]), floats[r][j]);
            }
        }
    }
    write(floats, tile);
}

/// As [`avx512`], with four inner values in a step.
///
/// # Safety
/// The CPU has these instructions; `x` has `ROWS * BLOCK_NARROW * blocks` values, `panel` `COLUMNS * BLOCK_NARROW *
/// blocks`, `scales` `ROWS * blocks` and `begin` `blocks`.
#[target_feature(enable = "avx512f,avx512vnni")]
pub(super) unsafe fn avx512_narrow(operands: Narrow, blocks: usize, tile: &mut Tile) {
    let fours = blocks * (BLOCK_NARROW / 4);
    let (x, panel) = (operands.x.as_ptr().cast::<i32>(), operands.panel.as_ptr().cast::<i32>());
    let mut floats = [[_mm512_setzero_ps(); 2]; ROWS];
    for block in 0..blocks {
        let begin = operands.begin[block].as_ptr();
        // SAFETY: reads the two vectors that a panel is wide.
        let begin = unsafe { [_mm512_loadu_si512(begin.cast()), _mm512_loadu_si512(begin.add(16).cast())] };
        let mut sums = [begin; ROWS];
        for four in block * (BLOCK_NARROW / 4)..(block + 1) * (BLOCK_NARROW / 4) {
            // SAFETY: `four < fours`, so all reads are within the lengths promised; unaligned reads are allowed.
            let w = unsafe {
                let w = panel.add(four * COLUMNS);
                [_mm512_loadu_si512(w.cast()), _mm512_loadu_si512(w.add(16).cast())]
            };
            for r in 0..ROWS {
                // SAFETY: as above.
                let x = _mm512_set1_epi32(unsafe { x.add(r * fours + four).read_unaligned() });
                sums[r] = [_mm512_dpbusd_epi32(sums[r][0], x, w[0]), _mm512_dpbusd_epi32(sums[r][1], x, w[1])];
            }
        }
        for r in 0..ROWS {
            let scale = _mm512_set1_ps(operands.scales[r * blocks + block]);
            for j in 0..2 {
                floats[r][j] = _mm512_fmadd_ps(scale, _mm512_cvtepi32_ps(sums[r][j]), floats[r][j]);
            }
        }
    }
    write(floats, tile);
}

#[inline]
#[target_feature(enable = "avx512f")]
fn write(floats: [[__m512; 2]; ROWS], tile: &mut Tile) {
    for (floats, row) in floats.into_iter().zip(tile) {
        for (j, floats) in floats.into_iter().enumerate() {
            // SAFETY: a tile's row has room for two vectors.
            unsafe { _mm512_storeu_ps(row.as_mut_ptr().add(16 * j), floats) };
        }
    }
}

/// Kernels of 256-bit vectors. They take half a panel at a time, so that the integer sums stay in registers; the float sums
/// are in the tile. `$values` is how many inner values a step takes, `$begin` where sums begin, and `$step` a step.
macro_rules! by_halves {
    ($name:ident, $features:literal, $operands:ty, $values:literal, $block:expr, $begin:expr, $step:expr) => {
        /// # Safety
        /// The CPU has these instructions; the operands have the lengths that [`super::tile`] asserts.
        #[target_feature(enable = $features)]
        pub(super) unsafe fn $name(operands: $operands, steps: usize, blocks: usize, tile: &mut Tile) {
            let (x, panel) = (operands.x.as_ptr().cast::<i32>(), operands.panel.as_ptr().cast::<i32>());
            let in_block = $block(&operands) / $values;
            tile[..ROWS].fill([0.0; COLUMNS]);
            for (block, half) in (0..blocks).flat_map(|block| [(block, 0), (block, 16)]) {
                let mut sums = [$begin(&operands, block, half); ROWS];
                for step in block * in_block..((block + 1) * in_block).min(steps) {
                    // SAFETY: `step < steps`, so all reads are within the lengths promised; unaligned reads are allowed.
                    let w = unsafe {
                        let w = panel.add(step * COLUMNS + half);
                        [_mm256_loadu_si256(w.cast()), _mm256_loadu_si256(w.add(8).cast())]
                    };
                    for r in 0..ROWS {
                        // SAFETY: as above.
                        let x = _mm256_set1_epi32(unsafe { x.add(r * steps + step).read_unaligned() });
                        for j in 0..2 {
                            sums[r][j] = $step(sums[r][j], w[j], x);
                        }
                    }
                }
                for r in 0..ROWS {
                    let scale = _mm256_set1_ps(operands.scales[r * blocks + block]);
                    for j in 0..2 {
                        // SAFETY: columns `half + 8 j` to `half + 8 j + 7` are within a tile's row.
                        unsafe {
                            let out = tile[r].as_mut_ptr().add(half + 8 * j);
                            let sum = _mm256_fmadd_ps(scale, _mm256_cvtepi32_ps(sums[r][j]), _mm256_loadu_ps(out));
                            _mm256_storeu_ps(out, sum);
                        }
                    }
                }
            }
        }
    };
}

by_halves!(
    avx2,
    "avx2,fma",
    Wide,
    2,
    |operands: &Wide| operands.block,
    |_: &Wide, _, _| [_mm256_setzero_si256(); 2],
    |sum, w, x| _mm256_add_epi32(sum, _mm256_madd_epi16(w, x))
);
by_halves!(
    avx_vnni,
    "avx2,fma,avxvnni",
    Wide,
    2,
    |operands: &Wide| operands.block,
    |_: &Wide, _, _| [_mm256_setzero_si256(); 2],
    |sum, w, x| _mm256_dpwssd_avx_epi32(sum, w, x)
);
by_halves!(
    avx_vnni_narrow,
    "avx2,fma,avxvnni",
    Narrow,
    4,
    |_: &Narrow| BLOCK_NARROW,
    |operands: &Narrow, block: usize, half: usize| {
        let begin = operands.begin[block][half..half + 16].as_ptr();
        // SAFETY: reads the 16 values that the slice has.
        unsafe { [_mm256_loadu_si256(begin.cast()), _mm256_loadu_si256(begin.add(8).cast())] }
    },
    |sum, w, x| _mm256_dpbusd_avx_epi32(sum, x, w)
);
