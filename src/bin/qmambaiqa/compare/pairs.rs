//! Two renditions at a time.

use super::family::Family;
use super::paired::{self, Difference};
use super::rendition::Rendition;
use anyhow::{Result, bail};
use serde::Serialize;

/// What is found of two renditions: differences are the second's less the first's.
#[derive(Debug, Serialize)]
pub struct Pair<'a> {
    pub first: &'a str,
    pub second: &'a str,
    #[serde(flatten)]
    pub difference: Difference,
    /// The largest differences for and against, a second apart at least.
    pub worst: Vec<Moment>,
}

#[derive(Debug, Clone, Copy, Serialize)]
pub struct Moment {
    /// Seconds.
    pub time: f64,
    pub difference: f64,
}

/// Differences further apart than this are of moments of their own, in seconds.
const APART: f64 = 1.0;

/// Every two; of a ladder neighbours alone, since its order is known.
pub fn chosen<'a>(
    renditions: &'a [Rendition],
    families: &[Family<'a>],
    ladder: bool,
) -> Vec<(&'a Rendition, &'a Rendition)> {
    if ladder {
        return families.iter().flat_map(|f| f.members.windows(2).map(|two| (two[0], two[1]))).collect();
    }
    renditions.iter().enumerate().flat_map(|(i, a)| renditions[i + 1..].iter().map(move |b| (a, b))).collect()
}

impl<'a> Pair<'a> {
    pub fn new(first: &'a Rendition, second: &'a Rendition, seed: u64, worst_moments: usize) -> Result<Self> {
        let moments: Vec<Moment> =
            first.aligned(second).map(|(a, b)| Moment { time: a.time, difference: b.score - a.score }).collect();
        if moments.is_empty() {
            bail!("{} and {} have no frame at the same time", first.name(), second.name());
        }
        let differences: Vec<f64> = moments.iter().map(|m| m.difference).collect();
        let step = first.step().max(second.step());
        Ok(Self {
            first: first.name(),
            second: second.name(),
            difference: paired::difference(&differences, step, seed),
            worst: worst(moments, worst_moments),
        })
    }
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
