//! GELU (exact, by erf) and SiLU, element by element over any shape.

use super::kernels::Type;
use super::kernels::layers::Activation;
use super::simd::{dispatch, erf, exp, sigmoid};
use super::timing::{Part, Timer};
use super::{CHUNK, Values, cpu_tensor, gpu, gradients, in_f32, kernels, operand};
use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CudaStorage, CustomOp1, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

/// `x Phi(x)`, with `Phi` the normal distribution function: `torch.nn.GELU()`. Any shape.
pub fn gelu(x: &Tensor) -> Result<Tensor> {
    in_f32(x, |x| x.apply_op1(Activation::Gelu))
}

/// `x sigmoid(x)`. Any shape.
pub fn silu(x: &Tensor) -> Result<Tensor> {
    in_f32(x, |x| x.apply_op1(Activation::Silu))
}

#[inline(always)]
pub(super) fn gelu_value(x: f32) -> f32 {
    let half = 0.5 * x;
    half.mul_add(erf(x * std::f32::consts::FRAC_1_SQRT_2), half)
}

#[inline(always)]
fn gelu_slope(x: f32) -> f32 {
    const INVERSE_SQRT_TAU: f32 = 0.398_942_3;
    let phi = 0.5f32.mul_add(erf(x * std::f32::consts::FRAC_1_SQRT_2), 0.5);
    (x * INVERSE_SQRT_TAU).mul_add(exp(-0.5 * x * x), phi)
}

#[inline(always)]
pub(super) fn silu_value(x: f32) -> f32 {
    x * sigmoid(x)
}

#[inline(always)]
pub(super) fn silu_slope(x: f32) -> f32 {
    let s = sigmoid(x);
    (x * s).mul_add(1.0 - s, s)
}

/// `out[i] = f(a[i])`, vectorised and spread over threads.
#[inline(always)]
fn map(x: &[f32], f: impl Fn(f32) -> f32 + Sync) -> Vec<f32> {
    let mut out = vec![0f32; x.len()];
    out.par_chunks_mut(CHUNK).zip(x.par_chunks(CHUNK)).for_each(|(out, x)| {
        dispatch(
            #[inline(always)]
            || {
                for (out, &x) in out.iter_mut().zip(x) {
                    *out = f(x);
                }
            },
        );
    });
    out
}

/// `out[i] = g[i] slope(x[i])`
#[inline(always)]
fn map_gradient(x: &[f32], g: &[f32], slope: impl Fn(f32) -> f32 + Sync) -> Vec<f32> {
    let mut out = vec![0f32; x.len()];
    out.par_chunks_mut(CHUNK).zip(x.par_chunks(CHUNK)).zip(g.par_chunks(CHUNK)).for_each(|((out, x), g)| {
        dispatch(
            #[inline(always)]
            || {
                for ((out, &x), &g) in out.iter_mut().zip(x).zip(g) {
                    *out = g * slope(x);
                }
            },
        );
    });
    out
}

impl CustomOp1 for Activation {
    fn name(&self) -> &'static str {
        self.nick()
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let _timer = Timer::of(Part::Activation);
        let x = operand(CustomOp1::name(self), storage, layout)?;
        let y = match self {
            Self::Gelu => map(x, gelu_value),
            Self::Silu => map(x, silu_value),
        };
        Ok((CpuStorage::F32(y), layout.shape().clone()))
    }

    fn cuda_fwd(&self, storage: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        let count = layout.shape().elem_count();
        let program = kernels::layers::activation(*self, storage.dtype().try_into()?, count)?;
        Ok((gpu::run(&program, &[(storage, layout)])?, layout.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, _y: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        if x.device().is_cuda() {
            let program = kernels::layers::activation_backward(*self, Type::F32, x.elem_count())?;
            let [gx] = gradients(&program, &[x, grad], [x])?;
            return Ok(gx);
        }
        let grad = grad.contiguous()?;
        let (values, g) = (Values::of(CustomOp1::name(self), x)?, Values::of(CustomOp1::name(self), &grad)?);
        let gx = match self {
            Self::Gelu => map_gradient(&values, &g, gelu_slope),
            Self::Silu => map_gradient(&values, &g, silu_slope),
        };
        cpu_tensor(gx, x.shape()).map(Some)
    }
}
