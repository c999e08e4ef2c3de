//! Means over tokens, and the gated sum of the scan's directions.

use super::timing::{Part, Timer};
use super::{Values, cpu_tensor, gpu, in_f32, kernels, operand};
use crate::simd::dispatch;
use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CudaStorage, CustomOp1, CustomOp2, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

/// The mean over the axis before the last: `(..., L, C)` to `(..., C)`.
pub fn mean_tokens(x: &Tensor) -> Result<Tensor> {
    in_f32(x, |x| x.apply_op1(MeanTokens))
}

/// Each direction's output times its channel gate, summed: `y` `(B, K, L, D)`, `gate` `(B, K, D)`, result `(B, L, D)`.
pub fn gated_merge(y: &Tensor, gate: &Tensor) -> Result<Tensor> {
    in_f32(y, |y| y.apply_op2(&gate.to_dtype(y.dtype())?, GatedMerge))
}

struct MeanTokens;

fn tokens_and_channels(dims: &[usize]) -> Result<(usize, usize)> {
    match dims {
        &[.., l, c] if l * c > 0 => Ok((l, c)),
        _ => bail!("mean_tokens: x must be (..., L, C), got {dims:?}"),
    }
}

impl CustomOp1 for MeanTokens {
    fn name(&self) -> &'static str {
        "mean_tokens"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let _timer = Timer::of(Part::Rest);
        let x = operand("mean_tokens", storage, layout)?;
        let (l, c) = tokens_and_channels(layout.dims())?;
        let mut mean = vec![0f32; x.len() / l];
        mean.par_chunks_mut(c).zip(x.par_chunks(l * c)).for_each(|(mean, x)| {
            dispatch(
                #[inline(always)]
                || {
                    for x in x.chunks_exact(c) {
                        mean.iter_mut().zip(x).for_each(|(sum, &v)| *sum += v);
                    }
                    mean.iter_mut().for_each(|sum| *sum /= l as f32);
                },
            );
        });
        let mut shape = layout.dims().to_vec();
        shape.remove(shape.len() - 2);
        Ok((CpuStorage::F32(mean), shape.into()))
    }

    fn cuda_fwd(&self, storage: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        let (l, c) = tokens_and_channels(layout.dims())?;
        let mut shape = layout.dims().to_vec();
        shape.remove(shape.len() - 2);
        let rows = layout.shape().elem_count() / (l * c);
        let program = kernels::layers::mean_tokens(storage.dtype().try_into()?, rows, l, c)?;
        Ok((gpu::run(&program, &[(storage, layout)])?, shape.into()))
    }

    fn bwd(&self, x: &Tensor, _mean: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let (l, c) = tokens_and_channels(x.dims())?;
        if x.device().is_cuda() {
            return mean_gradient(x, grad).map(Some);
        }
        let grad = grad.contiguous()?;
        let g = Values::of("mean_tokens", &grad)?;
        let mut gx = vec![0f32; x.elem_count()];
        gx.par_chunks_mut(l * c).zip(g.par_chunks(c)).for_each(|(gx, g)| {
            for gx in gx.chunks_exact_mut(c) {
                gx.iter_mut().zip(g).for_each(|(gx, &g)| *gx = g / l as f32);
            }
        });
        cpu_tensor(gx, x.shape()).map(Some)
    }
}

/// The gradient of [`mean_tokens`] by candle's operations, for GPUs.
fn mean_gradient(x: &Tensor, grad: &Tensor) -> Result<Tensor> {
    let axis = x.rank() - 2;
    (grad / x.dim(axis)? as f64)?.unsqueeze(axis)?.broadcast_as(x.shape())?.contiguous()
}

/// The gradients of [`gated_merge`] by candle's operations, for GPUs.
fn merge_gradients(y: &Tensor, gate: &Tensor, grad: &Tensor) -> Result<(Tensor, Tensor)> {
    let grad = grad.unsqueeze(1)?; // (B, 1, L, D)
    Ok((grad.broadcast_mul(&gate.unsqueeze(2)?)?, grad.broadcast_mul(y)?.sum(2)?))
}

struct GatedMerge;

/// (directions, tokens, channels), checked.
fn merge_sizes(y: &[usize], gate: &[usize]) -> Result<(usize, usize, usize)> {
    match (y, gate) {
        (&[b, k, l, d], &[gb, gk, gd]) if (b, k, d) == (gb, gk, gd) && k * l * d > 0 => Ok((k, l, d)),
        _ => bail!("gated_merge: y {y:?} with gate {gate:?}, expected (B, K, L, D) with (B, K, D)"),
    }
}

