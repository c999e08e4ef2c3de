//! `qmambaiqa compare`

mod bars;
mod bd;
mod chart;
mod check;
mod family;
mod ladder;
mod output;
mod paired;
mod pairs;
mod prompt;
mod reference;
mod rendition;
mod report;
mod size;
mod stills;

use crate::common::{self, Area, ScorerArgs};
use crate::ffmpeg::Ffmpeg;
use anyhow::{Context, Result, bail};
use clap::{Args as ClapArgs, ValueEnum};
use family::{Family, Group, Saving};
use ladder::{Encodings, Ladder};
use pairs::Pair;
use qmambaiqa::frame::Region;
use reference::Above;
use rendition::{Decoder, Rendition, Scoring, Source};
use report::Page;
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Tell which of several encodings of one content is better, and whether the difference is real. No reference is needed.
///
/// All are scored at the same times and places. The differences between two at each moment are paired, so that what both have
/// in common does not count, and a block bootstrap over time gives their mean a 99 % confidence interval. The interval is
/// widened by the score difference that encodings of equal quality can have. A difference is real if the interval excludes
/// zero.
///
/// The style prompt `compression-pairs`, which orders encodings of one content, is used unless --style-prompt names another.
/// Videos of several sizes are scaled to the size of the largest, as in full-screen playback.
///
/// With `--group`, and with `--ladder`, which does the encoding, families of encodings are compared over their rates, too.
#[derive(ClapArgs)]
#[command(mut_arg("style_prompt", |arg| arg.default_value(prompt::AUTO).help(prompt::HELP)))]
pub struct Args {
    /// Videos of one content; with --ladder the source alone
    #[arg(required = true)]
    paths: Vec<PathBuf>,
    /// The video that the others were made of: is scored too, and VMAF, SSIM and PSNR against it stand beside the scores
    #[arg(long)]
    reference: Option<PathBuf>,
    /// Encode the source, which is the reference then: `CODEC crf FROM..TO [step N]`, CODEC one of x264, x265, svt-av1, vp9.
    /// May be given several times
    #[arg(long, conflicts_with_all = ["reference", "group"])]
    ladder: Vec<Ladder>,
    /// Folder that keeps the ladder's encodings, and has them already where it was used before
    #[arg(long, requires = "ladder")]
    keep: Option<PathBuf>,
    /// Family of encodings at several rates, `PATTERN` or `NAME=PATTERN` of file names, such as 'AV1=clip-av1-*'. May be given
    /// several times; Bjontegaard's deltas are against the first
    #[arg(long)]
    group: Vec<Group>,
    /// The ffmpeg to use
    #[arg(long, default_value = "ffmpeg")]
    ffmpeg: PathBuf,
    /// What decodes the videos that are scored [default: gstreamer; with --ladder ffmpeg]
    #[arg(long, value_enum)]
    decoder: Option<DecoderName>,
    #[command(flatten)]
    scorer: ScorerArgs,
    /// Part of each frame that is compared, the same in all, as X,Y,WIDTH,HEIGHT in pixels after scaling (default: all of it)
    #[arg(long)]
    region: Option<Region>,
    /// Leave the black bars out that all have in all frames; everything is decoded twice
    #[arg(long)]
    skip_black_bars: bool,
    /// Seconds between scored frames (0: every frame)
    #[arg(long, default_value_t = 0.0)]
    interval: f64,
    /// Scale all to WIDTHxHEIGHT first, as a player would on a screen of that size [default: the size of the
    /// largest if sizes differ]
    #[arg(long, value_parser = parse_size)]
    scale: Option<(u32, u32)>,
    /// Compare what all have where their lengths differ
    #[arg(long)]
    shortest: bool,
    /// Worst moments to list for each pair
    #[arg(long, default_value_t = 3)]
    worst: usize,
    /// HTML file to write: tables, curves, and the worst moments in pictures, in one page that needs nothing else
    #[arg(long)]
    report: Option<PathBuf>,
    /// Form of the output
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum DecoderName {
    Gstreamer,
    Ffmpeg,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people
    Table,
    /// For programs
    Json,
    /// One line for each scored frame
    Csv,
}

fn parse_size(text: &str) -> Result<(u32, u32), String> {
    let sides = text.split_once('x').and_then(|(w, h)| Some((w.parse().ok()?, h.parse().ok()?)));
    sides
        .filter(|&(w, h)| (1..=16384).contains(&w) && (1..=16384).contains(&h))
        .ok_or_else(|| format!("`{text}`: expected WIDTHxHEIGHT, each 1 to 16384"))
}

/// All that is found.
#[derive(Serialize)]
struct Comparison<'a> {
    model: &'a str,
    style_prompt: &'a str,
    /// Common size of all videos after scaling, as `WIDTHxHEIGHT`; `None` without scaling.
    scale: Option<String>,
    /// Part of each frame that is compared, as `x,y,width,height`: none for all.
    region: Option<String>,
    renditions: &'a [Rendition],
    pairs: Vec<Pair<'a>>,
    above_reference: Vec<Above<'a>>,
    families: Vec<Family<'a>>,
    savings: Vec<Saving<'a>>,
}

