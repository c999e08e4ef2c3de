//! Fully connected layers and 3x3 convolutions for inference, with what stands around them in the same pass.
//!
//! Products are of 16-bit integers with a scale for each [`tile::BLOCK`] inner values: twice the rate of `f32` where the CPU
//! multiplies pairs of them (AVX-512 VNNI), or of 8-bit ones, four times the rate. They give the same bits on every CPU,
//! since sums of integers do not depend on their order. A task takes a few
//! rows from their source to the result: normalised or gathered, rounded, multiplied, and then bias, LayerNorm and GELU while
//! the rows are in the nearest cache; [`Tail`] takes them through three layers.

#[cfg(target_arch = "x86_64")]
mod amx;
mod bits;
mod pack;
mod round;
mod rows;
mod tail;
mod tile;
#[cfg(target_arch = "x86_64")]
mod x86;

use super::im2col::Geometry;
use super::timing::{Part, Timer};
use super::{Values, operand};
use crate::simd::Level;
pub(crate) use bits::Bits;
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};
use pack::Panels;
use rayon::prelude::*;
use rows::{Source, Sum};
use std::sync::Arc;
pub(crate) use tail::Tail;
use tile::{COLUMNS, ROWS};

/// Most rows that one task takes, whole tiles of every kind.
const MOST_ROWS: usize = 48;

/// Where a product's rows come from.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Input {
    /// The rows of `x` `(..., I)` as they are.
    Plain,
    /// The same after LayerNorm.
    Normalised(Norm),
    /// The 3x3 neighbourhoods of `x` `(B, H, W, I / 9)`, a stride apart; the result is `(B, H', W', O)`.
    Patches(usize),
}

/// LayerNorm's parameters.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Norm {
    weight: Vec<f32>,
    bias: Vec<f32>,
}

impl Norm {
    pub(crate) fn new(weight: &Tensor, bias: &Tensor) -> Result<Self> {
        Ok(Self { weight: weight.to_vec1()?, bias: bias.to_vec1()? })
    }
}

/// `[LayerNorm or patches] -> product [+ bias] [-> LayerNorm] [-> GELU]`
#[derive(Debug)]
pub(crate) struct Quantized {
    level: Level,
    panels: Panels,
    /// One for each column of every panel.
    bias: Vec<[f32; COLUMNS]>,
    input: Input,
    norm: Option<Norm>,
    gelu: bool,
}

impl Quantized {
    /// Prepares `weight` `(O, I)` and `bias` `(O,)`.
    ///
    /// # Errors
    /// Shapes that do not fit together.
    pub(crate) fn new(weight: &Tensor, bias: Option<&Tensor>, input: Input, bits: Bits) -> Result<Self> {
        Self::at(Level::current(), weight, bias, input, bits)
    }

    fn at(level: Level, weight: &Tensor, bias: Option<&Tensor>, input: Input, bits: Bits) -> Result<Self> {
        let (outputs, inputs) = weight.dims2()?;
        let weight = weight.contiguous()?;
        let bias: Vec<f32> = bias.map_or(Ok(vec![0.0; outputs]), Tensor::to_vec1)?;
        let fits = match &input {
            Input::Plain => true,
            Input::Normalised(norm) => norm.weight.len() == inputs && norm.bias.len() == inputs,
            Input::Patches(stride) => inputs % 9 == 0 && *stride > 0,
        };
        if !fits || bias.len() != outputs || inputs * outputs == 0 {
            bail!("quantized: weight {:?} with bias of {} and input {input:?}", weight.shape(), bias.len());
        }
        let panels = Panels::new(&Values::of("quantized", &weight)?, outputs, inputs, bits, level);
        let mut padded = vec![[0f32; COLUMNS]; outputs.div_ceil(COLUMNS)];
        bias.iter().enumerate().for_each(|(o, &b)| padded[o / COLUMNS][o % COLUMNS] = b);
        Ok(Self { level, panels, bias: padded, input, norm: None, gelu: false })
    }

    /// The same, its result normalised.
    pub(crate) fn with_norm(self, norm: Norm) -> Result<Self> {
        if norm.weight.len() != self.panels.outputs || norm.bias.len() != self.panels.outputs {
            bail!("quantized: {} outputs with a norm of {}", self.panels.outputs, norm.weight.len());
        }
        Ok(Self { norm: Some(norm), ..self })
    }

    /// The same, with GELU after the product or the norm.
    pub(crate) fn with_gelu(self) -> Self {
        Self { gelu: true, ..self }
    }

    fn takes_patches(&self) -> bool {
        matches!(self.input, Input::Patches(_))
    }

    /// Applies the layer to `x`. No gradient.
    pub(crate) fn forward(self: &Arc<Self>, x: &Tensor) -> Result<Tensor> {
        x.apply_op1_no_bwd(&Apply(Arc::clone(self)))
    }

    fn compute(&self, x: &[f32], layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let _timer = Timer::of(Part::Linear);
        let (inputs, outputs) = (self.panels.inputs, self.panels.outputs);
        let (geometry, shape) = match (&self.input, layout.dims()) {
            (Input::Patches(stride), dims @ &[batch, .., channels]) if 9 * channels == inputs => {
                let geometry = Geometry::new(dims, *stride)?;
                (Some(geometry), vec![batch, geometry.out_height, geometry.out_width, outputs])
            }
            (Input::Plain | Input::Normalised(_), [leading @ .., width]) if *width == inputs => {
                (None, [leading, &[outputs]].concat())
            }
            (_, dims) => bail!("quantized: x {dims:?} with {inputs} inputs"),
        };
        let shape = Shape::from(shape);
        let mut y = vec![0f32; shape.elem_count()];
        let rows = task_rows(y.len() / outputs, [self]);
        y.par_chunks_mut(rows * outputs).enumerate().for_each(|(i, y)| {
            let first = i * rows;
            let source = match geometry {
                Some(geometry) => Source::Patches { x, geometry, first },
                None => Source::Rows(&x[first * inputs..]),
            };
            self.rows(source, Sum::Nothing, y);
        });
        Ok((CpuStorage::F32(y), shape))
    }
}

/// Rows that one task takes of `rows`: few, so that every thread has some and what a task makes of them stays in cache; whole
/// tiles of all layers that it takes them through, as far as these agree.
fn task_rows<'a>(rows: usize, layers: impl IntoIterator<Item = &'a Quantized>) -> usize {
    let tile = layers.into_iter().map(|layer| layer.panels.tile_rows(layer.level)).max().unwrap_or(ROWS);
    tile * rows.div_ceil(tile).div_ceil(rayon::current_num_threads()).clamp(1, MOST_ROWS / tile)
}

/// The layer as candle calls it.
struct Apply(Arc<Quantized>);

const NAME: &str = "quantized";

impl CustomOp1 for Apply {
    fn name(&self) -> &'static str {
        NAME
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        self.0.compute(operand(NAME, storage, layout)?, layout)
    }
}

#[cfg(test)]
mod tests;
