//! Samples to RGB, row by row: unpack to `f32`, interpolate chroma, apply the matrix.
//!
//! Samples have at most 16 bits and the interpolation weights are eighths and quarters, so interpolation is exact in `f32`.
//! There are no fused multiply-adds, so every CPU computes the same.

use super::format::Family;
use super::{Frame, Position, Range, Region};
use crate::simd::dispatch;

/// Converts `part` (in coordinates of the planes) to `out` (height, width, 3).
pub(super) fn rectangle(frame: &Frame, part: Region, out: &mut [f32]) {
    let finish = Finish::of(frame);
    let components = if frame.layout.family == Family::Gray { 1 } else { 3 };
    let mut rows: [Row; 3] = std::array::from_fn(|index| Row::new(frame, index, part));
    dispatch(
        #[inline(always)]
        || {
            for (y, out) in out.chunks_exact_mut(part.width * 3).enumerate() {
                for row in &mut rows[..components] {
                    row.load(frame, part.y + y);
                }
                let [a, b, c] = [rows[0].values(), rows[components / 2].values(), rows[components - 1].values()];
                finish.row(a, b, c, out);
            }
        },
    );
}

/// Luma of whole rows, `part` (in coordinates of the planes), to `out` (height, width).
pub(super) fn luma(frame: &Frame, part: Region, out: &mut [f32]) {
    let has_luma = frame.layout.family != Family::Rgb && frame.colour.matrix.weights().is_some();
    if has_luma || frame.layout.family == Family::Gray {
        let (black, span, _) = levels(frame);
        for (y, out) in out.chunks_exact_mut(part.width).enumerate() {
            unpack(frame, 0, part.y + y, part.x, out, to_f32);
            out.iter_mut().for_each(|v| *v = ((*v - black) / span).clamp(0.0, 1.0));
        }
        return;
    }
    let mut rgb = vec![0.0; out.len() * 3];
    rectangle(frame, part, &mut rgb);
    let (rgb, _) = rgb.as_chunks::<3>();
    for (out, &[r, g, b]) in out.iter_mut().zip(rgb) {
        *out = 0.2126 * r + 0.7152 * g + 0.0722 * b;
    }
}

/// The least step of luma, 0 to 1.
pub(super) fn luma_step(frame: &Frame) -> f64 {
    1.0 / f64::from(levels(frame).1)
}

/// Black, and the spans of luma and of chroma, in the samples' units.
fn levels(frame: &Frame) -> (f32, f32, f64) {
    let unit = f64::from(1u32 << (frame.layout.sample.depth - 8));
    let (black, span, chroma_span) = match frame.colour.range {
        Range::Limited => (16.0 * unit, 219.0 * unit, 224.0 * unit),
        Range::Full => (0.0, 256.0 * unit - 1.0, 256.0 * unit - 1.0),
    };
    (black as f32, span as f32, chroma_span)
}

/// Weights of the chroma columns (previous, this) for even pixels, of (this, next) for odd ones.
pub(super) fn column_weights(frame: &Frame) -> [f32; 4] {
    match frame.colour.siting.horizontal {
        Position::Cosited => [0.0, 1.0, 0.5, 0.5],
        Position::Centred => [0.25, 0.75, 0.75, 0.25],
    }
}

/// The samples of a component that a range of pixels in a row is made of. With horizontal subsampling there is one beyond each
/// end, edges repeated.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span {
    pub component: usize,
    /// Whether two pixels share a sample.
    pub subsampled: bool,
    /// Samples, those beyond the ends included.
    pub count: usize,
    /// Of the pixels that the samples give, the first that belongs to the range.
    pub start: usize,
    /// First column of the plane that belongs to the range.
    first: usize,
    /// Columns of the plane.
    columns: usize,
}

impl Span {
    /// Of `width` pixels from `x` on.
    pub fn new(frame: &Frame, component: usize, x: usize, width: usize) -> Self {
        let subsampled = component > 0 && frame.layout.subsampling.0 == 1;
        let (columns, _) = frame.layout.samples(component, frame.coded.0, frame.coded.1);
        if !subsampled {
            return Self { component, subsampled, count: width, start: 0, first: x, columns };
        }
        let pairs = (x + width - 1) / 2 - x / 2 + 1;
        Self { component, subsampled, count: pairs + 2, start: x % 2, first: x / 2, columns }
    }

    /// Takes each sample of a row of the plane into its place in `out`; places beyond the plane's edges are left alone.
    #[inline(always)]
    pub fn read<T>(&self, frame: &Frame, y: usize, out: &mut [T], take: impl Fn(&mut T, u16)) {
        let (first, there) = self.there();
        unpack(frame, self.component, y, first, &mut out[there], take);
    }

