//! What pictures are put through.

use crate::ffmpeg::{Ffmpeg, RawVideo};
use crate::variation::Variation;
use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use gstreamer as gst;
use gstreamer::prelude::*;
use image::{RgbImage, imageops};
use qmambaiqa::random::Random;
use std::path::Path;

/// One way to lose quality.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Codec {
    /// libjpeg through GStreamer's jpegenc, 4:2:0
    Jpeg,
    /// libwebp
    Webp,
    /// H.264
    X264,
    /// H.265
    X265,
    /// AV1
    SvtAv1,
    /// VP9
    Vp9,
    /// Down and up again
    Scale,
    /// Gaussian blur, as contrast
    Blur,
    /// Gaussian noise, as contrast
    Noise,
    /// H.264 with the preset ultrafast
    X264Ultrafast,
    /// H.264 without the deblocking filter
    X264NoDeblock,
    /// H.265 with the preset ultrafast
    X265Ultrafast,
    /// AV1 with the real-time preset 12
    SvtAv1Fast,
    /// VP9 in real-time mode at speed 8
    Vp9Realtime,
}

/// The frames of a content.
#[derive(Clone, Copy)]
pub struct Frames<'a> {
    pub frames: &'a [RgbImage],
    /// All of them, in a file.
    pub all: &'a RawVideo,
    /// The last one, in a file.
    pub last: &'a RawVideo,
}

impl Codec {
    pub fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |v| v.get_name().to_owned())
    }

    /// The codec of which this is a variant for live video; others are their own.
    fn family(self) -> Self {
        match self {
            Self::X264Ultrafast | Self::X264NoDeblock => Self::X264,
            Self::X265Ultrafast => Self::X265,
            Self::SvtAv1Fast => Self::SvtAv1,
            Self::Vp9Realtime => Self::Vp9,
            other => other,
        }
    }

    /// Whether it must be named to be used.
    pub fn is_optional(self) -> bool {
        self.family() != self
    }

    /// Whether it adds what was not there: blocks, ringing, noise. The others only take away.
    pub fn adds(self) -> bool {
        !matches!(self, Self::Scale | Self::Blur)
    }

    /// The ffmpeg encoder that does it.
    pub fn encoder(self) -> Option<&'static str> {
        match self.family() {
            Self::Webp => Some("libwebp"),
            Self::X264 => Some("libx264"),
            Self::X265 => Some("libx265"),
            Self::SvtAv1 => Some("libsvtav1"),
            Self::Vp9 => Some("libvpx-vp9"),
            _ => None,
        }
    }

    /// Whether `ffmpeg`, looked for at `path`, has what this needs.
    pub fn check(self, ffmpeg: Option<&Ffmpeg>, path: &Path) -> Result<()> {
        match self.encoder() {
            Some(encoder) if !ffmpeg.is_some_and(|f| f.has(encoder)) => bail!(
                "{} needs an ffmpeg with {encoder}, and {} {}",
                self.name(),
                path.display(),
                if ffmpeg.is_some() { "has none" } else { "cannot be run" }
            ),
            _ => Ok(()),
        }
    }

    /// Its setting from best to worst.
    fn range(self) -> (f64, f64) {
        match self.family() {
            Self::Jpeg | Self::Webp => (97.0, 3.0),
            Self::X264 | Self::X265 => (12.0, 50.0),
            Self::Scale => (1.2, 6.0),
            Self::Blur => (0.4, 5.0),
            Self::Noise => (2.0, 60.0),
            _ => (10.0, 63.0),
        }
    }

    /// The setting at `strength` from 0, best, to 1, worst; whole numbers where the encoder takes those.
    pub fn setting(self, strength: f64) -> f64 {
        let (best, worst) = self.range();
        match self {
            // In these, ratios are what is seen.
            Self::Scale | Self::Blur | Self::Noise => best * (worst / best).powf(strength),
            _ => (best + (worst - best) * strength).round(),
        }
    }

    /// The constant rate factors that a video encoder takes; none of what is no video encoder.
    pub fn factors(self) -> Option<std::ops::RangeInclusive<u32>> {
        match self.family() {
            Self::X264 | Self::X265 => Some(0..=51),
            Self::SvtAv1 => Some(1..=63),
            Self::Vp9 => Some(0..=63),
            _ => None,
        }
    }

    /// ffmpeg's arguments for a video encoder at a constant rate factor, on one thread, so that it makes the same each time.
    pub fn video(self, factor: &str) -> Vec<&str> {
        let own: &[&str] = match self {
            Self::X264 => &["-preset", "medium"],
            Self::X264Ultrafast => &["-preset", "ultrafast"],
            Self::X264NoDeblock => &["-preset", "medium", "-x264-params", "no-deblock=1"],
            Self::X265 => &["-preset", "fast", "-x265-params", "log-level=error:pools=1:frame-threads=1"],
            Self::X265Ultrafast => &["-preset", "ultrafast", "-x265-params", "log-level=error:pools=1:frame-threads=1"],
            Self::SvtAv1 => &["-preset", "8", "-svtav1-params", "lp=1"],
            // Of the low-delay structures only the real-time one has this preset.
            Self::SvtAv1Fast => &["-preset", "12", "-svtav1-params", "lp=1:pred-struct=1:rtc=1"],
            Self::Vp9 => &["-cpu-used", "3", "-b:v", "0"],
            Self::Vp9Realtime => &["-deadline", "realtime", "-cpu-used", "8", "-b:v", "0"],
            Self::Jpeg | Self::Webp | Self::Scale | Self::Blur | Self::Noise => &[],
        };
        let encoder = self.encoder().unwrap_or_default();
        [&["-c:v", encoder, "-pix_fmt", "yuv420p", "-crf", factor], own].concat()
    }

    /// The last frame of `content` at this setting; files are written to `folder`.
    pub fn apply(
        self,
        setting: f64,
        variation: &Variation,
        content: Frames,
        folder: &Path,
        ffmpeg: Option<&Ffmpeg>,
        random: &mut Random,
    ) -> Result<RgbImage> {
        let Some(last) = content.frames.last() else { bail!("no frame to encode") };
        let (width, height) = last.dimensions();
        let setting_text = format!("{setting}");
        let value = setting_text.as_str();
        let (args, extension) = match self {
            Self::Jpeg => return jpeg(last, setting as i32, folder),
            Self::Scale => {
                let small = |side: u32| ((f64::from(side) / setting).round() as u32).max(1);
                let reduced = imageops::resize(last, small(width), small(height), imageops::FilterType::Triangle);
                return Ok(variation.kernel.resize(&reduced, width, height));
            }
            Self::Blur => return Ok(imageops::blur(last, setting as f32)),
            Self::Noise => {
                let mut noisy = last.clone();
                for v in noisy.iter_mut() {
                    *v = (f64::from(*v) + setting * random.normal()).round().clamp(0.0, 255.0) as u8;
                }
                return Ok(noisy);
            }
            Self::Webp => (vec!["-c:v", "libwebp", "-quality", value], "webp"),
            _ => (self.video(value), "mkv"),
        };
        let Some(ffmpeg) = ffmpeg else { bail!("{} needs ffmpeg", self.name()) };
        // An image format gets the frame that is kept, a video encoder those before it, too.
        let input = if self == Self::Webp { content.last } else { content.all };
        let output = folder.join(format!("encoded.{extension}"));
        let before = variation.filter(width, height);
        let coded = variation.coded(width, height);
        let decoded = ffmpeg
            .encode(input, before.as_deref(), &args, &output)
            .and_then(|()| ffmpeg.last_frame(&output, variation.chroma.filter().as_deref(), coded))
            .with_context(|| format!("{} at {value}", self.name()))?;
        if coded == (width, height) {
            return Ok(decoded);
        }
        Ok(variation.kernel.resize(&decoded, width, height))
    }
}

