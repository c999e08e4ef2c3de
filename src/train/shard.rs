//! What a step sees: its pictures, cut and distorted, in shards, within which they are ranked.

use super::augment;
use super::loss::{Labels, Targets};
use super::run::{Run, normalised};
use crate::random::Random;
use crate::{Error, Result};
use candle_core::Tensor;

/// Pictures whose gradients are computed together. Fixed, so that results do not depend on the number of threads.
pub(super) const SHARD: usize = 8;

/// A shard's crops, and what is to be learned from them.
pub(super) struct Shard {
    pixels: Vec<f32>,
    side: usize,
    targets: Targets,
    /// Of the step's pictures.
    share: f64,
}

/// Shards that go through the network together, where it is.
pub(super) struct Batch {
    /// `(crops, side, side, 3)`
    pub pixels: Tensor,
    pub parts: Vec<Piece>,
}

/// One shard of a batch.
pub(super) struct Piece {
    pub crops: usize,
    pub share: f64,
    pub targets: Targets,
    pub labels: Labels,
}

impl Run<'_> {
    /// Cuts and distorts a shard's pictures.
    pub(super) fn shard(&self, shard: &[usize], epoch: usize, batch: usize) -> Result<Shard> {
        let s = self.settings;
        let side = s.crop(epoch);
        let (mut pixels, mut copies) = (Vec::new(), Vec::new());
        let distorted = if s.rank_weight > 0.0 { (s.distorted * shard.len()).div_ceil(8) } else { 0 };
        let mut targets = Targets { scores: vec![], heads: vec![], taught: 0, features: vec![], distorted };
        // The pictures that the teacher has seen come first, as the loss wants them.
        let mut shard = shard.to_vec();
        shard.sort_by_key(|&index| (self.training[index].row.is_none(), self.training[index].head));
        for (i, &index) in shard.iter().enumerate() {
            let sample = &self.training[index];
            let place = if s.together { sample.content } else { index };
            let mut random = Random::new(s.seed, ((epoch as u64) << 32) + place as u64);
            let (crop, place) = augment::random_crop(&sample.image, side, &mut random)?;
            normalised(&crop, &mut pixels);
            if i < distorted {
                for copy in augment::distort(&crop, &mut random)? {
                    normalised(&copy, &mut copies);
                }
            }
            targets.scores.push(sample.score);
            targets.heads.push(sample.head);
            if let (Some(teacher), Some(row)) = (&self.teacher, sample.row) {
                let picture = (sample.image.width() as usize, sample.image.height() as usize);
                targets.features.extend(teacher.at(row, picture, place, side, side / 32));
                targets.taught += 1;
            }
        }
        pixels.append(&mut copies);
        Ok(Shard { pixels, side, targets, share: shard.len() as f64 / batch as f64 })
    }

    /// Brings shards to the network.
    pub(super) fn together(&self, shards: Vec<Shard>) -> Result<Batch> {
        let Some(side) = shards.first().map(|shard| shard.side) else {
            return Err(Error::Input("an empty batch".into()));
        };
        let (mut pixels, mut parts) = (Vec::new(), Vec::new());
        for shard in shards {
            let Shard { targets, share, .. } = shard;
            let labels = Labels::new(&targets, self.settings, &self.device)?;
            parts.push(Piece { crops: shard.pixels.len() / (side * side * 3), share, targets, labels });
            if pixels.is_empty() { pixels = shard.pixels } else { pixels.extend(shard.pixels) }
        }
        let crops = pixels.len() / (side * side * 3);
        Ok(Batch { pixels: Tensor::from_vec(pixels, (crops, side, side, 3), &self.device)?, parts })
    }
}
