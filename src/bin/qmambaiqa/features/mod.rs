//! `qmambaiqa features`

mod plot;
mod projection;

use crate::common::{self, ScorerArgs, line};
use anyhow::{Context, Result, bail};
use clap::{Args as ClapArgs, ValueEnum};
use projection::{pca, tsne};
use qmambaiqa::train::dataset::{Labels, read_image};
use qmambaiqa::train::evaluation;
use qmambaiqa::weights_file::{self, WriteDtype};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// Write the deep features of a folder of pictures, and draw them by their distortions (the paper's figure 3).
///
/// A picture's features are what the head sees of it: the mean over its crops of the last stage's features.
#[derive(ClapArgs)]
pub struct Args {
    /// Folder of pictures with a mos.csv (columns image,mos), or one of the known data sets as its authors distribute it
    folder: PathBuf,
    /// File to write: .safetensors (a tensor `features`, a row for each picture; their names in the metadata `images`) or
    /// .csv (image,mos,kind, and a column for each feature)
    #[arg(long)]
    out: PathBuf,
    /// Picture to draw, .svg: a point for each picture of the folder, coloured by its kind
    #[arg(long)]
    plot: Option<PathBuf>,
    /// How the features are brought to two dimensions
    #[arg(long, value_enum, default_value = "pca")]
    projection: Projection,
    /// Column of mos.csv that says of what kind a picture is, such as codec or distortion; known data sets have their
    /// distortions without it
    #[arg(long)]
    by: Option<String>,
    /// Write the features of each crop: `features` has a row for each crop, `image` the number of its picture, `scale` the
    /// log2 of the reduced picture's shorter side over a crop's (.safetensors only)
    #[arg(long, conflicts_with = "plot")]
    each_crop: bool,
    #[command(flatten)]
    scorer: ScorerArgs,
}

#[derive(Clone, Copy, ValueEnum)]
enum Projection {
    /// The two principal components
    Pca,
    /// Barnes-Hut t-SNE, from the principal components
    Tsne,
}

/// A picture with what it is and what the network sees in it.
struct Entry {
    image: String,
    mos: f64,
    kind: String,
    features: Vec<f32>,
    /// Of each crop, where those are asked for.
    crops: Vec<(f64, Vec<f32>)>,
}

pub fn run(args: &Args) -> Result<bool> {
    let written = match args.out.extension().and_then(OsStr::to_str) {
        Some("csv") if !args.each_crop => write_csv as fn(&Path, &[Entry]) -> Result<()>,
        Some("safetensors") if args.each_crop => write_crops,
        Some("safetensors") => write_tensors,
        _ => bail!("{}: features are written as .safetensors or .csv", args.out.display()),
    };
    if let Some(plot) = args.plot.as_ref().filter(|p| p.extension().and_then(OsStr::to_str) != Some("svg")) {
        bail!("{}: the picture is drawn as .svg", plot.display());
    }
    let labels = match &args.by {
        Some(column) => Labels::read_file(&args.folder, &args.folder.join("mos.csv"), Some(column))?,
        None => Labels::read(&args.folder)?,
    };
    let plan = args.scorer.plan()?;
    let scorer = args.scorer.open()?;
    let bar = common::bar(labels.rows.len());
    let mut entries = Vec::with_capacity(labels.rows.len());
    for row in labels.rows {
        let path = labels.folder.join(&row.image);
        let picture = read_image(&path)?;
        let at = || path.display().to_string();
        let frame = evaluation::frame(&picture)?;
        let (mut features, mut crops) = (Vec::new(), Vec::new());
        if args.each_crop {
            let sampled = scorer.crops(&frame, &[], &plan, 0).with_context(at)?;
            let scales = sampled.places().iter().map(|place| place.scale);
            crops = scales.zip(scorer.crop_features(&sampled).with_context(at)?).collect();
        } else {
            features = scorer.features(&frame, &plan, 0).with_context(at)?;
        }
        let kind = if args.by.is_some() { row.group } else { row.distortion };
        entries.push(Entry { image: row.image, mos: row.mos, kind, features, crops });
        bar.inc(1);
    }
    bar.finish_and_clear();
    written(&args.out, &entries)?;
    if let Some(plot) = &args.plot {
        let rows: Vec<&[f32]> = entries.iter().map(|e| e.features.as_slice()).collect();
        let (points, axes) = match args.projection {
            Projection::Pca => pca(&rows)?,
            Projection::Tsne => tsne(&rows)?,
        };
        let kinds: Vec<&str> = entries.iter().map(|e| e.kind.as_str()).collect();
        let title = format!("Features of {} ({})", scorer.model_name(), scorer.style_prompt_name());
        plot::draw(plot, &title, &axes, &points, &kinds)?;
    }
    let values = entries.first().map_or(0, |e| e.crops.first().map_or(&e.features, |(_, crop)| crop).len());
    line(&format!("{}: {} pictures, {values} features each", args.out.display(), entries.len()))?;
    Ok(true)
}

fn write_csv(path: &Path, entries: &[Entry]) -> Result<()> {
    let write = || -> Result<()> {
        let mut csv = csv::Writer::from_path(path)?;
        let count = entries.first().map_or(0, |e| e.features.len());
        let names = ["image", "mos", "kind"].map(str::to_owned).into_iter().chain((0..count).map(|i| format!("f{i}")));
        csv.write_record(names)?;
        for entry in entries {
            let own = [entry.image.clone(), entry.mos.to_string(), entry.kind.clone()];
            csv.write_record(own.into_iter().chain(entry.features.iter().map(f32::to_string)))?;
        }
        Ok(csv.flush()?)
    };
    write().with_context(|| path.display().to_string())
}

fn write_crops(path: &Path, entries: &[Entry]) -> Result<()> {
    let crops = || entries.iter().enumerate().flat_map(|(i, entry)| entry.crops.iter().map(move |crop| (i, crop)));
    let (count, values) = (crops().count(), crops().next().map_or(0, |(_, (_, features))| features.len()));
    let tensors = BTreeMap::from([
        ("features".to_owned(), (vec![count, values], crops().flat_map(|(_, (_, f))| f.iter().copied()).collect())),
        ("scale".to_owned(), (vec![count], crops().map(|(_, (scale, _))| *scale as f32).collect())),
        ("image".to_owned(), (vec![count], crops().map(|(i, _)| i as f32).collect())),
        ("mos".to_owned(), (vec![entries.len()], entries.iter().map(|e| e.mos as f32).collect())),
    ]);
    let images = serde_json::to_string(&entries.iter().map(|e| e.image.as_str()).collect::<Vec<_>>())?;
    Ok(weights_file::write(path, &tensors, WriteDtype::F32, &BTreeMap::from([("images".to_owned(), images)]))?)
}

fn write_tensors(path: &Path, entries: &[Entry]) -> Result<()> {
    let count = entries.first().map_or(0, |e| e.features.len());
    let all = entries.iter().flat_map(|e| e.features.iter().copied()).collect();
    let tensors = BTreeMap::from([
        ("features".to_owned(), (vec![entries.len(), count], all)),
        ("mos".to_owned(), (vec![entries.len()], entries.iter().map(|e| e.mos as f32).collect())),
    ]);
    let list = |of: fn(&Entry) -> &str| serde_json::to_string(&entries.iter().map(of).collect::<Vec<_>>());
    let metadata =
        BTreeMap::from([("images".to_owned(), list(|e| &e.image)?), ("kinds".to_owned(), list(|e| &e.kind)?)]);
    Ok(weights_file::write(path, &tensors, WriteDtype::F32, &metadata)?)
}
