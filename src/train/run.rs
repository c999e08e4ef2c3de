//! The training loop.

use super::augment;
use super::batch::Batch;
use super::checkpoint::{self, Position};
use super::correlation::{plcc, srcc};
use super::loss::{PassingHead, PassingHeads};
use super::optimizer::State;
use super::parts::{Parts, Sample};
use super::progress::{Progress, Summary};
use super::scales::{ScaleHeads, Size};
use super::settings::Settings;
use super::student::Student;
use super::teacher::Teacher;
use crate::model::CROP;
use crate::model::load::is_passing;
use crate::model::parameters::{Init, Source};
use crate::ops::gpu;
use crate::random::Random;
use crate::{Error, Result};
use candle_core::{Device, Tensor};
use image::RgbImage;
use parking_lot::Mutex;
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::io::Write as _;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Pictures of one content in a step; part of a shard, within which pictures are ranked.
const TOGETHER: usize = 4;
/// Held-out pictures that a GPU scores at once.
const BATCH: usize = 32;
/// Seconds between checkpoints.
const CHECKPOINT_EVERY: f64 = 300.0;

/// Everything that the steps read.
pub(super) struct Run<'a> {
    pub settings: &'a Settings,
    pub device: Device,
    pub student: Student,
    pub teacher: Option<Teacher>,
    pub heads: PassingHeads,
    /// Of the sets, then of the auxiliary sets.
    pub training: Vec<Sample>,
    /// Pictures with their scores, 0 to 1.
    validation: Vec<(RgbImage, f64)>,
    /// One thread each, for shards.
    pub pools: Vec<rayon::ThreadPool>,
    /// All threads, for the rest.
    pub pool: rayon::ThreadPool,
    /// The next step's pictures, which are made ready while a GPU is at work.
    pub ahead: Mutex<Option<(usize, Batch)>>,
}

/// Trains and writes `out`, the weights of the best epoch, with `out`'s name plus `.log.csv`, `.validation.csv` and
/// `.checkpoint` beside it. Goes on from a checkpoint where there is one; a finished run's has nothing left to do.
///
/// # Errors
/// Unusable settings or data, an unwritable output, a loss that is no longer finite.
pub fn train(settings: &Settings, out: &Path, threads: usize, watch: &(dyn Fn(Progress) + Sync)) -> Result<Summary> {
    train_on(&Device::Cpu, settings, out, threads, watch)
}

/// As [`train`], with the network on a device. Equal settings give equal weights on the CPU; on a GPU they may differ in last
/// digits, as those of a GPU and the CPU do.
///
/// # Errors
/// As [`train`], and what fails on the device.
pub fn train_on(
    device: &Device,
    settings: &Settings,
    out: &Path,
    threads: usize,
    watch: &(dyn Fn(Progress) + Sync),
) -> Result<Summary> {
    settings.validate()?;
    let (run, mut optimizer, held_out) = Run::new(device, settings, threads, watch)?;
    write_bytes(&beside(out, ".validation.csv"), &held_out)?;
    let own = optimizer.slots.iter().filter(|slot| !is_passing(&slot.name));
    let parameters = own.map(|slot| slot.variable.elem_count()).sum();
    let summary = run.all(&mut optimizer, out, parameters, watch);
    let _in_use = gpu::in_use(); // by what is freed
    drop((run, optimizer));
    summary
}

fn beside(out: &Path, suffix: &str) -> PathBuf {
    let mut name = out.file_name().unwrap_or_default().to_owned();
    name.push(suffix);
    out.with_file_name(name)
}

fn write_bytes(path: &Path, bytes: &[u8]) -> Result<()> {
    std::fs::write(path, bytes).map_err(|source| Error::Io { path: path.to_owned(), source })
}

impl<'a> Run<'a> {
    /// Everything of a run, the optimiser at its start, and the table of what is held out.
    pub fn new(
        device: &Device,
        settings: &'a Settings,
        threads: usize,
        watch: &(dyn Fn(Progress) + Sync),
    ) -> Result<(Self, State, Vec<u8>)> {
        let (student, mut source) = {
            let _in_use = gpu::in_use();
            Student::new(settings, device)?
        };
        let Parts { training, validation, teacher, held_out } = Parts::load(settings, watch)?;
        let _in_use = gpu::in_use();
        let features = student.config().features();
        let mut head = |name: &str, outputs: usize, features: usize, start: Init| -> Result<Option<PassingHead>> {
            if outputs == 0 {
                return Ok(None);
            }
            let weight = source.tensor(&format!("{name}.weight"), &[outputs, features], start)?;
            Ok(Some(PassingHead { weight, bias: source.tensor(&format!("{name}.bias"), &[outputs], Init::Zeros)? }))
        };
        let heads = PassingHeads {
            teacher: head("teacher", teacher.as_ref().map_or(0, |t| t.size), features, Init::Zeros)?,
            auxiliary: match settings.auxiliary_mapped {
                true => head("auxiliary", settings.auxiliary.len(), 1, Init::Ones)?,
                false => head("auxiliary", settings.auxiliary.len(), features, Init::Zeros)?,
            },
        };
        let threads = threads.max(1);
        let pool = |n| rayon::ThreadPoolBuilder::new().num_threads(n).build();
        let failed = |e| Error::Input(format!("cannot start {threads} threads: {e}"));
        let pools = (0..threads).map(|_| pool(1)).collect::<Result<Vec<_>, _>>().map_err(failed)?;
        let pool = pool(threads).map_err(failed)?;
        let optimizer = State::new(std::mem::take(&mut source.variables), settings)?;
        let (device, ahead) = (device.clone(), Mutex::default());
        let run = Self { settings, device, student, teacher, heads, training, validation, pools, pool, ahead };
        Ok((run, optimizer, held_out))
    }

