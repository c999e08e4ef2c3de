//! Fully connected layers and 3x3 convolutions for inference, with what stands around them in the same pass.
//!
//! Products are of 16-bit integers with a scale for each [`tile::BLOCK`] inner values: twice the rate of `f32` where the CPU
//! multiplies pairs of them (AVX-512 VNNI), or of 8-bit ones, four times the rate. They give the same bits on every CPU,
//! since sums of integers do not depend on their order. A task takes a few rows from their source to the result: normalised or gathered, rounded, multiplied, and then
//! bias, LayerNorm, GELU and residual while the rows are in the nearest cache.

mod pack;
mod round;
mod tile;

use super::activation::gelu_value;
use super::im2col::Geometry;
use super::norm::normalise;
use super::simd::{Level, dispatch};
use super::timing::{Part, Timer};
use super::{Values, operand, store};
use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Result, Shape, Tensor, bail};
pub(crate) use pack::Bits;
use pack::{Panel, Panels};
use rayon::prelude::*;
use round::{LARGEST, LARGEST_NARROW, quantise, quantise_narrow};
use std::cell::RefCell;
use std::sync::Arc;
use tile::{COLUMNS, Narrow, ROWS, Tile, Wide};

/// Most tiles of rows that one task takes.
const TILES: usize = 8;

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

/// `[LayerNorm or patches] -> product [+ bias] [-> LayerNorm] [-> GELU] [+ residual]`
#[derive(Debug)]
pub(crate) struct Quantized {
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
        Ok(Self { panels, bias: padded, input, norm: None, gelu: false })
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

    /// Applies the layer to `x`, plus `residual` of the result's shape. No gradient.
    pub(crate) fn forward(self: &Arc<Self>, x: &Tensor, residual: Option<&Tensor>) -> Result<Tensor> {
        let layer = Apply(Arc::clone(self));
        match residual {
            None => x.apply_op1_no_bwd(&layer),
            Some(residual) => x.apply_op2_no_bwd(residual, &layer),
        }
    }

    fn compute(&self, x: &[f32], layout: &Layout, residual: Option<(&[f32], &Layout)>) -> Result<(CpuStorage, Shape)> {
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
        if let Some((_, residual)) = residual
            && residual.shape() != &shape
        {
            bail!("quantized: residual {:?} with result {shape:?}", residual.shape());
        }
        let mut y = vec![0f32; shape.elem_count()];
        let tiles = (y.len() / outputs).div_ceil(ROWS);
        let rows = ROWS * tiles.div_ceil(rayon::current_num_threads()).clamp(1, TILES);
        y.par_chunks_mut(rows * outputs).enumerate().for_each(|(i, y)| {
            let residual = residual.map(|(values, _)| &values[i * rows * outputs..][..y.len()]);
            self.rows(x, geometry, i * rows, residual, y);
        });
        Ok((CpuStorage::F32(y), shape))
    }

    /// Rows of the result from the `first` on.
    fn rows(&self, x: &[f32], geometry: Option<Geometry>, first: usize, residual: Option<&[f32]>, y: &mut [f32]) {
        thread_local! {
            static SCRATCH: RefCell<Scratch> = const { RefCell::new(Scratch::new()) };
        }
        let (inputs, outputs) = (self.panels.inputs, self.panels.outputs);
        let (width, blocks) = (self.panels.row(), self.panels.blocks());
        let count = y.len() / outputs;
        let tiles = count.div_ceil(ROWS);
        let level = Level::current();
        let largest = if self.panels.bits == Bits::Eight { LARGEST_NARROW } else { LARGEST };
        let narrow = self.panels.narrow();
        SCRATCH.with_borrow_mut(|Scratch { row, wide: values, narrow: bytes, scales }| {
            row.clear();
            row.resize(width, 0.0);
            // Rows beyond the last keep what they had: their sums are not used.
            let size = tiles * ROWS * width;
            if narrow {
                bytes.resize(bytes.len().max(size), 0);
            } else {
                values.resize(values.len().max(size), 0);
            }
            scales.resize(scales.len().max(tiles * ROWS * blocks), 0.0);
            dispatch(
                #[inline(always)]
                || {
                    for i in 0..count {
                        let plain = &x[if geometry.is_some() { 0 } else { (first + i) * inputs }..];
                        let row = match (&self.input, geometry) {
                            (Input::Patches(_), Some(geometry)) => {
                                geometry.gather(x, first + i, &mut row[..inputs]);
                                &row[..]
                            }
                            (Input::Normalised(norm), _) => {
                                normalise(&plain[..inputs], &norm.weight, &norm.bias, row);
                                &row[..]
                            }
                            _ if width == inputs => &plain[..inputs],
                            _ => {
                                row[..inputs].copy_from_slice(&plain[..inputs]);
                                &row[..]
                            }
                        };
                        let (range, scales) = (i * width..(i + 1) * width, &mut scales[i * blocks..][..blocks]);
                        if narrow {
                            quantise_narrow(level, row, &mut bytes[range], scales);
                        } else {
                            quantise(level, largest, row, &mut values[range], scales);
                        }
                    }
                },
            );
            let mut tile: Tile = [[0.0; COLUMNS]; ROWS];
            for (p, (panel, columns)) in self.panels.iter().enumerate() {
                for t in 0..tiles {
                    let range = t * ROWS * width..(t + 1) * ROWS * width;
                    let scales = &scales[t * ROWS * blocks..][..ROWS * blocks];
                    match panel {
                        Panel::Wide(panel) => {
                            tile::multiply(level, Wide { x: &values[range], scales, panel }, &mut tile);
                        }
                        Panel::Narrow(panel, begin) => {
                            let operands = Narrow { x: &bytes[range], scales, panel, begin };
                            tile::multiply_narrow(level, operands, &mut tile);
                        }
                    }
                    let rows = t * ROWS..count.min((t + 1) * ROWS);
                    dispatch(
                        #[inline(always)]
                        || self.finish(&tile, p, columns, rows, residual, y),
                    );
                }
            }
        });
        if let Some(norm) = &self.norm {
            dispatch(
                #[inline(always)]
                || self.finish_normalised(norm, residual, y),
            );
        }
    }

