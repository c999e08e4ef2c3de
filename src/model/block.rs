//! The network's block: a scan in two dimensions, then an MLP.

use super::layers::{Layer, Linear, Norm};
use super::parameters::{Precision, Scope};
use super::ss2d::Ss2d;
use crate::ops::{Then, quantized};
use candle_core::{Result, Tensor};
use std::sync::Arc;

/// `x += SS2D(LN(x)); x += MLP(LN(x))` (`blocks.j`).
#[derive(Debug)]
pub(super) struct VssBlock {
    op: Ss2d,
    tail: Tail,
}

/// What follows the scan: `x += out_proj(y); x += fc2(fc1(x))`.
#[derive(Debug)]
enum Tail {
    Parts { out_proj: Layer, norm2: Norm, fc1: Layer, fc2: Layer },
    Fused(Arc<quantized::Tail>),
}

impl VssBlock {
    pub(super) fn new(mut scope: Scope, width: usize, window: Option<usize>) -> Result<Self> {
        let precision = scope.precision();
        let norm = Norm::new(scope.pp("norm"), width)?;
        let (op, out_proj) = Ss2d::new(scope.pp("op"), width, window, norm)?;
        let norm2 = Norm::new(scope.pp("norm2"), width)?;
        let fc1 = Layer::new(Linear::new(scope.pp("mlp").pp("fc1"), width, 4 * width)?);
        let fc1 = fc1.then_gelu();
        let fc2 = Layer::new(Linear::new(scope.pp("mlp").pp("fc2"), 4 * width, width)?);
        let tail = match precision {
            Precision::Exact => Tail::Parts { out_proj, norm2, fc1, fc2 },
            Precision::Standard | Precision::Fast => {
                let fc1 = fc1.after_norm(norm2);
                let [out_proj, fc1, fc2] = [out_proj, fc1, fc2].map(|layer| layer.fuse(precision));
                Tail::Fused(Arc::new(quantized::Tail::new(out_proj?, fc1?, fc2?)?))
            }
        };
        Ok(Self { op, tail })
    }

    /// `(B, H, W, C)` to the same.
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let y = self.op.forward(x)?;
        match &self.tail {
            Tail::Parts { out_proj, norm2, fc1, fc2 } => {
                let (x, normal) = norm2.forward_sum(x, &out_proj.forward(&y)?)?;
                fc2.product(&fc1.forward(&normal)?, Then::Add(&x))
            }
            Tail::Fused(tail) => tail.forward(&y, x, self.op.gives_blocks()),
        }
    }
}