    /// Repeats the outermost samples in the places beyond the plane's edges.
    #[inline(always)]
    pub fn repeat_edges<T: Copy>(&self, out: &mut [T]) {
        let (_, there) = self.there();
        let last = out.len() - 1;
        if there.start == 1 {
            out[0] = out[1];
        }
        if there.end == last {
            out[last] = out[last - 1];
        }
    }

    /// The first column of the plane that is read, and the places that have one.
    #[inline(always)]
    fn there(&self) -> (usize, std::ops::Range<usize>) {
        if !self.subsampled {
            return (self.first, 0..self.count);
        }
        // Place i is column first - 1 + i.
        let missing_before = usize::from(self.first == 0);
        let last = self.count - 1;
        let missing_after = usize::from(self.first + last > self.columns);
        (self.first + missing_before - 1, missing_before..last + 1 - missing_after)
    }
}

/// One component of one row, at full resolution.
struct Row {
    span: Span,
    samples: Vec<f32>,
    /// The second of two rows between which chroma lies.
    below: Vec<f32>,
    /// Horizontally interpolated; unused without subsampling.
    wide: Vec<f32>,
    width: usize,
    /// See [`column_weights`].
    weights: [f32; 4],
}

impl Row {
    fn new(frame: &Frame, component: usize, part: Region) -> Self {
        let span = Span::new(frame, component, part.x, part.width);
        Self {
            span,
            samples: vec![0.0; span.count],
            below: vec![0.0; span.count],
            wide: if span.subsampled { vec![0.0; 2 * (span.count - 2)] } else { Vec::new() },
            width: part.width,
            weights: column_weights(frame),
        }
    }

    fn values(&self) -> &[f32] {
        let from = if self.span.subsampled { &self.wide } else { &self.samples };
        &from[self.span.start..self.span.start + self.width]
    }

    /// Reads and interpolates the values for picture row `y`.
    #[inline(always)]
    fn load(&mut self, frame: &Frame, y: usize) {
        let span = self.span;
        if span.component == 0 {
            span.read(frame, y, &mut self.samples, to_f32);
            return;
        }
        let (above, below, weight) = chroma_rows(frame, y);
        span.read(frame, above, &mut self.samples, to_f32);
        if weight != 0.0 {
            span.read(frame, below, &mut self.below, to_f32);
            for (a, &b) in self.samples.iter_mut().zip(&self.below) {
                *a += (b - *a) * weight;
            }
        }
        if span.subsampled {
            span.repeat_edges(&mut self.samples);
            let [even_before, even_this, odd_this, odd_after] = self.weights;
            let (pairs, _) = self.wide.as_chunks_mut::<2>();
            let (before, this, after) = (&self.samples[..], &self.samples[1..], &self.samples[2..]);
            for (((pair, &before), &this), &after) in pairs.iter_mut().zip(before).zip(this).zip(after) {
                *pair = [before * even_before + this * even_this, this * odd_this + after * odd_after];
            }
        }
    }
}

#[inline(always)]
fn to_f32(place: &mut f32, sample: u16) {
    *place = f32::from(sample);
}

/// The two chroma rows between which picture row `y` lies, and the weight of the second.
///
/// Chroma row `j` of a progressive frame lies at picture row `2j`, or `2j + 1/2` where centred. In an interlaced frame rows
/// `j = 2i + f` are those of field `f`, and only they are used for its rows. Centred, they lie where they would in a
/// progressive frame (ITU-T H.262, figure 6-3), which is 1/4 down from the top field's row `2i` and 3/4 down from the bottom
/// field's; cosited, they lie on row `2i` of their field.
#[inline(always)]
pub(super) fn chroma_rows(frame: &Frame, y: usize) -> (usize, usize, f32) {
    if frame.layout.subsampling.1 == 0 {
        return (y, y, 0.0);
    }
    let (_, rows) = frame.layout.samples(1, frame.coded.0, frame.coded.1);
    let centred = frame.colour.siting.vertical == Position::Centred;
    // A single chroma row is both fields'.
    let fields = frame.interlaced && rows > 1;
    let (step, field) = if fields { (2, y % 2) } else { (1, 0) };
    // Eighths of a chroma row by which chroma lies lower than luma.
    let lower = match (centred, fields, field) {
        (false, ..) => 0,
        (true, false, _) => 2,
        (true, true, 0) => 1,
        (true, true, _) => 3,
    };
    // In eighths of a chroma row (of the field), and one row more, so that nothing is negative.
    let position = 4 * (y / step) + 8 - lower;
    let last = (rows - 1 - field) / step;
    let row = |shifted: usize| shifted.saturating_sub(1).min(last) * step + field;
    (row(position / 8), row(position / 8 + 1), (position % 8) as f32 / 8.0)
}

