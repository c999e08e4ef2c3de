//! The training loop.

use super::augment;
use super::checkpoint::{self, Position};
use super::correlation::{plcc, srcc};
use super::dataset::Labels;
use super::loss::{self, Targets, TeacherHead};
use super::optimizer::State;
use super::settings::Settings;
use super::teacher::Teacher;
use crate::crops::{MEAN, STD};
use crate::model::parameters::{Init, Loaded, Scope, Source, Trainable};
use crate::model::{CROP, Config, QMamba};
use crate::random::Random;
use crate::weights_file::{self, WriteDtype};
use crate::{Error, Result};
use candle_core::{Device, Tensor};
use image::RgbImage;
use parking_lot::Mutex;
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

/// Pictures whose gradients are computed together. Fixed, so that results do not depend on the number of threads.
const SHARD: usize = 8;
/// Seconds between checkpoints.
const CHECKPOINT_EVERY: f64 = 300.0;

/// What happens during a run, for those who watch.
#[derive(Debug, Clone)]
pub enum Progress {
    /// So many of so many pictures have been read.
    Loading(usize, usize),
    /// A line of information.
    Note(String),
    /// Steps made, steps in all, mean loss of late.
    Step(usize, usize, f64),
    /// An epoch has ended: epoch, validation SRCC and PLCC, whether it is the best so far.
    Epoch(usize, f64, f64, bool),
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    /// Best validation SRCC.
    pub srcc: f64,
    /// The epoch it was reached in, from 1.
    pub epoch: usize,
    /// Trained parameters of the network.
    pub parameters: usize,
    /// Seconds of training.
    pub seconds: f64,
}

/// One training picture.
struct Sample {
    image: RgbImage,
    score: f32,
    /// Its row in the teacher's features.
    row: Option<usize>,
}

/// Everything that the steps read.
struct Run<'a> {
    settings: &'a Settings,
    model: QMamba,
    teacher: Option<(Teacher, TeacherHead)>,
    training: Vec<Sample>,
    validation: Vec<(RgbImage, f64)>,
    /// One thread each, for shards.
    pools: Vec<rayon::ThreadPool>,
    /// All threads, for the rest.
    pool: rayon::ThreadPool,
}

/// Trains and writes `out`, the weights of the best epoch, with `out`'s name plus `.log.csv`, `.validation.csv` and, until
/// the run ends, `.checkpoint` beside it. Goes on from a checkpoint where there is one.
///
/// # Errors
/// Unusable settings or data, an unwritable output, a loss that is no longer finite.
pub fn train(settings: &Settings, out: &Path, threads: usize, watch: &(dyn Fn(Progress) + Sync)) -> Result<Summary> {
    settings.validate()?;
    let config = Config::named(&settings.model)?;
    let mut source = Trainable::new(settings.seed, start(settings)?);
    let model = QMamba::new(Scope::new(&mut source), &config)?;
    if let Some(name) = source.unused().next() {
        return Err(Error::Input(format!("the weights to start from have an unknown tensor `{name}`")));
    }
    let parameters = source.variables.iter().map(|(_, v)| v.elem_count()).sum();
    let (training, validation, teacher) = load(settings, out, watch)?;
    let teacher = teacher.map(|teacher| {
        let head = TeacherHead {
            weight: source.tensor("teacher.weight", &[teacher.size, config.features()], Init::Zeros)?,
            bias: source.tensor("teacher.bias", &[teacher.size], Init::Zeros)?,
        };
        Ok::<_, Error>((teacher, head))
    });
    let teacher = teacher.transpose()?;
    let threads = threads.max(1);
    let pool = |n| rayon::ThreadPoolBuilder::new().num_threads(n).build();
    let failed = |e| Error::Input(format!("cannot start {threads} threads: {e}"));
    let pools = (0..threads).map(|_| pool(1)).collect::<Result<Vec<_>, _>>().map_err(failed)?;
    let pool = pool(threads).map_err(failed)?;
    let mut optimizer = State::new(std::mem::take(&mut source.variables), settings)?;
    let run = Run { settings, model, teacher, training, validation, pools, pool };
    run.all(&mut optimizer, out, parameters, watch)
}

