//! The size of each video, and the size at which all are compared.

use super::rendition::{Decoder, Source, check_video};
use crate::common;
use crate::source::Kind;
use crate::video;
use anyhow::{Context, Result, bail};
use gstreamer as gst;
use gstreamer::prelude::*;
use serde::Serialize;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

/// Tolerance in pixels for one side of a smaller encoding: encoders need whole, often even, sides.
const ROUNDING: f64 = 2.0;
/// Longest header line of Y4M.
const MAX_HEADER: u64 = 1024;
/// Longest side, in pixels.
const MAX_SIDE: u32 = 32768;

/// The frame size that a decoder outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Size {
    pub width: u32,
    pub height: u32,
    /// Width of a pixel over its height.
    pub pixel_aspect: (u32, u32),
}

impl std::fmt::Display for Size {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}x{}", self.width, self.height)?;
        match self.pixel_aspect {
            (1, 1) => Ok(()),
            (x, y) => write!(f, " with pixels of {x}:{y}"),
        }
    }
}

impl Size {
    /// Unknown or invalid pixel aspect ratios count as square.
    fn new(width: u32, height: u32, (x, y): (u32, u32)) -> Self {
        let square = x == y || x == 0 || y == 0;
        Self { width, height, pixel_aspect: if square { (1, 1) } else { (x, y) } }
    }

    /// Width and height in square pixels; the height stays.
    fn shown(self) -> (u32, u32) {
        let (x, y) = self.pixel_aspect;
        let width = (f64::from(self.width) * f64::from(x) / f64::from(y)).round();
        ((width as u32).max(1), self.height)
    }

    /// Whether a video of this size is changed by scaling it to `scale`.
    pub fn is_scaled(self, scale: Option<(u32, u32)>) -> bool {
        scale.is_some_and(|scale| (self.width, self.height) != scale || self.pixel_aspect != (1, 1))
    }
}

/// Returns the sizes of all sources, in their order. Decodes at most a few frames of each.
///
/// # Errors
/// A video that cannot be decoded.
pub fn sizes(sources: &[Source], decoder: Decoder) -> Result<Vec<Size>> {
    let bar = common::bar(sources.len());
    bar.set_message("sizes");
    let size = |source: &Source| {
        let path = source.path.as_path();
        let size = match (check_video(path)?, decoder) {
            (_, Decoder::Ffmpeg(ffmpeg)) => ffmpeg.decode(path, None, header).with_context(|| source.name.clone())?,
            (Kind::Y4m, _) => {
                let file = File::open(path).with_context(|| source.name.clone())?;
                header(file).with_context(|| source.name.clone())?
            }
            _ => gstreamer(path)?,
        };
        bar.inc(1);
        Ok(size)
    };
    let all = sources.iter().map(size).collect();
    bar.finish_and_clear();
    all
}

/// Returns the largest display size of all videos, to which full-screen playback scales the others; `None` if all have one size.
///
/// # Errors
/// The aspect ratios differ by more than rounding.
pub fn largest(sources: &[Source], sizes: &[Size]) -> Result<Option<(u32, u32)>> {
    if sizes.windows(2).all(|two| two[0] == two[1]) {
        return Ok(None);
    }
    let all = sources.iter().zip(sizes);
    let area = |size: &Size| u64::from(size.shown().0) * u64::from(size.shown().1);
    // The first of those that are as large.
    let Some((large, size)) = all.clone().rev().max_by_key(|(_, size)| area(size)) else { return Ok(None) };
    let (width, height) = size.shown();
    for (source, other) in all {
        let (w, h) = other.shown();
        let off = |side: u32, exact: f64| (f64::from(side) - exact).abs() > ROUNDING;
        let (wide, high) = (f64::from(width), f64::from(height));
        if off(w, wide * f64::from(h) / high) && off(h, high * f64::from(w) / wide) {
            bail!(
                "{}: the aspect ratio of {other} differs from {size}, the size of {}; crop one, or set one size for all with \
                 --scale WIDTHxHEIGHT",
                source.name,
                large.name
            );
        }
    }
    Ok(Some((width, height)))
}

/// Reads the size from the header of a Y4M stream. Scoring validates the rest of the header.
fn header(stream: impl Read) -> Result<Size> {
    let mut line = Vec::new();
    stream.take(MAX_HEADER).read_to_end(&mut line).context("Y4M header")?;
    if line.is_empty() {
        bail!("no frames: the stream is empty");
    }
    let line = String::from_utf8_lossy(line.split(|&b| b == b'\n').next().unwrap_or_default()).into_owned();
    let field = |key: char| line.split_whitespace().skip(1).find_map(|field| field.strip_prefix(key));
    let side = |key| field(key).and_then(|text| text.parse().ok()).filter(|side| (1..=MAX_SIDE).contains(side));
    let aspect = field('A').and_then(|text| text.split_once(':'));
    let aspect = aspect.and_then(|(x, y)| Some((x.parse().ok()?, y.parse().ok()?)));
    match (side('W'), side('H')) {
        (Some(width), Some(height)) => Ok(Size::new(width, height, aspect.unwrap_or((1, 1)))),
        _ => bail!("Y4M header: expected width and height, each 1 to {MAX_SIDE}"),
    }
}

