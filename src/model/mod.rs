//! QMamba: a vision state-space network (VMamba v2) with a quality head, by configuration with LQMamba's local scan.

pub mod adapter;
mod block;
mod config;
mod layers;
pub mod load;
pub mod parameters;
mod scale_head;
mod ss2d;

pub use crate::crops::CROP;
pub use adapter::{Adapter, AdapterConfig};
pub use config::Config;
pub use scale_head::ScaleHead;

use block::VssBlock;
use candle_core::{DType, Result, Tensor};
use layers::{Linear, Norm, PatchEmbed, Prepared, downsample};
use parameters::Scope;

/// The network.
#[derive(Debug)]
pub struct QMamba {
    config: Config,
    patch_embed: PatchEmbed,
    stages: Vec<Stage>,
    norm: Norm,
    head: Linear,
    /// Of scales, where the weights have one.
    scale_head: Option<ScaleHead>,
    activations: DType,
}

#[derive(Debug)]
struct Stage {
    blocks: Vec<VssBlock>,
    downsample: Option<Prepared>,
}

/// What the network makes of a batch of crops.
#[derive(Debug)]
pub struct Output {
    /// The last stage's normalised tokens, `(B, L, 8 C)`, one for each 32x32 pixels.
    pub tokens: Tensor,
    /// Their mean, which the head reads, `(B, 8 C)`.
    pub features: Tensor,
    /// The head's output, `(B,)`, on the scale of the training's labels.
    pub score: Tensor,
}

impl QMamba {
    /// Builds the network from a source of tensors, whose names are those of the public VMamba checkpoints.
    ///
    /// # Errors
    /// What the source says of a missing or mis-shaped tensor.
    pub fn new(mut scope: Scope, config: &Config) -> Result<Self> {
        let mut stages = Vec::with_capacity(4);
        let patch_embed = PatchEmbed::new(scope.pp("patch_embed"), config.width)?;
        for (i, (&depth, width)) in config.depths.iter().zip(config.widths()).enumerate() {
            let mut scope = scope.pp("layers");
            let mut scope = scope.pp(i);
            let window = config.windows.map(|windows| windows[i]);
            let blocks = (0..depth).map(|j| VssBlock::new(scope.pp("blocks").pp(j), width, window));
            let blocks = blocks.collect::<Result<_>>()?;
            let downsample = if i < 3 { Some(downsample(scope.pp("downsample"), width)?) } else { None };
            stages.push(Stage { blocks, downsample });
        }
        let mut scope = scope.pp("classifier");
        Ok(Self {
            config: config.clone(),
            patch_embed,
            stages,
            norm: Norm::new(scope.pp("norm"), config.features())?,
            head: Linear::exact(scope.pp("head"), config.features(), 1)?,
            scale_head: None,
            activations: scope.activations(),
        })
    }

    /// The configuration that the network was built from.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The head that goes with the features of [`forward`](Self::forward) and knows of scales, where there is one: an adapter's
    /// with the adapter's own head, else the network's.
    pub fn scale_head<'a>(&'a self, adapter: Option<&'a Adapter>) -> Option<&'a ScaleHead> {
        match adapter {
            Some(adapter) if adapter.head.is_some() => adapter.scale_head.as_ref(),
            _ => self.scale_head.as_ref(),
        }
    }

    /// The type of its activations.
    pub fn activations(&self) -> DType {
        self.activations
    }

    /// Scores normalised crops `(B, H, W, 3)`, `f32`, changed by an adapter where one is given.
    ///
    /// # Errors
    /// Crops of another shape.
    pub fn forward(&self, crops: &Tensor, adapter: Option<&Adapter>) -> Result<Output> {
        let mut x = self.patch_embed.forward(crops)?;
        for (i, stage) in self.stages.iter().enumerate() {
            for block in &stage.blocks {
                x = block.forward(&x)?;
            }
            if let Some(downsample) = &stage.downsample {
                x = downsample.forward(&x)?;
            }
            if let Some(adapter) = adapter {
                x = adapter.forward(i, &x.to_dtype(DType::F32)?)?.to_dtype(self.activations)?;
            }
        }
        let (b, h, w, c) = x.dims4()?;
        let tokens = self.norm.forward(&x.reshape((b, h * w, c))?.to_dtype(DType::F32)?)?;
        let features = crate::ops::mean_tokens(&tokens)?;
        let head = adapter.and_then(|a| a.head.as_ref()).unwrap_or(&self.head);
        let score = head.forward(&features)?.squeeze(1)?;
        Ok(Output { tokens, features, score })
    }
}
