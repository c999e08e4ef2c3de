//! One content of a dataset: its frames, their encodings and the metrics of those.

use super::Args;
use super::grain::Grain;
use super::metrics::{Metrics, Reference};
use crate::codec::{Codec, Frames};
use crate::ffmpeg::{Ffmpeg, RawVideo};
use crate::variation::{Kernel, Variation, Variations};
use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use image::{RgbImage, imageops};
use qmambaiqa::random::Random;
use rayon::prelude::*;
use std::path::Path;

/// Fastest pan, in pixels a frame.
const PAN: f64 = 4.0;
/// Bit of the random stream's number that separates the grain from the rest, so that all else is the same without it.
const GRAIN: u64 = 1 << 63;
/// Probabilities that the frames are denoised before encoding, without grain and with it.
const DENOISE: (f64, f64) = (0.125, 0.25);

/// One content.
pub struct DistortTask<'a> {
    pub args: &'a Args,
    pub codecs: &'a [Codec],
    pub ffmpeg: Option<&'a Ffmpeg>,
    /// Its name.
    pub content: &'a str,
    /// Number of its random stream.
    pub stream: u64,
}

/// One encoding.
struct Encoding {
    codec: Codec,
    index: usize,
    setting: f64,
    seed: u64,
}

impl DistortTask<'_> {
    /// Writes the images and returns their rows of the table.
    pub fn run(&self, source: &Path) -> Result<String> {
        let mut random = Random::new(self.args.seed, self.stream);
        let folder = tempfile::tempdir()?;
        let mut frames = self.cut(source, folder.path(), &mut random)?;
        let grain = self.grain(&mut frames);
        let Some(reference) = frames.last() else { bail!("{}: no frames", source.display()) };
        let name = format!("{}_reference.png", self.content);
        reference.save(self.args.out.join(&name))?;
        let file = |name: &str, frames| RawVideo::write(folder.path().join(name), frames);
        let (all, last) = (file("all.rgb", &frames)?, file("last.rgb", std::slice::from_ref(reference))?);
        let reference = Reference::new(reference, &last)?;
        let content = Frames { frames: &frames, all: &all, last: &last };
        let variations = self.variations(grain > 0.0);
        let rows = self.encodings(&mut random).into_par_iter().map(|encoding| {
            let variation = variations.draw(encoding.codec, self.args.size, &mut Random::new(encoding.seed, 1));
            self.encode(&encoding, &variation, &reference, content, grain)
        });
        let rows = rows.collect::<Result<Vec<_>>>().with_context(|| source.display().to_string())?;
        Ok(format!("{name},100,{},none,0,0,100,,,,,1,,,{grain},0\n", self.content) + &rows.concat())
    }

    /// Adds grain to half of the contents if asked to; returns its standard deviation, 0 without.
    fn grain(&self, frames: &mut [RgbImage]) -> f64 {
        let mut random = Random::new(self.args.seed, self.stream | GRAIN);
        if !self.args.grain || random.uniform() < 0.5 {
            return 0.0;
        }
        let grain = Grain::draw(&mut random);
        frames.iter_mut().for_each(|frame| grain.add(frame, &mut random));
        grain.deviation
    }

    fn variations(&self, grain: bool) -> Variations {
        let Args { rungs, kernels, vary_chroma, .. } = self.args;
        let all = kernels.is_empty() && rungs.is_some();
        let denoise = match (self.args.grain, grain) {
            (false, _) => 0.0,
            (true, false) => DENOISE.0,
            (true, true) => DENOISE.1,
        };
        let kernels = if all { Kernel::value_variants().to_vec() } else { kernels.clone() };
        Variations { factors: rungs.clone(), kernels, chroma: *vary_chroma, denoise }
    }

    /// All encoders and settings, or as many as are to be drawn.
    fn encodings(&self, random: &mut Random) -> Vec<Encoding> {
        let mut encodings = Vec::new();
        for &codec in self.codecs {
            for index in 0..self.args.settings {
                let within = if self.args.even { 0.5 } else { random.uniform() };
                let strength = (index as f64 + within) / self.args.settings as f64;
                let (setting, seed) = (codec.setting(strength), random.below(1 << 30) as u64);
                encodings.push(Encoding { codec, index, setting, seed });
            }
        }
        if let Some(draws) = self.args.draws {
            random.shuffle(&mut encodings);
            encodings.truncate(draws);
        }
        encodings
    }

    /// Writes the image of one encoding and returns its row of the table.
    fn encode(
        &self,
        &Encoding { codec, index, setting, seed }: &Encoding,
        variation: &Variation,
        reference: &Reference,
        content: Frames,
        grain: f64,
    ) -> Result<String> {
        let folder = tempfile::tempdir()?;
        let mut random = Random::new(seed, 0);
        let image = codec.apply(setting, variation, content, folder.path(), self.ffmpeg, &mut random)?;
        let distorted = RawVideo::write(folder.path().join("distorted.rgb"), std::slice::from_ref(&image))?;
        let metrics = Metrics::measure(reference, &image, &distorted, self.ffmpeg)?;
        let (content, name) = (self.content, codec.name());
        let file = format!("{content}_{name}_{index}.png");
        image.save(self.args.out.join(&file))?;
        let (label, disagreement) = metrics.label(self.args.label, codec.adds());
        let aim = |aim: Option<f64>| aim.map_or(String::new(), |aim| format!("{aim:.6}"));
        let vmaf = metrics
            .vmaf
            .map_or(",,,".into(), |v| format!("{:.3},{:.3},{:.5},{}", v.vmaf, v.neg, v.ms_ssim, aim(v.aim)));
        let factor = if codec == Codec::Scale { setting } else { variation.factor };
        let kernel = if factor > 1.0 { variation.kernel.name() } else { String::new() };
        let chroma = if codec.encoder().is_some() { variation.chroma.name() } else { "" };
        let varied = format!("{factor:.3},{kernel},{chroma},{grain},{}", variation.denoise);
        let s2 = metrics.ssimulacra2;
        Ok(format!("{file},{label:.3},{content},{name},{setting:.3},{disagreement:.3},{s2:.3},{vmaf},{varied}\n"))
    }

    /// The content's frames: one of a picture, some of a clip.
    fn cut(&self, source: &Path, folder: &Path, random: &mut Random) -> Result<Vec<RgbImage>> {
        let (size, wanted) = (self.args.size, self.args.frames);
        let sources = match image::ImageReader::open(source)?.with_guessed_format()?.decode() {
            Ok(picture) => vec![picture.into_rgb8()],
            Err(error) => {
                let Some(ffmpeg) = self.ffmpeg else {
                    bail!("{}: no readable picture ({error}), and clips need ffmpeg", source.display())
                };
                let seconds = ffmpeg.duration(source)?;
                let span = (seconds - wanted as f64 / 15.0).max(0.0);
                ffmpeg.frames(source, span * random.uniform(), wanted, folder)?
            }
        };
        let Some(first) = sources.first() else { bail!("{}: no frames", source.display()) };
        let (width, height) = first.dimensions();
        let most = f64::from(width.min(height)) / f64::from(size);
        let (least, limit) = self.args.reduce;
        if most < least {
            let least = (f64::from(size) * least).ceil() as u32;
            bail!(
                "{}: {width}x{height} is too small, cuts of {size} need {least} pixels in each side",
                source.display()
            );
        }
        let factor = least + (limit.min(most) - least) * random.uniform();
        let reduced = |side: u32| ((f64::from(side) / factor) as u32).max(size);
        let (width, height) = (reduced(width), reduced(height));
        let filter = imageops::FilterType::Lanczos3;
        let sources: Vec<_> = sources.iter().map(|frame| imageops::resize(frame, width, height, filter)).collect();
        let room = (width - size, height - size);
        let (left, top) = (random.below(room.0 as usize + 1) as u32, random.below(room.1 as usize + 1) as u32);
        let cut = |frame: &RgbImage, left, top| imageops::crop_imm(frame, left, top, size, size).to_image();
        if let [picture] = sources.as_slice()
            && room != (0, 0)
        {
            // A pan that ends at the place.
            let (across, down) = (PAN * (2.0 * random.uniform() - 1.0), PAN * (2.0 * random.uniform() - 1.0));
            let along = |end: u32, room: u32, speed: f64, back: usize| {
                (f64::from(end) - speed * back as f64).round().clamp(0.0, f64::from(room)) as u32
            };
            let frame = |back| cut(picture, along(left, room.0, across, back), along(top, room.1, down, back));
            return Ok((0..self.args.pan).rev().map(frame).collect());
        }
        Ok(sources.iter().map(|frame| cut(frame, left, top)).collect())
    }
}
