//! 3x3 convolution, padding 1, as patches times a matrix.

use super::timing::{Part, Timer};
use super::{Values, cpu_tensor, gpu, gradients, in_f32, kernels, linear, operand};
use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CudaStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

/// A checkpoint's kernel `(O, C, 3, 3)` as the matrix `(O, 9 C)` that [`conv3x3`] multiplies by.
pub fn conv3x3_matrix(weight: &Tensor) -> Result<Tensor> {
    let (o, c, _, _) = weight.dims4()?;
    weight.permute((0, 2, 3, 1))?.reshape((o, 9 * c))
}

/// `x` `(B, H, W, C)` with `matrix` `(O, 9 C)` of [`conv3x3_matrix`] and `bias` `(O,)` to `(B, H', W', O)`, where
/// `H' = (H - 1) / stride + 1`.
pub fn conv3x3(x: &Tensor, matrix: &Tensor, bias: &Tensor, stride: usize) -> Result<Tensor> {
    linear(&patches(x, stride)?, matrix, Some(bias))
}

/// The rows that the matrix is multiplied with: `x` `(B, H, W, C)` to `(B, H', W', 9 C)`.
pub(super) fn patches(x: &Tensor, stride: usize) -> Result<Tensor> {
    in_f32(x, |x| x.apply_op1(Im2Col { stride }))
}

/// `(B, H, W, C)` to `(B, H', W', 9 C)`: the 3x3 neighbourhood, row by row; zeros outside.
struct Im2Col {
    stride: usize,
}

/// Sizes and the map from an output row to its input rows, shared by both directions.
#[derive(Debug, Clone, Copy)]
pub(super) struct Geometry {
    height: usize,
    width: usize,
    channels: usize,
    pub(super) out_height: usize,
    pub(super) out_width: usize,
    stride: usize,
}

impl Geometry {
    pub(super) fn new(dims: &[usize], stride: usize) -> Result<Self> {
        let &[_, height, width, channels] = dims else { bail!("conv3x3: x must be (B, H, W, C), got {dims:?}") };
        if height * width * channels == 0 || stride == 0 {
            bail!("conv3x3: nothing to do for x {dims:?}, stride {stride}");
        }
        let (out_height, out_width) = ((height - 1) / stride + 1, (width - 1) / stride + 1);
        Ok(Self { height, width, channels, out_height, out_width, stride })
    }

    /// Fills `patch` `(9, C)` with the neighbourhood of output `pixel` of a batch; zeros outside the image.
    #[inline(always)]
    pub(super) fn gather(&self, x: &[f32], pixel: usize, patch: &mut [f32]) {
        let c = self.channels;
        let (image, pixel) = (pixel / (self.out_height * self.out_width), pixel % (self.out_height * self.out_width));
        let (top, left) = (pixel / self.out_width * self.stride, pixel % self.out_width * self.stride);
        let x = &x[image * self.height * self.width * c..][..self.height * self.width * c];
        for (dy, row) in patch.chunks_exact_mut(3 * c).enumerate() {
            let Some(y) = (top + dy).checked_sub(1).filter(|&y| y < self.height) else {
                row.fill(0.0);
                continue;
            };
            let x = &x[y * self.width * c..][..self.width * c];
            if left > 0 && left + 1 < self.width {
                row.copy_from_slice(&x[(left - 1) * c..(left + 2) * c]);
                continue;
            }
            for (dx, tap) in row.chunks_exact_mut(c).enumerate() {
                match (left + dx).checked_sub(1).filter(|&x| x < self.width) {
                    Some(column) => tap.copy_from_slice(&x[column * c..(column + 1) * c]),
                    None => tap.fill(0.0),
                }
            }
        }
    }

    /// Calls `visit(patch offset, image offset)` for each tap of output row `y` that lies inside the image; both offsets
    /// point at `channels` contiguous values.
    #[inline(always)]
    fn taps(&self, y: usize, mut visit: impl FnMut(usize, usize)) {
        for dy in 0..3 {
            let Some(row) = (y * self.stride + dy).checked_sub(1).filter(|&r| r < self.height) else { continue };
            for x in 0..self.out_width {
                for dx in 0..3 {
                    let Some(column) = (x * self.stride + dx).checked_sub(1).filter(|&c| c < self.width) else {
                        continue;
                    };
                    visit((x * 9 + dy * 3 + dx) * self.channels, (row * self.width + column) * self.channels);
                }
            }
        }
    }
}

impl CustomOp1 for Im2Col {
    fn name(&self) -> &'static str {
        "im2col"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let _timer = Timer::of(Part::Patches);
        let x = operand("conv3x3", storage, layout)?;
        let g = Geometry::new(layout.dims(), self.stride)?;
        let image = g.height * g.width * g.channels;
        let row = g.out_width * 9 * g.channels;
        let batch = x.len() / image;
        let mut patches = vec![0f32; batch * g.out_height * row];
        patches.par_chunks_mut(row).enumerate().for_each(|(i, patches)| {
            let x = &x[i / g.out_height * image..][..image];
            g.taps(i % g.out_height, |to, from| {
                patches[to..to + g.channels].copy_from_slice(&x[from..from + g.channels]);
            });
        });
        Ok((CpuStorage::F32(patches), (batch, g.out_height, g.out_width, 9 * g.channels).into()))
    }

    fn cuda_fwd(&self, storage: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        let Geometry { height, width, channels, out_height, out_width, stride } =
            Geometry::new(layout.dims(), self.stride)?;
        let batch = layout.dims()[0];
        let maps = kernels::layers::Maps { batch, height, width, channels };
        let program = kernels::layers::im2col(storage.dtype().try_into()?, maps, stride)?;
        let patches = gpu::run(&program, &[(storage, layout)])?;
        Ok((patches, (batch, out_height, out_width, 9 * channels).into()))
    }

    fn bwd(&self, x: &Tensor, _patches: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        if x.device().is_cuda() {
            let Geometry { height, width, channels, stride, .. } = Geometry::new(x.dims(), self.stride)?;
            let maps = kernels::layers::Maps { batch: x.dim(0)?, height, width, channels };
            let [gx] = gradients(&kernels::layers::im2col_backward(maps, stride)?, &[grad], [x])?;
            return Ok(gx);
        }
        let grad = grad.contiguous()?;
        let values = Values::of("conv3x3", &grad)?;
        let g = Geometry::new(x.dims(), self.stride)?;
        let image = g.height * g.width * g.channels;
        let row = g.out_width * 9 * g.channels;
        let mut gx = vec![0f32; x.elem_count()];
        gx.par_chunks_mut(image).zip(values.par_chunks(row * g.out_height)).for_each(|(gx, values)| {
            for (y, values) in values.chunks_exact(row).enumerate() {
                g.taps(y, |from, to| {
                    gx[to..to + g.channels].iter_mut().zip(&values[from..]).for_each(|(sum, v)| *sum += v);
                });
            }
        });
        cpu_tensor(gx, x.shape()).map(Some)
    }
}
