//! The network's building blocks as candle operations with gradients: what candle has no fast CPU form of.
//!
//! Every activation is channels-last, `(B, H, W, C)` or `(B, L, C)`, contiguous and `f32`, or `f16` or `bf16` with parameters
//! that stay `f32` where they are not those of products: a GPU computes with `f32` and rounds results, and so does the CPU, which
//! gains nothing by it but shows what a GPU's scores will be. Letters, here and in the kernels:
//!
//! | letter | meaning |
//! |---|---|
//! | `B` | images (crops) in a batch |
//! | `L` | tokens of one image, `H * W` |
//! | `C` | channels of an activation |
//! | `D` | inner width of a state-space block, `2 C` |
//! | `K` | scan directions, 4 in QMamba |
//! | `N` | state size of the scan, 1 in QMamba |
//! | `R` | rank of the step size's projection |
//!
//! On a GPU each is a [program of kernels](kernels), which are `f32` inside whatever the activations are.
//!
//! Each operation splits its work by sizes that depend on the shapes alone, and adds partial sums in a fixed order, so that
//! results do not depend on the number of threads.

mod activation;
mod add;
mod depthwise_conv;
mod fused;
#[cfg_attr(not(feature = "cuda"), path = "no_cuda.rs")]
#[cfg_attr(feature = "cuda", path = "cuda.rs")]
pub(crate) mod gpu;
mod im2col;
pub mod kernels;
pub(crate) mod linear;
mod modulate;
mod norm;
mod pool;
pub(crate) mod quantized;
pub mod selective_scan;
pub mod timing;
mod windows;

pub use activation::{gelu, silu};
pub use add::add;
pub use depthwise_conv::depthwise_conv3x3;
pub use fused::{Then, add_layer_norm, conv3x3_then, linear_then};
pub use im2col::{conv3x3, conv3x3_matrix};
pub use linear::linear;
pub use modulate::modulate;
pub use norm::layer_norm;
pub use pool::{gated_merge, mean_tokens};
pub use selective_scan::selective_scan;
pub(crate) use selective_scan::selective_scan_blocks;
pub(crate) use windows::crops_of;

use candle_core::{CpuStorage, DType, Layout, Result, Storage, Tensor, bail};
use kernels::Program;
use parking_lot::RwLockReadGuard;
use std::ops::Deref;

/// Elements that one task handles where the work is element by element.
pub(crate) const CHUNK: usize = 1 << 14;

/// The values of a contiguous `f32` operand on the CPU.
pub(crate) fn operand<'a>(op: &str, storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    match (storage, layout.contiguous_offsets()) {
        (CpuStorage::F32(values), Some((start, end))) => Ok(&values[start..end]),
        (CpuStorage::F32(_), None) => bail!("{op}: operand of shape {:?} is not contiguous", layout.shape()),
        _ => bail!("{op}: operand is {:?}, expected f32", storage_dtype(storage)),
    }
}

/// An operation on `x`, which the CPU computes in `f32` whatever the type; the result is of `x`'s type.
fn in_f32(x: &Tensor, operation: impl FnOnce(&Tensor) -> Result<Tensor>) -> Result<Tensor> {
    if x.dtype() == DType::F32 || !x.device().is_cpu() {
        return operation(x);
    }
    operation(&x.to_dtype(DType::F32)?)?.to_dtype(x.dtype())
}

/// Gradients by a program of kernels, which is of `f32`, each of the shape and type of its operand in `of`; `operands` are the
/// program's inputs.
fn gradients<const N: usize>(program: &Program, operands: &[&Tensor], of: [&Tensor; N]) -> Result<[Option<Tensor>; N]> {
    let dense = |operand: &&Tensor| {
        let dtype = if operand.dtype().is_float() { DType::F32 } else { operand.dtype() };
        operand.detach().to_dtype(dtype)?.contiguous()
    };
    let dense = operands.iter().map(dense).collect::<Result<Vec<_>>>()?;
    let made = gpu::apply(program, &dense.iter().collect::<Vec<_>>())?;
    let mut gradients = [const { None }; N];
    for ((gradient, of), made) in gradients.iter_mut().zip(of).zip(made) {
        *gradient = Some(made.reshape(of.shape())?.to_dtype(of.dtype())?);
    }
    Ok(gradients)
}

fn storage_dtype(storage: &CpuStorage) -> DType {
    use candle_core::backend::BackendStorage;
    storage.dtype()
}

/// A contiguous `f32` tensor on the CPU, readable as a slice: how gradients, which get tensors, reach the values.
pub(crate) struct Values<'a> {
    storage: RwLockReadGuard<'a, Storage>,
    range: std::ops::Range<usize>,
}

impl<'a> Values<'a> {
    pub(crate) fn of(op: &str, tensor: &'a Tensor) -> Result<Self> {
        let (storage, layout) = tensor.storage_and_layout();
        let range = match &*storage {
            Storage::Cpu(cpu) => {
                operand(op, cpu, layout)?;
                layout.start_offset()..layout.start_offset() + layout.shape().elem_count()
            }
            _ => bail!("{op}: no gradient on {:?}", tensor.device().location()),
        };
        Ok(Self { storage, range })
    }
}

impl Deref for Values<'_> {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        match &*self.storage {
            Storage::Cpu(CpuStorage::F32(values)) => &values[self.range.clone()],
            _ => &[], // `of` lets nothing else through
        }
    }
}

/// Copies what fits. Nearly always that is the whole array: a few vectors, where a copy of any length is a call.
#[inline(always)]
pub(crate) fn store<const N: usize>(values: &[f32; N], to: &mut [f32]) {
    match <&mut [f32; N]>::try_from(&mut *to) {
        Ok(to) => *to = *values,
        Err(_) => to.copy_from_slice(&values[..to.len()]),
    }
}

/// A tensor on the CPU from computed values.
pub(crate) fn cpu_tensor(values: Vec<f32>, like: &candle_core::Shape) -> Result<Tensor> {
    Tensor::from_vec(values, like, &candle_core::Device::Cpu)
}

#[cfg(test)]
pub(crate) mod check;
#[cfg(test)]
mod tests;
