//! Adapters: small sets of weights that turn a frozen network to another kind of content.
//!
//! After each stage an adapter changes the features that the next one sees; it may also bring a head of its own. The paper's
//! is StylePrompt; the others are what it is compared with (table 4). A fresh adapter changes nothing.

mod others;
mod style_prompt;

use super::config::Config;
use super::layers::Linear;
use super::parameters::{Scope, Source};
use super::scale_head::ScaleHead;
use crate::ops::gpu::Leave;
use crate::{Error, Result};
use candle_core::Tensor;
use others::{ConvPrompt, CrossAttentionPrompt, Ssf};
use serde::{Deserialize, Serialize};
use style_prompt::StylePrompt;

/// How features are changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Injection {
    /// They are not: only the head is another.
    None,
    /// Mixed prompts give a scale and a shift for each channel (paper, section 3.2).
    StylePrompt,
    /// A learned scale and shift for each channel, whatever the features (after SSF, Lian et al. 2022).
    Ssf,
    /// Mixed prompts beside the features through a convolution.
    ConvPrompt,
    /// Features attend to the prompts.
    CrossAttentionPrompt,
}

/// Height and width of the prompts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PromptSize {
    /// This height and width; `(1, 1)` in the paper.
    Fixed(usize, usize),
    /// Those of each stage's features for a 224x224 crop.
    Layer,
}

/// What distinguishes one kind of adapter from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdapterConfig {
    /// How features are changed.
    pub injection: Injection,
    /// Prompts that each stage mixes, `N`.
    pub prompts: usize,
    /// Channels of a prompt: 256 in the paper. What six prompts can say is said by few, too.
    #[serde(default = "channels")]
    pub channels: usize,
    /// Their height and width (StylePrompt only).
    pub size: PromptSize,
    /// Whether it has a head of its own.
    pub head: bool,
}

impl Default for AdapterConfig {
    /// The paper's StylePrompt.
    fn default() -> Self {
        let size = PromptSize::Fixed(1, 1);
        Self { injection: Injection::StylePrompt, prompts: 6, channels: channels(), size, head: false }
    }
}

/// The paper's, and what files without a word on it have.
fn channels() -> usize {
    256
}

/// Limits for configurations that come from a file, far beyond any of use.
const MAX_PROMPTS: usize = 1024;
const MAX_CHANNELS: usize = 4096;
const MAX_SIZE: usize = 64;

impl AdapterConfig {
    /// Refuses what no adapter could be built from.
    ///
    /// # Errors
    /// Names the field and its limits.
    pub fn validate(&self) -> Result<()> {
        let wrong = |what: &str, max: usize| Err(Error::Input(format!("adapter: {what} must be 1 to {max}")));
        if !(1..=MAX_PROMPTS).contains(&self.prompts) {
            return wrong("the number of prompts", MAX_PROMPTS);
        }
        if !(1..=MAX_CHANNELS).contains(&self.channels) {
            return wrong("the prompts' channels", MAX_CHANNELS);
        }
        match self.size {
            PromptSize::Fixed(h, w) if !(1..=MAX_SIZE).contains(&h) || !(1..=MAX_SIZE).contains(&w) => {
                wrong("each side of the prompts", MAX_SIZE)
            }
            _ => Ok(()),
        }
    }
}

/// One adapter for one network.
#[derive(Debug)]
pub struct Adapter {
    config: AdapterConfig,
    stages: Vec<Stage>,
    pub(super) head: Option<Linear>,
    /// Of scales, beside a head of its own.
    pub(super) scale_head: Option<ScaleHead>,
    leave: Leave,
}

impl Drop for Adapter {
    fn drop(&mut self) {
        self.leave.begin();
    }
}

#[derive(Debug)]
enum Stage {
    None,
    StylePrompt(StylePrompt),
    Ssf(Ssf),
    ConvPrompt(ConvPrompt),
    CrossAttentionPrompt(CrossAttentionPrompt),
}

impl Adapter {
    /// Builds an adapter from a source of tensors: `style_prompt.{stage}.*` and so on, `classifier.head.*`.
    ///
    /// # Errors
    /// What the source says of a missing or mis-shaped tensor.
    pub fn new(source: &mut dyn Source, network: &Config, config: &AdapterConfig) -> candle_core::Result<Self> {
        let mut scope = Scope::new(source);
        let [_, c2, c3, c4] = network.widths();
        // Features after each stage of a 224x224 crop: after the stage's downsample.
        let stages = [(c2, 28), (c3, 14), (c4, 7), (c4, 7)].into_iter().enumerate().map(|(i, (width, side))| {
            let size = match config.size {
                PromptSize::Fixed(h, w) => (h, w),
                PromptSize::Layer => (side, side),
            };
            Ok(match config.injection {
                Injection::None => Stage::None,
                Injection::StylePrompt => {
                    Stage::StylePrompt(StylePrompt::new(scope.pp("style_prompt").pp(i), width, config, size)?)
                }
                Injection::Ssf => Stage::Ssf(Ssf::new(scope.pp("ssf").pp(i), width)?),
                Injection::ConvPrompt => {
                    Stage::ConvPrompt(ConvPrompt::new(scope.pp("conv_prompt").pp(i), width, config)?)
                }
                Injection::CrossAttentionPrompt => Stage::CrossAttentionPrompt(CrossAttentionPrompt::new(
                    scope.pp("cross_attention_prompt").pp(i),
                    width,
                    config,
                )?),
            })
        });
        let stages = stages.collect::<candle_core::Result<_>>()?;
        let head = if config.head {
            Some(Linear::new(scope.pp("classifier").pp("head"), network.features(), 1)?)
        } else {
            None
        };
        Ok(Self { config: *config, stages, head, scale_head: None, leave: Leave::default() })
    }

    /// What kind it is.
    pub fn config(&self) -> &AdapterConfig {
        &self.config
    }

    /// Features after stage `i`, `(B, H, W, C)`, to the same.
    pub(super) fn forward(&self, i: usize, x: &Tensor) -> candle_core::Result<Tensor> {
        match &self.stages[i] {
            Stage::None => Ok(x.clone()),
            Stage::StylePrompt(stage) => stage.forward(x),
            Stage::Ssf(stage) => stage.forward(x),
            Stage::ConvPrompt(stage) => stage.forward(x),
            Stage::CrossAttentionPrompt(stage) => stage.forward(x),
        }
    }
}
