//! A source encoded over a range of settings.

use super::rendition::Source;
use crate::codec::Codec;
use crate::common;
use crate::ffmpeg::Ffmpeg;
use anyhow::{Context, Result};
use clap::ValueEnum;
use rayon::prelude::*;
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use tempfile::TempDir;

/// From one factor to the next, where it is not said.
const STEP: u32 = 4;

/// An encoder and its constant rate factors, such as `x264 crf 20..40 step 5`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ladder {
    codec: Codec,
    factors: Vec<u32>,
}

impl FromStr for Ladder {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let (codec, range, step) = match *words.as_slice() {
            [codec, "crf", range] => (codec, range, Some(STEP)),
            [codec, "crf", range, "step", step] => (codec, range, step.parse().ok()),
            _ => return Err("expected CODEC crf FROM..TO [step N]".into()),
        };
        let video = |codec: &Codec| codec.factors().is_some();
        let Some(codec) = Codec::from_str(codec, true).ok().filter(video) else {
            let known: Vec<String> = Codec::value_variants().iter().filter(|c| video(c)).map(|c| c.name()).collect();
            return Err(format!("`{codec}` is no known video codec; known are {}", known.join(", ")));
        };
        let step = step.filter(|step| *step > 0).ok_or("the step is no number from 1 on")?;
        let known = codec.factors().unwrap_or(0..=0);
        let ends = range.split_once("..").and_then(|(from, to)| Some((from.parse().ok()?, to.parse().ok()?)));
        match ends {
            Some((from, to)) if from <= to && known.contains(&from) && known.contains(&to) => {
                Ok(Self { codec, factors: (from..=to).step_by(step as usize).collect() })
            }
            _ => {
                Err(format!("`{range}`: expected FROM..TO, {} to {} for {}", known.start(), known.end(), codec.name()))
            }
        }
    }
}

/// What is compared; a ladder's encodings are gone with this where they are not kept.
pub struct Encodings {
    pub sources: Vec<Source>,
    _folder: Option<TempDir>,
}

impl From<Vec<Source>> for Encodings {
    fn from(sources: Vec<Source>) -> Self {
        Self { sources, _folder: None }
    }
}

/// Whether ffmpeg has all encoders.
pub fn check(ladders: &[Ladder], ffmpeg: Option<&Ffmpeg>, path: &Path) -> Result<()> {
    ladders.iter().try_for_each(|ladder| ladder.codec.check(ffmpeg, path))
}

/// Encodes `source` at each setting, into `keep` or a temporary folder. What `keep` has, and is newer than the source, stays.
pub fn encode(source: &Path, ladders: &[Ladder], ffmpeg: &Ffmpeg, keep: Option<&Path>) -> Result<Encodings> {
    let temporary = if keep.is_none() { Some(tempfile::tempdir()?) } else { None };
    let folder = temporary.as_ref().map_or(keep.unwrap_or(Path::new("")), |t| t.path());
    fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    let mut rungs: Vec<(Codec, u32)> = Vec::new();
    for ladder in ladders {
        rungs.extend(ladder.factors.iter().map(|&factor| (ladder.codec, factor)));
    }
    let place = |codec| ladders.iter().position(|ladder| ladder.codec == codec);
    rungs.sort_by_key(|&(codec, factor)| (place(codec), factor)); // one codec's may come in several ranges
    rungs.dedup();
    let bar = common::bar(rungs.len());
    bar.set_message("encoding");
    let sources = rungs.into_par_iter().map(|(codec, factor)| {
        let path = rung(source, codec, factor, ffmpeg, folder)?;
        bar.inc(1);
        let name = format!("{} crf {factor}", codec.name());
        Ok(Source { name, path, reference: false, group: Some(codec.name()) })
    });
    let sources = sources.collect::<Result<_>>()?;
    bar.finish_and_clear();
    Ok(Encodings { sources, _folder: temporary })
}

fn rung(source: &Path, codec: Codec, factor: u32, ffmpeg: &Ffmpeg, folder: &Path) -> Result<PathBuf> {
    let stem = source.file_stem().unwrap_or_default().to_string_lossy();
    let stem = format!("{stem}-{}-crf{factor}", codec.name());
    let (path, part) = (folder.join(format!("{stem}.mkv")), folder.join(format!("{stem}.part.mkv")));
    let changed = |path: &Path| path.metadata().and_then(|m| m.modified()).ok();
    if changed(&path).is_none_or(|made| changed(source).is_none_or(|changed| changed > made)) {
        let factor = factor.to_string();
        ffmpeg.transcode(source, &codec.video(&factor), &part).with_context(|| codec.name())?;
        fs::rename(&part, &path).with_context(|| path.display().to_string())?;
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_and_wrong_ones_are_named() {
        let factors = |text: &str| text.parse::<Ladder>().unwrap().factors;
        assert_eq!(factors("x264 crf 20..40"), [20, 24, 28, 32, 36, 40]);
        assert_eq!(factors("svt-av1 crf 25..55 step 6"), [25, 31, 37, 43, 49, 55]);
        assert_eq!(factors("vp9 crf 30..30"), [30]);
        for (text, expected) in [
            ("", "expected CODEC crf FROM..TO [step N]"),
            ("x264 20..40", "expected CODEC crf"),
            ("x264 crf 20..40 step", "expected CODEC crf"),
            ("theora crf 20..40", "`theora` is no known video codec; known are x264, x265, svt-av1, vp9"),
            ("jpeg crf 20..40", "`jpeg` is no known video codec"),
            ("x264 crf 40..20", "`40..20`: expected FROM..TO, 0 to 51 for x264"),
            ("x264 crf 20..60", "0 to 51"),
            ("x264 crf 20-40", "expected FROM..TO"),
            ("x264 crf -1..40", "expected FROM..TO"),
            ("x264 crf 20..40 step 0", "the step is no number from 1 on"),
            ("x264 crf 20..40 step five", "the step is no number"),
        ] {
            let said = text.parse::<Ladder>().unwrap_err();
            assert!(said.contains(expected), "{text}: {said}");
        }
    }
}