    /// A tile's sums to results, or to what the norm takes.
    #[inline(always)]
    fn finish(
        &self,
        tile: &Tile,
        panel: usize,
        scales: &[f32; COLUMNS],
        rows: std::ops::Range<usize>,
        residual: Option<&[f32]>,
        y: &mut [f32],
    ) {
        let outputs = self.panels.outputs;
        let columns = panel * COLUMNS..outputs.min((panel + 1) * COLUMNS);
        let bias = &self.bias[panel];
        for (sums, row) in tile.iter().zip(rows) {
            let range = row * outputs + columns.start..row * outputs + columns.end;
            let mut out = [0f32; COLUMNS];
            for c in 0..COLUMNS {
                out[c] = sums[c].mul_add(scales[c], bias[c]);
            }
            if self.norm.is_none() {
                self.activate(&mut out, residual.map(|r| &r[range.clone()]));
            }
            store(&out, &mut y[range]);
        }
    }

    #[inline(always)]
    fn finish_normalised(&self, norm: &Norm, residual: Option<&[f32]>, y: &mut [f32]) {
        let outputs = self.panels.outputs;
        let mut row = vec![0f32; outputs];
        for (i, y) in y.chunks_exact_mut(outputs).enumerate() {
            row.copy_from_slice(y);
            normalise(&row, &norm.weight, &norm.bias, y);
            self.activate(y, residual.map(|r| &r[i * outputs..][..outputs]));
        }
    }

    #[inline(always)]
    fn activate(&self, y: &mut [f32], residual: Option<&[f32]>) {
        if self.gelu {
            y.iter_mut().for_each(|y| *y = gelu_value(*y));
        }
        if let Some(residual) = residual {
            y.iter_mut().zip(residual).for_each(|(y, r)| *y += r);
        }
    }
}

/// What a thread works with, kept from task to task.
struct Scratch {
    row: Vec<f32>,
    wide: Vec<i16>,
    narrow: Vec<u8>,
    scales: Vec<f32>,
}

impl Scratch {
    const fn new() -> Self {
        Self { row: Vec::new(), wide: Vec::new(), narrow: Vec::new(), scales: Vec::new() }
    }
}

/// The layer as candle calls it.
struct Apply(Arc<Quantized>);

const NAME: &str = "quantized";

impl CustomOp1 for Apply {
    fn name(&self) -> &'static str {
        NAME
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        self.0.compute(operand(NAME, storage, layout)?, layout, None)
    }
}

impl CustomOp2 for Apply {
    fn name(&self) -> &'static str {
        NAME
    }

    fn cpu_fwd(&self, sx: &CpuStorage, lx: &Layout, sr: &CpuStorage, lr: &Layout) -> Result<(CpuStorage, Shape)> {
        self.0.compute(operand(NAME, sx, lx)?, lx, Some((operand(NAME, sr, lr)?, lr)))
    }
}

#[cfg(test)]
mod tests;
