//! Depthwise 3x3 convolution without bias, optionally followed by SiLU in the same pass.

use super::activation::{silu_slope, silu_value};
use super::timing::{Part, Timer};
use super::{Values, cpu_tensor, gpu, gradients, in_f32, kernels, operand};
use crate::simd::dispatch;
use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CudaStorage, CustomOp2, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

/// Channel by channel: `x` `(B, H, W, C)`, `weight` `(C, 1, 3, 3)`, `f32`, zero padding 1, stride 1, result as `x`.
/// With `silu` the result is `silu(conv(x))`.
pub fn depthwise_conv3x3(x: &Tensor, weight: &Tensor, silu: bool) -> Result<Tensor> {
    in_f32(x, |x| x.apply_op2(weight, DepthwiseConv { silu }))
}

struct DepthwiseConv {
    silu: bool,
}

/// One image's sizes.
#[derive(Clone, Copy)]
struct Map {
    height: usize,
    width: usize,
    channels: usize,
}

impl Map {
    fn new(x: &[usize], weight: &[usize]) -> Result<Self> {
        match (x, weight) {
            (&[_, height, width, channels], &[c, 1, 3, 3]) if c == channels && height * width * channels > 0 => {
                Ok(Self { height, width, channels })
            }
            _ => bail!("depthwise_conv3x3: x {x:?} with weight {weight:?}, expected (B, H, W, C) with (C, 1, 3, 3)"),
        }
    }

    fn row(&self) -> usize {
        self.width * self.channels
    }

    fn image(&self) -> usize {
        self.height * self.row()
    }
}

/// `(C, 1, 3, 3)` to `(9, C)`, so that a tap's weights are as contiguous as the channels; `flipped` for the gradient.
fn taps(weight: &[f32], channels: usize, flipped: bool) -> Vec<f32> {
    let mut taps = vec![0f32; 9 * channels];
    for (c, w) in weight.chunks_exact(9).enumerate() {
        for (tap, &w) in w.iter().enumerate() {
            taps[if flipped { 8 - tap } else { tap } * channels + c] = w;
        }
    }
    taps
}

/// Convolves one output row (`y`-th) of one image into `out`, which is overwritten.
#[inline(always)]
fn convolve_row(out: &mut [f32], image: &[f32], taps: &[f32], map: Map, y: usize) {
    let c = map.channels;
    let inner = map.width >= 3 && y > 0 && y + 1 < map.height;
    for x in 0..map.width {
        let out = &mut out[x * c..][..c];
        if inner && x > 0 && x + 1 < map.width {
            let above = &image[((y - 1) * map.width + x - 1) * c..][..3 * c];
            let here = &image[(y * map.width + x - 1) * c..][..3 * c];
            let below = &image[((y + 1) * map.width + x - 1) * c..][..3 * c];
            let w = &taps[..9 * c];
            for i in 0..c {
                let mut sum = above[i] * w[i];
                sum = above[c + i].mul_add(w[c + i], sum);
                sum = above[2 * c + i].mul_add(w[2 * c + i], sum);
                sum = here[i].mul_add(w[3 * c + i], sum);
                sum = here[c + i].mul_add(w[4 * c + i], sum);
                sum = here[2 * c + i].mul_add(w[5 * c + i], sum);
                sum = below[i].mul_add(w[6 * c + i], sum);
                sum = below[c + i].mul_add(w[7 * c + i], sum);
                out[i] = below[2 * c + i].mul_add(w[8 * c + i], sum);
            }
        } else {
            out.fill(0.0);
            visit_taps(map, y, x, |tap, from| {
                let (w, image) = (&taps[tap * c..][..c], &image[from..][..c]);
                for i in 0..c {
                    out[i] = image[i].mul_add(w[i], out[i]);
                }
            });
        }
    }
}

/// Calls `visit(tap, offset)` for the taps of output pixel (y, x) that lie inside the image.
#[inline(always)]
fn visit_taps(map: Map, y: usize, x: usize, mut visit: impl FnMut(usize, usize)) {
    for dy in 0..3 {
        let Some(row) = (y + dy).checked_sub(1).filter(|&r| r < map.height) else { continue };
        for dx in 0..3 {
            let Some(column) = (x + dx).checked_sub(1).filter(|&c| c < map.width) else { continue };
            visit(dy * 3 + dx, (row * map.width + column) * map.channels);
        }
    }
}

