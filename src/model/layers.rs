//! The network's layers, each with its checkpoint names: normalisation, products, convolutions.

use super::parameters::{Init, Precision, Scope};
use crate::ops::quantized::{self, Bits, Input, Quantized};
use crate::ops::{self, Then};
use candle_core::{DType, Result, Tensor, bail};
use std::sync::Arc;

/// Weights start small, as in the public VMamba training code.
const DEVIATION: Init = Init::Normal(0.02);

/// Least inputs of a product in 8 bits. Convolutions between stages, and layers with fewer inputs, whose errors average out
/// less, keep 16: with all in 8, scores of qmamba-nano would move five to twenty times as far.
const BYTES_FROM: usize = 192;

/// LayerNorm over channels (`weight`, `bias`).
#[derive(Debug)]
pub(super) struct Norm {
    weight: Tensor,
    bias: Tensor,
}

impl Norm {
    pub(super) fn new(mut scope: Scope, channels: usize) -> Result<Self> {
        Ok(Self {
            weight: scope.get("weight", &[channels], Init::Ones)?,
            bias: scope.get("bias", &[channels], Init::Zeros)?,
        })
    }

    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        ops::layer_norm(x, &self.weight, &self.bias)
    }

    /// `x + y` and its norm.
    pub(super) fn forward_sum(&self, x: &Tensor, y: &Tensor) -> Result<(Tensor, Tensor)> {
        ops::add_layer_norm(x, y, &self.weight, &self.bias)
    }
}

/// Fully connected layer (`weight`, `bias`).
#[derive(Debug)]
pub(super) struct Linear {
    weight: Tensor,
    bias: Option<Tensor>,
}

impl Linear {
    pub(super) fn new(scope: Scope, inputs: usize, outputs: usize) -> Result<Self> {
        Self::with_init(scope, inputs, outputs, DEVIATION)
    }

    pub(super) fn with_init(mut scope: Scope, inputs: usize, outputs: usize, init: Init) -> Result<Self> {
        let weight = scope.factor("weight", &[outputs, inputs], init)?;
        Ok(Self { weight, bias: Some(scope.factor("bias", &[outputs], Init::Zeros)?) })
    }

    /// In `f32` whatever the activations are.
    pub(super) fn exact(mut scope: Scope, inputs: usize, outputs: usize) -> Result<Self> {
        let weight = scope.get("weight", &[outputs, inputs], DEVIATION)?;
        Ok(Self { weight, bias: Some(scope.get("bias", &[outputs], Init::Zeros)?) })
    }

    pub(super) fn without_bias(mut scope: Scope, inputs: usize, outputs: usize) -> Result<Self> {
        Ok(Self { weight: scope.factor("weight", &[outputs, inputs], DEVIATION)?, bias: None })
    }

    /// Without bias, from a weight that has been got already.
    pub(super) fn of(weight: Tensor) -> Self {
        Self { weight, bias: None }
    }

    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        ops::linear(x, &self.weight, self.bias.as_ref())
    }

    fn forward_then(&self, x: &Tensor, then: Then) -> Result<Tensor> {
        ops::linear_then(x, &self.weight, self.bias.as_ref(), then)
    }
}

/// 3x3 convolution of stride 2 (`weight`, `bias`): halves the map.
#[derive(Debug)]
pub(super) struct HalvingConv {
    weight: Tensor,
    /// `weight` as a matrix, where it will not change.
    matrix: Option<Tensor>,
    bias: Tensor,
}

/// The stride of a [`HalvingConv`].
const HALVING: usize = 2;

impl HalvingConv {
    pub(super) fn new(scope: Scope, inputs: usize, outputs: usize) -> Result<Self> {
        Self::with(scope, inputs, outputs, Scope::factor)
    }

    /// In `f32` whatever the activations are.
    fn exact(scope: Scope, inputs: usize, outputs: usize) -> Result<Self> {
        Self::with(scope, inputs, outputs, Scope::get)
    }

    fn with<'a>(
        mut scope: Scope<'a>,
        inputs: usize,
        outputs: usize,
        get: impl Fn(&mut Scope<'a>, &str, &[usize], Init) -> Result<Tensor>,
    ) -> Result<Self> {
        let init = Init::Normal((2.0 / (9 * inputs) as f64).sqrt());
        let weight = get(&mut scope, "weight", &[outputs, inputs, 3, 3], init)?;
        let matrix = if scope.trainable() { None } else { Some(ops::conv3x3_matrix(&weight)?) };
        Ok(Self { weight, matrix, bias: get(&mut scope, "bias", &[outputs], Init::Zeros)? })
    }

    fn matrix(&self) -> Result<Tensor> {
        self.matrix.clone().map_or_else(|| ops::conv3x3_matrix(&self.weight), Ok)
    }

    /// `(B, H, W, inputs)` to `(B, H / 2, W / 2, outputs)`, rounded up.
    fn forward_then(&self, x: &Tensor, then: Then) -> Result<Tensor> {
        ops::conv3x3_then(x, &self.matrix()?, &self.bias, HALVING, then)
    }
}

/// The product of a [`Layer`].
#[derive(Debug)]
pub(super) enum Product {
    Linear(Linear),
    Halving(HalvingConv),
}

