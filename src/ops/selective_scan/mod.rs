//! The selective scan of a state-space block over several orders of one image.
//!
//! For each direction `k`, channel `d` and step `t` of the sequence, with `l` the pixel that the order reads at `t`:
//!
//! ```text
//! delta = softplus(sum_r dt[l, r] W[k, r, d] + bias[k, d])          the step size
//! A     = -exp(A_log[k, n, d])
//! h_n   = exp(delta A) h_n + delta B[l, n] x[l, d]                  the state, zero before the first step
//! y     = sum_n C[l, n] h_n + skip[k, d] x[l, d]
//! ```
//!
//! where `dt (R)`, `B (N)`, `C (N)` are the token's projections in that direction. At a padding slot `x`, `dt`, `B` and `C`
//! are zero: the state decays and no output is kept. (Paper, section 3.1; VMamba's `csms6s`.)
//!
//! [`mod@reference`] states this in plain `f64` loops, gradient included; it is the specification that the
//! tests hold the fast path against, and what runs for state sizes other than 1.

mod cpu;
mod orders;
pub mod reference;

pub use orders::ScanOrders;

use super::kernels::{self, Type};
use super::timing::{Part, Timer};
use super::{Values, cpu_tensor, gpu, gradients, in_f32, operand};
use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CudaStorage, CustomOp3, Device, Layout, Result, Shape, Storage, Tensor, bail};
use std::sync::Arc;

/// Scans `x` in every order.
///
/// - `x` `(B, L, D)`: tokens in pixel order, of the type of `projections`; `parameters` are `f32`.
/// - `projections` `(B, L, K (R + 2 N))`: for each direction `dt (R)`, `B (N)`, `C (N)`.
/// - `parameters` `(K, R + 2 + N, D)`: for each direction `W (R)`, `bias`, `A_log (N)`, `skip`; see [`parameters`].
///
/// Returns the sum over directions `(B, L, D)`, or each by itself `(B, K, L, D)` where not `merge`; in pixel order.
pub fn selective_scan(
    x: &Tensor,
    projections: &Tensor,
    parameters: &Tensor,
    orders: &Arc<ScanOrders>,
    state: usize,
    merge: bool,
) -> Result<Tensor> {
    let form = if merge { Form::Merged } else { Form::PerDirection };
    let scan = SelectiveScan { orders: Arc::clone(orders), state, form };
    in_f32(x, |x| x.apply_op3(&projections.to_dtype(x.dtype())?, parameters, scan))
}

/// Channels of a block of [`selective_scan_blocks`].
pub(crate) use cpu::WIDTH as BLOCK;

/// As [`selective_scan`] of state size 1, merged, on the CPU and without gradient, but left as it is made, in blocks of channels:
/// `(B, ceil(D / BLOCK), L, BLOCK)`. What is beyond the last channel is of no meaning. Where `rough`, step sizes and decays have
/// errors of up to 3e-4, far below those of products in 8 bits.
pub(crate) fn selective_scan_blocks(
    x: &Tensor,
    projections: &Tensor,
    parameters: &Tensor,
    orders: &Arc<ScanOrders>,
    rough: bool,
) -> Result<Tensor> {
    let scan = SelectiveScan { orders: Arc::clone(orders), state: 1, form: Form::Blocks { rough } };
    x.apply_op3_no_bwd(projections, parameters, &scan)
}

/// Packs a block's scan parameters, as a checkpoint has them, for [`selective_scan`].
///
/// `dt_weight` `(K, D, R)`, `dt_bias` `(K, D)`, `a_log` `(K D, N)`, `skip` `(K D,)`.
pub fn parameters(dt_weight: &Tensor, dt_bias: &Tensor, a_log: &Tensor, skip: &Tensor) -> Result<Tensor> {
    let (k, d, _) = dt_weight.dims3()?;
    let n = a_log.dim(1)?;
    Tensor::cat(
        &[
            dt_weight.transpose(1, 2)?,
            dt_bias.reshape((k, 1, d))?,
            a_log.reshape((k, d, n))?.transpose(1, 2)?,
            skip.reshape((k, 1, d))?,
        ],
        1,
    )?
    .contiguous()
}

struct SelectiveScan {
    orders: Arc<ScanOrders>,
    state: usize,
    form: Form,
}

/// What a scan returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// `(B, K, L, D)`
    PerDirection,
    /// The sum over directions, `(B, L, D)`.
    Merged,
    /// The same as [`selective_scan_blocks`] leaves it.
    Blocks { rough: bool },
}

/// The sizes of one call, checked.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    /// Images, `B`.
    pub batch: usize,
    /// Tokens of an image, `L`.
    pub tokens: usize,
    /// Channels, `D`.
    pub channels: usize,
    /// Directions, `K`.
    pub directions: usize,
    /// Rank of the step size's projection, `R`.
    pub rank: usize,
    /// State size, `N`.
    pub state: usize,
    /// Whether the directions' outputs are summed.
    pub merge: bool,
}

impl Sizes {
    /// Values that one token projects to in one direction: `dt`, `B`, `C`.
    pub fn projected(&self) -> usize {
        self.rank + 2 * self.state
    }

    /// The shape of the output.
    fn output(&self) -> Shape {
        let Self { batch, tokens, channels, directions, merge, .. } = *self;
        if merge { Shape::from((batch, tokens, channels)) } else { Shape::from((batch, directions, tokens, channels)) }
    }

