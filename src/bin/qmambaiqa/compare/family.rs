//! Renditions that one encoder made at several rates.

use super::bd::{self, Curve, Delta, Point};
use super::rendition::{Rendition, Source};
use anyhow::{Result, anyhow, bail};
use glob::{MatchOptions, Pattern};
use qmambaiqa::train::correlation::krcc;
use serde::Serialize;
use std::str::FromStr;

/// A rendition's mean over time by one metric, where that has been measured.
pub type Metric = fn(&Rendition) -> Option<f64>;

/// What families are compared by.
pub const METRICS: [(&str, Metric); 3] = [
    ("score", |r| Some(r.statistics.mean)),
    ("VMAF", |r| Some(r.full_reference?.vmaf)),
    ("VMAF NEG", |r| Some(r.full_reference?.vmaf_neg)),
];

/// A name and the file names that belong to it: `NAME=PATTERN`, or `PATTERN`.
#[derive(Debug, Clone)]
pub struct Group {
    name: String,
    pattern: Pattern,
}

impl FromStr for Group {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, pattern) = text.split_once('=').unwrap_or((text, text));
        let pattern = Pattern::new(pattern).map_err(|e| format!("`{pattern}`: {e}"))?;
        Ok(Self { name: name.to_owned(), pattern })
    }
}

/// Finds each source's group, the reference's excepted.
pub fn assign(sources: &mut [Source], groups: &[Group]) -> Result<()> {
    let fits = |group: &Group, source: &Source| {
        let name = source.path.file_name().unwrap_or_default();
        group.pattern.matches_with(&name.to_string_lossy(), MatchOptions::new())
    };
    if let Some(group) = groups.iter().find(|group| !sources.iter().any(|s| !s.reference && fits(group, s))) {
        bail!("--group {}: no file name is like {}", group.name, group.pattern);
    }
    for source in sources.iter_mut().filter(|s| !s.reference && !groups.is_empty()) {
        match groups.iter().find(|group| fits(group, source)) {
            Some(group) => source.group = Some(group.name.clone()),
            None => bail!("{} is like no --group; each must be like one", source.name),
        }
    }
    Ok(())
}

/// One group's renditions, by their rates.
#[derive(Serialize)]
pub struct Family<'a> {
    pub name: &'a str,
    #[serde(skip)]
    pub members: Vec<&'a Rendition>,
    /// Kendall's tau of rates and scores: 1 where each higher rate has the higher score. None of one rate.
    pub tau: Option<f64>,
}

impl Family<'_> {
    /// Those that a metric has been measured of.
    pub fn points(&self, metric: Metric) -> Vec<Point> {
        self.members.iter().filter_map(|r| Some(Point { rate: r.bitrate, score: metric(r)? })).collect()
    }
}

/// The families in the order of `renditions`, or of `groups` where given.
pub fn families<'a>(renditions: &'a [Rendition], groups: &[Group]) -> Vec<Family<'a>> {
    let mut all: Vec<Family> = Vec::new();
    for rendition in renditions {
        let Some(name) = rendition.source.group.as_deref() else { continue };
        match all.iter_mut().find(|family| family.name == name) {
            Some(family) => family.members.push(rendition),
            None => all.push(Family { name, members: vec![rendition], tau: None }),
        }
    }
    all.sort_by_key(|family| groups.iter().position(|group| group.name == family.name));
    for family in &mut all {
        family.members.sort_by(|a, b| a.bitrate.total_cmp(&b.bitrate));
        let (rates, scores): (Vec<f64>, Vec<f64>) =
            family.members.iter().map(|r| (r.bitrate, r.statistics.mean)).unzip();
        family.tau = (rates.len() > 1).then(|| krcc(&rates, &scores)).filter(|tau| tau.is_finite());
    }
    all
}

/// Bjontegaard's deltas of one family against the first, by one metric.
#[derive(Serialize)]
pub struct Saving<'a> {
    pub anchor: &'a str,
    pub test: &'a str,
    pub metric: &'static str,
    #[serde(flatten)]
    pub delta: Option<Delta>,
    /// Why there are no deltas.
    pub reason: Option<String>,
}

/// All families against the first, by all metrics that there are.
pub fn savings<'a>(families: &[Family<'a>]) -> Vec<Saving<'a>> {
    let Some((anchor, others)) = families.split_first() else { return Vec::new() };
    let mut all = Vec::new();
    for (metric, of) in METRICS {
        for test in others {
            let through =
                |family: &Family, points: &[Point]| Curve::through(points).map_err(|e| anyhow!("{} {e}", family.name));
            let (a, b) = (anchor.points(of), test.points(of));
            if a.is_empty() && b.is_empty() {
                continue;
            }
            let found = through(anchor, &a).and_then(|a| bd::delta(&a, &through(test, &b)?));
            let (delta, reason) = match found {
                Ok(delta) => (Some(delta), None),
                Err(error) => (None, Some(error.to_string())),
            };
            all.push(Saving { anchor: anchor.name, test: test.name, metric, delta, reason });
        }
    }
    all
}
