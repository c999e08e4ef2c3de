//! Programs of the operations around the scan. Each takes the operation's operands as inputs, in its order, and leaves its
//! result; gradients are `f32`. Shapes are the caller's to check.

use super::{Argument, Buffer, LANES, Program, Type, WARPS, typed};
use candle_core::Result;

/// Rows of which one block sums gradients.
const ROWS: usize = 512;
/// Pixels of a thread: `STRIP` in `kernels/depthwise_conv.cu`.
const STRIP: usize = 8;
/// Most blocks of a kernel that goes over elements; each thread then takes several.
const BLOCKS: usize = 1 << 16;

/// Values that a thread takes together: `PACK` in `kernels/common.cuh`.
const PACK: usize = 8;

/// Blocks of kernels that go over `count` elements.
fn elements(count: usize) -> [usize; 3] {
    [count.div_ceil(LANES * WARPS).clamp(1, BLOCKS), 1, 1]
}

/// Blocks of kernels that go over `count` elements in packs.
fn packs(count: usize) -> [usize; 3] {
    elements(count.div_ceil(PACK))
}

/// LayerNorm of `(rows, channels)`: inputs `x`, `weight`, `bias`.
///
/// # Errors
/// More rows than a GPU takes at once, as for all programs here.
pub fn layer_norm(of: Type, rows: usize, channels: usize) -> Result<Program> {
    let (mut program, [x, weight, bias]) = Program::new("layer_norm", [Some(of), Some(Type::F32), Some(Type::F32)]);
    norm_rows(&mut program, of, [x, x, weight, bias], [rows, channels], [false, false])?;
    Ok(program)
}

/// What follows a product where that is a norm: LayerNorm of `x + shift`, then GELU where asked for. Inputs `x`, `shift` `(C,)`,
/// `weight`, `bias`.
///
/// # Errors
/// As [`layer_norm`].
pub fn shifted_norm(of: Type, rows: usize, channels: usize, gelu: bool) -> Result<Program> {
    let (mut program, inputs) = Program::new("shifted_norm", [Some(of), Some(of), Some(Type::F32), Some(Type::F32)]);
    norm_rows(&mut program, of, inputs, [rows, channels], [true, gelu])?;
    Ok(program)
}

/// Of `x`, `shift`, `weight`, `bias`; `flags` are whether `shift` is added, and whether GELU follows.
fn norm_rows(
    program: &mut Program,
    of: Type,
    inputs: [Buffer; 4],
    [rows, channels]: [usize; 2],
    flags: [bool; 2],
) -> Result<()> {
    let y = program.result(of, rows * channels);
    let mut arguments: Vec<Argument> = inputs.into_iter().chain([y]).map(Into::into).collect();
    for size in [rows, channels, flags[0].into(), flags[1].into()] {
        arguments.push(program.int(size)?);
    }
    program.launch(typed("layer_norm", of), [rows.div_ceil(WARPS), 1, 1], 0, arguments)
}

/// What follows a product where that is no norm: `After` in `kernels/pointwise.cu`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum After {
    /// Its bias.
    Bias,
    /// Its bias and GELU.
    Gelu,
    /// Its bias and a residual.
    Add,
}

/// Inputs `x` `(rows, channels)` and `bias`, and the residual for [`After::Add`].
///
/// # Errors
/// 2^32 values or more.
pub fn finish_product(of: Type, rows: usize, channels: usize, after: After) -> Result<Program> {
    const NAME: &str = "finish_product";
    let (mut program, [x, bias, residual]) = match after {
        After::Add => Program::new(NAME, [Some(of); 3]),
        After::Bias | After::Gelu => {
            let (program, [x, bias]) = Program::new(NAME, [Some(of); 2]);
            (program, [x, bias, x])
        }
    };
    let count = program.short(rows * channels)?;
    let y = program.result(of, rows * channels);
    let arguments = [x, bias, residual, y].map(Argument::from).into_iter();
    let arguments = arguments.chain([count, program.int(channels)?, program.int(after as usize)?]).collect::<Vec<_>>();
    program.launch(typed(NAME, of), packs(rows * channels), 0, arguments)?;
    Ok(program)
}

