//! Results as one page of HTML that needs nothing else.

use super::Comparison;
use super::chart::{self, Series};
use super::family::METRICS;
use super::output::{self, title};
use super::paired::Verdict;
use super::pairs::Pair;
use super::reference;
use super::rendition::{Decoder, Rendition, Scored};
use super::stills::{Pictures, pictures};
use anyhow::{Context, Result, bail};
use maud::{DOCTYPE, Markup, PreEscaped, html};
use plotters::style::RGBColor;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

/// Of a line over time.
const MOST_POINTS: usize = 2000;
const STYLE: &str = concat!(include_str!("../page.css"), include_str!("report.css"));

/// How every report begins.
const HEAD: &str = "<!DOCTYPE html>";

/// A file that can be written, which is known before the long work.
pub struct Page {
    file: File,
    path: PathBuf,
    /// Made by this run and still empty.
    empty: bool,
}

impl Drop for Page {
    fn drop(&mut self) {
        if self.empty {
            let _ = fs::remove_file(&self.path); // what failed before counts
        }
    }
}

impl Page {
    pub fn create(path: &Path) -> Result<Self> {
        let named = || format!("report {}", path.display());
        let mut head = Vec::new();
        if path.is_file() {
            File::open(path).and_then(|f| f.take(HEAD.len() as u64).read_to_end(&mut head)).with_context(named)?;
        }
        if !HEAD.as_bytes().starts_with(&head) {
            bail!("report {}: is there and is no report, and is not overwritten", path.display());
        }
        let empty = !path.exists();
        // An older report stays until there is a new one.
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(path).with_context(named)?;
        Ok(Self { file, path: path.to_owned(), empty })
    }

    pub fn write(mut self, comparison: &Comparison, decoder: Decoder, scale: Option<(u32, u32)>) -> Result<()> {
        let text = page(comparison, &pictures(comparison, decoder, scale)?)?.into_string();
        self.empty = false;
        let write = self.file.set_len(0).and_then(|()| self.file.write_all(text.as_bytes()));
        write.with_context(|| format!("report {}", self.path.display()))
    }
}

fn page(comparison: &Comparison, pictures: &Pictures) -> Result<Markup> {
    let heading = match comparison.renditions {
        [first, ..] if first.source.reference => format!("Encodings of {}", first.name()),
        all => all.iter().map(Rendition::name).collect::<Vec<_>>().join(", "),
    };
    Ok(html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { "Video quality: " (heading) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                main {
                    h1 { "Video quality: " (heading) }
                    p { "Scores without a reference, 0 (worst) to 100 (best), by qmambaiqa " (env!("CARGO_PKG_VERSION")) "." }
                    (renditions(comparison))
                    (verdicts(comparison))
                    (over_time(comparison)?)
                    (families(comparison)?)
                    (moments(comparison, pictures))
                }
            }
        }
    })
}

fn renditions(comparison: &Comparison) -> Markup {
    let full = comparison.renditions.iter().any(|r| r.full_reference.is_some());
    html! {
        h2 { "Videos" }
        ul { @for text in output::conditions(comparison) { li { (text) } } }
        div.wide { table {
            caption { "Mean, fifth percentile and minimum of the scores"
                @if full { "; means against the reference" } }
            thead { tr {
                th scope="col" { "Video" }
                @for name in ["kbit/s", "Frames", "Mean", "p5", "Min"] { th scope="col" { (name) } }
                @if full { @for name in ["VMAF", "VMAF NEG", "SSIM", "PSNR, dB"] { th scope="col" { (name) } } }
            } }
            tbody { @for r in comparison.renditions {
                @let s = r.statistics;
                tr {
                    th scope="row" { (title(r)) }
                    td { (format!("{:.0}", r.bitrate / 1000.0)) }
                    td { (s.frames) }
                    @for value in [s.mean, s.p5, s.min] { td { (format!("{value:.2}")) } }
                    @if let Some(m) = r.full_reference {
                        td { (format!("{:.2}", m.vmaf)) } td { (format!("{:.2}", m.vmaf_neg)) }
                        td { (format!("{:.4}", m.ssim)) } td { (format!("{:.2}", m.psnr)) }
                    } @else if full { td colspan="4" { "–" } }
                }
            } }
        } }
    }
}

fn verdicts(comparison: &Comparison) -> Markup {
    html! {
        h2 { "Which is better" }
        div.wide { table {
            caption { "Mean difference over time (B less A) with its 99 % confidence interval, widened by the difference that \
                       encodings of equal quality can have" }
            thead { tr {
                th scope="col" { "A" } th.name scope="col" { "B" }
                th scope="col" { "Difference" } th.name scope="col" { "Verdict" }
            } }
            tbody { @for pair in &comparison.pairs {
                @let d = pair.difference;
                tr {
                    td.name { (pair.first) }
                    td.name { (pair.second) }
                    td { (format!("{:+.2}", d.mean)) @if let Some(c) = d.confidence { (format!(" ± {c:.2}")) } }
                    td.name { @match d.verdict {
                        Verdict::FirstBetter => { "A is better" },
                        Verdict::SecondBetter => { "B is better" },
                        Verdict::NoDifferenceShown => { "no difference shown" },
                        Verdict::TooShort => { "too short to tell" },
                    } }
                }
            } }
        } }
        @if !comparison.above_reference.is_empty() {
            ul { @for above in &comparison.above_reference { li { (above) } } }
            p { (reference::MEANING) }
        }
    }
}

/// A figure with its legend.
fn figure(label: &str, svg: String, legend: &[(&str, RGBColor)]) -> Markup {
    html! {
        figure {
            div.wide role="img" aria-label=(label) { (PreEscaped(svg)) }
            figcaption {
                (label)
                ul.legend { @for (name, colour) in legend {
                    li { span.swatch style={ "background:" (chart::css(*colour)) } {} (name) }
                } }
            }
        }
    }
}

