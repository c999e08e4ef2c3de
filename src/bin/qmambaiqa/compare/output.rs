//! Results, for people and for programs.

use super::Comparison;
use super::family::{METRICS, Saving};
use super::paired::Verdict;
use super::pairs::{Moment, Pair};
use super::reference;
use super::rendition::Rendition;
use crate::common::line;
use anyhow::Result;
use qmambaiqa::scorer::NO_STYLE_PROMPT;
use serde::Serialize;

/// The layout's version; it changes when a field does.
const SCHEMA: u32 = 4;

#[derive(Serialize)]
struct Report<'a> {
    schema: u32,
    #[serde(flatten)]
    comparison: &'a Comparison<'a>,
}

pub fn json(comparison: &Comparison) -> Result<()> {
    line(&serde_json::to_string(&Report { schema: SCHEMA, comparison })?)
}

/// One frame's line.
#[derive(Serialize)]
struct Row<'a> {
    video: &'a str,
    group: Option<&'a str>,
    reference: bool,
    time: f64,
    score: f64,
}

pub fn csv(comparison: &Comparison) -> Result<()> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    for r in comparison.renditions {
        let (group, reference) = (r.source.group.as_deref(), r.source.reference);
        for f in &r.frames {
            writer.serialize(Row { video: r.name(), group, reference, time: f.time, score: f.score })?;
        }
    }
    let bytes = writer.into_inner().map_err(|e| anyhow::anyhow!("{}", e.error()))?;
    line(String::from_utf8_lossy(&bytes).trim_end_matches('\n'))
}

/// The name, with a mark on the reference.
pub fn title(r: &Rendition) -> String {
    format!("{}{}", r.name(), if r.source.reference { " (reference)" } else { "" })
}

pub fn table(comparison: &Comparison) -> Result<()> {
    let all = comparison.renditions;
    let width = all.iter().map(|r| title(r).chars().count()).max().unwrap_or(0).max(5);
    let full = all.iter().any(|r| r.full_reference.is_some());
    let more = if full { "    VMAF     NEG    SSIM    PSNR" } else { "" };
    line(&format!(
        "{:width$}  {:>8}  {:>6}  {:>6}  {:>6}  {:>6}{more}",
        "video", "kbit/s", "frames", "mean", "p5", "min"
    ))?;
    for r in all {
        let (s, kilobits) = (r.statistics, r.bitrate / 1000.0);
        let more = r.full_reference.map_or(String::new(), |m| {
            format!("  {:>6.2}  {:>6.2}  {:>6.4}  {:>6.2}", m.vmaf, m.vmaf_neg, m.ssim, m.psnr)
        });
        line(&format!(
            "{:width$}  {kilobits:>8.0}  {:>6}  {:>6.2}  {:>6.2}  {:>6.2}{more}",
            title(r),
            s.frames,
            s.mean,
            s.p5,
            s.min
        ))?;
    }
    conditions(comparison).iter().try_for_each(|text| line(text))?;
    line("")?;
    comparison.pairs.iter().try_for_each(|pair| line(&sentence(pair)))?;
    if !comparison.above_reference.is_empty() {
        line("")?;
        comparison.above_reference.iter().try_for_each(|above| line(&above.to_string()))?;
        line(reference::MEANING)?;
    }
    if !comparison.families.is_empty() {
        line("")?;
    }
    for family in &comparison.families {
        let tau = family
            .tau
            .map_or("none, of one rate".into(), |tau| format!("{tau:.2} over {} rates", family.members.len()));
        line(&format!("{}: Kendall's tau of rates and scores {tau}", family.name))?;
    }
    for (metric, _) in METRICS {
        let mut savings = comparison.savings.iter().filter(|s| s.metric == metric);
        savings.try_for_each(|s| line(&format!("{} against {} by {metric}: {}", s.test, s.anchor, outcome(s))))?;
    }
    Ok(())
}

/// The model, the style prompt, the scaling and the region of the comparison, one line each.
pub fn conditions(comparison: &Comparison) -> Vec<String> {
    let mut lines = vec![match comparison.style_prompt {
        NO_STYLE_PROMPT => format!("model {} without a style prompt", comparison.model),
        prompt => format!("model {} with the style prompt {prompt}", comparison.model),
    }];
    if let Some(scale) = &comparison.scale {
        let scaled = comparison.renditions.iter().filter(|r| r.scaled).map(|r| format!("{} ({})", r.name(), r.size));
        let scaled: Vec<String> = scaled.collect();
        lines.push(match scaled.as_slice() {
            [] => format!("no scaling needed: all videos are {scale}"),
            some => format!("scaled to {scale}, as in full-screen playback: {}", some.join(", ")),
        });
    }
    lines.extend(comparison.region.as_ref().map(|region| format!("of each frame {region} (x,y,width,height)")));
    lines
}

/// Bjontegaard's deltas, or why there are none.
pub fn outcome(saving: &Saving) -> String {
    match (saving.delta, &saving.reason) {
        (Some(d), _) => format!(
            "BD-rate {:+.1} %, BD-{} {:+.2} ({:.0} % of the span in common)",
            d.rate,
            saving.metric,
            d.score,
            100.0 * d.overlap
        ),
        (None, reason) => format!("no BD-rate: {}", reason.as_deref().unwrap_or("unknown")),
    }
}

pub fn sentence(pair: &Pair) -> String {
    let text = verdict(pair);
    let moment = |m: &Moment| format!("{:+.1} at {:.2} s", m.difference, m.time);
    let moments: Vec<String> = pair.worst.iter().map(moment).collect();
    if moments.is_empty() {
        text
    } else {
        format!("{text}; {} against {}: {}", pair.second, pair.first, moments.join(", "))
    }
}

/// The verdict in words.
pub fn verdict(pair: &Pair) -> String {
    let (a, b, d) = (pair.first, pair.second, pair.difference);
    let by = format!("{:.2} ± {:.2}", d.mean.abs(), d.confidence.unwrap_or(f64::NAN));
    match d.verdict {
        Verdict::FirstBetter => format!("{a} better than {b} by {by}"),
        Verdict::SecondBetter => format!("{b} better than {a} by {by}"),
        Verdict::NoDifferenceShown => format!("{a} and {b}: no difference shown ({by})"),
        Verdict::TooShort => {
            format!("{a} and {b}: too short to tell ({:+.2} on the mean of {} frames)", d.mean, d.frames)
        }
    }
}