/// The weights to start from, without the head of another task.
fn start(settings: &Settings) -> Result<BTreeMap<String, Tensor>> {
    let Some(path) = &settings.start else { return Ok(BTreeMap::new()) };
    let file = weights_file::read(path)?;
    let mut tensors = crate::model::load::tensors(file, path)?;
    if tensors.get("classifier.head.weight").is_some_and(|head| head.dims().first() != Some(&1)) {
        tensors.retain(|name, _| !name.starts_with("classifier.head."));
    }
    Ok(tensors)
}

type Parts = (Vec<Sample>, Vec<(RgbImage, f64)>, Option<Teacher>);

/// Reads every picture into memory; writes the list of those held out.
fn load(settings: &Settings, out: &Path, watch: &(dyn Fn(Progress) + Sync)) -> Result<Parts> {
    let (mut training, mut validation, mut teacher) = (Vec::new(), Vec::new(), None);
    let mut held_out = String::from("image,mos\n");
    for (i, folder) in settings.data.iter().enumerate() {
        let labels = Labels::read(folder)?;
        let (low, high) = labels.range()?;
        let scale = |mos: f64| (mos - low) / (high - low);
        let (train_rows, validation_rows) = labels.split(settings.split, settings.validation, settings.seed)?;
        let taught = settings.teacher_features.as_ref().filter(|_| i == 0);
        if let Some(path) = taught {
            teacher = Some(Teacher::read(path, labels.rows.len())?);
        }
        let (done, total) = (AtomicUsize::new(0), labels.rows.len());
        let progress = || watch(Progress::Loading(done.fetch_add(1, Ordering::Relaxed) + 1, total));
        for (&row, image) in train_rows.iter().zip(labels.load(&train_rows, progress)?) {
            training.push(Sample { image, score: scale(labels.rows[row].mos) as f32, row: taught.map(|_| row) });
        }
        for (&row, image) in validation_rows.iter().zip(labels.load(&validation_rows, progress)?) {
            let entry = &labels.rows[row];
            held_out.push_str(&format!("{},{}\n", entry.image, entry.mos));
            validation.push((image, scale(entry.mos)));
        }
        let (t, v) = (train_rows.len(), validation_rows.len());
        watch(Progress::Note(format!("{}: {t} pictures to train on, {v} held out", folder.display())));
    }
    write_text(&beside(out, ".validation.csv"), &held_out)?;
    Ok((training, validation, teacher))
}

fn beside(out: &Path, suffix: &str) -> PathBuf {
    let mut name = out.file_name().unwrap_or_default().to_owned();
    name.push(suffix);
    out.with_file_name(name)
}

fn write_text(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).map_err(|source| Error::Io { path: path.to_owned(), source })
}

/// 8-bit RGB to normalised values, (H, W, 3).
fn normalised(image: &RgbImage, out: &mut Vec<f32>) {
    let table: [[f32; 256]; 3] =
        std::array::from_fn(|c| std::array::from_fn(|v| (v as f32 / 255.0 - MEAN[c]) / STD[c]));
    out.extend(image.as_raw().iter().enumerate().map(|(i, &v)| table[i % 3][v as usize]));
}

