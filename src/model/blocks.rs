//! The network's parts, each with its checkpoint names: normalisation, convolution, MLP, the VSS block.

use super::parameters::{Init, Scope};
use super::ss2d::Ss2d;
use crate::ops;
use candle_core::{Result, Tensor};

/// Weights start small, as in the public VMamba training code.
const DEVIATION: Init = Init::Normal(0.02);

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
        let weight = scope.get("weight", &[outputs, inputs], init)?;
        Ok(Self { weight, bias: Some(scope.get("bias", &[outputs], Init::Zeros)?) })
    }

    pub(super) fn without_bias(mut scope: Scope, inputs: usize, outputs: usize) -> Result<Self> {
        Ok(Self { weight: scope.get("weight", &[outputs, inputs], DEVIATION)?, bias: None })
    }

    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        ops::linear(x, &self.weight, self.bias.as_ref())
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

impl HalvingConv {
    pub(super) fn new(mut scope: Scope, inputs: usize, outputs: usize) -> Result<Self> {
        let init = Init::Normal((2.0 / (9 * inputs) as f64).sqrt());
        let weight = scope.get("weight", &[outputs, inputs, 3, 3], init)?;
        let matrix = if scope.trainable() { None } else { Some(ops::conv3x3_matrix(&weight)?) };
        Ok(Self { weight, matrix, bias: scope.get("bias", &[outputs], Init::Zeros)? })
    }

    /// `(B, H, W, inputs)` to `(B, H / 2, W / 2, outputs)`, rounded up.
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        match &self.matrix {
            Some(matrix) => ops::conv3x3(x, matrix, &self.bias, 2),
            None => ops::conv3x3(x, &ops::conv3x3_matrix(&self.weight)?, &self.bias, 2),
        }
    }
}

/// Crops to tokens: two halving convolutions (`patch_embed`).
#[derive(Debug)]
pub(super) struct PatchEmbed {
    first: HalvingConv,
    first_norm: Norm,
    second: HalvingConv,
    second_norm: Norm,
}

impl PatchEmbed {
    pub(super) fn new(mut scope: Scope, width: usize) -> Result<Self> {
        Ok(Self {
            first: HalvingConv::new(scope.pp(0), 3, width / 2)?,
            first_norm: Norm::new(scope.pp(2), width / 2)?,
            second: HalvingConv::new(scope.pp(5), width / 2, width)?,
            second_norm: Norm::new(scope.pp(7), width)?,
        })
    }

    /// `(B, H, W, 3)` to `(B, H / 4, W / 4, C)`.
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let x = ops::gelu(&self.first_norm.forward(&self.first.forward(x)?)?)?;
        self.second_norm.forward(&self.second.forward(&x)?)
    }
}

/// Between stages: half the map, twice the channels (`downsample`).
#[derive(Debug)]
pub(super) struct Downsample {
    conv: HalvingConv,
    norm: Norm,
}

impl Downsample {
    pub(super) fn new(mut scope: Scope, width: usize) -> Result<Self> {
        Ok(Self { conv: HalvingConv::new(scope.pp(1), width, 2 * width)?, norm: Norm::new(scope.pp(3), 2 * width)? })
    }

    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.norm.forward(&self.conv.forward(x)?)
    }
}

/// `x += SS2D(LN(x)); x += MLP(LN(x))` (`blocks.j`).
#[derive(Debug)]
pub(super) struct VssBlock {
    norm: Norm,
    op: Ss2d,
    norm2: Norm,
    fc1: Linear,
    fc2: Linear,
}

impl VssBlock {
    pub(super) fn new(mut scope: Scope, width: usize, window: Option<usize>) -> Result<Self> {
        Ok(Self {
            norm: Norm::new(scope.pp("norm"), width)?,
            op: Ss2d::new(scope.pp("op"), width, window)?,
            norm2: Norm::new(scope.pp("norm2"), width)?,
            fc1: Linear::new(scope.pp("mlp").pp("fc1"), width, 4 * width)?,
            fc2: Linear::new(scope.pp("mlp").pp("fc2"), 4 * width, width)?,
        })
    }

    /// `(B, H, W, C)` to the same.
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let x = ops::add(x, &self.op.forward(&self.norm.forward(x)?)?)?;
        let hidden = ops::gelu(&self.fc1.forward(&self.norm2.forward(&x)?)?)?;
        ops::add(&x, &self.fc2.forward(&hidden)?)
    }
}
