//! Activations to 16-bit integers, in blocks that share a scale.

use super::tile::BLOCK;
use crate::ops::simd::Level;

/// Rows have a multiple of so many values.
pub(super) const STEP: usize = 16;
/// Largest absolute value of a rounded activation.
pub(super) const LARGEST: f32 = 15_000.0;
/// Activations below this in all of a block count as zero: their scale would be subnormal.
const TINY: f32 = 1e-30;
/// 1.5 * 2^23: the low bits of a sum with it are the integer that the other side rounds to, ties to even.
pub(super) const ROUND: f32 = 12_582_912.0;
/// All bits but the sign. As integers, absolute values order as floats do, and NaN is the largest.
const ABSOLUTE: u32 = 0x7fff_ffff;

/// Rounds a row to `values`, with a scale for each block of [`BLOCK`]. A block with a value that is not finite gets a scale that
/// makes every sum NaN: nothing is hidden.
#[inline]
pub(super) fn quantise(level: Level, row: &[f32], values: &mut [i16], scales: &mut [f32]) {
    assert!(row.len().is_multiple_of(STEP) && values.len() == row.len() && scales.len() == row.len().div_ceil(BLOCK));
    match level {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: this level is chosen only where the CPU has these instructions.
        Level::Avx512 => unsafe { x86::avx512(row, values, scales) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Level::Avx2 => unsafe { x86::avx2(row, values, scales) },
        Level::Portable => {
            for ((block, values), scale) in row.chunks(BLOCK).zip(values.chunks_mut(BLOCK)).zip(scales) {
                let inverse;
                (inverse, *scale) = scale_of(block.iter().map(|x| x.to_bits() & ABSOLUTE).fold(0, u32::max));
                for (value, x) in values.iter_mut().zip(block) {
                    *value = x.mul_add(inverse, ROUND).to_bits() as i16;
                }
            }
        }
    }
}

/// What to multiply a block by, and its scale, where `most` is its largest absolute value's bits.
#[inline(always)]
fn scale_of(most: u32) -> (f32, f32) {
    let most = f32::from_bits(most);
    let inverse = if most < TINY { 0.0 } else { LARGEST / most };
    (inverse, if most.is_finite() { most / LARGEST } else { f32::NAN })
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{ABSOLUTE, BLOCK, ROUND, scale_of};
    use std::arch::x86_64::*;

    #[target_feature(enable = "avx512f")]
    pub(super) fn avx512(row: &[f32], values: &mut [i16], scales: &mut [f32]) {
        let (mask, round) = (_mm512_set1_epi32(ABSOLUTE as i32), _mm512_set1_ps(ROUND));
        // SAFETY: reads 16 values from an array of 16.
        let load = |x: &[f32; 16]| unsafe { _mm512_loadu_ps(x.as_ptr()) };
        for ((block, values), scale) in row.chunks(BLOCK).zip(values.chunks_mut(BLOCK)).zip(scales) {
            let block = block.as_chunks::<16>().0;
            let mut most = _mm512_setzero_si512();
            for x in block {
                most = _mm512_max_epu32(most, _mm512_and_si512(_mm512_castps_si512(load(x)), mask));
            }
            let inverse;
            (inverse, *scale) = scale_of(_mm512_reduce_max_epu32(most));
            let inverse = _mm512_set1_ps(inverse);
            for (values, x) in values.as_chunks_mut::<16>().0.iter_mut().zip(block) {
                let rounded = _mm512_castps_si512(_mm512_fmadd_ps(load(x), inverse, round));
                // SAFETY: writes 16 values to an array of 16.
                unsafe { _mm256_storeu_si256(values.as_mut_ptr().cast(), _mm512_cvtepi32_epi16(rounded)) };
            }
        }
    }

    #[target_feature(enable = "avx2,fma")]
    pub(super) fn avx2(row: &[f32], values: &mut [i16], scales: &mut [f32]) {
        let (mask, round) = (_mm256_set1_epi32(ABSOLUTE as i32), _mm256_set1_ps(ROUND));
        // SAFETY: reads 8 values from an array of 8.
        let load = |x: &[f32; 8]| unsafe { _mm256_loadu_ps(x.as_ptr()) };
        for ((block, values), scale) in row.chunks(BLOCK).zip(values.chunks_mut(BLOCK)).zip(scales) {
            let block = block.as_chunks::<8>().0;
            let mut most = _mm256_setzero_si256();
            for x in block {
                most = _mm256_max_epu32(most, _mm256_and_si256(_mm256_castps_si256(load(x)), mask));
            }
            let mut lanes = [0u32; 8];
            // SAFETY: writes 8 values to an array of 8.
            unsafe { _mm256_storeu_si256(lanes.as_mut_ptr().cast(), most) };
            let inverse;
            (inverse, *scale) = scale_of(lanes.into_iter().fold(0, u32::max));
            let inverse = _mm256_set1_ps(inverse);
            // Without the bits of ROUND, the integer itself, which packing keeps as it fits 16 bits.
            let round_8 = |x| {
                let bits = _mm256_castps_si256(_mm256_fmadd_ps(load(x), inverse, round));
                _mm256_sub_epi32(bits, _mm256_castps_si256(round))
            };
            for (values, x) in values.as_chunks_mut::<16>().0.iter_mut().zip(block.as_chunks::<2>().0) {
                let packed = _mm256_packs_epi32(round_8(&x[0]), round_8(&x[1]));
                // SAFETY: writes 16 values to an array of 16.
                unsafe {
                    _mm256_storeu_si256(values.as_mut_ptr().cast(), _mm256_permute4x64_epi64::<0b11_01_10_00>(packed))
                };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn run(level: Level, row: &[f32]) -> (Vec<i16>, Vec<f32>) {
        let (mut values, mut scales) = (vec![i16::MAX; row.len()], vec![-1.0; row.len().div_ceil(BLOCK)]);
        quantise(level, row, &mut values, &mut scales);
        (values, scales)
    }

    proptest! {
        #[test]
        fn rounding_is_to_the_nearest_on_every_level(steps in 1usize..15, seed in 0u64..1000, size in 1e-20f32..1e20) {
            let mut random = crate::random::Random::new(seed, 0);
            let row: Vec<f32> = (0..steps * STEP).map(|_| random.normal() as f32 * size).collect();
            let (values, scales) = run(Level::Portable, &row);
            for (i, x) in row.iter().enumerate() {
                let scale = scales[i / BLOCK];
                prop_assert!(f32::from(values[i]).abs() <= LARGEST);
                prop_assert!((f32::from(values[i]) * scale - x).abs() <= 0.501 * scale, "{x} {}", values[i]);
            }
            for level in Level::available() {
                prop_assert_eq!(&run(level, &row), &(values.clone(), scales.clone()), "{:?}", level);
            }
        }
    }

    #[test]
    fn what_is_not_finite_is_not_hidden() {
        for level in Level::available() {
            for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                let mut row = vec![1f32; 2 * BLOCK + STEP];
                row[BLOCK + 6] = bad;
                let scales = run(level, &row).1;
                assert!(scales[1].is_nan() && scales[0] > 0.0 && scales[2] > 0.0, "{level:?} {bad}");
            }
            assert_eq!(run(level, &[-0.0; STEP]), (vec![0; STEP], vec![0.0]));
        }
    }
}