/// Takes samples of a component from column `first` on, one for each place in `out`.
#[inline(always)]
fn unpack<T>(frame: &Frame, component: usize, row: usize, first: usize, out: &mut [T], take: impl Fn(&mut T, u16)) {
    let from = frame.layout.components[component];
    let plane = frame.planes[from.plane];
    let sample = frame.layout.sample;
    let start = row * plane.stride + from.offset + first * from.step;
    // The last sample's step may reach beyond the row, even beyond the plane.
    let bytes = &plane.data[start..start + (out.len() - 1) * from.step + sample.bytes];
    match (sample.bytes, from.step) {
        (1, 1) => unpack_8::<1, T>(bytes, out, take),
        (1, 2) => unpack_8::<2, T>(bytes, out, take),
        (1, 3) => unpack_8::<3, T>(bytes, out, take),
        (1, _) => unpack_8::<4, T>(bytes, out, take),
        (_, 2) => unpack_16::<2, T>(bytes, sample.shift, out, take),
        (_, 4) => unpack_16::<4, T>(bytes, sample.shift, out, take),
        _ => unpack_16::<8, T>(bytes, sample.shift, out, take),
    }
}

#[inline(always)]
fn unpack_8<const STEP: usize, T>(bytes: &[u8], out: &mut [T], take: impl Fn(&mut T, u16)) {
    let (whole, rest) = bytes.as_chunks::<STEP>();
    for (out, sample) in out.iter_mut().zip(whole) {
        take(out, sample[0].into());
    }
    if let (Some(out), &[sample, ..]) = (out.last_mut(), rest) {
        take(out, sample.into());
    }
}

#[inline(always)]
fn unpack_16<const STEP: usize, T>(bytes: &[u8], shift: u32, out: &mut [T], take: impl Fn(&mut T, u16)) {
    let (whole, rest) = bytes.as_chunks::<STEP>();
    for (out, sample) in out.iter_mut().zip(whole) {
        take(out, u16::from_le_bytes([sample[0], sample[1]]) >> shift);
    }
    if let (Some(out), &[low, high, ..]) = (out.last_mut(), rest) {
        take(out, u16::from_le_bytes([low, high]) >> shift);
    }
}

/// What makes RGB of three components at full resolution.
pub(super) enum Finish {
    /// `(value - black) / span` of the components in this order.
    Direct { black: f32, span: f32, order: [usize; 3] },
    /// `y = (Y - black) / span`, `R = y + rv V`, `G = y + gu U + gv V`, `B = y + bu U`, with U and V less `neutral`.
    Matrix { black: f32, span: f32, neutral: f32, rv: f32, gu: f32, gv: f32, bu: f32 },
}

impl Finish {
    pub(super) fn of(frame: &Frame) -> Self {
        let (black, span, chroma_span) = levels(frame);
        let neutral = (128u32 << (frame.layout.sample.depth - 8)) as f32;
        let weights = frame.colour.matrix.weights();
        match (frame.layout.family, weights) {
            (Family::Yuv, Some((kr, kb))) => {
                let kg = 1.0 - kr - kb;
                let (rv, bu) = (2.0 * (1.0 - kr), 2.0 * (1.0 - kb));
                Self::Matrix {
                    black,
                    span,
                    neutral,
                    rv: (rv / chroma_span) as f32,
                    gu: (-kb / kg * bu / chroma_span) as f32,
                    gv: (-kr / kg * rv / chroma_span) as f32,
                    bu: (bu / chroma_span) as f32,
                }
            }
            (Family::Yuv, None) => Self::Direct { black, span, order: [2, 0, 1] },
            (Family::Rgb | Family::Gray, _) => Self::Direct { black, span, order: [0, 1, 2] },
        }
    }

    #[inline(always)]
    pub(super) fn row(&self, a: &[f32], b: &[f32], c: &[f32], out: &mut [f32]) {
        let (out, _) = out.as_chunks_mut::<3>();
        match *self {
            Self::Direct { black, span, order } => {
                let rows = [a, b, c];
                let (r, g, b) = (rows[order[0]], rows[order[1]], rows[order[2]]);
                for (((out, &r), &g), &b) in out.iter_mut().zip(r).zip(g).zip(b) {
                    *out = [r, g, b].map(
                        #[inline(always)]
                        |v| ((v - black) / span).clamp(0.0, 1.0),
                    );
                }
            }
            Self::Matrix { black, span, neutral, rv, gu, gv, bu } => {
                for (((out, &y), &u), &v) in out.iter_mut().zip(a).zip(b).zip(c) {
                    let (y, u, v) = ((y - black) / span, u - neutral, v - neutral);
                    let rgb = [y + rv * v, y + gu * u + gv * v, y + bu * u];
                    *out = rgb.map(
                        #[inline(always)]
                        |v| v.clamp(0.0, 1.0),
                    );
                }
            }
        }
    }
}
