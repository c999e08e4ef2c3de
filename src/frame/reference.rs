//! A slow statement of the conversion, pixel by pixel in f64, that shares no code with the fast one: formats are packed sample
//! by sample from the letters that GStreamer's documentation gives for them.

use super::{Colour, Frame, Matrix, PixelFormat, Plane, Position, Range};

/// A picture by components: R, G, B or Y, U, V or Y alone.
pub(crate) struct Picture {
    pub(crate) format: PixelFormat,
    pub(crate) width: usize,
    pub(crate) height: usize,
    /// (columns, rows, samples)
    components: Vec<(usize, usize, Vec<u16>)>,
    depth: u32,
    /// log2, of chroma
    sub: (u32, u32),
    /// One string a plane: letters of the samples in one group; '.' is a sample of alpha or padding.
    planes: Vec<&'static str>,
    /// Bytes and left shift of a stored sample.
    bytes: usize,
    shift: u32,
}

/// Depth, bytes, shift, subsampling, planes of a format by its name.
fn description(name: &str) -> (u32, usize, u32, (u32, u32), Vec<&'static str>) {
    let (depth, bytes, shift) = match name {
        "P010_10LE" | "Y210" => (10, 2, 6),
        "P012_LE" => (12, 2, 4),
        "P016_LE" | "GRAY16_LE" => (16, 2, 0),
        _ if name.ends_with("_10LE") => (10, 2, 0),
        _ if name.ends_with("_12LE") => (12, 2, 0),
        _ => (8, 1, 0),
    };
    let planes = match name.trim_end_matches("_10LE").trim_end_matches("_12LE") {
        "I420" | "Y42B" | "I422" | "Y444" => vec!["Y", "U", "V"],
        "A420" => vec!["Y", "U", "V", "."],
        "YV12" => vec!["Y", "V", "U"],
        "NV12" | "NV16" | "NV24" | "P010" | "P012_LE" | "P016_LE" => vec!["Y", "UV"],
        "NV21" | "NV61" => vec!["Y", "VU"],
        "YUY2" | "Y210" => vec!["YUYV"],
        "UYVY" => vec!["UYVY"],
        "YVYU" => vec!["YVYU"],
        "VYUY" => vec!["VYUY"],
        "AYUV" => vec![".YUV"],
        "VUYA" => vec!["VUY."],
        "GRAY8" | "GRAY16_LE" => vec!["Y"],
        "RGB" => vec!["RGB"],
        "BGR" => vec!["BGR"],
        "RGBA" | "RGBx" => vec!["RGB."],
        "BGRA" | "BGRx" => vec!["BGR."],
        "ARGB" | "xRGB" => vec![".RGB"],
        "ABGR" | "xBGR" => vec![".BGR"],
        "GBR" => vec!["G", "B", "R"],
        "GBRA" => vec!["G", "B", "R", "."],
        other => panic!("no description of {other}"),
    };
    let sub = match name {
        "I420" | "A420" | "YV12" | "NV12" | "NV21" | "I420_10LE" | "I420_12LE" | "P010_10LE" | "P012_LE"
        | "P016_LE" => (1, 1),
        "NV16" | "NV61" | "Y42B" | "YUY2" | "UYVY" | "YVYU" | "VYUY" | "I422_10LE" | "I422_12LE" | "Y210" => (1, 0),
        _ => (0, 0),
    };
    (depth, bytes, shift, sub, planes)
}

impl Picture {
    /// Samples from `value`, called with component, column, row; taken modulo the depth.
    pub(crate) fn new(
        format: PixelFormat,
        width: usize,
        height: usize,
        mut value: impl FnMut(usize, usize, usize) -> u32,
    ) -> Self {
        let (depth, bytes, shift, sub, planes) = description(format.name());
        let count = if format.name().starts_with("GRAY") { 1 } else { 3 };
        let components = (0..count)
            .map(|c| {
                let (h, v) = if c == 0 { (0, 0) } else { sub };
                let (columns, rows) = ((width + h as usize) >> h, (height + v as usize) >> v);
                let at = |i: usize| (value(c, i % columns, i / columns) & ((1 << depth) - 1)) as u16;
                (columns, rows, (0..columns * rows).map(at).collect())
            })
            .collect();
        Self { format, width, height, components, depth, sub, planes, bytes, shift }
    }

