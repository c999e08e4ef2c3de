//! Pictures and Y4M streams.

use crate::common::{Area, View};
use anyhow::{Context, Result, bail};
use image::ImageFormat;
use qmambaiqa::crops::CropPlan;
use qmambaiqa::frame::{ChromaSite, Colour, Frame, Matrix, PixelFormat, Plane, Range};
use qmambaiqa::{Score, Scorer};
use std::cell::Cell;
use std::fs::{self, File};
use std::io::{BufReader, Cursor, Read};
use std::ops::ControlFlow;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;
use y4m::Colorspace;

const Y4M: &[u8] = b"YUV4MPEG2";
/// Longest header line.
const MAX_HEADER: usize = 1024;
/// Longest side of a picture, in pixels.
const MAX_SIDE: u64 = 32768;

/// What a file is, told by its content.
#[derive(Debug, PartialEq, Eq)]
pub enum Kind {
    Picture,
    Y4m,
    Other,
}

/// Tells what a file is by its first bytes.
pub fn kind(path: &Path) -> Result<Kind> {
    let about = fs::metadata(path).with_context(|| path.display().to_string())?;
    if about.is_dir() {
        bail!("{}: is a directory, expected a picture or a video", path.display());
    }
    let mut head = Vec::new();
    let file = File::open(path).with_context(|| path.display().to_string())?;
    file.take(64).read_to_end(&mut head).with_context(|| path.display().to_string())?;
    if head.is_empty() {
        bail!("{}: is empty", path.display());
    }
    if head.starts_with(Y4M) {
        return Ok(Kind::Y4m);
    }
    match image::guess_format(&head) {
        Ok(ImageFormat::Png | ImageFormat::Jpeg | ImageFormat::WebP | ImageFormat::Bmp) => Ok(Kind::Picture),
        _ => Ok(Kind::Other),
    }
}

/// Counts what is read: shows whether a stream ends between two frames.
struct Counting<R> {
    inner: R,
    count: Rc<Cell<u64>>,
}

impl<R: Read> Read for Counting<R> {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        let n = self.inner.read(out)?;
        self.count.set(self.count.get() + n as u64);
        Ok(n)
    }
}

/// How a stream's rows belong to fields.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Scan {
    Progressive,
    Interlaced,
    /// Each frame says it.
    Mixed,
}

/// What a stream's header says.
struct Header {
    format: PixelFormat,
    colour: Colour,
    scan: Scan,
    /// Width of a pixel over its height.
    pixel_aspect: (u32, u32),
}

/// What is called with each scored frame: its number, its time in seconds, itself, what of it is looked at, its score.
pub type Each<'a> = &'a mut dyn FnMut(u64, Option<f64>, &Frame, &Frame, Score) -> Result<()>;

/// Scores the frames of a Y4M stream that are at least `interval` apart.
pub fn score_y4m(
    reader: impl Read,
    scorer: &Scorer,
    plan: &CropPlan,
    area: Area,
    interval: Duration,
    each: Each,
) -> Result<()> {
    let mut view = View::new(area);
    read_y4m(reader, interval, &mut |index, time, frame| {
        let part = view.of(frame).with_context(|| format!("frame {index}"))?;
        each(index, time, frame, &part, scorer.score(&part, plan, index)?)?;
        Ok(ControlFlow::Continue(()))
    })
}

/// What is called with each frame that is read: its number, its time in seconds, itself. It may break off.
type Look<'a> = &'a mut dyn FnMut(u64, Option<f64>, &Frame) -> Result<ControlFlow<()>>;

/// Reads the frames of a Y4M stream that are at least `interval` apart.
pub fn read_y4m(reader: impl Read, interval: Duration, each: Look) -> Result<()> {
    let mut reader = BufReader::with_capacity(1 << 16, reader);
    let line = header_line(&mut reader)?;
    let header = header(&line)?;
    let count = Rc::new(Cell::new(0));
    let reader = Counting { inner: Cursor::new(line).chain(reader), count: count.clone() };
    let mut decoder = y4m::decode(reader).map_err(|e| anyhow::anyhow!("Y4M header: {e}"))?;
    let (width, height, bytes) = (decoder.get_width(), decoder.get_height(), decoder.get_bytes_per_sample());
    let rate = decoder.get_framerate();
    let chroma = match decoder.get_colorspace() {
        Colorspace::C444 | Colorspace::C444p10 | Colorspace::C444p12 => width,
        _ => width.div_ceil(2),
    };
    let mut last: Option<f64> = None;
    for index in 0u64.. {
        let before = count.get();
        let frame = match decoder.read_frame() {
            Ok(frame) => frame,
            Err(y4m::Error::EOF) if count.get() == before => break,
            Err(y4m::Error::EOF) => bail!("the Y4M stream ends within frame {index}"),
            Err(e) => bail!("frame {index} of the Y4M stream: {e}"),
        };
        let time = (rate.num > 0 && rate.den > 0).then(|| index as f64 * rate.den as f64 / rate.num as f64);
        if let (Some(time), Some(last)) = (time, last)
            && time - last < interval.as_secs_f64() - 1e-9
        {
            continue;
        }
        last = time;
        let interlaced = match header.scan {
            Scan::Progressive => false,
            Scan::Interlaced => true,
            Scan::Mixed => is_interlaced(frame.get_raw_params().unwrap_or_default()),
        };
        let planes = [
            Plane::new(frame.get_y_plane(), width * bytes),
            Plane::new(frame.get_u_plane(), chroma * bytes),
            Plane::new(frame.get_v_plane(), chroma * bytes),
        ];
        let frame = Frame::new(header.format, width, height, &planes[..header.format.planes()], header.colour)?;
        let (wide, high) = header.pixel_aspect;
        if each(index, time, &frame.interlaced(interlaced).with_pixel_aspect(wide, high)?)?.is_break() {
            break;
        }
    }
    Ok(())
}