    /// Parameters of one channel in one direction: `W`, `bias`, `A_log`, `skip`.
    pub fn parameters(&self) -> usize {
        self.rank + 2 + self.state
    }
}

impl SelectiveScan {
    fn sizes(&self, x: &[usize], projections: &[usize], parameters: &[usize]) -> Result<Sizes> {
        let directions = self.orders.tables().len();
        let (&[batch, tokens, channels], &[b, l, p], &[k, rows, d]) = (x, projections, parameters) else {
            bail!("selective_scan: x {x:?}, projections {projections:?}, parameters {parameters:?}: three axes each");
        };
        let Some(rank) = rows.checked_sub(2 + self.state) else {
            bail!("selective_scan: parameters {parameters:?} are too few for state size {}", self.state)
        };
        let sizes = Sizes {
            batch,
            tokens,
            channels,
            directions,
            rank,
            state: self.state,
            merge: self.form != Form::PerDirection,
        };
        if (b, l, p) != (batch, tokens, directions * sizes.projected())
            || (k, d) != (directions, channels)
            || tokens != self.orders.pixels()
            || batch * tokens * channels * rank * self.state == 0
        {
            bail!(
                "selective_scan: x {x:?}, projections {projections:?} and parameters {parameters:?} do not fit {directions} \
                 orders of {} pixels with state size {}",
                self.orders.pixels(),
                self.state
            );
        }
        Ok(sizes)
    }
}

const NAME: &str = "selective_scan";

impl CustomOp3 for SelectiveScan {
    fn name(&self) -> &'static str {
        NAME
    }

    fn cpu_fwd(
        &self,
        sx: &CpuStorage,
        lx: &Layout,
        sp: &CpuStorage,
        lp: &Layout,
        sw: &CpuStorage,
        lw: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let _timer = Timer::of(Part::Scan);
        let sizes = self.sizes(lx.dims(), lp.dims(), lw.dims())?;
        let (x, p, w) = (operand(NAME, sx, lx)?, operand(NAME, sp, lp)?, operand(NAME, sw, lw)?);
        let forward = match (self.form, self.state) {
            (Form::Blocks { rough: true }, _) => cpu::forward_blocks::<true>,
            (Form::Blocks { rough: false }, _) => cpu::forward_blocks::<false>,
            (_, 1) => cpu::forward,
            _ => reference::forward,
        };
        let shape = match self.form {
            Form::Blocks { .. } => Shape::from((sizes.batch, sizes.channels.div_ceil(BLOCK), sizes.tokens, BLOCK)),
            Form::PerDirection | Form::Merged => sizes.output(),
        };
        Ok((CpuStorage::F32(forward(x, p, w, &self.orders, sizes)), shape))
    }

    fn cuda_fwd(
        &self,
        sx: &CudaStorage,
        lx: &Layout,
        sp: &CudaStorage,
        lp: &Layout,
        sw: &CudaStorage,
        lw: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        if matches!(self.form, Form::Blocks { .. }) {
            bail!("{NAME}: a GPU makes no blocks");
        }
        let sizes = self.sizes(lx.dims(), lp.dims(), lw.dims())?;
        let of = Type::try_from(sx.dtype())?;
        let length = self.orders.tables()[0].len();
        let program = kernels::scan::forward(sizes, of, length, gpu::multiprocessors(sx)?)?;
        let orders = gpu::orders(&self.orders, &Device::Cuda(sx.device().clone()))?;
        let (orders, lo) = orders.storage_and_layout();
        let Storage::Cuda(so) = &*orders else { bail!("selective_scan: orders are on another device") };
        let y = gpu::run(&program, &[(sx, lx), (sp, lp), (sw, lw), (so, lo)])?;
        Ok((y, sizes.output()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        projections: &Tensor,
        parameters: &Tensor,
        _y: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let sizes = self.sizes(x.dims(), projections.dims(), parameters.dims())?;
        if x.device().is_cuda() {
            let program = kernels::scan::backward(sizes, self.orders.tables()[0].len())?;
            let orders = gpu::orders(&self.orders, x.device())?;
            let operands = [x, projections, parameters, &orders, grad];
            return gradients(&program, &operands, [x, projections, parameters]).map(Into::into);
        }
        let (projections_dense, grad) = (projections.contiguous()?, grad.contiguous()?);
        let (xs, ps) = (Values::of(NAME, x)?, Values::of(NAME, &projections_dense)?);
        let (ws, gs) = (Values::of(NAME, parameters)?, Values::of(NAME, &grad)?);
        let gradients = if self.state == 1 {
            cpu::backward(&xs, &ps, &ws, &gs, &self.orders, sizes)
        } else {
            reference::backward(&xs, &ps, &ws, &gs, &self.orders, sizes)
        };
        Ok((
            Some(cpu_tensor(gradients.x, x.shape())?),
            Some(cpu_tensor(gradients.projections, projections.shape())?),
            Some(cpu_tensor(gradients.parameters, parameters.shape())?),
        ))
    }
}

/// Gradients of the three operands, in their shapes.
#[derive(Debug, Clone)]
pub struct Gradients {
    /// `(B, L, D)`
    pub x: Vec<f32>,
    /// `(B, L, K (R + 2 N))`
    pub projections: Vec<f32>,
    /// `(K, R + 2 + N, D)`
    pub parameters: Vec<f32>,
}
