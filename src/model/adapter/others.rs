//! What the paper compares StylePrompt with (table 4). Its text leaves them open; each is built to change nothing at first.

use super::AdapterConfig;
use super::style_prompt::{Prompts, softmax};
use crate::model::layers::Linear;
use crate::model::parameters::{Init, Scope};
use crate::ops;
use candle_core::{Result, Tensor};

/// One scale and one shift for each channel (`gamma`, `beta`).
#[derive(Debug)]
pub(super) struct Ssf {
    gamma: Tensor,
    beta: Tensor,
}

impl Ssf {
    pub(super) fn new(mut scope: Scope, width: usize) -> Result<Self> {
        Ok(Self { gamma: scope.get("gamma", &[width], Init::Zeros)?, beta: scope.get("beta", &[width], Init::Zeros)? })
    }

    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (b, h, w, c) = x.dims4()?;
        let all = |t: &Tensor| t.reshape((1, 1, c))?.broadcast_as((b, 1, c))?.contiguous();
        ops::modulate(&x.reshape((b, h * w, c))?, &all(&self.gamma)?, &all(&self.beta)?)?.reshape((b, h, w, c))
    }
}

/// The mixed prompt beside the features at every place, through a 3x3 convolution, added to the features. With six prompts on
/// LQMamba-B these are the paper's 28.33 M parameters.
#[derive(Debug)]
pub(super) struct ConvPrompt {
    prompts: Prompts,
    conv: Tensor, // (C, C + E, 3, 3)
    conv_bias: Tensor,
}

impl ConvPrompt {
    pub(super) fn new(mut scope: Scope, width: usize, config: &AdapterConfig) -> Result<Self> {
        Ok(Self {
            prompts: Prompts::new(scope.reborrow(), width, config, (1, 1))?,
            conv: scope.pp("conv").get("weight", &[width, width + config.channels, 3, 3], Init::Zeros)?,
            conv_bias: scope.pp("conv").get("bias", &[width], Init::Zeros)?,
        })
    }

    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (b, h, w, _) = x.dims4()?;
        let prompt = self.prompts.mixed(x)?; // (B, E)
        let e = prompt.dim(1)?;
        let prompt = prompt.reshape((b, 1, 1, e))?.broadcast_as((b, h, w, e))?;
        let both = Tensor::cat(&[x, &prompt.contiguous()?], 3)?;
        ops::add(x, &ops::conv3x3(&both, &ops::conv3x3_matrix(&self.conv)?, &self.conv_bias, 1)?)
    }
}

/// Each place attends to the prompts, with one head; the result is added to the features.
#[derive(Debug)]
pub(super) struct CrossAttentionPrompt {
    prompts: Tensor, // (N, E)
    query: Linear,
    key: Linear,
    value: Linear,
    out: Linear,
}

impl CrossAttentionPrompt {
    pub(super) fn new(mut scope: Scope, width: usize, config: &AdapterConfig) -> Result<Self> {
        Ok(Self {
            prompts: scope.get("prompts", &[config.prompts, config.channels], Init::Normal(1.0))?,
            query: Linear::new(scope.pp("query"), width, width)?,
            key: Linear::new(scope.pp("key"), config.channels, width)?,
            value: Linear::new(scope.pp("value"), config.channels, width)?,
            out: Linear::with_init(scope.pp("out"), width, width, Init::Zeros)?,
        })
    }

    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let c = x.dim(3)?;
        let (key, value) = (self.key.forward(&self.prompts)?, self.value.forward(&self.prompts)?); // (N, C)
        let logits = ops::linear(&self.query.forward(x)?, &key, None)?; // (B, H, W, N)
        let weights = softmax(&(logits / (c as f64).sqrt())?)?;
        let seen = ops::linear(&weights, &value.t()?.contiguous()?, None)?;
        ops::add(x, &self.out.forward(&seen)?)
    }
}
