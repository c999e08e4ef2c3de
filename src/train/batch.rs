//! What goes through the network at once, and what is to be learned from it.

use super::loss::{Labels, Targets};
use candle_core::Tensor;

/// Pictures whose gradients are computed together. Fixed, so that results do not depend on the number of threads.
pub(super) const SHARD: usize = 8;

/// A shard's crops, and what is to be learned from them.
pub(super) struct Shard {
    /// The pictures, then their copies, `(side, side, 3)` each.
    pub crops: Vec<Vec<f32>>,
    pub side: usize,
    pub targets: Targets,
    /// Of the step's pictures.
    pub share: f64,
}

/// Shards that go through the network together, where it is.
pub(super) struct Batch {
    /// `(crops, side, side, 3)`
    pub pixels: Tensor,
    pub parts: Vec<Piece>,
}

/// One shard of a batch.
pub(super) struct Piece {
    pub crops: usize,
    pub share: f64,
    pub targets: Targets,
    pub labels: Labels,
}
