//! The gradients of a step: its pictures in shards, within which they are ranked.

use super::augment;
use super::loss::{self, Targets};
use super::optimizer::State;
use super::run::{Run, normalised};
use crate::model::Output;
use crate::random::Random;
use crate::{Error, Result};
use candle_core::Tensor;
use parking_lot::Mutex;
use rayon::prelude::*;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Pictures whose gradients are computed together. Fixed, so that results do not depend on the number of threads.
const SHARD: usize = 8;

/// One vector a slot, and the losses: total, score, teacher, ranking.
pub(super) type Gradients = (Vec<Vec<f32>>, [f64; 4]);

/// A shard's crops, cut and distorted, and what is to be learned from them.
pub(super) struct Shard {
    pixels: Vec<f32>,
    side: usize,
    targets: Targets,
    /// Of the step's pictures.
    share: f64,
}

impl Shard {
    fn crops(&self) -> usize {
        self.pixels.len() / (self.side * self.side * 3)
    }
}

impl Run<'_> {
    /// The gradients of a step and its losses.
    pub fn gradients(&self, optimizer: &State, step: usize, per_epoch: usize) -> Result<Gradients> {
        if self.device.is_cpu() {
            self.by_shards(optimizer, step, per_epoch)
        } else {
            self.at_once(optimizer, step, per_epoch)
        }
    }

    /// Shard by shard, each on one thread: every part of the work is then spread, candle's own too.
    fn by_shards(&self, optimizer: &State, step: usize, per_epoch: usize) -> Result<Gradients> {
        let (batch, epoch) = (self.batch(step, per_epoch), step / per_epoch);
        let shards: Vec<&[usize]> = batch.chunks(SHARD).collect();
        let done: Vec<Mutex<Option<Result<Gradients>>>> = shards.iter().map(|_| Mutex::new(None)).collect();
        let next = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for pool in &self.pools {
                scope.spawn(|| {
                    pool.install(|| {
                        while let Some((i, shard)) = {
                            let i = next.fetch_add(1, Ordering::Relaxed);
                            shards.get(i).map(|s| (i, *s))
                        } {
                            let shard = self.shard(shard, epoch, batch.len());
                            *done[i].lock() = Some(shard.and_then(|shard| self.of(optimizer, vec![shard])));
                        }
                    });
                });
            }
        });
        let mut sum: Option<Gradients> = None;
        for done in done {
            let Some(result) = done.into_inner() else { continue };
            let (gradients, parts) = result?;
            match &mut sum {
                None => sum = Some((gradients, parts)),
                Some((sum, losses)) => {
                    sum.iter_mut().zip(&gradients).for_each(|(s, g)| s.iter_mut().zip(g).for_each(|(s, g)| *s += g));
                    losses.iter_mut().zip(parts).for_each(|(l, p)| *l += p);
                }
            }
        }
        sum.ok_or_else(|| Error::Input("an empty batch".into()))
    }

    /// All shards in one batch, which a GPU wants, while the next step's pictures are made ready.
    fn at_once(&self, optimizer: &State, step: usize, per_epoch: usize) -> Result<Gradients> {
        let ready = |step: usize| -> Result<Vec<Shard>> {
            let batch = self.batch(step, per_epoch);
            let shard = |shard: &[usize]| self.shard(shard, step / per_epoch, batch.len());
            self.pool.install(|| batch.par_chunks(SHARD).map(shard).collect())
        };
        let kept = self.ahead.lock().take().filter(|(of, _)| *of == step);
        let shards = kept.map_or_else(|| ready(step), |(_, shards)| Ok(shards))?;
        std::thread::scope(|scope| {
            let next = step + 1;
            let ahead = (next < per_epoch * self.settings.epochs()).then(|| scope.spawn(move || ready(next)));
            let gradients = self.of(optimizer, shards);
            // What fails fails again where it is needed.
            if let Some(Ok(Ok(shards))) = ahead.map(std::thread::ScopedJoinHandle::join) {
                *self.ahead.lock() = Some((next, shards));
            }
            gradients
        })
    }

    /// Cuts and distorts a shard's pictures.
    fn shard(&self, shard: &[usize], epoch: usize, batch: usize) -> Result<Shard> {
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

    /// The gradients of shards that go through the network together: their shares of the step's.
    fn of(&self, optimizer: &State, mut shards: Vec<Shard>) -> Result<Gradients> {
        let Some(side) = shards.first().map(|shard| shard.side) else {
            return Err(Error::Input("an empty batch".into()));
        };
        let crops: Vec<usize> = shards.iter().map(Shard::crops).collect();
        let pixels = shards.iter_mut().map(|shard| std::mem::take(&mut shard.pixels)).collect::<Vec<_>>().concat();
        let pixels = Tensor::from_vec(pixels, (crops.iter().sum::<usize>(), side, side, 3), &self.device)?;
        let output = self.student.forward(&pixels)?;
        let (mut total, mut losses, mut first) = (None, [0.0; 4], 0);
        for (Shard { targets, share, .. }, count) in shards.iter().zip(crops) {
            let own = |t: &Tensor| t.narrow(0, first, count);
            let own =
                Output { tokens: own(&output.tokens)?, features: own(&output.features)?, score: own(&output.score)? };
            let loss = loss::loss(&own, targets, &self.heads, self.settings)?;
            let [score, teacher, rank] = loss.parts.map(|p| p * share);
            let whole = f64::from(loss.total.to_scalar::<f32>()?) * share;
            losses.iter_mut().zip([whole, score, teacher, rank]).for_each(|(sum, part)| *sum += part);
            let part = (loss.total * *share)?;
            total = Some(match total {
                None => part,
                Some(total) => (total + part)?,
            });
            first += count;
        }
        let Some(total): Option<Tensor> = total else { return Err(Error::Input("an empty batch".into())) };
        let store = total.backward()?;
        let gradients = optimizer.slots.iter().map(|slot| match store.get(&slot.variable) {
            Some(gradient) => gradient.flatten_all()?.to_vec1::<f32>(),
            None => Ok(vec![0.0; slot.value.len()]),
        });
        Ok((gradients.collect::<candle_core::Result<_>>()?, losses))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::settings::{Optimizer, Phase, Settings, SplitBy};
    use candle_core::Device;

    /// What a GPU does in one batch, done on the CPU, is the sum of what the shards do by themselves.
    #[test]
    fn shards_together_have_the_gradients_of_shards_alone() {
        let folder = tempfile::tempdir().unwrap();
        let mut table = String::from("image,mos\n");
        let mut random = Random::new(1, 0);
        for i in 0..20 {
            let picture = image::RgbImage::from_fn(40, 36, |_, _| image::Rgb([random.below(10 * i + 9) as u8; 3]));
            picture.save(folder.path().join(format!("{i}.png"))).unwrap();
            table.push_str(&format!("{i}.png,{i}\n"));
        }
        std::fs::write(folder.path().join("mos.csv"), table).unwrap();
        let settings = Settings {
            data: vec![folder.path().to_owned()],
            together: false,
            auxiliary: vec![],
            auxiliary_share: 0.5,
            model: "qmamba-nano".into(),
            start: Some("qmamba-nano".into()),
            tuning: None,
            mos_range: None,
            teacher_features: None,
            teacher_weight: 0.1,
            rank_weight: 0.5,
            distorted: 1,
            phases: vec![Phase { crop: 32, epochs: 2 }],
            batch: 20,
            optimizer: Optimizer::AdamW,
            learning_rate: 1e-3,
            decay_every: None,
            warmup: 1,
            weight_decay: 0.05,
            average: 0.0,
            validation: 0.0,
            split: SplitBy::Random,
            fold: None,
            validate_every: 1,
            seed: 1,
        };
        let (run, optimizer, _) = Run::new(&Device::Cpu, &settings, 2, &|_| {}).unwrap();
        for step in [0, 1] {
            let (alone, losses) = run.by_shards(&optimizer, step, 1).unwrap();
            // The second step's pictures are those made ready during the first.
            assert_eq!(run.ahead.lock().as_ref().map(|(step, _)| *step), (step == 1).then_some(1));
            let (together, sums) = run.at_once(&optimizer, step, 1).unwrap();
            assert!(losses.iter().zip(sums).all(|(a, b)| (a - b).abs() <= 1e-5 * a.abs()), "{losses:?} {sums:?}");
            let largest = alone.iter().flatten().fold(0f32, |m, g| m.max(g.abs()));
            let pairs = alone.iter().flatten().zip(together.iter().flatten());
            let worst = pairs.fold(0f32, |m, (a, b)| m.max((a - b).abs()));
            assert!(largest > 1e-3 && worst <= 1e-4 * largest, "{worst} of {largest}");
        }
    }
}
