//! `qmambaiqa compare`

mod output;
mod paired;
mod rendition;

use crate::common::{Format, ScorerArgs};
use anyhow::{Result, bail};
use clap::Args as ClapArgs;
use paired::Difference;
use rendition::Rendition;
use serde::Serialize;
use std::path::PathBuf;
use std::time::Duration;

/// Tell which of several encodings of one content is better, and whether the difference is real. No reference is needed.
///
/// All are scored at the same times and places. The differences between two at each moment are paired, so that what both have
/// in common does not count, and a block bootstrap over time gives their mean a 95 % confidence interval. It says how sure
/// the mean of this content is; whether viewers agree is another matter.
#[derive(ClapArgs)]
pub struct Args {
    /// Two or more videos of one content
    #[arg(required = true, num_args = 2..)]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    scorer: ScorerArgs,
    /// Seconds between scored frames (0: every frame)
    #[arg(long, default_value_t = 0.0)]
    interval: f64,
    /// Scale all to WIDTHxHEIGHT first, as a player would on a screen of that size
    #[arg(long, value_parser = size)]
    scale: Option<(u32, u32)>,
    /// Compare what all have where their lengths differ
    #[arg(long)]
    shortest: bool,
    /// Worst moments to list for each pair
    #[arg(long, default_value_t = 3)]
    worst: usize,
    /// Form of the output
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
}

fn size(text: &str) -> Result<(u32, u32), String> {
    let sides = text.split_once('x').and_then(|(w, h)| Some((w.parse().ok()?, h.parse().ok()?)));
    sides
        .filter(|&(w, h)| (1..=16384).contains(&w) && (1..=16384).contains(&h))
        .ok_or_else(|| format!("`{text}`: expected WIDTHxHEIGHT, each 1 to 16384"))
}

/// What is found of two renditions: differences are the second's less the first's.
#[derive(Debug, Serialize)]
struct Pair<'a> {
    first: &'a str,
    second: &'a str,
    #[serde(flatten)]
    difference: Difference,
    /// The largest differences for and against, a second apart at least.
    worst: Vec<Moment>,
}

#[derive(Debug, Clone, Copy, Serialize)]
struct Moment {
    /// Seconds.
    time: f64,
    difference: f64,
}

/// Differences further apart than this are of moments of their own, in seconds.
const APART: f64 = 1.0;

pub fn run(args: &Args) -> Result<bool> {
    let Ok(interval) = Duration::try_from_secs_f64(args.interval) else {
        bail!("interval {} is not a number of seconds from 0 on", args.interval);
    };
    let renditions = rendition::score_all(&args.paths, &args.scorer, interval, args.scale)?;
    rendition::check(&renditions, args.scale.is_some(), args.shortest)?;
    let mut pairs = Vec::new();
    for (i, first) in renditions.iter().enumerate() {
        for second in &renditions[i + 1..] {
            pairs.push(pair(first, second, args)?);
        }
    }
    match args.format {
        Format::Table => output::table(&renditions, &pairs)?,
        Format::Json => output::json(&renditions, &pairs)?,
    }
    Ok(true)
}

fn pair<'a>(first: &'a Rendition, second: &'a Rendition, args: &Args) -> Result<Pair<'a>> {
    let moments: Vec<Moment> =
        first.aligned(second).map(|(a, b)| Moment { time: a.time, difference: b.score - a.score }).collect();
    if moments.is_empty() {
        bail!("{} and {} have no frame at the same time", first.name, second.name);
    }
    rendition::check_content(first, second)?;
    let differences: Vec<f64> = moments.iter().map(|m| m.difference).collect();
    let step = first.step().max(second.step());
    Ok(Pair {
        first: &first.name,
        second: &second.name,
        difference: paired::difference(&differences, step, args.scorer.seed),
        worst: worst(moments, args.worst),
    })
}

/// The largest differences, each further than a second from the larger ones.
fn worst(mut moments: Vec<Moment>, count: usize) -> Vec<Moment> {
    moments.sort_by(|a, b| b.difference.abs().total_cmp(&a.difference.abs()).then(a.time.total_cmp(&b.time)));
    let mut kept: Vec<Moment> = Vec::new();
    for moment in moments {
        if kept.len() == count || moment.difference == 0.0 {
            break;
        }
        if kept.iter().all(|k| (k.time - moment.time).abs() > APART) {
            kept.push(moment);
        }
    }
    kept
}
