//! A few rows through a layer, from their source to the result.

use super::bits::Bits;
use super::pack::Panel;
use super::round::{quantise, quantise_narrow};
use super::tile::{self, COLUMNS, NO_SUMS, Narrow, Tile, Unit, Wide};
use super::{Input, Norm, Quantized};
use crate::ops::activation::{gelu_rough, gelu_value};
use crate::ops::im2col::Geometry;
use crate::ops::norm::normalise;
use crate::ops::selective_scan::BLOCK;
use crate::ops::store;
use crate::simd::dispatch;
use std::cell::RefCell;

/// Where rows come from.
#[derive(Clone, Copy)]
pub(super) enum Source<'a> {
    /// `(rows, I)`
    Rows(&'a [f32]),
    /// Rows from the `first` on of `y` in the [blocks](crate::ops::selective_scan_blocks) of a scan over so many tokens.
    Blocks { y: &'a [f32], tokens: usize, first: usize },
    /// The neighbourhoods of a whole map `x`, from the `first` on.
    Patches { x: &'a [f32], geometry: Geometry, first: usize },
}

/// One row of a [`Source`].
enum RowSource<'a> {
    Row(&'a [f32]),
    Patch { x: &'a [f32], geometry: Geometry, pixel: usize },
}

/// Row `first` of all blocks of its image, one after the other.
#[inline(always)]
fn gather_blocks(y: &[f32], tokens: usize, row: usize, out: &mut [f32]) {
    let (image, token) = (row / tokens, row % tokens);
    let y = &y[image * out.len() * tokens..][..out.len() * tokens];
    for (out, block) in out.as_chunks_mut::<BLOCK>().0.iter_mut().zip(y.chunks_exact(tokens * BLOCK)) {
        out.copy_from_slice(&block[token * BLOCK..][..BLOCK]);
    }
}

/// What is added to a layer's result.
#[derive(Clone, Copy)]
pub(super) enum Sum<'a> {
    Nothing,
    /// Rows of the result's shape.
    Rows(&'a [f32]),
    /// What stands where the result goes; not after a norm.
    Result,
}

impl Quantized {
    /// As many rows of the result as `y` has room for.
    pub(super) fn rows(&self, source: Source, sum: Sum, y: &mut [f32]) {
        thread_local! {
            static SCRATCH: RefCell<Scratch> = const { RefCell::new(Scratch::new()) };
        }
        let (inputs, outputs) = (self.panels.inputs, self.panels.outputs);
        let (width, blocks) = (self.panels.row(), self.panels.blocks());
        let count = y.len() / outputs;
        let (level, bits, narrow) = (self.level, self.panels.bits, self.panels.narrow());
        let unit = if narrow { Unit::for_bytes(level) } else { Unit::Vectors(level) };
        let height = unit.rows();
        let tiles = count.div_ceil(height);
        SCRATCH.with_borrow_mut(|Scratch { gathered, row, wide: values, narrow: bytes, scales }| {
            row.clear();
            row.resize(width, 0.0);
            gathered.resize(inputs.next_multiple_of(BLOCK), 0.0);
            // Rows beyond the last keep what they had: their sums are not used.
            let size = tiles * height * width;
            if narrow {
                bytes.resize(bytes.len().max(size), 0);
            } else {
                values.resize(values.len().max(size), 0);
            }
            scales.resize(scales.len().max(tiles * height * blocks), 0.0);
            dispatch(
                #[inline(always)]
                || {
                    for i in 0..count {
                        let source = match source {
                            Source::Blocks { y, tokens, first } => {
                                gather_blocks(y, tokens, first + i, gathered);
                                RowSource::Row(&gathered[..inputs])
                            }
                            Source::Rows(x) => RowSource::Row(&x[i * inputs..][..inputs]),
                            Source::Patches { x, geometry, first } => {
                                RowSource::Patch { x, geometry, pixel: first + i }
                            }
                        };
                        let row = match (source, &self.input) {
                            (RowSource::Patch { x, geometry, pixel }, _) => {
                                geometry.gather(x, pixel, &mut row[..inputs]);
                                &row[..]
                            }
                            (RowSource::Row(x), Input::Normalised(norm)) => {
                                normalise(x, &norm.weight, &norm.bias, row);
                                &row[..]
                            }
                            (RowSource::Row(x), _) if width == inputs => x,
                            (RowSource::Row(x), _) => {
                                row[..inputs].copy_from_slice(x);
                                &row[..]
                            }
                        };
                        let (range, scales) = (i * width..(i + 1) * width, &mut scales[i * blocks..][..blocks]);
                        if narrow {
                            quantise_narrow(level, row, &mut bytes[range], scales);
                        } else {
                            quantise(level, bits, row, &mut values[range], scales);
                        }
                    }
                },
            );
            let mut tile = NO_SUMS;
            for (p, (panel, columns)) in self.panels.iter().enumerate() {
                for t in 0..tiles {
                    let range = t * height * width..(t + 1) * height * width;
                    let scales = &scales[t * height * blocks..][..height * blocks];
                    match panel {
                        Panel::Wide(panel) => {
                            let operands = Wide { x: &values[range], scales, panel, block: bits.block() };
                            tile::multiply(level, operands, &mut tile);
                        }
                        Panel::Narrow(panel, begin) => {
                            unit.multiply(Narrow { x: &bytes[range], scales, panel, begin }, &mut tile);
                        }
                    }
                    let rows = t * height..count.min((t + 1) * height);
                    dispatch(
                        #[inline(always)]
                        || self.finish(&tile, p, columns, rows, sum, y),
                    );
                }
            }
        });
        if let Some(norm) = &self.norm {
            dispatch(
                #[inline(always)]
                || self.finish_normalised(norm, sum, y),
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
        sum: Sum,
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
            let y = &mut y[range.clone()];
            if self.norm.is_none() {
                self.activate(&mut out);
                match sum {
                    Sum::Nothing => {}
                    Sum::Rows(rows) => add(&mut out, &rows[range]),
                    Sum::Result => add(&mut out, y),
                }
            }
            store(&out, y);
        }
    }

    #[inline(always)]
    fn finish_normalised(&self, norm: &Norm, sum: Sum, y: &mut [f32]) {
        let outputs = self.panels.outputs;
        let mut row = vec![0f32; outputs];
        for (i, y) in y.chunks_exact_mut(outputs).enumerate() {
            row.copy_from_slice(y);
            normalise(&row, &norm.weight, &norm.bias, y);
            self.activate(y);
            if let Sum::Rows(rows) = sum {
                add(y, &rows[i * outputs..][..outputs]);
            }
        }
    }

    #[inline(always)]
    fn activate(&self, y: &mut [f32]) {
        if self.gelu {
            match self.panels.bits {
                Bits::Sixteen => y.iter_mut().for_each(|y| *y = gelu_value(*y)),
                Bits::Eight => y.iter_mut().for_each(|y| *y = gelu_rough(*y)),
            }
        }
    }
}

#[inline(always)]
fn add(y: &mut [f32], other: &[f32]) {
    y.iter_mut().zip(other).for_each(|(y, other)| *y += other);
}

/// What a thread works with, kept from task to task.
struct Scratch {
    gathered: Vec<f32>,
    row: Vec<f32>,
    wide: Vec<i16>,
    narrow: Vec<u8>,
    scales: Vec<f32>,
}

impl Scratch {
    const fn new() -> Self {
        Self { gathered: Vec::new(), row: Vec::new(), wide: Vec::new(), narrow: Vec::new(), scales: Vec::new() }
    }
}
