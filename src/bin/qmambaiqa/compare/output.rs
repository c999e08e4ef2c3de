//! Results, for people and for programs.

use super::paired::Verdict;
use super::rendition::Rendition;
use super::{Moment, Pair};
use crate::common::line;
use anyhow::Result;
use qmambaiqa::pooling::Statistics;
use serde::Serialize;

/// The layout's version; it changes when a field does.
const SCHEMA: u32 = 1;

#[derive(Serialize)]
struct Report<'a> {
    schema: u32,
    renditions: Vec<Row<'a>>,
    pairs: &'a [Pair<'a>],
}

#[derive(Serialize)]
struct Row<'a> {
    name: &'a str,
    /// Bits a second.
    bitrate: f64,
    statistics: Statistics,
    frames: Vec<Point>,
}

#[derive(Serialize)]
struct Point {
    time: f64,
    score: f64,
}

pub fn json(renditions: &[Rendition], pairs: &[Pair]) -> Result<()> {
    let row =
        |r: &'_ Rendition| -> Vec<Point> { r.frames.iter().map(|f| Point { time: f.time, score: f.score }).collect() };
    let rows = renditions
        .iter()
        .map(|r| Row { name: &r.name, bitrate: r.bitrate, statistics: r.statistics, frames: row(r) })
        .collect();
    line(&serde_json::to_string(&Report { schema: SCHEMA, renditions: rows, pairs })?)
}

pub fn table(renditions: &[Rendition], pairs: &[Pair]) -> Result<()> {
    let width = renditions.iter().map(|r| r.name.chars().count()).max().unwrap_or(0).max(5);
    line(&format!("{:width$}  {:>8}  {:>6}  {:>6}  {:>6}  {:>6}", "video", "kbit/s", "frames", "mean", "p5", "min"))?;
    for r in renditions {
        let (s, kilobits) = (r.statistics, r.bitrate / 1000.0);
        line(&format!(
            "{:width$}  {kilobits:>8.0}  {:>6}  {:>6.2}  {:>6.2}  {:>6.2}",
            r.name, s.frames, s.mean, s.p5, s.min
        ))?;
    }
    line("")?;
    pairs.iter().try_for_each(|pair| line(&sentence(pair)))
}

fn sentence(pair: &Pair) -> String {
    let (a, b, d) = (pair.first, pair.second, pair.difference);
    let by = format!("{:.2} ± {:.2}", d.mean.abs(), d.confidence.unwrap_or(f64::NAN));
    let text = match d.verdict {
        Verdict::FirstBetter => format!("{a} better than {b} by {by}"),
        Verdict::SecondBetter => format!("{b} better than {a} by {by}"),
        Verdict::NoDifferenceShown => format!("{a} and {b}: no difference shown ({by})"),
        Verdict::TooShort => {
            format!("{a} and {b}: too short to tell ({:+.2} on the mean of {} frames)", d.mean, d.frames)
        }
    };
    let moment = |m: &Moment| format!("{:+.1} at {:.2} s", m.difference, m.time);
    let moments: Vec<String> = pair.worst.iter().map(moment).collect();
    if moments.is_empty() { text } else { format!("{text}; {b} against {a}: {}", moments.join(", ")) }
}