/// Through libjpeg by GStreamer.
fn jpeg(picture: &RgbImage, quality: i32, folder: &Path) -> Result<RgbImage> {
    let (png, jpg) = (folder.join("jpeg.png"), folder.join("jpeg.jpg"));
    picture.save(&png)?;
    // JPEG's YCbCr is BT.601 in full range, which jpegenc does not ask for by itself.
    let pipeline = "filesrc name=in ! pngdec ! videoconvert ! video/x-raw,format=I420,colorimetry=(string)1:4:7:1 ! \
                    jpegenc name=jpeg ! filesink name=out";
    let pipeline = gst::parse::launch(pipeline).context("GStreamer's plugins-good are needed for JPEG")?;
    let Some(bin) = pipeline.downcast_ref::<gst::Bin>() else { bail!("GStreamer built no pipeline") };
    let set = |name: &str, property: &str, value: glib::Value| -> Result<()> {
        bin.by_name(name)
            .with_context(|| format!("GStreamer built no {name}"))?
            .set_property_from_value(property, &value);
        Ok(())
    };
    set("in", "location", png.to_str().to_value())?;
    set("out", "location", jpg.to_str().to_value())?;
    set("jpeg", "quality", quality.to_value())?;
    pipeline.set_state(gst::State::Playing)?;
    let bus = pipeline.bus().context("the pipeline has no bus")?;
    let end = bus.timed_pop_filtered(None, &[gst::MessageType::Eos, gst::MessageType::Error]);
    pipeline.set_state(gst::State::Null)?;
    if let Some(gst::MessageView::Error(e)) = end.as_ref().map(|m| m.view()) {
        bail!("GStreamer's jpegenc: {}", e.error());
    }
    Ok(image::open(&jpg)?.into_rgb8())
}