/// The stream's first line with its end.
fn header_line(reader: &mut impl Read) -> Result<Vec<u8>> {
    let mut line = Vec::new();
    let mut byte = [0];
    // Byte by byte: what follows the line belongs to the decoder.
    while line.len() < MAX_HEADER && line.last() != Some(&b'\n') {
        match reader.read(&mut byte) {
            Ok(0) => break,
            Ok(_) => line.extend(byte),
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => (),
            Err(e) => return Err(e).context("Y4M header"),
        }
    }
    if line.is_empty() {
        bail!("no frames: the stream is empty");
    }
    if !line.starts_with(Y4M) {
        bail!("not a Y4M stream: it does not start with YUV4MPEG2");
    }
    if line.last() != Some(&b'\n') {
        bail!("Y4M header: its line does not end within {MAX_HEADER} bytes");
    }
    Ok(line)
}

/// Reads the header, before the decoder does: sizes that it could not multiply are refused.
fn header(line: &[u8]) -> Result<Header> {
    let line = String::from_utf8_lossy(line);
    let (mut width, mut height) = (0, 0);
    let (mut space, mut range, mut scan) = ("420", Range::Limited, Scan::Progressive);
    let mut pixel_aspect = (1, 1);
    for field in line.split_whitespace().skip(1) {
        let side = |text: &str| match text.parse::<u64>() {
            Ok(side) if (1..=MAX_SIDE).contains(&side) => Ok(side),
            _ => bail!("Y4M header: side `{field}` is not 1 to {MAX_SIDE}"),
        };
        if let Some(text) = field.strip_prefix('W') {
            width = side(text)?;
        } else if let Some(text) = field.strip_prefix('H') {
            height = side(text)?;
        } else if let Some(text) = field.strip_prefix('C') {
            space = text;
        } else if let Some(text) = field.strip_prefix("XCOLORRANGE=") {
            range = match text {
                "FULL" => Range::Full,
                "LIMITED" => Range::Limited,
                _ => bail!("Y4M header: colour range `{text}` is neither FULL nor LIMITED"),
            };
        } else if let Some(text) = field.strip_prefix('A') {
            let Some((w, h)) = text.split_once(':').and_then(|(w, h)| Some((w.parse().ok()?, h.parse().ok()?))) else {
                bail!("Y4M header: pixel aspect ratio `{text}` is not WIDTH:HEIGHT");
            };
            // 0:0 stands for an unknown one.
            pixel_aspect = if w == 0 || h == 0 { (1, 1) } else { (w, h) };
        } else if let Some(text) = field.strip_prefix('I') {
            scan = match text {
                "t" | "b" => Scan::Interlaced,
                "m" => Scan::Mixed,
                _ => Scan::Progressive,
            };
        }
    }
    if width == 0 || height == 0 {
        bail!("Y4M header: width or height is missing");
    }
    let (format, siting) = match space {
        // Without a word on siting, 8 bits are as JPEG has them (FFmpeg, mjpegtools).
        "420" | "420jpeg" => (PixelFormat::I420, ChromaSite::JPEG),
        "420mpeg2" => (PixelFormat::I420, ChromaSite::MPEG2),
        "420paldv" => (PixelFormat::I420, ChromaSite::COSITED),
        "420p10" => (PixelFormat::I42010le, ChromaSite::MPEG2),
        "420p12" => (PixelFormat::I42012le, ChromaSite::MPEG2),
        "422" => (PixelFormat::Y42b, ChromaSite::MPEG2),
        "422p10" => (PixelFormat::I42210le, ChromaSite::MPEG2),
        "422p12" => (PixelFormat::I42212le, ChromaSite::MPEG2),
        "444" => (PixelFormat::Y444, ChromaSite::COSITED),
        "444p10" => (PixelFormat::Y44410le, ChromaSite::COSITED),
        "444p12" => (PixelFormat::Y44412le, ChromaSite::COSITED),
        "mono" => (PixelFormat::Gray8, ChromaSite::COSITED),
        _ => bail!("Y4M colourspace `{space}` is not supported"),
    };
    // The format has no word for it; this is what GStreamer takes.
    let matrix = if height < 720 { Matrix::Bt601 } else { Matrix::Bt709 };
    Ok(Header { format, colour: Colour::new(matrix, range, siting), scan, pixel_aspect })
}

/// Whether a frame's parameters, `Ixyz`, say that its rows were taken at two times.
fn is_interlaced(params: &[u8]) -> bool {
    params.split(|&b| b == b' ').any(|field| field.first() == Some(&b'I') && field.get(2) == Some(&b'i'))
}