/// Input the gradient of a product and its bias `(rows, channels)`; result the bias's, `f32`.
///
/// # Errors
/// As [`layer_norm`].
pub fn bias_gradient(of: Type, rows: usize, channels: usize) -> Result<Program> {
    let (mut program, [g]) = Program::new("gradient of a bias", [Some(of)]);
    let (sums, blocks) = (program.result(Type::F32, channels), rows.div_ceil(ROWS));
    let partial = program.room(Type::F32, blocks * channels);
    let arguments = [g.into(), partial.into(), program.int(rows)?, program.int(channels)?, program.int(ROWS)?];
    program.launch(typed("sum_columns", of), [blocks, channels.div_ceil(LANES), 1], 0, arguments)?;
    program.sum_rows(partial, sums, blocks, channels)?;
    Ok(program)
}

/// A residual sum and its norm: inputs `x`, `residual`, `weight`, `bias`, results the sum and its LayerNorm.
///
/// # Errors
/// As [`layer_norm`].
pub fn add_layer_norm(of: Type, rows: usize, channels: usize) -> Result<Program> {
    let (mut program, [x, residual, weight, bias]) =
        Program::new("add_layer_norm", [Some(of), Some(of), Some(Type::F32), Some(Type::F32)]);
    let (sum, y) = (program.result(of, rows * channels), program.result(of, rows * channels));
    let sizes = [program.int(rows)?, program.int(channels)?];
    let arguments = [x, residual, weight, bias, sum, y].map(Argument::from).into_iter().chain(sizes);
    program.launch(typed("add_layer_norm", of), [rows.div_ceil(WARPS), 1, 1], 0, arguments)?;
    Ok(program)
}

/// Inputs `x`, `weight`, and the gradient of the result; results the gradient of `x`, and those of weight and bias as `(2, C)`.
///
/// # Errors
/// As [`layer_norm`].
pub fn layer_norm_backward(rows: usize, channels: usize) -> Result<Program> {
    let (mut program, [x, weight, g]) = Program::new("gradient of layer_norm", [Some(Type::F32); 3]);
    let blocks = rows.div_ceil(ROWS);
    let (gx, sums) = (program.result(Type::F32, rows * channels), program.result(Type::F32, 2 * channels));
    let statistics = program.room(Type::F32, 2 * rows);
    let partial = program.room(Type::F32, blocks * 2 * channels);
    let sizes = [program.int(rows)?, program.int(channels)?];
    let arguments = [x, weight, g, gx, statistics].map(Argument::from).into_iter().chain(sizes);
    program.launch("layer_norm_backward", [rows.div_ceil(WARPS), 1, 1], 0, arguments)?;
    let sizes = [sizes[0], sizes[1], program.int(ROWS)?];
    let arguments = [x, g, statistics, partial].map(Argument::from).into_iter().chain(sizes);
    program.launch("layer_norm_parameter_gradients", [blocks, channels.div_ceil(LANES), 1], 0, arguments)?;
    program.sum_rows(partial, sums, blocks, 2 * channels)?;
    Ok(program)
}

/// A batch of maps, channels-last.
#[derive(Debug, Clone, Copy)]
pub struct Maps {
    /// Images, `B`.
    pub batch: usize,
    /// Rows of pixels, `H`.
    pub height: usize,
    /// Pixels of a row, `W`.
    pub width: usize,
    /// `C`
    pub channels: usize,
}

impl Maps {
    fn count(&self) -> usize {
        self.batch * self.height * self.width * self.channels
    }
}

/// What follows a depthwise convolution: `Finish` in `kernels/depthwise_conv.cu`.
#[derive(Clone, Copy)]
enum Finish {
    Plain,
    Silu,
    SiluGradient,
}

