//! Products of bytes on the matrix unit that Intel's server CPUs have since Sapphire Rapids (AMX): 16 rows at once.
//!
//! The unit's sums are those of VNNI, 32-bit integers, so results are the same to the bit. Its tiles are registers that a
//! thread configures before it uses them; the kernel hands a process their room only when asked.

use super::tile::{BLOCK_NARROW, COLUMNS, Narrow, Tile};
use std::arch::asm;
use std::arch::x86_64::*;
use std::marker::PhantomData;

#[cfg(all(test, target_os = "linux"))]
pub(super) mod emulator;

/// Rows of a product, and of every tile.
pub(super) const ROWS: usize = 16;
/// Bytes of a tile's row.
const ROW_BYTES: usize = 64;
const _: () = assert!(ROW_BYTES == BLOCK_NARROW && 2 * ROW_BYTES == 4 * COLUMNS);

/// Tiles of this thread, configured for [`multiply`] while it lives.
pub(super) struct Tiles(PhantomData<*const ()>); // of one thread: neither Send nor Sync

#[repr(C, align(64))]
struct Configuration {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

impl Tiles {
    /// # Safety
    /// [`permitted`](crate::simd::amx::permitted) is true.
    pub(super) unsafe fn configure() -> Self {
        let mut configuration =
            Configuration { palette: 1, start_row: 0, reserved: [0; 14], row_bytes: [0; 16], rows: [0; 16] };
        configuration.row_bytes[..8].fill(ROW_BYTES as u16);
        configuration.rows[..8].fill(ROWS as u8);
        // SAFETY: the CPU has the instruction, by what is promised; it reads 64 bytes, which the configuration has.
        unsafe {
            asm!("ldtilecfg [{}]", in(reg) &raw const configuration, options(readonly, nostack, preserves_flags))
        };
        Self(PhantomData)
    }

    /// As [`multiply_narrow`](super::tile::multiply_narrow), for [`ROWS`] rows.
    pub(super) fn multiply(&self, operands: Narrow, tile: &mut Tile) {
        let blocks = operands.begin.len();
        let stride = blocks * BLOCK_NARROW;
        assert!(operands.panel.len() == COLUMNS * stride && operands.x.len() == ROWS * stride);
        assert!(operands.scales.len() == ROWS * blocks);
        let mut sums = Sums([[0; COLUMNS]; ROWS]);
        tile[..ROWS].fill([0.0; COLUMNS]);
        for block in 0..blocks {
            let (x, panel) = (&operands.x[block * BLOCK_NARROW..], &operands.panel[block * BLOCK_NARROW * COLUMNS..]);
            // SAFETY: the tiles are configured, since `self` exists. Of `x` 16 rows of 64 bytes are read, `stride` apart, the last
            // of which ends with the block; of `panel` one block, which is 16 rows of 128 bytes; of `begin` one row, 16 times;
            // `sums` has 16 rows of 128 bytes.
            unsafe {
                asm!(
                    "tileloadd tmm0, [{begin} + {zero}]",
                    "tileloadd tmm1, [{begin} + {zero} + 64]",
                    "tileloadd tmm2, [{x} + {stride}]",
                    "tileloadd tmm3, [{panel} + {row}]",
                    "tileloadd tmm4, [{panel} + {row} + 64]",
                    "tdpbusd tmm0, tmm2, tmm3",
                    "tdpbusd tmm1, tmm2, tmm4",
                    "tilestored [{sums} + {row}], tmm0",
                    "tilestored [{sums} + {row} + 64], tmm1",
                    begin = in(reg) operands.begin[block].as_ptr(),
                    x = in(reg) x.as_ptr(),
                    panel = in(reg) panel.as_ptr(),
                    sums = in(reg) sums.0.as_mut_ptr(),
                    zero = in(reg) 0usize,
                    stride = in(reg) stride,
                    row = in(reg) 4 * COLUMNS,
                    out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _, out("tmm4") _,
                    options(nostack, preserves_flags),
                );
                add_scaled(&sums, operands.scales, block, blocks, tile);
            }
        }
    }
}

impl Drop for Tiles {
    fn drop(&mut self) {
        // SAFETY: the CPU has the instruction, since `self` exists; nothing else of this thread uses tiles.
        unsafe { asm!("tilerelease", options(nomem, nostack, preserves_flags)) };
    }
}

#[repr(align(64))]
struct Sums([[i32; COLUMNS]; ROWS]);

/// `tile[r] += scales[r, block] sums[r]`
///
/// # Safety
/// The CPU has these instructions, as all with AMX do.
#[target_feature(enable = "avx512f")]
fn add_scaled(sums: &Sums, scales: &[f32], block: usize, blocks: usize, tile: &mut Tile) {
    for (r, (sums, tile)) in sums.0.iter().zip(tile).enumerate() {
        let scale = _mm512_set1_ps(scales[r * blocks + block]);
        for (sums, out) in sums.as_chunks::<16>().0.iter().zip(tile.as_chunks_mut::<16>().0) {
            // SAFETY: both are arrays of 16.
            unsafe {
                let sums = _mm512_cvtepi32_ps(_mm512_loadu_si512(sums.as_ptr().cast()));
                let sum = _mm512_fmadd_ps(scale, sums, _mm512_loadu_ps(out.as_ptr()));
                _mm512_storeu_ps(out.as_mut_ptr(), sum);
            }
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::super::tile::{NO_SUMS, Unit};
    use super::*;
    use crate::random::Random;
    use crate::simd::Level;

    /// The unit against the portable product, to the bit: the CPU's own where it has one.
    #[test]
    fn agrees_with_vectors_to_the_bit() {
        if !Level::available().contains(&Level::Avx512) {
            println!("skipped: what stands around the matrix unit is AVX-512");
            return;
        }
        emulator::install_if_needed();
        for blocks in [1usize, 2, 3, 12, 24] {
            let inner = blocks * BLOCK_NARROW;
            let mut random = Random::new(blocks as u64, 3);
            let x: Vec<u8> = (0..ROWS * inner).map(|_| random.below(256) as u8).collect();
            let panel: Vec<i8> = (0..COLUMNS * inner).map(|_| random.below(255) as i8).collect();
            let scales: Vec<f32> = (0..ROWS * blocks).map(|_| random.normal() as f32).collect();
            let begin: Vec<[i32; COLUMNS]> =
                (0..blocks).map(|_| std::array::from_fn(|_| random.below(1 << 20) as i32 - (1 << 19))).collect();
            let mut got = NO_SUMS;
            {
                // SAFETY: the CPU or the emulator has the instructions.
                let tiles = unsafe { Tiles::configure() };
                tiles.multiply(Narrow { x: &x, scales: &scales, panel: &panel, begin: &begin }, &mut got);
            }
            let vectors = Unit::Vectors(Level::Portable);
            let height = vectors.rows();
            // Its last rows overlap those before.
            for first in [0, height, ROWS - height] {
                let (x, scales) = (&x[first * inner..][..height * inner], &scales[first * blocks..][..height * blocks]);
                let mut expected = NO_SUMS;
                vectors.multiply(Narrow { x, scales, panel: &panel, begin: &begin }, &mut expected);
                for (got, expected) in got[first..].iter().zip(&expected[..height]) {
                    assert!(got.map(f32::to_bits) == expected.map(f32::to_bits), "{blocks} blocks, from row {first}");
                }
            }
        }
    }
}
