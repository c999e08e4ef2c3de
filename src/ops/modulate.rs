//! Scaling and shifting of channels: how an adapter changes the style of features.

use super::timing::{Part, Timer};
use super::{Values, cpu_tensor, gpu, in_f32, kernels, operand};
use crate::simd::dispatch;
use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CudaStorage, CustomOp3, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

/// `x (1 + gamma) + beta`: `x` `(B, L, C)`; `gamma` and `beta` `(B, M, C)`, with `M` = 1 for all tokens alike, or `L`.
/// (Paper, equation 4.)
pub fn modulate(x: &Tensor, gamma: &Tensor, beta: &Tensor) -> Result<Tensor> {
    in_f32(x, |x| x.apply_op3(&gamma.to_dtype(x.dtype())?, &beta.to_dtype(x.dtype())?, Modulate))
}

struct Modulate;

/// (tokens, places of gamma and beta, channels), checked.
fn sizes(x: &[usize], gamma: &[usize], beta: &[usize]) -> Result<(usize, usize, usize)> {
    match (x, gamma) {
        (&[b, l, c], &[gb, m, gc]) if (b, c) == (gb, gc) && (m == 1 || m == l) && gamma == beta && b * l * c > 0 => {
            Ok((l, m, c))
        }
        _ => bail!(
            "modulate: x {x:?} with gamma {gamma:?} and beta {beta:?}, expected (B, L, C) and twice (B, 1 or L, C)"
        ),
    }
}

/// The gradients of `x`, `gamma` and `beta` by candle's operations, for GPUs.
fn gradients(x: &Tensor, gamma: &Tensor, grad: &Tensor) -> Result<[Tensor; 3]> {
    let all = |t: Tensor| if gamma.dim(1)? == t.dim(1)? { Ok(t) } else { t.sum_keepdim(1) };
    Ok([grad.broadcast_mul(&(gamma + 1.0)?)?, all((grad * x)?)?, all(grad.clone())?])
}

impl CustomOp3 for Modulate {
    fn name(&self) -> &'static str {
        "modulate"
    }

    fn cpu_fwd(
        &self,
        sx: &CpuStorage,
        lx: &Layout,
        sg: &CpuStorage,
        lg: &Layout,
        sb: &CpuStorage,
        lb: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let _timer = Timer::of(Part::Rest);
        let (l, m, c) = sizes(lx.dims(), lg.dims(), lb.dims())?;
        let (x, gamma) = (operand("modulate", sx, lx)?, operand("modulate", sg, lg)?);
        let beta = operand("modulate", sb, lb)?;
        let mut y = vec![0f32; x.len()];
        let images =
            y.par_chunks_mut(l * c).zip(x.par_chunks(l * c)).zip(gamma.par_chunks(m * c)).zip(beta.par_chunks(m * c));
        images.for_each(|(((y, x), gamma), beta)| {
            dispatch(
                #[inline(always)]
                || {
                    for (t, (y, x)) in y.chunks_exact_mut(c).zip(x.chunks_exact(c)).enumerate() {
                        let at = (t % m) * c;
                        let (gamma, beta) = (&gamma[at..at + c], &beta[at..at + c]);
                        for i in 0..c {
                            y[i] = x[i].mul_add(1.0 + gamma[i], beta[i]);
                        }
                    }
                },
            );
        });
        Ok((CpuStorage::F32(y), lx.shape().clone()))
    }

    fn cuda_fwd(
        &self,
        sx: &CudaStorage,
        lx: &Layout,
        sg: &CudaStorage,
        lg: &Layout,
        sb: &CudaStorage,
        lb: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        let (l, m, c) = sizes(lx.dims(), lg.dims(), lb.dims())?;
        let batch = lx.shape().elem_count() / (l * c);
        let program = kernels::layers::modulate(sx.dtype().try_into()?, batch, l, m, c)?;
        Ok((gpu::run(&program, &[(sx, lx), (sg, lg), (sb, lb)])?, lx.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        gamma: &Tensor,
        beta: &Tensor,
        _y: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (l, m, c) = sizes(x.dims(), gamma.dims(), beta.dims())?;
        if x.device().is_cuda() {
            return gradients(&x.detach(), &gamma.detach(), grad)
                .map(|[x, gamma, beta]| (Some(x), Some(gamma), Some(beta)));
        }
        let grad = grad.contiguous()?;
        let (values, scale, g) =
            (Values::of("modulate", x)?, Values::of("modulate", gamma)?, Values::of("modulate", &grad)?);
        let (mut gx, mut ggamma) = (vec![0f32; values.len()], vec![0f32; scale.len()]);
        let mut gbeta = ggamma.clone();
        let inputs = values.par_chunks(l * c).zip(scale.par_chunks(m * c)).zip(g.par_chunks(l * c));
        let outputs = gx.par_chunks_mut(l * c).zip(ggamma.par_chunks_mut(m * c)).zip(gbeta.par_chunks_mut(m * c));
        outputs.zip(inputs).for_each(|(((gx, ggamma), gbeta), ((x, scale), g))| {
            dispatch(
                #[inline(always)]
                || {
                    for (t, ((gx, x), g)) in
                        gx.chunks_exact_mut(c).zip(x.chunks_exact(c)).zip(g.chunks_exact(c)).enumerate()
                    {
                        let at = (t % m) * c;
                        let (scale, ggamma) = (&scale[at..at + c], &mut ggamma[at..at + c]);
                        let gbeta = &mut gbeta[at..at + c];
                        for i in 0..c {
                            gx[i] = g[i] * (1.0 + scale[i]);
                            ggamma[i] = g[i].mul_add(x[i], ggamma[i]);
                            gbeta[i] += g[i];
                        }
                    }
                },
            );
        });
        let same = |values, shape: &Tensor| cpu_tensor(values, shape.shape()).map(Some);
        Ok((same(gx, x)?, same(ggamma, gamma)?, same(gbeta, beta)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::check::{Fill, Noise, difference, values};

    /// What GPUs get gradients by, on the CPU, against the CPU's own.
    #[test]
    fn gradients_by_candle_are_the_same() {
        let mut noise = Noise(4);
        for places in [1, 6] {
            let [x, g] = [(); 2].map(|()| noise.tensor(&[2, 6, 5], Fill::Noise));
            let [gamma, beta] = [(); 2].map(|()| noise.tensor(&[2, places, 5], Fill::Noise));
            let (a, b, c) = Modulate.bwd(&x, &gamma, &beta, &x, &g).unwrap();
            for (got, expected) in gradients(&x, &gamma, &g).unwrap().iter().zip([a, b, c]) {
                assert!(difference(&values(got), &values(&expected.unwrap())) < 1e-5, "{places}");
            }
        }
    }
}
