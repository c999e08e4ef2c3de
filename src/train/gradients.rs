//! The gradients of a step, which are the sums of its shards'.

use super::batch::{Batch, SHARD};
use super::loss;
use super::optimizer::{Gradients, State};
use super::run::Run;
use crate::model::Output;
use crate::{Error, Result};
use candle_core::Tensor;
use parking_lot::Mutex;
use rayon::prelude::*;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Total, score, teacher, ranking.
pub(super) type Losses = [f64; 4];

impl Run<'_> {
    /// The gradients of a step and its losses.
    pub fn gradients(&self, optimizer: &State, step: usize, per_epoch: usize) -> Result<(Gradients, Losses)> {
        if self.device.is_cpu() {
            let (gradients, losses) = self.by_shards(optimizer, step, per_epoch)?;
            Ok((Gradients::Host(gradients), losses))
        } else {
            let (gradients, losses) = self.at_once(optimizer, step, per_epoch)?;
            Ok((Gradients::Device(gradients), losses))
        }
    }

    /// Shard by shard, each on one thread: every part of the work is then spread, candle's own too.
    fn by_shards(&self, optimizer: &State, step: usize, per_epoch: usize) -> Result<(Vec<Vec<f32>>, Losses)> {
        type Done = Result<(Vec<Vec<f32>>, Losses)>;
        let (batch, epoch) = (self.batch(step, per_epoch), step / per_epoch);
        let shards: Vec<&[usize]> = batch.chunks(SHARD).collect();
        let done: Vec<Mutex<Option<Done>>> = shards.iter().map(|_| Mutex::new(None)).collect();
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
                            let made = shard.and_then(|shard| self.of(optimizer, &self.together(vec![shard])?));
                            *done[i].lock() = Some(made.and_then(|(gradients, losses)| {
                                let flat = gradients.iter().map(|g| g.flatten_all()?.to_vec1::<f32>());
                                Ok((flat.collect::<candle_core::Result<_>>()?, losses))
                            }));
                        }
                    });
                });
            }
        });
        let mut sum: Option<(Vec<Vec<f32>>, Losses)> = None;
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

    /// All shards in one batch, which a GPU wants. The next step's pictures are cut, distorted and copied to it meanwhile.
    fn at_once(&self, optimizer: &State, step: usize, per_epoch: usize) -> Result<(Vec<Tensor>, Losses)> {
        let ready = |step: usize| -> Result<Batch> {
            let batch = self.batch(step, per_epoch);
            let shard = |shard: &[usize]| self.shard(shard, step / per_epoch, batch.len());
            let shards = self.pool.install(|| batch.par_chunks(SHARD).map(shard).collect::<Result<_>>())?;
            self.together(shards)
        };
        let kept = self.ahead.lock().take().filter(|(of, _)| *of == step);
        let batch = kept.map_or_else(|| ready(step), |(_, batch)| Ok(batch))?;
        std::thread::scope(|scope| {
            let next = step + 1;
            let ahead = (next < per_epoch * self.settings.epochs()).then(|| scope.spawn(move || ready(next)));
            let gradients = self.of(optimizer, &batch);
            // What fails fails again where it is needed.
            if let Some(Ok(Ok(batch))) = ahead.map(std::thread::ScopedJoinHandle::join) {
                *self.ahead.lock() = Some((next, batch));
            }
            gradients
        })
    }

    /// The gradients of shards that go through the network together, in the slots' shapes: their shares of the step's.
    fn of(&self, optimizer: &State, batch: &Batch) -> Result<(Vec<Tensor>, Losses)> {
        let output = self.student.forward(&batch.pixels)?;
        let (mut total, mut parts, mut first) = (None, Vec::new(), 0);
        for piece in &batch.parts {
            let own = |t: &Tensor| t.narrow(0, first, piece.crops);
            let own =
                Output { tokens: own(&output.tokens)?, features: own(&output.features)?, score: own(&output.score)? };
            let scales = self.student.scales.as_ref();
            let loss = loss::loss(&own, &piece.targets, &piece.labels, scales, &self.heads, self.settings)?;
            let part = (loss.total * piece.share)?;
            total = Some(match total {
                None => part,
                Some(total) => (total + part)?,
            });
            parts.push(loss.parts);
            first += piece.crops;
        }
        let Some(total): Option<Tensor> = total else { return Err(Error::Input("an empty batch".into())) };
        let mut store = total.backward()?;
        let gradients = optimizer.slots.iter().map(|slot| match store.remove(&slot.variable) {
            Some(gradient) => Ok(gradient),
            None => slot.variable.zeros_like(),
        });
        let gradients = gradients.collect::<candle_core::Result<_>>()?;
        // Read last: everything has been asked of a GPU by then.
        let mut losses = [0.0; 4];
        for (own, piece) in Tensor::stack(&parts, 0)?.to_vec2::<f32>()?.iter().zip(&batch.parts) {
            losses.iter_mut().zip(own).for_each(|(sum, part)| *sum += f64::from(*part) * piece.share);
        }
        Ok((gradients, losses))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;
    use crate::train::settings::{Autocast, Phase, Settings, SplitBy};
    use candle_core::Device;
    use std::path::Path;

    /// Twenty pictures of rising noise, and a run on them in one step an epoch.
    fn settings(folder: &Path) -> Settings {
        let mut table = String::from("image,mos\n");
        let mut random = Random::new(1, 0);
        for i in 0..20 {
            let picture = image::RgbImage::from_fn(40, 36, |_, _| image::Rgb([random.below(10 * i + 9) as u8; 3]));
            picture.save(folder.join(format!("{i}.png"))).unwrap();
            table.push_str(&format!("{i}.png,{i}\n"));
        }
        std::fs::write(folder.join("mos.csv"), table).unwrap();
        Settings {
            data: vec![folder.to_owned()],
            start: Some("qmamba-nano".into()),
            phases: vec![Phase { crop: 32, epochs: 2 }],
            batch: 20,
            learning_rate: 1e-3,
            decay_every: None,
            warmup: 1,
            average: 0.0,
            validation: 0.0,
            split: SplitBy::Random,
            ..Settings::default()
        }
    }

    /// What a GPU does in one batch, done on the CPU, is the sum of what the shards do by themselves.
    #[test]
    fn shards_together_have_the_gradients_of_shards_alone() {
        let folder = tempfile::tempdir().unwrap();
        let plain = settings(folder.path());
        let mapped = Settings {
            scale_head: true,
            auxiliary: plain.data.clone(),
            auxiliary_share: 1.0,
            auxiliary_mapped: true,
            batch: 40,
            ..plain.clone()
        };
        for settings in [plain, mapped] {
            shards_alone_and_together(&settings);
        }
    }

    fn shards_alone_and_together(settings: &Settings) {
        let (run, optimizer, _) = Run::new(&Device::Cpu, settings, 2, &|_| {}).unwrap();
        let gradients = |all: &[Vec<f32>], name: &str| {
            let slot = optimizer.slots.iter().position(|slot| slot.name == name);
            slot.map(|slot| all[slot].iter().filter(|g| **g != 0.0).count())
        };
        for step in [0, 1] {
            let (alone, losses) = run.by_shards(&optimizer, step, 1).unwrap();
            // The second step's pictures are those made ready during the first.
            assert_eq!(run.ahead.lock().as_ref().map(|(step, _)| *step), (step == 1).then_some(1));
            let (together, sums) = run.at_once(&optimizer, step, 1).unwrap();
            let together = together.iter().map(|g| g.flatten_all()?.to_vec1::<f32>());
            let together = together.collect::<candle_core::Result<Vec<_>>>().unwrap();
            assert!(losses.iter().zip(sums).all(|(a, b)| (a - b).abs() <= 1e-5 * a.abs()), "{losses:?} {sums:?}");
            let largest = alone.iter().flatten().fold(0f32, |m, g| m.max(g.abs()));
            let pairs = alone.iter().flatten().zip(together.iter().flatten());
            let worst = pairs.fold(0f32, |m, (a, b)| m.max((a - b).abs()));
            assert!(largest > 1e-3 && worst <= 1e-4 * largest, "{worst} of {largest}");
            // Pictures of 36 rows lie at the first knot.
            let learned = settings.scale_head.then_some(256);
            assert_eq!(gradients(&alone, "classifier.scales.weight"), learned);
            assert_eq!(gradients(&alone, "auxiliary.weight"), learned.map(|_| 1));
        }
    }

    /// bfloat16 leaves gradients where they are but for its roundings, of the network and of adapters, and follows the weights as
    /// they change.
    #[test]
    fn autocast_has_the_gradients_of_32_bits_but_for_roundings() {
        let folder = tempfile::tempdir().unwrap();
        let exact = settings(folder.path());
        let local = Settings { model: "lqmamba-t".into(), start: None, ..exact.clone() };
        let tuned = Settings { tuning: Some(Default::default()), ..exact.clone() };
        for exact in [exact, local, tuned] {
            let rounded = Settings { autocast: Autocast::Bf16, ..exact.clone() };
            let [mut a, mut b] = [&exact, &rounded].map(|s| Run::new(&Device::Cpu, s, 2, &|_| {}).unwrap());
            for step in [0, 1] {
                let [(x, loss), (y, other)] = [&a, &b].map(|(run, state, _)| run.by_shards(state, step, 1).unwrap());
                let length = |v: &mut dyn Iterator<Item = f32>| v.map(|g| f64::from(g).powi(2)).sum::<f64>().sqrt();
                let size = length(&mut x.iter().flatten().copied());
                let apart = length(&mut x.iter().flatten().zip(y.iter().flatten()).map(|(x, y)| x - y)) / size;
                println!("{}: gradients differ by {apart:.4} of {size:.4}, losses {loss:?} {other:?}", exact.model);
                // A rounding is 0.004; those of ten blocks from a random start make the most of it. Old weights would be all wrong.
                assert!(size > 1e-3 && apart > 1e-4 && apart < 0.1, "{apart} of {size}");
                assert!((loss[0] - other[0]).abs() < 0.02 * loss[0], "{loss:?} {other:?}");
                // Both from the same weights again, which are others than before.
                a.1.step(Gradients::Host(x.clone()), 1e-2).unwrap();
                b.1.step(Gradients::Host(x), 1e-2).unwrap();
            }
        }
    }
}