/// One launch of `depthwise_conv`; `grad` is read for [`Finish::SiluGradient`] alone.
fn convolve(
    program: &mut Program,
    of: Type,
    maps: Maps,
    [x, weight, grad, y]: [Buffer; 4],
    flipped: bool,
    finish: Finish,
) -> Result<()> {
    let Maps { batch, height, width, channels } = maps;
    let mut arguments: Vec<Argument> = [x, weight, grad, y].map(Into::into).into();
    for size in [batch, height, width, channels, flipped.into(), finish as usize] {
        arguments.push(program.int(size)?);
    }
    let strips = batch * height * width.div_ceil(STRIP);
    let grid = [strips.div_ceil(WARPS), channels.div_ceil(LANES), 1];
    program.launch(typed("depthwise_conv", of), grid, 0, arguments)
}

/// Depthwise 3x3 convolution: inputs `x`, `weight`.
///
/// # Errors
/// As [`layer_norm`].
pub fn depthwise_conv(of: Type, maps: Maps, silu: bool) -> Result<Program> {
    let (mut program, [x, weight]) = Program::new("depthwise_conv3x3", [Some(of), Some(Type::F32)]);
    let y = program.result(of, maps.count());
    let finish = if silu { Finish::Silu } else { Finish::Plain };
    convolve(&mut program, of, maps, [x, weight, x, y], false, finish)?;
    Ok(program)
}

/// Inputs `x`, `weight`, and the gradient of the result; results the gradients of `x` and `weight`.
///
/// # Errors
/// As [`layer_norm`].
pub fn depthwise_conv_backward(maps: Maps, silu: bool) -> Result<Program> {
    let Maps { batch, height, width, channels } = maps;
    let (mut program, [x, weight, grad]) = Program::new("gradient of depthwise_conv3x3", [Some(Type::F32); 3]);
    let (gx, gw) = (program.result(Type::F32, maps.count()), program.result(Type::F32, 9 * channels));
    let g = if silu {
        let before = program.room(Type::F32, maps.count());
        convolve(&mut program, Type::F32, maps, [x, weight, grad, before], false, Finish::SiluGradient)?;
        before
    } else {
        grad
    };
    convolve(&mut program, Type::F32, maps, [g, weight, g, gx], true, Finish::Plain)?;
    let partial = program.room(Type::F32, batch * 9 * channels);
    let sizes = [program.int(height)?, program.int(width)?, program.int(channels)?];
    let arguments = [x, g, partial].map(Argument::from).into_iter().chain(sizes);
    program.launch("depthwise_conv_weight_gradient", [channels.div_ceil(LANES), batch, 1], 0, arguments)?;
    program.sum_rows(partial, gw, batch, 9 * channels)?;
    Ok(program)
}

/// The activations there are kernels for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// See [`gelu`](crate::ops::gelu).
    Gelu,
    /// See [`silu`](crate::ops::silu).
    Silu,
}

impl Activation {
    /// Its name, in kernels and messages.
    pub fn nick(self) -> &'static str {
        match self {
            Self::Gelu => "gelu",
            Self::Silu => "silu",
        }
    }
}

/// Input `x` of `count` values.
///
/// # Errors
/// None.
pub fn activation(activation: Activation, of: Type, count: usize) -> Result<Program> {
    let (mut program, [x]) = Program::new(activation.nick(), [Some(of)]);
    let y = program.result(of, count);
    let arguments = [x.into(), y.into(), Argument::Long(count as i64)];
    program.launch(typed(activation.nick(), of), packs(count), 0, arguments)?;
    Ok(program)
}

/// Inputs `x` and the gradient of the result.
///
/// # Errors
/// None.
pub fn activation_backward(activation: Activation, of: Type, count: usize) -> Result<Program> {
    let (mut program, [x, g]) = Program::new(activation.nick(), [Some(of); 2]);
    let gx = program.result(of, count);
    let arguments = [x.into(), g.into(), gx.into(), Argument::Long(count as i64)];
    program.launch(typed(&format!("{}_backward", activation.nick()), of), packs(count), 0, arguments)?;
    Ok(program)
}

