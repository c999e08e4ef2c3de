//! Fully connected layer on the `gemm` crate.

use super::kernels::layers::After;
use super::timing::{Part, Timer};
use super::{Values, cpu_tensor, gpu, in_f32, kernels, operand};
use crate::simd::{dispatch, sum_by};
use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CudaStorage, CustomOp2, CustomOp3, Device, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

/// Rows of `x` that one task handles. Each element of the product is one sum over the inner axis in one order, whatever
/// the rows around it, so results do not depend on the batch (tested).
const ROWS: usize = 512;

/// `x W^T + b`: `x` `(..., I)`, `weight` `(O, I)`, `bias` `(O,)`, result `(..., O)`, as `x` is. Weights of another type are rounded to
/// `x`'s: the variables of training, whose gradients are of their own type.
pub fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let weight = weight.to_dtype(x.dtype())?;
    if x.device().is_cuda() {
        let x = x.contiguous()?;
        return match bias {
            Some(bias) => x.apply_op3(&weight, bias, Linear),
            None => x.apply_op2(&weight, Linear),
        };
    }
    let bias = bias.map(|bias| bias.to_dtype(x.dtype())).transpose()?;
    in_f32(x, |x| {
        let weight = weight.to_dtype(x.dtype())?;
        match &bias {
            Some(bias) => x.apply_op3(&weight, &bias.to_dtype(x.dtype())?, Linear),
            None => x.apply_op2(&weight, Linear),
        }
    })
}

/// `x W^T` on a GPU, where nothing learns.
pub(super) fn product(x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    let (_, outputs, shape) = geometry(x.layout(), weight.layout(), None)?;
    let rows = x.reshape((shape.elem_count() / outputs, ()))?;
    gpu::timed(Part::Linear, x.device(), || rows.matmul(&weight.t()?))?.reshape(shape)
}

struct Linear;

/// A row-major matrix `(rows, columns)`, or its transpose where `transposed`.
#[derive(Clone, Copy)]
pub(crate) struct Matrix<'a> {
    values: &'a [f32],
    rows: usize,
    columns: usize,
    transposed: bool,
}

impl<'a> Matrix<'a> {
    pub(crate) fn new(values: &'a [f32], rows: usize, columns: usize) -> Self {
        assert_eq!(values.len(), rows * columns, "matrix of {rows} x {columns}");
        Self { values, rows, columns, transposed: false }
    }

    pub(crate) fn t(self) -> Self {
        Self { transposed: !self.transposed, ..self }
    }

    /// (rows, columns, row stride, column stride) of the matrix as used.
    fn geometry(&self) -> (usize, usize, isize, isize) {
        let stride = self.columns as isize;
        if self.transposed { (self.columns, self.rows, 1, stride) } else { (self.rows, self.columns, stride, 1) }
    }
}