    fn component(letter: char) -> usize {
        match letter {
            'Y' | 'R' => 0,
            'U' | 'G' => 1,
            _ => 2,
        }
    }

    /// Planes with `padding` bytes of `poison` after each row but the last; alpha and every unused sample is poison too.
    pub(crate) fn pack(&self, padding: usize, poison: u8) -> Vec<(Vec<u8>, usize)> {
        let group = |letters: &str| {
            // Two lumas in a group: a pair of pixels. Else one sample of each letter.
            let luma = letters.chars().filter(|&l| l == 'Y').count().max(1);
            let chroma_alone = letters.chars().all(|l| l == 'U' || l == 'V');
            let (h, v) = if chroma_alone { self.sub } else { (u32::from(luma == 2), 0) };
            (luma, (self.width + h as usize) >> h, (self.height + v as usize) >> v)
        };
        let plane = |letters: &&str| {
            let (luma, groups, rows) = group(letters);
            let row = groups * letters.len() * self.bytes;
            let stride = row + padding;
            let mut data = vec![poison; stride * (rows - 1) + row];
            for y in 0..rows {
                for g in 0..groups {
                    let mut lumas = 0;
                    for (i, letter) in letters.chars().enumerate() {
                        let c = Self::component(letter);
                        let x = if letter == 'Y' { g * luma + lumas } else { g };
                        lumas += usize::from(letter == 'Y');
                        if letter == '.' || x >= self.components[c].0 {
                            continue;
                        }
                        let value = self.components[c].2[y * self.components[c].0 + x] << self.shift;
                        let at = y * stride + (g * letters.len() + i) * self.bytes;
                        data[at..at + self.bytes].copy_from_slice(&value.to_le_bytes()[..self.bytes]);
                    }
                }
            }
            (data, stride)
        };
        self.planes.iter().map(plane).collect()
    }

    /// Component `c` at picture position (x, y), interpolated: the distance-weighted mean of the samples around.
    fn sample(&self, c: usize, x: usize, y: usize, colour: Colour, interlaced: bool) -> f64 {
        let (columns, rows, samples) = &self.components[c];
        let (h, v) = if c == 0 { (0, 0) } else { self.sub };
        let offset = |position| if position == Position::Centred { 0.5 } else { 0.0 };
        // (picture position, sample index) of all samples along x, and of those of this row's field along y.
        let column = |j: usize| (if h == 1 { 2.0 * j as f64 + offset(colour.siting.horizontal) } else { j as f64 }, j);
        let along_x: Vec<(f64, usize)> = (0..*columns).map(column).collect();
        let along_y: Vec<(f64, usize)> = if v == 0 {
            (0..*rows).map(|j| (j as f64, j)).collect()
        } else if !interlaced || *rows == 1 {
            (0..*rows).map(|j| (2.0 * j as f64 + offset(colour.siting.vertical), j)).collect()
        } else if colour.siting.vertical == Position::Centred {
            (0..*rows).filter(|j| j % 2 == y % 2).map(|j| (2.0 * j as f64 + 0.5, j)).collect()
        } else {
            // On every second row of the field.
            let field = |j: usize| ((y % 2 + 4 * (j / 2)) as f64, j);
            (0..*rows).filter(|j| j % 2 == y % 2).map(field).collect()
        };
        let mut sum = 0.0;
        for (weight_y, row) in neighbours(&along_y, y as f64) {
            for (weight_x, column) in neighbours(&along_x, x as f64) {
                sum += weight_y * weight_x * f64::from(samples[row * columns + column]);
            }
        }
        sum
    }

