//! The paper's protocols: repeated seeded splits, one set or several mixed, training in one domain and tuning for another.

use super::dataset::Labels;
use super::evaluation::{self, Evaluation};
use super::run::{Progress, train};
use super::settings::{Optimizer, Phase, Settings, SplitBy};
use crate::crops::{CropPlan, Sampling};
use crate::model::adapter::{AdapterConfig, Injection, PromptSize};
use crate::{Error, Options, Result, Scorer};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

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
        }
    }
}

fn nano() -> String {
    crate::scorer::DEFAULT_MODEL.into()
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
        let mut job = Job { protocol: self, kind, threads, watch, outcomes: Vec::new() };
        job.load()?;
        for repeat in 0..self.repeats {
            match kind {
                Kind::TaskSpecific => job.task_specific(repeat)?,
                Kind::Universal => job.universal(repeat)?,
                Kind::Transfer => job.transfer(repeat)?,
            }
        }
        Ok(job.outcomes)
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

struct Job<'a> {
    protocol: &'a Protocol,
    kind: Kind,
    threads: usize,
    watch: &'a (dyn Fn(Progress) + Sync),
    outcomes: Vec<Outcome>,
}

/// What has been trained.
struct Trained {
    weights: PathBuf,
    adapter: bool,
    /// The network below an adapter.
    base: Option<String>,
    parameters: usize,
    minutes: f64,
}