impl Run<'_> {
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
        if let Some(saved) = checkpoint::load(&checkpoint, s, optimizer)? {
            watch(Progress::Note(format!("going on from step {} of {}", saved.step, checkpoint.display())));
            position = saved;
        }
        let log_path = beside(out, ".log.csv");
        let mut log = self.open_log(&log_path, position.step > 0)?;
        let per_epoch = self.training.len().div_ceil(s.batch);
        let (mut clock, mut unsaved) = (Instant::now(), 0.0);
        let mut mean = [0f64; 4];
        while position.step < per_epoch * s.epochs() {
            let (epoch, at) = (position.step / per_epoch, position.step % per_epoch);
            let mut order: Vec<usize> = (0..self.training.len()).collect();
            Random::new(s.seed, 0xe90c_0000 + epoch as u64).shuffle(&mut order);
            let batch = &order[at * s.batch..((at + 1) * s.batch).min(order.len())];
            let (gradients, parts) = self.gradients(optimizer, batch, epoch)?;
            if !parts[0].is_finite() {
                let message = format!("the loss is not finite at step {}: try a lower --learning-rate", position.step);
                return Err(Error::Input(message));
            }
            let rate = s.rate(position.step, per_epoch);
            self.pool.install(|| optimizer.step(&gradients, rate))?;
            position.step += 1;
            let weight = 1.0 / (at + 1).min(50) as f64;
            mean.iter_mut().zip(parts).for_each(|(m, p)| *m += (p - *m) * weight);
            let elapsed = clock.elapsed().as_secs_f64();
            clock = Instant::now();
            position.seconds += elapsed;
            unsaved += elapsed;
            watch(Progress::Step(position.step, per_epoch * s.epochs(), mean[0]));
            if at + 1 == per_epoch {
                let validates = (epoch + 1) % s.validate_every == 0 || epoch + 1 == s.epochs();
                let (srcc, plcc) = if validates { self.validate(optimizer)? } else { (f64::NAN, f64::NAN) };
                let better = validates && position.best.is_none_or(|(best, _)| srcc > best);
                if better {
                    position.best = Some((srcc, epoch + 1));
                    self.save(optimizer, out, &position, plcc)?;
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
                if validates {
                    watch(Progress::Epoch(epoch + 1, srcc, plcc, better));
                }
            }
            if at + 1 == per_epoch || unsaved > CHECKPOINT_EVERY {
                checkpoint::save(&checkpoint, &position, optimizer)?;
                unsaved = 0.0;
            }
        }
        let (srcc, epoch) = position.best.unwrap_or((f64::NAN, 0));
        Ok(Summary { srcc, epoch, parameters, seconds: position.seconds })
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

    /// The gradients of a batch, one vector a slot, and its losses: total, score, teacher, ranking.
    fn gradients(&self, optimizer: &State, batch: &[usize], epoch: usize) -> Result<(Vec<Vec<f32>>, [f64; 4])> {
        let shards: Vec<&[usize]> = batch.chunks(SHARD).collect();
        type Done = (Vec<Vec<f32>>, [f64; 4]);
        let done: Vec<Mutex<Option<Result<Done>>>> = shards.iter().map(|_| Mutex::new(None)).collect();
        let next = AtomicUsize::new(0);
        // Each worker computes whole shards on one thread: every part of the work is then spread, candle's own too.
        std::thread::scope(|scope| {
            for pool in &self.pools {
                scope.spawn(|| {
                    pool.install(|| {
                        while let Some((i, shard)) = {
                            let i = next.fetch_add(1, Ordering::Relaxed);
                            shards.get(i).map(|s| (i, *s))
                        } {
                            *done[i].lock() = Some(self.shard(optimizer, shard, epoch, batch.len()));
                        }
                    });
                });
            }
        });
        let mut sum: Option<Done> = None;
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

    /// One shard's share of the batch's gradients and losses.
    fn shard(
        &self,
        optimizer: &State,
        shard: &[usize],
        epoch: usize,
        batch: usize,
    ) -> Result<(Vec<Vec<f32>>, [f64; 4])> {
        let s = self.settings;
        let side = s.crop(epoch);
        let (mut pixels, mut copies) = (Vec::new(), Vec::new());
        let distorted = if s.rank_weight > 0.0 { (s.distorted * shard.len()).div_ceil(8) } else { 0 };
        let mut features = self.teacher.as_ref().map(|_| Vec::new());
        let mut scores = Vec::with_capacity(shard.len());
        for (i, &index) in shard.iter().enumerate() {
            let sample = &self.training[index];
            let mut random = Random::new(s.seed, ((epoch as u64) << 32) + index as u64);
            let (crop, place) = augment::random_crop(&sample.image, side, &mut random)?;
            normalised(&crop, &mut pixels);
            if i < distorted {
                for copy in augment::distort(&crop, &mut random)? {
                    normalised(&copy, &mut copies);
                }
            }
            scores.push(sample.score);
            if let (Some(all), Some((teacher, _)), Some(row)) = (&mut features, &self.teacher, sample.row) {
                let picture = (sample.image.width() as usize, sample.image.height() as usize);
                all.extend(teacher.at(row, picture, place, side, side / 32));
            }
        }
        pixels.append(&mut copies);
        let count = pixels.len() / (side * side * 3);
        let crops = Tensor::from_vec(pixels, (count, side, side, 3), &Device::Cpu)?;
        let output = self.model.forward(&crops, None)?;
        // A shard in which a picture of another folder has no features does without.
        let features = features.filter(|_| shard.iter().all(|&i| self.training[i].row.is_some()));
        let targets = Targets { scores, features, distorted };
        let loss = loss::loss(&output, &targets, self.teacher.as_ref().map(|(_, head)| head), s)?;
        let share = shard.len() as f64 / batch as f64;
        let total = f64::from(loss.total.to_scalar::<f32>()?) * share;
        let store = (loss.total * share)?.backward()?;
        let gradients = optimizer.slots.iter().map(|slot| match store.get(&slot.variable) {
            Some(gradient) => gradient.flatten_all()?.to_vec1::<f32>(),
            None => Ok(vec![0.0; slot.value.len()]),
        });
        let gradients = gradients.collect::<candle_core::Result<_>>()?;
        let [score, teacher, rank] = loss.parts.map(|p| p * share);
        Ok((gradients, [total, score, teacher, rank]))
    }

    /// The averaged weights as a network that only infers.
    fn averaged(&self, optimizer: &State) -> Result<QMamba> {
        let tensors = optimizer.slots.iter().map(|slot| {
            Ok((slot.name.clone(), Tensor::from_slice(&slot.average, slot.variable.shape(), &Device::Cpu)?))
        });
        let mut source = Loaded { tensors: tensors.collect::<Result<_>>()? };
        Ok(QMamba::new(Scope::new(&mut source), self.model.config())?)
    }

    /// SRCC and PLCC over the held-out pictures, by their central crop.
    fn validate(&self, optimizer: &State) -> Result<(f64, f64)> {
        let model = self.averaged(optimizer)?;
        let score = |image: &RgbImage| -> Result<f64> {
            let crop = augment::centre_crop(image, CROP);
            let mut pixels = Vec::new();
            normalised(&crop, &mut pixels);
            let shape = (1, crop.height() as usize, crop.width() as usize, 3);
            let output = model.forward(&Tensor::from_vec(pixels, shape, &Device::Cpu)?, None)?;
            Ok(f64::from(output.score.to_vec1::<f32>()?[0]))
        };
        let scores =
            self.pool.install(|| self.validation.par_iter().map(|(image, _)| score(image)).collect::<Result<Vec<_>>>());
        let scores = scores?;
        let opinions: Vec<f64> = self.validation.iter().map(|(_, mos)| *mos).collect();
        Ok((srcc(&scores, &opinions), plcc(&scores, &opinions)))
    }

    /// Writes the averaged weights with what they are and where they come from.
    fn save(&self, optimizer: &State, out: &Path, position: &Position, plcc: f64) -> Result<()> {
        let network = optimizer.slots.iter().filter(|slot| !slot.name.starts_with("teacher."));
        let tensors = network.map(|s| (s.name.clone(), (s.variable.dims().to_vec(), s.average.clone()))).collect();
        let json = |v: serde_json::Result<String>| v.map_err(|e| Error::Input(e.to_string()));
        let (srcc, epoch) = position.best.unwrap_or((f64::NAN, 0));
        // Names alone: where the folders lay on this machine is nobody's business.
        let name = |path: &PathBuf| path.file_name().map(PathBuf::from).unwrap_or_default();
        let shared = Settings {
            data: self.settings.data.iter().map(name).collect(),
            start: self.settings.start.as_ref().map(name),
            teacher_features: self.settings.teacher_features.as_ref().map(name),
            ..self.settings.clone()
        };
        let reported = serde_json::json!({
            "validation": { "images": self.validation.len(), "srcc": srcc, "plcc": plcc, "crops": "center 1" }
        });
        let metadata = BTreeMap::from([
            ("model".to_owned(), self.settings.model.clone()),
            ("config".to_owned(), json(serde_json::to_string(self.model.config()))?),
            ("range".to_owned(), "[0.0,1.0]".to_owned()),
            ("training".to_owned(), json(serde_json::to_string(&shared))?),
            ("epoch".to_owned(), epoch.to_string()),
            ("reported".to_owned(), reported.to_string()),
            ("producer".to_owned(), concat!("qmambaiqa ", env!("CARGO_PKG_VERSION"), " train").to_owned()),
        ]);
        weights_file::write(out, &tensors, WriteDtype::F16, &metadata)
    }
}
