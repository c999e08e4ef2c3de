//! `qmambaiqa evaluate`

use crate::common::{self, Format, ScorerArgs, line};
use crate::source;
use anyhow::{Context, Result, bail};
use clap::Args as ClapArgs;
use qmambaiqa::train::correlation::{krcc, logistic_fit, plcc, rmse, srcc};
use qmambaiqa::train::dataset::{Labels, read_image};
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
    #[command(flatten)]
    scorer: ScorerArgs,
    /// Form of the output
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
}

#[derive(Serialize)]
struct Report<'a> {
    images: usize,
    plcc: Option<f64>,
    plcc_fitted: Option<f64>,
    srcc: Option<f64>,
    krcc: Option<f64>,
    rmse: Option<f64>,
    rmse_fitted: Option<f64>,
    model: &'a str,
    style_prompt: &'a str,
    crops: usize,
    sampling: &'a str,
    seed: u64,
}

pub fn run(args: &Args) -> Result<bool> {
    let labels = match &args.labels {
        Some(file) => Labels::read_file(&args.folder, file, None)?,
        None => Labels::read(&args.folder)?,
    };
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
    let (mut raws, mut scores) = (Vec::new(), Vec::new());
    for path in &paths {
        let picture = read_image(path)?;
        let score = source::score_picture(&scorer, &plan, &picture).with_context(|| path.display().to_string())?;
        raws.push(score.raw);
        scores.push(score.score);
        bar.inc(1);
    }
    bar.finish_and_clear();
    let opinions: Vec<f64> = labels.rows.iter().map(|row| row.mos).collect();
    // Outputs may fall with quality; not clamped as scores are, which would tie the best and the worst.
    let (low, high) = scorer.description().range.unwrap_or((0.0, 1.0));
    let predictions: Vec<f64> = raws.iter().map(|raw| (raw - low) / (high - low)).collect();
    let least = opinions.iter().copied().fold(f64::INFINITY, f64::min);
    let most = opinions.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let mapped: Vec<f64> = scores.iter().map(|score| least + score / 100.0 * (most - least)).collect();
    let fitted = logistic_fit(&predictions, &opinions);
    let varies = |values: &[f64]| values.iter().any(|v| Some(v) != values.first());
    let both = varies(&predictions) && varies(&opinions);
    let finite = |value: f64| Some(value).filter(|v| v.is_finite());
    let correlation = |value: f64| finite(value).filter(|_| both);
    let report = Report {
        images: paths.len(),
        plcc: correlation(plcc(&predictions, &opinions)),
        plcc_fitted: correlation(plcc(&fitted, &opinions)),
        srcc: correlation(srcc(&predictions, &opinions)),
        krcc: correlation(krcc(&predictions, &opinions)),
        rmse: finite(rmse(&mapped, &opinions)),
        rmse_fitted: finite(rmse(&fitted, &opinions)),
        model: scorer.model_name(),
        style_prompt: scorer.style_prompt_name(),
        crops: plan.crops(),
        sampling: plan.sampling().nick(),
        seed: plan.seed(),
    };
    match args.format {
        Format::Json => line(&serde_json::to_string(&report)?)?,
        Format::Table => {
            line(&format!("{:11}  {}", "model", report.model))?;
            line(&format!("{:11}  {}", "images", report.images))?;
            for (name, value) in [
                ("plcc", report.plcc),
                ("plcc_fitted", report.plcc_fitted),
                ("srcc", report.srcc),
                ("krcc", report.krcc),
                ("rmse", report.rmse),
                ("rmse_fitted", report.rmse_fitted),
            ] {
                line(&format!("{name:11}  {}", value.map_or("-".into(), |v| format!("{v:.4}"))))?;
            }
        }
    }
    Ok(true)
}
