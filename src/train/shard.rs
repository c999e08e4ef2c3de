//! What a step sees: its pictures, cut and distorted, in shards, within which they are ranked.

use super::augment::{self, normalised};
use super::batch::{Batch, Piece, Shard};
use super::chroma;
use super::loss::{Labels, Targets};
use super::run::Run;
use super::scales::Size;
use crate::random::Random;
use crate::{Error, Result};
use candle_core::Tensor;
use rayon::prelude::*;

/// Sets the draws of chroma apart from those of places.
const CHROMA: u64 = 0xc420;

impl Run<'_> {
    /// Cuts and distorts a shard's pictures, on the calling pool's threads.
    pub(super) fn shard(&self, shard: &[usize], epoch: usize, batch: usize) -> Result<Shard> {
        let s = self.settings;
        let side = s.crop(epoch);
        let distorted = if s.rank_weight > 0.0 { (s.distorted * shard.len()).div_ceil(8) } else { 0 };
        let mut targets =
            Targets { scores: vec![], heads: vec![], sizes: vec![], taught: 0, features: vec![], distorted };
        // The pictures that the teacher has seen come first, as the loss wants them.
        let mut shard = shard.to_vec();
        shard.sort_by_key(|&index| (self.training[index].row.is_none(), self.training[index].head));
        let cut = |(i, &index): (usize, &usize)| -> Result<_> {
            let sample = &self.training[index];
            let place = if s.together { sample.content } else { index };
            let mut random = Random::new(s.seed, ((epoch as u64) << 32) + place as u64);
            let scales = self.student.scales.is_some();
            let size = if scales { Size::random(&sample.image, &mut random) } else { Size::own(&sample.image) };
            let (crop, place) = augment::random_crop(&sample.image, side, size.level, &mut random)?;
            let crop = match s.vary_chroma && size.level == 0 {
                // Versions of one content differ in it, as those of several players do.
                true => chroma::vary(crop, &mut Random::new(s.seed ^ CHROMA, ((epoch as u64) << 32) + index as u64)),
                false => crop,
            };
            let copies = if i < distorted { augment::distort(&crop, &mut random)?.to_vec() } else { Vec::new() };
            let copies = copies.iter().map(normalised).collect::<Vec<_>>();
            Ok((normalised(&crop), copies, place, size))
        };
        let (mut crops, mut all_copies) = (Vec::new(), Vec::new());
        for (cut, &index) in shard.par_iter().enumerate().map(cut).collect::<Vec<_>>().into_iter().zip(&shard) {
            let (crop, copies, place, size) = cut?;
            crops.push(crop);
            all_copies.extend(copies);
            let sample = &self.training[index];
            targets.scores.push(sample.score);
            targets.heads.push(sample.head);
            targets.sizes.push(size);
            if let (Some(teacher), Some(row)) = (&self.teacher, sample.row) {
                let side_at = |side: u32| side as usize >> size.level;
                let picture = (side_at(sample.image.width()), side_at(sample.image.height()));
                targets.features.extend(teacher.at(row, picture, place, side, side / 32));
                targets.taught += 1;
            }
        }
        crops.append(&mut all_copies);
        Ok(Shard { crops, side, targets, share: shard.len() as f64 / batch as f64 })
    }

    /// Brings shards to the network.
    pub(super) fn together(&self, shards: Vec<Shard>) -> Result<Batch> {
        let Some(side) = shards.first().map(|shard| shard.side) else {
            return Err(Error::Input("an empty batch".into()));
        };
        let crops = shards.iter().map(|shard| shard.crops.len()).sum::<usize>();
        let (mut pixels, mut parts) = (Vec::with_capacity(crops * side * side * 3), Vec::new());
        for Shard { crops, targets, share, .. } in shards {
            crops.iter().for_each(|crop| pixels.extend_from_slice(crop));
            let labels = Labels::new(&targets, self.settings, self.student.scales.as_ref(), &self.device)?;
            parts.push(Piece { crops: crops.len(), share, targets, labels });
        }
        Ok(Batch { pixels: Tensor::from_vec(pixels, (crops, side, side, 3), &self.device)?, parts })
    }
}