/// Returns the size of the frames that GStreamer decodes from a file.
fn gstreamer(path: &Path) -> Result<Size> {
    gst::init().context("GStreamer does not start")?;
    let found = Arc::new(Mutex::new(None));
    let one = gst::ElementFactory::make("identity").property("eos-after", 1).build()?;
    let sink = gst::ElementFactory::make("fakesink").property("sync", false).build()?;
    let seen = found.clone();
    let input = one.static_pad("sink").context("identity has no sink")?;
    input.add_probe(gst::PadProbeType::EVENT_DOWNSTREAM, move |_, info| {
        if let Some(gst::EventView::Caps(caps)) = info.event().map(|e| e.view())
            && let Some(caps) = caps.caps().structure(0)
            && let (Ok(width), Ok(height)) = (caps.get::<i32>("width"), caps.get::<i32>("height"))
        {
            let aspect = caps.get::<gst::Fraction>("pixel-aspect-ratio").map_or((1, 1), |a| (a.numer(), a.denom()));
            let [width, height, x, y] = [width, height, aspect.0, aspect.1].map(|v| u32::try_from(v).unwrap_or(0));
            *seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(Size::new(width, height, (x, y)));
        }
        gst::PadProbeReturn::Ok
    });
    video::run(path, &[one, sink], &mut |_, _, _, _| Ok(()))?;
    let found = *found.lock().unwrap_or_else(PoisonError::into_inner);
    found.with_context(|| format!("{}: no frames", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(name: &str) -> Source {
        Source { name: name.into(), path: name.into(), reference: false, group: None }
    }

    fn common(sizes: &[(u32, u32, (u32, u32))]) -> Result<Option<(u32, u32)>, String> {
        let sources: Vec<Source> = (0..sizes.len()).map(|i| source(&format!("{i}.mp4"))).collect();
        let sizes: Vec<Size> = sizes.iter().map(|&(w, h, aspect)| Size::new(w, h, aspect)).collect();
        largest(&sources, &sizes).map_err(|e| e.to_string())
    }

    const SQUARE: (u32, u32) = (1, 1);

    #[test]
    fn largest_display_size_is_chosen() {
        assert_eq!(common(&[(640, 360, SQUARE), (640, 360, (0, 0))]), Ok(None));
        assert_eq!(common(&[(640, 360, SQUARE), (1280, 720, SQUARE), (426, 240, SQUARE)]), Ok(Some((1280, 720))));
        assert_eq!(common(&[(1920, 1080, SQUARE), (854, 480, SQUARE)]), Ok(Some((1920, 1080))));
        assert_eq!(common(&[(1920, 800, SQUARE), (640, 266, SQUARE)]), Ok(Some((1920, 800))));
        // Pixels that are not square, in one of them or in both.
        assert_eq!(common(&[(1440, 1080, (4, 3)), (1280, 720, SQUARE)]), Ok(Some((1920, 1080))));
        assert_eq!(common(&[(720, 576, (16, 15)), (768, 576, SQUARE)]), Ok(Some((768, 576))));
        assert_eq!(common(&[(720, 576, (16, 15)), (720, 576, (16, 15))]), Ok(None));
    }

    #[test]
    fn differing_aspect_ratios_return_an_error() {
        let said = common(&[(640, 480, SQUARE), (1280, 720, SQUARE)]).unwrap_err();
        assert!(
            said.starts_with("0.mp4: the aspect ratio of 640x480 differs from 1280x720, the size of 1.mp4; crop one"),
            "{said}"
        );
        let said = common(&[(720, 576, (16, 15)), (720, 576, SQUARE)]).unwrap_err();
        assert!(
            said.contains(
                "1.mp4: the aspect ratio of 720x576 differs from 720x576 with pixels of 16:15, the size of 0.mp4"
            ),
            "{said}"
        );
        assert!(common(&[(1920, 1080, SQUARE), (1920, 1072, SQUARE)]).is_err());
    }

    #[test]
    fn y4m_headers_are_parsed() {
        let read = |text: &str| header(text.as_bytes()).map_err(|e| e.to_string());
        assert_eq!(read("YUV4MPEG2 W720 H576 F25:1 A16:15 C420\nFRAME\n"), Ok(Size::new(720, 576, (16, 15))));
        assert_eq!(read("YUV4MPEG2 W4 H2 A0:0\n"), Ok(Size::new(4, 2, SQUARE)));
        assert!(read("YUV4MPEG2 W4\n").unwrap_err().contains("expected width and height"));
        assert!(read("").unwrap_err().contains("the stream is empty"));
        assert!(!Size::new(4, 2, SQUARE).is_scaled(Some((4, 2))) && !Size::new(4, 2, SQUARE).is_scaled(None));
        assert!(Size::new(4, 2, (2, 1)).is_scaled(Some((4, 2))) && Size::new(4, 2, SQUARE).is_scaled(Some((8, 4))));
    }
}