    fn all(
        &self,
        optimizer: &mut State,
        out: &Path,
        parameters: usize,
        watch: &(dyn Fn(Progress) + Sync),
    ) -> Result<Summary> {
        let s = self.settings;
        let checkpoint = beside(out, ".checkpoint");
        let mut position = Position { settings: s.clone(), step: 0, best: None, seconds: 0.0 };
        let saved = {
            let _in_use = gpu::in_use();
            checkpoint::load(&checkpoint, s, optimizer)?
        };
        if let Some(saved) = saved {
            watch(Progress::Note(format!("going on from step {} of {}", saved.step, checkpoint.display())));
            position = saved;
        }
        let log_path = beside(out, ".log.csv");
        let mut log = self.open_log(&log_path, position.step > 0)?;
        let per_epoch = self.order(0).len().div_ceil(s.batch);
        if per_epoch == 0 {
            let count = self.training.len();
            return Err(Error::Input(format!(
                "{count} pictures to train on are too few to be seen {TOGETHER} together"
            )));
        }
        let (mut clock, mut unsaved) = (Instant::now(), 0.0);
        let mut mean = [0f64; 4];
        while position.step < per_epoch * s.epochs() {
            let _in_use = gpu::in_use();
            let (epoch, at) = (position.step / per_epoch, position.step % per_epoch);
            let (gradients, parts) = self.gradients(optimizer, position.step, per_epoch)?;
            if !parts[0].is_finite() {
                let message = format!("the loss is not finite at step {}: try a lower --learning-rate", position.step);
                return Err(Error::Input(message));
            }
            let rate = s.rate(position.step, per_epoch);
            self.pool.install(|| optimizer.step(gradients, rate))?;
            position.step += 1;
            let weight = 1.0 / (at + 1).min(50) as f64;
            mean.iter_mut().zip(parts).for_each(|(m, p)| *m += (p - *m) * weight);
            let elapsed = clock.elapsed().as_secs_f64();
            clock = Instant::now();
            position.seconds += elapsed;
            unsaved += elapsed;
            watch(Progress::Step(position.step, per_epoch * s.epochs(), mean[0]));
            if at + 1 == per_epoch {
                let last = epoch + 1 == s.epochs();
                let validates = last || (!self.validation.is_empty() && (epoch + 1) % s.validate_every == 0);
                let (srcc, plcc) = if validates { self.validate(optimizer)? } else { (f64::NAN, f64::NAN) };
                let value = srcc.max(-1.0); // not a number where no score varies
                let better = validates && position.best.is_none_or(|(best, _)| value > best);
                if better {
                    position.best = Some((value, epoch + 1));
                    let reported = serde_json::json!({
                        "validation": {
                            "images": self.validation.len(),
                            "srcc": srcc,
                            "plcc": plcc,
                            "crops": if s.scale_head { "center 1 of each size" } else { "center 1" },
                        }
                    });
                    self.student.save(optimizer, s, out, &position, &reported)?;
                }
                position.seconds += clock.elapsed().as_secs_f64();
                clock = Instant::now();
                let [total, score, teacher, rank] = mean;
                let line = format!(
                    "{},{},{},{rate:.3e},{total:.5},{score:.5},{teacher:.5},{rank:.5},{srcc:.4},{plcc:.4},{:.0}\n",
                    epoch + 1,
                    position.step,
                    s.crop(epoch),
                    position.seconds
                );
                log.write_all(line.as_bytes()).map_err(|source| Error::Io { path: log_path.clone(), source })?;
                if validates && !self.validation.is_empty() {
                    watch(Progress::Epoch(epoch + 1, srcc, plcc, better));
                }
            }
            if at + 1 == per_epoch || unsaved > CHECKPOINT_EVERY {
                let constant = self.student.scales.as_ref().map(ScaleHeads::constant);
                checkpoint::save(&checkpoint, &position, optimizer, constant)?;
                unsaved = 0.0;
            }
        }
        let (best, epoch) = position.best.unwrap_or((f64::NAN, 0));
        let srcc = if self.validation.is_empty() { f64::NAN } else { best };
        Ok(Summary { srcc, epoch, parameters, seconds: position.seconds })
    }

    /// The pictures of a step.
    pub fn batch(&self, step: usize, per_epoch: usize) -> Vec<usize> {
        let (size, at) = (self.settings.batch, step % per_epoch);
        let order = self.order(step / per_epoch);
        order[at * size..((at + 1) * size).min(order.len())].to_vec()
    }

