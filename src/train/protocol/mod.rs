//! The paper's protocols: repeated seeded splits, one set or several mixed, training in one domain and tuning for another.

mod job;

use super::evaluation::Evaluation;
use super::progress::Progress;
use super::settings::{Optimizer, Phase};
use crate::model::adapter::{AdapterConfig, Injection, PromptSize};
use crate::{Error, Result};
use job::Job;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Which protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Each set by itself (paper, table 1).
    TaskSpecific,
    /// All sets mixed, each judged by itself (table 2).
    Universal,
    /// Trained on the sets of one domain; on those of others as it is, and tuned (table 3).
    Transfer,
}

/// A configuration file.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Protocol {
    /// Network.
    #[serde(default = "nano")]
    pub model: String,
    /// Weights to start from: an embedded model or a file; none for a random start.
    pub start: Option<String>,
    /// Folder for weights, logs and results.
    pub out: PathBuf,
    /// Splits, one after the other; medians are reported.
    #[serde(default = "ten")]
    pub repeats: usize,
    /// Of the first split; each further one has the next.
    #[serde(default)]
    pub seed: u64,
    /// Part that is held out to be judged on.
    #[serde(default = "fifth")]
    pub validation: f64,
    /// Crops that are averaged when judging.
    #[serde(default = "ten")]
    pub crops: usize,
    /// The sets by name.
    pub sets: BTreeMap<String, Set>,
    /// How networks are trained.
    #[serde(default)]
    pub training: Schedule,
    /// What is trained: several give rows of one table, as in ablations. None trains the network.
    #[serde(default)]
    pub runs: Vec<Run>,
}

/// A data set.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Set {
    /// Its folder.
    pub path: PathBuf,
    /// Its domain, for transfer.
    #[serde(default)]
    pub domain: String,
}

/// One row: what is trained, and how.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Run {
    /// Name of the row.
    pub name: String,
    /// What changes features; none trains the whole network, unless `head` is set.
    pub injection: Option<Injection>,
    /// Whether the head is trained.
    #[serde(default)]
    pub head: bool,
    /// Prompts, `N`.
    #[serde(default = "six")]
    pub prompts: usize,
    /// Their channels.
    #[serde(default = "channels")]
    pub channels: usize,
    /// Their height and width.
    #[serde(default = "one_by_one")]
    pub size: PromptSize,
    /// How; as networks are, if not given.
    pub training: Option<Schedule>,
}

/// How something is trained; the defaults are the paper's.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Schedule {
    /// Crop sizes in turn.
    pub phases: Vec<Phase>,
    /// Pictures in a step.
    pub batch: usize,
    /// How a step is made.
    pub optimizer: Optimizer,
    /// Highest learning rate.
    pub learning_rate: f64,
    /// Epochs after which the rate is divided by ten; 0 for a cosine.
    pub decay_every: usize,
    /// Steps over which the rate rises.
    pub warmup: usize,
    /// Weight decay.
    pub weight_decay: f64,
    /// Factor of the weights' moving average.
    pub average: f64,
    /// Weight of the ranking loss.
    pub rank_weight: f64,
    /// Whether pictures made from one reference are seen together.
    pub together: bool,
}

impl Default for Schedule {
    fn default() -> Self {
        Self {
            phases: vec![Phase { crop: crate::model::CROP, epochs: 9 }],
            batch: 32,
            optimizer: Optimizer::AdamW,
            learning_rate: 2e-4,
            decay_every: 3,
            warmup: 0,
            weight_decay: 0.05,
            average: 0.0,
            rank_weight: 0.0,
            together: false,
        }
    }
}

fn nano() -> String {
    crate::embedded::DEFAULT_MODEL.into()
}
fn ten() -> usize {
    10
}
fn channels() -> usize {
    AdapterConfig::default().channels
}

fn six() -> usize {
    6
}
fn fifth() -> f64 {
    0.2
}
fn one_by_one() -> PromptSize {
    PromptSize::Fixed(1, 1)
}

