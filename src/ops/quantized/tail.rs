//! What follows the scan in a block, in one pass: `x = residual + out(y)`, then `x + second(first(x))`.
//!
//! All of it goes row by row, so a task takes its rows through all three layers while they are in cache. The widest
//! activation of the network, what is between `first` and `second`, is never written to memory.

use super::{Quantized, Source, Sum, task_rows};
use crate::ops::operand;
use crate::ops::selective_scan::BLOCK;
use crate::ops::timing::{Part, Timer};
use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;
use std::cell::RefCell;
use std::sync::Arc;

const NAME: &str = "tail";

/// Three layers: `out` `(D -> C)`, `first` `(C -> H)`, `second` `(H -> C)`.
#[derive(Debug)]
pub(crate) struct Tail {
    out: Quantized,
    first: Quantized,
    second: Quantized,
}

impl Tail {
    /// # Errors
    /// Layers that do not follow one another.
    pub(crate) fn new(out: Quantized, first: Quantized, second: Quantized) -> Result<Self> {
        let (c, hidden) = (out.panels.outputs, first.panels.outputs);
        let fits = first.panels.inputs == c && second.panels.inputs == hidden && second.panels.outputs == c;
        let by_row = [&out, &first, &second].iter().all(|layer| !layer.takes_patches());
        if !fits || !by_row || second.norm.is_some() {
            bail!("{NAME}: {out:?}, {first:?} and {second:?} do not follow one another");
        }
        Ok(Self { out, first, second })
    }

    /// `y` `(..., D)`, or in the [blocks](crate::ops::selective_scan_blocks) of a scan, and `residual` `(..., C)` to the shape of
    /// the residual. No gradient.
    pub(crate) fn forward(self: &Arc<Self>, y: &Tensor, residual: &Tensor, blocks: bool) -> Result<Tensor> {
        y.apply_op2_no_bwd(residual, &Apply { tail: Arc::clone(self), blocks })
    }

    fn rows(&self, y: Source, residual: &[f32], result: &mut [f32]) {
        thread_local! {
            static HIDDEN: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
        }
        HIDDEN.with_borrow_mut(|hidden| {
            let size = result.len() / self.out.panels.outputs * self.first.panels.outputs;
            hidden.resize(hidden.len().max(size), 0.0);
            self.out.rows(y, Sum::Rows(residual), result);
            self.first.rows(Source::Rows(result), Sum::Nothing, &mut hidden[..size]);
            self.second.rows(Source::Rows(hidden), Sum::Result, result);
        });
    }
}

struct Apply {
    tail: Arc<Tail>,
    blocks: bool,
}

impl CustomOp2 for Apply {
    fn name(&self) -> &'static str {
        NAME
    }

    fn cpu_fwd(&self, sy: &CpuStorage, ly: &Layout, sr: &CpuStorage, lr: &Layout) -> Result<(CpuStorage, Shape)> {
        let _timer = Timer::of(Part::Linear);
        let (y, residual) = (operand(NAME, sy, ly)?, operand(NAME, sr, lr)?);
        let tail = &self.tail;
        let (d, c) = (tail.out.panels.inputs, tail.out.panels.outputs);
        let count = residual.len() / c;
        let tokens = match ly.dims() {
            [.., width] if !self.blocks && *width == d && y.len() == count * d => None,
            &[batch, blocks, tokens, BLOCK]
                if self.blocks && blocks == d.div_ceil(BLOCK) && batch * tokens == count =>
            {
                Some(tokens)
            }
            dims => bail!("{NAME}: y {dims:?} and residual {:?} with {d} and {c} channels", lr.shape()),
        };
        if lr.dims().last() != Some(&c) {
            bail!("{NAME}: residual {:?} with {c} channels", lr.shape());
        }
        let mut result = vec![0f32; residual.len()];
        let rows = task_rows(count, [&tail.out, &tail.first, &tail.second]);
        let tasks = result.par_chunks_mut(rows * c).zip(residual.par_chunks(rows * c)).enumerate();
        tasks.for_each(|(i, (result, residual))| {
            let first = i * rows;
            let source = match tokens {
                Some(tokens) => Source::Blocks { y, tokens, first },
                None => Source::Rows(&y[first * d..]),
            };
            tail.rows(source, residual, result);
        });
        Ok((CpuStorage::F32(result), lr.shape().clone()))
    }
}