    /// An epoch's pictures, in the order in which they are seen.
    fn order(&self, epoch: usize) -> Vec<usize> {
        let s = self.settings;
        let mut random = Random::new(s.seed, 0xe90c_0000 + epoch as u64);
        let own = self.training.partition_point(|sample| sample.head == 0);
        let mut units = self.units(0..own, &mut random);
        let mut auxiliary = self.units(own..self.training.len(), &mut random);
        random.shuffle(&mut auxiliary);
        let (mut wanted, share) = (0, (own as f64 * s.auxiliary_share).round() as usize);
        units.extend(auxiliary.into_iter().take_while(|unit| {
            wanted += unit.len();
            wanted <= share
        }));
        random.shuffle(&mut units);
        units.concat()
    }

    /// What an epoch's order is made of: single pictures, or as many as are seen together.
    fn units(&self, pictures: Range<usize>, random: &mut Random) -> Vec<Vec<usize>> {
        if !self.settings.together {
            return pictures.map(|i| vec![i]).collect();
        }
        let mut contents: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        pictures.for_each(|i| contents.entry(self.training[i].content).or_default().push(i));
        let (mut units, mut rest) = (Vec::new(), Vec::new());
        for mut content in contents.into_values() {
            random.shuffle(&mut content);
            let whole = content.len() / TOGETHER * TOGETHER;
            units.extend(content[..whole].chunks(TOGETHER).map(<[usize]>::to_vec));
            rest.extend_from_slice(&content[whole..]);
        }
        // Those that are left over or alone make units with others, so that steps keep their bounds.
        random.shuffle(&mut rest);
        units.extend(rest.chunks_exact(TOGETHER).map(<[usize]>::to_vec));
        units
    }

    fn open_log(&self, path: &Path, append: bool) -> Result<std::fs::File> {
        let io = |source| Error::Io { path: path.to_owned(), source };
        let mut options = std::fs::OpenOptions::new();
        let mut file = options.create(true).append(append).write(true).truncate(!append).open(path).map_err(io)?;
        if !append {
            file.write_all(b"epoch,step,crop,rate,loss,score,teacher,rank,srcc,plcc,seconds\n").map_err(io)?;
        }
        Ok(file)
    }

    /// SRCC and PLCC over the held-out pictures, by their central crop; of each size with a head of scales.
    fn validate(&self, optimizer: &State) -> Result<(f64, f64)> {
        let scores = self.scores(&self.student.averaged(optimizer)?, if self.device.is_cpu() { 1 } else { BATCH })?;
        let opinions: Vec<f64> = self.validation.iter().map(|(_, mos)| *mos).collect();
        Ok((srcc(&scores, &opinions), plcc(&scores, &opinions)))
    }

    /// Scores of the held-out pictures, up to so many at once.
    fn scores(&self, student: &Student, batch: usize) -> Result<Vec<f64>> {
        // One thread's batch is on a GPU, the others make theirs ready.
        let turn = Mutex::new(());
        let alike = |crops: &[(RgbImage, Size)]| -> Result<Vec<f32>> {
            let (width, height) = crops[0].0.dimensions();
            let pixels = crops.iter().flat_map(|(crop, _)| augment::normalised(crop)).collect();
            let shape = (crops.len(), height as usize, width as usize, 3);
            let scales: Vec<f64> = crops.iter().map(|(_, size)| size.scale).collect();
            let _turn = (!self.device.is_cpu()).then(|| turn.lock());
            let output = student.forward(&Tensor::from_vec(pixels, shape, &self.device)?)?;
            Ok(match &student.scales {
                Some(head) => head.outputs(&output.features, &head.knots(&scales, &self.device)?)?.to_vec1()?,
                None => output.score.to_vec1()?,
            })
        };
        let sizes = |image: &RgbImage| match student.scales {
            Some(_) => Size::all(image),
            None => vec![Size::own(image)],
        };
        let of = |pictures: &[(RgbImage, f64)]| -> Result<Vec<f64>> {
            let crop = |image, size: Size| (augment::centre_crop(image, CROP, size.level), size);
            let crops =
                pictures.iter().flat_map(|(image, _)| sizes(image).into_iter().map(move |size| crop(image, size)));
            let crops: Vec<(RgbImage, Size)> = crops.collect();
            // Small pictures have crops of their own sizes.
            let runs = crops.chunk_by(|(a, _), (b, _)| a.dimensions() == b.dimensions()).map(alike);
            let mut outputs = runs.collect::<Result<Vec<_>>>()?.concat().into_iter();
            let mean = |(image, _): &(RgbImage, f64)| {
                let (mut sum, mut shares) = (0.0, 0.0);
                for (size, output) in sizes(image).into_iter().zip(&mut outputs) {
                    let share = student.scales.as_ref().map_or(1.0, |head| head.share(size.scale));
                    sum += share * f64::from(output);
                    shares += share;
                }
                sum / shares
            };
            Ok(pictures.iter().map(mean).collect())
        };
        let all = self.pool.install(|| self.validation.par_chunks(batch).map(of).collect::<Result<Vec<_>>>())?;
        Ok(all.concat())
    }
}