pub fn run(mut args: Args) -> Result<bool> {
    let Ok(interval) = Duration::try_from_secs_f64(args.interval) else {
        bail!("interval {} is not a number of seconds from 0 on", args.interval);
    };
    let page = args.report.as_deref().map(Page::create).transpose()?;
    let wanted = args.reference.is_some() || !args.ladder.is_empty() || args.decoder == Some(DecoderName::Ffmpeg);
    let ffmpeg = if wanted { Ffmpeg::find(&args.ffmpeg) } else { None };
    let scorer = prompt::open(&mut args.scorer)?;
    let args = &args;
    let encodings = sources(args, ffmpeg.as_ref())?;
    let decoder = match (args.decoder, &ffmpeg) {
        (Some(DecoderName::Gstreamer), _) => Decoder::Gstreamer,
        (None, _) if args.ladder.is_empty() => Decoder::Gstreamer,
        (_, Some(ffmpeg)) => Decoder::Ffmpeg(ffmpeg),
        (_, None) => bail!("{} cannot be run; --ffmpeg names another", args.ffmpeg.display()),
    };
    let area = Area { region: args.region, skip_black_bars: false };
    let sizes = size::sizes(&encodings.sources, decoder)?;
    let scale = match args.scale {
        None => size::largest(&encodings.sources, &sizes)?,
        set => set,
    };
    let mut scoring = Scoring { scorer: &scorer, settings: &args.scorer, area, interval, scale, decoder };
    if args.skip_black_bars {
        scoring.area.region = bars::within(&scoring, &encodings.sources)?.or(args.region);
    }
    let region = scoring.area.region;
    let mut renditions = scoring.all(encodings.sources.iter().cloned().zip(sizes).collect())?;
    check::check(&renditions, args.shortest)?;
    let good = measure(&mut renditions, args, scale, region, ffmpeg.as_ref());

    let families = family::families(&renditions, &args.group);
    let mut pairs = Vec::new();
    for (first, second) in pairs::chosen(&renditions, &families, !args.ladder.is_empty()) {
        pairs.push(Pair::new(first, second, args.scorer.seed, args.worst)?);
    }
    let comparison = Comparison {
        model: scorer.model_name(),
        style_prompt: scorer.style_prompt_name(),
        scale: scale.map(|(width, height)| format!("{width}x{height}")),
        region: region.map(|r| r.to_string()),
        renditions: &renditions,
        pairs,
        above_reference: reference::above(&renditions, args.scorer.seed),
        savings: family::savings(&families),
        families,
    };
    let printed = match args.format {
        Format::Table => output::table(&comparison),
        Format::Json => output::json(&comparison),
        Format::Csv => output::csv(&comparison),
    };
    if let Some(page) = page {
        page.write(&comparison, decoder, scale)?; // whoever has seen enough of standard output still gets the page
    }
    printed.map(|()| good)
}

/// What is compared, the reference first. A ladder is encoded.
fn sources(args: &Args, ffmpeg: Option<&Ffmpeg>) -> Result<Encodings> {
    let source = |path: &Path, reference| Source {
        name: path.display().to_string(),
        path: path.to_owned(),
        reference,
        group: None,
    };
    if let Some(path) = args.paths.iter().chain(&args.reference).find(|path| !path.is_file()) {
        std::fs::metadata(path).with_context(|| path.display().to_string())?;
        bail!("{}: is no file", path.display());
    }
    if !args.ladder.is_empty() {
        let [path] = args.paths.as_slice() else {
            bail!("--ladder encodes one source; {} are given", args.paths.len())
        };
        ladder::check(&args.ladder, ffmpeg, &args.ffmpeg)?;
        rendition::check_video(path)?;
        let Some(ffmpeg) = ffmpeg else { bail!("{} cannot be run", args.ffmpeg.display()) };
        let mut encodings = ladder::encode(path, &args.ladder, ffmpeg, args.keep.as_deref())?;
        encodings.sources.insert(0, source(path, true));
        return Ok(encodings);
    }
    let others = args.paths.iter().filter(|path| args.reference.as_ref() != Some(path));
    let mut all: Vec<Source> = args.reference.iter().map(|path| source(path, true)).collect();
    all.extend(others.map(|path| source(path, false)));
    if let [only] = all.as_slice() {
        bail!("{} alone is given; two videos at least are compared", only.name);
    }
    family::assign(&mut all, &args.group)?;
    Ok(all.into())
}

/// VMAF, SSIM and PSNR against the reference, where there are one and an ffmpeg with libvmaf. Gives false where that fails: it
/// is said, and the scores are worth having all the same.
fn measure(
    renditions: &mut [Rendition],
    args: &Args,
    scale: Option<(u32, u32)>,
    region: Option<Region>,
    ffmpeg: Option<&Ffmpeg>,
) -> bool {
    let Some((reference, others)) = renditions.split_first_mut().filter(|(first, _)| first.source.reference) else {
        return true;
    };
    let Some(ffmpeg) = ffmpeg.filter(|f| f.has_vmaf()) else {
        let lack = if ffmpeg.is_some() { "has no libvmaf" } else { "cannot be run" };
        let path = args.ffmpeg.display();
        eprintln!("qmambaiqa: warning: without VMAF, SSIM and PSNR: {path} {lack}; --ffmpeg names another");
        return true;
    };
    let bar = common::bar(others.len());
    bar.set_message("VMAF");
    let mut good = true;
    for other in others {
        match ffmpeg.full_reference(&reference.source.path, &other.source.path, scale, region) {
            Ok(found) => other.full_reference = Some(found),
            Err(error) => {
                bar.suspend(|| common::complain(&error.context(format!("VMAF of {}", other.name()))));
                good = false;
            }
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    good
}