    /// R, G, B of the pixel, 0 to 1.
    pub(crate) fn rgb(&self, x: usize, y: usize, colour: Colour, interlaced: bool) -> [f64; 3] {
        self.convert(colour, |c| self.sample(c, x, y, colour, interlaced))
    }

    /// R, G, B of the mean over `side` x `side` pixels from (x, y) on.
    pub(crate) fn mean_rgb(&self, side: usize, x: usize, y: usize, colour: Colour, interlaced: bool) -> [f64; 3] {
        let block = || (y..y + side).flat_map(|y| (x..x + side).map(move |x| (x, y)));
        let sum = |c| block().map(|(x, y)| self.sample(c, x, y, colour, interlaced)).sum::<f64>();
        self.convert(colour, |c| sum(c) / (side * side) as f64)
    }

    /// R, G, B of samples.
    fn convert(&self, colour: Colour, sample: impl Fn(usize) -> f64) -> [f64; 3] {
        let top = (1u32 << self.depth) as f64;
        let scaled = |v: f64, chroma: bool| match (colour.range, chroma) {
            (Range::Limited, false) => (v / top * 256.0 - 16.0) / (235.0 - 16.0),
            (Range::Limited, true) => (v / top * 256.0 - 128.0) / (240.0 - 16.0),
            (Range::Full, false) => v / (top - 1.0),
            (Range::Full, true) => (v - top / 2.0) / (top - 1.0),
        };
        let name = self.format.name();
        let sample = |c, chroma| scaled(sample(c), chroma);
        let rgb = if self.components.len() == 1 {
            [sample(0, false); 3]
        } else if self.planes.concat().contains('R') {
            [sample(0, false), sample(1, false), sample(2, false)]
        } else if colour.matrix == Matrix::Rgb {
            [sample(2, false), sample(0, false), sample(1, false)]
        } else {
            let (kr, kb) = match colour.matrix {
                Matrix::Bt601 => (0.299, 0.114),
                Matrix::Bt709 => (0.2126, 0.0722),
                Matrix::Bt2020 => (0.2627, 0.0593),
                Matrix::Smpte240m => (0.212, 0.087),
                Matrix::Fcc => (0.3, 0.11),
                Matrix::Rgb => panic!("{name} has a matrix"),
            };
            let (luma, pb, pr) = (sample(0, false), sample(1, true), sample(2, true));
            // From Pb = (B - Y) / (2 (1 - Kb)), Pr = (R - Y) / (2 (1 - Kr)), and Y for G.
            let (r, b) = (luma + 2.0 * (1.0 - kr) * pr, luma + 2.0 * (1.0 - kb) * pb);
            [r, (luma - kr * r - kb * b) / (1.0 - kr - kb), b]
        };
        rgb.map(|v| v.clamp(0.0, 1.0))
    }
}

/// Weights and indices of the samples on either side of `at`.
fn neighbours(samples: &[(f64, usize)], at: f64) -> Vec<(f64, usize)> {
    let before = samples.iter().rev().find(|s| s.0 <= at);
    let after = samples.iter().find(|s| s.0 >= at);
    match (before, after) {
        (Some(a), Some(b)) if b.0 > a.0 => {
            let weight = (at - a.0) / (b.0 - a.0);
            vec![(1.0 - weight, a.1), (weight, b.1)]
        }
        (Some(a), _) => vec![(1.0, a.1)],
        (None, Some(b)) => vec![(1.0, b.1)],
        (None, None) => panic!("no samples"),
    }
}

/// The frame over packed planes.
pub(crate) fn frame<'a>(picture: &Picture, planes: &'a [(Vec<u8>, usize)], colour: Colour) -> Frame<'a> {
    let planes: Vec<Plane> = planes.iter().map(|(data, stride)| Plane::new(data, *stride)).collect();
    Frame::new(picture.format, picture.width, picture.height, &planes, colour).expect("a valid frame")
}