impl From<Linear> for Product {
    fn from(linear: Linear) -> Self {
        Self::Linear(linear)
    }
}

impl From<HalvingConv> for Product {
    fn from(conv: HalvingConv) -> Self {
        Self::Halving(conv)
    }
}

/// A product and what stands around it: `[LayerNorm ->] product [-> LayerNorm] [-> GELU]`.
#[derive(Debug)]
pub(super) struct Layer {
    before: Option<Norm>,
    product: Product,
    after: Option<Norm>,
    gelu: bool,
}

/// A [`Layer`] as it runs: its parts one after the other, or all in one pass for inference.
#[derive(Debug)]
pub(super) enum Prepared {
    Parts(Layer),
    Fused(Arc<Quantized>),
}

impl Layer {
    pub(super) fn new(product: impl Into<Product>) -> Self {
        Self { before: None, product: product.into(), after: None, gelu: false }
    }

    pub(super) fn after_norm(self, norm: Norm) -> Self {
        Self { before: Some(norm), ..self }
    }

    fn then_norm(self, norm: Norm) -> Self {
        Self { after: Some(norm), ..self }
    }

    pub(super) fn then_gelu(self) -> Self {
        Self { gelu: true, ..self }
    }

    /// The layer in the form that the precision asks for.
    pub(super) fn prepare(self, precision: Precision) -> Result<Prepared> {
        Ok(match precision {
            Precision::Exact => Prepared::Parts(self),
            Precision::Standard | Precision::Fast => Prepared::Fused(Arc::new(self.fuse(precision)?)),
        })
    }

    /// The layer in integers.
    pub(super) fn fuse(&self, precision: Precision) -> Result<Quantized> {
        let wide = matches!(&self.product, Product::Linear(linear) if linear.weight.dim(1)? >= BYTES_FROM);
        let bits = if wide && precision == Precision::Fast { Bits::Eight } else { Bits::Sixteen };
        let parameters = |norm: &Norm| quantized::Norm::new(&norm.weight, &norm.bias);
        let mut fused = match (&self.product, &self.before) {
            (Product::Linear(linear), before) => {
                let input = before.as_ref().map_or(Ok(Input::Plain), |norm| parameters(norm).map(Input::Normalised))?;
                Quantized::new(&linear.weight, linear.bias.as_ref(), input, bits)?
            }
            (Product::Halving(conv), None) => {
                Quantized::new(&conv.matrix()?, Some(&conv.bias), Input::Patches(HALVING), bits)?
            }
            (Product::Halving(_), Some(_)) => bail!("a norm before a convolution cannot be fused"),
        };
        if let Some(norm) = &self.after {
            fused = fused.with_norm(parameters(norm)?)?;
        }
        Ok(if self.gelu { fused.with_gelu() } else { fused })
    }

    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let normal = self.before.as_ref().map(|norm| norm.forward(x)).transpose()?;
        let then = match &self.after {
            Some(Norm { weight, bias }) => Then::Norm { weight, bias, gelu: self.gelu },
            None if self.gelu => Then::Gelu,
            None => Then::Nothing,
        };
        self.product(normal.as_ref().unwrap_or(x), then)
    }

    /// The product alone, and what follows it.
    pub(super) fn product(&self, x: &Tensor, then: Then) -> Result<Tensor> {
        match &self.product {
            Product::Linear(linear) => linear.forward_then(x, then),
            Product::Halving(conv) => conv.forward_then(x, then),
        }
    }
}

impl Prepared {
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::Parts(layer) => layer.forward(x),
            Self::Fused(layer) => layer.forward(x),
        }
    }
}

/// Crops to tokens: two halving convolutions (`patch_embed`). The first is in `f32` whatever the activations are: rounded to 16
/// bits, pixels get a noise of their own, and that alone was two thirds of what half precision did to scores.
#[derive(Debug)]
pub(super) struct PatchEmbed {
    first: Prepared,
    second: Prepared,
    activations: DType,
}

impl PatchEmbed {
    pub(super) fn new(mut scope: Scope, width: usize) -> Result<Self> {
        let precision = scope.precision();
        let first = Layer::new(HalvingConv::exact(scope.pp(0), 3, width / 2)?);
        let first = first.then_norm(Norm::new(scope.pp(2), width / 2)?).then_gelu().prepare(precision)?;
        let second = Layer::new(HalvingConv::new(scope.pp(5), width / 2, width)?);
        let second = second.then_norm(Norm::new(scope.pp(7), width)?).prepare(precision)?;
        Ok(Self { first, second, activations: scope.activations() })
    }

    /// `(B, H, W, 3)`, `f32`, to `(B, H / 4, W / 4, C)` of the activations' type.
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.second.forward(&self.first.forward(x)?.to_dtype(self.activations)?)
    }
}

/// Between stages: half the map, twice the channels (`downsample`).
pub(super) fn downsample(mut scope: Scope, width: usize) -> Result<Prepared> {
    let precision = scope.precision();
    let conv = Layer::new(HalvingConv::new(scope.pp(1), width, 2 * width)?);
    conv.then_norm(Norm::new(scope.pp(3), 2 * width)?).prepare(precision)
}