impl CustomOp2 for GatedMerge {
    fn name(&self) -> &'static str {
        "gated_merge"
    }

    fn cpu_fwd(&self, sy: &CpuStorage, ly: &Layout, sg: &CpuStorage, lg: &Layout) -> Result<(CpuStorage, Shape)> {
        let _timer = Timer::of(Part::Rest);
        let (k, l, d) = merge_sizes(ly.dims(), lg.dims())?;
        let (y, gate) = (operand("gated_merge", sy, ly)?, operand("gated_merge", sg, lg)?);
        let batch = y.len() / (k * l * d);
        let mut out = vec![0f32; batch * l * d];
        out.par_chunks_mut(l * d).zip(y.par_chunks(k * l * d)).zip(gate.par_chunks(k * d)).for_each(
            |((out, y), gate)| {
                dispatch(
                    #[inline(always)]
                    || {
                        for (y, gate) in y.chunks_exact(l * d).zip(gate.chunks_exact(d)) {
                            for (out, y) in out.chunks_exact_mut(d).zip(y.chunks_exact(d)) {
                                for i in 0..d {
                                    out[i] = y[i].mul_add(gate[i], out[i]);
                                }
                            }
                        }
                    },
                );
            },
        );
        Ok((CpuStorage::F32(out), (batch, l, d).into()))
    }

    fn cuda_fwd(&self, sy: &CudaStorage, ly: &Layout, sg: &CudaStorage, lg: &Layout) -> Result<(CudaStorage, Shape)> {
        let (k, l, d) = merge_sizes(ly.dims(), lg.dims())?;
        let batch = ly.dims()[0];
        let program = kernels::layers::gated_merge(sy.dtype().try_into()?, batch, k, l, d)?;
        Ok((gpu::run(&program, &[(sy, ly), (sg, lg)])?, (batch, l, d).into()))
    }

    fn bwd(&self, y: &Tensor, gate: &Tensor, _out: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (k, l, d) = merge_sizes(y.dims(), gate.dims())?;
        if y.device().is_cuda() {
            let (gy, g_gate) = merge_gradients(&y.detach(), &gate.detach(), grad)?;
            return Ok((Some(gy), Some(g_gate)));
        }
        let (gate_dense, grad) = (gate.contiguous()?, grad.contiguous()?);
        let (ys, gates) = (Values::of("gated_merge", y)?, Values::of("gated_merge", &gate_dense)?);
        let g = Values::of("gated_merge", &grad)?;
        let mut gy = vec![0f32; ys.len()];
        let mut g_gate = vec![0f32; gates.len()];
        // One task a direction of an image.
        gy.par_chunks_mut(l * d).zip(g_gate.par_chunks_mut(d)).enumerate().for_each(|(i, (gy, g_gate))| {
            let (y, gate) = (&ys[i * l * d..][..l * d], &gates[i * d..][..d]);
            let g = &g[i / k * l * d..][..l * d];
            dispatch(
                #[inline(always)]
                || {
                    for ((gy, y), g) in gy.chunks_exact_mut(d).zip(y.chunks_exact(d)).zip(g.chunks_exact(d)) {
                        for c in 0..d {
                            gy[c] = g[c] * gate[c];
                            g_gate[c] = g[c].mul_add(y[c], g_gate[c]);
                        }
                    }
                },
            );
        });
        Ok((Some(cpu_tensor(gy, y.shape())?), Some(cpu_tensor(g_gate, gate.shape())?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::check::{Fill, Noise, difference, values};

    /// What GPUs get gradients by, on the CPU, against the CPU's own.
    #[test]
    fn gradients_by_candle_are_the_same() {
        let mut noise = Noise(3);
        let [x, g] = [&[2, 3, 5, 7][..], &[2, 3, 7]].map(|shape| noise.tensor(shape, Fill::Noise));
        let expected = MeanTokens.bwd(&x, &g, &g).unwrap().unwrap();
        assert!(difference(&values(&mean_gradient(&x, &g).unwrap()), &values(&expected)) < 1e-6);
        let [gate, g] = [&[2, 3, 7][..], &[2, 5, 7]].map(|shape| noise.tensor(shape, Fill::Noise));
        let (gy, g_gate) = GatedMerge.bwd(&x, &gate, &g, &g).unwrap();
        let (y, other) = merge_gradients(&x, &gate, &g).unwrap();
        assert!(difference(&values(&y), &values(&gy.unwrap())) < 1e-6);
        assert!(difference(&values(&other), &values(&g_gate.unwrap())) < 1e-5);
    }
}