/// What one run reached on one set with one split.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Row of the table.
    pub row: String,
    /// Set that was judged.
    pub set: String,
    /// Number of the split.
    pub repeat: usize,
    /// Parameters that were trained.
    pub parameters: usize,
    /// Minutes of training.
    pub minutes: f64,
    /// How well.
    pub evaluation: Evaluation,
}

impl Protocol {
    /// Reads a configuration; paths in it are relative to its folder.
    ///
    /// # Errors
    /// Names the file, the line and the key.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|source| Error::Io { path: path.to_owned(), source })?;
        let mut protocol: Self =
            toml::from_str(&text).map_err(|e| Error::Input(format!("{}: {}", path.display(), one_line(&e))))?;
        let folder = path.parent().unwrap_or(Path::new("."));
        protocol.out = folder.join(&protocol.out);
        protocol.sets.values_mut().for_each(|set| set.path = folder.join(&set.path));
        if let Some(start) = &mut protocol.start
            && folder.join(&*start).is_file()
        {
            *start = folder.join(&*start).display().to_string();
        }
        if !(protocol.validation > 0.0 && protocol.validation < 1.0) {
            return Err(Error::Input(format!("{}: validation must be between 0 and 1", path.display())));
        }
        if protocol.sets.is_empty() || protocol.repeats == 0 {
            return Err(Error::Input(format!("{}: needs at least one set and one repeat", path.display())));
        }
        Ok(protocol)
    }

    /// Runs what is still to be run: outcomes are kept in `out/KIND.json`.
    ///
    /// # Errors
    /// As training and evaluating.
    pub fn run(&self, kind: Kind, threads: usize, watch: &(dyn Fn(Progress) + Sync)) -> Result<Vec<Outcome>> {
        std::fs::create_dir_all(&self.out).map_err(|source| Error::Io { path: self.out.clone(), source })?;
        Job::new(self, kind, threads, watch)?.run()
    }

    fn rows(&self) -> Vec<Run> {
        if !self.runs.is_empty() {
            return self.runs.clone();
        }
        let whole = Run {
            name: self.model.clone(),
            injection: None,
            head: false,
            prompts: six(),
            channels: channels(),
            size: one_by_one(),
            training: None,
        };
        vec![whole]
    }
}

fn one_line(error: &toml::de::Error) -> String {
    error.to_string().split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The paper's form: a row for each of what was compared, `PLCC SRCC` for each set (medians over splits), and the mean.
pub fn table(outcomes: &[Outcome], sets: &[String]) -> Vec<Vec<String>> {
    let mut head = vec!["method".to_owned(), "parameters".to_owned(), "minutes".to_owned()];
    head.extend(sets.iter().flat_map(|set| [format!("{set} PLCC"), format!("{set} SRCC")]));
    head.push("mean".to_owned());
    let mut rows: Vec<&str> = Vec::new();
    outcomes.iter().for_each(|o| {
        if !rows.contains(&o.row.as_str()) {
            rows.push(&o.row);
        }
    });
    let mut lines = vec![head];
    for row in rows {
        let own: Vec<&Outcome> = outcomes.iter().filter(|o| o.row == row).collect();
        let minutes = median(own.iter().map(|o| o.minutes).collect());
        let mut line = vec![row.to_owned(), own[0].parameters.to_string(), number(minutes, 1)];
        let mut all = Vec::new();
        for set in sets {
            let of = |value: fn(&Evaluation) -> Option<f64>| {
                median(own.iter().filter(|o| o.set == *set).filter_map(|o| value(&o.evaluation)).collect())
            };
            let pair = [of(|e| e.plcc), of(|e| e.srcc)];
            line.extend(pair.map(|v| number(v, 3)));
            all.extend(pair.into_iter().flatten());
        }
        let mean = (!all.is_empty()).then(|| all.iter().sum::<f64>() / all.len() as f64);
        line.push(number(mean, 3));
        lines.push(line);
    }
    lines
}

fn number(value: Option<f64>, digits: usize) -> String {
    value.map_or("-".to_owned(), |v| format!("{v:.digits$}"))
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => None,
        n if n % 2 == 1 => Some(values[n / 2]),
        n => Some((values[n / 2 - 1] + values[n / 2]) / 2.0),
    }
}
