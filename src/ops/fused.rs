//! Products with what follows them: in one pass over memory on a GPU where nothing learns, elsewhere one operation after the other.

use super::kernels::Type;
use super::kernels::layers::{self, After};
use super::linear::product;
use super::{add, gelu, gpu, im2col, layer_norm, linear};
use candle_core::{D, Result, Tensor, bail};

/// What follows a product and its bias.
#[derive(Debug, Clone, Copy)]
pub enum Then<'a> {
    /// Nothing.
    Nothing,
    /// [`gelu`](super::gelu).
    Gelu,
    /// The sum with a residual of the product's shape.
    Add(&'a Tensor),
    /// [`layer_norm`](super::layer_norm), and GELU where asked for.
    Norm {
        /// `(O,)`
        weight: &'a Tensor,
        /// `(O,)`
        bias: &'a Tensor,
        /// Whether GELU follows.
        gelu: bool,
    },
}

impl<'a> Then<'a> {
    fn operands(self) -> Vec<&'a Tensor> {
        match self {
            Self::Nothing | Self::Gelu => vec![],
            Self::Add(residual) => vec![residual],
            Self::Norm { weight, bias, .. } => vec![weight, bias],
        }
    }
}

/// `x W^T + b` as [`linear`](super::linear()) has it, then `then`.
pub fn linear_then(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, then: Then) -> Result<Tensor> {
    match bias {
        Some(bias) if is_fused(&[x, weight, bias]) && is_fused(&then.operands()) => {
            finish(&product(x, weight)?, bias, then)
        }
        _ => one_by_one(linear(x, weight, bias)?, then),
    }
}

/// As [`conv3x3`](super::conv3x3), then `then`.
pub fn conv3x3_then(x: &Tensor, matrix: &Tensor, bias: &Tensor, stride: usize, then: Then) -> Result<Tensor> {
    linear_then(&im2col::patches(x, stride)?, matrix, Some(bias), then)
}

/// `x + y` and its [`layer_norm`](super::layer_norm), all `(..., C)` of one type.
pub fn add_layer_norm(x: &Tensor, y: &Tensor, weight: &Tensor, bias: &Tensor) -> Result<(Tensor, Tensor)> {
    if !is_fused(&[x, y, weight, bias]) {
        let sum = add(x, y)?;
        let normal = layer_norm(&sum, weight, bias)?;
        return Ok((sum, normal));
    }
    let channels = x.dim(D::Minus1)?;
    if x.dims() != y.dims() || [weight, bias].iter().any(|t| t.dims() != [channels]) {
        bail!("add_layer_norm: {:?}, {:?}, weight {:?}, bias {:?}", x.shape(), y.shape(), weight.shape(), bias.shape());
    }
    let program = layers::add_layer_norm(x.dtype().try_into()?, x.elem_count() / channels, channels)?;
    let made = gpu::apply(&program, &[&x.contiguous()?, &y.contiguous()?, weight, bias])?;
    Ok((made[0].reshape(x.shape())?, made[1].reshape(x.shape())?))
}

/// Whether there are kernels for it: they have no gradients.
fn is_fused(operands: &[&Tensor]) -> bool {
    operands.iter().all(|operand| operand.device().is_cuda() && !operand.track_op())
}

fn one_by_one(y: Tensor, then: Then) -> Result<Tensor> {
    match then {
        Then::Nothing => Ok(y),
        Then::Gelu => gelu(&y),
        Then::Add(residual) => add(residual, &y),
        Then::Norm { weight, bias, gelu: then_gelu } => {
            let normal = layer_norm(&y, weight, bias)?;
            if then_gelu { gelu(&normal) } else { Ok(normal) }
        }
    }
}

/// What follows a product `y` `(..., O)` on a GPU.
fn finish(y: &Tensor, bias: &Tensor, then: Then) -> Result<Tensor> {
    let (of, channels) = (Type::try_from(y.dtype())?, y.dim(D::Minus1)?);
    let fits = match then {
        Then::Add(residual) => residual.dims() == y.dims(),
        Then::Nothing | Then::Gelu | Then::Norm { .. } => then.operands().iter().all(|t| t.dims() == [channels]),
    };
    if bias.dims() != [channels] || !fits {
        bail!("a product {:?} with bias {:?}, then {then:?}", y.shape(), bias.shape());
    }
    let rows = y.elem_count() / channels;
    let (program, operands) = match then {
        Then::Nothing => (layers::finish_product(of, rows, channels, After::Bias)?, vec![y, bias]),
        Then::Gelu => (layers::finish_product(of, rows, channels, After::Gelu)?, vec![y, bias]),
        Then::Add(residual) => (layers::finish_product(of, rows, channels, After::Add)?, vec![y, bias, residual]),
        Then::Norm { weight, bias: norm_bias, gelu } => {
            (layers::shifted_norm(of, rows, channels, gelu)?, vec![y, bias, weight, norm_bias])
        }
    };
    gpu::apply(&program, &operands)?[0].reshape(y.shape())
}
