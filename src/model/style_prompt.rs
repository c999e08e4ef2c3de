//! StylePrompt (paper, section 3.2): a small adapter that turns a frozen network to another kind of content by shifting
//! the mean and variance of each stage's features.

use super::blocks::Linear;
use super::config::Config;
use super::parameters::{Init, Scope};
use crate::ops;
use candle_core::{Result, Tensor};

/// Prompts that each stage mixes, `N`.
const COMPONENTS: usize = 6;
/// Channels of a prompt.
const CHANNELS: usize = 256;

/// One adapter: a generator and an injector after each stage.
#[derive(Debug)]
pub struct StylePrompt {
    stages: Vec<Stage>,
}

impl StylePrompt {
    /// The adapter for a network, with the names `style_prompt.{stage}.*`.
    pub fn new(mut scope: Scope, config: &Config) -> Result<Self> {
        let [_, c2, c3, c4] = config.widths();
        let mut scope = scope.pp("style_prompt");
        let widths = [c2, c3, c4, c4].into_iter().enumerate();
        Ok(Self { stages: widths.map(|(i, width)| Stage::new(scope.pp(i), width)).collect::<Result<_>>()? })
    }

    /// Features after stage `i`, `(B, H, W, C)`, to the same.
    pub(super) fn forward(&self, i: usize, x: &Tensor) -> Result<Tensor> {
        self.stages[i].forward(x)
    }
}

#[derive(Debug)]
struct Stage {
    prompts: Tensor, // (N, 256)
    select: Linear,
    conv: Tensor, // (256, 256, 3, 3); on a 1x1 map only the centre acts
    conv_bias: Tensor,
    gamma: Linear,
    beta: Linear,
}

impl Stage {
    fn new(mut scope: Scope, width: usize) -> Result<Self> {
        Ok(Self {
            prompts: scope.get("prompts", &[COMPONENTS, CHANNELS], Init::Normal(1.0))?,
            select: Linear::new(scope.pp("select"), width, COMPONENTS)?,
            conv: scope.pp("conv").get("weight", &[CHANNELS, CHANNELS, 3, 3], Init::Normal(1.0 / 48.0))?,
            conv_bias: scope.pp("conv").get("bias", &[CHANNELS], Init::Zeros)?,
            gamma: Linear::with_init(scope.pp("gamma"), CHANNELS, width, Init::Zeros)?,
            beta: Linear::with_init(scope.pp("beta"), CHANNELS, width, Init::Zeros)?,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (b, h, w, c) = x.dims4()?;
        let mean = ops::mean_tokens(&x.reshape((b, h * w, c))?)?;
        // Equation (1): the prompts mixed by what the features are.
        let logits = self.select.forward(&mean)?; // (B, N)
        let weights = logits.broadcast_sub(&logits.max_keepdim(1)?)?.exp()?;
        let weights = weights.broadcast_div(&weights.sum_keepdim(1)?)?;
        let fused = ops::linear(&weights, &self.prompts.t()?.contiguous()?, None)?; // (B, 256)
        // Equations (2) to (4).
        let centre = self.conv.narrow(2, 1, 1)?.narrow(3, 1, 1)?.reshape((CHANNELS, CHANNELS))?.contiguous()?;
        let fused = ops::linear(&fused, &centre, Some(&self.conv_bias))?;
        let gamma = (self.gamma.forward(&fused)? + 1.0)?.reshape((b, 1, 1, c))?;
        let beta = self.beta.forward(&fused)?.reshape((b, 1, 1, c))?;
        x.broadcast_mul(&gamma)?.broadcast_add(&beta)
    }
}