/// Inputs `x` `(B, L, C)`, `gamma` and `beta` `(B, places, C)`.
///
/// # Errors
/// As [`layer_norm`].
pub fn modulate(of: Type, batch: usize, tokens: usize, places: usize, channels: usize) -> Result<Program> {
    let (mut program, [x, gamma, beta]) = Program::new("modulate", [Some(of); 3]);
    let count = batch * tokens * channels;
    let y = program.result(of, count);
    let mut arguments: Vec<Argument> = [x, gamma, beta, y].map(Into::into).into();
    arguments.push(program.short(count)?);
    for size in [tokens, places, channels] {
        arguments.push(program.int(size)?);
    }
    program.launch(typed("modulate", of), packs(count), 0, arguments)?;
    Ok(program)
}

/// Input `x`; result `(B, H', W', 9 C)`, with `H' = (H - 1) / stride + 1`.
///
/// # Errors
/// As [`layer_norm`].
pub fn im2col(of: Type, maps: Maps, stride: usize) -> Result<Program> {
    let Maps { batch, height, width, channels } = maps;
    let (mut program, [x]) = Program::new("conv3x3", [Some(of)]);
    let pixels = batch * ((height - 1) / stride + 1) * ((width - 1) / stride + 1);
    let patches = program.result(of, pixels * 9 * channels);
    let mut arguments = vec![x.into(), patches.into()];
    for size in [pixels, height, width, channels, stride] {
        arguments.push(program.int(size)?);
    }
    program.launch(typed("im2col", of), [pixels.div_ceil(WARPS), 1, 1], 0, arguments)?;
    Ok(program)
}

/// Input the gradient of [`im2col`]'s result; result that of `x`.
///
/// # Errors
/// As [`layer_norm`].
pub fn im2col_backward(maps: Maps, stride: usize) -> Result<Program> {
    let Maps { height, width, channels, .. } = maps;
    let (mut program, [g]) = Program::new("gradient of conv3x3", [Some(Type::F32)]);
    let gx = program.result(Type::F32, maps.count());
    let mut arguments = vec![g.into(), gx.into(), Argument::Long(maps.count() as i64)];
    for size in [height, width, channels, stride] {
        arguments.push(program.int(size)?);
    }
    program.launch("im2col_backward", elements(maps.count()), 0, arguments)?;
    Ok(program)
}

/// Inputs `y` `(B, K, L, D)` and `gate` `(B, K, D)`.
///
/// # Errors
/// As [`layer_norm`].
pub fn gated_merge(of: Type, batch: usize, directions: usize, tokens: usize, channels: usize) -> Result<Program> {
    let (mut program, [y, gate]) = Program::new("gated_merge", [Some(of); 2]);
    let out = program.result(of, batch * tokens * channels);
    let sizes = [program.int(tokens)?, program.int(channels)?, program.int(directions)?];
    let arguments = [y, gate, out].map(Argument::from).into_iter().chain(sizes);
    let grid = [tokens.div_ceil(WARPS), channels.div_ceil(LANES), batch];
    program.launch(typed("gated_merge", of), grid, 0, arguments)?;
    Ok(program)
}

/// Input `x` `(rows, L, C)`, result `(rows, C)`.
///
/// # Errors
/// As [`layer_norm`].
pub fn mean_tokens(of: Type, rows: usize, tokens: usize, channels: usize) -> Result<Program> {
    let (mut program, [x]) = Program::new("mean_tokens", [Some(of)]);
    let mean = program.result(of, rows * channels);
    let arguments = [x.into(), mean.into(), program.int(tokens)?, program.int(channels)?];
    program.launch(typed("mean_tokens", of), [rows, channels.div_ceil(LANES), 1], 0, arguments)?;
    Ok(program)
}
