//! Scores of a picture in several formats that hold the same chroma, at the default scales: what the way in which a picture is
//! stored does to its score. `cargo run --release --example formats PICTURE...`; the last line has the largest differences.

use qmambaiqa::crops::{CropPlan, Sampling};
use qmambaiqa::frame::{ChromaSite, Colour, Frame, Matrix, PixelFormat, Plane, Range};
use qmambaiqa::train::dataset::read_image;
use qmambaiqa::{Options, Scorer};
use std::path::Path;

/// A 4:2:0 picture in 8 bits, limited range.
struct Yuv {
    width: usize,
    height: usize,
    planes: [Vec<u8>; 3],
}

const FORMATS: [&str; 6] = ["I420", "NV12", "P010", "I420 full", "P010 full", "RGB"];

fn main() -> qmambaiqa::Result<()> {
    let prompts = ["none", "compression"];
    let scorers = prompts.map(|prompt| Scorer::open(&Options { style_prompt: prompt.into(), ..Options::default() }));
    let plan = CropPlan::new(4, Sampling::Grid, 0)?;
    println!("{:32}  {:11}  {}", "picture", "prompt", FORMATS.map(|name| format!("{name:>9}")).join("  "));
    let mut largest = [[0f64; FORMATS.len()]; 2];
    for path in std::env::args().skip(1) {
        let picture = Yuv::new(&path)?;
        for (i, scorer) in scorers.iter().enumerate() {
            let scorer = scorer.as_ref().map_err(|e| qmambaiqa::Error::Input(e.to_string()))?;
            let mut scores = [0f64; FORMATS.len()];
            for (format, score) in scores.iter_mut().enumerate() {
                *score = picture.with(format, |frame| Ok(scorer.score(frame, &plan, 0)?.score))?;
            }
            for (largest, score) in largest[i].iter_mut().zip(scores) {
                *largest = largest.max((score - scores[0]).abs());
            }
            let name = Path::new(&path).file_stem().unwrap_or_default().to_string_lossy();
            let name: String = name.chars().take(32).collect();
            println!("{name:32}  {:11}  {}", prompts[i], scores.map(|score| format!("{score:>9.3}")).join("  "));
        }
    }
    for (prompt, largest) in prompts.iter().zip(largest) {
        println!(
            "{:32}  {prompt:11}  {}",
            "largest difference from I420",
            largest.map(|d| format!("{d:>9.3}")).join("  ")
        );
    }
    Ok(())
}

impl Yuv {
    /// BT.709 with the chroma of four pixels averaged.
    fn new(path: &str) -> qmambaiqa::Result<Self> {
        let rgb = read_image(Path::new(path))?;
        let (width, height) = (rgb.width() as usize / 2 * 2, rgb.height() as usize / 2 * 2);
        let at = |x: usize, y: usize| {
            let [r, g, b] = rgb.get_pixel(x as u32, y as u32).0.map(|v| f64::from(v) / 255.0);
            let luma = 0.2126 * r + 0.7152 * g + 0.0722 * b;
            [16.0 + 219.0 * luma, 128.0 + 224.0 * (b - luma) / 1.8556, 128.0 + 224.0 * (r - luma) / 1.5748]
        };
        let luma = (0..width * height).map(|i| at(i % width, i / width)[0].round() as u8).collect();
        let chroma = |component: usize| {
            let four = |x: usize, y: usize| at(x, y)[component] + at(x + 1, y)[component];
            let block = |i: usize| (i % (width / 2) * 2, i / (width / 2) * 2);
            let mean = |(x, y): (usize, usize)| ((four(x, y) + four(x, y + 1)) / 4.0).round() as u8;
            (0..width * height / 4).map(|i| mean(block(i))).collect()
        };
        Ok(Self { width, height, planes: [luma, chroma(1), chroma(2)] })
    }

    /// Calls `score` with the picture in one of [`FORMATS`].
    fn with(&self, format: usize, score: impl FnOnce(&Frame) -> qmambaiqa::Result<f64>) -> qmambaiqa::Result<f64> {
        let (width, height, chroma) = (self.width, self.height, self.width / 2);
        let full = format == 3 || format == 4;
        let colour = Colour::new(Matrix::Bt709, if full { Range::Full } else { Range::Limited }, ChromaSite::JPEG);
        // 0 to 1, chroma around 128 / 255 in full range; `depth` bits.
        let stored = |component: usize, value: u8, depth: u32| {
            let (value, top) = (f64::from(value), f64::from((1u32 << depth) - 1));
            match (full, component) {
                (false, _) => u16::from(value as u8) << (depth - 8),
                (true, 0) => ((value - 16.0) / 219.0 * top).round().clamp(0.0, top) as u16,
                (true, _) => {
                    ((value - 128.0) / 224.0 * top + f64::from(1u32 << (depth - 1))).round().clamp(0.0, top) as u16
                }
            }
        };
        let interleaved = |depth: u32| -> Vec<u16> {
            let pairs = self.planes[1].iter().zip(&self.planes[2]);
            pairs.flat_map(|(&u, &v)| [stored(1, u, depth), stored(2, v, depth)]).collect()
        };
        let luma = |depth: u32| self.planes[0].iter().map(|&y| stored(0, y, depth)).collect::<Vec<u16>>();
        let bytes = |values: Vec<u16>| values.into_iter().map(|v| v as u8).collect::<Vec<u8>>();
        let words = |values: Vec<u16>| values.into_iter().flat_map(|v| (v << 6).to_le_bytes()).collect::<Vec<u8>>();
        match format {
            1 => {
                let (luma, chroma) = (bytes(luma(8)), bytes(interleaved(8)));
                let planes = [Plane::new(&luma, width), Plane::new(&chroma, width)];
                score(&Frame::new(PixelFormat::Nv12, width, height, &planes, colour)?)
            }
            2 | 4 => {
                let (luma, chroma) = (words(luma(10)), words(interleaved(10)));
                let planes = [Plane::new(&luma, 2 * width), Plane::new(&chroma, 2 * width)];
                score(&Frame::new(PixelFormat::P01010le, width, height, &planes, colour)?)
            }
            _ => {
                let plane = |i: usize| bytes(self.planes[i].iter().map(|&v| stored(i, v, 8)).collect());
                let planes = [plane(0), plane(1), plane(2)];
                let planes =
                    [Plane::new(&planes[0], width), Plane::new(&planes[1], chroma), Plane::new(&planes[2], chroma)];
                let frame = Frame::new(PixelFormat::I420, width, height, &planes, colour)?;
                if format != 5 {
                    return score(&frame);
                }
                let rgb: Vec<u8> = frame.to_rgb()?.iter().map(|v| (255.0 * v).round() as u8).collect();
                score(&Frame::new(PixelFormat::Rgb, width, height, &[Plane::new(&rgb, 3 * width)], Colour::SRGB)?)
            }
        }
    }
}
