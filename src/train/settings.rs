//! What a training run is told.

use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::str::FromStr;

/// Epochs on crops of one size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Phase {
    /// Side of the square crops in pixels, a multiple of 32.
    pub crop: usize,
    /// Passes over the training part.
    pub epochs: usize,
}

impl FromStr for Phase {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong =
            || Error::Input(format!("`{text}`: expected CROP:EPOCHS with a crop of 32 to 512, a multiple of 32"));
        let (crop, epochs) = text.split_once(':').ok_or_else(wrong)?;
        let (crop, epochs) = (crop.parse().map_err(|_| wrong())?, epochs.parse().map_err(|_| wrong())?);
        if crop % 32 != 0 || !(32..=512).contains(&crop) || epochs == 0 {
            return Err(wrong());
        }
        Ok(Self { crop, epochs })
    }
}

/// How a set is divided into a training and a validation part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SplitBy {
    /// The last part of each numbered series of names: neighbours, which may show one scene, stay together.
    Ranges,
    /// At random, by the seed.
    Random,
}

/// How a step is made from gradients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Optimizer {
    /// AdamW for every parameter, as the paper has it.
    AdamW,
    /// Muon for the matrices of hidden layers, AdamW for the rest: further in as many steps from a random start.
    Muon,
}

/// Everything that decides a run's result. Two runs with equal settings give equal weights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Folders with a `mos.csv`.
    pub data: Vec<PathBuf>,
    /// Variant to train.
    pub model: String,
    /// Weights to start from.
    pub start: Option<PathBuf>,
    /// Precomputed features of another network for every picture of the first folder, to be predicted beside the score:
    /// one vector a picture, or a map of them (`examples/teacher_maps.py`).
    pub teacher_features: Option<PathBuf>,
    /// Weight of the teacher's loss.
    pub teacher_weight: f64,
    /// Weight of the ranking loss, between pictures and of a picture above its distorted copies.
    pub rank_weight: f64,
    /// Pictures of every eight that also pass in two distorted copies.
    pub distorted: usize,
    /// Crop sizes in turn.
    pub phases: Vec<Phase>,
    /// Pictures in a step.
    pub batch: usize,
    /// How a step is made.
    pub optimizer: Optimizer,
    /// Highest learning rate.
    pub learning_rate: f64,
    /// Epochs after which the rate is divided by ten; none for a cosine to zero over the whole run.
    pub decay_every: Option<usize>,
    /// Steps over which the rate rises from zero.
    pub warmup: usize,
    /// AdamW's weight decay.
    pub weight_decay: f64,
    /// Part of the moving average of weights kept at each step; the average is what is validated and saved.
    pub average: f64,
    /// Part of each set that is held out.
    pub validation: f64,
    /// How it is chosen.
    pub split: SplitBy,
    /// Epochs from one validation to the next; the last epoch always has one.
    pub validate_every: usize,
    /// Of weights, order, crops.
    pub seed: u64,
}

impl Settings {
    /// Epochs of all phases.
    pub fn epochs(&self) -> usize {
        self.phases.iter().map(|p| p.epochs).sum()
    }

    /// Crop size of an epoch.
    pub(super) fn crop(&self, epoch: usize) -> usize {
        let mut end = 0;
        for phase in &self.phases {
            end += phase.epochs;
            if epoch < end {
                return phase.crop;
            }
        }
        self.phases.last().map_or(crate::model::CROP, |p| p.crop)
    }

    /// Refuses what cannot be trained with.
    ///
    /// # Errors
    /// Names the setting.
    pub fn validate(&self) -> Result<()> {
        let wrong = |what: &str| Err(Error::Input(what.to_owned()));
        if self.data.is_empty() {
            return wrong("training needs a folder with a mos.csv (--data)");
        }
        if self.phases.is_empty() {
            return wrong("training needs at least one epoch (--phases CROP:EPOCHS)");
        }
        if self.batch < 2 {
            return wrong("the batch must be at least 2");
        }
        if !(self.learning_rate > 0.0 && self.learning_rate.is_finite()) {
            return wrong("the learning rate must be positive");
        }
        if !(0.0..1.0).contains(&self.average) {
            return wrong("the moving average's factor must be at least 0 and under 1");
        }
        if !(self.validation > 0.0 && self.validation < 1.0) {
            return wrong("the validation part must be between 0 and 1");
        }
        if self.validate_every == 0 {
            return wrong("validation must come every epoch or every few (--validate-every 1 or more)");
        }
        if self.distorted > 8 {
            return wrong("at most 8 of every 8 pictures can be distorted");
        }
        Ok(())
    }

    /// Learning rate of a step.
    pub(super) fn rate(&self, step: usize, steps_per_epoch: usize) -> f64 {
        let rise = ((step + 1) as f64 / self.warmup.max(1) as f64).min(1.0);
        let fall = match self.decay_every {
            Some(epochs) => 0.1f64.powi((step / (steps_per_epoch * epochs.max(1))) as i32),
            None => {
                let progress = step as f64 / (steps_per_epoch * self.epochs()) as f64;
                0.5 + 0.5 * (std::f64::consts::PI * progress).cos()
            }
        };
        self.learning_rate * rise * fall
    }
}
