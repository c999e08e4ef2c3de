//! Activations to 16-bit or 8-bit integers, in blocks that share a scale.

use super::bits::{Bits, LARGEST_NARROW, ROUND, STEP};
use super::tile::BLOCK_NARROW;
use crate::simd::Level;

/// Activations below this in all of a block count as zero: their scale would be subnormal.
const TINY: f32 = 1e-30;
/// All bits but the sign. As integers, absolute values order as floats do, and NaN is the largest.
const ABSOLUTE: u32 = 0x7fff_ffff;

/// Rounds a row to `values`, with a scale for each block. A block with a value that is not
/// finite gets a scale that makes every sum NaN: nothing is hidden.
#[inline]
pub(super) fn quantise(level: Level, bits: Bits, row: &[f32], values: &mut [i16], scales: &mut [f32]) {
    let block = bits.block();
    assert!(row.len().is_multiple_of(STEP) && values.len() == row.len() && scales.len() == row.len().div_ceil(block));
    match level {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: this level is chosen only where the CPU has these instructions.
        Level::Avx512 | Level::Amx => unsafe { x86::avx512(bits, row, values, scales) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Level::Avx2 | Level::AvxVnni => unsafe { x86::avx2(bits, row, values, scales) },
        Level::Portable => portable(bits, row, values, scales, |bits| bits as i16),
    }
}

/// The same to 8 bits, 128 being added to every value.
#[inline]
pub(super) fn quantise_narrow(level: Level, row: &[f32], values: &mut [u8], scales: &mut [f32]) {
    assert!(row.len().is_multiple_of(BLOCK_NARROW) && values.len() == row.len());
    assert!(scales.len() == row.len() / BLOCK_NARROW);
    match level {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Level::Avx512 | Level::Amx => unsafe { x86::avx512_narrow(row, values, scales) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Level::AvxVnni => unsafe { x86::avx2_narrow(row, values, scales) },
        _ => portable(Bits::Eight, row, values, scales, |bits| bits as u8 ^ 0x80),
    }
}

fn portable<T>(bits: Bits, row: &[f32], values: &mut [T], scales: &mut [f32], from_bits: impl Fn(u32) -> T) {
    for ((block, values), scale) in row.chunks(bits.block()).zip(values.chunks_mut(bits.block())).zip(scales) {
        let inverse;
        (inverse, *scale) = scale_of(bits.largest(), block.iter().map(|x| x.to_bits() & ABSOLUTE).fold(0, u32::max));
        for (value, x) in values.iter_mut().zip(block) {
            *value = from_bits(x.mul_add(inverse, ROUND).to_bits());
        }
    }
}

/// What to multiply a block by, and its scale, where `most` is its largest absolute value's bits.
#[inline(always)]
fn scale_of(largest: f32, most: u32) -> (f32, f32) {
    let most = f32::from_bits(most);
    let inverse = if most < TINY { 0.0 } else { largest / most };
    (inverse, if most.is_finite() { most / largest } else { f32::NAN })
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{ABSOLUTE, BLOCK_NARROW, Bits, LARGEST_NARROW, ROUND, scale_of};
    use std::arch::x86_64::*;

    #[target_feature(enable = "avx512f")]
    pub(super) fn avx512(bits: Bits, row: &[f32], values: &mut [i16], scales: &mut [f32]) {
        for ((block, values), scale) in row.chunks(bits.block()).zip(values.chunks_mut(bits.block())).zip(scales) {
            let rounded;
            (rounded, *scale) = rounder(bits.largest(), block);
            for (values, x) in values.as_chunks_mut::<16>().0.iter_mut().zip(block.as_chunks::<16>().0) {
                // SAFETY: writes 16 values to an array of 16.
                unsafe { _mm256_storeu_si256(values.as_mut_ptr().cast(), _mm512_cvtepi32_epi16(rounded(x))) };
            }
        }
    }

    #[target_feature(enable = "avx512f")]
    pub(super) fn avx512_narrow(row: &[f32], values: &mut [u8], scales: &mut [f32]) {
        let sign = _mm512_set1_epi32(0x80);
        for ((block, values), scale) in row.chunks(BLOCK_NARROW).zip(values.chunks_mut(BLOCK_NARROW)).zip(scales) {
            let rounded;
            (rounded, *scale) = rounder(LARGEST_NARROW, block);
            for (values, x) in values.as_chunks_mut::<16>().0.iter_mut().zip(block.as_chunks::<16>().0) {
                let value = _mm512_cvtepi32_epi8(_mm512_xor_si512(rounded(x), sign));
                // SAFETY: writes 16 values to an array of 16.
                unsafe { _mm_storeu_si128(values.as_mut_ptr().cast(), value) };
            }
        }
    }

    /// What rounds 16 values of a block, in the low bits of each result, and the block's scale.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn rounder(largest: f32, block: &[f32]) -> (impl Fn(&[f32; 16]) -> __m512i, f32) {
        let (mask, round) = (_mm512_set1_epi32(ABSOLUTE as i32), _mm512_set1_ps(ROUND));
        // SAFETY: reads 16 values from an array of 16.
        let load = |x: &[f32; 16]| unsafe { _mm512_loadu_ps(x.as_ptr()) };
        let mut most = _mm512_setzero_si512();
        for x in block.as_chunks::<16>().0 {
            most = _mm512_max_epu32(most, _mm512_and_si512(_mm512_castps_si512(load(x)), mask));
        }
        let (inverse, scale) = scale_of(largest, _mm512_reduce_max_epu32(most));
        let inverse = _mm512_set1_ps(inverse);
        (move |x: &[f32; 16]| _mm512_castps_si512(_mm512_fmadd_ps(load(x), inverse, round)), scale)
    }

    #[target_feature(enable = "avx2,fma")]
    pub(super) fn avx2(bits: Bits, row: &[f32], values: &mut [i16], scales: &mut [f32]) {
        for ((block, values), scale) in row.chunks(bits.block()).zip(values.chunks_mut(bits.block())).zip(scales) {
            let rounded;
            (rounded, *scale) = rounder_16(bits.largest(), block);
            for (values, x) in values.as_chunks_mut::<16>().0.iter_mut().zip(block.as_chunks::<16>().0) {
                // SAFETY: writes 16 values to an array of 16.
                unsafe { _mm256_storeu_si256(values.as_mut_ptr().cast(), rounded(x)) };
            }
        }
    }

    #[target_feature(enable = "avx2,fma")]
    pub(super) fn avx2_narrow(row: &[f32], values: &mut [u8], scales: &mut [f32]) {
        let sign = _mm256_set1_epi8(i8::MIN);
        for ((block, values), scale) in row.chunks(BLOCK_NARROW).zip(values.chunks_mut(BLOCK_NARROW)).zip(scales) {
            let rounded;
            (rounded, *scale) = rounder_16(LARGEST_NARROW, block);
            for (values, x) in values.as_chunks_mut::<32>().0.iter_mut().zip(block.as_chunks::<32>().0) {
                let [low, high] = [0, 1].map(|half| rounded(&x.as_chunks::<16>().0[half]));
                let packed = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packs_epi16(low, high));
                // SAFETY: writes 32 values to an array of 32.
                unsafe { _mm256_storeu_si256(values.as_mut_ptr().cast(), _mm256_xor_si256(packed, sign)) };
            }
        }
    }

    /// What rounds 16 values of a block, and the block's scale.
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn rounder_16(largest: f32, block: &[f32]) -> (impl Fn(&[f32; 16]) -> __m256i, f32) {
        let (mask, round) = (_mm256_set1_epi32(ABSOLUTE as i32), _mm256_set1_ps(ROUND));
        // SAFETY: reads 8 values from an array of 8.
        let load = |x: &[f32; 8]| unsafe { _mm256_loadu_ps(x.as_ptr()) };
        let mut most = _mm256_setzero_si256();
        for x in block.as_chunks::<8>().0 {
            most = _mm256_max_epu32(most, _mm256_and_si256(_mm256_castps_si256(load(x)), mask));
        }
        let mut lanes = [0u32; 8];
        // SAFETY: writes 8 values to an array of 8.
        unsafe { _mm256_storeu_si256(lanes.as_mut_ptr().cast(), most) };
        let (inverse, scale) = scale_of(largest, lanes.into_iter().fold(0, u32::max));
        let inverse = _mm256_set1_ps(inverse);
        let rounded = move |x: &[f32; 16]| {
            // Without the bits of ROUND, the integer itself, which packing keeps as it fits 16 bits.
            let [low, high] = [0, 1].map(|half| {
                let bits = _mm256_castps_si256(_mm256_fmadd_ps(load(&x.as_chunks::<8>().0[half]), inverse, round));
                _mm256_sub_epi32(bits, _mm256_castps_si256(round))
            });
            _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packs_epi32(low, high))
        };
        (rounded, scale)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn run(level: Level, bits: Bits, row: &[f32]) -> (Vec<i16>, Vec<f32>) {
        let (mut values, mut scales) = (vec![i16::MAX; row.len()], vec![-1.0; row.len().div_ceil(bits.block())]);
        quantise(level, bits, row, &mut values, &mut scales);
        (values, scales)
    }

    fn run_narrow(level: Level, row: &[f32]) -> (Vec<i16>, Vec<f32>) {
        let (mut values, mut scales) = (vec![u8::MAX; row.len()], vec![-1.0; row.len() / BLOCK_NARROW]);
        quantise_narrow(level, row, &mut values, &mut scales);
        (values.into_iter().map(|v| i16::from(v) - 128).collect(), scales)
    }

    proptest! {
        #[test]
        fn rounding_is_to_the_nearest_on_every_level(steps in 1usize..17, seed in 0u64..1000, size in 1e-20f32..1e20) {
            let mut random = crate::random::Random::new(seed, 0);
            let row: Vec<f32> = (0..steps * STEP).map(|_| random.normal() as f32 * size).collect();
            for bits in [Bits::Sixteen, Bits::Eight] {
                let (values, scales) = run(Level::Portable, bits, &row);
                for (i, x) in row.iter().enumerate() {
                    let scale = scales[i / bits.block()];
                    prop_assert!(f32::from(values[i]).abs() <= bits.largest());
                    // Half a step, and what three roundings of 32-bit floats are of the largest value.
                    let half = 0.5 + 2.0 * f32::EPSILON * bits.largest();
                    prop_assert!((f32::from(values[i]) * scale - x).abs() <= half * scale, "{x} {}", values[i]);
                }
                let expected = (values, scales);
                for level in Level::available() {
                    prop_assert_eq!(&run(level, bits, &row), &expected, "{:?}", level);
                    if bits == Bits::Eight && row.len().is_multiple_of(BLOCK_NARROW) {
                        prop_assert_eq!(&run_narrow(level, &row), &expected, "{:?}", level);
                    }
                }
            }
        }
    }

    #[test]
    fn what_is_not_finite_is_not_hidden() {
        for level in Level::available() {
            for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                let mut row = vec![1f32; 3 * BLOCK_NARROW];
                row[BLOCK_NARROW + 6] = bad;
                for scales in [run(level, Bits::Sixteen, &row).1, run_narrow(level, &row).1] {
                    let (nan, finite): (Vec<f32>, Vec<f32>) = scales.iter().partition(|scale| scale.is_nan());
                    assert!(nan.len() == 1 && finite.iter().all(|&scale| scale > 0.0), "{level:?} {bad}");
                }
            }
            assert_eq!(run(level, Bits::Sixteen, &[-0.0; STEP]), (vec![0; STEP], vec![0.0]));
            assert_eq!(run_narrow(level, &[-0.0; BLOCK_NARROW]), (vec![0; BLOCK_NARROW], vec![0.0]));
        }
    }
}