/// `out = a b`, or `out + a b` where `add`; `out` row-major. One thread.
pub(crate) fn matmul(out: &mut [f32], a: Matrix, b: Matrix, add: bool) {
    let (m, k, a_rs, a_cs) = a.geometry();
    let (k2, n, b_rs, b_cs) = b.geometry();
    assert_eq!(k, k2, "inner sizes");
    assert_eq!(out.len(), m * n, "output size");
    // SAFETY: the strides above walk exactly over the slices, whose lengths `Matrix::new` and the assertion have checked;
    // `out` is borrowed mutably, so it overlaps neither operand. `gemm` keeps no pointer.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            1,
            n as isize,
            add,
            a.values.as_ptr(),
            a_cs,
            a_rs,
            b.values.as_ptr(),
            b_cs,
            b_rs,
            1.0,
            1.0,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

fn forward(x: &[f32], weight: &[f32], bias: Option<&[f32]>, inputs: usize, outputs: usize) -> Vec<f32> {
    let rows = x.len() / inputs;
    let mut y = vec![0f32; rows * outputs];
    y.par_chunks_mut(ROWS * outputs).zip(x.par_chunks(ROWS * inputs)).for_each(|(y, x)| {
        let rows = x.len() / inputs;
        if let Some(bias) = bias {
            y.chunks_exact_mut(outputs).for_each(|y| y.copy_from_slice(bias));
        }
        // `gemm` takes other ways for few rows or columns, whose sums run in another order: plain dot products there.
        if outputs < 4 || inputs < 4 {
            for (y, x) in y.chunks_exact_mut(outputs).zip(x.chunks_exact(inputs)) {
                for (y, w) in y.iter_mut().zip(weight.chunks_exact(inputs)) {
                    *y += dispatch(
                        #[inline(always)]
                        || sum_by([x, w], |[x, w]| x * w),
                    );
                }
            }
        } else if rows == 1 {
            // Doubled, so that a single row is computed as a row among others is.
            let twice = [x, x].concat();
            let mut out = [&*y, &*y].concat();
            matmul(&mut out, Matrix::new(&twice, 2, inputs), Matrix::new(weight, outputs, inputs).t(), bias.is_some());
            y.copy_from_slice(&out[..outputs]);
        } else {
            matmul(y, Matrix::new(x, rows, inputs), Matrix::new(weight, outputs, inputs).t(), bias.is_some());
        }
    });
    y
}

/// `x W^T` on a GPU, and the number of its rows.
fn gpu_product(
    (sx, lx): (&CudaStorage, &Layout),
    (sw, lw): (&CudaStorage, &Layout),
) -> Result<(CudaStorage, usize, Shape)> {
    let (inputs, outputs, shape) = geometry(lx, lw, None)?;
    let rows = shape.elem_count() / outputs;
    let flat = Layout::contiguous_with_offset((rows, inputs), lx.start_offset());
    let turned = lw.transpose(0, 1)?;
    let y = gpu::timed(Part::Linear, &Device::Cuda(sx.device().clone()), || {
        sx.matmul(sw, (1, rows, outputs, inputs), &flat, &turned)
    })?;
    Ok((y, rows, shape))
}

/// As [`backward`], on a GPU; sums are `f32`, the results of `x`'s type.
fn gpu_backward(x: &Tensor, weight: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
    let (outputs, inputs) = weight.dims2()?;
    let g = grad.reshape(((), outputs))?;
    let gx = if x.track_op() { Some(g.matmul(&weight.detach())?.reshape(x.shape())?) } else { None };
    let gw = if weight.track_op() { Some(g.t()?.matmul(&x.detach().reshape(((), inputs))?)?) } else { None };
    Ok((gx, gw))
}

/// Gradients of `x` and `weight`, each where something learns from it: frozen weights get none.
fn backward(x: &Tensor, weight: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
    if x.device().is_cuda() {
        return gpu_backward(x, weight, grad);
    }
    let (outputs, inputs) = weight.dims2()?;
    let g = Values::of("linear", grad)?;
    let gx = if x.track_op() {
        let w = Values::of("linear", weight)?;
        let mut gx = vec![0f32; x.elem_count()];
        gx.par_chunks_mut(ROWS * inputs).zip(g.par_chunks(ROWS * outputs)).for_each(|(gx, g)| {
            matmul(gx, Matrix::new(g, g.len() / outputs, outputs), Matrix::new(&w, outputs, inputs), false);
        });
        Some(cpu_tensor(gx, x.shape())?)
    } else {
        None
    };
    let gw = if weight.track_op() {
        let x = Values::of("linear", x)?;
        let rows = x.len() / inputs;
        let mut gw = vec![0f32; outputs * inputs];
        matmul(&mut gw, Matrix::new(&g, rows, outputs).t(), Matrix::new(&x, rows, inputs), false);
        Some(cpu_tensor(gw, weight.shape())?)
    } else {
        None
    };
    Ok((gx, gw))
}

/// The gradient of `bias`: the sum of `grad`'s rows.
fn bias_gradient(bias: &Tensor, grad: &Tensor) -> Result<Tensor> {
    if grad.device().is_cuda() {
        let outputs = bias.elem_count();
        let rows = grad.elem_count() / outputs;
        let made = gpu::apply(&kernels::layers::bias_gradient(grad.dtype().try_into()?, rows, outputs)?, &[grad])?;
        return made[0].to_dtype(bias.dtype());
    }
    let g = Values::of("linear", grad)?;
    let mut gb = vec![0f32; bias.elem_count()];
    dispatch(
        #[inline(always)]
        || {
            for g in g.chunks_exact(gb.len()) {
                for (sum, &g) in gb.iter_mut().zip(g) {
                    *sum += g;
                }
            }
        },
    );
    cpu_tensor(gb, bias.shape())
}

/// (inputs, outputs, shape of the result), once the shapes have been checked.
fn geometry(x: &Layout, weight: &Layout, bias: Option<&Layout>) -> Result<(usize, usize, Shape)> {
    let (Some((&inputs, leading)), &[outputs, width]) = (x.dims().split_last(), weight.dims()) else {
        bail!("linear: x {:?} with weight {:?}", x.shape(), weight.shape());
    };
    if inputs == 0 || outputs == 0 || width != inputs || bias.is_some_and(|b| b.dims() != [outputs]) {
        bail!("linear: x {:?} with weight {:?}, bias {:?}", x.shape(), weight.shape(), bias.map(Layout::shape));
    }
    let mut shape = leading.to_vec();
    shape.push(outputs);
    Ok((inputs, outputs, shape.into()))
}

impl CustomOp2 for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn cpu_fwd(&self, sx: &CpuStorage, lx: &Layout, sw: &CpuStorage, lw: &Layout) -> Result<(CpuStorage, Shape)> {
        let _timer = Timer::of(Part::Linear);
        let (inputs, outputs, shape) = geometry(lx, lw, None)?;
        let y = forward(operand("linear", sx, lx)?, operand("linear", sw, lw)?, None, inputs, outputs);
        Ok((CpuStorage::F32(y), shape))
    }

    fn cuda_fwd(&self, sx: &CudaStorage, lx: &Layout, sw: &CudaStorage, lw: &Layout) -> Result<(CudaStorage, Shape)> {
        let (y, _, shape) = gpu_product((sx, lx), (sw, lw))?;
        Ok((y, shape))
    }

    fn bwd(&self, x: &Tensor, weight: &Tensor, _y: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        backward(x, weight, &grad.contiguous()?)
    }
}

impl CustomOp3 for Linear {
    fn name(&self) -> &'static str {
        "linear"
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
        let _timer = Timer::of(Part::Linear);
        let (inputs, outputs, shape) = geometry(lx, lw, Some(lb))?;
        let bias = operand("linear", sb, lb)?;
        let y = forward(operand("linear", sx, lx)?, operand("linear", sw, lw)?, Some(bias), inputs, outputs);
        Ok((CpuStorage::F32(y), shape))
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
        let (_, outputs, _) = geometry(lx, lw, Some(lb))?;
        let (y, rows, shape) = gpu_product((sx, lx), (sw, lw))?;
        let bias = sb.to_dtype(lb, sx.dtype())?;
        let program = kernels::layers::finish_product(sx.dtype().try_into()?, rows, outputs, After::Bias)?;
        let (ly, lb) = (Layout::contiguous(&shape), Layout::contiguous(outputs));
        Ok((gpu::run(&program, &[(&y, &ly), (&bias, &lb)])?, shape))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        _y: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let grad = grad.contiguous()?;
        let (gx, gw) = backward(x, weight, &grad)?;
        let gb = if bias.track_op() { Some(bias_gradient(bias, &grad)?) } else { None };
        Ok((gx, gw, gb))
    }
}
