//! What a run reads before its first step: pictures, scores, the teacher's features.

use super::dataset::Labels;
use super::progress::Progress;
use super::settings::Settings;
use super::teacher::Teacher;
use crate::{Error, Result};
use image::RgbImage;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

/// One training picture.
pub(super) struct Sample {
    pub image: RgbImage,
    /// Its score, 0 to 1.
    pub score: f32,
    /// Its row in the teacher's features.
    pub row: Option<usize>,
    /// The first picture in `training` that was made from the same reference; its own place where it is alone.
    pub content: usize,
    /// The head that learns it: 0 is the network's, from 1 on those of auxiliary sets.
    pub head: usize,
}

/// Both parts of all sets, in memory.
pub(super) struct Parts {
    /// The sets' own training pictures, then those of the auxiliary sets.
    pub training: Vec<Sample>,
    /// Pictures with their scores, 0 to 1.
    pub validation: Vec<(RgbImage, f64)>,
    pub teacher: Option<Teacher>,
    /// The validation part as a table of its own, as CSV.
    pub held_out: Vec<u8>,
}

impl Parts {
    /// Reads every picture; each set's scores are brought to 0..1.
    pub(super) fn load(settings: &Settings, watch: &(dyn Fn(Progress) + Sync)) -> Result<Self> {
        let (mut training, mut validation, mut teacher) = (Vec::new(), Vec::new(), None);
        let mut held_out = csv::Writer::from_writer(Vec::new());
        let table = |e: csv::Error| Error::Input(format!("cannot list the held-out pictures: {e}"));
        held_out.write_record(["image", "mos"]).map_err(table)?;
        for (i, folder) in settings.data.iter().enumerate() {
            let labels = Labels::for_split(folder, &settings.split)?;
            let scale = scale(settings, &labels)?;
            let (train_rows, validation_rows) =
                labels.split(&settings.split, settings.validation, settings.fold, settings.seed)?;
            let taught = settings.teacher_features.as_ref().filter(|_| i == 0);
            if let Some(path) = taught {
                teacher = Some(Teacher::read(path, labels.rows.len())?);
            }
            let (done, total) = (AtomicUsize::new(0), labels.rows.len());
            let progress = || watch(Progress::Loading(done.fetch_add(1, Ordering::Relaxed) + 1, total));
            let mut contents = Contents::default();
            for (&row, image) in train_rows.iter().zip(labels.load(&train_rows, progress)?) {
                let content = contents.of(&labels.rows[row].group, training.len());
                let score = scale(labels.rows[row].mos) as f32;
                training.push(Sample { image, score, row: taught.map(|_| row), content, head: 0 });
            }
            for (&row, image) in validation_rows.iter().zip(labels.load(&validation_rows, progress)?) {
                let entry = &labels.rows[row];
                held_out.write_record([&entry.image, &entry.mos.to_string()]).map_err(table)?;
                validation.push((image, scale(entry.mos)));
            }
            let (t, v) = (train_rows.len(), validation_rows.len());
            watch(Progress::Note(format!("{}: {t} pictures to train on, {v} held out", folder.display())));
        }
        for (i, folder) in settings.auxiliary.iter().enumerate() {
            let labels = Labels::read(folder)?;
            let scale = scale(settings, &labels)?;
            let (done, total) = (AtomicUsize::new(0), labels.rows.len());
            let progress = || watch(Progress::Loading(done.fetch_add(1, Ordering::Relaxed) + 1, total));
            let rows: Vec<usize> = (0..total).collect();
            let mut contents = Contents::default();
            for (row, image) in labels.rows.iter().zip(labels.load(&rows, progress)?) {
                let content = contents.of(&row.group, training.len());
                training.push(Sample { image, score: scale(row.mos) as f32, row: None, content, head: i + 1 });
            }
            watch(Progress::Note(format!("{}: {total} pictures for a head of their own", folder.display())));
        }
        let held_out = held_out.into_inner().map_err(|e| Error::Input(e.to_string()))?;
        Ok(Self { training, validation, teacher, held_out })
    }
}

/// Where each of a set's groups began.
#[derive(Default)]
struct Contents(BTreeMap<String, usize>);

impl Contents {
    fn of(&mut self, group: &str, place: usize) -> usize {
        if group.is_empty() { place } else { *self.0.entry(group.to_owned()).or_insert(place) }
    }
}

/// Brings a set's scores to 0..1.
fn scale(settings: &Settings, labels: &Labels) -> Result<impl Fn(f64) -> f64 + use<>> {
    let (low, high) = match settings.mos_range {
        Some(range) => (range.low, range.high),
        None => labels.range()?,
    };
    Ok(move |mos: f64| (mos - low) / (high - low))
}