impl Job<'_> {
    fn file(&self) -> PathBuf {
        let name = match self.kind {
            Kind::TaskSpecific => "task-specific",
            Kind::Universal => "universal",
            Kind::Transfer => "transfer",
        };
        self.protocol.out.join(format!("{name}.json"))
    }

    fn load(&mut self) -> Result<()> {
        let path = self.file();
        if path.exists() {
            let bytes = std::fs::read(&path).map_err(|source| Error::Io { path: path.clone(), source })?;
            let read = serde_json::from_slice(&bytes);
            self.outcomes = read.map_err(|e| Error::Input(format!("{}: {e}", path.display())))?;
        }
        Ok(())
    }

    fn keep(&mut self, outcome: Outcome) -> Result<()> {
        self.outcomes.push(outcome);
        let (path, next) = (self.file(), self.file().with_extension("json.new"));
        let bytes = serde_json::to_vec_pretty(&self.outcomes).map_err(|e| Error::Input(e.to_string()))?;
        let written = std::fs::write(&next, bytes).and_then(|()| std::fs::rename(&next, &path));
        written.map_err(|source| Error::Io { path, source })
    }

    fn has(&self, row: &str, set: &str, repeat: usize) -> bool {
        self.outcomes.iter().any(|o| o.row == row && o.set == set && o.repeat == repeat)
    }

    fn task_specific(&mut self, repeat: usize) -> Result<()> {
        for run in self.protocol.rows() {
            for (name, set) in &self.protocol.sets {
                if !self.has(&run.name, name, repeat) {
                    let trained = self.train(&run, &[set], self.protocol.start.clone(), name, repeat)?;
                    self.judge(&run.name, &trained, name, repeat)?;
                }
            }
        }
        Ok(())
    }

    fn universal(&mut self, repeat: usize) -> Result<()> {
        let sets: Vec<&Set> = self.protocol.sets.values().collect();
        for run in self.protocol.rows() {
            if self.protocol.sets.keys().all(|name| self.has(&run.name, name, repeat)) {
                continue;
            }
            let trained = self.train(&run, &sets, self.protocol.start.clone(), "all", repeat)?;
            for name in self.protocol.sets.keys() {
                if !self.has(&run.name, name, repeat) {
                    self.judge(&run.name, &trained, name, repeat)?;
                }
            }
        }
        Ok(())
    }

    fn transfer(&mut self, repeat: usize) -> Result<()> {
        let mut domains: BTreeMap<&str, Vec<&Set>> = BTreeMap::new();
        for (name, set) in &self.protocol.sets {
            if set.domain.is_empty() {
                return Err(Error::Input(format!("set {name} needs a domain, to transfer from one to another")));
            }
            domains.entry(&set.domain).or_default().push(set);
        }
        if domains.len() < 2 {
            return Err(Error::Input("transfer needs sets of at least two domains".into()));
        }
        let whole = Run { name: "source".into(), injection: None, ..self.protocol.rows()[0].clone() };
        let whole = Run { head: false, training: None, ..whole };
        for (domain, sets) in &domains {
            let targets = self.protocol.sets.iter().filter(|(_, set)| set.domain != **domain);
            let source = self.train(&whole, sets, self.protocol.start.clone(), domain, repeat)?;
            for (name, set) in targets {
                let row = format!("{domain}, direct");
                if !self.has(&row, name, repeat) {
                    self.judge(&row, &source, name, repeat)?;
                }
                for run in &self.protocol.runs {
                    let row = format!("{domain}, {}", run.name);
                    if !self.has(&row, name, repeat) {
                        let start = Some(source.weights.display().to_string());
                        let trained = self.train(run, &[set], start, &format!("{domain}-{name}"), repeat)?;
                        self.judge(&row, &trained, name, repeat)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Trains one row on some sets; a run that was stopped goes on.
    fn train(&self, run: &Run, sets: &[&Set], start: Option<String>, on: &str, repeat: usize) -> Result<Trained> {
        let p = self.protocol;
        let schedule = run.training.as_ref().unwrap_or(&p.training).clone();
        let injection = run.injection.or(run.head.then_some(Injection::None));
        let tuning = injection.map(|injection| AdapterConfig {
            injection,
            prompts: run.prompts,
            channels: run.channels,
            size: run.size,
            head: run.head,
        });
        let settings = Settings {
            data: sets.iter().map(|set| set.path.clone()).collect(),
            model: p.model.clone(),
            start: start.clone(),
            tuning,
            mos_range: None,
            auxiliary: Vec::new(),
            auxiliary_share: 1.0,
            teacher_features: None,
            teacher_weight: 0.0,
            rank_weight: schedule.rank_weight,
            distorted: 0,
            phases: schedule.phases,
            batch: schedule.batch,
            optimizer: schedule.optimizer,
            learning_rate: schedule.learning_rate,
            decay_every: (schedule.decay_every > 0).then_some(schedule.decay_every),
            warmup: schedule.warmup,
            weight_decay: schedule.weight_decay,
            average: schedule.average,
            validation: p.validation,
            split: SplitBy::Random,
            fold: None,
            validate_every: 1,
            seed: p.seed + repeat as u64,
        };
        let safe = |text: &str| text.replace(|c: char| !c.is_ascii_alphanumeric() && c != '-', "_");
        let weights = p.out.join(format!("{}-{}-{repeat}.safetensors", safe(&run.name), safe(on)));
        (self.watch)(Progress::Note(format!("{} on {on}, split {}", run.name, repeat + 1)));
        let summary = train(&settings, &weights, self.threads, self.watch)?;
        let (parameters, minutes) = (summary.parameters, summary.seconds / 60.0);
        Ok(Trained { weights, adapter: tuning.is_some(), base: start, parameters, minutes })
    }

    /// Judges by the held-out part of a set.
    fn judge(&mut self, row: &str, trained: &Trained, set: &str, repeat: usize) -> Result<()> {
        let p = self.protocol;
        let weights = trained.weights.display().to_string();
        let mut options = Options { threads: self.threads, ..Options::default() };
        match (&trained.base, trained.adapter) {
            (Some(base), true) => (options.model, options.style_prompt) = (base.clone(), weights),
            _ => options.model = weights,
        }
        let scorer = Scorer::open(&options)?;
        let labels = Labels::for_split(&p.sets[set].path, &SplitBy::Random)?;
        let (_, rows) = labels.split(&SplitBy::Random, p.validation, None, p.seed + repeat as u64)?;
        let plan = CropPlan::new(p.crops, Sampling::Random, p.seed)?;
        let begin = Instant::now();
        let evaluation = evaluation::evaluate(&scorer, &plan, &labels, &rows, || ())?;
        let (srcc, seconds) = (evaluation.srcc.unwrap_or(f64::NAN), begin.elapsed().as_secs_f64());
        (self.watch)(Progress::Note(format!("{row}: SRCC {srcc:.4} on {set}, judged in {seconds:.0} s")));
        self.keep(Outcome {
            row: row.to_owned(),
            set: set.to_owned(),
            repeat,
            parameters: trained.parameters,
            minutes: trained.minutes,
            evaluation,
        })
    }
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