fn forward(x: &[f32], weight: &[f32], map: Map, silu: bool) -> Vec<f32> {
    let taps = taps(weight, map.channels, false);
    let mut y = vec![0f32; x.len()];
    y.par_chunks_mut(map.row()).with_min_len(4).enumerate().for_each(|(i, out)| {
        let image = &x[i / map.height * map.image()..][..map.image()];
        dispatch(
            #[inline(always)]
            || {
                convolve_row(out, image, &taps, map, i % map.height);
                if silu {
                    out.iter_mut().for_each(|v| *v = silu_value(*v));
                }
            },
        );
    });
    y
}

/// Gradients of `x` and `weight`.
fn backward(x: &[f32], weight: &[f32], g: &[f32], map: Map, silu: bool) -> (Vec<f32>, Vec<f32>) {
    let c = map.channels;
    let (forward_taps, flipped) = (taps(weight, c, false), taps(weight, c, true));
    let mut gx = vec![0f32; x.len()];
    let partial: Vec<Vec<f32>> = gx
        .par_chunks_mut(map.image())
        .zip(x.par_chunks(map.image()))
        .zip(g.par_chunks(map.image()))
        .map(|((gx, x), g)| {
            let mut gz = g.to_vec(); // gradient before SiLU
            let mut gw = vec![0f32; 9 * c];
            dispatch(
                #[inline(always)]
                || {
                    if silu {
                        let mut z = vec![0f32; map.row()];
                        for y in 0..map.height {
                            convolve_row(&mut z, x, &forward_taps, map, y);
                            for (g, &z) in gz[y * map.row()..].iter_mut().zip(&z) {
                                *g *= silu_slope(z);
                            }
                        }
                    }
                    for y in 0..map.height {
                        convolve_row(&mut gx[y * map.row()..][..map.row()], &gz, &flipped, map, y);
                        for column in 0..map.width {
                            let g = &gz[y * map.row() + column * c..][..c];
                            visit_taps(map, y, column, |tap, from| {
                                let (gw, x) = (&mut gw[tap * c..][..c], &x[from..][..c]);
                                for i in 0..c {
                                    gw[i] = g[i].mul_add(x[i], gw[i]);
                                }
                            });
                        }
                    }
                },
            );
            gw
        })
        .collect();
    let mut gw = vec![0f32; 9 * c];
    for partial in &partial {
        for (channel, gw) in gw.chunks_exact_mut(9).enumerate() {
            for (tap, sum) in gw.iter_mut().enumerate() {
                *sum += partial[tap * c + channel];
            }
        }
    }
    (gx, gw)
}

impl CustomOp2 for DepthwiseConv {
    fn name(&self) -> &'static str {
        "depthwise_conv3x3"
    }

    fn cpu_fwd(&self, sx: &CpuStorage, lx: &Layout, sw: &CpuStorage, lw: &Layout) -> Result<(CpuStorage, Shape)> {
        let _timer = Timer::of(Part::DepthwiseConv);
        let map = Map::new(lx.dims(), lw.dims())?;
        let (x, w) = (operand("depthwise_conv3x3", sx, lx)?, operand("depthwise_conv3x3", sw, lw)?);
        Ok((CpuStorage::F32(forward(x, w, map, self.silu)), lx.shape().clone()))
    }

    fn cuda_fwd(&self, sx: &CudaStorage, lx: &Layout, sw: &CudaStorage, lw: &Layout) -> Result<(CudaStorage, Shape)> {
        let Map { height, width, channels } = Map::new(lx.dims(), lw.dims())?;
        let maps = kernels::layers::Maps { batch: lx.dims()[0], height, width, channels };
        let program = kernels::layers::depthwise_conv(sx.dtype().try_into()?, maps, self.silu)?;
        Ok((gpu::run(&program, &[(sx, lx), (sw, lw)])?, lx.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, weight: &Tensor, _y: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        if x.device().is_cuda() {
            let Map { height, width, channels } = Map::new(x.dims(), weight.dims())?;
            let maps = kernels::layers::Maps { batch: x.dim(0)?, height, width, channels };
            let program = kernels::layers::depthwise_conv_backward(maps, self.silu)?;
            return gradients(&program, &[x, weight, grad], [x, weight]).map(Into::into);
        }
        let grad = grad.contiguous()?;
        let (gx, gw) = backward(
            &Values::of("depthwise_conv3x3", x)?,
            &Values::of("depthwise_conv3x3", weight)?,
            &Values::of("depthwise_conv3x3", &grad)?,
            Map::new(x.dims(), weight.dims())?,
            self.silu,
        );
        Ok((Some(cpu_tensor(gx, x.shape())?), Some(cpu_tensor(gw, weight.shape())?)))
    }
}
