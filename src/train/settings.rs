//! What a training run is told.

use crate::model::AdapterConfig;
use crate::model::adapter::Injection;
use crate::{Error, Result};
use candle_core::DType;
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SplitBy {
    /// The last part of each numbered series of names: neighbours, which may show one scene, stay together.
    Ranges,
    /// At random, by the seed; what a known set made from one reference stays together.
    Random,
    /// Whole groups of one value in a column of the table, at random: a reference or a prompt is never in both parts.
    Column(String),
}

impl FromStr for SplitBy {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match (text, text.strip_prefix("column:")) {
            ("ranges", _) => Ok(Self::Ranges),
            ("random", _) => Ok(Self::Random),
            (_, Some(name)) if !name.is_empty() => Ok(Self::Column(name.to_owned())),
            _ => Err(Error::Input(format!("`{text}`: expected ranges, random or column:NAME"))),
        }
    }
}

/// One of several parts that are held out in turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fold {
    /// Which, from 1.
    pub index: usize,
    /// Of how many.
    pub count: usize,
}

impl FromStr for Fold {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let parts = text.split_once('/').and_then(|(i, n)| Some((i.parse().ok()?, n.parse().ok()?)));
        match parts {
            Some((index, count)) if count >= 2 && (1..=count).contains(&index) => Ok(Self { index, count }),
            _ => Err(Error::Input(format!("`{text}`: expected I/N with I from 1 to N and N at least 2"))),
        }
    }
}

/// The scores that mean worst and best.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ScoreRange {
    /// Worst.
    pub low: f64,
    /// Best; below `low` where a higher score is worse.
    pub high: f64,
}

impl FromStr for ScoreRange {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let parts = text.split_once(':').and_then(|(l, h)| Some((l.parse::<f64>().ok()?, h.parse::<f64>().ok()?)));
        match parts {
            Some((low, high)) if low.is_finite() && high.is_finite() && low != high => Ok(Self { low, high }),
            _ => Err(Error::Input(format!("`{text}`: expected LOW:HIGH, two different numbers"))),
        }
    }
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

/// What the network computes with while it is trained. Weights, their state in the optimiser, norms, scans, adapters, the head and the
/// loss are 32-bit floats with either.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Autocast {
    /// 32-bit floats.
    #[default]
    None,
    /// Activations and the operands of products are rounded to bfloat16, gradients of activations too: what GPUs have fast
    /// products for.
    Bf16,
}

impl Autocast {
    /// The type of activations.
    pub(super) fn activations(self) -> DType {
        match self {
            Self::None => DType::F32,
            Self::Bf16 => DType::BF16,
        }
    }
}

/// Everything that decides a run's result. Two runs with equal settings give equal weights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Folders with a `mos.csv`.
    pub data: Vec<PathBuf>,
    /// Whether pictures made from one reference are seen together, four in a step and cut at the same place, so that their
    /// order is learned and not that of contents.
    pub together: bool,
    /// Sets that heads of their own learn beside the network's, so that its features serve them too. They are not validated,
    /// and their heads are not kept.
    pub auxiliary: Vec<PathBuf>,
    /// Their pictures in an epoch for each of the others', drawn anew each time.
    pub auxiliary_share: f64,
    /// Whether auxiliary sets are learned by the network's own head, each through a scale and an offset that are learned with it and
    /// not kept, instead of by heads of their own.
    #[serde(default)]
    pub auxiliary_mapped: bool,
    /// Whether a head of scales is learned, of crops at all sizes of each picture that scoring takes crops of
    /// ([`ScaleHead`](crate::model::ScaleHead)). The ordinary head then learns of the pictures' own size.
    #[serde(default)]
    pub scale_head: bool,
    /// Whether crops at a picture's own size are seen with varying chroma upsampling, so that scores depend less on the player's.
    #[serde(default)]
    pub vary_chroma: bool,
    /// Variant to train.
    pub model: String,
    /// Weights to start from: an embedded model, a file, or another run's checkpoint.
    pub start: Option<String>,
    /// The adapter that is trained while those weights stay as they are; none trains the network.
    pub tuning: Option<AdapterConfig>,
    /// Scores that mean worst and best in every set; none for each set's own lowest and highest.
    pub mos_range: Option<ScoreRange>,
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
    /// What the network computes with; checkpoints from before there was a choice have 32-bit floats.
    #[serde(default)]
    pub autocast: Autocast,
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
    /// Part of each set that is held out; 0 trains on everything and keeps the last epoch's weights.
    pub validation: f64,
    /// How it is chosen.
    pub split: SplitBy,
    /// The part that is held out where parts take turns; instead of `validation`.
    pub fold: Option<Fold>,
    /// Epochs from one validation to the next; the last epoch always has one.
    pub validate_every: usize,
    /// Of weights, order, crops.
    pub seed: u64,
}

/// What the command line's options start from; the folders of pictures are yet to be named.
impl Default for Settings {
    fn default() -> Self {
        Self {
            data: vec![],
            together: false,
            auxiliary: vec![],
            auxiliary_share: 0.5,
            auxiliary_mapped: false,
            scale_head: false,
            vary_chroma: false,
            model: "qmamba-nano".into(),
            start: None,
            tuning: None,
            mos_range: None,
            teacher_features: None,
            teacher_weight: 0.1,
            rank_weight: 0.5,
            distorted: 1,
            phases: vec![Phase { crop: 224, epochs: 9 }],
            batch: 32,
            optimizer: Optimizer::AdamW,
            autocast: Autocast::None,
            learning_rate: 2e-4,
            decay_every: Some(3),
            warmup: 100,
            weight_decay: 0.05,
            average: 0.999,
            validation: 0.2,
            split: SplitBy::Ranges,
            fold: None,
            validate_every: 1,
            seed: 1,
        }
    }
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
        if let Some(tuning) = &self.tuning {
            tuning.validate()?;
            if self.scale_head && !tuning.head {
                return wrong("an adapter learns a head of scales only beside a head of its own");
            }
            if tuning.injection == Injection::None && !tuning.head {
                return wrong("an adapter that changes neither features nor head has nothing to tune");
            }
        }
        if self.phases.is_empty() {
            return wrong("training needs at least one epoch (--phases CROP:EPOCHS)");
        }
        if self.batch < 2 {
            return wrong("the batch must be at least 2");
        }
        if !(self.auxiliary_share > 0.0 && self.auxiliary_share.is_finite()) {
            return wrong("the auxiliary sets' share must be positive");
        }
        if self.tuning.is_some() && !self.auxiliary.is_empty() && !self.auxiliary_mapped {
            return wrong(
                "auxiliary sets with heads of their own teach a network, not an adapter (--auxiliary-mapped)",
            );
        }
        if !(self.learning_rate > 0.0 && self.learning_rate.is_finite()) {
            return wrong("the learning rate must be positive");
        }
        if !(0.0..1.0).contains(&self.average) {
            return wrong("the moving average's factor must be at least 0 and under 1");
        }
        if !(0.0..1.0).contains(&self.validation) {
            return wrong("the validation part must be at least 0 (train on everything) and under 1");
        }
        if self.fold.is_some() && self.split == SplitBy::Ranges {
            return wrong("folds need a random split or one by a column (--split)");
        }
        if self.validate_every == 0 {
            return wrong("validation must come every epoch or every few (--validate-every 1 or more)");
        }
        if self.together && !self.batch.is_multiple_of(8) {
            return wrong("with pictures of one reference together, the batch must be a multiple of 8");
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
