//! GELU (exact, by erf) and SiLU, element by element over any shape.

use super::kernels::Type;
use super::kernels::layers::Activation;
use super::timing::{Part, Timer};
use super::{CHUNK, Values, cpu_tensor, gpu, gradients, in_f32, kernels, operand};
use crate::simd::{dispatch, erf, exp, sigmoid};
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

/// The same to 2e-4, for what is rounded to 8 bits next; relative to `x` where that is beyond 4.
#[inline(always)]
pub(super) fn gelu_rough(x: f32) -> f32 {
    // Phi(x) - 1/2 = x p(x^2), a minimax polynomial on [-4, 4] that ends at 1/2.
    let within = if x > 4.0 { 4.0 } else { x };
    let within = if within < -4.0 { -4.0 } else { within }; // NaN passes
    let q = within * within;
    let p = q.mul_add(2.258_822e-8, -1.588_827_1e-6);
    let p = p.mul_add(q, 4.776_388_7e-5);
    let p = p.mul_add(q, -8.121_875e-4);
    let p = p.mul_add(q, 8.763_691e-3);
    let p = p.mul_add(q, -6.455_441_3e-2);
    let p = p.mul_add(q, 0.397_870_27);
    x * p.mul_add(within, 0.5)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rough_gelu_is_near() {
        let worst = (-80_000..80_000).map(|i| i as f32 * 1e-4).map(|x| (gelu_rough(x) - gelu_value(x)).abs());
        assert!(worst.fold(0.0, f32::max) < 2.5e-4);
        assert!((gelu_rough(1e4) - 1e4).abs() < 1e-2 && gelu_rough(-1e4).abs() < 1e-2);
        assert!(gelu_rough(f32::NAN).is_nan());
    }
}
