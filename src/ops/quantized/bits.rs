//! How finely weights and activations are rounded.

use super::tile::{BLOCK, BLOCK_NARROW};

/// Rows have a multiple of so many values.
pub(super) const STEP: usize = 16;
/// Largest absolute value of an activation rounded to 16 bits.
pub(super) const LARGEST: f32 = 15_000.0;
/// The same with 8 bits.
pub(super) const LARGEST_NARROW: f32 = 127.0;
/// 1.5 * 2^23: the low bits of a sum with it are the integer that the other side rounds to, ties to even.
pub(super) const ROUND: f32 = 12_582_912.0;

/// How finely weights and activations are rounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bits {
    Eight,
    Sixteen,
}

impl Bits {
    /// Inner values that share a scale.
    pub(super) fn block(self) -> usize {
        match self {
            Self::Eight => BLOCK_NARROW,
            Self::Sixteen => BLOCK,
        }
    }

    /// Largest absolute value of an activation.
    pub(super) fn largest(self) -> f32 {
        match self {
            Self::Eight => LARGEST_NARROW,
            Self::Sixteen => LARGEST,
        }
    }

    /// Values of a row of `inputs`, the last being zeros.
    pub(super) fn row_width(self, inputs: usize) -> usize {
        inputs.next_multiple_of(match self {
            Self::Eight => BLOCK_NARROW,
            Self::Sixteen => STEP,
        })
    }
}