/// Times and scores; of many frames means of neighbours, as many as a screen shows.
fn over(frames: &[Scored]) -> Vec<(f64, f64)> {
    let mean = |some: &[Scored], of: fn(&Scored) -> f64| some.iter().map(of).sum::<f64>() / some.len() as f64;
    let chunks = frames.chunks(frames.len().div_ceil(MOST_POINTS).max(1));
    chunks.map(|some| (mean(some, |f| f.time), mean(some, |f| f.score))).collect()
}

fn over_time(comparison: &Comparison) -> Result<Markup> {
    let families = &comparison.families;
    let place = |r: &Rendition| families.iter().position(|f| Some(f.name) == r.source.group.as_deref());
    let mut series = Vec::new();
    for (i, r) in comparison.renditions.iter().enumerate() {
        let (colour, opacity) = match (r.source.reference, place(r)) {
            (true, _) => (chart::TEXT, 1.0),
            // Of one family the higher rates are the stronger lines.
            (false, Some(family)) => {
                let members = &families[family].members;
                let rank = members.iter().position(|m| m.name() == r.name()).unwrap_or(0);
                (chart::colour(family), 0.35 + 0.65 * (rank + 1) as f64 / members.len() as f64)
            }
            (false, None) => (chart::colour(i), 1.0),
        };
        series.push(Series { name: title(r), colour, opacity, points: over(&r.frames) });
    }
    let svg = chart::chart(["Time in seconds", "Score"], &series, false)?;
    let legend: Vec<(&str, RGBColor)> = if families.is_empty() {
        series.iter().map(|s| (s.name.as_str(), s.colour)).collect()
    } else {
        let reference = series.iter().filter(|s| s.colour == chart::TEXT).map(|s| (s.name.as_str(), s.colour));
        reference.chain(families.iter().enumerate().map(|(i, f)| (f.name, chart::colour(i)))).collect()
    };
    let label =
        if families.is_empty() { "Scores over time" } else { "Scores over time; stronger lines are of higher rates" };
    Ok(html! { h2 { "Scores over time" } (figure(label, svg, &legend)) })
}

fn families(comparison: &Comparison) -> Result<Markup> {
    let families = &comparison.families;
    let mut figures = Vec::new();
    for (metric, of) in METRICS {
        let series: Vec<Series> = families
            .iter()
            .enumerate()
            .map(|(i, family)| Series {
                name: family.name.to_owned(),
                colour: chart::colour(i),
                opacity: 1.0,
                points: family.points(of).iter().map(|p| (p.rate / 1000.0, p.score)).collect(),
            })
            .filter(|s| !s.points.is_empty())
            .collect();
        if !series.is_empty() {
            let svg = chart::chart(["Rate in kbit/s", metric], &series, true)?;
            let legend: Vec<_> = series.iter().map(|s| (s.name.as_str(), s.colour)).collect();
            figures.push(figure(&format!("Mean {metric} over rate"), svg, &legend));
        }
    }
    Ok(html! { @if !families.is_empty() {
        h2 { "Over rates" }
        @for figure in figures { (figure) }
        div.wide { table {
            caption { "Order: Kendall's tau of rates and scores, 1 where each higher rate scores higher" }
            thead { tr { @for name in ["Family", "Rates", "tau"] { th scope="col" { (name) } } } }
            tbody { @for family in families { tr {
                th scope="row" { (family.name) }
                td { (family.members.len()) }
                td { (family.tau.map_or("–".into(), |tau| format!("{tau:.2}"))) }
            } } }
        } }
        @if !comparison.savings.is_empty() { div.wide { table {
            caption { "Bjontegaard's deltas: rate at the same score, score at the same rate" }
            thead { tr {
                @for name in ["Family", "Against", "By"] { th.name scope="col" { (name) } }
                @for name in ["BD-rate", "BD-score", "Span in common"] { th scope="col" { (name) } }
            } }
            tbody { @for saving in &comparison.savings { tr {
                th scope="row" { (saving.test) }
                td.name { (saving.anchor) }
                td.name { (saving.metric) }
                @match saving.delta {
                    Some(d) => {
                        td { (format!("{:+.1} %", d.rate)) }
                        td { (format!("{:+.2}", d.score)) }
                        td { (format!("{:.0} %", 100.0 * d.overlap)) }
                    }
                    None => { td.name colspan="3" { (output::outcome(saving)) } }
                }
            } } }
        } } }
    } })
}

fn moments(comparison: &Comparison, pictures: &Pictures) -> Markup {
    let find = |name: &str| comparison.renditions.iter().find(|r| r.name() == name);
    let side = |name: &str, time: f64| -> Option<Markup> {
        let frame: &Scored = find(name)?.nearest(time)?;
        let picture = pictures.get(&(name, frame.time.to_bits()))?;
        let text = format!("{name} at {:.2} s, score {:.1}", frame.time, frame.score);
        Some(html! { figure { img src=(picture) alt={ "Frame of " (text) }; figcaption { (text) } } })
    };
    let shown = |pair: &&Pair| !pair.worst.is_empty();
    html! { @if comparison.pairs.iter().any(|pair| shown(&pair)) {
        h2 { "Where they differ most" }
        @for pair in comparison.pairs.iter().filter(shown) {
            section {
                h3 { (output::verdict(pair)) }
                @for moment in &pair.worst {
                    p { (format!("At {:.2} s: {:+.1} ({} against {})", moment.time, moment.difference, pair.second, pair.first)) }
                    div.pair { @for name in [pair.first, pair.second] { (side(name, moment.time).unwrap_or_default()) } }
                }
            }
        }
    } }
}
