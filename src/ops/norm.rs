//! LayerNorm over the last axis.

use super::timing::{Part, Timer};
use super::{Values, cpu_tensor, gpu, gradients, in_f32, kernels, operand};
use crate::simd::{dispatch, sum_by};
use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CudaStorage, CustomOp3, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

/// Added to the variance, as in the public VMamba checkpoints.
const EPSILON: f32 = 1e-5;
/// Rows that one task handles.
const ROWS: usize = 256;

/// `(x - mean) / sqrt(var + 1e-5) * weight + bias` over the last axis: `x` `(..., C)`, `weight` and `bias` `(C,)`, `f32`.
pub fn layer_norm(x: &Tensor, weight: &Tensor, bias: &Tensor) -> Result<Tensor> {
    in_f32(x, |x| x.apply_op3(weight, bias, LayerNorm))
}

struct LayerNorm;

/// Mean and 1 / standard deviation of one row.
#[inline(always)]
fn moments(x: &[f32]) -> (f32, f32) {
    let n = x.len() as f32;
    let mean = sum_by([x], |[x]| x) / n;
    let variance = sum_by([x], |[x]| (x - mean) * (x - mean)) / n;
    (mean, 1.0 / (variance + EPSILON).sqrt())
}

/// One row.
#[inline(always)]
pub(super) fn normalise(x: &[f32], weight: &[f32], bias: &[f32], y: &mut [f32]) {
    let (mean, scale) = moments(x);
    for (((y, x), weight), bias) in y.iter_mut().zip(x).zip(weight).zip(bias) {
        *y = ((x - mean) * scale).mul_add(*weight, *bias);
    }
}

fn forward(x: &[f32], weight: &[f32], bias: &[f32]) -> Vec<f32> {
    let c = weight.len();
    let mut y = vec![0f32; x.len()];
    y.par_chunks_mut(ROWS * c).zip(x.par_chunks(ROWS * c)).for_each(|(y, x)| {
        dispatch(
            #[inline(always)]
            || {
                for (y, x) in y.chunks_exact_mut(c).zip(x.chunks_exact(c)) {
                    normalise(x, weight, bias, y);
                }
            },
        );
    });
    y
}

/// Gradients of `x`, `weight` and `bias`.
fn backward(x: &[f32], weight: &[f32], g: &[f32]) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
    let c = weight.len();
    let mut gx = vec![0f32; x.len()];
    let partial: Vec<(Vec<f32>, Vec<f32>)> = gx
        .par_chunks_mut(ROWS * c)
        .zip(x.par_chunks(ROWS * c))
        .zip(g.par_chunks(ROWS * c))
        .map(|((gx, x), g)| {
            let (mut gw, mut gb) = (vec![0f32; c], vec![0f32; c]);
            dispatch(
                #[inline(always)]
                || {
                    for ((gx, x), g) in gx.chunks_exact_mut(c).zip(x.chunks_exact(c)).zip(g.chunks_exact(c)) {
                        let (mean, scale) = moments(x);
                        let a = sum_by([g, weight], |[g, w]| g * w) / c as f32;
                        let b = sum_by([g, weight, x], |[g, w, x]| g * w * ((x - mean) * scale)) / c as f32;
                        for i in 0..c {
                            let normal = (x[i] - mean) * scale;
                            gx[i] = scale * (g[i] * weight[i] - a - normal * b);
                            gw[i] = g[i].mul_add(normal, gw[i]);
                            gb[i] += g[i];
                        }
                    }
                },
            );
            (gw, gb)
        })
        .collect();
    let (mut gw, mut gb) = (vec![0f32; c], vec![0f32; c]);
    for (w, b) in &partial {
        gw.iter_mut().zip(w).for_each(|(sum, v)| *sum += v);
        gb.iter_mut().zip(b).for_each(|(sum, v)| *sum += v);
    }
    (gx, gw, gb)
}

/// How many channels there are, once the shapes have been checked.
fn channels(x: &Layout, weight: &Layout, bias: &Layout) -> Result<usize> {
    match x.dims() {
        &[.., c] if c > 0 && weight.dims() == [c] && bias.dims() == [c] => Ok(c),
        _ => bail!("layer_norm: x {:?} with weight {:?} and bias {:?}", x.shape(), weight.shape(), bias.shape()),
    }
}

impl CustomOp3 for LayerNorm {
    fn name(&self) -> &'static str {
        "layer_norm"
    }

    fn cpu_fwd(
        &self,
        sx: &CpuStorage,
        lx: &Layout,
        sw: &CpuStorage,
        lw: &Layout,
        sb: &CpuStorage,
        lb: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let _timer = Timer::of(Part::Norm);
        let (x, w, b) =
            (operand("layer_norm", sx, lx)?, operand("layer_norm", sw, lw)?, operand("layer_norm", sb, lb)?);
        channels(lx, lw, lb)?;
        Ok((CpuStorage::F32(forward(x, w, b)), lx.shape().clone()))
    }

    fn cuda_fwd(
        &self,
        sx: &CudaStorage,
        lx: &Layout,
        sw: &CudaStorage,
        lw: &Layout,
        sb: &CudaStorage,
        lb: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        let c = channels(lx, lw, lb)?;
        let program = kernels::layers::layer_norm(sx.dtype().try_into()?, lx.shape().elem_count() / c, c)?;
        Ok((gpu::run(&program, &[(sx, lx), (sw, lw), (sb, lb)])?, lx.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        _y: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        if x.device().is_cuda() {
            let c = channels(x.layout(), weight.layout(), bias.layout())?;
            let program = kernels::layers::layer_norm_backward(x.elem_count() / c, c)?;
            let parameters = Tensor::stack(&[weight, bias], 0)?.detach();
            let [gx, both] = gradients(&program, &[x, weight, grad], [x, &parameters])?;
            let part = |i| both.as_ref().map(|both| both.get(i)).transpose();
            return Ok((gx, part(0)?, part(1)?));
        }
        let grad = grad.contiguous()?;
        let (gx, gw, gb) = backward(
            &Values::of("layer_norm", x)?,
            &Values::of("layer_norm", weight)?,
            &Values::of("layer_norm", &grad)?,
        );
        Ok((
            Some(cpu_tensor(gx, x.shape())?),
            Some(cpu_tensor(gw, weight.shape())?),
            Some(cpu_tensor(gb, bias.shape())?),
        ))
    }
}
