//! `qmambaiqa evaluate`

use crate::common::{self, Format, ScorerArgs, line};
use anyhow::{Result, bail};
use clap::Args as ClapArgs;
use qmambaiqa::crops::Scales;
use qmambaiqa::train::dataset::Labels;
use qmambaiqa::train::evaluation::{self, Evaluation, Within};
use serde::Serialize;
use std::path::PathBuf;

/// Names of missing pictures that a message lists.
const LISTED: usize = 10;

/// Compare a model's scores with the opinion scores of a folder of pictures.
///
/// Correlations are of the model's outputs as they are: plcc without a fit, plcc_fitted and rmse_fitted after the
/// four-parameter logistic function of VQEG. For rmse, scores 0 to 100 are mapped linearly onto the range from the
/// lowest to the highest label, so that it is in the labels' unit. What cannot be said (predictions that do not vary)
/// is null.
#[derive(ClapArgs)]
pub struct Args {
    /// Folder of pictures with a mos.csv (columns image,mos), or one of the known data sets as its authors distribute it
    folder: PathBuf,
    /// Table of labels instead of the folder's mos.csv
    #[arg(long)]
    labels: Option<PathBuf>,
    /// Columns, in a list with commas, whose values make groups: the mean Kendall correlation within them is told for each
    /// value of the last, as with `reference,codec` of what `distort` makes
    #[arg(long, value_delimiter = ',')]
    within: Vec<String>,
    #[command(flatten)]
    scorer: ScorerArgs,
    /// Form of the output
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
}

#[derive(Serialize)]
struct Report<'a> {
    #[serde(flatten)]
    evaluation: Evaluation,
    model: &'a str,
    style_prompt: &'a str,
    crops: usize,
    sampling: &'a str,
    seed: u64,
    scales: Scales,
    display_height: usize,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    within: Vec<Within>,
}

pub fn run(args: &Args) -> Result<bool> {
    let labels = match &args.labels {
        Some(file) => Labels::read_file(&args.folder, file, None)?,
        None => Labels::read(&args.folder)?,
    };
    let table = args.labels.clone().unwrap_or_else(|| args.folder.join("mos.csv"));
    let mut keys = vec![Vec::new(); labels.rows.len()];
    for column in &args.within {
        let groups = Labels::read_file(&args.folder, &table, Some(column))?;
        keys.iter_mut().zip(groups.rows).for_each(|(key, row)| key.push(row.group));
    }
    let plan = args.scorer.plan()?;
    let paths: Vec<PathBuf> = labels.rows.iter().map(|row| labels.folder.join(&row.image)).collect();
    let missing: Vec<String> = paths.iter().filter(|p| !p.is_file()).map(|p| p.display().to_string()).collect();
    if !missing.is_empty() {
        let more = if missing.len() > LISTED { ", ..." } else { "" };
        let names = missing[..missing.len().min(LISTED)].join(", ");
        bail!("{} of {} pictures are missing: {names}{more}", missing.len(), paths.len());
    }
    let scorer = args.scorer.open()?;
    let bar = common::bar(paths.len());
    let rows: Vec<usize> = (0..labels.rows.len()).collect();
    let scores = evaluation::predict(&scorer, &plan, &labels, &rows, || bar.inc(1))?;
    bar.finish_and_clear();
    let opinions: Vec<f64> = labels.rows.iter().map(|row| row.mos).collect();
    let rising = scorer.description().range.is_none_or(|(low, high)| low < high);
    let within = match args.within.is_empty() {
        true => Vec::new(),
        false => evaluation::within(&keys, &scores, &opinions, rising),
    };
    let report = Report {
        evaluation: Evaluation::new(&scorer, &scores, &opinions),
        model: scorer.model_name(),
        style_prompt: scorer.style_prompt_name(),
        crops: plan.crops(),
        sampling: plan.sampling().nick(),
        seed: plan.seed(),
        scales: scorer.plan(&plan).scales(),
        display_height: plan.display_height(),
        within,
    };
    match args.format {
        Format::Json => line(&serde_json::to_string(&report)?)?,
        Format::Table => {
            line(&format!("{:11}  {}", "model", report.model))?;
            line(&format!("{:11}  {}", "images", report.evaluation.images))?;
            for (name, value) in [
                ("plcc", report.evaluation.plcc),
                ("plcc_fitted", report.evaluation.plcc_fitted),
                ("srcc", report.evaluation.srcc),
                ("krcc", report.evaluation.krcc),
                ("rmse", report.evaluation.rmse),
                ("rmse_fitted", report.evaluation.rmse_fitted),
            ] {
                line(&format!("{name:11}  {}", value.map_or("-".into(), |v| format!("{v:.4}"))))?;
            }
            for w in &report.within {
                let (value, krcc, least, groups) = (&w.value, w.krcc, w.least, w.groups);
                line(&format!("krcc within {value}  {krcc:.4} (mean of {groups} groups, least {least:.4})"))?;
            }
        }
    }
    Ok(true)
}
