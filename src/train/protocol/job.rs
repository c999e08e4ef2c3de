//! What is trained and judged for a protocol, one thing after the other; what is done already is not done again.

use super::{Kind, Outcome, Protocol, Run, Set};
use crate::crops::{CropPlan, Sampling, Scales};
use crate::model::AdapterConfig;
use crate::model::adapter::Injection;
use crate::train::dataset::Labels;
use crate::train::evaluation::{self, Evaluation};
use crate::train::progress::Progress;
use crate::train::run::train;
use crate::train::settings::{Autocast, Settings, SplitBy};
use crate::{Error, Options, Result, Scorer};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Instant;

/// A protocol at work.
pub(super) struct Job<'a> {
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

impl<'a> Job<'a> {
    /// Goes on from the outcomes that are there.
    pub(super) fn new(
        protocol: &'a Protocol,
        kind: Kind,
        threads: usize,
        watch: &'a (dyn Fn(Progress) + Sync),
    ) -> Result<Self> {
        let mut job = Self { protocol, kind, threads, watch, outcomes: Vec::new() };
        job.load()?;
        Ok(job)
    }

    pub(super) fn run(mut self) -> Result<Vec<Outcome>> {
        for repeat in 0..self.protocol.repeats {
            match self.kind {
                Kind::TaskSpecific => self.task_specific(repeat)?,
                Kind::Universal => self.universal(repeat)?,
                Kind::Transfer => self.transfer(repeat)?,
            }
        }
        Ok(self.outcomes)
    }

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
            together: schedule.together,
            auxiliary: Vec::new(),
            auxiliary_share: 1.0,
            auxiliary_mapped: false,
            scale_head: false,
            vary_chroma: false,
            teacher_features: None,
            teacher_weight: 0.0,
            rank_weight: schedule.rank_weight,
            distorted: 0,
            phases: schedule.phases,
            batch: schedule.batch,
            optimizer: schedule.optimizer,
            autocast: Autocast::None,
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
        let plan = CropPlan::new(p.crops, Sampling::Random, p.seed)?.with_scales(Scales::NATIVE);
        let begin = Instant::now();
        let scores = evaluation::predict(&scorer, &plan, &labels, &rows, || ())?;
        let opinions: Vec<f64> = rows.iter().map(|&row| labels.rows[row].mos).collect();
        let evaluation = Evaluation::new(&scorer, &scores, &opinions);
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
